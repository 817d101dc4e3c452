#include "base/alloc.h"
#include "base/err.h"
#include "io/crash.h"
#include "io/log.h"

#include "agent/runner_parts.h"

enum { ORDER_TRIES = 3 };

/* The pool ------------------------------------------------------------------
 */

static void
count_idle(struct runner *rn)
{
	rn->idle_count = 0;
	for (struct list *l = rn->idle.next; l != &rn->idle; l = l->next)
		rn->idle_count++;
}

void
runner_refill(struct loop_task *t)
{
	struct runner *rn = LIST_OF(t, struct runner, refill);
	struct link *l;

	count_idle(rn);
	if (rn->closing || rn->idle_count >= rn->c.pool)
		return;
	int err = link_spawn(&rn->home, rn->c.holder, &l);
	if (err != 0) {
		log_warn("holder_spawn", kv_e("err", err));
		return;
	}
	list_push(&rn->idle, &l->idle);
	if (rn->idle_count + 1 < rn->c.pool)
		loop_defer(rn->c.loop, &rn->refill);
}

static int
take_idle(struct runner *rn, struct link **out)
{
	struct list *first = list_pop(&rn->idle);
	int err = 0;

	if (first != NULL)
		*out = LIST_OF(first, struct link, idle);
	else
		err = link_spawn(&rn->home, rn->c.holder, out);
	loop_defer(rn->c.loop, &rn->refill);
	return err;
}

/* Orders --------------------------------------------------------------------
 */

static int
send_order(struct run *r)
{
	int err = take_idle(r->rn, &r->link);

	if (err != 0)
		return err;
	r->tries++;
	r->link->run = r;
	return link_send(
	    r->link, 'O', buf_peek(&r->order), (struct slice){ 0 });
}

void
runner_order_again(struct run *r)
{
	int err = r->tries < ORDER_TRIES ? send_order(r) : ERR_LIMITED;

	if (err != 0)
		runner_refuse(r, SL("holder"), slice_from(err_name(err)));
	else if (r->rn->hold)
		runner_send_hold(r);
}

int
runner_start(struct runner *rn, const struct run_order *o, struct run **out)
{
	struct run *r;

	if (!order_good_id(o->id) || o->argc == 0 || o->argv[0].len == 0)
		return ERR_INVALID;
	if (rn->closing)
		return ERR_CLOSED;
	if (map_get(&rn->runs, o->id) != NULL)
		return ERR_EXISTS;
	if (rn->halted)
		return ERR_STOPPED;
	if (!journal_may_run(&rn->journal, o->seq))
		return ERR_DENIED;
	int err = o->user == NULL ? 0 : order_find_user(&rn->user, o->user);
	if (err == 0)
		err = runner_new_run(rn, o->id, o->seq, &r);
	if (err != 0)
		return err;
	order_put(&r->order, o, &rn->c, &rn->user);
	r->drops = o->drop;
	err = r->order.err == ERR_FULL ? ERR_TOO_BIG : r->order.err;
	if (err == 0)
		err = send_order(r);
	if (err != 0) {
		runner_free_run(r);
		return err;
	}
	crash_point("agent.ordered");
	journal_note(&rn->journal, o->seq);
	if (rn->hold)
		runner_send_hold(r);
	runner_look_for_room(rn);
	*out = r;
	return 0;
}
