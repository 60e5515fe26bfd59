/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensor-core model on rows of E4M3 codes.
 */
#include "octavo_fp8.h"

#include "fp8/tensor_core.h"

static void decode(struct octavo_operand *to, const uint8_t *code, size_t count)
{
	memset(to->value, 0, sizeof to->value);
	for (size_t i = 0; i < OCTAVO_MMA; i++) {
		if (i < count)
			to->value[i] = octavo_e4m3_decode(code[i]);
		to->exponent[i] = octavo_binade(to->value[i], 1 - OCTAVO_E4M3_BIAS);
	}
}

float octavo_tensor_core_step(unsigned fraction, float c, const uint8_t *a, const uint8_t *b, size_t count)
{
	struct octavo_operand left, right;
	decode(&left, a, count);
	decode(&right, b, count);
	return octavo_tensor_core_add(fraction, c, &left, &right);
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

enum octavo_status octavo_tensor_core_dot(const struct octavo_tensor_core *core, const uint8_t *a, const uint8_t *b,
                                          size_t count, float *y)
{
	if (!core || !a || !b || !y || core->group < 1 || core->group > OCTAVO_MMA || core->fraction < 1 ||
	    core->fraction > 23 || core->promotion % core->group)
		return OCTAVO_EINVAL;
	size_t promotion = core->promotion ? core->promotion : count;
	float sum = 0.0f;
	for (size_t from = 0, to; from < count; from = to) {
		float c = 0.0f;
		to = from + smaller(promotion, count - from);
		for (size_t k = from; k < to; k += core->group)
			c = octavo_tensor_core_step(core->fraction, c, a + k, b + k, smaller(core->group, to - k));
		sum = sum + c;
	}
	*y = sum;
	return OCTAVO_OK;
}
