#include "agent/sched.h"

void
sched_init(struct sched *s)
{
	list_init(&s->soon);
	list_init(&s->bulk);
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
		list_push(class == TURN_SOON ? &s->soon : &s->bulk, &i->link);
}

struct sched_item *
sched_next(struct sched *s)
{
	struct list *from = list_empty(&s->soon) ? &s->bulk : &s->soon;

	if (list_empty(from))
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
	list_push(i->class == TURN_SOON ? &s->soon : &s->bulk, &i->link);
}

bool
sched_any(const struct sched *s)
{
	return !list_empty(&s->soon) || !list_empty(&s->bulk);
}
