/*
 * runner_dir: what lies in a command's directory, and what to conclude.
 *
 * Blocking; for a start or a worker thread.
 */
#ifndef AGENT_RUNNER_DIR_H
#define AGENT_RUNNER_DIR_H

#include "base/arena.h"
#include "io/file.h"

enum { RUNNER_PATH = 4096 };

/* a/b or a/b/c in a fresh string of the arena; NULL without memory. */
char *dir_path(struct arena *a, const char *x, const char *y, const char *z);

/*
 * The verdict on cmd/<id> (spec/decisions.md 13.3).  0 and *exit, a valid
 * record in the arena: the holder's, or one of outcome unknown that this has
 * just made durable.  ERR_BUSY: a holder has it.  Other ERR_*: no verdict.
 * cgroup may be NULL; what is left in the command's own is killed.
 */
int dir_verdict(struct file_layer *fs, const char *cmd, const char *id,
    const char *cgroup, struct arena *a, struct slice *exit);

/* The dispatch number in the claim; 0 when it cannot be read. */
/*
 * The first part of a stream ("out", "err") that was dropped and ends behind
 * an offset: 0 and [*from, *to), or ERR_NOT_FOUND.
 */
int dir_gap(struct file_layer *fs, const char *cmd, const char *id,
    const char *stream, uint64_t at, uint64_t *from, uint64_t *to);

/* Bytes of output here that were not acknowledged. */
uint64_t dir_unsent(
    const char *cmd, const char *id, const uint64_t acked[2], struct arena *a);

uint64_t dir_seq(
    struct file_layer *fs, const char *cmd, const char *id, struct arena *a);

/* Kill what is in the command's own cgroup below this one. */
void dir_kill(
    const char *cgroup, const char *cmd, const char *id, struct arena *a);

/* Take it away, atomically first by name; 0 or ERR_*. */
int dir_remove(const char *cmd, const char *id, struct arena *a);

/* What a removal that was cut short has left under its interim name. */
void dir_sweep(const char *cmd, const char *name, struct arena *a);

#endif
