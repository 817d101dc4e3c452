#include <signal.h>
#include <unistd.h>

#include "base/alloc.h"

#include "agent/proctree.h"

#include "agent/prockill.h"

enum {
	PASSES = 200,
	PASS_EVERY = 5000, /* us */
	PIDS = 32768,
};

/* SIGKILL to those that live; how many they were. */
static size_t
kill_all(const pid_t *pids, size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (!proctree_dead(pids[i]) && kill(pids[i], SIGKILL) == 0)
			n++;
	return n;
}

static size_t
find_below(pid_t top, pid_t *pids)
{
	size_t count = proctree_add(pids, 0, PIDS, top);

	for (size_t i = 0; i < count; i++)
		count = proctree_add(pids, count, PIDS, pids[i]);
	return count;
}

void
prockill_below(pid_t top)
{
	pid_t *pids = alloc_array(PIDS, sizeof(*pids));
	size_t n = 1;

	for (int i = 0; pids != NULL && n > 0 && i < PASSES; i++) {
		/* First, or it would come back while they die. */
		(void)kill(top, SIGCONT);
		n = kill_all(pids, find_below(top, pids));
		(void)usleep(PASS_EVERY);
	}
	alloc_free(pids);
}
