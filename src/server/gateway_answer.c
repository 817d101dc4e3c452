#include "base/err.h"

#include "io/clock.h"

#include "server/gateway_parts.h"

/* What an exchange says of its answer, and how the visitor is told. */

static const struct http1_times patient = {
	.head = 10000,
	.body = INT32_MAX,
	.idle = 60000,
	.linger = 2000,
};

static bool
say(struct visit *v, int err)
{
	struct conn *c = v->conn;

	if (err != 0) {
		gateway_log_cut(v, SL("answer_unfit"), err);
		web_free_call(web_of(c));
		conn_drop(c);
		return false;
	}
	v->active = visit_now(c);
	return conn_write(c, buf_peek(&c->dock->out));
}

/* An answer of the service's, in the lane's scratch. */
static int
rewrite(struct visit *v, const struct http1_head *h, struct http1_reply *r)
{
	struct dock *d = v->conn->dock;

	arena_reset(&d->scratch);
	buf_clear(&d->out);
	int err = hop_response(&v->hop, h, &d->scratch, r);
	r->at = clock_wall();
	return err;
}

static void
on_informed(void *owner, const struct http1_head *h)
{
	struct visit *v = owner;
	struct http1_reply r;
	int err = rewrite(v, h, &r);

	if (err == 0)
		err = http1_server_interim(
		    visit_http(v), &r, &v->conn->dock->out);
	say(v, err);
}

/* Tell a visitor of a pool where it belongs. */
static int
put_key(struct visit *v, struct http1_reply *r)
{
	static const struct slice parts[] = { SL_INIT(GATEWAY_COOKIE "="),
		SL_INIT("; Path="), SL_INIT("; HttpOnly; SameSite=Lax"),
		SL_INIT("; Secure") };
	struct arena *a = &v->conn->dock->scratch;
	struct http1_pair *all = arena_array(a, r->count + 1, sizeof(*all));
	struct slice value = { 0 };
	struct buf b;

	if (all == NULL)
		return ERR_NOMEM;
	buf_init(&b, HTTP1_HEAD_BYTES);
	buf_put(&b, parts[0]);
	buf_put(&b, slice_from(v->key));
	buf_put(&b, parts[1]);
	buf_put(&b, SL("/"));
	buf_put(&b, parts[2]);
	if (v->hop.tls)
		buf_put(&b, parts[3]);
	int err = b.err != 0 ? b.err : arena_copy(a, buf_peek(&b), &value);
	buf_fini(&b);
	if (r->count > 0)
		memcpy(all, r->fields, r->count * sizeof(*all));
	all[r->count++] = (struct http1_pair){ SL("Set-Cookie"), value };
	r->fields = all;
	return err;
}

static void
on_answered(void *owner, const struct http1_head *h, int64_t length)
{
	struct visit *v = owner;
	struct http1_server *http = visit_http(v);
	struct http1_reply r;
	int err = rewrite(v, h, &r);

	r.length = length;
	if (err == 0 && v->new_key)
		err = put_key(v, &r);
	if (err == 0)
		err = http1_server_start(http, &r, &v->conn->dock->out);
	v->status = h->status;
	v->answered = err == 0;
	if (!say(v, err))
		return;
	http1_server_pace(http, &patient, v->active);
}

static void
on_data(void *owner, struct slice bytes)
{
	struct visit *v = owner;
	struct conn *c = v->conn;
	struct http1_wrap wrap;
	int err = http1_server_wrap(visit_http(v), bytes.len, &wrap);

	v->active = visit_now(c);
	v->to_visitor += bytes.len;
	if (err != 0) {
		say(v, err);
		return;
	}
	if (!wrap.skip) {
		const struct slice parts[] = { { wrap.head, wrap.head_len },
			bytes, slice_first(SL("\r\n"), wrap.tail_len) };
		if (!conn_write_parts(c, parts, 3))
			return;
	}
	if (stream_above_high(c->stream))
		v->owed += bytes.len;
	else
		exchange_consume(v->exchange, bytes.len);
}

static void
on_ended(void *owner, const struct http1_head *trailers)
{
	struct visit *v = owner;
	struct conn *c = v->conn;
	struct dock *d = c->dock;
	const struct http1_pair *fields = NULL;
	size_t count = 0;
	int err = 0;

	buf_clear(&d->out);
	arena_reset(&d->scratch);
	if (trailers != NULL)
		err = hop_trailers(
		    &v->hop, trailers, &d->scratch, &fields, &count);
	if (err == 0)
		err = http1_server_finish_with(
		    visit_http(v), fields, count, &d->out, visit_now(c));
	if (err == 0)
		gateway_log_done(v);
	if (!say(v, err))
		return;
	web_free_call(web_of(c));
	web_resume(c);
}

static void
on_drained(void *owner)
{
	struct visit *v = owner;
	struct conn *c = v->conn;

	if (v->held) {
		v->held = false;
		http1_server_hold(visit_http(v), false, visit_now(c));
	}
	web_resume(c);
}

static void
on_failed(void *owner, const struct exchange_failure *f)
{
	struct visit *v = owner;
	struct conn *c = v->conn;
	const struct gateway_no no = { .hop = f->hop,
		.status = f->status,
		.code = f->code,
		.text = f->text,
		.retry_after = f->retry_after };

	if (v->answered) {
		gateway_cut(v, f->code, f->err);
		return;
	}
	if (f->unsent && gateway_try_another(v)) {
		web_resume(c);
		return;
	}
	gateway_fail(v, &no, f->err);
	web_resume(c);
}

static void
on_upgraded(void *owner, const struct http1_head *h, bool raw)
{
	gateway_switch(owner, h, raw);
}

static void
on_reached(void *owner, const struct flow_answer *a)
{
	gateway_log_reached(owner, a);
}

static void
on_message(void *owner, const struct exchange_message *m)
{
	(void)owner; /* only after upgraded, when it is another's */
	(void)m;
}

const struct exchange_ops gateway_ops = {
	.reached = on_reached,
	.informed = on_informed,
	.answered = on_answered,
	.upgraded = on_upgraded,
	.data = on_data,
	.message = on_message,
	.ended = on_ended,
	.drained = on_drained,
	.failed = on_failed,
};
