/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench kernels --op emulate`: how far FP8 products are from exact sums when a tensor core adds them with few
 * bits, by the interval at which its partial sums go to FP32.
 */
#include "bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 8, COLUMNS = 16, LONGEST_K = 1 << 17 };

/* One matrix product of codes; outputs are [ROWS][n]. */
struct sums {
	const char *inputs;
	size_t n, k;
	uint8_t *x, *w;   /* [ROWS][k], [n][k] */
	uint16_t *x_bf16; /* [ROWS][k] the codes' values */
	double *exact;
	float *y;
};

/* ---- Inputs ----------------------------------------------------------------------------------------------------- */

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13; /* xorshift64 (Marsaglia, 2003) */
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The sum of twelve uniform numbers less six: mean 0, variance 1. */
static float normal(uint64_t *state)
{
	float sum = -6.0f;
	for (int i = 0; i < 12; i++)
		sum += (float)(next(state) >> 40) * 0x1p-24f;
	return sum;
}

/* A row of codes, scaled so that its largest is 448, as quantisers do. */
static void fill_row(uint8_t *code, float *scratch, size_t k, bool positive, uint64_t *state)
{
	float amax = 0;
	for (size_t i = 0; i < k; i++) {
		scratch[i] = positive ? fabsf(normal(state)) : normal(state);
		amax = fmaxf(amax, fabsf(scratch[i]));
	}
	for (size_t i = 0; i < k; i++)
		code[i] = octavo_e4m3_encode_sat(scratch[i] * (448.0f / amax));
}

static bool fill(struct sums *s, bool positive)
{
	uint64_t state = 0x9e3779b97f4a7c15;
	float *scratch = calloc(s->k, sizeof *scratch);
	s->inputs = positive ? "positive" : "normal";
	for (size_t m = 0; scratch && m < ROWS; m++)
		fill_row(s->x + m * s->k, scratch, s->k, positive, &state);
	for (size_t n = 0; scratch && n < s->n; n++)
		fill_row(s->w + n * s->k, scratch, s->k, positive, &state);
	for (size_t i = 0; scratch && i < ROWS * s->k; i++)
		s->x_bf16[i] = octavo_bf16_encode(octavo_e4m3_decode(s->x[i]));
	free(scratch);
	/* A product has 8 bits and the sums few more: double is exact. */
	for (size_t m = 0; m < ROWS; m++)
		for (size_t n = 0; n < s->n; n++) {
			double sum = 0;
			for (size_t i = 0; i < s->k; i++)
				sum += (double)octavo_e4m3_decode(s->x[m * s->k + i]) *
				       (double)octavo_e4m3_decode(s->w[n * s->k + i]);
			s->exact[m * s->n + n] = sum;
		}
	return scratch != NULL;
}

static void sums_close(struct sums *s)
{
	free(s->x);
	free(s->w);
	free(s->x_bf16);
	free(s->exact);
	free(s->y);
}

static bool sums_open(struct sums *s, size_t n, size_t k)
{
	*s = (struct sums){.n = n,
	                   .k = k,
	                   .x = malloc(ROWS * k),
	                   .w = malloc(n * k),
	                   .x_bf16 = malloc(ROWS * k * sizeof *s->x_bf16),
	                   .exact = calloc(ROWS * n, sizeof *s->exact),
	                   .y = calloc(ROWS * n, sizeof *s->y)};
	if (s->x && s->w && s->x_bf16 && s->exact && s->y)
		return true;
	sums_close(s);
	return false;
}

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

/* Over the root mean square of the exact outputs. */
struct error {
	double rms, largest;
};

static struct error error_of(const struct sums *s)
{
	double squares = 0, size = 0, largest = 0;
	for (size_t i = 0; i < ROWS * s->n; i++) {
		double difference = s->y[i] - s->exact[i];
		squares += difference * difference;
		size += s->exact[i] * s->exact[i];
		largest = fmax(largest, fabs(difference));
	}
	size = sqrt(size / (double)(ROWS * s->n));
	return (struct error){sqrt(squares / (double)(ROWS * s->n)) / size, largest / size};
}

static enum octavo_status emulate(struct sums *s, unsigned fraction, size_t promotion, struct error *error)
{
	struct octavo_tensor_core core = {32, fraction, promotion};
	enum octavo_status status = OCTAVO_OK;
	for (size_t m = 0; m < ROWS; m++)
		for (size_t n = 0; n < s->n && status == OCTAVO_OK; n++)
			status = octavo_tensor_core_dot(&core, s->x + m * s->k, s->w + n * s->k, s->k,
			                                &s->y[m * s->n + n]);
	*error = error_of(s);
	return status;
}

/* What this library's own kernels do: FP32 throughout. */
static enum octavo_status native(struct sums *s, struct error *error)
{
	struct octavo_matrix w = {.data = s->w, .rows = s->n, .cols = s->k, .ld = s->k, .dtype = OCTAVO_E4M3};
	struct octavo_rows x = {.x = s->x_bf16, .rows = ROWS, .ld = s->k};
	enum octavo_status status = octavo_gemm(octavo_kernels_get(), NULL, &w, &x, s->y, s->n);
	*error = error_of(s);
	return status;
}

/* ---- The report -------------------------------------------------------------------------------------------------- */

static void add(json_t *array, const struct sums *s, const char *sum, unsigned fraction, size_t n_c, struct error e)
{
	json_array_append_new(array, json_pack("{s:s, s:s, s:I, s:o, s:o, s:f, s:f}", "inputs", s->inputs, "sum", sum,
	                                       "k", (json_int_t)s->k, "fraction_bits",
	                                       fraction ? json_integer(fraction) : json_null(), "n_c",
	                                       fraction ? json_integer((json_int_t)n_c) : json_null(), "rms", e.rms,
	                                       "max", e.largest));
}

static enum octavo_status report_interval(struct sums *s, size_t n_c, json_t *array)
{
	struct error e[2];
	enum octavo_status status = OCTAVO_OK;
	for (unsigned i = 0; i < 2 && status == OCTAVO_OK; i++) {
		status = emulate(s, 13 + i, n_c < s->k ? n_c : 0, &e[i]);
		add(array, s, "hopper", 13 + i, n_c, e[i]);
	}
	if (status == OCTAVO_OK)
		printf("  %-9s %7zu %7zu   %.2e  %.2e    %.2e  %.2e\n", s->inputs, s->k, n_c, e[0].rms, e[0].largest,
		       e[1].rms, e[1].largest);
	return status;
}

static enum octavo_status report_inputs(struct sums *s, bool positive, json_t *array)
{
	struct error e;
	if (!fill(s, positive))
		return OCTAVO_ENOMEM;
	enum octavo_status status = OCTAVO_OK;
	for (size_t n_c = 32; status == OCTAVO_OK && n_c < s->k; n_c *= 2)
		status = report_interval(s, n_c, array);
	if (status == OCTAVO_OK)
		status = report_interval(s, s->k, array);
	if (status == OCTAVO_OK)
		status = native(s, &e);
	if (status == OCTAVO_OK) {
		printf("  %-9s %7zu  native   %.2e  %.2e\n\n", s->inputs, s->k, e.rms, e.largest);
		add(array, s, "native", 0, 0, e);
	}
	fflush(stdout);
	return status;
}

static int report_shape(size_t n, size_t k, json_t *array)
{
	struct sums s;
	if (!sums_open(&s, n, k))
		return complain("emulate %zux%zu: out of memory", n, k);
	enum octavo_status status = report_inputs(&s, false, array);
	if (status == OCTAVO_OK)
		status = report_inputs(&s, true, array);
	sums_close(&s);
	return status == OCTAVO_OK ? EXIT_OK : complain("emulate %zux%zu: %s", n, k, octavo_status_string(status));
}

static void print_head(void)
{
	printf("\nemulate: E4M3 products added as a Hopper tensor core does (32 at a time, aligned to the largest exponent and\n"
	       "  cut off behind 13 or 14 fraction bits; promoted to FP32 every N_C products), against exact sums\n"
	       "  errors: root mean square and largest of %d rows of outputs, over the exact outputs' root mean square\n"
	       "  inputs: normal, or its magnitudes (all products positive, as where limited sums drift most); native: the\n"
	       "  sums of this library's own kernels, FP32 throughout\n\n"
	       "  %-9s %7s %7s   %-19s   %-19s\n  %-9s %7s %7s   %-8s  %-8s    %-8s  %-8s\n",
	       ROWS, "", "", "", "13 bits", "14 bits", "inputs", "K", "N_C", "rms", "largest", "rms", "largest");
}

int emulate_report(const struct options *o)
{
	static const size_t usual[] = {2048, 7168};
	size_t shapes = o->shapes ? o->shapes : sizeof usual / sizeof *usual;
	static const char *const others[] = {"isa", "backend", "peers", "rows", "threads", "pool", "repeats"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (option_given(o, others[i]))
			return complain("kernels: option --%s does not apply to --op emulate", others[i]);
	for (size_t i = 0; i < o->shapes; i++)
		if (o->n[i] > 4096 || o->kdim[i] > LONGEST_K)
			return complain(
			        "kernels: option --shape: %zu,%zu: emulate takes up to 4096 outputs of up to %d products",
			        o->n[i], o->kdim[i], LONGEST_K);
	if (!json_writable(o->json))
		return EXIT_BAD_INPUT;
	json_t *document = json_document(), *array = json_array();
	json_object_set_new(document, "emulate", array);
	print_head();
	int status = EXIT_OK;
	for (size_t i = 0; i < shapes && status == EXIT_OK; i++)
		status = report_shape(o->shapes ? o->n[i] : COLUMNS, o->shapes ? o->kdim[i] : usual[i], array);
	if (status == EXIT_OK && o->json && !json_write(document, o->json))
		status = EXIT_BAD_INPUT;
	json_decref(document);
	return status;
}
