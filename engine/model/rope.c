/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotary position embedding (Su et al., arXiv 2104.09864) with YaRN (Peng et al., arXiv 2309.00071) as
 * DeepSeek-V3's checkpoints configure it, or with the stretching of Llama 3.1.  Tables are computed once in double and rounded.
 */
#include "engine/internal.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* The dimension whose wavelength makes `rotations` turns within the original context. */
static double yarn_dimension(const struct octavo_config *c, double rotations)
{
	return (double)c->rope * log((double)c->yarn_original / (rotations * 2.0 * pi)) / (2.0 * log(c->rope_theta));
}

static double yarn_magnitude(double factor, double scale)
{
	return factor <= 1.0 ? 1.0 : 0.1 * scale * log(factor) + 1.0;
}

/* Long wavelengths are stretched by the factor, short ones stay, between them a blend. */
static double llama3_frequency(const struct octavo_config *c, double f)
{
	double turns = (double)c->llama3_original * f / (2.0 * pi); /* within the original context */
	if (turns > c->llama3_high)
		return f;
	if (turns < c->llama3_low)
		return f / c->llama3_factor;
	double keep = (turns - c->llama3_low) / (c->llama3_high - c->llama3_low);
	return (1.0 - keep) * f / c->llama3_factor + keep * f;
}

/* Angular frequency of pair i. */
static double frequency(const struct octavo_config *c, size_t i)
{
	double f = pow(c->rope_theta, -2.0 * (double)i / (double)c->rope);
	if (c->llama3)
		return llama3_frequency(c, f);
	if (!c->yarn)
		return f;
	double low = fmax(floor(yarn_dimension(c, c->yarn_beta_fast)), 0.0);
	double high = fmin(ceil(yarn_dimension(c, c->yarn_beta_slow)), (double)c->rope - 1.0);
	if (low == high)
		high += 0.001;
	double ramp = fmin(fmax(((double)i - low) / (high - low), 0.0), 1.0);
	return f / c->yarn_factor * ramp + f * (1.0 - ramp);
}

void octavo_rope_tables(float *table, size_t positions, const struct octavo_config *c)
{
	double magnitude = c->yarn ? yarn_magnitude(c->yarn_factor, c->yarn_mscale) /
					    yarn_magnitude(c->yarn_factor, c->yarn_mscale_all_dim)
				  : 1.0;
	size_t pairs = c->rope / 2;
	for (size_t i = 0; i < pairs; i++) {
		double f = frequency(c, i);
		for (size_t pos = 0; pos < positions; pos++) {
			double angle = (double)pos * f;
			table[(pos * pairs + i) * 2] = (float)(cos(angle) * magnitude);
			table[(pos * pairs + i) * 2 + 1] = (float)(sin(angle) * magnitude);
		}
	}
}

float octavo_softmax_scale(const struct octavo_config *c)
{
	double tau = 1.0 / sqrt((double)(c->nope + c->rope));
	if (c->yarn && c->yarn_mscale_all_dim != 0.0) {
		double m = yarn_magnitude(c->yarn_factor, c->yarn_mscale_all_dim);
		tau *= m * m;
	}
	return (float)tau;
}
