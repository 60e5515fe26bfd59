/* SPDX-License-Identifier: Apache-2.0
 *
 * oneDNN's C interface as versions 2 and 3 both have it, and its threads.
 */
#ifndef OCTAVO_BACKEND_ONEDNN_H
#define OCTAVO_BACKEND_ONEDNN_H

#include "octavo_base.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if DNNL_VERSION_MAJOR > 3 || (DNNL_VERSION_MAJOR == 3 && DNNL_VERSION_MINOR >= 4)
#define NN_E4M3 1
#endif

/* ---- Descriptions: structs in version 2, handles since version 3 ------------------------------------------------ */

typedef dnnl_memory_desc_t nn_md;

#if DNNL_VERSION_MAJOR < 3
typedef const dnnl_memory_desc_t *nn_const_md;
#define NN_MD(md) (md)

static inline dnnl_status_t nn_strided(nn_md *md, int ndims, const dnnl_dims_t dims, dnnl_data_type_t type,
                                       const dnnl_dims_t strides)
{
	return dnnl_memory_desc_init_by_strides(md, ndims, dims, type, strides);
}

static inline dnnl_status_t nn_matmul_create(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const nn_md *x,
                                             const nn_md *w, const nn_md *y, dnnl_primitive_attr_t attr)
{
	dnnl_matmul_desc_t matmul;
	dnnl_status_t status = dnnl_matmul_desc_init(&matmul, x, w, NULL, y);

	return status ? status : dnnl_primitive_desc_create(out, &matmul, attr, engine, NULL);
}

static inline dnnl_status_t nn_copy(nn_md *to, nn_const_md from)
{
	*to = *from;
	return dnnl_success;
}
#else
typedef const_dnnl_memory_desc_t nn_const_md;
#define NN_MD(md) (*(md))

static inline dnnl_status_t nn_strided(nn_md *md, int ndims, const dnnl_dims_t dims, dnnl_data_type_t type,
                                       const dnnl_dims_t strides)
{
	return dnnl_memory_desc_create_with_strides(md, ndims, dims, type, strides);
}

static inline dnnl_status_t nn_matmul_create(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const nn_md *x,
                                             const nn_md *w, const nn_md *y, dnnl_primitive_attr_t attr)
{
	return dnnl_matmul_primitive_desc_create(out, engine, *x, *w, NULL, *y, attr);
}

static inline dnnl_status_t nn_copy(nn_md *to, nn_const_md from)
{
	return dnnl_memory_desc_clone(to, from);
}
#endif

static inline size_t nn_bytes(const nn_md *md)
{
	return dnnl_memory_desc_get_size(NN_MD(md));
}

static inline dnnl_status_t nn_memory(dnnl_memory_t *out, const nn_md *md, dnnl_engine_t engine, void *at)
{
	return dnnl_memory_create(out, NN_MD(md), engine, at);
}

/* A matmul whose scratch memory the caller brings: only so may several threads use one primitive. */
static inline dnnl_status_t nn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const nn_md *x, const nn_md *w,
                                      const nn_md *y)
{
	dnnl_primitive_attr_t attr;
	dnnl_status_t status = dnnl_primitive_attr_create(&attr);

	if (status)
		return status;
	status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
	if (!status)
		status = nn_matmul_create(out, engine, x, w, y, attr);
	dnnl_primitive_attr_destroy(attr);
	return status;
}

static inline dnnl_status_t nn_scratch(nn_md *out, dnnl_primitive_desc_t description)
{
	return nn_copy(out, dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0));
}

/* ---- Threads ---------------------------------------------------------------------------------------------------- */

/* Whether this oneDNN's threads can be kept to one; otherwise writes why not. */
static inline int nn_threads_known(struct octavo_error *why)
{
	const dnnl_version_t *v = dnnl_version();
	int known = v->cpu_runtime == DNNL_RUNTIME_SEQ;

#ifdef _OPENMP
	known = known || v->cpu_runtime == DNNL_RUNTIME_OMP;
#endif
	if (!known)
		snprintf(why->text, sizeof why->text,
		         "oneDNN %d.%d.%d runs its own threads (runtime %u), which cannot be kept "
		         "to one: a build with OpenMP is needed",
		         v->major, v->minor, v->patch, v->cpu_runtime);
	return known;
}

/* The number of threads is the calling thread's own setting; returns what it was. */
static inline int nn_threads_one(void)
{
#ifdef _OPENMP
	int threads = omp_get_max_threads();
	if (threads > 1)
		omp_set_num_threads(1);
	return threads;
#else
	return 1;
#endif
}

static inline void nn_threads_again(int threads)
{
#ifdef _OPENMP
	if (threads > 1)
		omp_set_num_threads(threads);
#else
	(void)threads;
#endif
}

static inline void nn_explain(struct octavo_error *why, dnnl_status_t status, const char *what)
{
	const dnnl_version_t *v = dnnl_version();

	if (status)
		snprintf(why->text, sizeof why->text, "oneDNN %d.%d.%d cannot do %s on this processor (its status %d)",
		         v->major, v->minor, v->patch, what, (int)status);
}

#endif
