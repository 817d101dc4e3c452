/*
 * Those who watch: dashboards, status boards, followers of events.  A watch is
 * a connection with what its credential may do, so that its messages need no
 * credential of their own, and so that it ends when the credential does.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_state.h"

enum { NEWS_MAX = 10000, METADATA_BRIEF = 2048, RENEW_BEFORE = 300000 };

static const struct slice none;

static struct slice
peer_key(const struct peer_id *p)
{
	return (struct slice){ (const uint8_t *)p, sizeof(*p) };
}

/* Audiences ---------------------------------------------------------------- */

static bool
is_audience(const struct audience *u, const struct user_record *user)
{
	return u != NULL && u->workspace_id == user->workspace_id &&
	    slice_eq(u->text, user->selector);
}

static struct audience *
new_audience(const struct user_record *user)
{
	struct audience *u = alloc_new(sizeof(*u));

	if (u == NULL)
		return NULL;
	u->workspace_id = user->workspace_id;
	if (hub_keep(&u->text, user->selector) != 0 ||
	    selector_parse(u->text, &u->selector) != 0) {
		hub_unkeep(&u->text);
		alloc_free(u);
		return NULL;
	}
	return u;
}

/* All that runs is judged anew: who is new sees its output, too. */
static void
tell_streams(struct hub *h)
{
	size_t pos = 0;

	for (struct command *c; (c = map_next(&h->commands, &pos)) != NULL;) {
		if (c->opened)
			hub_show_stream(h, c);
	}
}

static void
free_audience(struct hub *h, int at)
{
	hub_unkeep(&h->audiences[at]->text);
	alloc_free(h->audiences[at]);
	h->audiences[at] = NULL;
	h->audience_version++;
}

/* Of those that nobody watches with, the longest idle, if there are more
 * than most. */
static void
free_idle(struct hub *h, size_t most)
{
	size_t idle = 0;
	int oldest = -1;

	for (int i = 0; i < AUDIENCES; i++) {
		const struct audience *u = h->audiences[i];
		if (u == NULL || u->refs > 0)
			continue;
		idle++;
		if (oldest < 0 || u->idled_at < h->audiences[oldest]->idled_at)
			oldest = i;
	}
	if (idle > most)
		free_audience(h, oldest);
}

void
hub_free_audiences(struct hub *h)
{
	for (int i = 0; i < AUDIENCES; i++) {
		if (h->audiences[i] != NULL)
			free_audience(h, i);
	}
}

/* Its number, or -1 when there are too many or no memory. */
static int
take_audience(struct hub *h, const struct user_record *user)
{
	int at = -1;

	for (int i = 0; i < AUDIENCES; i++) {
		if (is_audience(h->audiences[i], user)) {
			h->audiences[i]->refs++;
			return i;
		}
		if (at < 0 && h->audiences[i] == NULL)
			at = i;
	}
	if (at < 0) {
		free_idle(h, 0);
		for (int i = 0; at < 0 && i < AUDIENCES; i++)
			at = h->audiences[i] == NULL ? i : -1;
	}
	if (at < 0)
		return -1;
	h->audiences[at] = new_audience(user);
	if (h->audiences[at] == NULL)
		return -1;
	h->audiences[at]->refs = 1;
	h->audiences[at]->since = h->next_notice;
	h->audience_version++;
	tell_streams(h);
	return at;
}

static void
drop_audience(struct hub *h, int at)
{
	struct audience *u = at < 0 ? NULL : h->audiences[at];

	if (u == NULL || --u->refs > 0)
		return;
	u->idled_at = h->next_notice;
	free_idle(h, AUDIENCES_IDLE);
}

bool
hub_audience_sees(
    struct hub *h, const struct audience *u, const struct agent *a)
{
	if (u->workspace_id != a->record->workspace_id)
		return false;
	if (u->text.len == 0)
		return true;
	arena_reset(&h->scratch);
	return selector_match(&u->selector, a->record->operator_labels_json,
		   a->record->labels_json, &h->scratch) == 1;
}

struct audience_set
hub_seen_by(struct hub *h, const struct agent *a)
{
	struct audience_set set = { { 0 } };

	for (unsigned i = 0; i < AUDIENCES; i++) {
		const struct audience *u = h->audiences[i];
		if (u != NULL && (a == NULL || hub_audience_sees(h, u, a)))
			audience_add(&set, i);
	}
	return set;
}

/* Life --------------------------------------------------------------------- */

struct watch *
hub_find_watch(struct hub *h, struct peer_id peer)
{
	return map_get(&h->watches, peer_key(&peer));
}

static struct onlooker *
take_onlooker(struct hub *h, struct slice id)
{
	struct onlooker *o = map_get(&h->onlookers, id);

	if (o == NULL) {
		o = alloc_new(sizeof(*o) + id.len + 1);
		if (o == NULL)
			return NULL;
		memcpy(o + 1, id.ptr, id.len);
		o->id = (struct slice){ (uint8_t *)(o + 1), id.len };
		if (map_put(&h->onlookers, o->id, o) != 0) {
			alloc_free(o);
			return NULL;
		}
	}
	o->refs++;
	o->counted++;
	return o;
}

static void
drop_onlooker(struct hub *h, struct watch *w)
{
	struct onlooker *o = w->onlooker;

	if (o == NULL)
		return;
	o->counted -= !w->agent;
	if (w->screen) {
		h->screens--;
		h->screen_users -= --o->screens == 0;
	}
	if (--o->refs > 0)
		return;
	map_del(&h->onlookers, o->id);
	alloc_free(o);
}

/* For the counts of /health. */
static void
count_screen(struct hub *h, struct watch *w)
{
	if (w->screen || w->onlooker == NULL)
		return;
	w->screen = true;
	h->screens++;
	h->screen_users += w->onlooker->screens++ == 0;
}

void
hub_watch_stats(const struct hub *h, struct hub_stats *out)
{
	out->watches = h->screens;
	out->watching_users = h->screen_users;
}

void
hub_drop_watch(struct hub *h, struct watch *w)
{
	struct link *l = hub_find_link(h, w->peer);

	if (l != NULL && l->watch == w)
		l->watch = NULL;
	map_del(&h->watches, peer_key(&w->peer));
	heap_drop(&h->watch_timers, &w->timer);
	list_remove(&w->by_token);
	list_remove(&w->by_user);
	drop_onlooker(h, w);
	drop_audience(h, w->audience);
	hub_unkeep(&w->remote);
	hub_unkeep(&w->address);
	hub_unkeep(&w->login_id);
	hub_unkeep(&w->name);
	alloc_free(w->user);
	alloc_free(w);
}

static void
arm(struct hub *h, struct watch *w)
{
	msec left = w->expires_at - h->wall;

	if (w->expires_at == 0)
		return;
	if (!w->warned && left > RENEW_BEFORE)
		left -= RENEW_BEFORE;
	else if (!w->warned)
		left = 0;
	if (heap_set(&h->watch_timers, &w->timer, h->now + left) != 0)
		h->out->err = ERR_NOMEM;
}

void
hub_rearm_watch(struct hub *h, struct watch *w)
{
	heap_drop(&h->watch_timers, &w->timer);
	arm(h, w);
}

/* Let this credential in as a watcher.  NULL and a denial, or NULL and
 * out->err without memory. */
static struct watch *
new_watch(struct hub *h, const struct event *ev, const struct credential *c,
    const struct access *who, enum watch_kind kind)
{
	struct watch *w = alloc_new(sizeof(*w));

	if (w == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	w->peer = ev->peer;
	w->kind = kind;
	w->audience = -1;
	w->token = who->token;
	w->scopes = who->scopes;
	w->expires_at = who->expires_at;
	list_init(&w->by_token);
	list_init(&w->by_user);
	if (hub_keep(&w->remote, c->remote) != 0 ||
	    hub_keep(&w->address, c->address) != 0 ||
	    hub_keep(&w->login_id, c->claims.login_id) != 0 ||
	    (who->user != NULL &&
		((w->user = clone_new(CLONE_USER, who->user)) == NULL ||
		    (w->onlooker = take_onlooker(h, w->user->id)) == NULL)) ||
	    map_put(&h->watches, peer_key(&w->peer), w) != 0) {
		h->out->err = ERR_NOMEM;
		drop_onlooker(h, w);
		hub_unkeep(&w->remote);
		hub_unkeep(&w->address);
		hub_unkeep(&w->login_id);
		alloc_free(w->user);
		alloc_free(w);
		return NULL;
	}
	if (w->token != NULL)
		list_push(&w->token->watches, &w->by_token);
	if (w->user != NULL)
		w->owner = map_get(&h->users, w->user->id);
	if (w->owner != NULL)
		list_push(&w->owner->watches, &w->by_user);
	arm(h, w);
	return w;
}

void
hub_watch_is_agent(struct watch *w)
{
	if (w->onlooker != NULL && !w->agent)
		w->onlooker->counted--;
	w->agent = true;
}

bool
hub_watch_access(const struct watch *w, struct access *who)
{
	*who = (struct access){ .user = w->user,
		.token = w->token,
		.scopes = w->scopes,
		.expires_at = w->expires_at };
	return w->closed.ptr == NULL;
}

/* The snapshot ------------------------------------------------------------- */

static struct slice
keep_text(struct hub *h, struct slice s)
{
	struct slice copy = none;

	if (arena_copy(&h->out->arena, s, &copy) != 0)
		h->out->err = ERR_NOMEM;
	return copy;
}

void
hub_agent_news(struct hub *h, const struct agent *a, struct agent_news *n)
{
	*n = (struct agent_news){ .id = keep_text(h, a->id),
		.name = keep_text(h, a->record->name),
		.type = keep_text(h, a->session.type),
		.version = keep_text(h, a->session.version),
		.presence = a->presence,
		.shown = a->shown,
		.why = a->why,
		.since = a->since,
		.connected_at =
		    a->link != NULL || a->http ? a->connected_at : 0,
		.metadata_json = keep_text(h, a->session.metadata_json),
		.running = a->attached + a->detached,
		.queued = a->queued };
}

/* Figures that are long come with the agent's next report. */
static void
put_brief(struct hub *h, const struct agent *a, struct agent_news *n)
{
	hub_agent_news(h, a, n);
	if (n->metadata_json.len > METADATA_BRIEF)
		n->metadata_json = none;
}

static void
copy_list(struct hub *h, const struct access *who, int audience)
{
	size_t room =
	    h->agents.count < NEWS_MAX ? h->agents.count : (size_t)NEWS_MAX;
	struct agent_news *all =
	    arena_array(&h->out->arena, room + 1, sizeof(*all));

	h->list.stamp = 0;
	h->list.count = 0;
	h->list.truncated = false;
	if (all == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	for (size_t i = 0; i < h->agents.count && h->out->err == 0; i++) {
		if (!hub_may_see(h, who, h->sorted[i]))
			continue;
		if (h->list.count == room) {
			h->list.truncated = true;
			break;
		}
		put_brief(h, h->sorted[i], &all[h->list.count++]);
	}
	h->list.news = all;
	h->list.audience = audience;
	h->list.notice = h->next_notice;
	h->list.id++;
	if (h->out->err == 0)
		h->list.stamp = h->out->stamp;
}

/* All agents that w may see, in h->list. */
static void
list_agents(struct hub *h, const struct access *who, const struct watch *w)
{
	if (h->out->stamp == 0)
		h->out->stamp = ++h->stamps;
	if (h->list.stamp != h->out->stamp || h->list.audience != w->audience ||
	    h->list.notice != h->next_notice)
		copy_list(h, who, w->audience);
}

/* Coming in ---------------------------------------------------------------- */

static struct denied
too_many(struct slice text)
{
	return (struct denied){ .status = 429,
		.err = ERR_LIMITED,
		.code = SL("CONNECTION_LIMIT"),
		.text = text,
		.retry_after = 60 };
}

/* What a console's credential must hold to be worth a connection at all. */
static bool
may_knock(const struct access *who)
{
	return who->user != NULL || (who->scopes & hub_agent_scopes()) != 0;
}

static int
check_room(const struct hub *h, const struct access *who, struct denied *no)
{
	const struct onlooker *o =
	    who->user == NULL ? NULL : map_get(&h->onlookers, who->user->id);

	if (o == NULL || o->counted < h->config.user_connections)
		return 0;
	*no = too_many(SL("this user has the full number of connections"));
	return no->err;
}

static int
admit(struct hub *h, const struct event *ev, struct access *who,
    struct denied *no)
{
	bool monitor = ev->hello.entrance == ENTRANCE_MONITOR;
	const scope_set need =
	    monitor ? SCOPE_EVENT_READ | SCOPE_AGENT_READ : 0;
	int err = hub_resolve(h, ev, &ev->hello.credential, need, who, no);

	if (err != 0)
		return err;
	if (monitor ? who->user == NULL : !may_knock(who)) {
		*no = (struct denied){ .status = 403,
			.err = ERR_DENIED,
			.code = SL("NOT_PERMITTED"),
			.text = SL("this token may not do this") };
		return no->err;
	}
	return check_room(h, who, no);
}

/* 0, or a denial. */
static int
begin_watching(
    struct hub *h, struct watch *w, enum watch_kind kind, struct denied *no)
{
	if (w->audience < 0)
		w->audience = take_audience(h, w->user);
	if (w->audience < 0) {
		*no = too_many(SL("too many different selectors are watching"));
		return no->err;
	}
	if (kind != WATCH_EVENTS)
		count_screen(h, w);
	w->kind = kind;
	return 0;
}

void
hub_on_knock(struct hub *h, const struct event *ev)
{
	bool monitor = ev->hello.entrance == ENTRANCE_MONITOR;
	struct access who;
	struct denied no = { 0 };
	struct watch *w = NULL, *old = hub_find_watch(h, ev->peer);

	/* Of a request for events on the same connection, by HEAD. */
	if (old != NULL)
		hub_drop_watch(h, old);
	int err = admit(h, ev, &who, &no);
	if (err == 0)
		w = new_watch(h, ev, &ev->hello.credential, &who, WATCH_GUEST);
	if (w != NULL && monitor)
		err = begin_watching(h, w, WATCH_MONITOR, &no);
	if (err != 0) {
		if (w != NULL)
			hub_drop_watch(h, w);
		h->stats.denied++;
		struct event *re =
		    hub_send(h, ev->peer, EVENT_DENIED, ev->request_id, 0);
		if (re != NULL)
			re->denied = no;
		return;
	}
	struct event *re = w == NULL
	    ? NULL
	    : hub_send(h, ev->peer, EVENT_WELCOME, ev->request_id, 0);
	if (re == NULL)
		return;
	re->welcome = (struct welcome){ .scopes = w->scopes,
		.expires_at = w->expires_at,
		.audience = (uint16_t)(w->audience < 0 ? 0 : w->audience) };
	if (w->user != NULL) {
		re->welcome.user =
		    clone_in(&h->out->arena, CLONE_USER, w->user);
		if (re->welcome.user == NULL)
			h->out->err = ERR_NOMEM;
	}
	if (!monitor)
		return;
	list_agents(h, &who, w);
	re->welcome.news = h->list.news;
	re->welcome.news_count = h->list.count;
}

static void
reply_watch_denied(
    struct hub *h, const struct event *ev, const struct denied *no)
{
	hub_reply_error(h, ev, no->err, no->status, no->code, none, no->text);
}

/* A guest says that it is a dashboard; once it is one, the same again is
 * answered with what there is then. */
void
hub_watch_dashboard(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct watch *w = hub_find_watch(h, ev->peer);
	struct denied no = { 0 };

	if (w == NULL || hub_find_link(h, ev->peer) != NULL ||
	    (w->kind != WATCH_GUEST && w->kind != WATCH_DASHBOARD)) {
		hub_reply_error(h, ev, ERR_WRONG_STATE, 409,
		    SL("INVALID_MESSAGE"), SL("type"),
		    SL("this connection is no dashboard's"));
		return;
	}
	if (begin_watching(h, w, WATCH_DASHBOARD, &no) != 0) {
		reply_watch_denied(h, ev, &no);
		return;
	}
	if (hub_keep(&w->name, ev->request.watch_id) != 0) {
		h->out->err = ERR_NOMEM;
		return;
	}
	struct reply *r = hub_reply(h, ev, who, 0);
	if (r == NULL)
		return;
	r->audience = (uint16_t)w->audience;
	list_agents(h, who, w);
	r->news = h->list.news;
	r->news_count = h->list.count;
	r->truncated = h->list.truncated;
	r->news_id = h->list.id;
}

/* Followers of the event stream prove themselves by their request. */
void
hub_watch_events(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct denied no = { 0 };
	int err = check_room(h, who, &no);
	struct watch *old = hub_find_watch(h, ev->peer);

	if (old != NULL)
		hub_drop_watch(h, old);
	struct watch *w = err != 0
	    ? NULL
	    : new_watch(h, ev, &ev->request.credential, who, WATCH_EVENTS);
	if (w != NULL)
		err = begin_watching(h, w, WATCH_EVENTS, &no);
	if (err != 0) {
		if (w != NULL)
			hub_drop_watch(h, w);
		reply_watch_denied(h, ev, &no);
		return;
	}
	struct reply *r = w == NULL ? NULL : hub_reply(h, ev, who, 0);
	if (r == NULL)
		return;
	r->audience = (uint16_t)w->audience;
	r->audience_since = h->audiences[w->audience]->since;
}

/* Going -------------------------------------------------------------------- */

void
hub_close_watch(
    struct hub *h, struct watch *w, uint16_t code, struct slice reason)
{
	if (w->closed.ptr != NULL)
		return;
	w->closed = reason;
	hub_close(h, w->peer, code, reason);
}

void
hub_watch_timer(struct hub *h, struct watch *w)
{
	if (w->warned) {
		hub_close_watch(h, w, 1008, SL("token_expired"));
		return;
	}
	w->warned = true;
	arm(h, w);
	if (w->kind == WATCH_GUEST || w->kind == WATCH_DASHBOARD)
		hub_send(h, w->peer, EVENT_TOKEN_ENDS, none, 0);
}

void
hub_goodbye(struct hub *h, const struct event *ev)
{
	hub_close(h, ev->peer, 1000, SL("goodbye"));
}
