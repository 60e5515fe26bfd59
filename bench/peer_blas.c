/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenBLAS and BLIS as peers, loaded at run time by their library names.  SGEMM, or SGEMV for one row, which is what a
 * user of BLAS would call; the weights are F32.
 */
#include "bench/peers.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* CBLAS (www.netlib.org/blas/blast-forum), with its 32-bit integers. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                      const float *b, int ldb, float beta, float *c, int ldc);
typedef void sgemv_fn(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x,
                      int step_x, float beta, float *y, int step_y);

struct peer_plan {
	struct peer_task task;
	sgemm_fn *sgemm;
	sgemv_fn *sgemv;
	float x[]; /* [m][k] */
};

/* dlsym gives an object pointer; POSIX says that it may be read as a function's. */
static int find(void *library, const char *name, void *function)
{
	return (*(void **)function = dlsym(library, name)) ? 0 : -1;
}

static struct peer_plan *open_library(const struct peer_task *task, const char *file, const char *set_threads,
                                      size_t int_size, struct octavo_error *why)
{
	void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL); /* stays */
	struct peer_plan *plan = malloc(sizeof *plan + task->m * task->k * sizeof *plan->x);
	void (*set32)(int);
	void (*set64)(int64_t);

	if (!library || !plan) {
		snprintf(why->text, sizeof why->text, "%s", library ? "out of memory" : dlerror());
		goto fail;
	}
	if (find(library, "cblas_sgemm", &plan->sgemm) || find(library, "cblas_sgemv", &plan->sgemv) ||
	    find(library, set_threads, int_size == sizeof(int) ? (void *)&set32 : (void *)&set64)) {
		snprintf(why->text, sizeof why->text, "%s has no cblas_sgemm or no %s", file, set_threads);
		goto fail;
	}
	if (int_size == sizeof(int))
		set32((int)task->threads);
	else
		set64((int64_t)task->threads);
	plan->task = *task;
	for (size_t i = 0; i < task->m * task->k; i++)
		plan->x[i] = octavo_bf16_decode(task->x[i]);
	return plan;
fail:
	free(plan);
	return NULL;
}

static struct peer_plan *open_openblas(const struct peer_task *task, struct octavo_error *why)
{
	/* Its threads would spin for up to a tenth of a second, into the others' turns; 2^22 cycles are a millisecond.
	 */
	setenv("OPENBLAS_THREAD_TIMEOUT", "22", 0);
	return open_library(task, "libopenblas.so.0", "openblas_set_num_threads", sizeof(int), why);
}

static struct peer_plan *open_blis(const struct peer_task *task, struct octavo_error *why)
{
	return open_library(task, "libblis.so.4", "bli_thread_set_num_threads", sizeof(int64_t), why);
}

static void close_plan(struct peer_plan *plan)
{
	free(plan);
}

static const char *format(const struct peer_plan *plan)
{
	return plan->task.m == 1 ? "F32, sgemv" : "F32, sgemm";
}

static size_t bytes(const struct peer_plan *plan)
{
	return plan->task.n * plan->task.k * sizeof(float);
}

static int pack(struct peer_plan *plan, const uint16_t *w, void *to)
{
	float *value = to;

	for (size_t i = 0; i < plan->task.n * plan->task.k; i++)
		value[i] = octavo_bf16_decode(w[i]);
	return 0;
}

static int run(struct peer_plan *plan, const void *packed, float *y)
{
	int m = (int)plan->task.m, n = (int)plan->task.n, k = (int)plan->task.k;

	if (m == 1)
		plan->sgemv(ROW_MAJOR, NO_TRANS, n, k, 1, packed, k, plan->x, 1, 0, y, 1);
	else
		plan->sgemm(ROW_MAJOR, NO_TRANS, TRANS, m, n, k, 1, plan->x, k, packed, k, 0, y, n);
	return 0;
}

const struct peer_library peer_openblas = {
        "openblas", "libopenblas0-pthread", open_openblas, close_plan, format, bytes, pack, run};
const struct peer_library peer_blis = {"blis", "libblis4-openmp", open_blis, close_plan, format, bytes, pack, run};
