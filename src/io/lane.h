/*
 * lane: a loop that connections live on, and its two mailboxes with the hub
 * (floor: io).
 *
 * A lane has a thread of its own, or shares the hub's: then nothing is
 * started and nothing wakes, and the same calls hand mail over within one
 * turn, because the phases of io/loop order post, hub, take and send.
 *
 * The lane flushes to_hub (LOOP_POST, LOOP_SETTLE) and drains to_lane
 * (LOOP_TAKE) by itself.  The hub does its side in its own hooks:
 *
 *	LOOP_HUB: mailbox_take(&l->to_hub, ...) of every lane, decide,
 *	    mailbox_put(&l->to_lane, ...), mailbox_done, mailbox_flush
 *	LOOP_SLEEP: if (mailbox_sleep(&l->to_hub)) loop_again(...)
 *
 * Life: lane_start -> lane_stop -> what is left in to_hub may be taken ->
 * lane_fini.
 */
#ifndef IO_LANE_H
#define IO_LANE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "io/loop.h"
#include "io/mailbox.h"

struct lane;

struct lane_config {
	unsigned index;        /* 0, 1, ...; names the thread too */
	struct loop *hub_loop; /* borrowed; takes a turn for mail to the hub */
	bool shared;           /* live on hub_loop; one lane of a thread may */
	size_t timer_cap;      /* of the lane's own loop */
	size_t to_lane[MAIL_CLASSES]; /* mail under way, see io/mailbox */
	size_t to_hub[MAIL_CLASSES];
	size_t arena_cap; /* bytes of a batch */
	/*
	 * On the lane's thread: begin before anything else (its error makes
	 * lane_start fail); on_mail for each mail from the hub, urgent ones
	 * first, with an arena that is the sender's again soon after; end
	 * after the last turn, to close what the lane has open.  begin and
	 * end may be NULL.
	 */
	int (*begin)(struct lane *l);
	void (*on_mail)(struct lane *l, struct mail *mail);
	void (*end)(struct lane *l);
	void *arg; /* the caller's own */
};

struct lane {
	struct lane_config config;
	struct loop *loop; /* &own, or the hub's */
	struct mailbox to_lane;
	struct mailbox to_hub;
	struct loop own;
	struct loop_task post;
	struct loop_task take;
	struct loop_task settle;
	struct loop_task sleep;
	pthread_t thread;
	sem_t begun;
	int begin_err;
	atomic_bool stopping;
};

/*
 * Returns when begin has: 0, or an ERR_* and nothing is left to stop.  The
 * struct must not move.
 */
int lane_start(struct lane *l, const struct lane_config *c);

/*
 * From the hub's thread: the lane takes what was flushed to it, ends, and
 * its thread is joined.
 */
void lane_stop(struct lane *l);

/* After lane_stop: forget both mailboxes. */
void lane_fini(struct lane *l);

/* The lane of the calling thread; NULL on any other thread. */
struct lane *lane_self(void);

#endif
