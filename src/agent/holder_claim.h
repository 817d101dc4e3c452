/*
 * holder_claim: who runs a command, and how it ended (muster-holder).
 *
 * The two commits of the agent's exactly-once mechanism: claim_take makes the
 * first before anything runs, claim_exit the last.
 */
#ifndef AGENT_HOLDER_CLAIM_H
#define AGENT_HOLDER_CLAIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/holder_ctl.h"
#include "agent/holder_order.h"

struct claim {
	int dir;  /* cmd/<id>, owned; also the working directory */
	int file; /* owned; carries the flock */
	bool log; /* the file system logs directory entries with an fsync */
};

/*
 * Make and enter cmd/<id>, lock and commit the claim, listen at ctl.  NULL,
 * or the reason of a refusal (errno says more): "exists" or "io".
 */
const char *claim_take(
    struct claim *c, const struct order *o, struct ctl *ctl, int64_t wall);

/* A stop with a higher epoch than the order's, or a local one, is in force. */
bool claim_stopped(const struct order *o);

/* Note the command's process beside the claim. */
void claim_started(const struct claim *c, pid_t pid);

/* Commit the exit record: 0 or -1 (nothing is left; try again). */
int claim_exit(const struct claim *c, const void *text, size_t len);

/* The directory was removed: nobody will ever read a record. */
bool claim_orphaned(const struct claim *c);

/* Milliseconds of a clock. */
int64_t claim_clock(clockid_t which);

#endif
