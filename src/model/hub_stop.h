/*
 * hub_stop: the emergency stop as the hub keeps it (model; private to it).
 *
 * Design notes.  A stop takes effect in memory first and is never taken back
 * by a failure: when memory, the outbox or a disk runs out halfway, what is
 * still to be done is marked (unresolved, dirty, unsaved) and done again by
 * the timer.  An agent is stopped while a standing stop covers it, which is
 * to say: while it has a receipt of one.  Receipts are made when a stop is
 * raised, and when an agent registers or is relabelled; nothing that an
 * agent says of itself takes one away.
 */
#ifndef MODEL_HUB_STOP_H
#define MODEL_HUB_STOP_H

#include "model/hub_state.h"

enum {
	STOPS_KEPT = 256,    /* lifted ones that are remembered */
	STOPS_BROAD = 64,    /* standing ones that cover many agents */
	RECEIPTS_FACTOR = 4, /* receipts in all, for each agent there may be */
	STOP_RETRY = 1000,
	STOP_ACCEPT = 5000, /* the disk has this long to answer */
	STOP_DETAIL = 64 * 1024,
};

struct stop {
	struct list link;           /* of stops.all */
	struct list wide;           /* of stops.broad, when it covers many */
	struct stop_record *record; /* owned; replaced when it changes */
	struct selector selector;   /* borrowing the record's text */
	struct selector bound;
	bool blind;       /* its selector makes no sense: covers whom it has */
	struct slice key; /* owned: workspace, scope, bound, target */
	uint32_t counts[RECEIPT_KINDS];
	uint32_t left;
	bool unsaved; /* its row is behind */
};

struct receipt {
	struct list link; /* of agent_stop.receipts, by epoch */
	struct stop *stop;
	enum receipt_kind kind;
	wall_msec told_at;
	wall_msec at;
	struct stop_report report; /* its detail owned */
};

/* An operator who waits for the disk. */
struct stop_ask {
	struct list link; /* of stops.asks, by epoch */
	uint64_t epoch;   /* to be in the file */
	uint64_t stop;    /* what it is about */
	struct peer_id peer;
	enum request_op op;
	struct slice request_id; /* owned, behind the struct */
	msec due;
};

static inline bool
stop_stands(const struct stop *s)
{
	return s->record->lifted_epoch == 0;
}

/* hub_stop.c: what stands, and whom it covers ----------------------------- */

/* NULL without memory, or when the same stands already. */
struct stop *hub_add_stop(struct hub *h, const struct stop_record *r);
struct stop *hub_find_stop(const struct hub *h, uint64_t epoch);
/* The standing one of this scope. */
struct stop *hub_find_scope(struct hub *h, const struct stop_record *like);
/* Parse its record's selectors. */
void hub_stop_aim(struct stop *s);
bool hub_stop_covers(
    struct hub *h, const struct stop *s, const struct agent *a);
/* Whoever it covers has a receipt. */
void hub_resolve_stop(struct hub *h, struct stop *s);
/* Whoever has not heard how it stands is told. */
void hub_tell_stops(struct hub *h);
/* What stands and covers this agent; true when there is more of it. */
bool hub_find_stops(struct hub *h, struct agent *a);
/* Put it into force: whom it covers is told, then the file, then the row. */
void hub_enforce_stop(struct hub *h, struct stop *s, const struct event *asked);
/* The same is raised again: all are told again. */
void hub_repeat_stop(struct hub *h, struct stop *s, const struct event *asked);
void hub_lift(
    struct hub *h, struct stop *s, struct slice by, const struct event *asked);
/* A returning agent knows more than we do, and can prove it. */
void hub_adopt_stop(
    struct hub *h, struct agent *a, const struct stop_order *shown);

/* hub_stop_keep.c: file, rows, time --------------------------------------- */

/* The next epoch, to be written. */
void hub_next_epoch(struct hub *h);
void hub_write_epoch(struct hub *h);
/* asked: whose request it was, for the journal; may be NULL. */
void hub_save_stop(struct hub *h, struct stop *s, const struct event *asked);
void hub_save_epoch(struct hub *h);
/* Its queue is to be emptied, and its presence looked at. */
void hub_stop_sweep(struct hub *h, struct agent *a);
struct slice hub_decimal(struct hub *h, uint64_t n);

/* hub_receipt.c: what agents are told and say ----------------------------- */

enum receipt_kind hub_receipt_kind(const struct agent *a);
/* How much of it is stopped, were it stopped now. */
struct stop_reach hub_stop_reach(const struct agent *a);
/* Its receipt of the stop; NULL without. */
struct receipt *hub_find_receipt(const struct agent *a, const struct stop *s);
/* The agent is covered from now on.  False without memory. */
bool hub_cover(struct hub *h, struct stop *s, struct agent *a);
/* As if nothing had been said; those of which that is so. */
void hub_reset_receipt(struct hub *h, struct receipt *r, const struct agent *a);
void hub_reset_receipts(struct hub *h, struct agent *a);
void hub_load_receipt(struct receipt *r, const struct receipt_record *from);
void hub_interrupt_foreign(struct hub *h, struct agent *a);
void hub_drop_receipt(struct hub *h, struct receipt *r, struct agent *a);
void hub_store_receipt(
    struct hub *h, const struct receipt *r, const struct agent *a);
struct receipt_record hub_receipt_record(
    const struct receipt *r, const struct agent *a);

/* hub_stop_ask.c: operators ----------------------------------------------- */

/* Whoever might have raised it, and `all` only admins. */
bool hub_may_lift(const struct access *who, const struct stop *s);
/* Answer those who waited for this epoch to be written. */
void hub_answer_stops(struct hub *h, uint64_t epoch, int err);
void hub_answer_late(struct hub *h);
/* Before the first event: the file STOP is there. */
int hub_load_switch(struct hub *h, struct slice text);

/* hub_stop_news.c: watchers ------------------------------------------------ */

void hub_tell_stop_news(struct hub *h, struct slice name, const struct stop *s);

#endif
