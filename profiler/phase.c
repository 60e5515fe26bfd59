/* SPDX-License-Identifier: Apache-2.0
 *
 * The hot path: a stack of phases per thread, and who gets what was counted since the last call.
 *
 * Each call reads the clock when it is entered and again when it returns.  What lies before goes to the phases that
 * were open, what lies between is the profiler's own.  Nothing here locks or shares a cache line between threads.
 */
#include <string.h>

#include "profiler/phase.h"

static unsigned position_row(phase_position position)
{
	return position >> 16 & 0xff;
}

static unsigned position_event_row(phase_position position)
{
	return position >> 24;
}

static uint32_t position_open(phase_position position)
{
	return position & 0xffff;
}

/* What of a position concerns backend counters: a change of the rest needs no read of them. */
static phase_position event_part(const struct octavo_profiler *p, phase_position position)
{
	return (position & 0xff000000u) | (position_open(position) & p->event_phases);
}

static phase_position position_within(const struct octavo_profiler *p, phase_position position, unsigned phase)
{
	const unsigned event_row = p->event_phases & (UINT32_C(1) << phase) ? phase + 1 : position_event_row(position);

	return event_row << 24 | (phase + 1) << 16 | position_open(position) | UINT32_C(1) << phase;
}

void octavo_phase_charge_ticks(struct phase_thread *thread, uint64_t now)
{
	const uint64_t spent = now - thread->last_ticks;

	thread->last_ticks = now;
	thread->self_ticks[position_row(thread->position)] += spent;
	for (uint32_t open = position_open(thread->position); open; open &= open - 1)
		thread->inclusive_ticks[1 + __builtin_ctz(open)] += spent;
}

void octavo_phase_read_events(struct phase_thread *thread)
{
	const struct octavo_profiler *p = thread->profiler;

	for (unsigned i = 0; i < p->backends; i++) {
		int error;

		if (!thread->backend_thread[i])
			continue;
		error = p->backend[i]->read(thread->backend_thread[i], thread->last_events);
		if (error) {
			thread->backend_error[i] = error;
			thread->lost |= p->counters[i];
		}
	}
	thread->events_read_at = thread->last_ticks;
}

void octavo_phase_charge_events(struct phase_thread *thread)
{
	const unsigned row = position_event_row(thread->event_position);
	uint64_t before[OCTAVO_COUNTER_COUNT];

	memcpy(before, thread->last_events, sizeof before);
	octavo_phase_read_events(thread);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		const uint64_t grown = thread->last_events[c] - before[c];

		if (grown > INT64_MAX) { /* backwards: scaled or badly emulated counters do it */
			thread->lost |= OCTAVO_BIT(c);
			continue;
		}
		thread->self_events[row][c] += grown;
		for (uint32_t open = position_open(thread->event_position); open; open &= open - 1)
			thread->inclusive_events[1 + __builtin_ctz(open)][c] += grown;
	}
}

/* Takes up a new position: the events so far still belong to the old one. */
static void move_to(struct phase_thread *thread, phase_position position)
{
	const phase_position events = event_part(thread->profiler, position);

	if (events != thread->event_position) {
		if (thread->profiler->backends)
			octavo_phase_charge_events(thread);
		thread->event_position = events;
	}
	thread->position = position;
}

static void return_to_caller(struct phase_thread *thread)
{
	const uint64_t now = thread->profiler->clock.ticks();

	thread->overhead_ticks += now - thread->last_ticks;
	thread->last_ticks = now;
}

/* The state of the calling thread with everything charged up to now; NULL if there is nothing to do. */
static struct phase_thread *enter_call(struct octavo_profiler *p)
{
	struct phase_thread *thread = p ? octavo_phase_thread_find(p) : NULL;

	if (thread)
		octavo_phase_charge_ticks(thread, p->clock.ticks());
	return thread;
}

/* The position after one more begin. */
static phase_position push(struct phase_thread *thread, phase_position position, enum octavo_phase phase)
{
	if ((unsigned)phase >= OCTAVO_PHASE_COUNT) {
		thread->mismatches++;
		return position;
	}
	if (thread->depth == PHASE_DEPTH) {
		thread->mismatches++;
		thread->overflow++;
		return position;
	}
	thread->stack[thread->depth] = position;
	thread->phase[thread->depth++] = (uint8_t)phase;
	thread->calls[1 + phase]++;
	return position_within(thread->profiler, position, phase);
}

/* The position after an end.  One that skips open phases ends these too; one that was never begun does nothing. */
static phase_position pop(struct phase_thread *thread, phase_position position, enum octavo_phase phase)
{
	unsigned depth = thread->depth;

	if (thread->overflow) {
		thread->overflow--;
		return position;
	}
	while (depth && thread->phase[depth - 1] != phase)
		depth--;
	if (!depth) {
		thread->mismatches++;
		return position;
	}
	thread->mismatches += thread->depth - depth;
	thread->depth = depth - 1;
	return thread->stack[depth - 1];
}

void octavo_phase_begin(struct octavo_profiler *p, enum octavo_phase phase)
{
	struct phase_thread *thread = enter_call(p);

	if (!thread)
		return;
	move_to(thread, push(thread, thread->position, phase));
	return_to_caller(thread);
}

void octavo_phase_end(struct octavo_profiler *p, enum octavo_phase phase)
{
	struct phase_thread *thread = enter_call(p);

	if (!thread)
		return;
	move_to(thread, pop(thread, thread->position, phase));
	return_to_caller(thread);
}

void octavo_phase_switch(struct octavo_profiler *p, enum octavo_phase from, enum octavo_phase to)
{
	struct phase_thread *thread = enter_call(p);

	if (!thread)
		return;
	move_to(thread, push(thread, pop(thread, thread->position, from), to));
	return_to_caller(thread);
}

uint32_t octavo_phase_token(const struct octavo_profiler *p)
{
	/* Finding a thread for the first time adds it to the profiler's list, which is no part of its value. */
	const struct phase_thread *thread = p ? octavo_phase_thread_find((struct octavo_profiler *)p) : NULL;

	return thread ? thread->position : 0;
}

void octavo_worker_enter(struct octavo_profiler *p, uint32_t token)
{
	struct phase_thread *thread = p ? octavo_phase_thread_find(p) : NULL;

	if (!thread || thread->is_owner)
		return;
	if (position_row(token) >= PHASE_ROWS || position_event_row(token) >= PHASE_ROWS ||
	    position_open(token) >> OCTAVO_PHASE_COUNT) {
		thread->mismatches++;
		token = 0;
	}
	/* A worker that shares in a region of its own is already where it belongs. */
	if (thread->adopted++)
		return;
	thread->depth_at_enter = thread->depth;
	if (thread->depth)
		return;
	thread->last_ticks = p->clock.ticks();
	move_to(thread, token);
	thread->last_ticks = p->clock.ticks();
}

void octavo_worker_leave(struct octavo_profiler *p)
{
	struct phase_thread *thread = p ? octavo_phase_thread_find(p) : NULL;

	if (!thread || thread->is_owner)
		return;
	if (!thread->adopted) {
		thread->mismatches++;
		return;
	}
	if (--thread->adopted || thread->depth_at_enter)
		return;
	octavo_phase_charge_ticks(thread, p->clock.ticks());
	thread->mismatches += thread->depth + thread->overflow;
	thread->depth = 0;
	thread->overflow = 0;
	thread->position = 0;
	/* Regions come by the hundred per token: a read at each would cost more than some of them. */
	if (p->backends && thread->last_ticks - thread->events_read_at >= p->event_period)
		octavo_phase_charge_events(thread);
}

void octavo_worker_end(struct octavo_profiler *p)
{
	struct phase_thread *thread = p ? octavo_phase_thread_known(p) : NULL;

	if (!thread || thread->is_owner)
		return;
	octavo_phase_charge_ticks(thread, p->clock.ticks());
	if (p->backends)
		octavo_phase_charge_events(thread);
	octavo_phase_thread_stop(thread);
}
