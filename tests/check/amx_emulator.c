/* SPDX-License-Identifier: Apache-2.0
 *
 * See amx_emulator.h.
 */
#include "amx_emulator.h"

#if defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

struct config {
	uint8_t palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
};
_Static_assert(sizeof(struct config) == 64, "LDTILECFG reads 64 bytes");

/* Of each thread, as in the processor. */
static _Thread_local struct {
	struct config config; /* palette 0: nothing configured */
	uint8_t tile[TILES][ROWS][ROW_BYTES];
} state;

/* ---- Decoding ------------------------------------------------------------------------------------------------ */

/* A three-byte VEX instruction of the 0F38 map with W 0 and L 0. */
struct instruction {
	uint8_t opcode, prefix; /* prefix: VEX.pp, 0 none, 1 66, 2 F3, 3 F2 */
	unsigned reg, rm, vvvv; /* with their VEX extensions */
	bool memory, sib;
	uintptr_t address; /* without the index */
	intptr_t stride;   /* the scaled index */
	size_t length;
};

static greg_t general(const ucontext_t *context, unsigned number)
{
	static const int place[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

	return context->uc_mcontext.gregs[place[number]];
}

/* The ModRM byte's memory operand; `code` stands behind ModRM.  Returns what stands behind the operand. */
static const uint8_t *decode_memory(struct instruction *i, const ucontext_t *context, const uint8_t *code, unsigned mod,
                                    unsigned base, unsigned x, unsigned b)
{
	bool no_base = false;
	int32_t displacement = 0;

	i->sib = base == 4;
	if (i->sib) {
		unsigned index = (*code >> 3 & 7) | x << 3;
		if (index != 4)
			i->stride = general(context, index) * (1 << (*code >> 6));
		base = *code++ & 7;
		no_base = base == 5 && mod == 0;
	}
	bool relative = !i->sib && base == 5 && mod == 0;
	if (mod == 1) {
		displacement = (int8_t)*code++;
	} else if (mod == 2 || no_base || relative) {
		memcpy(&displacement, code, sizeof displacement);
		code += sizeof displacement;
	}
	i->address = (uintptr_t)(intptr_t)displacement;
	if (relative)
		i->address += (uintptr_t)code; /* no immediate follows */
	else if (!no_base)
		i->address += (uintptr_t)general(context, base | b << 3);
	return code;
}

static bool decode(struct instruction *i, const ucontext_t *context)
{
	const uint8_t *start = (const uint8_t *)context->uc_mcontext.gregs[REG_RIP], *code = start;

	*i = (struct instruction){0};
	if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || (code[2] & 0x84) != 0)
		return false;
	unsigned r = ~code[1] >> 7 & 1, x = ~code[1] >> 6 & 1, b = ~code[1] >> 5 & 1;
	i->vvvv = ~code[2] >> 3 & 15;
	i->prefix = code[2] & 3;
	i->opcode = code[3];
	unsigned mod = code[4] >> 6;
	i->reg = (code[4] >> 3 & 7) | r << 3;
	i->rm = (code[4] & 7) | b << 3;
	i->memory = mod != 3;
	code += 5;
	if (i->memory)
		code = decode_memory(i, context, code, mod, i->rm & 7, x, b);
	i->length = (size_t)(code - start);
	return true;
}

/* ---- Executing ----------------------------------------------------------------------------------------------- */

static bool load_config(const struct config *from)
{
	static const uint8_t zero[14];
	struct config c = *from;

	/* Palette 0 would release the tiles: a kernel has an instruction for that. */
	if (c.palette != 1 || c.start_row != 0 || memcmp(c.reserved, zero, sizeof zero) != 0)
		return false;
	for (size_t i = 0; i < 16; i++) {
		bool used = c.rows[i] > 0;
		if (c.rows[i] > ROWS || c.row_bytes[i] > ROW_BYTES || used != (c.row_bytes[i] > 0) ||
		    (used && i >= TILES))
			return false;
	}
	memset(&state, 0, sizeof state);
	state.config = c;
	return true;
}

static bool usable(unsigned tile)
{
	return state.config.palette == 1 && tile < TILES && state.config.rows[tile] > 0;
}

/* Rows in order, as memory faults in between would show. */
static bool load_tile(const struct instruction *i)
{
	if (!usable(i->reg) || !i->sib)
		return false;
	memset(state.tile[i->reg], 0, sizeof state.tile[i->reg]);
	for (size_t row = 0; row < state.config.rows[i->reg]; row++)
		memcpy(state.tile[i->reg][row], (const void *)(i->address + row * (uintptr_t)i->stride),
		       state.config.row_bytes[i->reg]);
	return true;
}

static bool store_tile(const struct instruction *i)
{
	if (!usable(i->reg) || !i->sib)
		return false;
	for (size_t row = 0; row < state.config.rows[i->reg]; row++)
		memcpy((void *)(i->address + row * (uintptr_t)i->stride), state.tile[i->reg][row],
		       state.config.row_bytes[i->reg]);
	return true;
}

/* One row of C: fused multiply-adds into an even and an odd chain from +0, then c + (even + odd). */
__attribute__((noinline, target("avx512f"))) static void
multiply_row(uint8_t *c, const uint8_t *a, const uint8_t (*b)[ROW_BYTES], size_t pairs, size_t columns)
{
	const __mmask16 mask = (__mmask16)((1u << columns) - 1);
	const __m512i high = _mm512_set1_epi32((int)0xFFFF0000);
	__m512 chain[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};

	for (size_t k = 0; k < pairs; k++) {
		int32_t pair;
		memcpy(&pair, a + 4 * k, sizeof pair);
		__m512i x = _mm512_set1_epi32(pair), y = _mm512_loadu_si512(b[k]);
		chain[0] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
		                           _mm512_castsi512_ps(_mm512_slli_epi32(y, 16)), chain[0]);
		chain[1] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, high)),
		                           _mm512_castsi512_ps(_mm512_and_si512(y, high)), chain[1]);
	}
	__m512 sum = _mm512_add_ps(_mm512_loadu_ps(c), _mm512_add_ps(chain[0], chain[1]));
	_mm512_storeu_ps(c, _mm512_maskz_mov_ps(mask, sum));
}

/* TDPBF16PS: subnormals are zero on either side, to nearest even, whatever MXCSR says; no exceptions. */
static bool multiply(unsigned c, unsigned a, unsigned b)
{
	const struct config *s = &state.config;

	if (!usable(a) || !usable(b) || !usable(c) || a == b || a == c || b == c)
		return false;
	if (s->row_bytes[a] % 4 || s->row_bytes[b] % 4 || s->row_bytes[c] % 4)
		return false;
	if (s->rows[c] != s->rows[a] || s->row_bytes[c] != s->row_bytes[b] || s->row_bytes[a] / 4 != s->rows[b])
		return false;
	const unsigned before = _mm_getcsr();
	_mm_setcsr(0x1F80 | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
	for (size_t row = 0; row < s->rows[c]; row++)
		multiply_row(state.tile[c][row], state.tile[a][row], (const uint8_t(*)[ROW_BYTES])state.tile[b],
		             s->rows[b], s->row_bytes[c] / 4);
	_mm_setcsr(before);
	return true;
}

enum { NONE, P66, PF3, PF2 };

static bool execute(const struct instruction *i)
{
	bool plain = i->vvvv == 0;

	switch (i->opcode) {
	case 0x49:
		if (i->prefix == NONE && i->memory && i->reg == 0 && plain) /* LDTILECFG */
			return load_config((const struct config *)i->address);
		if (i->prefix == NONE && !i->memory && i->reg == 0 && i->rm == 0 && plain) { /* TILERELEASE */
			amx_emulator_release();
			return true;
		}
		if (i->prefix == PF2 && !i->memory && i->rm == 0 && plain && usable(i->reg)) { /* TILEZERO */
			memset(state.tile[i->reg], 0, sizeof state.tile[i->reg]);
			return true;
		}
		return false;
	case 0x4B:
		if ((i->prefix == PF2 || i->prefix == P66) && i->memory && plain) /* TILELOADD, TILELOADDT1 */
			return load_tile(i);
		return i->prefix == PF3 && i->memory && plain && store_tile(i); /* TILESTORED */
	case 0x5C:
		return i->prefix == PF3 && !i->memory && multiply(i->reg, i->rm, i->vvvv); /* TDPBF16PS */
	default:
		return false;
	}
}

bool amx_emulate(void *context)
{
	ucontext_t *at = context;
	struct instruction i;

	if (!decode(&i, at) || !execute(&i))
		return false;
	at->uc_mcontext.gregs[REG_RIP] += (greg_t)i.length;
	return true;
}

bool amx_emulator_in_use(void)
{
	return state.config.palette != 0;
}

void amx_emulator_release(void)
{
	memset(&state, 0, sizeof state);
}

#else

bool amx_emulate(void *context)
{
	(void)context;
	return false;
}

bool amx_emulator_in_use(void)
{
	return false;
}

void amx_emulator_release(void)
{
}

#endif
