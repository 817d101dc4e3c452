#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_signed.h"
#include "model/hub_tunnel.h"

#include "model/hub.h"

enum {
	MAX_AGENTS = 100000,
	MAX_COMMANDS = 200000,
	MAX_TOKENS = 100000,
	MAX_USERS = 10000,
	MAX_LOGINS = 200000,
	MAX_ATTEMPTS = 20000,
	SCRATCH = 64 << 20,
};

static uint32_t
or_default(uint32_t given, uint32_t fallback)
{
	return given != 0 ? given : fallback;
}

static msec
or_time(msec given, msec fallback)
{
	return given != 0 ? given : fallback;
}

struct hub *
hub_new(const struct hub_config *config)
{
	struct hub *h = alloc_new(sizeof(*h));
	const uint64_t *seed = config->seed;

	if (h == NULL)
		return NULL;
	h->config = *config;
	struct hub_config *c = &h->config;
	c->max_agents = or_default(c->max_agents, MAX_AGENTS);
	c->max_commands = or_default(c->max_commands, MAX_COMMANDS);
	c->queue_limit = or_default(c->queue_limit, 1000);
	c->user_connections = or_default(c->user_connections, 200);
	c->concurrency = or_default(c->concurrency, 16);
	c->foreground_max = or_default(c->foreground_max, 256);
	c->grace = or_time(c->grace, 15000);
	c->start_grace = or_time(c->start_grace, 120000);
	c->http_grace = or_time(c->http_grace, 90000);
	c->attempts = or_default(c->attempts, 20);
	c->login_rate = or_default(c->login_rate, 5);
	c->request_rate = or_default(c->request_rate, 600);
	c->stranger_rate = or_default(c->stranger_rate, 120);
	memcpy(h->rng, seed, sizeof(h->rng));
	map_init(&h->users, MAX_USERS, seed);
	map_init(&h->tokens, 2 * MAX_TOKENS, seed);
	map_init(&h->tokens_by_id, MAX_TOKENS, seed);
	map_init(&h->agents, c->max_agents, seed);
	map_init(&h->clusters, c->max_agents, seed);
	map_init(&h->links, (size_t)c->max_agents * 2, seed);
	map_init(&h->watches, (size_t)c->max_agents * 2, seed);
	map_init(&h->onlookers, (size_t)c->max_agents * 2, seed);
	map_init(&h->commands, c->max_commands, seed);
	map_init(&h->keys, c->max_commands, seed);
	map_init(&h->by_key, c->max_agents, seed);
	map_init(&h->secrets, c->max_agents, seed);
	map_init(&h->logins, MAX_LOGINS, seed);
	rate_init(&h->attempts, MAX_ATTEMPTS, seed);
	rate_init(&h->logins_tried, MAX_ATTEMPTS, seed);
	rate_init(&h->requests, MAX_ATTEMPTS, seed);
	rate_init(&h->strangers, MAX_ATTEMPTS, seed);
	arena_init(&h->scratch, SCRATCH);
	list_init(&h->pending);
	list_init(&h->queue_news);
	hub_stop_init(h);
	hub_tunnel_init(h);
	list_init(&h->fans);
	heap_init(&h->timers, c->max_agents);
	heap_init(&h->deadlines, c->max_commands);
	heap_init(&h->watch_timers, (size_t)c->max_agents * 2);
	if (hub_keep(&h->incarnation, config->incarnation) != 0) {
		hub_free(h);
		return NULL;
	}
	c->incarnation = h->incarnation;
	return h;
}

void
hub_free(struct hub *h)
{
	size_t pos;

	if (h == NULL)
		return;
	hub_free_fans(h);
	while (!list_empty(&h->pending))
		hub_free_pending(
		    LIST_OF(h->pending.next, struct pending, link));
	for (struct command *c;
	     pos = 0, (c = map_next(&h->commands, &pos)) != NULL;)
		hub_drop_command(h, c);
	for (struct watch *w;
	     pos = 0, (w = map_next(&h->watches, &pos)) != NULL;)
		hub_drop_watch(h, w);
	hub_free_audiences(h);
	for (struct link *l; pos = 0, (l = map_next(&h->links, &pos)) != NULL;)
		hub_drop_link(h, l);
	hub_tunnel_fini(h);
	for (struct agent *a;
	     pos = 0, (a = map_next(&h->agents, &pos)) != NULL;)
		hub_remove_agent(h, a);
	hub_stop_fini(h);
	for (struct token *t;
	     pos = 0, (t = map_next(&h->tokens_by_id, &pos)) != NULL;)
		hub_remove_token(h, t);
	hub_free_secrets(h);
	for (struct user *u; pos = 0, (u = map_next(&h->users, &pos)) != NULL;)
		hub_free_user(h, u);
	map_fini(&h->users);
	map_fini(&h->tokens);
	map_fini(&h->tokens_by_id);
	map_fini(&h->agents);
	map_fini(&h->clusters);
	map_fini(&h->links);
	map_fini(&h->watches);
	map_fini(&h->onlookers);
	map_fini(&h->commands);
	map_fini(&h->keys);
	map_fini(&h->by_key);
	map_fini(&h->secrets);
	map_fini(&h->logins);
	rate_fini(&h->attempts);
	rate_fini(&h->logins_tried);
	rate_fini(&h->requests);
	rate_fini(&h->strangers);
	arena_fini(&h->scratch);
	heap_fini(&h->timers);
	heap_fini(&h->deadlines);
	heap_fini(&h->watch_timers);
	alloc_free(h->sorted);
	hub_unkeep(&h->incarnation);
	alloc_free(h);
}

/* After a start every agent that was there may be about to come back; it
 * has not left, so nothing is announced.  The others stay away. */
static int
load_agent(struct hub *h, const struct agent_record *r)
{
	if (r->removed_at != 0)
		return 0;
	if (h->agents.count == h->config.max_agents)
		return ERR_FULL;
	struct agent *a = hub_add_agent(h, r);
	if (a == NULL)
		return ERR_NOMEM;
	a->stored = true;
	a->presence = a->shown = PRESENCE_OFFLINE;
	a->why = SL("never_connected");
	a->since = r->registered_at != 0 ? r->registered_at : r->created_at;
	return 0;
}

static int
load_link(struct hub *h, const struct connection_record *r, msec now)
{
	struct agent *a = map_get(&h->agents, r->agent_id);

	if (a == NULL)
		return 0;
	a->since = r->closed_at;
	a->why = hub_reason(r->why);
	if (r->closed_at != 0 && !slice_eq(r->why, SL("controller_stopped")))
		return 0;
	a->presence = PRESENCE_RECONNECTING;
	a->shown = PRESENCE_ONLINE;
	a->why = SL("controller_restarted");
	a->since = r->closed_at != 0 ? r->closed_at : a->record->seen_at;
	return heap_set(&h->timers, &a->timer, now + h->config.start_grace);
}

static int
load_command(struct hub *h, const struct command_record *r, msec now)
{
	struct agent *a = map_get(&h->agents, r->agent_id);

	if (a == NULL)
		return 0;
	if (h->commands.count == h->config.max_commands)
		return ERR_FULL;
	struct command *c = hub_add_command(h, r);
	if (c == NULL)
		return ERR_NOMEM;
	if (r->state == COMMAND_QUEUED) {
		c->floor = r->sequence;
		c->record->sequence = 0;
	} else if (a->record->sequence < r->sequence) {
		a->record->sequence = r->sequence;
	}
	/* No wall clock is known here: the first turn looks at its deadline. */
	return hub_command_active(c) ? 0
				     : heap_set(&h->deadlines, &c->timer, now);
}

int
hub_load(struct hub *h, const struct hub_snapshot *s, msec now)
{
	int err = 0;

	h->next_link = s->last_link;
	for (size_t i = 0; i < s->user_count && err == 0; i++)
		err = hub_add_user(h, &s->users[i]) == NULL ? ERR_NOMEM : 0;
	/* One that nobody could end: its user was removed meanwhile. */
	for (size_t i = 0; i < s->login_count && err == 0; i++)
		hub_add_login(h, &s->logins[i]);
	for (size_t i = 0; i < s->token_count && err == 0; i++)
		err = hub_add_token(h, &s->tokens[i]) == NULL ? ERR_NOMEM : 0;
	for (size_t i = 0; i < s->secret_count && err == 0; i++)
		err = hub_add_secret(h, &s->secrets[i]) == NULL ? ERR_NOMEM : 0;
	for (size_t i = 0; i < s->agent_count && err == 0; i++)
		err = load_agent(h, &s->agents[i]);
	for (size_t i = 0; i < s->link_count && err == 0; i++)
		err = load_link(h, &s->links[i], now);
	for (size_t i = 0; i < s->command_count && err == 0; i++)
		err = load_command(h, &s->commands[i], now);
	if (err == 0)
		err = hub_load_routes(h, s);
	return err != 0 ? err : hub_load_stops(h, s, now);
}

/* Ids, effects, notices ---------------------------------------------------- */

/* xoshiro256**: ids need to be unique, not secret. */
static uint64_t
draw(struct hub *h)
{
	uint64_t *s = h->rng;
	uint64_t x = s[1] * 5;
	uint64_t out = (x << 7 | x >> 57) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = s[3] << 45 | s[3] >> 19;
	return out;
}

struct slice
hub_make_id(struct hub *h, struct slice prefix)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint8_t *text = arena_alloc(&h->out->arena, prefix.len + 20);

	if (text == NULL) {
		h->out->err = ERR_NOMEM;
		return (struct slice){ 0 };
	}
	memcpy(text, prefix.ptr, prefix.len);
	uint64_t bits[2] = { draw(h), draw(h) };
	for (size_t i = 0; i < 20; i++) {
		text[prefix.len + i] = (uint8_t)alphabet[bits[i / 10] & 31];
		bits[i / 10] >>= 5;
	}
	return (struct slice){ text, prefix.len + 20 };
}

/* Version 4 of RFC 9562. */
struct slice
hub_make_uuid(struct hub *h)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t *text = arena_alloc(&h->out->arena, 36);
	uint64_t bits[2] = { draw(h), draw(h) };

	if (text == NULL) {
		h->out->err = ERR_NOMEM;
		return (struct slice){ 0 };
	}
	for (size_t i = 0, nibble = 0; i < 36; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			text[i] = '-';
			continue;
		}
		unsigned n =
		    (unsigned)(bits[nibble / 16] >> (nibble % 16 * 4)) & 15;
		if (nibble == 12)
			n = 4;
		if (nibble == 16)
			n = 8 | (n & 3);
		text[i] = (uint8_t)hex[n];
		nibble++;
	}
	return (struct slice){ text, 36 };
}

struct op *
hub_store(struct hub *h, enum op_verb verb)
{
	struct op *op = arena_alloc(&h->out->arena, sizeof(*op));

	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	struct effect *e = outbox_add(h->out, EFFECT_STORE);
	if (e == NULL)
		return NULL;
	op->verb = verb;
	op->number = ++h->next_op;
	op->at = h->wall;
	e->op = op;
	return op;
}

int
hub_keep(struct slice *kept, struct slice s)
{
	uint8_t *copy = NULL;

	if (s.ptr != NULL) {
		copy = alloc_new(s.len + 1);
		if (copy == NULL)
			return ERR_NOMEM;
		if (s.len > 0)
			memcpy(copy, s.ptr, s.len);
	}
	hub_unkeep(kept);
	*kept = (struct slice){ copy, s.len };
	return 0;
}

void
hub_unkeep(struct slice *kept)
{
	alloc_free((void *)(uintptr_t)kept->ptr);
	*kept = (struct slice){ 0 };
}

/* In the order of the numbers; nearly always at the end. */
static void
enlist(struct hub *h, struct pending *p)
{
	struct list *at = &h->pending;

	while (at->prev != &h->pending &&
	    LIST_OF(at->prev, struct pending, link)->number > p->number)
		at = at->prev;
	list_insert_before(at, &p->link);
}

struct pending *
hub_pend(struct hub *h, uint64_t number, enum pending_kind kind,
    struct slice id, const struct event *asked)
{
	struct pending *p = alloc_new(sizeof(*p));

	if (p == NULL || hub_keep(&p->id, id) != 0) {
		h->out->err = ERR_NOMEM;
		alloc_free(p);
		return NULL;
	}
	p->number = number;
	p->kind = kind;
	if (asked != NULL) {
		p->peer = asked->peer;
		if (hub_keep(&p->request_id, asked->request_id) != 0)
			h->out->err = ERR_NOMEM;
		if (asked->kind == EVENT_REQUEST)
			p->op = asked->request.op;
	}
	enlist(h, p);
	return p;
}

struct event *
hub_send(struct hub *h, struct peer_id peer, enum event_kind kind,
    struct slice request_id, uint64_t after)
{
	struct event *ev = outbox_send(h->out, peer, kind);

	if (ev == NULL)
		return NULL;
	ev->at = h->wall;
	if (arena_copy(&h->out->arena, request_id, &ev->request_id) != 0)
		h->out->err = ERR_NOMEM;
	h->out->effects[h->out->count - 1].after = after;
	return ev;
}

void
hub_send_error(struct hub *h, const struct event *to, int err,
    struct slice code, struct slice field, struct slice text)
{
	struct event *ev =
	    hub_send(h, to->peer, EVENT_ERROR, to->request_id, 0);

	if (ev == NULL)
		return;
	ev->complaint = (struct complaint){ .err = err };
	if (arena_copy(&h->out->arena, code, &ev->complaint.code) != 0 ||
	    arena_copy(&h->out->arena, field, &ev->complaint.field) != 0 ||
	    arena_copy(&h->out->arena, text, &ev->complaint.text) != 0)
		h->out->err = ERR_NOMEM;
}

void
hub_close(
    struct hub *h, struct peer_id peer, uint16_t code, struct slice reason)
{
	struct effect *e = outbox_add(h->out, EFFECT_CLOSE);
	struct link *l = hub_find_link(h, peer);
	struct watch *w = hub_find_watch(h, peer);

	if (e == NULL)
		return;
	if (l != NULL)
		l->closed = reason;
	if (w != NULL)
		w->closed = reason;
	e->peer = peer;
	e->close.code = code;
	e->close.reason = reason;
}

struct notice *
hub_publish(struct hub *h, enum notice_kind kind, struct slice name,
    const struct agent *a, uint64_t after)
{
	struct event *ev = arena_alloc(&h->out->arena, sizeof(*ev));
	struct effect *e =
	    ev == NULL ? NULL : outbox_add(h->out, EFFECT_PUBLISH);

	if (e == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	ev->kind = EVENT_NOTICE;
	ev->at = h->wall;
	ev->notice = (struct notice){
		.kind = kind, .name = name, .number = ++h->next_notice
	};
	struct slice id = a == NULL ? (struct slice){ 0 } : a->record->id;
	if (arena_copy(&h->out->arena, id, &ev->notice.agent_id) != 0)
		h->out->err = ERR_NOMEM;
	e->after = after;
	e->event = ev;
	e->seen_by = hub_seen_by(h, a);
	return &ev->notice;
}

void
hub_notice(struct hub *h, struct slice name, const struct agent *a,
    struct slice command_id, struct slice data_json, uint64_t after)
{
	struct notice *n = hub_publish(h, NOTICE_OTHER, name, a, after);

	if (n == NULL)
		return;
	n->data_json = data_json;
	if (arena_copy(&h->out->arena, command_id, &n->command_id) != 0)
		h->out->err = ERR_NOMEM;
}

struct audit_note
hub_audit(struct slice actor, struct slice action, struct slice object,
    const struct event *asked, struct slice remote)
{
	return (struct audit_note){
		.actor = actor,
		.action = action,
		.object = object,
		.result = SL("ok"),
		.request_id =
		    asked == NULL ? (struct slice){ 0 } : asked->request_id,
		.remote = remote,
	};
}

struct slice
hub_text(struct hub *h, const struct slice *parts, size_t n)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += parts[i].len;
	uint8_t *text = arena_alloc(&h->out->arena, len + 1);
	if (text == NULL) {
		h->out->err = ERR_NOMEM;
		return (struct slice){ 0 };
	}
	len = 0;
	for (size_t i = 0; i < n; i++) {
		if (parts[i].len > 0)
			memcpy(text + len, parts[i].ptr, parts[i].len);
		len += parts[i].len;
	}
	return (struct slice){ text, len };
}

/* The door --------------------------------------------------------------- */

static void
on_ping(struct hub *h, struct link *l, const struct event *ev)
{
	(void)l;
	hub_send(h, ev->peer, EVENT_PONG, ev->request_id, 0);
}

static void
on_bad(struct hub *h, struct link *l, const struct event *ev)
{
	(void)l;
	hub_send_error(h, ev, ev->complaint.err, ev->complaint.code,
	    ev->complaint.field, ev->complaint.text);
}

/* From a lane, which has the agent's word for it. */
static void
on_speech(struct hub *h, struct link *l, const struct event *ev)
{
	l->speech = ev->speech;
	if (l->agent != NULL && l->agent->link == l)
		hub_forget_agent(h, l->agent);
}

static void
on_tunnel_info(struct hub *h, struct link *l, const struct event *ev)
{
	struct agent *a = hub_called(h, l, ev, ev->call.cluster_id);

	if (a == NULL)
		return;
	struct event *re =
	    hub_send(h, ev->peer, EVENT_TUNNEL_REPLY, ev->request_id, 0);
	if (re == NULL)
		return;
	re->registered.at = h->wall;
	re->registered.native = a->link != NULL;
	if (arena_copy(&h->out->arena, a->record->cluster_id,
		&re->registered.cluster_id) != 0 ||
	    arena_copy(
		&h->out->arena, a->record->id, &re->registered.agent_id) != 0)
		h->out->err = ERR_NOMEM;
}

static void
on_stray(struct hub *h, const struct event *ev)
{
	(void)h;
	(void)ev;
}

/* What needs no connection that was let in: knocks, requests with their own
 * credential, and words of our own parts. */
static void (*const from_anyone[EVENT_KINDS])(
    struct hub *h, const struct event *ev) = {
	[EVENT_HELLO] = hub_on_hello,
	[EVENT_GONE] = hub_on_gone,
	[EVENT_REQUEST] = hub_on_request,
	[EVENT_STORED] = hub_on_stored,
	[EVENT_COMMAND_STARTED] = hub_on_started,
	[EVENT_COMMAND_EXIT] = hub_on_outcome,
	[EVENT_COMMAND_REFUSED] = hub_on_outcome,
	[EVENT_STREAM_LOST] = hub_on_stream_lost,
	[EVENT_STOP_WRITTEN] = hub_on_stop_written,
	[EVENT_STOP_SWITCH] = hub_on_stop_switch,
	[EVENT_PONGED] = on_stray,
	[EVENT_GOODBYE] = hub_goodbye,
};

static void (*const from_link[EVENT_KINDS])(
    struct hub *h, struct link *l, const struct event *ev) = {
	[EVENT_REGISTER] = hub_on_register,
	[EVENT_HEARTBEAT] = hub_on_heartbeat,
	[EVENT_PING] = on_ping,
	[EVENT_POLL] = hub_on_poll,
	[EVENT_TUNNEL_INFO] = on_tunnel_info,
	[EVENT_RESULT] = hub_on_result,
	[EVENT_ACK] = hub_on_ack,
	[EVENT_BAD] = on_bad,
	[EVENT_AGENT_STARTED] = hub_on_agent_word,
	[EVENT_AGENT_ENDED] = hub_on_agent_word,
	[EVENT_STOP_REPORT] = hub_on_stop_report,
	[EVENT_LOCAL_STOP] = hub_on_local_stop,
	[EVENT_TRACE] = hub_on_trace,
	[EVENT_SPEECH] = on_speech,
	[EVENT_LOG] = hub_on_log,
	[EVENT_FORGED] = hub_on_forged,
};

/* Dashboards are corrected and answered, too. */
static bool
from_watch(struct hub *h, struct watch *w, const struct event *ev)
{
	(void)w;
	if (ev->kind == EVENT_PING)
		on_ping(h, NULL, ev);
	else if (ev->kind == EVENT_BAD)
		on_bad(h, NULL, ev);
	else
		return false;
	return true;
}

static void
handle(struct hub *h, const struct event *ev)
{
	if (from_anyone[ev->kind] != NULL) {
		from_anyone[ev->kind](h, ev);
		return;
	}
	struct link *l = hub_find_link(h, ev->peer);
	struct watch *w = l != NULL ? NULL : hub_find_watch(h, ev->peer);
	if (w != NULL && w->closed.ptr == NULL && from_watch(h, w, ev))
		return;
	if (w != NULL && ev->kind == EVENT_REGISTER)
		l = hub_guest_link(h, w, ev);
	if (l != NULL && l->closed.ptr == NULL && from_link[ev->kind] != NULL)
		from_link[ev->kind](h, l, ev);
}

/* Who acted may be forgotten before the batch is handed over. */
static void
keep_actors(struct hub *h, size_t from)
{
	for (size_t i = from; i < h->out->count; i++) {
		const struct effect *e = &h->out->effects[i];
		struct op *op;
		struct slice actor;
		if (e->kind != EFFECT_STORE || e->op->audit.actor.len == 0)
			continue;
		/* Ours, made by hub_store. */
		op = (struct op *)(uintptr_t)e->op;
		if (arena_copy(&h->out->arena, op->audit.actor, &actor) == 0)
			op->audit.actor = actor;
		else
			h->out->err = ERR_NOMEM;
	}
}

void
hub_input(struct hub *h, const struct event *ev, msec now, struct outbox *out)
{
	assert(ev->kind < EVENT_KINDS);
	h->now = now;
	h->wall = ev->at;
	h->out = out;
	h->stats.events[ev->kind]++;
	struct hub_mark mark = hub_mark(h);
	handle(h, ev);
	keep_actors(h, mark.effects);
	hub_roll_back(h, &mark);
}

msec
hub_deadline(const struct hub *h)
{
	const struct heap_node *a = heap_first(&h->timers);
	const struct heap_node *c = heap_first(&h->deadlines);
	const struct heap_node *w = heap_first(&h->watch_timers);
	msec due = a == NULL ? INT64_MAX : a->due;

	msec q = hub_queue_deadline(h);

	if (c != NULL && c->due < due)
		due = c->due;
	if (q < due)
		due = q;
	if (hub_stop_deadline(h) < due)
		due = hub_stop_deadline(h);
	if (hub_tunnel_deadline(h) < due)
		due = hub_tunnel_deadline(h);
	return w != NULL && w->due < due ? w->due : due;
}

static void
keep_stops(struct hub *h)
{
	if (hub_stop_deadline(h) > h->now)
		return;
	struct hub_mark mark = hub_mark(h);
	hub_stop_timer(h);
	hub_roll_back(h, &mark);
}

static void
keep_tunnels(struct hub *h)
{
	struct hub_mark mark = hub_mark(h);

	hub_tunnel_timer(h);
	hub_roll_back(h, &mark);
}

enum { TIMERS_PER_TURN = 1024 };

void
hub_expire(struct hub *h, msec now, wall_msec wall, struct outbox *out)
{
	struct heap_node *n;

	h->now = now;
	h->wall = wall;
	h->out = out;
	keep_stops(h);
	keep_tunnels(h);
	for (int i = 0; i < TIMERS_PER_TURN; i++) {
		n = heap_first(&h->timers);
		if (n == NULL || n->due > now)
			break;
		heap_drop(&h->timers, n);
		struct hub_mark mark = hub_mark(h);
		hub_agent_timer(h, LIST_OF(n, struct agent, timer));
		hub_roll_back(h, &mark);
	}
	for (int i = 0; i < TIMERS_PER_TURN; i++) {
		n = heap_first(&h->deadlines);
		if (n == NULL || n->due > now)
			break;
		heap_drop(&h->deadlines, n);
		struct hub_mark mark = hub_mark(h);
		hub_command_timer(h, LIST_OF(n, struct command, timer));
		hub_roll_back(h, &mark);
	}
	for (int i = 0; i < TIMERS_PER_TURN; i++) {
		n = heap_first(&h->watch_timers);
		if (n == NULL || n->due > now)
			break;
		heap_drop(&h->watch_timers, n);
		struct hub_mark mark = hub_mark(h);
		hub_watch_timer(h, LIST_OF(n, struct watch, timer));
		hub_roll_back(h, &mark);
	}
	for (int i = 0; i < TIMERS_PER_TURN; i++) {
		struct hub_mark mark = hub_mark(h);
		bool more = hub_queue_expire(h);
		hub_roll_back(h, &mark);
		if (!more)
			break;
	}
}

void
hub_stats_get(const struct hub *h, struct hub_stats *out)
{
	size_t pos = 0;

	*out = h->stats;
	out->agents = h->agents.count;
	out->links = h->links.count;
	hub_watch_stats(h, out);
	out->commands_live = h->commands.count;
	memset(out->by_presence, 0, sizeof(out->by_presence));
	out->bytes =
	    h->commands.count * sizeof(struct command) + h->figure_bytes;
	hub_stop_stats(h, out);
	out->routes = h->tunnels.count;
	out->tunnel_grants = h->tunnels.grants;
	for (struct agent *a; (a = map_next(&h->agents, &pos)) != NULL;) {
		out->by_presence[a->presence]++;
		out->bytes += sizeof(*a) + clone_size(CLONE_AGENT, a->record) +
		    a->session.metadata_json.len;
	}
}
