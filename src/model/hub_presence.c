/*
 * Is an agent there, and how is it?  What is derived from its link, its
 * heartbeats and its commands can only be lowered by what it or another back
 * end says.
 */
#include <assert.h>

#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_signed.h"

enum {
	HEARTBEAT_LATE = 90000, /* three were missed */
	SEEN_EVERY = 60000,
	CLOCK_OFF = 60000,
};

struct slice
hub_reason(struct slice name)
{
	static const struct slice own[] = { SL_INIT("goodbye"),
		SL_INIT("silent"), SL_INIT("replaced"), SL_INIT("removed"),
		SL_INIT("revoked"), SL_INIT("store_failed"),
		SL_INIT("token_expired"), SL_INIT("replaced_by_new_connection"),
		SL_INIT("controller_stopped"), SL_INIT("output_limit") };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (slice_eq(own[i], name))
			return own[i];
	}
	for (int err = ERR_RESET; err < 0; err++) {
		if (slice_eq(slice_from(err_name(err)), name))
			return slice_from(err_name(err));
	}
	return SL("unknown");
}

static struct agent_news *
tell(struct hub *h, enum notice_kind kind, struct slice name,
    const struct agent *a, struct slice data_json)
{
	struct notice *n = hub_publish(h, kind, name, a, 0);
	struct agent_news *news = arena_alloc(&h->out->arena, sizeof(*news));

	if (n == NULL || news == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	hub_agent_news(h, a, news);
	n->agent = news;
	n->data_json = data_json;
	return news;
}

void
hub_move_agent(
    struct hub *h, struct agent *a, enum presence to, struct slice why)
{
	if (a->presence == to) {
		/* The same for another reason. */
		if (to == PRESENCE_DEGRADED || to == PRESENCE_ERROR ||
		    to == PRESENCE_STOPPED)
			a->why = why;
		return;
	}
	assert(presence_may_move(a->presence, to));
	a->presence = to;
	enum presence was_shown = a->shown;
	if (to != PRESENCE_RECONNECTING)
		a->shown = to;
	a->why = why;
	a->since = h->wall;
	const struct slice name[] = { SL("agent."), presence_name(to) };
	const struct slice data[] = { SL("{\"why\":\""), why, SL("\"}") };
	struct agent_news *news = tell(
	    h, NOTICE_PRESENCE, hub_text(h, name, 2), a, hub_text(h, data, 3));
	if (news != NULL)
		news->was_shown = was_shown;
}

static enum presence
derived(const struct agent *a)
{
	if (!a->stored)
		return PRESENCE_JOINING;
	if (a->late || a->skewed || a->ill.ptr != NULL)
		return PRESENCE_DEGRADED;
	return list_empty(&a->active) ? PRESENCE_ONLINE : PRESENCE_BUSY;
}

/* The cause of a state that has one of its own; else what happened. */
static struct slice
cause(const struct agent *a, enum presence to, struct slice happened)
{
	if (to == derived(a) && to == PRESENCE_DEGRADED)
		return a->late           ? SL("heartbeat_late")
		    : a->ill.ptr != NULL ? a->ill
					 : SL("clock_skew");
	if (to == derived(a))
		return happened;
	if (to == a->claim)
		return to == PRESENCE_ERROR ? SL("reported_error")
					    : SL("reported");
	return to == a->blamed ? SL("reported_by_other") : happened;
}

void
hub_settle(struct hub *h, struct agent *a, struct slice why)
{
	hub_queue_news(h, a);
	if (a->link == NULL && !a->http)
		return;
	hub_stop_quiet(h, a);
	enum presence to =
	    presence_lower(presence_lower(derived(a), a->claim), a->blamed);
	/* Nobody's word makes it less stopped. */
	if (hub_is_stopped(a) && a->stored)
		hub_move_agent(h, a, PRESENCE_STOPPED, hub_stop_why(a));
	else
		hub_move_agent(h, a, to, cause(a, to, why));
}

void
hub_blame(struct hub *h, struct agent *a, struct slice word)
{
	a->blamed = presence_claim(word);
	hub_settle(h, a, SL("reported_by_other"));
}

/* Of ours alone: what other programs stamp their messages with is often no
 * clock at all.  Back and forth of a message is no skew, nor is a slow link's
 * queue. */
void
hub_look_at_clock(struct agent *a, const struct event *ev)
{
	wall_msec off = ev->said_at - ev->at;

	a->skewed = a->skewed && a->native;
	if (ev->said_at != 0 && a->native)
		a->skewed = off > CLOCK_OFF || off < -CLOCK_OFF;
}

void
hub_heard_from(struct hub *h, struct agent *a)
{
	a->heard = h->now;
	a->late = false;
	hub_arm_agent(h, a,
	    h->now + (a->link != NULL ? HEARTBEAT_LATE : h->config.http_grace));
	if (h->wall - a->record->seen_at < SEEN_EVERY)
		return;
	a->record->seen_at = h->wall;
	const struct agent_record *kept =
	    clone_in(&h->out->arena, CLONE_AGENT, a->record);
	struct op *op = kept == NULL ? NULL : hub_store(h, OP_AGENT_SEEN);
	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	op->lazy = true;
	op->agent = kept;
}

/* Heartbeats --------------------------------------------------------------- */

/* Why an agent of ours calls itself degraded, as our own word. */
static struct slice
illness(struct slice said)
{
	static const struct slice known[] = { SL_INIT("spool_full"),
		SL_INIT("policy_error"), SL_INIT("disk_full") };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (slice_eq(known[i], said))
			return known[i];
	}
	return said.len > 0 ? SL("reported") : (struct slice){ 0 };
}

struct agent *
hub_called(struct hub *h, struct link *l, const struct event *ev,
    struct slice cluster_id)
{
	struct agent *a = l->agent;

	if ((l->scopes & SCOPE_CLUSTER_HEARTBEAT) == 0) {
		hub_send_error(h, ev, ERR_DENIED, SL("NOT_PERMITTED"),
		    (struct slice){ 0 },
		    SL("this token lacks the scope cluster:heartbeat"));
		return NULL;
	}
	if (!l->http) {
		if (a == NULL)
			hub_send_error(h, ev, ERR_NOT_FOUND,
			    SL("NOT_REGISTERED"), (struct slice){ 0 },
			    SL("agent is not registered"));
		return a;
	}
	a = map_get(&h->clusters, cluster_id);
	if (a == NULL || !hub_owns(l, a)) {
		hub_send_error(h, ev, ERR_NOT_FOUND, SL("CLUSTER_NOT_FOUND"),
		    (struct slice){ 0 }, SL("cluster not found"));
		return NULL;
	}
	hub_attach_http(h, l, a);
	hub_heard_from(h, a);
	hub_settle(h, a, SL("call"));
	return a;
}

void
hub_on_heartbeat(struct hub *h, struct link *l, const struct event *ev)
{
	const struct heartbeat *b = &ev->heartbeat;
	struct agent *a = hub_called(h, l, ev, b->cluster_id);

	if (a == NULL)
		return;
	hub_heard_from(h, a);
	a->heartbeat_at = h->wall;
	if ((b->metadata_json.ptr != NULL &&
		!slice_eq(a->session.metadata_json, b->metadata_json) &&
		hub_keep(&a->session.metadata_json, b->metadata_json) != 0) ||
	    (!slice_eq(a->session.tunnel_status, b->tunnel_status) &&
		hub_keep(&a->session.tunnel_status, b->tunnel_status) != 0))
		h->out->err = ERR_NOMEM;
	if (b->metadata_json.ptr != NULL)
		hub_note_figures(h, a);
	/* Figures alone say nothing of how it is. */
	if (!a->verbs || b->status.ptr != NULL)
		a->claim = presence_claim(b->status);
	a->ill = illness(b->ill);
	hub_look_at_clock(a, ev);
	hub_settle(h, a, SL("heartbeat"));
	/* Figures come often: only where somebody looks. */
	if (b->metadata_json.ptr != NULL && h->watches.count > 0)
		tell(h, NOTICE_METRICS, SL("agent.metrics"), a,
		    (struct slice){ 0 });
	hub_send(h, ev->peer, EVENT_HEARTBEAT_ACK, ev->request_id, 0);
}
