#include "base/alloc.h"
#include "base/err.h"

#include "io/mailbox.h"

/*
 * Design notes.  Bags cross in either direction over a stack that only ever
 * is pushed to by one side and emptied whole by the other, so there is no
 * ABA problem and no lock; the receiver turns it round to get the order.
 *
 * Sleep: the receiver raises `asleep` and then looks at the stack, the
 * sender pushes and then looks at `asleep`.  All four are sequentially
 * consistent, so at least one of the two sees the other (Dekker).  The flag
 * is lowered by whoever sees it first, so a sleep costs one wake at most.
 */

enum { SPARE_MAX = 8 };

struct mail_bag {
	struct mail_bag *next;
	enum mail_class class;
	struct mail *first;
	struct mail *last;
	size_t count;
	struct arena arena;
};

static void
free_bags(struct mail_bag *b)
{
	while (b != NULL) {
		struct mail_bag *next = b->next;
		arena_fini(&b->arena);
		alloc_free(b);
		b = next;
	}
}

static void
push(_Atomic(struct mail_bag *) *stack, struct mail_bag *b)
{
	struct mail_bag *top = atomic_load(stack);

	do
		b->next = top;
	while (!atomic_compare_exchange_weak(stack, &top, b));
}

void
mailbox_init(struct mailbox *m, const struct mailbox_config *c)
{
	*m = (struct mailbox){ .config = *c };
}

void
mailbox_fini(struct mailbox *m)
{
	for (int i = 0; i < MAIL_CLASSES; i++) {
		free_bags(m->tx.open[i]);
		free_bags(m->rx.first[i]);
	}
	free_bags(m->tx.spare);
	free_bags(m->rx.empty);
	free_bags(atomic_load(&m->sent));
	free_bags(atomic_load(&m->returned));
	*m = (struct mailbox){ 0 };
}

/* Sending ------------------------------------------------------------------ */

/* Take back what the receiver is done with; keep some, free the rest. */
static void
collect(struct mailbox *m)
{
	size_t spare = 0;

	for (struct mail_bag *b = m->tx.spare; b != NULL; b = b->next)
		spare++;
	if (atomic_load_explicit(&m->returned, memory_order_relaxed) == NULL)
		return;
	struct mail_bag *b = atomic_exchange(&m->returned, NULL);
	for (; b != NULL && spare < SPARE_MAX; spare++) {
		struct mail_bag *next = b->next;
		b->next = m->tx.spare;
		m->tx.spare = b;
		b = next;
	}
	free_bags(b);
}

static struct mail_bag *
bag_new(struct mailbox *m)
{
	struct mail_bag *b = m->tx.spare;

	if (b != NULL) {
		m->tx.spare = b->next;
		return b;
	}
	b = alloc_new(sizeof(*b));
	if (b != NULL)
		arena_init(&b->arena, m->config.arena_cap);
	return b;
}

/* The bag that is being filled, opened when there is none. */
static struct mail_bag *
open_bag(struct mailbox *m, enum mail_class class)
{
	struct mail_bag *b = m->tx.open[class];

	if (b != NULL)
		return b;
	collect(m);
	b = bag_new(m);
	if (b == NULL)
		return NULL;
	b->next = NULL;
	b->class = class;
	b->first = b->last = NULL;
	b->count = 0;
	m->tx.open[class] = b;
	return b;
}

struct arena *
mailbox_arena(struct mailbox *m, enum mail_class class)
{
	struct mail_bag *b = open_bag(m, class);

	return b == NULL ? NULL : &b->arena;
}

size_t
mailbox_room(const struct mailbox *m, enum mail_class class)
{
	size_t taken =
	    atomic_load_explicit(&m->taken[class], memory_order_relaxed);

	return m->config.caps[class] - (m->tx.sent[class] - taken);
}

int
mailbox_put(struct mailbox *m, enum mail_class class, struct mail *mail)
{
	if (mailbox_room(m, class) == 0)
		return ERR_FULL;
	struct mail_bag *b = open_bag(m, class);
	if (b == NULL)
		return ERR_NOMEM;
	mail->next = NULL;
	if (b->last == NULL)
		b->first = mail;
	else
		b->last->next = mail;
	b->last = mail;
	b->count++;
	m->tx.sent[class]++;
	return 0;
}

void
mailbox_flush(struct mailbox *m)
{
	bool any = false;

	for (int i = 0; i < MAIL_CLASSES; i++) {
		struct mail_bag *b = m->tx.open[i];
		if (b == NULL)
			continue;
		if (b->count == 0) {
			arena_reset(&b->arena);
			continue;
		}
		m->tx.open[i] = NULL;
		atomic_store(&m->flushed[i], m->tx.sent[i]);
		push(&m->sent, b);
		any = true;
	}
	if (any && m->config.wake != NULL && atomic_load(&m->asleep) &&
	    atomic_exchange(&m->asleep, false))
		m->config.wake(m->config.wake_arg);
}

/* Receiving ---------------------------------------------------------------- */

static void
enqueue(struct mail_receiver *rx, struct mail_bag *b)
{
	b->next = NULL;
	if (rx->first[b->class] == NULL)
		rx->first[b->class] = b;
	else
		rx->last[b->class]->next = b;
	rx->last[b->class] = b;
}

/* Move all that was sent to the queues of its class, oldest first. */
static void
receive(struct mailbox *m)
{
	struct mail_bag *oldest = NULL;

	/* Awake: spare the sender the wake-up. */
	if (atomic_load_explicit(&m->asleep, memory_order_relaxed))
		atomic_store(&m->asleep, false);
	if (atomic_load_explicit(&m->sent, memory_order_relaxed) == NULL)
		return;
	struct mail_bag *b = atomic_exchange(&m->sent, NULL);
	while (b != NULL) {
		struct mail_bag *next = b->next;
		b->next = oldest;
		oldest = b;
		b = next;
	}
	while (oldest != NULL) {
		struct mail_bag *next = oldest->next;
		enqueue(&m->rx, oldest);
		oldest = next;
	}
}

struct mail *
mailbox_take(struct mailbox *m, enum mail_class class)
{
	struct mail_receiver *rx = &m->rx;

	if (rx->first[class] == NULL)
		receive(m);
	struct mail_bag *b = rx->first[class];
	if (b == NULL)
		return NULL;
	struct mail *mail = b->first;
	b->first = mail->next;
	if (b->first == NULL) {
		rx->first[class] = b->next;
		b->next = rx->empty;
		rx->empty = b;
	}
	rx->taken[class]++;
	atomic_store_explicit(
	    &m->taken[class], rx->taken[class], memory_order_release);
	return mail;
}

const struct mail *
mailbox_peek(struct mailbox *m, enum mail_class class)
{
	if (m->rx.first[class] == NULL)
		receive(m);
	return m->rx.first[class] == NULL ? NULL : m->rx.first[class]->first;
}

void
mailbox_done(struct mailbox *m)
{
	while (m->rx.empty != NULL) {
		struct mail_bag *b = m->rx.empty;
		m->rx.empty = b->next;
		/* Here, for the sender may have nothing to say for long, and
		 * a storm's batch is large. */
		arena_reset(&b->arena);
		push(&m->returned, b);
	}
}

bool
mailbox_sleep(struct mailbox *m)
{
	if (m->rx.first[MAIL_URGENT] != NULL ||
	    m->rx.first[MAIL_NORMAL] != NULL)
		return true;
	atomic_store(&m->asleep, true);
	if (atomic_load(&m->sent) == NULL)
		return false;
	atomic_store(&m->asleep, false);
	return true;
}

size_t
mailbox_depth(const struct mailbox *m, enum mail_class class)
{
	/* In this order: what is taken was flushed before. */
	size_t taken = atomic_load(&m->taken[class]);

	return atomic_load(&m->flushed[class]) - taken;
}
