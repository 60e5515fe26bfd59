/* SPDX-License-Identifier: Apache-2.0
 *
 * oneDNN as a peer: BF16 weights in the layout that it chooses itself, packed beforehand, on its own threads.
 */
#include "bench/peers.h"

#include <oneapi/dnnl/dnnl.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdio.h>
#include <stdlib.h>

struct peer_plan {
	struct peer_task task;
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	dnnl_primitive_desc_t description;
	dnnl_primitive_t primitive;
	dnnl_memory_t x, w, y;
	char format[64];
};

/* Descriptions are structs in version 2 and handles since version 3. */
#if DNNL_VERSION_MAJOR < 3
typedef const dnnl_memory_desc_t *layout;

static dnnl_status_t describe(dnnl_memory_desc_t *md, const dnnl_dims_t dims, dnnl_data_type_t type,
                              dnnl_format_tag_t tag, layout *out)
{
	*out = md;
	return dnnl_memory_desc_init_by_tag(md, 2, dims, type, tag);
}

static dnnl_status_t matmul(struct peer_plan *p, layout x, layout w, layout y)
{
	dnnl_matmul_desc_t m;
	dnnl_status_t status = dnnl_matmul_desc_init(&m, x, w, NULL, y);

	return status ? status : dnnl_primitive_desc_create(&p->description, &m, NULL, p->engine, NULL);
}

static dnnl_status_t reorder(dnnl_primitive_desc_t *out, layout from, layout to, dnnl_engine_t engine)
{
	return dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, NULL);
}

static void forget(dnnl_memory_desc_t *md)
{
	(void)md;
}
#else
typedef const_dnnl_memory_desc_t layout;

static dnnl_status_t describe(dnnl_memory_desc_t *md, const dnnl_dims_t dims, dnnl_data_type_t type,
                              dnnl_format_tag_t tag, layout *out)
{
	dnnl_status_t status = dnnl_memory_desc_create_with_tag(md, 2, dims, type, tag);

	*out = *md;
	return status;
}

static dnnl_status_t matmul(struct peer_plan *p, layout x, layout w, layout y)
{
	return dnnl_matmul_primitive_desc_create(&p->description, p->engine, x, w, NULL, y, NULL);
}

static dnnl_status_t reorder(dnnl_primitive_desc_t *out, layout from, layout to, dnnl_engine_t engine)
{
	return dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, NULL);
}

static void forget(dnnl_memory_desc_t *md)
{
	dnnl_memory_desc_destroy(*md);
}
#endif

static layout weights_layout(const struct peer_plan *p)
{
	return dnnl_primitive_desc_query_md(p->description, dnnl_query_weights_md, 0);
}

/* How many threads oneDNN uses is decided where a primitive is made and where it is run; returns what was set. */
static int use_threads(int threads)
{
#ifdef _OPENMP
	int before = omp_get_max_threads();
	omp_set_num_threads(threads);
	return before;
#else
	return threads;
#endif
}

static dnnl_status_t make(struct peer_plan *p)
{
	const struct peer_task *t = &p->task;
	const dnnl_dims_t x = {(int64_t)t->m, (int64_t)t->k}, w = {(int64_t)t->k, (int64_t)t->n};
	const dnnl_dims_t y = {(int64_t)t->m, (int64_t)t->n};
	dnnl_memory_desc_t md[3] = {0};
	layout as[3];
	const char *code;
	dnnl_status_t status = dnnl_engine_create(&p->engine, dnnl_cpu, 0);

	if (!status)
		status = dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags);
	if (!status)
		status = describe(&md[0], x, dnnl_bf16, dnnl_ab, &as[0]);
	if (!status)
		status = describe(&md[1], w, dnnl_bf16, dnnl_format_tag_any, &as[1]);
	if (!status)
		status = describe(&md[2], y, dnnl_f32, dnnl_ab, &as[2]);
	if (!status)
		status = matmul(p, as[0], as[1], as[2]);
	if (!status)
		status = dnnl_primitive_create(&p->primitive, p->description);
	if (!status)
		status = dnnl_memory_create(&p->x, as[0], p->engine, (void *)t->x);
	if (!status)
		status = dnnl_memory_create(&p->w, weights_layout(p), p->engine, DNNL_MEMORY_NONE);
	if (!status)
		status = dnnl_memory_create(&p->y, as[2], p->engine, DNNL_MEMORY_NONE);
	if (!status)
		status = dnnl_primitive_desc_query(p->description, dnnl_query_impl_info_str, 0, &code);
	if (!status)
		snprintf(p->format, sizeof p->format, "BF16, %s", code);
	for (size_t i = 0; i < 3; i++)
		forget(&md[i]);
	return status;
}

static void close_plan(struct peer_plan *p)
{
	dnnl_memory_destroy(p->x);
	dnnl_memory_destroy(p->w);
	dnnl_memory_destroy(p->y);
	dnnl_primitive_destroy(p->primitive);
	dnnl_primitive_desc_destroy(p->description);
	dnnl_stream_destroy(p->stream);
	dnnl_engine_destroy(p->engine);
	free(p);
}

static struct peer_plan *open_plan(const struct peer_task *task, struct octavo_error *why)
{
	const dnnl_version_t *v = dnnl_version();
	struct peer_plan *p = calloc(1, sizeof *p);

	if (!p) {
		snprintf(why->text, sizeof why->text, "out of memory");
		return NULL;
	}
	p->task = *task;
	int before = use_threads((int)task->threads);
	dnnl_status_t status = make(p);
	use_threads(before);
	if (!status)
		return p;
	snprintf(why->text, sizeof why->text, "oneDNN %d.%d.%d cannot multiply BF16 on this processor (its status %d)",
	         v->major, v->minor, v->patch, (int)status);
	close_plan(p);
	return NULL;
}

static const char *format(const struct peer_plan *p)
{
	return p->format;
}

static size_t bytes(const struct peer_plan *p)
{
	return dnnl_memory_desc_get_size(weights_layout(p));
}

static int pack(struct peer_plan *p, const uint16_t *w, void *to)
{
	const dnnl_dims_t dims = {(int64_t)p->task.k, (int64_t)p->task.n};
	dnnl_memory_desc_t md = {0};
	layout plain;
	dnnl_primitive_desc_t description = NULL;
	dnnl_primitive_t primitive = NULL;
	dnnl_memory_t from = NULL;
	dnnl_status_t status = describe(&md, dims, dnnl_bf16, dnnl_ba, &plain); /* as it lies: [n][k] */

	if (!status)
		status = dnnl_memory_create(&from, plain, p->engine, (void *)w);
	if (!status)
		status = dnnl_memory_set_data_handle(p->w, to);
	if (!status)
		status = reorder(&description, plain, weights_layout(p), p->engine);
	if (!status)
		status = dnnl_primitive_create(&primitive, description);
	const dnnl_exec_arg_t arg[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, p->w}};
	if (!status)
		status = dnnl_primitive_execute(primitive, p->stream, 2, arg);
	if (!status)
		status = dnnl_stream_wait(p->stream);
	dnnl_primitive_destroy(primitive);
	dnnl_primitive_desc_destroy(description);
	dnnl_memory_destroy(from);
	forget(&md);
	return status ? -1 : 0;
}

static int run(struct peer_plan *p, const void *packed, float *y)
{
	const dnnl_exec_arg_t arg[] = {{DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w}, {DNNL_ARG_DST, p->y}};
	int before = use_threads((int)p->task.threads);
	dnnl_status_t status = dnnl_memory_set_data_handle(p->w, (void *)packed);

	if (!status)
		status = dnnl_memory_set_data_handle(p->y, y);
	if (!status)
		status = dnnl_primitive_execute(p->primitive, p->stream, 3, arg);
	if (!status)
		status = dnnl_stream_wait(p->stream);
	use_threads(before);
	return status ? -1 : 0;
}

static const struct peer_library library = {"onednn", "libdnnl-dev", open_plan, close_plan, format, bytes, pack, run};

extern OCTAVO_API const struct peer_module specbench_peer_module;
const struct peer_module specbench_peer_module = {PEER_MODULE_VERSION, &library};
