/*
 * What watchers are told of a stop: that it stands, that it was lifted, and
 * how much it came down on.  Everybody is told of what they may see alone.
 */
#include "base/err.h"
#include "base/js_write.h"

#include "model/hub_stop.h"

/* An order waits behind these looks, so they have a bound. */
enum { JUDGED_AT_ONCE = 50000 };

static struct slice
news_data(struct hub *h, const struct stop_record *r)
{
	struct slice data = { 0 };
	struct js_writer w;
	struct buf b;

	buf_init(&b, 16 * 1024);
	js_write(&w, &b);
	js_begin_object(&w);
	js_kv_u64(&w, "epoch", r->epoch);
	js_kv_string(&w, "scope", hub_stop_text(h, r));
	js_kv_string(&w, "reason", r->reason);
	js_kv_u64(&w, "lifted_epoch", r->lifted_epoch);
	js_end(&w);
	if (js_finish(&w) != 0 ||
	    arena_copy(&h->out->arena, buf_peek(&b), &data) != 0)
		h->out->err = ERR_NOMEM;
	buf_fini(&b);
	return data;
}

/* Watchers of other workspaces are not told. */
static struct audience_set
told_of(struct hub *h, const struct stop_record *r)
{
	const struct agent *a =
	    r->scope == STOP_AGENT ? map_get(&h->agents, r->target) : NULL;
	struct audience_set set = hub_seen_by(h, a);

	for (unsigned i = 0; i < AUDIENCES; i++) {
		const struct audience *u = h->audiences[i];
		if (u != NULL && r->workspace_id != 0 &&
		    u->workspace_id != r->workspace_id)
			set.words[i / 64] &= ~(UINT64_C(1) << i % 64);
	}
	return set;
}

/* How much one audience sees it come down on: nothing once there was too
 * much to look at. */
static struct stop_reach
reach_for(
    struct hub *h, const struct stop *s, const struct audience *u, size_t *left)
{
	struct stop_reach sum = { 0 };
	size_t looks = u->text.len == 0 ? 0 : h->agents.count;

	if (!stop_stands(s) || looks > *left)
		return sum;
	*left -= looks;
	for (size_t i = 0; i < h->agents.count; i++) {
		const struct agent *a = h->sorted[i];
		if (hub_find_receipt(a, s) == NULL ||
		    !hub_audience_sees(h, u, a))
			continue;
		const struct stop_reach one = hub_stop_reach(a);
		sum.agents += one.agents;
		sum.commands += one.commands;
	}
	return sum;
}

static void
publish(struct hub *h, struct slice name, const struct stop *s,
    const struct audience_set *to, struct stop_reach reach)
{
	const struct stop_record *r = s->record;
	const struct agent *a =
	    r->scope == STOP_AGENT ? map_get(&h->agents, r->target) : NULL;
	struct notice *n = hub_publish(h, NOTICE_STOP, name, a, 0);

	if (n == NULL)
		return;
	h->out->effects[h->out->count - 1].seen_by = *to;
	n->stop = clone_in(&h->out->arena, CLONE_STOP, r);
	if (n->stop == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	n->stop_reach = reach;
	n->actor =
	    n->stop->lifted_epoch != 0 ? n->stop->lifted_by : n->stop->actor;
	n->text = n->stop->reason;
	n->data_json = news_data(h, n->stop);
}

/* Those who see the same of it are told by one notice. */
void
hub_tell_stop_news(struct hub *h, struct slice name, const struct stop *s)
{
	const struct audience_set told = told_of(h, s->record);
	struct stop_reach reach[AUDIENCES] = { { 0 } };
	struct audience_set done = { { 0 } };
	size_t left = JUDGED_AT_ONCE;
	bool any = false;

	for (unsigned i = 0; i < AUDIENCES; i++) {
		if (audience_has(&told, i))
			reach[i] = reach_for(h, s, h->audiences[i], &left);
	}
	for (unsigned i = 0; i < AUDIENCES; i++) {
		struct audience_set to = { { 0 } };
		if (!audience_has(&told, i) || audience_has(&done, i))
			continue;
		for (unsigned k = i; k < AUDIENCES; k++) {
			if (!audience_has(&told, k) ||
			    reach[k].agents != reach[i].agents ||
			    reach[k].commands != reach[i].commands)
				continue;
			audience_add(&to, k);
			audience_add(&done, k);
		}
		publish(h, name, s, &to, reach[i]);
		any = true;
	}
	if (!any)
		publish(h, name, s, &told, reach[0]);
}
