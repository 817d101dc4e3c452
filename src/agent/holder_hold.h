/*
 * holder_hold: the state of a holder, shared by its files (muster-holder).
 *
 *	holder.c        the loop, what is heard, how it ends
 *	holder_words.c  what the agent is told, and the exit record
 */
#ifndef AGENT_HOLDER_HOLD_H
#define AGENT_HOLDER_HOLD_H

#include <sys/resource.h>

#include "agent/holder_child.h"
#include "agent/holder_claim.h"
#include "agent/holder_ctl.h"
#include "agent/holder_feed.h"
#include "agent/holder_order.h"
#include "agent/holder_proto.h"
#include "agent/holder_spool.h"
#include "agent/holder_tree.h"

enum phase { STARTING, RUNNING, DRAINING, DONE, OVER };
enum step { CALM, INTERRUPTED, TERMINATED, KILLING };

enum { HOLD_BY_TIMEOUT = 5 }; /* beside enum holder_signal, as a reason */

struct hold {
	enum phase phase;
	enum step step;
	int reason; /* enum holder_signal, or HOLD_BY_TIMEOUT */
	bool swept; /* no process is left */
	bool reaped;
	int status; /* of the main process */
	struct rusage usage;
	int64_t now, wall, start, died; /* monotonic ms but wall */
	int64_t deadline, step_at, drain_at, retry_at, leave_at; /* 0 none */
	int children;                                            /* signalfd */
	int64_t kill_at, kill_every; /* KILLING: the next pass */
	int kill_grew;               /* passes that found new processes */
	bool childless;              /* nothing is left to wait for */
	int64_t stop_at;             /* when a stop was asked for; 0 none */
	int64_t stop_ms;             /* and how long until nothing was left */
	bool gave_up;           /* some outlived KILL_GIVE_UP_MS of SIGKILL */
	struct tree_names left; /* who, then */
	size_t lingering;
	struct child_fault fault;
	size_t exit_len;
	struct child child;
	struct claim claim;
	struct tree tree;
	struct syncer syncer;
	struct spool spool[2];
	struct feed feed;
	struct ctl ctl;
	struct order order;
	char exit[HOLDER_TEXT_MAX];
};

/* On every connection: say this by and by (enum ctl_owes). */
void hold_owe(struct hold *h, unsigned what);

/* Say what is owed, as far as the socket takes it. */
void hold_tell(struct hold *h, struct ctl_conn *c);

/* Make the exit record of what h knows; outcome, stage and error in words. */
void hold_write_exit(struct hold *h, const char *outcome, const char *stage,
    const char *error, int code);

/* The outcome of a command that ran, and its exit code. */
const char *hold_outcome(const struct hold *h);
int hold_exit_code(const struct hold *h);

#endif
