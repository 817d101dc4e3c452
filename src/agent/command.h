/*
 * command: what one link's commands are, on this side (agent).
 *
 * A layer over the runner that remembers what a stream will ask for:
 * process number, sizes, exit record, and input that the holder has no room
 * for yet.  Commands outlive streams, links and the agent; at most one stream
 * watches a command, the newest.
 *
 * Everything belongs to the loop's thread.
 */
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include "base/buf.h"
#include "base/map.h"
#include "base/stamp.h"

#include "agent/runner.h"

enum {
	COMMAND_INPUT = 256 * 1024, /* credit beyond what was taken */
	COMMAND_CAP = 4096,         /* known at a time */
	COMMAND_WORD = 64,
	COMMAND_WHY = 256,
};

struct command {
	struct commands *home; /* borrowed */
	struct run *run;       /* borrowed from the runner */
	void *watcher;         /* borrowed: the stream; NULL = none */
	int64_t pid;           /* 0: not known */
	wall_msec started_at;
	uint64_t size[2];  /* of out and err */
	uint64_t acked[2]; /* by the controller */
	struct record_exit exit;
	char reason[COMMAND_WORD]; /* RUN_REFUSED: see runner.h */
	char error[COMMAND_WHY];
	struct buf input;     /* from input_at on, not yet with the holder */
	uint64_t input_at;    /* given to the holder before it */
	uint64_t input_taken; /* safe in the holder, or nobody's any more */
	uint64_t input_end;   /* where it ends, once input_ended */
	bool input_ended, input_closed, input_told;
	bool asked;      /* runner_more is outstanding */
	bool waits;      /* its spool was full when last heard of */
	bool forgetting; /* DONE came while something of it lives */
};

/* What a watcher is told, from the loop. */
struct command_ops {
	/* Started, grew, ended, refused or took input: look again. */
	void (*changed)(void *watcher, struct command *c);
	/* Another one watches now: let go of the command. */
	void (*replaced)(void *watcher, struct command *c);
	/* As runner_ops.quiet, with commands_config.arg. */
	void (*quiet)(void *arg);
	void (*closed)(void *arg); /* after commands_close */
};

struct commands_config {
	struct loop *loop;
	const char *dir; /* of the link */
	const char *holder;
	const char *cgroup; /* as runner_config; NULL: none */
	const char *stop;   /* as runner_config */
	bool halted;        /* from the beginning: kills what it takes up */
	const struct command_ops *ops;
	void *arg;
};

struct commands {
	struct commands_config config;
	struct runner *runner; /* owned */
	struct map map;        /* by id */
	double tokens;         /* starts that the rate allows now */
	msec refilled;
};

/* Takes up what an earlier agent left; blocks.  0 or ERR_*. */
int commands_open(struct commands *cs, const struct commands_config *c);
/* Let go of everything without touching it; ops->closed follows. */
void commands_close(struct commands *cs);
void commands_free(struct commands *cs);

struct command *commands_find(const struct commands *cs, struct slice id);
struct command *commands_next(const struct commands *cs, size_t *pos);
size_t commands_running(const struct commands *cs);
/* Whether one of them waits for room in its spool. */
bool commands_waiting(const struct commands *cs);

/* As runner_start; ERR_LIMITED when rate (a minute, 0 = any) is used up. */
int commands_start(struct commands *cs, const struct run_order *o,
    uint64_t rate, msec now, struct command **out);

void command_watch(struct command *c, void *watcher);
void command_unwatch(struct command *c, void *watcher);

/* running exited unknown, as `resume` wants it. */
const char *command_state(const struct command *c);

/*
 * Input at an offset: what is already here is skipped.  0, ERR_RANGE (a
 * hole), ERR_FULL (beyond the credit), ERR_NOMEM.
 */
int command_input(struct command *c, uint64_t at, struct slice data);
int command_input_end(struct command *c, uint64_t at);
uint64_t command_input_limit(const struct command *c);

void command_ack(struct command *c, int stream, uint64_t offset);
/* Nobody needs it: remove it, at once or when all of it has ended.  c may be
 * gone afterwards. */
void command_forget(struct command *c);

#endif
