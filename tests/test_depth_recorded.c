/* SPDX-License-Identifier: Apache-2.0
 *
 * Adaptive draft length on recordings (tests/record_depth.c): the bundled model's own texts, of every category of its
 * prompts and of prompts of random tokens, are decoded again with the outcomes that its drafts had there, under a mock
 * clock whose steps take times that steps took.  What the policy emits per time is compared with every fixed k.
 */
#include "engine/draft/depth.h"
#include "tests/support/model.h"
#include "tests/support/random.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MTP, EAGLE, NGRAM, SOURCES, PAIR = SOURCES, DRAFTERS }; /* PAIR: ngram+mtp */
static const char *const names[DRAFTERS] = { "mtp", "eagle", "ngram", "ngram+mtp" };
enum { POSITIONS = 64, MOST_TEXTS = 160, MOST_SAMPLES = 64, TOKENS = 4096, SEEDS = 8 };
static const double most_regret = 0.03;
static const double most_regret_after_error = 0.04; /* where what the policy began with was wrong by 30 % */

/* ---- The recordings ---------------------------------------------------------------------------------------------- */

struct text {
	double temperature;
	char category[32];
	char offered[SOURCES][POSITIONS + 1], kept[SOURCES][POSITIONS + 1]; /* digits */
	double share[SOURCES][POSITIONS][OCTAVO_MAX_K]; /* 0: the drafter does not say */
};
static struct text texts[MOST_TEXTS];
static size_t text_count;

struct samples {
	size_t count;
	double ns[MOST_SAMPLES], mean;
};

/* What steps take. */
struct machine {
	const char *name;
	double temperature; /* of the texts that were timed; negative: any */
	struct octavo_cost curve;
	struct samples verify[OCTAVO_MAX_K + 1], draft[SOURCES][OCTAVO_MAX_K + 1], accept;
	double late[SOURCES];
	double cold; /* of a plain forward's time, more behind a draft */
	double wake; /* of a forward's time, more behind one of more rows, which left less of the weights in the caches */
};
enum { RECORDED = 2, MEMORY = RECORDED, SPARSE, MACHINES };
static struct machine machines[MACHINES];

static size_t source_of(const char *name)
{
	for (size_t i = 0; i < SOURCES; i++)
		if (!strcmp(name, names[i]))
			return i;
	fail_msg("no drafter %s", name);
	return 0;
}

static FILE *open_recording(const char *name)
{
	char path[64];
	snprintf(path, sizeof path, "tests/data/depth/%s", name);
	FILE *file = fopen(source_path(path), "r");
	if (!file)
		fail_msg("%s cannot be opened", source_path(path));
	return file;
}

/* Letters stand for half octaves of odds: their middles. */
static void read_shares(double share[POSITIONS][OCTAVO_MAX_K], const char *letters)
{
	assert_int_equal(strspn(letters, "abcdefghijklmnopqrstuvwxyz"), POSITIONS * OCTAVO_MAX_K);
	for (size_t i = 0; i < POSITIONS; i++)
		for (size_t j = 0; j < OCTAVO_MAX_K; j++)
			share[i][j] = 1.0 / (1.0 + exp2(-0.5 * (letters[i * OCTAVO_MAX_K + j] - 'm') - 0.25));
}

static void read_outcomes(void)
{
	char *line = NULL, name[16], digits[POSITIONS * OCTAVO_MAX_K + 1];
	size_t room = 0;
	FILE *file = open_recording("outcomes.txt");
	struct text *t = NULL;
	while (getline(&line, &room, file) > 0) {
		if (*line == '#')
			continue;
		if (!strncmp(line, "text ", 5)) {
			assert_true(text_count < MOST_TEXTS);
			t = &texts[text_count++];
			assert_int_equal(sscanf(line, "text %lf %31s", &t->temperature, t->category), 2);
			for (size_t i = 0; i < SOURCES; i++)
				memset(t->offered[i], '8', POSITIONS);
			continue;
		}
		assert_non_null(t);
		assert_int_equal(sscanf(line, "%*s %15s %512s", name, digits), 2);
		if (*line == 's') {
			read_shares(t->share[source_of(name)], digits);
			continue;
		}
		assert_int_equal(strspn(digits, "012345678"), POSITIONS);
		strcpy(*line == 'o' ? t->offered[source_of(name)] : t->kept[source_of(name)], digits);
	}
	fclose(file);
	free(line);
}

/* Microseconds to the line's end. */
static void read_samples(char *at, struct samples *s)
{
	for (char *end; s->count < MOST_SAMPLES; at = end) {
		double us = strtod(at, &end);
		if (end == at)
			break;
		s->ns[s->count++] = us * 1e3;
	}
	assert_true(s->count >= 4);
	for (size_t i = 0; i < s->count; i++)
		s->mean += s->ns[i] / (double)s->count;
}

static void read_times_line(struct machine *m, char *line)
{
	static const size_t rows[OCTAVO_MAX_KNOTS] = { 1, 2, 3, 4, 5, 6, 8, 16 };
	char name[16];
	unsigned k;
	int used = 0;
	double us;
	if (sscanf(line, "verify %u%n", &k, &used) == 1) {
		read_samples(line + used, &m->verify[k - 1]);
	} else if (sscanf(line, "draft %15s %u%n", name, &k, &used) == 2) {
		read_samples(line + used, &m->draft[source_of(name)][k]);
	} else if (sscanf(line, "late %15s %lf", name, &us) == 2) {
		m->late[source_of(name)] = us * 1e3;
	} else if (!strncmp(line, "accept ", 7)) {
		read_samples(line + 7, &m->accept);
	} else {
		assert_true(!strncmp(line, "curve ", 6));
		memcpy(m->curve.rows, rows, sizeof rows);
		for (line += 6; m->curve.count < OCTAVO_MAX_KNOTS; m->curve.count++)
			m->curve.ns[m->curve.count] = strtod(line, &line) * 1e3;
	}
}

static void read_times(void)
{
	char *line = NULL;
	size_t room = 0, count = 0;
	FILE *file = open_recording("times.txt");
	while (getline(&line, &room, file) > 0) {
		if (*line == '#')
			continue;
		if (strncmp(line, "times ", 6)) {
			assert_true(count > 0);
			read_times_line(&machines[count - 1], line);
			continue;
		}
		assert_true(count < RECORDED);
		machines[count].temperature = strtod(line + 6, NULL);
		machines[count].wake = 0.05; /* 2 to 8 % there */
		machines[count].cold = 0.08; /* 5 to 10 % there */
		machines[count++].name = "2 cores, AVX-512, small model";
	}
	fclose(file);
	free(line);
	assert_int_equal(count, RECORDED);
}

static void stretch(struct samples *s, double mean)
{
	for (size_t i = 0; i < s->count; i++)
		s->ns[i] *= mean / s->mean;
	s->mean = mean;
}

/* A large model: of 61 layers the module is one.  Steps scatter as they did on the small machine. */
static void make_large(struct machine *m, const char *name, double (*verify)(double rows))
{
	static const double forward = 100e6;
	*m = machines[0];
	m->name = name;
	m->temperature = -1.0;
	m->wake = m->cold = 0.0;
	for (size_t i = 0; i < m->curve.count; i++)
		m->curve.ns[i] = forward * verify((double)m->curve.rows[i]);
	for (unsigned k = 0; k <= OCTAVO_MAX_K; k++)
		stretch(&m->verify[k], forward * verify(k + 1.0));
	for (size_t i = 0; i < SOURCES; i++) {
		m->late[i] = 0.0;
		for (unsigned k = 1; k <= OCTAVO_MAX_K; k++)
			stretch(&m->draft[i][k], i == NGRAM ? 5e3 : forward / 61.0 * k);
	}
}

/* Weights come from memory, and reading them takes the time whatever the rows. */
static double dense(double rows)
{
	return 1.0 + 0.01 * (rows - 1.0);
}

/* So they do, and of 256 experts each row chooses 8 without regard to the others, which are 0.55 of a row's bytes. */
static double sparse(double rows)
{
	return 0.45 + 0.55 * 32.0 * (1.0 - pow(1.0 - 8.0 / 256.0, rows));
}

static int read_recordings(void **state)
{
	(void)state;
	read_outcomes();
	read_times();
	make_large(&machines[MEMORY], "rows nearly free", dense);
	make_large(&machines[SPARSE], "experts routed independently", sparse);
	return 0;
}

/* ---- The mock ---------------------------------------------------------------------------------------------------- */

struct player {
	const struct machine *machine;
	size_t drafter;
	int shares;               /* drafters with laws say how sure they are */
	struct octavo_cost curve; /* what the policy begins with */
	struct octavo_depth depth;
	uint32_t state;
	double owed[2];           /* tokens that a source has not caught up on */
	unsigned submitted;       /* by the last step */
	double wake;              /* what is left of it */
	double pace;              /* the machine has slow times */
	double tokens, ns;
};

/* A time as the policy sees it: one of those recorded, which are free of what else a machine does; so that is added,
 * and now and then it is far more. */
static double sample(struct player *p, const struct samples *s)
{
	double ns = p->pace * s->ns[(size_t)(random_uniform(&p->state) * (double)s->count)], u = random_uniform(&p->state);
	return u < 0.02 ? ns * 4.0 : ns * (0.93 + 0.14 * random_uniform(&p->state));
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static size_t source_at(size_t drafter, unsigned i)
{
	return drafter != PAIR ? drafter : i ? MTP : NGRAM;
}

/* What a source proposes at a position, as far as the extent goes. */
static void draft(const struct text *t, size_t at, size_t which, struct octavo_extent *x)
{
	x->most = least(x->most, least((unsigned)(t->offered[which][at] - '0'), (unsigned)(POSITIONS - at - 1)));
	while (octavo_extent_goes_on(x))
		octavo_extent_take(x, t->share[which][at][x->drafted]);
}

/* Slow times come and go, each some hundreds of steps long. */
static void go_on(struct player *p, unsigned submitted)
{
	if (random_uniform(&p->state) < 1.0 / 256.0)
		p->pace = p->pace > 1.0 ? 1.0 : 1.3;
	p->wake = submitted < p->submitted ? p->machine->wake : 0.5 * p->wake;
	p->submitted = submitted;
}

/* One step at a position of a text, in which the sources may draft as the extents say; returns how many it emits. */
static size_t play(struct player *p, const struct text *t, size_t at, struct octavo_extent *x)
{
	const struct machine *m = p->machine;
	unsigned sources = p->drafter == PAIR ? 2 : 1, source = 0;
	draft(t, at, source_at(p->drafter, 0), x);
	if (!x->drafted && sources == 2)
		draft(t, at, source_at(p->drafter, source = 1), ++x);
	size_t which = source_at(p->drafter, source);
	struct octavo_step step = { .drafted = x->drafted, .submitted = x->submitted, .share = x->share };
	step.accepted = least(step.submitted, (unsigned)(t->kept[which][at] - '0'));
	step.rows = step.submitted + 1;
	go_on(p, step.submitted);
	double emitted = step.accepted + 1.0, late = step.drafted ? m->late[which] * p->owed[source] : 0.0;
	step.late = step.drafted ? (size_t)p->owed[source] : 0;
	double cold = (1.0 + p->wake) * (step.drafted && !step.submitted ? 1.0 + m->cold : 1.0);
	step.verify_ns = sample(p, &m->verify[step.submitted]) * cold;
	step.accept_ns = sample(p, &m->accept) * emitted;
	if (step.drafted)
		step.draft_ns = sample(p, &m->draft[which][step.drafted]) + p->pace * late;
	for (unsigned i = 0; i < 2; i++)
		p->owed[i] = step.drafted && i == source ? 0.0 : fmin(p->owed[i] + emitted, POSITIONS); /* a batch of them */
	p->tokens += emitted;
	p->ns += m->verify[step.submitted].mean * cold + m->accept.mean * emitted + late +
	         (step.drafted ? m->draft[which][step.drafted].mean : 0.0);
	for (unsigned i = 0; i < sources; i++)
		octavo_depth_update(&p->depth.source[i], &p->curve, &step, i == source);
	return (size_t)emitted;
}

static void plan(struct player *p, struct octavo_extent x[2])
{
	struct octavo_ahead ahead[2];
	for (unsigned i = 0; i < 2; i++)
		ahead[i] = (struct octavo_ahead){ .most = OCTAVO_MAX_K, .company = 1, .late = (size_t)p->owed[i],
			                          .shares = p->shares && source_at(p->drafter, i) != NGRAM };
	octavo_depth_plan(&p->depth, &p->curve, ahead, p->drafter == PAIR ? 2 : 1, x);
}

/* All texts of a category, again and again until so many tokens are there; k < 0: the policy. */
static void play_category(struct player *p, double temperature, const char *category, int fixed, double until)
{
	for (size_t i = 0; p->tokens < until; i = (i + 1) % text_count) {
		const struct text *t = &texts[i];
		if (t->temperature != temperature || strcmp(t->category, category))
			continue;
		p->owed[0] = p->owed[1] = POSITIONS; /* a prompt */
		for (size_t at = 0; at < POSITIONS;) {
			struct octavo_extent x[2] = { { .most = (unsigned)fixed }, { .most = (unsigned)fixed } };
			if (fixed < 0)
				plan(p, x);
			at += play(p, t, at, x);
		}
	}
}

static struct player player_of(const struct machine *m, size_t drafter, uint32_t seed)
{
	return (struct player){ .machine = m, .drafter = drafter, .curve = m->curve, .pace = 1.0,
	                        .state = seed * 2654435761u };
}

/* Tokens per ns of the best k of all, 0 among them. */
static double best_fixed(const struct machine *m, size_t drafter, double temperature, const char *category, int *best_k)
{
	double best = 0.0;
	for (int k = 0; k <= OCTAVO_MAX_K; k++) {
		struct player p = player_of(m, drafter, 1);
		play_category(&p, temperature, category, k, TOKENS);
		if (p.tokens / p.ns > best) {
			best = p.tokens / p.ns;
			*best_k = k;
		}
	}
	return best;
}

/* Calls fn for every category of every temperature. */
static void for_categories(void (*fn)(const char *category, double temperature, void *context), void *context)
{
	for (size_t i = 0; i < text_count; i++)
		if (!i || strcmp(texts[i].category, texts[i - 1].category))
			fn(texts[i].category, texts[i].temperature, context);
}

/* ---- The regret -------------------------------------------------------------------------------------------------- */

struct regret {
	int shares;
	double wrong;    /* the start curve's time of one row against the truth */
	double skip;     /* tokens before what counts */
	double bound;
	double worst, sum;
	size_t cases;
};

static double regret_of(const struct machine *m, size_t drafter, const char *category, double temperature,
                        const struct regret *r, int *best_k)
{
	double got = 0.0;
	for (uint32_t seed = 1; seed <= SEEDS; seed++) {
		struct player p = player_of(m, drafter, seed);
		p.curve.ns[0] *= r->wrong;
		p.shares = r->shares;
		play_category(&p, temperature, category, -1, r->skip);
		double tokens = p.tokens, ns = p.ns;
		play_category(&p, temperature, category, -1, tokens + TOKENS);
		got += (p.tokens - tokens) / (p.ns - ns) / SEEDS;
	}
	return 1.0 - got / best_fixed(m, drafter, temperature, category, best_k);
}

/* The sparse machine is there for what knows shares: it makes all others' rows dear. */
static int is_case(const struct machine *m, size_t drafter, double temperature)
{
	return (m->temperature < 0.0 || m->temperature == temperature) && !(m == &machines[SPARSE] && drafter == NGRAM);
}

static void check_category(const char *category, double temperature, void *context)
{
	struct regret *r = context;
	for (const struct machine *m = machines; m < machines + MACHINES; m++)
		for (size_t d = 0; d < DRAFTERS; d++) {
			if (!is_case(m, d, temperature))
				continue;
			int best_k = 0;
			double regret = regret_of(m, d, category, temperature, r, &best_k);
			r->worst = regret > r->worst ? regret : r->worst;
			r->sum += regret;
			r->cases++;
			if (regret > r->bound)
				fail_msg("%s, %s at temperature %g, drafter %s: regret %.4f against k=%d", m->name,
				         category, temperature, names[d], regret, best_k);
		}
}

static void check_regret(double first, double skip, double bound)
{
	struct regret r = { .shares = 1, .wrong = first, .skip = skip, .bound = bound };
	for_categories(check_category, &r);
	print_message("%zu cases: worst regret %.4f, mean %.4f\n", r.cases, r.worst, r.sum / (double)r.cases);
}

static void regret_is_small(void **state)
{
	(void)state;
	check_regret(1.0, 0.0, most_regret);
}

/* A curve that has one row too dear or too cheap against the others is corrected. */
static void wrong_curves_are_corrected(void **state)
{
	(void)state;
	check_regret(1.3, 2048.0, most_regret_after_error);
	check_regret(0.7, 2048.0, most_regret_after_error);
}

/* What drafters with laws gain by saying how sure they are, on each machine. */
struct gain {
	double sum[MACHINES];
	size_t cases[MACHINES];
};

static void add_gain(const char *category, double temperature, void *context)
{
	const struct regret with = { .shares = 1, .wrong = 1.0 }, without = { .wrong = 1.0 };
	struct gain *gain = context;
	for (size_t i = 0; i < MACHINES; i++)
		for (size_t d = MTP; d <= EAGLE; d++) {
			int best_k;
			if (!is_case(&machines[i], d, temperature))
				continue;
			gain->sum[i] += regret_of(&machines[i], d, category, temperature, &without, &best_k) -
			                regret_of(&machines[i], d, category, temperature, &with, &best_k);
			gain->cases[i]++;
		}
}

/* A lot where rows are dear and drafts cheap, next to nothing where it is best not to draft. */
static void shares_pay(void **state)
{
	static const double least_gain[MACHINES] = { -0.01, 0.02, 0.01, 0.06 };
	struct gain gain = { 0 };
	(void)state;
	for_categories(add_gain, &gain);
	for (size_t i = 0; i < MACHINES; i++) {
		double mean = gain.sum[i] / (double)gain.cases[i];
		print_message("%s, temperature %g: %.4f gained\n", machines[i].name, machines[i].temperature, mean);
		if (!(mean > least_gain[i]))
			fail_msg("%s, temperature %g: %.4f gained", machines[i].name, machines[i].temperature, mean);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regret_is_small),
		cmocka_unit_test(wrong_curves_are_corrected),
		cmocka_unit_test(shares_pay),
	};
	return cmocka_run_group_tests(tests, read_recordings, NULL);
}
