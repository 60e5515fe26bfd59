/* SPDX-License-Identifier: Apache-2.0
 *
 * Lays the kernel table: the reference first, then each set whose feature groups are all present.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "kernels/hwy_module.h"
#include "kernels/sets.h"

#include <pthread.h>
#include <string.h>

#define BF16_GROUPS (OCTAVO_CPU_AVX512 | OCTAVO_CPU_VBMI | OCTAVO_CPU_BF16)
#define AMX_GROUPS (OCTAVO_CPU_AVX512 | OCTAVO_CPU_VBMI | OCTAVO_CPU_AMX)

/* Ascending: a later set's slots replace an earlier one's. */
static const struct {
	uint32_t needs;
	const struct octavo_kernels *set; /* NULL: Highway's, from its module */
} sets[] = {
        {0, &octavo_set_gemm_ref},
        {0, &octavo_set_gemm_t_ref},
        {0, &octavo_set_attention_ref},
        {0, &octavo_set_rows_ref},
        {0, &octavo_set_codec_ref},
        {0, &octavo_set_route_ref},
        {OCTAVO_CPU_HWY, NULL},
#ifdef HAVE_AVX2
        {OCTAVO_CPU_AVX2, &octavo_set_gemm_avx2},
        {OCTAVO_CPU_AVX2, &octavo_set_gemm_t_avx2},
        {OCTAVO_CPU_AVX2, &octavo_set_attention_avx2},
        {OCTAVO_CPU_AVX2, &octavo_set_rows_avx2},
        {OCTAVO_CPU_AVX2, &octavo_set_codec_avx2},
#endif
#ifdef HAVE_AVX512
        {OCTAVO_CPU_AVX512, &octavo_set_gemm_avx512},
        {OCTAVO_CPU_AVX512, &octavo_set_gemm_t_avx512},
        {OCTAVO_CPU_AVX512, &octavo_set_attention_avx512},
        {OCTAVO_CPU_AVX512, &octavo_set_rows_avx512},
        {OCTAVO_CPU_AVX512, &octavo_set_codec_avx512},
#endif
#ifdef HAVE_AVX512BF16
        {BF16_GROUPS, &octavo_set_gemm_avx512bf16},
        {BF16_GROUPS, &octavo_set_gemm_t_avx512bf16},
        {BF16_GROUPS, &octavo_set_attention_avx512bf16},
#endif
#ifdef HAVE_AMX
        {AMX_GROUPS, &octavo_set_gemm_amx},
        {AMX_GROUPS, &octavo_set_gemm_t_amx},
        {AMX_GROUPS, &octavo_set_attention_amx},
#endif
#ifdef HAVE_NEON
        {OCTAVO_CPU_NEON, &octavo_set_gemm_neon},
        {OCTAVO_CPU_NEON, &octavo_set_gemm_t_neon},
        {OCTAVO_CPU_NEON, &octavo_set_attention_neon},
        {OCTAVO_CPU_NEON, &octavo_set_rows_neon},
        {OCTAVO_CPU_NEON, &octavo_set_codec_neon},
#endif
};

void octavo_kernels_overlay(struct octavo_kernels *table, const struct octavo_kernels *set)
{
#define OVERLAY_SLOT(type, slot)                                                                                       \
	if (set->slot)                                                                                                 \
		table->slot = set->slot;
	OCTAVO_SLOTS(OVERLAY_SLOT)
#undef OVERLAY_SLOT
}

/* Highway's best for this CPU, or nothing. */
static void overlay_hwy(struct octavo_kernels *table)
{
	const struct octavo_module_set *set;
	const char *reason;

	if (octavo_hwy_sets(&set, &reason) > 0)
		octavo_kernels_overlay(table, set->set);
}

void octavo_kernels_init(struct octavo_kernels *table, uint32_t cpu)
{
	memset(table, 0, sizeof *table);
	for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
		if ((cpu & sets[i].needs) != sets[i].needs)
			continue;
		if (sets[i].set)
			octavo_kernels_overlay(table, sets[i].set);
		else
			overlay_hwy(table);
	}
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct octavo_kernels best;

static void init_best(void)
{
	octavo_kernels_init(&best, octavo_cpu_detect());
}

const struct octavo_kernels *octavo_kernels_get(void)
{
	pthread_once(&once, init_best);
	return &best;
}
