#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/be.h"

#include "io/rand.h"

#include "server/conn.h"
#include "server/mail.h"
#include "server/settings.h"
#include "server/sources.h"
#include "server/tally.h"

#include "support/streams.h"
#include "support/tunnel_kit.h"

enum {
	MAIL_MAX = 4096,
	QUIET_TURNS = 8,
	TURNS_MAX = 100000,
};

/* The agent's end --------------------------------------------------------- */

static void
flush(struct kit_peer *a)
{
	struct slice own;

	if (a->s == NULL || !a->upgraded)
		return;
	while ((own = yamux_out(&a->mux)).len > 0) {
		struct buf out;
		buf_init(&out, 1 << 20);
		(void)wsconn_send(&a->ws, &out, WS_BINARY, own, true);
		(void)stream_write(a->s, buf_peek(&out));
		yamux_sent(&a->mux, own.len);
		buf_fini(&out);
	}
	own = wsconn_out(&a->ws);
	(void)stream_write(a->s, own);
	wsconn_sent(&a->ws, own.len);
}

static struct kit_stream *
by_id(struct kit_peer *a, uint32_t id)
{
	for (size_t i = 0; i < a->count; i++)
		if (a->streams[i].id == id)
			return &a->streams[i];
	return NULL;
}

static struct kit_stream *
add(struct kit_peer *a, uint32_t id)
{
	assert(a->count < KIT_STREAMS);
	struct kit_stream *s = &a->streams[a->count++];

	*s = (struct kit_stream){ .id = id };
	buf_init(&s->got, 64 << 20);
	return s;
}

static void
on_stream(struct kit_peer *a, const struct yamux_event *ev)
{
	struct kit_stream *s = by_id(a, ev->id);

	switch (ev->kind) {
	case YAMUX_OPENED:
		add(a, ev->id);
		yamux_accept(&a->mux, ev->id, NULL);
		break;
	case YAMUX_DATA:
		buf_put(&s->got, ev->data);
		if (a->hold)
			s->held += ev->data.len;
		else
			yamux_consume(&a->mux, ev->id, ev->data.len,
			    loop_now(&a->kit->loop));
		break;
	case YAMUX_FIN:
		s->fin = true;
		break;
	case YAMUX_RST:
		s->rst = true;
		break;
	case YAMUX_ERROR:
		a->error = ev->err;
		break;
	case YAMUX_ACKED:
	case YAMUX_WRITABLE:
	case YAMUX_PONG:
	case YAMUX_GOAWAY:
		break;
	}
}

static void
on_message(struct kit_peer *a, const struct wsconn_event *ev)
{
	struct yamux_event y;

	if (ev->kind == WS_CLOSE)
		a->close_code = ev->code;
	if (ev->kind != WS_BINARY)
		return;
	yamux_feed(&a->mux, ev->data, loop_now(&a->kit->loop));
	while (yamux_next(&a->mux, &y))
		on_stream(a, &y);
}

static void
on_read(void *owner, uint8_t *bytes, size_t n)
{
	struct kit_peer *a = owner;
	struct wsconn_event ev;

	if (!a->upgraded) {
		/* Nothing follows the head before we are registered. */
		buf_put(&a->head, (struct slice){ bytes, n });
		struct slice head = buf_peek(&a->head);
		a->upgraded = slice_starts(head, SL("HTTP/1.1 101")) &&
		    slice_ends(head, SL("\r\n\r\n"));
		return;
	}
	wsconn_feed(&a->ws, bytes, n, loop_now(&a->kit->loop));
	while (wsconn_next(&a->ws, &ev) > 0)
		on_message(a, &ev);
	flush(a);
}

static void
on_eof(void *owner)
{
	struct kit_peer *a = owner;

	stream_close(a->s);
}

static void
on_closed(void *owner, int why)
{
	struct kit_peer *a = owner;

	(void)why;
	a->s = NULL;
}

static const struct stream_ops peer_ops = {
	.read = on_read,
	.eof = on_eof,
	.closed = on_closed,
};

/* The hub's ---------------------------------------------------------------- */

/* The next event for the hub of this kind; what is before it is dropped. */
static struct event *
next_event(struct kit *k, enum event_kind kind)
{
	for (int i = 0; i < TURNS_MAX; i++) {
		struct mail *m;
		while ((m = mailbox_take(&k->dock.lane.to_hub, MAIL_NORMAL)) !=
		    NULL) {
			struct event *ev =
			    &LIST_OF(m, struct hub_mail, mail)->event;
			if (ev->kind == kind)
				return ev;
		}
		mailbox_done(&k->dock.lane.to_hub);
		loop_turn(&k->loop, false);
	}
	assert(false && "no such event");
	return NULL;
}

static void
say(struct kit *k, struct event ev)
{
	struct conn *c = dock_find(&k->dock, k->link);

	assert(c != NULL);
	c->role->event(c, &ev);
}

static void
start_lane(struct kit *k)
{
	const struct lane_config c = { .hub_loop = &k->loop,
		.shared = true,
		.timer_cap = 100000,
		.to_lane = { MAIL_MAX, MAIL_MAX },
		.to_hub = { MAIL_MAX, MAIL_MAX },
		.arena_cap = 1 << 26,
		.begin = dock_begin,
		.on_mail = dock_mail,
		.end = dock_end,
		.arg = &k->dock };

	k->dock.server = &k->server;
	k->server.docks = &k->dock;
	k->server.dock_count = 1;
	assert(lane_start(&k->dock.lane, &c) == 0);
}

static void
start_server(struct kit *k)
{
	const struct sources_limits limits = { 1000, 0, 1000, 1000 };
	struct buf problems;

	buf_init(&problems, 4096);
	arena_init(&k->arena, 1 << 20);
	assert(settings_read(&k->server.settings, (struct slice){ 0 },
		   (struct slice){ 0 }, NULL, 0, &k->arena, &problems) == 0);
	k->server.settings.listen_count = 0;
	k->server.public_url = SL("http://127.0.0.1");
	k->server.public_host = SL("127.0.0.1");
	k->server.sources = sources_new(&limits);
	k->server.forwards = tally_new(2);
	buf_fini(&problems);
	assert(k->server.sources != NULL && k->server.forwards != NULL);
}

static void
knock(struct kit_peer *a, const char *path, const char *protocol)
{
	char text[512];

	snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	    "Sec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	    "Sec-WebSocket-Protocol: %s\r\n"
	    "Authorization: Bearer clt_abcdefghijklmnopqrstuvwxyz234567\r\n"
	    "\r\n",
	    path, protocol);
	assert(stream_write(a->s, slice_from(text)) == 0);
}

/* A connection to the lane. */
static void
start_peer(struct kit *k, struct kit_peer *a)
{
	const uint64_t key[2] = { 1, 2 };
	struct stream *s;
	int fd[2];

	tcp_pair(fd);
	assert(stream_new(&k->loop, fd[0], NULL, &s) == 0);
	conn_new(&k->dock, s);
	a->kit = k;
	wsconn_lane_init(&a->lane, key, 1);
	a->config = (struct wsconn_config){ .lane = &a->lane,
		.text_cap = 1 << 20,
		.binary_cap = 8 << 20,
		.compress_min = SIZE_MAX };
	wsconn_init(&a->ws, WSCONN_CLIENT, &a->config, loop_now(&k->loop));
	yamux_init(&a->mux, YAMUX_CLIENT, &yamux_defaults, loop_now(&k->loop));
	buf_init(&a->head, 65536);
	assert(stream_new(&k->loop, fd[1], NULL, &a->s) == 0);
	stream_set_cap(a->s, 256 << 20);
	stream_start(a->s, &peer_ops, a);
}

void
kit_init_early(struct kit *k)
{
	memset(k, 0, sizeof(*k));
	assert(loop_init(&k->loop, 100000) == 0);
	start_server(k);
	start_lane(k);
	k->who = &k->agent;
	start_peer(k, &k->agent);
	knock(&k->agent, "/api/v1/clusters/agent/ws", "muster.v1");
	k->link = next_event(k, EVENT_HELLO)->peer;
	mailbox_done(&k->dock.lane.to_hub);
	say(k, (struct event){ .kind = EVENT_WELCOME });
	until(&k->loop, k->agent.upgraded);
}

void
kit_register(struct kit *k)
{
	say(k,
	    (struct event){ .kind = EVENT_REGISTERED,
		.registered = { .agent_id = SL("agt_1"),
		    .name = SL("web-1"),
		    .cluster_id = SL("c"),
		    .native = true } });
	kit_run(k);
	assert(kit_link(k) != NULL && kit_link(k)->mux != NULL);
}

void
kit_init(struct kit *k)
{
	kit_init_early(k);
	kit_register(k);
}

void
kit_tool(struct kit *k)
{
	const struct user_record user = { .id = SL("usr_1"),
		.name = SL("olga") };
	const struct reply yes = { .op = OP_TUNNEL, .user = &user };

	start_peer(k, &k->tool);
	knock(&k->tool, "/api/v1/tunnel", "muster.tunnel.v1");
	struct event *ev = next_event(k, EVENT_REQUEST);
	assert(ev->request.op == OP_TUNNEL);
	struct conn *c = dock_find(&k->dock, ev->peer);
	c->role->event(
	    c, &(struct event){ .kind = EVENT_REPLY, .reply = &yes });
	mailbox_done(&k->dock.lane.to_hub);
	until(&k->loop, k->tool.upgraded);
	kit_run(k);
}

static const struct event *
next_visit(struct kit *k)
{
	const struct event *ev = next_event(k, EVENT_REQUEST);

	assert(ev->request.op == OP_VISIT && ev->request.visit != NULL);
	return ev;
}

const struct tunnel_visit *
kit_grant(struct kit *k)
{
	const struct event *ev = next_visit(k);
	const struct tunnel_member member = {
		.agent_id = SL("agt_1"), .name = SL("web-1"), .link = k->link
	};
	const struct tunnel_grant grant = { .number = ++k->grants,
		.visit = ev->request.visit,
		.target = ev->request.visit->target,
		.members = &member,
		.member_count = 1,
		.user_id = SL("usr_1") };
	const struct reply yes = { .op = OP_VISIT, .grant = &grant };
	struct conn *c = dock_find(&k->dock, ev->peer);

	assert(c != NULL);
	c->role->event(
	    c, &(struct event){ .kind = EVENT_REPLY, .reply = &yes });
	return ev->request.visit;
}

void
kit_deny(struct kit *k, uint16_t status, const char *code)
{
	const struct event *ev = next_visit(k);
	const struct reply no = { .op = OP_VISIT,
		.err = ERR_DENIED,
		.status = status,
		.code = slice_from(code),
		.text = SL("no") };
	struct conn *c = dock_find(&k->dock, ev->peer);

	c->role->event(c, &(struct event){ .kind = EVENT_REPLY, .reply = &no });
}

static void
end_peer(struct kit_peer *a)
{
	for (size_t i = 0; i < a->count; i++)
		buf_fini(&a->streams[i].got);
	buf_fini(&a->head);
	wsconn_fini(&a->ws);
	wsconn_lane_fini(&a->lane);
	yamux_fini(&a->mux);
}

void
kit_fini(struct kit *k)
{
	if (k->agent.s != NULL)
		stream_abort(k->agent.s, true);
	if (k->tool.s != NULL)
		stream_abort(k->tool.s, true);
	kit_run(k);
	lane_stop(&k->dock.lane);
	lane_fini(&k->dock.lane);
	loop_fini(&k->loop);
	end_peer(&k->agent);
	if (k->tool.kit != NULL)
		end_peer(&k->tool);
	sources_free(k->server.sources);
	tally_free(k->server.forwards);
	arena_fini(&k->arena);
}

/* For the test ------------------------------------------------------------- */

static uint64_t
traffic(const struct kit *k)
{
	return k->server.counts.bytes_in + k->server.counts.bytes_out +
	    k->server.counts.connections;
}

static bool
has_sent(const struct kit_peer *a)
{
	return a->s == NULL || stream_queued(a->s) == 0;
}

void
kit_run(struct kit *k)
{
	uint64_t was = 0;
	int quiet = 0;

	for (int i = 0; quiet < QUIET_TURNS; i++) {
		assert(i < TURNS_MAX);
		flush(&k->agent);
		flush(&k->tool);
		loop_turn(&k->loop, false);
		quiet = traffic(k) == was && has_sent(&k->agent) &&
			has_sent(&k->tool)
		    ? quiet + 1
		    : 0;
		was = traffic(k);
	}
}

struct link_conn *
kit_link(struct kit *k)
{
	return link_find(&k->dock, k->link);
}

struct kit_stream *
kit_stream(struct kit *k, size_t i)
{
	assert(i < k->who->count);
	return &k->who->streams[i];
}

struct slice
kit_got(struct kit *k, size_t i)
{
	return slice_from_at(
	    buf_peek(&kit_stream(k, i)->got), kit_stream(k, i)->ate);
}

size_t
kit_say(struct kit *k, size_t i, struct slice bytes)
{
	struct kit_peer *a = k->who;
	uint32_t id = kit_stream(k, i)->id;
	size_t went = 0;
	struct buf out;

	flush(k->who);
	buf_init(&out, 1 << 20);
	while (went < bytes.len) {
		uint8_t frame[YAMUX_HEAD + YAMUX_FRAME_MAX];
		struct slice part = slice_from_at(bytes, went);
		part = slice_first(part, YAMUX_FRAME_MAX);
		part = slice_first(part, yamux_window(&a->mux, id));
		if (part.len == 0)
			break;
		yamux_put_head(&a->mux, id, (uint32_t)part.len, frame);
		memcpy(frame + YAMUX_HEAD, part.ptr, part.len);
		buf_clear(&out);
		wsconn_send(&a->ws, &out, WS_BINARY,
		    (struct slice){ frame, YAMUX_HEAD + part.len }, true);
		stream_write(a->s, buf_peek(&out));
		went += part.len;
	}
	buf_fini(&out);
	return went;
}

void
kit_answer(struct kit *k, size_t i, uint8_t status, const char *json)
{
	uint8_t head[4] = { 2, status };

	be_put16(head + 2, (uint16_t)strlen(json));
	kit_say(k, i, (struct slice){ head, 4 });
	kit_say(k, i, slice_from(json));
}

void
kit_fin(struct kit *k, size_t i)
{
	yamux_finish(&k->who->mux, kit_stream(k, i)->id);
	flush(k->who);
}

void
kit_rst(struct kit *k, size_t i)
{
	yamux_reset(&k->who->mux, kit_stream(k, i)->id);
	flush(k->who);
}

size_t
kit_open(struct kit *k, struct slice first)
{
	struct kit_peer *a = k->who;
	uint32_t id;

	assert(yamux_open(&a->mux, NULL, &id) == 0);
	add(a, id);
	kit_say(k, a->count - 1, first);
	flush(k->who);
	return a->count - 1;
}

void
kit_consume(struct kit *k, size_t i, size_t n)
{
	struct kit_stream *s = kit_stream(k, i);

	assert(n <= s->held);
	s->held -= n;
	yamux_consume(&k->who->mux, s->id, n, loop_now(&k->loop));
	flush(k->who);
}

void
kit_raw(struct kit *k, struct slice bytes)
{
	struct buf out;

	buf_init(&out, 1 << 24);
	wsconn_send(&k->who->ws, &out, WS_BINARY, bytes, true);
	stream_write(k->who->s, buf_peek(&out));
	buf_fini(&out);
}

void
kit_cut(struct kit *k)
{
	stream_abort(k->who->s, true);
}
