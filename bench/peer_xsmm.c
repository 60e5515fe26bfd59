/* SPDX-License-Identifier: Apache-2.0
 *
 * libxsmm as a peer: strips of 64, 32 or 16 weight rows over all of K, one call each, on Octavo's threads since it has
 * none.  BF16 where it has code for that, in pairs of k ("VNNI"), otherwise F32.
 */
#include "bench/peers.h"

#include <libxsmm.h>
#include <stdio.h>
#include <stdlib.h>

struct peer_plan {
	struct peer_task task;
	size_t strip; /* rows of w */
	libxsmm_bsmmfunction bf16;
	libxsmm_smmfunction f32; /* if bf16 is NULL */
	float x[];               /* [m][k], for f32 */
};

static int dispatch(struct peer_plan *plan)
{
	const struct peer_task *t = &plan->task;
	const libxsmm_blasint strip = (libxsmm_blasint)plan->strip, m = (libxsmm_blasint)t->m;
	const libxsmm_blasint k = (libxsmm_blasint)t->k, n = (libxsmm_blasint)t->n;
	const float one = 1, zero = 0;
	const int vnni = LIBXSMM_GEMM_FLAGS('N', 'N') | LIBXSMM_GEMM_FLAG_VNNI_A;

	libxsmm_init();
	/* Version 1.17 takes AMX for granted where the processor has it, allowed by the system or not. */
	if (libxsmm_get_target_archid() > LIBXSMM_X86_AVX512_CPX)
		libxsmm_set_target_archid(LIBXSMM_X86_AVX512_CPX);
	plan->bf16 = t->k % 2 ? NULL : libxsmm_bsmmdispatch(strip, m, k, &strip, &k, &n, &one, &zero, &vnni, NULL);
	if (!plan->bf16)
		plan->f32 = libxsmm_smmdispatch(strip, m, k, &strip, &k, &n, &one, &zero, NULL, NULL);
	return plan->bf16 || plan->f32;
}

static struct peer_plan *open_plan(const struct peer_task *task, struct octavo_error *why)
{
	struct peer_plan *plan = calloc(1, sizeof *plan + task->m * task->k * sizeof *plan->x);

	if (!plan) {
		snprintf(why->text, sizeof why->text, "out of memory");
		return NULL;
	}
	plan->task = *task;
	plan->strip = task->n % 64 == 0 ? 64 : task->n % 32 == 0 ? 32 : 16;
	for (size_t i = 0; i < task->m * task->k; i++)
		plan->x[i] = octavo_bf16_decode(task->x[i]);
	if (task->n % plan->strip == 0 && dispatch(plan))
		return plan;
	snprintf(why->text, sizeof why->text, "libxsmm " LIBXSMM_VERSION " (%s): %s", libxsmm_get_target_arch(),
	         task->n % plan->strip ? "used for multiples of 16 rows only" : "no code for this shape");
	free(plan);
	return NULL;
}

static void close_plan(struct peer_plan *plan)
{
	free(plan);
}

static const char *format(const struct peer_plan *plan)
{
	return plan->bf16 ? "BF16, strips of pairs" : "F32, strips";
}

static size_t element(const struct peer_plan *plan)
{
	return plan->bf16 ? sizeof(uint16_t) : sizeof(float);
}

static size_t bytes(const struct peer_plan *plan)
{
	return plan->task.n * plan->task.k * element(plan);
}

/* [n / strip][k / 2][strip][2] bf16, or [n / strip][k][strip] f32 */
static int pack(struct peer_plan *plan, const uint16_t *w, void *to)
{
	size_t rows = plan->strip, cols = plan->task.k;
	uint16_t *half = to;
	float *single = to;

	for (size_t n = 0; n < plan->task.n; n++)
		for (size_t k = 0; k < cols; k++) {
			size_t strip = n / rows * rows * cols, row = n % rows;
			if (plan->bf16)
				half[strip + (k / 2 * rows + row) * 2 + k % 2] = w[n * cols + k];
			else
				single[strip + k * rows + row] = octavo_bf16_decode(w[n * cols + k]);
		}
	return 0;
}

struct call {
	const struct peer_plan *plan;
	const unsigned char *packed;
	float *y;
	size_t strips, tasks;
};

static void run_strips(void *arg, size_t task)
{
	const struct call *c = arg;
	const struct peer_plan *plan = c->plan;

	for (size_t i = c->strips * task / c->tasks; i < c->strips * (task + 1) / c->tasks; i++) {
		const void *w = c->packed + i * plan->strip * plan->task.k * element(plan);
		float *y = c->y + i * plan->strip;
		if (plan->bf16)
			plan->bf16(w, (const libxsmm_bfloat16 *)plan->task.x, y);
		else
			plan->f32(w, plan->x, y);
	}
}

static int run(struct peer_plan *plan, const void *packed, float *y)
{
	size_t strips = plan->task.n / plan->strip, tasks = 4 * plan->task.threads;
	struct call call = {plan, packed, y, strips, tasks < strips ? tasks : strips};

	plan->task.parallel->run(plan->task.parallel->context, call.tasks, run_strips, &call);
	return 0;
}

static const struct peer_library library = {"xsmm", "libxsmm-dev", open_plan, close_plan, format, bytes, pack, run};

extern OCTAVO_API const struct peer_module specbench_peer_module;
const struct peer_module specbench_peer_module = {PEER_MODULE_VERSION, &library};
