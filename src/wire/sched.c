#include "wire/sched.h"

void
sched_init(struct sched *s)
{
	for (int i = 0; i < TURN_SOON; i++)
		list_init(&s->waiting[i]);
	s->brisk = 0;
}

void
sched_item_init(struct sched_item *i)
{
	list_init(&i->link);
	i->class = TURN_IDLE;
	i->credit = 0;
}

void
sched_set(struct sched *s, struct sched_item *i, enum sched_turn class)
{
	if (i->class == class)
		return;
	list_remove(&i->link);
	i->class = class;
	i->credit = 0;
	if (class != TURN_IDLE)
		list_push(&s->waiting[class - 1], &i->link);
}

/* The list of the first class that has anything, NULL. */
static struct list *
first_class(struct sched *s)
{
	for (int i = TURN_SOON; i > TURN_IDLE; i--)
		if (!list_empty(&s->waiting[i - 1]))
			return &s->waiting[i - 1];
	return NULL;
}

/* The same, but brisk ones leave bulk its turns. */
static struct list *
next_class(struct sched *s)
{
	struct list *brisk = &s->waiting[TURN_BRISK - 1];
	struct list *bulk = &s->waiting[TURN_BULK - 1];
	struct list *from = first_class(s);

	if (from == brisk && s->brisk >= SCHED_BRISK && !list_empty(bulk))
		from = bulk;
	if (from == brisk)
		s->brisk++;
	else if (from == bulk)
		s->brisk = 0;
	return from;
}

struct sched_item *
sched_next(struct sched *s)
{
	struct list *from = next_class(s);

	if (from == NULL)
		return NULL;
	struct sched_item *i = LIST_OF(from->next, struct sched_item, link);
	if (i->credit <= 0)
		i->credit += SCHED_QUANTUM;
	return i;
}

void
sched_spent(struct sched *s, struct sched_item *i, size_t n)
{
	if (i->class == TURN_IDLE)
		return;
	i->credit = n == 0 ? 0 : i->credit - (long)n;
	if (i->credit > 0)
		return;
	list_remove(&i->link);
	list_push(&s->waiting[i->class - 1], &i->link);
}

bool
sched_any(const struct sched *s)
{
	for (int i = 0; i < TURN_SOON; i++)
		if (!list_empty(&s->waiting[i]))
			return true;
	return false;
}
