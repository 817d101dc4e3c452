/*
 * Design notes.  A port of UDP has no connections, but the hub answers and
 * lanes move only those: so it has one to itself, half of a pair of sockets
 * on which nothing is ever said.  That lives on the lane of the agent's link,
 * and the UDP socket with it.  Each source of datagrams is a flow.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/be.h"

#include "io/addr.h"
#include "io/dgram.h"
#include "io/log.h"
#include "io/rand.h"

#include "server/flow.h"

#include "server/port.h"

enum {
	BURST = 64,                /* datagrams taken in one turn */
	EARLY_MAX = 64 * 1024,     /* of one source, until it has a flow */
	PART_MAX = 2 + UINT16_MAX, /* a datagram from the service */
	QUIET = 5 * 60 * 1000,     /* after which the agent ends a stream */
	LOOK_EVERY = 1000,
};

struct udp {
	struct conn *conn;
	int other; /* the other half of the pair */
	const struct port_conf *conf;
	struct dgram *dgram; /* NULL: none now */
	union addr at;       /* where it is bound */
	struct map sources;  /* struct source.key */
	struct list aged;    /* struct source.aged: the longest quiet first */
	bool asking;
};

struct source {
	struct udp *port;
	struct slice key; /* of from */
	union addr from;
	struct list aged;
	msec touched;
	struct flow *flow; /* NULL: not yet */
	struct pass_holder holder;
	struct buf early; /* framed, until there is a flow */
	struct buf part;  /* of a datagram from the service */
};

static const struct flow_ops flow_ops;
static const struct credential nobody;

static msec
now_of(const struct udp *u)
{
	return loop_now(u->conn->dock->lane.loop);
}

/* Sources ------------------------------------------------------------------ */

static void
forget(struct source *s)
{
	struct udp *u = s->port;

	if (s->flow != NULL)
		flow_close(s->flow);
	pass_leave(&s->holder);
	map_del(&u->sources, s->key);
	list_remove(&s->aged);
	u->conn->dock->server->counts
	    .ports[u->conf - u->conn->dock->server->settings.ports]--;
	buf_fini(&s->early);
	buf_fini(&s->part);
	alloc_free(s);
}

static void
on_cut(struct pass_holder *h, struct slice why)
{
	struct source *s = LIST_OF(h, struct source, holder);

	log_info(
	    "port_cut", kv_s("port", s->port->conf->name), kv_s("why", why));
	forget(s);
}

static struct source *
find(struct udp *u, const union addr *from)
{
	const struct slice key = { (const uint8_t *)from, addr_len(&from->sa) };
	struct server *server = u->conn->dock->server;
	struct source *s = map_get(&u->sources, key);

	if (s != NULL)
		return s;
	if (u->sources.count >= u->conf->connections ||
	    (s = alloc_new(sizeof(*s))) == NULL)
		return NULL;
	s->port = u;
	s->from = *from;
	s->key = (struct slice){ (const uint8_t *)&s->from, key.len };
	list_init(&s->aged);
	list_init(&s->holder.link);
	s->holder.cut = on_cut;
	buf_init(&s->early, EARLY_MAX);
	buf_init(&s->part, PART_MAX);
	if (map_put(&u->sources, s->key, s) != 0) {
		alloc_free(s);
		return NULL;
	}
	server->counts.ports[u->conf - server->settings.ports]++;
	return s;
}

static void
touch(struct source *s)
{
	s->touched = now_of(s->port);
	list_remove(&s->aged);
	list_push(&s->port->aged, &s->aged);
}

/* From the service --------------------------------------------------------- */

static void
on_answered(void *owner, const struct flow_answer *a)
{
	struct source *s = owner;

	if (a->err == 0)
		return;
	log_info("port_refused", kv_s("port", s->port->conf->name),
	    kv_s("hop", SL("agent")), kv_s("code", a->code));
}

/* Whole datagrams leave; the socket may lose them, as any. */
static void
on_data(void *owner, uint8_t *bytes, size_t n)
{
	struct source *s = owner;
	struct slice in = { bytes, n };

	touch(s);
	while (in.len > 0) {
		struct slice have = buf_peek(&s->part);
		size_t want = 2;
		if (have.len >= 2)
			want += be_get16(have.ptr);
		struct slice more = slice_first(in, want - have.len);
		buf_put(&s->part, more);
		if (s->part.err != 0)
			break;
		in = slice_from_at(in, more.len);
		have = buf_peek(&s->part);
		if (have.len < 2 || have.len < 2U + be_get16(have.ptr))
			continue;
		if (s->port->dgram != NULL)
			(void)dgram_send(
			    s->port->dgram, slice_from_at(have, 2), &s->from);
		buf_clear(&s->part);
	}
	flow_consume(s->flow, n);
}

static void
on_eof(void *owner)
{
	struct source *s = owner;

	flow_finish(s->flow);
}

static void
on_flow_gone(void *owner, int why)
{
	struct source *s = owner;

	(void)why;
	s->flow = NULL;
	forget(s);
}

static const struct flow_ops flow_ops = {
	.answered = on_answered,
	.data = on_data,
	.eof = on_eof,
	.gone = on_flow_gone,
};

/* Asking ------------------------------------------------------------------- */

static struct tunnel_visit
visit_of(const struct udp *u)
{
	return (struct tunnel_visit){ .way = TUNNEL_BY_PORT,
		.agent = u->conf->agent,
		.target = u->conf->target,
		.proto = TUNNEL_UDP };
}

static void
ask_hub(struct udp *u)
{
	const struct tunnel_visit what = visit_of(u);

	/* Else the next datagram asks again. */
	u->asking = pass_ask(u->conn, &what, &nobody, (struct slice){ 0 }) == 0;
}

/* Their link is elsewhere, or gone. */
static void
drop_flows(struct udp *u)
{
	struct list *i = u->aged.next;

	while (i != &u->aged) {
		struct source *s = LIST_OF(i, struct source, aged);
		i = i->next;
		if (s->flow != NULL)
			forget(s);
	}
}

static void
shut(struct udp *u)
{
	if (u->dgram != NULL)
		dgram_close(u->dgram);
	u->dgram = NULL;
}

static void
open_flow(struct source *s, struct pass *pass)
{
	const struct tunnel_member *m = &pass->grant.members[0];
	struct udp *u = s->port;
	const struct flow_order o = { .link = m->link,
		.speech = m->speech,
		.proto = TUNNEL_UDP,
		.target = &pass->grant.target,
		.connect_within = u->conf->connect,
		.request_id = u->conf->name };
	int err = flow_open(u->conn->dock, &o, &flow_ops, s, &s->flow);

	if (err == 0)
		err = flow_write(s->flow, buf_peek(&s->early));
	buf_clear(&s->early);
	if (err != 0) {
		log_info("port_refused", kv_s("port", u->conf->name),
		    kv_s("hop", SL("controller")), kv_c("code", err_name(err)));
		forget(s);
		return;
	}
	pass_enter(pass, &s->holder);
}

static void
go(struct udp *u, struct pass *pass)
{
	const struct peer_id link = pass->grant.members[0].link;
	struct list *i = u->aged.next;

	if (peer_some(link) && link.lane != u->conn->dock->lane.config.index) {
		pass_drop(pass);
		drop_flows(u);
		if (conn_travel(u->conn, link.lane) == 0)
			shut(u);
		return;
	}
	while (i != &u->aged) {
		struct source *s = LIST_OF(i, struct source, aged);
		i = i->next;
		if (s->flow == NULL)
			open_flow(s, pass);
	}
	pass_drop(pass);
}

static void
ask(struct udp *u)
{
	const struct tunnel_visit v = visit_of(u);
	struct pass *pass =
	    u->asking ? NULL : pass_find(u->conn->dock, &v, &nobody);

	if (pass != NULL)
		go(u, pass);
	else if (!u->asking)
		ask_hub(u);
}

/* The socket --------------------------------------------------------------- */

static void
take(struct udp *u, const union addr *from, struct slice bytes)
{
	struct source *s = find(u, from);
	uint8_t head[2];

	if (s == NULL || bytes.len > UINT16_MAX)
		return;
	touch(s);
	be_put16(head, (uint16_t)bytes.len);
	if (s->flow == NULL) {
		size_t had = buf_peek(&s->early).len;
		/* Whole ones, or none. */
		if (had + 2 + bytes.len > EARLY_MAX)
			return;
		buf_put(&s->early, (struct slice){ head, 2 });
		buf_put(&s->early, bytes);
		if (s->early.err != 0)
			forget(s);
		else
			ask(u);
	} else if (!flow_above_high(s->flow)) {
		if (flow_write(s->flow, (struct slice){ head, 2 }) != 0 ||
		    flow_write(s->flow, bytes) != 0)
			forget(s);
	}
}

static void
on_ready(void *owner)
{
	static _Thread_local uint8_t bytes[DGRAM_MAX];
	struct udp *u = owner;
	union addr from;
	size_t n;

	for (int i = 0; i < BURST && u->dgram != NULL; i++) {
		int err =
		    dgram_receive(u->dgram, bytes, sizeof(bytes), &n, &from);
		if (err == ERR_AGAIN)
			return;
		if (err == 0)
			take(u, &from, (struct slice){ bytes, n });
	}
}

static void
on_dgram_closed(void *owner)
{
	(void)owner;
}

static const struct dgram_ops dgram_ops = {
	.ready = on_ready,
	.closed = on_dgram_closed,
};

/* The connection that stands for it ---------------------------------------- */

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	(void)c;
	(void)bytes;
	(void)n;
}

static void
on_eof_of_pair(struct conn *c)
{
	conn_drop(c);
}

static void
on_timer(struct conn *c)
{
	struct udp *u = c->state;
	msec idle = u->conf->idle < QUIET ? u->conf->idle : QUIET;

	while (!list_empty(&u->aged)) {
		struct source *s = LIST_OF(u->aged.next, struct source, aged);
		if (now_of(u) - s->touched < idle)
			break;
		forget(s);
	}
	if (u->dgram == NULL &&
	    dgram_open(c->dock->lane.loop, &u->at, NULL, &dgram_ops, u,
		&u->dgram) != 0)
		u->dgram = NULL;
	conn_wake_at(c, now_of(u) + LOOK_EVERY);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct udp *u = c->state;
	struct pass *pass;

	if (ev->kind != EVENT_REPLY || !u->asking)
		return;
	u->asking = false;
	if (ev->reply->err == 0 && ev->reply->grant != NULL) {
		pass = pass_keep(c->dock, ev->reply->grant, &nobody);
		if (pass != NULL)
			go(u, pass);
		return;
	}
	log_info("port_refused", kv_s("port", u->conf->name),
	    kv_s("hop", SL("controller")), kv_s("code", ev->reply->code));
	while (!list_empty(&u->aged))
		forget(LIST_OF(u->aged.next, struct source, aged));
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	(void)code;
	(void)reason;
	conn_drop(c);
}

static void
on_moved(struct conn *c)
{
	on_timer(c);
	if (!c->ending && !list_empty(&((struct udp *)c->state)->aged))
		ask(c->state);
}

static void
on_gone(struct conn *c, int why)
{
	struct udp *u = c->state;

	(void)why;
	while (!list_empty(&u->aged))
		forget(LIST_OF(u->aged.next, struct source, aged));
	shut(u);
	close(u->other);
	map_fini(&u->sources);
	alloc_free(u);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof_of_pair,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.moved = on_moved,
	.gone = on_gone,
};

static int
begin(struct conn *c, void *arg)
{
	struct udp *u = arg;

	u->conn = c;
	conn_become(c, &role, u);
	return 0;
}

int
port_open_udp(struct port *p, union addr *at)
{
	struct loop *loop = p->dock->lane.loop;
	struct udp *u = alloc_new(sizeof(*u));
	struct stream *s = NULL;
	uint64_t seed[2];
	int pair[2];

	if (u == NULL)
		return ERR_NOMEM;
	int err = dgram_open(loop, at, NULL, &dgram_ops, u, &u->dgram);
	if (err != 0) {
		alloc_free(u);
		return err;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		pair) != 0 ||
	    stream_new(loop, pair[0], NULL, &s) != 0) {
		shut(u);
		return ERR_FULL; /* the program ends over it */
	}
	dgram_address(u->dgram, at);
	u->at = *at;
	u->conf = p->conf;
	u->other = pair[1];
	rand_fill(seed, sizeof(seed));
	map_init(&u->sources, p->conf->connections, seed);
	list_init(&u->aged);
	struct conn *c = conn_new_with(p->dock, s, begin, u);
	if (c == NULL)
		return ERR_FULL;
	conn_wake_at(c, now_of(u) + LOOK_EVERY);
	return 0;
}
