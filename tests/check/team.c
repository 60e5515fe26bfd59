/* SPDX-License-Identifier: Apache-2.0 */
#include "team.h"

#include "fpstate.h"

#include <pthread.h>
#include <stdatomic.h>

struct work {
	octavo_task_fn *fn;
	void *arg;
	size_t tasks;
	atomic_size_t next;
	bool hostile; /* run each task in a floating-point environment that rounds and flushes otherwise */
	atomic_size_t damaged;
};

static void *work_thread(void *arg)
{
	struct work *work = arg;
	if (work->hostile)
		fp_make_hostile();
	uint32_t control = fp_control();
	for (size_t task; (task = atomic_fetch_add(&work->next, 1)) < work->tasks;) {
		/* From the last task to the first, to make order matter if it can. */
		work->fn(work->arg, work->tasks - 1 - task);
		atomic_fetch_add(&work->damaged, fp_control() != control);
	}
	return NULL;
}

void team_run(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	struct team *team = context;
	struct work work = {.fn = fn, .arg = arg, .tasks = tasks, .hostile = team->hostile};
	pthread_t thread[8];
	size_t started = 0;

	while (started < team->threads && pthread_create(&thread[started], NULL, work_thread, &work) == 0)
		started++;
	if (started == 0)
		team->failed++;
	for (size_t i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	team->damaged += atomic_load(&work.damaged);
}
