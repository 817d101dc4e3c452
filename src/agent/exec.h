/*
 * exec: one stream of kind exec, on this side (agent; docs/protocol/muster.md
 * section 4).
 *
 * Bytes of the stream come in by exec_feed and go out by exec_put; which
 * stream puts when, and how much, is for whoever has the link and its
 * sched.  Output is read from the spool straight to where it is sent from,
 * so a stream holds a few hundred bytes beside its input.
 *
 * Life: exec_init, exec_feed with the opening first; exec_fini at any time
 * lets go of the command, which lives on.
 */
#ifndef AGENT_EXEC_H
#define AGENT_EXEC_H

#include "base/buf.h"
#include "wire/execframe.h"

#include "agent/account.h"
#include "agent/command.h"
#include "agent/policy.h"
#include "agent/strand.h"

/* What the streams of one link share; borrowed by them. */
struct exec_home {
	struct commands *commands;
	const struct policy *policy;
	const struct account *account; /* NULL: exec_user is not there */
	uint64_t epoch;                /* of the last stop or resume */
	const char *stopped; /* a sentence; NULL: starts are allowed */
};

struct exec {
	struct strand strand;
	struct exec_home *home;
	struct command *command; /* watched; NULL = none */
	struct buf opening;      /* until it is whole */
	struct execframe_reader reader;
	struct buf small;  /* frames to be sent before all else */
	uint64_t at[2];    /* next byte of out and err to send */
	uint64_t told[2];  /* consumed and limit of the last STDIN_ACK */
	uint8_t next;      /* of out and err, whose turn it is */
	bool opened;       /* the opening was read */
	bool stdin_wanted; /* the controller means to send input */
	bool started;      /* STARTED was queued */
	bool waits;        /* for output that is not in memory */
	bool exited;       /* EXIT or REFUSED was queued */
	bool last;         /* nothing follows what is queued */
};

/* Two of struct command_ops: watchers are execs. */
void exec_changed(void *watcher, struct command *c);
void exec_replaced(void *watcher, struct command *c);

void exec_init(struct exec *e, struct exec_home *home, struct strand_home *link,
    uint32_t id);
void exec_fini(struct exec *e);

/* The same on the heap, which the strand's free undoes; NULL without memory.
 * The link goes by the strand, others by what follows. */
struct strand *exec_new(
    struct exec_home *home, struct strand_home *link, uint32_t id);

/*
 * Bytes from the controller.  0, or ERR_* and the stream is to be reset:
 * ERR_UNSUPPORTED (another kind), ERR_PROTOCOL, ERR_RANGE, ERR_FULL...
 */
int exec_feed(struct exec *e, struct slice data);

/* The controller sends no more. */
void exec_ended(struct exec *e);

/* Write up to room bytes to be sent next, *n of them; 0 is nothing for now.
 * 0, or ERR_* and the stream is to be reset. */
int exec_put(struct exec *e, uint8_t *out, size_t room, size_t *n);

/* The window is open again, or something else may have changed. */
void exec_look(struct exec *e);

/* All is sent, and no more will come from us: the link ends its direction
 * of the stream, sets finished and calls exec_look. */
bool exec_done(const struct exec *e);

#endif
