/* SPDX-License-Identifier: Apache-2.0 */
#include "octavo_verify.h"

#include "fp8/philox.h"

double octavo_draw(const struct octavo_stream *s, uint32_t position, enum octavo_purpose purpose, uint32_t index)
{
	struct octavo_philox counter = { { position, (uint32_t)s->stream, (uint32_t)(s->stream >> 32),
		                           (uint32_t)purpose << 24 | (index & 0xffffff) } };
	struct octavo_philox bits = octavo_philox(counter, s->seed);
	uint64_t wide = (uint64_t)bits.word[1] << 32 | bits.word[0];
	return (double)(wide >> 11) * 0x1p-53;
}

int32_t octavo_pick(void *stream, uint32_t position, enum octavo_purpose purpose, uint32_t index, const double *law,
                    size_t n)
{
	int32_t first;
	double time;
	if (purpose == OCTAVO_DRAW_TARGET)
		return octavo_race(stream, position, law, n, 1, &first, &time) ? first : -1;
	return octavo_quantile(law, n, octavo_draw(stream, position, purpose, index));
}
