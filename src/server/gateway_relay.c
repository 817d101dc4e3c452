#include "base/alloc.h"
#include "base/err.h"

#include "server/gateway_ws.h"

enum { HOUR = 3600000 };

/* Bursts of a second are fine. */
static const struct allowance no_limit = { .rate = 0 };

static struct allowance
allow(uint64_t rate)
{
	if (rate == 0)
		return no_limit;
	if (rate > INT32_MAX)
		rate = INT32_MAX;
	return (struct allowance){ rate, (int64_t)rate * 1000 };
}

static struct slice
keep(uint8_t **at, struct slice s)
{
	struct slice copy = { *at, s.len };

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return copy;
}

struct relay *
relay_new(struct visit *v, bool raw)
{
	const struct tunnel_target *t = &v->pass->grant.target;
	struct slice service = t->service.len > 0 ? t->service : t->host;
	size_t room = v->call->request_id.len + v->host.len + v->path.len +
	    service.len + t->namespace.len + v->agent_id.len;
	struct relay *r = alloc_new(sizeof(*r) + room);

	if (r == NULL)
		return NULL;
	uint8_t *at = r->texts;
	r->request_id = keep(&at, v->call->request_id);
	r->host = keep(&at, v->host);
	r->path = keep(&at, v->path);
	r->service = keep(&at, service);
	r->namespace = keep(&at, t->namespace);
	r->agent_id = keep(&at, v->agent_id);
	r->conn = v->conn;
	dock_tunnel(v->conn->dock, 1);
	r->raw = raw;
	r->exchange = v->exchange;
	v->exchange = NULL;
	r->pass = v->pass;
	v->pass = NULL;
	pass_leave(&v->holder);
	list_init(&r->holder.link);
	r->idle_within = v->idle_within;
	r->messages = allow(v->message_rate);
	r->bytes = allow(v->byte_rate);
	r->began = r->active = r->heard = r->spoke = r->filled = v->active;
	return r;
}

static void
relay_free(struct relay *r)
{
	dock_tunnel(r->conn->dock, -1);
	exchange_drop(r->exchange);
	pass_leave(&r->holder);
	pass_drop(r->pass);
	alloc_free(r);
}

void
relay_because(struct relay *r, struct slice why)
{
	r->why_len =
	    (uint8_t)(why.len < sizeof(r->why) ? why.len : sizeof(r->why));
	if (r->why_len > 0)
		memcpy(r->why, why.ptr, r->why_len);
}

void
relay_count(struct relay *r)
{
	struct server_counts *n = &r->conn->dock->server->counts;

	for (int way = 0; way < WAYS; way++) {
		uint64_t *now = r->count[way], *told = r->told[way];
		if (now[0] == told[0] && now[1] == told[1])
			continue;
		n->tunnel_messages[way] += now[0] - told[0];
		n->tunnel_ws_bytes[way] += now[1] - told[1];
		told[0] = now[0];
		told[1] = now[1];
	}
}

/* Rates --------------------------------------------------------------------
 */

static void
refill(struct allowance *a, msec passed)
{
	int64_t most = (int64_t)a->rate * 1000;

	a->left += (int64_t)a->rate * (passed < HOUR ? passed : HOUR);
	if (a->left > most)
		a->left = most;
}

/* How long until it may go on, in ms. */
static msec
wait_for(const struct allowance *a)
{
	return a->left >= 0 ? 0 : -a->left / (int64_t)a->rate + 1;
}

static void
take(struct allowance *a, uint64_t n)
{
	if (a->rate > 0)
		a->left -= (int64_t)(n < INT32_MAX ? n : INT32_MAX) * 1000;
}

static bool
is_full(const struct allowance *a)
{
	return a->left >= (int64_t)a->rate * 1000;
}

bool
relay_charge(struct relay *r, uint64_t messages, uint64_t bytes, msec now)
{
	msec wait;

	if (r->messages.rate == 0 && r->bytes.rate == 0)
		return true;
	refill(&r->messages, now - r->filled);
	refill(&r->bytes, now - r->filled);
	r->filled = now;
	if (is_full(&r->messages) && is_full(&r->bytes))
		r->over = 0;
	take(&r->messages, messages);
	take(&r->bytes, bytes);
	wait = wait_for(&r->messages);
	if (wait_for(&r->bytes) > wait)
		wait = wait_for(&r->bytes);
	r->resume = wait > 0 ? now + wait : 0;
	if (wait > 0 && r->over == 0)
		r->over = now;
	return wait == 0;
}

bool
relay_patient(const struct relay *r, msec now)
{
	return r->over == 0 ||
	    (r->resume > now ? r->resume : now) - r->over < RELAY_PATIENCE;
}

void
relay_drained(struct conn *c)
{
	struct relay *r = c->state;
	size_t owed = r->owed;

	r->owed = 0;
	if (r->exchange != NULL)
		exchange_consume(r->exchange, owed);
}

void
relay_event(struct conn *c, const struct event *ev)
{
	(void)c;
	(void)ev;
}

void
relay_gone(struct conn *c, int why)
{
	struct relay *r = c->state;

	if (why != 0 && r->why_len == 0)
		relay_because(r, slice_from(err_name(why)));
	relay_count(r);
	relay_log_end(r);
	if (!r->raw)
		wsconn_fini(&r->ws);
	relay_free(r);
}
