/*
 * Design notes.  Nothing is read before the agent's link is known, and then
 * at most what the flow will hold: the visitor's own window is the queue.
 * What the service sends is consumed as the visitor takes it.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "io/log.h"

#include "server/flow.h"

#include "server/port.h"

enum {
	LOW_MARK = 64 * 1024,
	HIGH_MARK = 512 * 1024,
	QUEUE_MAX = 16 * 1024 * 1024,
};

/* A connection to a port. */
struct caller {
	struct conn *conn;
	const struct port_conf *conf; /* borrowed: of the settings */
	struct flow *flow;            /* NULL: not yet, or over */
	struct pass_holder holder;
	size_t owed; /* of the flow's, to be consumed when they are sent */
	msec touched;
	bool asking;
	bool travelling;
	bool ends;    /* the service sends no more */
	bool counted; /* among the port's */
};

static const struct flow_ops flow_ops;

static struct caller *
caller_of(struct conn *c)
{
	return c->state;
}

static msec
now_of(const struct caller *p)
{
	return loop_now(p->conn->dock->lane.loop);
}

static atomic_uint_fast64_t *
count_of(const struct caller *p)
{
	struct server *s = p->conn->dock->server;

	return &s->counts.ports[p->conf - s->settings.ports];
}

static void
refuse(struct caller *p, struct slice hop, struct slice code)
{
	log_info("port_refused", kv_s("port", p->conf->name), kv_s("hop", hop),
	    kv_s("code", code));
	conn_drop(p->conn);
}

/* Asking ------------------------------------------------------------------- */

static struct tunnel_visit
visit_of(const struct caller *p)
{
	return (struct tunnel_visit){ .way = TUNNEL_BY_PORT,
		.agent = p->conf->agent,
		.target = p->conf->target,
		.proto = p->conf->proto };
}

static const struct credential nobody;

static void
ask_hub(struct caller *p)
{
	const struct tunnel_visit what = visit_of(p);

	p->asking = pass_ask(p->conn, &what, &nobody, (struct slice){ 0 }) == 0;
	if (!p->asking)
		conn_drop(p->conn);
}

static void
go(struct caller *p, struct pass *pass)
{
	const struct tunnel_member *m = &pass->grant.members[0];
	const struct flow_order o = { .link = m->link,
		.speech = m->speech,
		.proto = p->conf->proto,
		.target = &pass->grant.target,
		.connect_within = p->conf->connect,
		.request_id = p->conf->name };
	unsigned here = p->conn->dock->lane.config.index;
	int err = 0;

	if (m->link.lane != here && peer_some(m->link)) {
		p->travelling = conn_travel(p->conn, m->link.lane) == 0;
		if (!p->travelling)
			conn_drop(p->conn);
	} else {
		err = flow_open(p->conn->dock, &o, &flow_ops, p, &p->flow);
	}
	if (err != 0)
		refuse(p, SL("controller"), slice_from(err_name(err)));
	else if (p->flow != NULL)
		pass_enter(pass, &p->holder);
	pass_drop(pass);
	if (p->flow != NULL)
		stream_read_start(p->conn->stream);
}

static void
ask(struct caller *p)
{
	const struct tunnel_visit v = visit_of(p);
	struct pass *pass = pass_find(p->conn->dock, &v, &nobody);

	if (pass != NULL)
		go(p, pass);
	else
		ask_hub(p);
}

/* The flow ----------------------------------------------------------------- */

static void
on_answered(void *owner, const struct flow_answer *a)
{
	struct caller *p = owner;

	p->touched = now_of(p);
	if (a->err != 0)
		refuse(p, SL("agent"), a->code);
}

static void
on_data(void *owner, uint8_t *bytes, size_t n)
{
	struct caller *p = owner;

	p->touched = now_of(p);
	if (!conn_write(p->conn, (struct slice){ bytes, n }))
		return;
	if (stream_above_high(p->conn->stream))
		p->owed += n;
	else
		flow_consume(p->flow, n);
}

/* Both have said all. */
static void
on_flow_eof(void *owner)
{
	struct caller *p = owner;

	p->ends = true;
	stream_shutdown(p->conn->stream);
}

static void
on_flow_drained(void *owner)
{
	struct caller *p = owner;

	if (!p->conn->ending)
		stream_read_start(p->conn->stream);
}

static void
on_flow_gone(void *owner, int why)
{
	struct caller *p = owner;

	p->flow = NULL;
	pass_leave(&p->holder);
	if (p->conn->ending)
		return;
	if (why == 0)
		conn_end(p->conn);
	else
		conn_drop(p->conn);
}

static const struct flow_ops flow_ops = {
	.answered = on_answered,
	.data = on_data,
	.eof = on_flow_eof,
	.drained = on_flow_drained,
	.gone = on_flow_gone,
};

/* The connection ----------------------------------------------------------- */

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct caller *p = caller_of(c);

	/* What came while reading was being stopped. */
	if (p->flow == NULL ||
	    flow_write(p->flow, (struct slice){ bytes, n }) != 0) {
		conn_drop(c);
		return;
	}
	p->touched = now_of(p);
	if (flow_above_high(p->flow))
		stream_read_stop(c->stream);
}

static void
on_eof(struct conn *c)
{
	struct caller *p = caller_of(c);

	if (p->flow == NULL)
		conn_drop(c);
	else
		flow_finish(p->flow);
}

static void
on_drained(struct conn *c)
{
	struct caller *p = caller_of(c);
	size_t owed = p->owed;

	p->owed = 0;
	if (p->flow != NULL)
		flow_consume(p->flow, owed);
}

static void
on_timer(struct conn *c)
{
	struct caller *p = caller_of(c);

	if (now_of(p) - p->touched >= p->conf->idle)
		conn_drop(c);
	else
		conn_wake_at(c, p->touched + p->conf->idle);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct caller *p = caller_of(c);
	struct pass *pass;

	if (ev->kind != EVENT_REPLY || !p->asking)
		return;
	p->asking = false;
	if (ev->reply->err != 0 || ev->reply->grant == NULL) {
		refuse(p, SL("controller"), ev->reply->code);
		return;
	}
	pass = pass_keep(c->dock, ev->reply->grant, &nobody);
	if (pass == NULL)
		conn_drop(c);
	else
		go(p, pass);
}

/* At the end of the controller's grace it is cut. */
static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	(void)code;
	if (!slice_eq(reason, SL("draining")))
		conn_drop(c);
}

static void
on_moved(struct conn *c)
{
	struct caller *p = caller_of(c);

	p->travelling = false;
	stream_read_stop(c->stream);
	conn_wake_at(c, p->touched + p->conf->idle);
	if (!c->ending)
		ask(p);
}

static void
on_gone(struct conn *c, int why)
{
	struct caller *p = caller_of(c);

	(void)why;
	if (p->flow != NULL)
		flow_close(p->flow);
	pass_leave(&p->holder);
	if (p->counted)
		--*count_of(p);
	alloc_free(p);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.drained = on_drained,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.moved = on_moved,
	.gone = on_gone,
};

static void
on_cut(struct pass_holder *h, struct slice why)
{
	struct caller *p = LIST_OF(h, struct caller, holder);

	log_info("port_cut", kv_s("port", p->conf->name), kv_s("why", why));
	conn_drop(p->conn);
}

static int
begin(struct conn *c, void *arg)
{
	struct port *port = arg;
	struct caller *p = alloc_new(sizeof(*p));

	if (p == NULL)
		return ERR_NOMEM;
	p->conn = c;
	p->conf = port->conf;
	p->touched = now_of(p);
	list_init(&p->holder.link);
	p->holder.cut = on_cut;
	conn_become(c, &role, p);
	if (atomic_fetch_add(count_of(p), 1) >= p->conf->connections) {
		--*count_of(p);
		log_info("port_full", kv_s("port", p->conf->name));
		return ERR_LIMITED;
	}
	p->counted = true;
	return 0;
}

void
port_accept(void *owner, struct stream *s)
{
	struct port *port = owner;
	struct conn *c = conn_new_with(port->dock, s, begin, port);

	if (c == NULL || c->ending)
		return;
	struct caller *p = caller_of(c);
	stream_set_cap(c->stream, QUEUE_MAX);
	stream_set_marks(c->stream, LOW_MARK, HIGH_MARK);
	stream_set_bite(c->stream, STREAM_BITE);
	stream_read_stop(c->stream);
	conn_wake_at(c, p->touched + p->conf->idle);
	if (!c->ending)
		ask(p);
}
