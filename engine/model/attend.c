/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/model/attend.h"

void octavo_attend_carve(struct octavo_arena *a, struct octavo_attend *s, size_t heads, size_t v_dim)
{
	size_t queries = OCTAVO_CHAIN_ROWS * heads;
	for (int i = 0; i < 2; i++) {
		s->o[i] = octavo_carve(a, queries * v_dim, sizeof *s->o[i]);
		s->m[i] = octavo_carve(a, queries, sizeof *s->m[i]);
		s->l[i] = octavo_carve(a, queries, sizeof *s->l[i]);
	}
	s->end = octavo_carve(a, queries, sizeof *s->end);
	s->p = octavo_carve(a, queries * OCTAVO_SEGMENT, sizeof *s->p);
}

size_t octavo_chain_length(const struct octavo_geometry *g, size_t row)
{
	size_t rows = 1;
	while (rows < OCTAVO_CHAIN_ROWS && row + rows < g->rows && g->chained[row + rows] &&
	       g->naive[row + rows] == g->naive[row])
		rows++;
	return rows;
}

void octavo_attend(const struct octavo_engine *e, struct octavo_attend *s, struct octavo_attention a, size_t row,
                   size_t rows, size_t heads)
{
	const struct octavo_kernels *k = e->k;
	const struct octavo_geometry *g = &e->geometry;
	const uint16_t *q = a.q;
	size_t tokens = g->pos[row + rows - 1] + 1;
	a.committed = g->committed[row];
	a.path = g->path + (row + rows - 1) * g->path_ld; /* the others' paths are its beginnings */
	a.p = s->p;
	a.end = s->end;
	for (size_t t0 = 0; t0 < tokens; t0 += OCTAVO_SEGMENT) {
		size_t first = 0; /* the chain's first row that reaches this segment */
		while (g->pos[row + first] < t0)
			first++;
		int later = t0 > 0;
		size_t at = first * heads;
		a.t0 = t0;
		a.t1 = tokens < t0 + OCTAVO_SEGMENT ? tokens : t0 + OCTAVO_SEGMENT;
		a.q = q + at * a.ldq;
		a.heads = (rows - first) * heads;
		for (size_t i = 0; i < a.heads; i++) {
			size_t own = g->pos[row + first + i / heads] + 1;
			s->end[i] = own < a.t1 ? own : a.t1;
		}
		a.m = s->m[later] + at;
		a.l = s->l[later] + at;
		a.o = s->o[later] + at * a.v_dim;
		k->attention->run(&a);
		if (later)
			k->attention_merge->run(a.heads, a.v_dim, s->m[0] + at, s->l[0] + at, s->o[0] + at * a.v_dim, a.m, a.l,
			                        a.o);
	}
	k->attention_finish->run(rows * heads, a.v_dim, s->o[0], s->l[0]);
}
