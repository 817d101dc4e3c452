/*
 * stopfile: the host's own stop, a file STOP in the state directory (agent).
 *
 * Whoever may write there makes it, with `muster-agent stop`, touch or an
 * editor; while it is there nothing runs.  Its first line is the reason.
 */
#ifndef AGENT_STOPFILE_H
#define AGENT_STOPFILE_H

#include <uv.h>

#include "io/loop.h"

#include "agent/stop.h"

enum { STOPFILE_POLL = 500 }; /* ms, where the kernel tells of no changes */

/* Not there is no stop.  Blocks. */
void stopfile_read(const char *path, struct stop_local *out);

/* Make it, durably; one that is there keeps its time and reason.  Remove
 * it: ERR_NOT_FOUND.  Both block.  0 or ERR_*. */
int stopfile_make(const char *path, const char *reason);
int stopfile_remove(const char *path);

struct stopfile {
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
void stopfile_open(struct stopfile *f, struct loop *loop, const char *path,
    const struct stop_local *now,
    void (*changed)(void *arg, const struct stop_local *l, bool known),
    void *arg);
/* Loop turns must follow before f may go. */
void stopfile_close(struct stopfile *f);

#endif
