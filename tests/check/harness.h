/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel check harness, in the manner of dav1d's checkasm.
 *
 * A check feeds one slot of the kernel table with many inputs and compares results bit for bit.  It runs once per
 * variant of that slot, that is, per distinct descriptor that octavo_kernels_init can put there on this machine:
 *     level one   any other variant against the reference, never against one another;
 *     level two   the reference against the independent statement of the contract in oracle.c.
 * Both levels share one body: the truth comes from the oracle if check->level_two, else from check->ref.
 *
 *     static void axpy(struct check *check)
 *     {
 *             for (size_t n = 1; n < 40; n++) {
 *                     check_case(check, "n=%zu", n);                  // frees the last case's buffers
 *                     float *x = check_alloc(check, n * sizeof *x, 4); // beside a guard page, or misaligned
 *                     ... three more, filled with check_random ...
 *                     check_run(check, check->new->axpy, got, x, w, n);
 *                     if (check->level_two)
 *                             oracle_axpy(want, x, w, n);
 *                     else
 *                             check_run(check, check->ref->axpy, want, x, w, n);
 *                     check_equal_f32(check, "acc", want, got, 1, n);
 *             }
 *     }
 *
 * A new variant of a slot needs no change here.  A new slot needs an entry in its family's table; until it has one
 * the run fails, because every descriptor must have been called.  The first failure of a check ends that check
 * (check_fail does not return) and the sweep goes on; signals raised by a kernel count as failures.
 */
#ifndef OCTAVO_CHECK_HARNESS_H
#define OCTAVO_CHECK_HARNESS_H

#include "octavo_kernels.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum check_slot {
	SLOT_TABLE, /* not a slot: a check of the table as a whole, once per distinct table */
#define CHECK_SLOT(type, slot) SLOT_##slot,
	OCTAVO_SLOTS(CHECK_SLOT)
#undef CHECK_SLOT
};

struct check {
	const struct octavo_kernels *ref; /* the truth at level one */
	const struct octavo_kernels *new; /* what is tested */
	bool level_two;                   /* `new` is the reference: the truth is the oracle */

	/* The rest belongs to harness.c. */
	uint64_t state;     /* of check_random */
	bool quiet;         /* a mutant: failing is what it is for */
	char where[256];    /* the current case */
	char failure[512];  /* why the check failed; "" while it has not */
	const char *inside; /* name and ISA of the kernel that is running, or NULL */
	const char *inside_isa;
	uint32_t control; /* floating-point control register on entry */
	sigjmp_buf escape;
};

/* One line of a family's table; the table ends with a null name. */
struct check_entry {
	const char *name; /* "gemm_fp8.shapes": the slot and what of it */
	enum check_slot slot;
	void (*run)(struct check *check);
};

extern const struct check_entry check_gemm_entries[], check_attention_entries[], check_rows_entries[],
        check_route_entries[], check_quantise_entries[], check_codec_entries[], check_driver_entries[],
        check_moe_entries[], check_attend_entries[], check_forward_entries[];
/* All of the above, ended by NULL. */
extern const struct check_entry *const check_families[];

/* ---- In the body of a check ---- */

/* Starts a case: remembers its description for the failure message and frees the buffers of the last one. */
void check_case(struct check *check, const char *format, ...) OCTAVO_PRINTF(2, 3);

/* A buffer for this case, filled with 0xAA.  Its address is a multiple of `align`, which divides 64, and otherwise
 * drawn at random: half of the buffers end where an inaccessible page begins, the others start behind one or lie up
 * to 63 bytes off.  The bytes around it are checked after each check_run. */
void *check_alloc(struct check *check, size_t bytes, size_t align);

/* Runs a descriptor of the table; fails if it crashes, changes the floating-point control register, leaves AMX
 * tiles in use or writes beside a buffer. */
#define check_run(check, kernel, ...)                                                                                  \
	(check_enter(check, (kernel)->name, (kernel)->isa, (check_code *)(kernel)->run), (kernel)->run(__VA_ARGS__),   \
	 check_leave(check))
typedef void check_code(void); /* any kernel, for comparison only */
void check_enter(struct check *check, const char *name, const char *isa, check_code *code);
void check_leave(struct check *check);

/* Fails unless both [rows][ld] arrays hold the same bits (any NaN equals any NaN), padding included. */
void check_equal_f32(struct check *check, const char *what, const float *want, const float *got, size_t rows,
                     size_t ld);
void check_equal_bf16(struct check *check, const char *what, const uint16_t *want, const uint16_t *got, size_t count);
void check_equal_u32(struct check *check, const char *what, const uint32_t *want, const uint32_t *got, size_t count);
/* Fails unless |got - want| <= bound, or both are NaN. */
void check_close(struct check *check, const char *what, size_t index, double want, double got, double bound);
/* Ends the check as failed, unless `condition` holds. */
void check_that(struct check *check, bool condition, const char *format, ...) OCTAVO_PRINTF(3, 4);
_Noreturn void check_fail(struct check *check, const char *format, ...) OCTAVO_PRINTF(2, 3);

/* 32 uniform bits; the sequence restarts with each check, so that all variants see the same inputs. */
uint32_t check_random(struct check *check);
/* Uniform in [low, high]. */
size_t check_pick(struct check *check, size_t low, size_t high);
/* A random sign and mantissa, the binary exponent uniform in [low, high]. */
float check_float(struct check *check, int low, int high);
/* The same rounded to BF16's eight bits. */
uint16_t check_bf16(struct check *check, int low, int high);

/* ---- For main.c and mutants.c ---- */

/* Reserves the guarded memory and takes over the fatal signals; false if the system refuses.  Without `guards` no
 * buffer ends or begins at an inaccessible page. */
bool check_open(uint64_t seed, bool guards);
/* What can be run here: octavo_cpu_detect(), and OCTAVO_CPU_AMX where its tiles are emulated. */
uint32_t check_features(void);
/* Whether they are: the AMX kernels' tile instructions are executed by amx_emulator.c, all others by the processor. */
bool check_emulates(void);
/* Runs one check; true if it passed, otherwise check->failure says why. */
bool check_entry_run(struct check *check, const struct check_entry *entry, const struct octavo_kernels *ref,
                     const struct octavo_kernels *new, bool quiet);
/* Whether check_run has called this kernel in this slot. */
bool check_visited(const char *name, check_code *code);

/* Feeds the checks deliberately wrong kernels and, as a control, a right one.  Returns how many verdicts are wrong;
 * *caught is how many wrong kernels were noticed. */
size_t check_mutants(size_t *caught);

#endif
