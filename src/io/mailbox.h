/*
 * mailbox: batches of mail from one thread to one other (floor: io).
 *
 * The sender gathers mail during a turn and hands the whole batch over with
 * one atomic store and at most one wake-up (a lone hand-over costs more
 * than three messages).  Two classes: urgent mail is always taken before
 * normal mail; within a class the order is the sender's.  Nothing blocks.
 *
 * Each batch has an arena for what its mail is made of.  It travels with
 * the batch, and comes back to the sender to be reset and used again when
 * the receiver is done.
 *
 * Two threads, and each call belongs to one of them.  On a shared loop both
 * are the same thread and everything works alike, without wake-ups.
 */
#ifndef IO_MAILBOX_H
#define IO_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

enum mail_class { MAIL_URGENT, MAIL_NORMAL, MAIL_CLASSES };

/* Embed it in what is sent; both sides know the type by its own tag. */
struct mail {
	struct mail *next;
};

struct mail_bag; /* one batch of one class, with its arena */

struct mailbox_config {
	size_t caps[MAIL_CLASSES]; /* mail sent and not yet taken, each */
	size_t arena_cap;          /* bytes of one batch's arena */
	/* Make the receiver's loop take a turn; NULL on a shared loop.
	 * Called by the sender. */
	void (*wake)(void *arg);
	void *wake_arg;
};

struct mailbox {
	struct mailbox_config config;
	struct mail_sender {
		struct mail_bag *open[MAIL_CLASSES]; /* owned */
		struct mail_bag *spare;              /* owned list */
		size_t sent[MAIL_CLASSES];
	} tx; /* the sender's alone */
	struct mail_receiver {
		struct mail_bag *first[MAIL_CLASSES]; /* owned, oldest first */
		struct mail_bag *last[MAIL_CLASSES];
		struct mail_bag *empty; /* owned: taken, not yet given back */
		size_t taken[MAIL_CLASSES];
	} rx; /* the receiver's alone */
	/* Between the two. */
	_Atomic(struct mail_bag *) sent;
	_Atomic(struct mail_bag *) returned;
	atomic_bool asleep;
	atomic_size_t flushed[MAIL_CLASSES]; /* by the sender */
	atomic_size_t taken[MAIL_CLASSES];   /* by the receiver */
};

void mailbox_init(struct mailbox *m, const struct mailbox_config *c);

/* When both threads are done with it; mail inside is dropped. */
void mailbox_fini(struct mailbox *m);

/* The sender's ------------------------------------------------------------- */

/*
 * The arena of the batch that the next mail of this class goes into; NULL
 * without memory.  Good until mailbox_flush; when it is full, flush and ask
 * again.
 */
struct arena *mailbox_arena(struct mailbox *m, enum mail_class class);

/* How much mail of this class would still be accepted. */
size_t mailbox_room(const struct mailbox *m, enum mail_class class);

/* 0, ERR_FULL or ERR_NOMEM; on failure the mail stays the caller's. */
int mailbox_put(struct mailbox *m, enum mail_class class, struct mail *mail);

/* Hand over what was put: at the end of a turn, or sooner. */
void mailbox_flush(struct mailbox *m);

/* The receiver's ------------------------------------------------------------
 */

/*
 * The next mail of this class, NULL when there is none.  Take urgent mail
 * until NULL before normal mail.  Good until mailbox_done.
 */
struct mail *mailbox_take(struct mailbox *m, enum mail_class class);

/* The mail that mailbox_take would give, without taking it. */
const struct mail *mailbox_peek(struct mailbox *m, enum mail_class class);

/* What was taken is finished with: its arenas go back. */
void mailbox_done(struct mailbox *m);

/*
 * Before blocking: true means that there is mail, so do not block; after
 * false the next flush wakes the receiver.
 */
bool mailbox_sleep(struct mailbox *m);

/* Any thread: mail handed over and not yet taken, for figures. */
size_t mailbox_depth(const struct mailbox *m, enum mail_class class);

#endif
