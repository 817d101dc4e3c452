#include <fcntl.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/addr.h"
#include "io/clock.h"
#include "io/listen.h"
#include "io/log.h"
#include "io/rand.h"

#include "server/conn.h"
#include "server/console.h"
#include "server/echo.h"
#include "server/flow.h"
#include "server/follow.h"
#include "server/gateway.h"
#include "server/link.h"
#include "server/live.h"
#include "server/monitor.h"
#include "server/news.h"
#include "server/pass.h"
#include "server/pipe.h"
#include "server/port.h"
#include "server/readers.h"
#include "server/signed.h"
#include "server/sites.h"

#include "server/dock.h"

enum {
	RETRY_AFTER = 20,
	OUT_CAP = 64 * 1024 * 1024,
	TEXT_CAP = 32 * 1024 * 1024,
	SCRATCH_CAP = 64 * 1024 * 1024,
	PIPES_CAP = 200000,
	DEFLATE_LEVEL = 1,
};

static struct dock *
dock_of(struct lane *lane)
{
	return lane->config.arg;
}

/* Life --------------------------------------------------------------------- */

static void on_retry(struct loop_timer *t);
static void on_depart(struct loop_task *t);
static void on_homeward(struct loop_task *t);

static void
on_settle(struct loop_task *t)
{
	struct dock *d = LIST_OF(t, struct dock, settle);
	msec lag = loop_lag(d->lane.loop);

	/* The reader takes it away; a lost race is a lag not told. */
	if (lag > atomic_load_explicit(&d->lag, memory_order_relaxed))
		atomic_store_explicit(&d->lag, lag, memory_order_relaxed);
}

static void
init(struct dock *d)
{
	uint64_t seed[2], key[2];

	rand_fill(seed, sizeof(seed));
	rand_fill(key, sizeof(key));
	wsconn_lane_init(&d->ws, key, DEFLATE_LEVEL);
	link_setup(d);
	flow_setup(d);
	gateway_setup(d);
	echo_setup(d);
	console_setup(d);
	monitor_setup(d);
	signed_setup(d);
	live_setup(d);
	news_setup(d, seed);
	fanout_init(&d->fanout, d);
	buf_init(&d->out, OUT_CAP);
	buf_init(&d->text, TEXT_CAP);
	arena_init(&d->scratch, SCRATCH_CAP);
	map_init(&d->pipes, PIPES_CAP, seed);
	pass_setup(d, seed);
	list_init(&d->conns);
	list_init(&d->followers);
	list_init(&d->readers);
	list_init(&d->ghosts);
	list_init(&d->transits);
	list_init(&d->leaving);
	list_init(&d->afloat);
	loop_task_init(&d->depart, on_depart);
	d->request_base = rand_u64();
	loop_task_init(&d->homeward, on_homeward);
	loop_task_init(&d->settle, on_settle);
	loop_hook(d->lane.loop, LOOP_SETTLE, &d->settle);
}

static void
stop_listening(struct dock *d)
{
	for (size_t i = 0; i < d->listener_count; i++)
		listener_close(d->listeners[i]);
	d->listener_count = 0;
	ports_stop(d);
}

static void
drop_these(struct list *conns)
{
	struct list *l = conns->next;

	while (l != conns) {
		struct conn *c = LIST_OF(l, struct conn, link);
		l = l->next;
		conn_drop(c);
	}
}

static void
drop_all(struct dock *d)
{
	drop_these(&d->conns);
	drop_these(&d->leaving);
}

static bool
has_conns(const struct dock *d)
{
	return !list_empty(&d->conns) || !list_empty(&d->leaving);
}

/* What the hub did not take in time dies here. */
static void
drop_owed(struct dock *d)
{
	for (struct list *l; (l = list_pop(&d->transits)) != NULL;) {
		struct transit *t = LIST_OF(l, struct transit, link);
		if (t->conn != NULL)
			conn_discard(t->conn);
	}
	for (struct list *l; (l = list_pop(&d->afloat)) != NULL;)
		conn_discard(LIST_OF(l, struct conn, link));
	for (struct list *l; (l = list_pop(&d->ghosts)) != NULL;)
		alloc_free(LIST_OF(l, struct conn, link));
	loop_timer_stop(d->lane.loop, &d->retry);
}

void
dock_end(struct lane *lane)
{
	struct dock *d = dock_of(lane);

	stop_listening(d);
	drop_all(d);
	/* Streams close from the loop, and readers may still be at work. */
	for (int i = 0; i < 1000 && (has_conns(d) || readers_busy(d)); i++)
		loop_turn(lane->loop, i > 10);
	if (!has_conns(d)) {
		/* Those that were still shaking hands close, too. */
		loop_turn(lane->loop, false);
		stream_loop_fini(lane->loop);
	}
	ports_end(d);
	readers_end(d);
	pipe_end(d);
	gateway_fini(d);
	live_end(d);
	pass_end(d);
	sites_replace(d, NULL, NULL);
	news_end(d);
	fanout_free(d->list);
	fanout_fini(&d->fanout);
	drop_owed(d);
	loop_task_drop(&d->settle);
	loop_task_drop(&d->homeward);
	loop_task_drop(&d->flow_task);
	loop_task_drop(&d->depart);
	if (!has_conns(d))
		stream_loop_fini(lane->loop);
	recent_fini(&d->recent);
	wsconn_lane_fini(&d->ws);
	buf_fini(&d->out);
	buf_fini(&d->text);
	canon_work_fini(&d->canon);
	arena_fini(&d->scratch);
	map_fini(&d->pipes);
	alloc_free(d->slots);
	alloc_free(d->generations);
	alloc_free(d->free_slots);
	d->slots = NULL;
	d->slot_count = 0;
}

/* Listening ---------------------------------------------------------------- */

static void
on_accept(void *owner, struct stream *s)
{
	conn_new(owner, s);
}

/* Each lane has a socket of its own at the same address, bound by the first
 * lane; a path has one, on the first. */
static bool
share_address(const struct dock *d, struct listen_config *c)
{
	const struct dock *first = d->server->docks;

	if (d == first)
		return true;
	c->address = *listener_address(first->listeners[d->listener_count]);
	return c->address.sa.sa_family != AF_UNIX;
}

static int
listen_at(struct dock *d, struct listen_config *c, struct slice wish)
{
	char reason[LISTEN_WHY] = "", text[ADDR_TEXT];
	int err = listener_open(d->lane.loop, c, on_accept, d,
	    &d->listeners[d->listener_count], reason);

	if (err != 0) {
		snprintf(d->why, sizeof(d->why), "%.*s: %s", SLICE_FMT(wish),
		    reason);
		return err;
	}
	/* Until all lanes are there. */
	listener_pause(d->listeners[d->listener_count], true);
	addr_format(
	    &listener_address(d->listeners[d->listener_count++])->sa, text);
	if (d == d->server->docks)
		log_info("listening", kv_s("address", slice_from(text)),
		    kv_b("tls", c->tls != NULL), kv_b("proxy", c->proxy));
	return 0;
}

/* ADDR:PORT[,proxy] */
static int
listen_to_wish(struct dock *d, struct slice wish)
{
	size_t comma = slice_find(wish, ',');
	struct slice address = slice_first(wish, comma);
	struct slice word = slice_from_at(wish, comma + 1);
	struct listen_config c = { .proxy = slice_eq(word, SL("proxy")),
		.reuse_port = d->server->dock_count > 1,
		.tls = d->server->tls };

	if ((word.len > 0 && !c.proxy) ||
	    addr_parse(address, &c.address) != 0) {
		snprintf(d->why, sizeof(d->why),
		    "\"%.*s\" is not ADDRESS:PORT[,proxy]", SLICE_FMT(wish));
		return ERR_INVALID;
	}
	/* With SO_REUSEPORT another controller of ours would not stand in
	 * the way: look first. */
	if (d == d->server->docks && c.reuse_port &&
	    !listen_is_free(&c.address)) {
		snprintf(d->why, sizeof(d->why), "%.*s: the address is in use",
		    SLICE_FMT(wish));
		return ERR_BUSY;
	}
	return share_address(d, &c) ? listen_at(d, &c, wish) : 0;
}

/* A socket of the service manager's, of which each lane has a copy. */
static int
listen_on_inherited(struct dock *d, int fd)
{
	struct listen_config c = {
		.tls = d->server->tls, .inherited = true, .fd = fd
	};

	if (d != d->server->docks)
		c.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (c.fd >= 0)
		return listen_at(d, &c, SL("inherited"));
	snprintf(d->why, sizeof(d->why), "inherited: no descriptor is left");
	return ERR_FULL;
}

static int
open_listeners(struct dock *d)
{
	const struct settings *s = &d->server->settings;
	int err = 0;

	for (int i = 0; err == 0 && i < d->server->inherited && i < LISTENS_MAX;
	     i++)
		err = listen_on_inherited(d, 3 + i);
	for (size_t i = 0;
	     err == 0 && d->server->inherited == 0 && i < s->listen_count; i++)
		err = listen_to_wish(d, s->listens[i]);
	return err;
}

int
dock_begin(struct lane *lane)
{
	struct dock *d = dock_of(lane);

	init(d);
	int err = canon_work_init(&d->canon, TEXT_CAP);
	if (err == 0)
		err = open_listeners(d);
	if (err == 0)
		err = ports_open(d);
	if (err != 0)
		dock_end(lane);
	return err;
}

/* Events ------------------------------------------------------------------ */

static struct hub_mail *
new_mail(struct dock *d, struct arena **arena)
{
	*arena = mailbox_arena(&d->lane.to_hub, MAIL_NORMAL);
	return *arena == NULL ? NULL
			      : arena_alloc(*arena, sizeof(struct hub_mail));
}

struct event *
dock_event(struct dock *d, enum event_kind kind, struct arena **arena)
{
	struct arena *a;
	struct hub_mail *m = new_mail(d, &a);

	if (m == NULL)
		return NULL;
	m->event.kind = kind;
	m->event.at = clock_wall();
	if (arena != NULL)
		*arena = a;
	return &m->event;
}

static int
put(struct dock *d, struct hub_mail *m)
{
	m->ticket = atomic_fetch_add_explicit(
	    &d->server->tickets, 1, memory_order_relaxed);
	return mailbox_put(&d->lane.to_hub, MAIL_NORMAL, &m->mail);
}

/* One for each connection, and for those on the move. */
static size_t
reserve(const struct dock *d)
{
	return d->slot_count + CUT_MAX;
}

int
dock_post(struct dock *d, struct event *ev)
{
	struct hub_mail *m = LIST_OF(ev, struct hub_mail, event);
	int err = ERR_FULL;

	if (ev->kind == EVENT_GONE ||
	    mailbox_room(&d->lane.to_hub, MAIL_NORMAL) > reserve(d))
		err = put(d, m);
	if (err != 0)
		log_warn("hub_overloaded", kv_e("err", err));
	return err;
}

int
dock_relay(struct dock *d, struct live_parcel *p)
{
	struct arena *a;
	struct hub_mail *m = new_mail(d, &a);

	if (m == NULL)
		return ERR_NOMEM;
	if (mailbox_room(&d->lane.to_hub, MAIL_NORMAL) <= reserve(d))
		return ERR_FULL;
	m->parcel = p;
	return put(d, m);
}

static bool
return_transit(struct dock *d, struct transit *t)
{
	struct arena *a;
	struct hub_mail *m = new_mail(d, &a);

	if (m == NULL)
		return false;
	m->transit = t;
	return put(d, m) == 0;
}

/* Hand a traveller over to the hub, who knows the other lanes. */
static bool
send_off(struct dock *d, struct conn *c)
{
	struct arena *a;
	struct hub_mail *m = new_mail(d, &a);

	if (m == NULL ||
	    mailbox_room(&d->lane.to_hub, MAIL_NORMAL) <= reserve(d))
		return false;
	m->traveller = c;
	return put(d, m) == 0;
}

static bool
say_gone(struct dock *d, const struct conn *c)
{
	struct event *ev = dock_event(d, EVENT_GONE, NULL);

	if (ev == NULL)
		return false;
	ev->peer = c->id;
	ev->gone.why = c->why;
	return dock_post(d, ev) == 0;
}

void
dock_farewell(struct dock *d, struct conn *c)
{
	if (c->greeted && say_gone(d, c))
		c->greeted = false;
}

static void
retry_later(struct dock *d)
{
	/* Setting it can fail once; then the next debt sets it. */
	loop_timer_set(d->lane.loop, &d->retry,
	    loop_now(d->lane.loop) + RETRY_AFTER, on_retry);
}

void
dock_return(struct dock *d, struct transit *t)
{
	if (list_empty(&d->transits) && return_transit(d, t))
		return;
	list_push(&d->transits, &t->link);
	retry_later(d);
}

void
dock_mourn(struct dock *d, struct conn *c)
{
	if (list_empty(&d->ghosts) && say_gone(d, c)) {
		alloc_free(c);
		return;
	}
	list_push(&d->ghosts, &c->link);
	retry_later(d);
}

static void
send_off_all(struct dock *d)
{
	while (!list_empty(&d->afloat)) {
		struct conn *c = LIST_OF(d->afloat.next, struct conn, link);
		list_remove(&c->link);
		if (send_off(d, c))
			continue;
		list_push_front(&d->afloat, &c->link);
		retry_later(d);
		return;
	}
}

/* Those that leave for other lanes: off this one. */
static void
on_depart(struct loop_task *t)
{
	struct dock *d = LIST_OF(t, struct dock, depart);

	while (!list_empty(&d->leaving)) {
		struct conn *c = LIST_OF(d->leaving.next, struct conn, link);
		bool left = !c->ending && conn_leave(c) == 0;
		list_remove(&c->link);
		list_push(left ? &d->afloat : &d->conns, &c->link);
		if (!left)
			conn_drop(c);
	}
	send_off_all(d);
}

static void
on_retry(struct loop_timer *t)
{
	struct dock *d = LIST_OF(t, struct dock, retry);

	send_off_all(d);

	while (!list_empty(&d->transits) &&
	    return_transit(d, LIST_OF(d->transits.next, struct transit, link)))
		list_pop(&d->transits);
	while (!list_empty(&d->ghosts) &&
	    say_gone(d, LIST_OF(d->ghosts.next, struct conn, link)))
		alloc_free(LIST_OF(list_pop(&d->ghosts), struct conn, link));
	if (!list_empty(&d->transits) || !list_empty(&d->ghosts))
		retry_later(d);
}

struct conn *
dock_find(struct dock *d, struct peer_id peer)
{
	if (peer.lane != d->lane.config.index || peer.slot >= d->slot_count ||
	    d->generations[peer.slot] != peer.generation)
		return NULL;
	return d->slots[peer.slot];
}

/* Effects -------------------------------------------------------------------
 */

static void
do_send(struct dock *d, const struct lane_mail *m)
{
	const struct effect *e = m->effect;
	struct conn *c = dock_find(d, e->peer);

	if (c != NULL && !c->ending)
		c->role->event(c, e->event);
}

static void
do_close(struct dock *d, const struct lane_mail *m)
{
	const struct effect *e = m->effect;
	struct conn *c = dock_find(d, e->peer);

	if (c != NULL && !c->ending)
		c->role->close(c, e->close.code, e->close.reason);
}

static void
do_publish(struct dock *d, const struct lane_mail *m)
{
	follow_publish(d, m->effect->event, &m->effect->seen_by, m->number);
	news_publish(d, m->effect->event, &m->effect->seen_by);
}

static void
do_stream(struct dock *d, const struct lane_mail *m)
{
	pipe_order(d, m->effect->peer, &m->effect->stream, m->awaits);
}

static void
do_output(struct dock *d, const struct lane_mail *m)
{
	live_whole(d, m->effect);
}

static void
do_routes(struct dock *d, const struct lane_mail *m)
{
	sites_replace(d, m->batch, m->effect->routes);
}

static void
do_withdraw(struct dock *d, const struct lane_mail *m)
{
	pass_withdraw(d, &m->effect->withdrawal);
}

static void
do_nothing(struct dock *d, const struct lane_mail *m)
{
	(void)d;
	(void)m;
}

static void (*const actions[])(struct dock *d, const struct lane_mail *m) = {
	[EFFECT_SEND] = do_send,
	[EFFECT_CLOSE] = do_close,
	[EFFECT_STORE] = do_nothing, /* the core's own */
	[EFFECT_PUBLISH] = do_publish,
	[EFFECT_STREAM] = do_stream,
	[EFFECT_OUTPUT] = do_output,
	[EFFECT_STOP] = do_nothing, /* the core's own */
	[EFFECT_ROUTES] = do_routes,
	[EFFECT_WITHDRAW] = do_withdraw,
};

/* Words of the hub's thread -------------------------------------------------
 */

static void
on_effect(struct dock *d, struct lane_mail *m)
{
	actions[m->effect->kind](d, m);
	batch_drop(m->batch);
}

static void
on_stored(struct dock *d, struct lane_mail *m)
{
	pipe_stored(d, m->done);
	writer_done_free(m->done);
}

static void
on_let_go(struct dock *d, struct lane_mail *m)
{
	pipe_let_go(d, m->transit);
	dock_return(d, m->transit);
}

static void
on_arrive(struct dock *d, struct lane_mail *m)
{
	pipe_arrive(
	    d, m->arrival.command_id, m->arrival.conn, m->arrival.shown);
}

static void
on_live(struct dock *d, struct lane_mail *m)
{
	live_arrive(d, m->parcel);
	live_parcel_drop(m->parcel);
}

static void
on_travel(struct dock *d, struct lane_mail *m)
{
	struct conn *c = m->traveller;

	if (conn_arrive(c, d) == 0 && d->server->draining && !c->ending)
		c->role->close(c, WS_CODE_AWAY, SL("draining"));
}

static void
on_cut(struct dock *d, struct lane_mail *m)
{
	for (size_t i = 0; i < m->cut.count; i++) {
		struct conn *c = dock_find(d, m->cut.peers[i]);
		if (c != NULL && !c->ending)
			conn_drop(c);
	}
	if (m->cut.followers)
		follow_drop_all(d);
	if (m->cut.all)
		drop_all(d);
}

static void
on_forget(struct dock *d, struct lane_mail *m)
{
	const struct tunnel_withdrawal all = { .cut = m->cut.all,
		.why = SL("overloaded") };

	pass_withdraw(d, &all);
}

static void
on_start(struct dock *d, struct lane_mail *m)
{
	(void)m;
	for (size_t i = 0; i < d->listener_count; i++)
		listener_pause(d->listeners[i], false);
	ports_start(d);
}

/* Agents come last: what is on its way to services goes by their links. */
static void
send_home(struct dock *d, bool agents)
{
	struct list *l = d->conns.next;

	while (l != &d->conns) {
		struct conn *c = LIST_OF(l, struct conn, link);
		l = l->next;
		if (c->ending || link_is(c) != agents)
			continue;
		if (agents)
			link_drain(c, d->spread);
		else
			c->role->close(c, WS_CODE_AWAY, SL("draining"));
	}
}

static void
on_homeward(struct loop_task *t)
{
	struct dock *d = LIST_OF(t, struct dock, homeward);

	d->homing = false;
	send_home(d, true);
}

void
dock_tunnel(struct dock *d, int change)
{
	d->tunnels += (uint32_t)change;
	if (d->homing && d->tunnels == 0)
		loop_defer(d->lane.loop, &d->homeward);
}

static void
on_drain(struct dock *d, struct lane_mail *m)
{
	d->spread = m->spread;
	stop_listening(d);
	send_home(d, false);
	if (d->tunnels == 0)
		send_home(d, true);
	else
		d->homing = true;
}

static void (*const words[])(struct dock *d, struct lane_mail *m) = {
	[LANE_EFFECT] = on_effect,
	[LANE_STORED] = on_stored,
	[LANE_LET_GO] = on_let_go,
	[LANE_ARRIVE] = on_arrive,
	[LANE_LIVE] = on_live,
	[LANE_TRAVEL] = on_travel,
	[LANE_CUT] = on_cut,
	[LANE_FORGET] = on_forget,
	[LANE_START] = on_start,
	[LANE_DRAIN] = on_drain,
};

void
dock_mail(struct lane *lane, struct mail *mail)
{
	struct lane_mail *m = (struct lane_mail *)(void *)mail;

	words[m->word](dock_of(lane), m);
}
