/*
 * rig: a hub with everything around it played by the test (tests).
 *
 * Time is what the test says.  Effects come out through `perform` as
 * musterd performs them: the store's operations of a batch go first, what
 * waits for an operation is held until the store has answered, in order,
 * and is dropped when it failed.
 */
#ifndef SUPPORT_RIG_H
#define SUPPORT_RIG_H

#include "base/list.h"

#include "model/hub.h"

struct rig_batch;

enum {
	RIG_HOLD = 1, /* what `store` returns to be asked again later */
	RIG_ENDS = 64,
};

struct rig {
	struct hub *hub;
	msec now;
	wall_msec wall;
	/* An effect to be carried out; never STORE. */
	void (*perform)(void *arg, const struct effect *e);
	/* 0 or ERR_*, or RIG_HOLD; NULL: always 0. */
	int (*store)(void *arg, const struct op *op);
	void *arg;
	struct rig_batch *open;
	struct list spare;
	struct list ops;     /* not yet answered */
	struct list held;    /* effects that wait */
	uint64_t stop_epoch; /* to be written to the stop's file; 0: nothing */
	uint64_t stop_file;  /* what that holds */
	int stop_err;        /* what comes of writing it; RIG_HOLD: nothing */
	uint64_t op_count;
	/* Outcomes that were stored, for OP_COMMAND_AGAIN: the last ones. */
	struct {
		char id[40];
		int64_t said[6];
	} ends[RIG_ENDS];
	size_t end_count;
	int err; /* the last outbox error, sticky */
};

/* config may be NULL.  The rest of the fields is for the test to fill in
 * between.  Starts at time 0, wall 2025-10-16T12:00:00Z. */
void rig_init(struct rig *r, const struct hub_config *config);
void rig_fini(struct rig *r);

/* One event as a batch of its own, then whatever the store answers. */
void rig_input(struct rig *r, const struct event *ev);

/* Several as one batch: open, any number of rig_add, close. */
void rig_open(struct rig *r);
void rig_add(struct rig *r, const struct event *ev);
void rig_close(struct rig *r);
/* Of the open batch. */
struct outbox *rig_outbox(struct rig *r);

/* Let the store answer what it held; as far as it does. */
void rig_settle(struct rig *r);

/* Move both clocks on to the instant, firing the hub's timers on the way. */
void rig_advance(struct rig *r, msec now);

/* Shorthands; hashes are SHA-256 in life, here a number in the first bytes. */
void rig_hash(uint8_t hash[HASH_LEN], uint32_t n);
struct peer_id rig_peer(uint32_t n);
struct event rig_event(enum event_kind kind, uint32_t peer);
struct event rig_hello(
    uint32_t peer, uint32_t token, const char *address, enum entrance entrance);

#endif
