/* SPDX-License-Identifier: Apache-2.0
 *
 * Status strings and the scalar codecs: every code of every format against its definition, and the cases
 * where encoders go wrong (ties, subnormals, overflow, NaN).  test_fp8_exhaustive.c has the rest of the floats.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fenv.h>
#include <float.h>
#include <stdio.h>

#include "octavo_fp8.h"
#include "tests/fp8_oracle.h"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

static void status_strings(void **state)
{
	(void)state;
	assert_string_equal(octavo_status_string(OCTAVO_OK), "success");
	const char *unknown = octavo_status_string((enum octavo_status) - 1000);
	assert_non_null(unknown);
	for (int a = OCTAVO_ESYSTEM; a <= OCTAVO_OK; a++) {
		assert_string_not_equal(octavo_status_string((enum octavo_status)a), unknown);
		for (int b = OCTAVO_ESYSTEM; b < a; b++)
			assert_string_not_equal(octavo_status_string((enum octavo_status)a),
			                        octavo_status_string((enum octavo_status)b));
	}
}

static void version(void **state)
{
	(void)state;
	int major, minor, patch, end = 0;
	assert_int_equal(sscanf(octavo_version(), "%d.%d.%d%n", &major, &minor, &patch, &end), 3);
	assert_int_equal(octavo_version()[end], '\0');
}

static void dtypes(void **state)
{
	(void)state;
	static const struct {
		enum octavo_dtype dtype;
		size_t size;
		const char *name;
	} expected[] = {
	        {OCTAVO_NONE, 0, "none"},    {OCTAVO_F32, 4, "F32"},      {OCTAVO_BF16, 2, "BF16"},
	        {OCTAVO_F16, 2, "F16"},      {OCTAVO_E4M3, 1, "F8_E4M3"}, {OCTAVO_E5M2, 1, "F8_E5M2"},
	        {OCTAVO_E8M0, 1, "F8_E8M0"},
	};
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
		assert_int_equal(octavo_dtype_size(expected[i].dtype), expected[i].size);
		assert_string_equal(octavo_dtype_name(expected[i].dtype), expected[i].name);
	}
}

/* ---- Decoders ------------------------------------------------------------------------------------ */

/* What `code` must decode to, given the format and the position of its sign bit. */
static void assert_decodes(const struct format *f, unsigned code, unsigned sign_bit, float value)
{
	unsigned magnitude = code & ~sign_bit;
	assert_int_equal(signbit(value) != 0, (code & sign_bit) != 0);
	if (magnitude < f->finite)
		assert_true(fabs((double)value) == format_value(f, magnitude));
	else if (magnitude == f->finite && f != &format_e4m3)
		assert_true(isinf(value));
	else
		assert_true(isnan(value));
}

static void decode_e4m3(void **state)
{
	(void)state;
	double sum = 0, sum_of_magnitudes = 0;
	for (unsigned code = 0; code < 256; code++) {
		float value = octavo_e4m3_decode((uint8_t)code);
		assert_decodes(&format_e4m3, code, 0x80, value);
		if (!isnan(value)) {
			sum += (double)value;
			sum_of_magnitudes += fabs((double)value);
		}
	}
	assert_true(sum == 0);
	assert_true(sum_of_magnitudes == 10815.75);
	assert_true(octavo_e4m3_decode(0x7E) == 448.0f);
	assert_true(octavo_e4m3_decode(0x08) == 0x1p-6f);
	assert_true(octavo_e4m3_decode(0x01) == 0x1p-9f);
	assert_true(octavo_e4m3_decode(0x38) == 1.0f);
}

static void decode_e5m2(void **state)
{
	(void)state;
	for (unsigned code = 0; code < 256; code++)
		assert_decodes(&format_e5m2, code, 0x80, octavo_e5m2_decode((uint8_t)code));
	assert_true(octavo_e5m2_decode(0x7B) == 57344.0f);
	assert_true(octavo_e5m2_decode(0x04) == 0x1p-14f);
	assert_true(octavo_e5m2_decode(0x01) == 0x1p-16f);
}

static void decode_16_bits(void **state)
{
	(void)state;
	for (unsigned code = 0; code < 65536; code++) {
		assert_decodes(&format_f16, code, 0x8000, octavo_f16_decode((uint16_t)code));
		assert_decodes(&format_bf16, code, 0x8000, octavo_bf16_decode((uint16_t)code));
	}
}

static void decode_e8m0(void **state)
{
	(void)state;
	for (int code = 0; code < 255; code++)
		assert_true((double)octavo_e8m0_decode((uint8_t)code) == ldexp(1, code - 127));
	assert_true(isnan(octavo_e8m0_decode(255)));
}

/* ---- Encoders ------------------------------------------------------------------------------------ */

struct vector {
	double x;
	uint8_t code;
};

static void encode_e4m3_vectors(void **state)
{
	(void)state;
	static const struct vector vectors[] = {
	        {0, 0x00},        {0.1, 0x1D},       {1, 0x38},        {17, 0x58}, /* tie to 16 */
	        {18, 0x59},       {19, 0x5A},                                      /* tie to 20 */
	        {1.0625, 0x38},   {1.1875, 0x3A},                                  /* ties to 1 and 1.25 */
	        {0x1p-10, 0x00},  {0x1.8p-10, 0x01}, {0x1.8p-9, 0x02},             /* ties, subnormal */
	        {0x1.001p-10, 1}, {0x1p-149, 0x00},  {0x1p-9, 0x01},   {0x1.Cp-7, 0x07},
	        {0x1.Ep-7, 0x08}, {0x1p-6, 0x08}, /* a carry into the normals */
	        {448, 0x7E},      {464, 0x7E},    /* tie with what would be 480 */
	};
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		float x = (float)vectors[i].x;
		assert_int_equal(octavo_e4m3_encode(x), vectors[i].code);
		assert_int_equal(octavo_e4m3_encode_sat(x), vectors[i].code);
		assert_int_equal(octavo_e4m3_encode(-x), vectors[i].code | 0x80);
		assert_int_equal(octavo_e4m3_encode_sat(-x), vectors[i].code | 0x80);
	}
}

static void encode_e5m2_vectors(void **state)
{
	(void)state;
	static const struct vector vectors[] = {
	        {0, 0x00},         {1, 0x3C},         {1.125, 0x3C},   {1.375, 0x3E}, /* ties to 1 and 1.5 */
	        {0x1p-17, 0x00},   {0x1.8p-16, 0x02}, {0x1p-16, 0x01},                /* ties, subnormal */
	        {0x1.8p-15, 0x03}, {0x1.Cp-15, 0x04},                                 /* a carry into the normals */
	        {57344, 0x7B},     {61439, 0x7B},
	};
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		float x = (float)vectors[i].x;
		assert_int_equal(octavo_e5m2_encode(x), vectors[i].code);
		assert_int_equal(octavo_e5m2_encode_sat(x), vectors[i].code);
		assert_int_equal(octavo_e5m2_encode(-x), vectors[i].code | 0x80);
		assert_int_equal(octavo_e5m2_encode_sat(-x), vectors[i].code | 0x80);
	}
}

static void overflow(void **state)
{
	(void)state;
	static const double beyond_e4m3[] = {464.0001, 480, 1e9, FLT_MAX, INFINITY};
	/* 61440 is the tie with what would be 65536, whose code, that of infinity, is even. */
	static const double beyond_e5m2[] = {61440, 65536, 1e9, FLT_MAX, INFINITY};
	for (size_t i = 0; i < sizeof beyond_e4m3 / sizeof *beyond_e4m3; i++) {
		float x = (float)beyond_e4m3[i], y = (float)beyond_e5m2[i];
		assert_int_equal(octavo_e4m3_encode_sat(x), 0x7E);
		assert_int_equal(octavo_e4m3_encode_sat(-x), 0xFE);
		assert_int_equal(octavo_e4m3_encode(x), 0x7F);
		assert_int_equal(octavo_e4m3_encode(-x), 0xFF);
		assert_int_equal(octavo_e5m2_encode_sat(y), 0x7B);
		assert_int_equal(octavo_e5m2_encode_sat(-y), 0xFB);
		assert_int_equal(octavo_e5m2_encode(y), 0x7C);
		assert_int_equal(octavo_e5m2_encode(-y), 0xFC);
	}
}

static void not_a_number(void **state)
{
	(void)state;
	static const uint32_t payloads[] = {0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0x7FBFFFFF};
	for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++)
		for (uint32_t sign = 0; sign <= 1; sign++) {
			float x = float_of(payloads[i] | sign << 31);
			uint8_t expected = (uint8_t)(sign << 7 | 0x7F);
			assert_int_equal(octavo_e4m3_encode(x), expected);
			assert_int_equal(octavo_e4m3_encode_sat(x), expected);
			assert_int_equal(octavo_e5m2_encode(x), expected);
			assert_int_equal(octavo_e5m2_encode_sat(x), expected);
			assert_int_equal(octavo_e8m0_encode_up(x), 255);
			uint16_t codes[] = {octavo_bf16_encode(x), octavo_bf16_activation(x)};
			for (int j = 0; j < 2; j++) {
				assert_true((codes[j] & 0x7FFF) > 0x7F80);
				assert_int_equal(codes[j] >> 15, sign);
			}
		}
}

static void round_trips(void **state)
{
	(void)state;
	for (unsigned code = 0; code < 256; code++) {
		uint8_t c = (uint8_t)code;
		assert_int_equal(octavo_e4m3_encode(octavo_e4m3_decode(c)), c);
		assert_int_equal(octavo_e4m3_encode_sat(octavo_e4m3_decode(c)), c);
		if ((code & 0x7F) <= 0x7C)
			assert_int_equal(octavo_e5m2_encode(octavo_e5m2_decode(c)), c);
		if ((code & 0x7F) < 0x7C)
			assert_int_equal(octavo_e5m2_encode_sat(octavo_e5m2_decode(c)), c);
	}
	for (unsigned code = 0; code < 65536; code++)
		if ((code & 0x7FFF) <= 0x7F80)
			assert_int_equal(octavo_bf16_encode(octavo_bf16_decode((uint16_t)code)), code);
}

static void encode_bf16(void **state)
{
	(void)state;
	assert_int_equal(octavo_bf16_encode(1 + 0x1p-8f), 0x3F80); /* ties */
	assert_int_equal(octavo_bf16_encode(1 + 0x3p-8f), 0x3F82);
	assert_int_equal(octavo_bf16_encode(-(1 + 0x3p-8f)), 0xBF82);
	assert_int_equal(octavo_bf16_encode(1 + 0x1.0002p-8f), 0x3F81);
	assert_int_equal(octavo_bf16_encode(float_of(0x00008000)), 0x0000); /* tie between 0 and 2^-133 */
	assert_int_equal(octavo_bf16_encode(float_of(0x00008001)), 0x0001);
	assert_int_equal(octavo_bf16_encode(float_of(0x00018000)), 0x0002);
	assert_int_equal(octavo_bf16_encode(float_of(0x7F7F7FFF)), 0x7F7F);
	assert_int_equal(octavo_bf16_encode(FLT_MAX), 0x7F80);
	assert_int_equal(octavo_bf16_encode(-INFINITY), 0xFF80);
}

static void activations(void **state)
{
	(void)state;
	assert_int_equal(octavo_bf16_activation(0x1p-40f), 0x2B80);
	assert_int_equal(octavo_bf16_activation(-0x1p-40f), 0xAB80);
	assert_int_equal(octavo_bf16_activation(nextafterf(0x1p-40f, 0)), 0);
	assert_int_equal(octavo_bf16_activation(-nextafterf(0x1p-40f, 0)), 0);
	assert_int_equal(octavo_bf16_activation(-0.0f), 0);
	assert_int_equal(octavo_bf16_activation(-FLT_TRUE_MIN), 0);
	assert_int_equal(octavo_bf16_activation(INFINITY), 0x7F80);
	uint64_t random = 1;
	for (int i = 0; i < 100000; i++) {
		float x = random_float(&random, -40, 127);
		assert_int_equal(octavo_bf16_activation(x), octavo_bf16_encode(x));
	}
}

static void encode_e8m0(void **state)
{
	(void)state;
	for (int code = 1; code <= 254; code++) {
		float x = octavo_e8m0_decode((uint8_t)code);
		assert_int_equal(octavo_e8m0_encode_up(x), code);
		assert_int_equal(octavo_e8m0_encode_up(nextafterf(x, 0)), code);
		assert_int_equal(octavo_e8m0_encode_up(nextafterf(x, INFINITY)), code < 254 ? code + 1 : 254);
	}
	assert_int_equal(octavo_e8m0_encode_up(0.0f), 1);
	assert_int_equal(octavo_e8m0_encode_up(-0.0f), 1);
	assert_int_equal(octavo_e8m0_encode_up(FLT_TRUE_MIN), 1);
	assert_int_equal(octavo_e8m0_encode_up(0x1p-127f), 1);
	assert_int_equal(octavo_e8m0_encode_up(FLT_MAX), 254);
	assert_int_equal(octavo_e8m0_encode_up(INFINITY), 255);
	assert_int_equal(octavo_e8m0_encode_up(-INFINITY), 255);
	assert_int_equal(octavo_e8m0_encode_up(-1.0f), 255);
	assert_int_equal(octavo_e8m0_encode_up(-FLT_TRUE_MIN), 255);
}

/* ---- The caller's floating-point environment ------------------------------------------------------- */

/* Everything the codecs give for 4096 fixed floats of all exponents and for all codes, as one number. */
static uint64_t codec_fingerprint(void)
{
	uint64_t hash = 0, random = 2;
	for (unsigned i = 0; i < 4096; i++) {
		float x = float_of((uint32_t)random_bits(&random));
		uint8_t c = (uint8_t)i;
		uint64_t parts[] = {
		        octavo_e4m3_encode(x),          octavo_e4m3_encode_sat(x),
		        octavo_e5m2_encode(x),          octavo_e5m2_encode_sat(x),
		        octavo_e8m0_encode_up(x),       octavo_bf16_encode(x),
		        octavo_bf16_activation(x),      octavo_e4m3_encode_stochastic(x, (uint32_t)random),
		        bits_of(octavo_e4m3_decode(c)), bits_of(octavo_e5m2_decode(c)),
		        bits_of(octavo_e8m0_decode(c)), bits_of(octavo_f16_decode((uint16_t)(i * 16))),
		};
		for (size_t j = 0; j < sizeof parts / sizeof *parts; j++) {
			hash ^= parts[j];
			hash = random_bits(&hash);
		}
	}
	return hash;
}

static void environment(void **state)
{
	(void)state;
	static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
	uint64_t expected = codec_fingerprint();
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		assert_int_equal(fesetround(modes[i]), 0);
		uint64_t actual = codec_fingerprint();
		fesetround(FE_TONEAREST);
		assert_true(actual == expected);
	}
#ifdef __SSE__
	unsigned mxcsr = _mm_getcsr();
	_mm_setcsr(mxcsr | 0x8040); /* flush to zero, denormals are zero */
	uint64_t actual = codec_fingerprint();
	_mm_setcsr(mxcsr);
	assert_true(actual == expected);
#endif
}

/* ---- Properties ------------------------------------------------------------------------------------ */

/* Encoding never inverts an order, and negation is the sign bit. */
static void monotone(void **state)
{
	(void)state;
	uint64_t random = 3;
	for (int i = 0; i < 200000; i++) {
		float x = fabsf(random_float(&random, -20, 18)), y = fabsf(random_float(&random, -20, 18));
		float low = x < y ? x : y, high = x < y ? y : x;
		assert_true(octavo_e4m3_encode(low) <= octavo_e4m3_encode(high));
		assert_true(octavo_e4m3_encode_sat(low) <= octavo_e4m3_encode_sat(high));
		assert_true(octavo_e5m2_encode(low) <= octavo_e5m2_encode(high));
		assert_true(octavo_e5m2_encode_sat(low) <= octavo_e5m2_encode_sat(high));
		assert_true(octavo_e8m0_encode_up(low) <= octavo_e8m0_encode_up(high));
		assert_int_equal(octavo_e4m3_encode(-x), octavo_e4m3_encode(x) | 0x80);
		assert_int_equal(octavo_e5m2_encode(-x), octavo_e5m2_encode(x) | 0x80);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(status_strings),
	        cmocka_unit_test(version),
	        cmocka_unit_test(dtypes),
	        cmocka_unit_test(decode_e4m3),
	        cmocka_unit_test(decode_e5m2),
	        cmocka_unit_test(decode_16_bits),
	        cmocka_unit_test(decode_e8m0),
	        cmocka_unit_test(encode_e4m3_vectors),
	        cmocka_unit_test(encode_e5m2_vectors),
	        cmocka_unit_test(overflow),
	        cmocka_unit_test(not_a_number),
	        cmocka_unit_test(round_trips),
	        cmocka_unit_test(encode_bf16),
	        cmocka_unit_test(activations),
	        cmocka_unit_test(encode_e8m0),
	        cmocka_unit_test(environment),
	        cmocka_unit_test(monotone),
	};
	return cmocka_run_group_tests_name("fp8", tests, NULL, NULL);
}
