/*
 * localstop: the host's own stop, a file STOP in the state directory (agent).
 *
 * Whoever may write there makes it, with `muster-agent stop`, touch or an
 * editor; while it is there nothing runs.  Its first line is the reason.
 */
#ifndef AGENT_LOCALSTOP_H
#define AGENT_LOCALSTOP_H

#include <uv.h>

#include "io/loop.h"

#include "agent/stop.h"

enum { LOCALSTOP_POLL = 500 }; /* ms, where the kernel tells of no changes */

/* Not there is no stop.  Blocks. */
void localstop_read(const char *path, struct stop_local *out);

/* Make it, durably; one that is there keeps its time and reason.  Remove
 * it: ERR_NOT_FOUND.  Both block.  0 or ERR_*. */
int localstop_make(const char *path, const char *reason);
int localstop_remove(const char *path);

struct localstop {
	struct loop *loop;
	const char *path; /* borrowed */
	uv_fs_event_t watch;
	struct loop_timer poll;
	struct loop_work work;
	struct stop_local now, read; /* as told; as the worker found it */
	bool reading, open;
	/*
	 * It came or went; known is false when the reason is still being
	 * read: then this is called again.
	 */
	void (*changed)(void *arg, const struct stop_local *l, bool known);
	void *arg;
};

/* Watch path from what `now` says on. */
void localstop_open(struct localstop *f, struct loop *loop, const char *path,
    const struct stop_local *now,
    void (*changed)(void *arg, const struct stop_local *l, bool known),
    void *arg);
/* Loop turns must follow before f may go. */
void localstop_close(struct localstop *f);

#endif
