/*
 * runner: the agent's side of commands; holders do the holding (agent).
 *
 * Life: runner_new, runner_adopt once (what an earlier agent left is told of
 * by the same callbacks), then runner_start and the rest; runner_close lets go
 * of every holder without touching its command, and calls closed when the
 * memory may go.
 *
 * A run is known from runner_start or runner_adopt until runner_forget, which
 * removes what is on disk: to be called when the controller has it all.
 * Everything belongs to the loop's thread; the process ignores SIGPIPE.
 * Callbacks may call anything here but runner_free; a run they are given stays
 * valid until it is forgotten.
 */
#ifndef AGENT_RUNNER_H
#define AGENT_RUNNER_H

#include "base/heap.h"
#include "base/map.h"

#include "agent/holder_proto.h"
#include "agent/journal.h"
#include "agent/record.h"

struct loop;
struct run;
struct runner;

enum run_state {
	RUN_STARTING, /* ordered, or being attached to */
	RUN_RUNNING,
	RUN_ENDED,   /* its record is durable */
	RUN_REFUSED, /* the holder said no; nothing ran */
	RUN_STATES,
};

struct run_input {
	uint64_t received; /* safe in the holder: may be acknowledged */
	uint64_t consumed; /* runner_input may go HOLDER_INPUT_WINDOW beyond */
	bool closed;
};

struct run_output {
	uint64_t size[2]; /* of out and err */
	unsigned flags;   /* enum holder_grew */
};

struct runner_ops {
	/* Not called for one that had ended before we heard of it. */
	void (*started)(void *arg, struct run *r, int64_t pid);
	/* More to read, once per runner_more; or an end, or a full spool. */
	void (*output)(void *arg, struct run *r, const struct run_output *o);
	void (*input)(void *arg, struct run *r, const struct run_input *i);
	/* What runner_read said ERR_AGAIN of can be read now. */
	void (*fetched)(void *arg, struct run *r);
	/* x is borrowed.  outcome "unknown": started, and nobody saw how it
	 * ended; it will never be started again. */
	void (*ended)(void *arg, struct run *r, const struct record_exit *x);
	/* reason: exists stopped version order io holder */
	void (*refused)(
	    void *arg, struct run *r, struct slice reason, struct slice error);
	/* After an end: the last process that had stayed behind is gone. */
	void (*gone)(void *arg, struct run *r);
	/* Halted, and nothing is left that could be killed; again when more
	 * is known of what was killed. */
	void (*quiet)(void *arg);
	void (*closed)(void *arg);
};

/* What a stop did to one run; pids as the holder's texts have them. */
struct run_kill {
	struct slice id;
	uint64_t count, took_ms;
	struct slice pids, left;
};

struct runner_config {
	struct loop *loop; /* borrowed, as all that follows */
	struct file_layer *fs;
	const char *state;  /* absolute; cmd/ is made in it */
	const char *holder; /* the program */
	const char *cgroup; /* NULL: none may be used */
	const char *stop;   /* a file that forbids to start; NULL: none */
	size_t pool;        /* idle holders kept ready */
	size_t cap;         /* runs known at a time */
	const struct runner_ops *ops;
	void *arg;
};

/* What to run; borrowed during the call.  Zero means the default. */
struct run_order {
	struct slice id; /* of [A-Za-z0-9_-] */
	uint64_t seq, epoch;
	const struct slice *argv, *env; /* env: "NAME=value", all of it */
	size_t argc, envc;
	struct slice cwd;
	const char *user; /* to become; NULL = stay */
	bool input, drop, keep_lingering;
	msec timeout;
	uint64_t cap;
	msec int_ms, term_ms, drain_ms; /* steps of an interrupt */
};

/* 0 or ERR_*: ERR_CORRUPT and ERR_NEWER speak of the journal. */
int runner_new(const struct runner_config *c, struct runner **out);

/* Find what is in cmd/ and take it up: blocks, for the start of an agent. */
int runner_adopt(struct runner *rn);

/*
 * Order a holder to run it.  0; ERR_EXISTS (the run is known here),
 * ERR_DENIED (its number is at or below the mark and nothing is known of it:
 * never to be run), ERR_STOPPED, ERR_NOT_FOUND (no such user), ERR_FULL,
 * ERR_TOO_BIG...
 */
int runner_start(
    struct runner *rn, const struct run_order *o, struct run **out);

struct run *runner_find(const struct runner *rn, struct slice id);
struct run *runner_next(const struct runner *rn, size_t *pos);

struct slice run_id(const struct run *r);
uint64_t run_seq(const struct run *r);
enum run_state run_state(const struct run *r);
/* As last heard; right from the started callback on. */
const struct run_input *run_input(const struct run *r);

/* Ask for one output callback, when there is more than seen[] bytes. */
void runner_more(struct run *r, const uint64_t seen[2]);

/*
 * Read the spool: up to n bytes at an offset.  ERR_GONE when *got bytes from
 * there on were acknowledged and pruned, or lost with the host's power.
 * ERR_AGAIN: it must come from a disk, and fetched follows.  n <= 256 KiB.
 */
int runner_read(struct run *r, int stream, uint64_t at, uint8_t *out, size_t n,
    size_t *got);

/* Stored elsewhere up to offset: may be pruned. */
void runner_ack(struct run *r, int stream, uint64_t offset);

/* ERR_FULL beyond the window, ERR_CLOSED after the end, ERR_WRONG_STATE. */
int runner_input(struct run *r, uint64_t at, struct slice data);
int runner_input_end(struct run *r, uint64_t at);

/* Also after the end, for what still lives.  ERR_WRONG_STATE when nothing does.
 */
int runner_signal(struct run *r, enum holder_signal what);

/*
 * Under a stop: kill all trees at once, those of runs found later too, and
 * start nothing (ERR_STOPPED); quiet follows, in a later turn.  Or no longer.
 */
void runner_halt(struct runner *rn, bool halt);
bool runner_quiet(const struct runner *rn);

/* What was killed since it was halted; start with *pos = 0. */
const struct run_kill *runner_next_kill(const struct runner *rn, size_t *pos);

/* Stop reading every command's pipes (the disk's budget is spent), or go on. */
void runner_hold(struct runner *rn, bool hold);

/* So much output of all commands may be here that nobody acknowledged: beyond
 * it they are held back.  0 = any. */
void runner_budget(struct runner *rn, uint64_t bytes);

/* Remove an ended or refused run, in the background; r is gone at once. */
int runner_forget(struct run *r);

/* Highest dispatch number known, for the controller. */
uint64_t runner_mark(const struct runner *rn);

void runner_close(struct runner *rn);

/* After closed was called. */
void runner_free(struct runner *rn);

#endif
