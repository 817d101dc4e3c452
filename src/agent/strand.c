#include "agent/strand.h"

void
strand_init(struct strand *s, const struct strand_ops *ops,
    struct strand_home *home, uint32_t id)
{
	*s = (struct strand){ .ops = ops, .home = home, .id = id };
	sched_item_init(&s->turn);
}

void
strand_set(struct strand *s, enum sched_turn class)
{
	sched_set(&s->home->sched, &s->turn, class);
	if (class != TURN_IDLE)
		s->home->wake(s->home);
}

void
strand_fini(struct strand *s)
{
	sched_set(&s->home->sched, &s->turn, TURN_IDLE);
}
