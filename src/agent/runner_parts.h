/*
 * runner_parts: the insides of the runner, shared by its files (agent).
 *
 *	runner.c        states, frames, what is asked of a run, life
 *	runner_start.c  the pool of idle holders, and orders
 *	runner_room.c   how much output is here
 *	runner_job.c    what waits for the disk: verdicts and removals
 *	runner_stop.c   being under a stop
 *	runner_force.c  holders that do not answer a stop
 *	runner_fetch.c  spools that are not in memory
 */
#ifndef AGENT_RUNNER_PARTS_H
#define AGENT_RUNNER_PARTS_H

#include "io/loop.h"

#include "agent/runner.h"
#include "agent/runner_link.h"
#include "agent/runner_order.h"

enum { RUNNER_ARENA = 64 * 1024 };

struct run {
	struct runner *rn;
	char id[HOLDER_ID_MAX + 1];
	uint64_t seq;
	enum run_state state;
	struct link *link; /* NULL while there is none */
	struct run_input input;
	uint64_t acked[2];
	struct file spool[2]; /* opened when first read */
	struct arena exit;    /* holds the record's text */
	struct loop_timer again;
	bool drops;        /* there may be gaps in its output */
	uint64_t clear[2]; /* no gap begins before this offset */
	bool adopted;      /* an earlier agent's: what it pruned is not known */
	struct buf order;  /* as sent, until it runs */
	unsigned tries;    /* holders that were ordered */
	bool lives;        /* ended, but its holder stays */
	bool dead;         /* the holder saw the last process die */
	bool stuck;        /* the holder kills, and some do not die */
	struct fetch *fetch; /* at work; NULL: none */
	bool fetched;        /* try once more before asking again */
};

/* What the spools of all runs take (runner_room.c). */
struct room_run;
struct room {
	uint64_t limit, used;
	struct loop_timer timer;
	struct loop_work work;
	struct arena arena; /* while a look is under way */
	struct room_run *runs;
	size_t count;
	bool set, busy, full;
};

struct runner {
	struct runner_config c;
	char *cmd; /* <state>/cmd, in names */
	struct arena names;
	struct link_home home;
	struct journal journal;
	struct map runs;
	struct list idle;
	size_t idle_count;
	struct list jobs;     /* the first is being worked on */
	struct list removals; /* jobs that can wait for company */
	size_t removal_count;
	struct loop_timer removing;
	struct loop_task refill;
	struct order_user user; /* the last one looked up */
	struct room room;
	bool hold, closing, told;
	bool halted;             /* under a stop */
	unsigned halts;          /* how often since the start */
	bool news;               /* quiet is to be called, when it is */
	struct loop_timer force; /* holders that do not answer a stop */
	size_t fetches;          /* at work */
	struct force *forcing;   /* owned; NULL: none at work */
	struct map kills;        /* by id, since it was halted: run_kill */
	struct loop_task settle; /* looks whether all is quiet */
};

/* runner.c */
int runner_new_run(
    struct runner *rn, struct slice id, uint64_t seq, struct run **out);
void runner_free_run(struct run *r);
/* It ended; the record's text is copied. */
void runner_end_run(struct run *r, struct slice text);
/* Nothing ran and nothing will. */
void runner_refuse(struct run *r, struct slice reason, struct slice error);
void runner_attach(struct run *r);
void runner_send_hold(struct run *r);
void runner_finish_if_closed(struct runner *rn);

/* runner_room.c: look at the disk by and by, while there are runs. */
void runner_look_for_room(struct runner *rn);

/* runner_start.c: keep the pool filled; a task of the loop. */
void runner_refill(struct loop_task *t);
/* The holder died before it had a directory: ask another one, or give up. */
void runner_order_again(struct run *r);

/* runner_stop.c */
void runner_settle(struct loop_task *t);
/* Something ended: see by and by whether all is quiet. */
void runner_look(struct runner *rn);
/* Dead, or known not to die. */
bool runner_is_settled(const struct run *r);
/* What a holder says it killed; k is copied. */
void runner_note_kill(struct run *r, const struct run_kill *k);
void runner_drop_kills(struct runner *rn);

/* runner_fetch.c: bring what is at offset into memory, and call fetched. */
int runner_fetch(struct run *r, int stream, uint64_t at);
void runner_drop_fetch(struct run *r);

/* runner_force.c: look now and then for holders that do not answer. */
void runner_watch_holders(struct runner *rn);

/* runner_job.c: fetch the verdict on a run, by and by. */
void runner_judge(struct run *r);
/* Remove what lies on the disk under this name, soon. */
int runner_remove(struct runner *rn, const char *id);
/* Now. */
void runner_hurry_removals(struct runner *rn);

#endif
