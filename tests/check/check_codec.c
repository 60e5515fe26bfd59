/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the bulk FP8 codecs and of the latent cache's FP8 rows, which are made of them.
 */
#include "harness.h"
#include "oracle.h"

#include <math.h>
#include <string.h>

static const size_t lengths[] = {1,  2,  7,  8,  9,  15,  16,  17,  31,  32,  33,  47,  48,
                                 49, 63, 64, 65, 96, 127, 128, 129, 255, 512, 576, 1000};
#define LENGTHS (sizeof lengths / sizeof *lengths)

/* ---- Decoding ---- */

static void compare_decode(struct check *check, const uint8_t *code, float scale, size_t n)
{
	uint16_t *want = check_alloc(check, n * sizeof *want, sizeof *want);
	uint16_t *got = check_alloc(check, n * sizeof *got, sizeof *got);

	check_run(check, check->new->decode_e4m3, got, code, scale, n);
	if (check->level_two)
		oracle_decode(want, code, scale, n);
	else
		check_run(check, check->ref->decode_e4m3, want, code, scale, n);
	check_equal_bf16(check, "y", want, got, n);
}

static void decode_lengths(struct check *check)
{
	for (size_t i = 0; i < LENGTHS * 3; i++) {
		size_t n = lengths[i % LENGTHS];
		float scale = fabsf(check_float(check, i < LENGTHS ? -12 : -40, i < LENGTHS ? -2 : 39));
		check_case(check, "n=%zu scale=%a", n, (double)scale);
		uint8_t *code = check_alloc(check, n, 1);
		for (size_t j = 0; j < n; j++)
			code[j] = (uint8_t)check_random(check);
		compare_decode(check, code, scale, n);
	}
}

/* All codes with scales at the edges, and with scales that bring the product next to a tie between two BF16 values: a
 * product rounded to F32 first falls onto the tie. */
static void decode_values(struct check *check)
{
	static const float edges[] = {0.0f,           1.0f,           0x1p-40f,   0x1p40f,
	                              0x1.fffffep-1f, 1e-4f / 448.0f, 0x1.8p-33f, 0x1p-31f};

	for (size_t i = 0; i < 8 + 700; i++) {
		float scale = edges[i % 8];
		if (i >= 8) {
			float value =
			        (float)(9 + 2 * check_pick(check, 0, 3)); /* 9, 11, 13, 15: codes' odd significands */
			float tie = (float)(2 * check_pick(check, 128, 255) + 1);
			scale = ldexpf(tie / value, (int)check_pick(check, 0, 20) - 15);
			for (size_t step = check_pick(check, 0, 2); step > 0; step--)
				scale = nextafterf(scale, i % 2 ? 0.0f : INFINITY);
		}
		check_case(check, "scale=%a", (double)scale);
		uint8_t *code = check_alloc(check, 256, 1);
		for (size_t j = 0; j < 256; j++)
			code[j] = (uint8_t)j;
		compare_decode(check, code, scale, 256);
	}
}

/* ---- Encoding ---- */

static void equal_bytes(struct check *check, const char *what, const uint8_t *want, const uint8_t *got, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_that(check, want[i] == got[i], "%s[%zu] is 0x%02x, must be 0x%02x", what, i, got[i], want[i]);
}

static void compare_encode(struct check *check, const float *x, size_t n)
{
	uint8_t *want = check_alloc(check, n, 1), *got = check_alloc(check, n, 1);

	check_run(check, check->new->encode_e4m3, got, x, n);
	if (check->level_two)
		oracle_encode(want, x, n);
	else
		check_run(check, check->ref->encode_e4m3, want, x, n);
	equal_bytes(check, "code", want, got, n);
}

static void encode_lengths(struct check *check)
{
	for (size_t i = 0; i < LENGTHS * 2; i++) {
		size_t n = lengths[i % LENGTHS];
		check_case(check, "n=%zu", n);
		float *x = check_alloc(check, n * sizeof *x, sizeof *x);
		for (size_t j = 0; j < n; j++)
			x[j] = check_float(check, i % 2 ? -14 : -5, i % 2 ? 12 : 3);
		compare_encode(check, x, n);
	}
}

/* Around every value of the format and every midpoint between two, and the edges of F32. */
static void encode_values(struct check *check)
{
	static const float special[] = {0.0f,    -0.0f,    INFINITY, -INFINITY, NAN,    -NAN,     0x1p-149f, -0x1p-130f,
	                                3.4e38f, -3.4e38f, 448.0f,   464.0f,    480.0f, 0x1p-10f, 0x1p-11f,  0x1.cp-7f};
	enum { CODES = 0x7F, NEAR = 6 };

	check_case(check, "neighbours of codes and midpoints");
	float *x = check_alloc(check, CODES * NEAR * 2 * sizeof *x, sizeof *x);
	for (size_t code = 0, at = 0; code < CODES; code++) {
		uint8_t pair[2] = {(uint8_t)code, (uint8_t)(code + 1 < CODES ? code + 1 : code)};
		float low = (float)oracle_element(OCTAVO_E4M3, pair, 0),
		      high = (float)oracle_element(OCTAVO_E4M3, pair, 1);
		float middle = low + (high - low) / 2;
		const float near[NEAR] = {low,    nextafterf(low, -1000.0f),    nextafterf(low, 1000.0f),
		                          middle, nextafterf(middle, -1000.0f), nextafterf(middle, 1000.0f)};
		for (size_t i = 0; i < NEAR; i++) {
			x[at++] = near[i];
			x[at++] = -near[i];
		}
	}
	compare_encode(check, x, CODES * NEAR * 2);
	check_case(check, "edges");
	float *edge = check_alloc(check, sizeof special, sizeof *edge);
	memcpy(edge, special, sizeof special);
	compare_encode(check, edge, sizeof special / sizeof *special);
	for (size_t i = 0; i < 50; i++) {
		check_case(check, "random bits %zu", i);
		uint32_t *bits = check_alloc(check, 512 * sizeof *bits, sizeof *bits);
		for (size_t j = 0; j < 512; j++)
			bits[j] = check_random(check);
		compare_encode(check, (const float *)(const void *)bits, 512);
	}
}

/* ---- Rows of the cache ---- */

/* The layout stated once more: codes, scales, key. */
static void oracle_entry(uint8_t *entry, const float *row, size_t latent, size_t rope)
{
	uint16_t value[1024], key[256];
	float wide[1024], scale[8];

	oracle_quantise(value, scale, row, latent, OCTAVO_SCALE_AMAX);
	for (size_t i = 0; i < latent; i++)
		wide[i] = (float)oracle_element(OCTAVO_BF16, value, i);
	oracle_encode(entry, wide, latent);
	oracle_round(key, row + latent, rope);
	size_t groups = (latent + 127) / 128;
	memcpy(entry + latent, scale, groups * 4);
	memcpy(entry + latent + groups * 4, key, rope * 2);
}

static void oracle_read(uint16_t *row, const uint8_t *entry, size_t latent, size_t rope)
{
	size_t groups = (latent + 127) / 128;

	for (size_t i = 0; i < latent; i++) {
		float scale;
		memcpy(&scale, entry + latent + i / 128 * 4, 4);
		oracle_decode(row + i, entry + i, scale, 1);
	}
	memcpy(row + latent, entry + latent + groups * 4, rope * 2);
}

static void kv_rows(struct check *check)
{
	static const size_t shapes[][3] = {{512, 64, 656}, {128, 32, 196}, {96, 16, 132}, {200, 8, 224}, {129, 1, 139},
	                                   {1, 2, 9},      {1000, 200, 1432}};

	for (size_t i = 0; i < 7 * 6; i++) {
		const size_t *s = shapes[i % 7], latent = s[0], rope = s[1], width = latent + rope;
		check_case(check, "latent=%zu rope=%zu", latent, rope);
		check_that(check, octavo_kv_row_bytes(latent, rope) == s[2], "%zu bytes instead of %zu",
		           octavo_kv_row_bytes(latent, rope), s[2]);
		float *row = check_alloc(check, width * sizeof *row, sizeof *row);
		for (size_t j = 0; j < width; j++)
			row[j] = check_float(check, i < 21 ? -6 : -45, 3);
		if (i >= 35)
			row[check_pick(check, 0, latent - 1)] = NAN; /* its group becomes NaN codes */
		uint8_t *got = check_alloc(check, s[2], 1), *want = check_alloc(check, s[2], 1);
		octavo_kv_row_write(check->new, got, row, latent, rope);
		check->level_two ? oracle_entry(want, row, latent, rope)
		                 : octavo_kv_row_write(check->ref, want, row, latent, rope);
		for (size_t j = 0; j < latent; j++) /* of NaN the sign is open */
			if ((want[j] & 0x7F) == 0x7F && (got[j] & 0x7F) == 0x7F)
				got[j] = want[j];
		equal_bytes(check, "entry", want, got, s[2]);
		uint16_t *back = check_alloc(check, width * sizeof *back, sizeof *back);
		uint16_t *truth = check_alloc(check, width * sizeof *truth, sizeof *truth);
		octavo_kv_row_read(check->new, back, got, latent, rope);
		check->level_two ? oracle_read(truth, got, latent, rope)
		                 : octavo_kv_row_read(check->ref, truth, got, latent, rope);
		check_equal_bf16(check, "row", truth, back, width);
	}
}

const struct check_entry check_codec_entries[] = {
        {"decode_e4m3.lengths", SLOT_decode_e4m3, decode_lengths},
        {"decode_e4m3.values", SLOT_decode_e4m3, decode_values},
        {"encode_e4m3.lengths", SLOT_encode_e4m3, encode_lengths},
        {"encode_e4m3.values", SLOT_encode_e4m3, encode_values},
        {"kv_row", SLOT_TABLE, kv_rows},
        {0},
};
