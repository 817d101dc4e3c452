/*
 * Design notes.  A name is resolved once.  Its addresses are judged, and the
 * dial gets those that passed and nothing to resolve, so what was judged is
 * what is dialled.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"
#include "io/dial.h"
#include "io/log.h"
#include "io/resolve.h"
#include "io/tls.h"
#include "wire/be.h"

#include "agent/forward_parts.h"

struct approach {
	struct forward *forward; /* borrowed */
	struct resolve *query;
	struct dial *dial;
	struct stream *shaking; /* in its TLS handshake */
	struct loop_timer deadline;
	union addr to[RESOLVE_ADDRESSES];
	size_t count;
	msec began; /* this step */
	msec due;   /* all steps */
	msec took[3];
};

enum { STEP_RESOLVE, STEP_CONNECT, STEP_TLS };

static msec
now_of(const struct forward *f)
{
	return loop_now(f->all->c.loop);
}

/* Answers -------------------------------------------------------------------
 */

static void
put_json(struct forward *f, uint8_t code, struct buf *json)
{
	uint8_t head[4] = { 2, code, 0, 0 };
	struct slice text = buf_peek(json);

	be_put16(head + 2, (uint16_t)text.len);
	if (json->err != 0)
		f->small.err = json->err;
	buf_put(&f->small, (struct slice){ head, sizeof(head) });
	buf_put(&f->small, text);
	buf_fini(json);
}

static void
put_times(struct js_writer *w, const struct approach *a)
{
	static const char *const names[] = { "resolve_ms", "connect_ms",
		"tls_ms" };

	for (size_t i = 0; a != NULL && i < 3; i++)
		if (a->took[i] >= 0)
			js_kv_i64(w, names[i], a->took[i]);
}

static void
begin_json(struct js_writer *w, struct buf *json)
{
	buf_init(json, 8192);
	js_write(w, json);
	js_begin_object(w);
}

void
forward_accepted(struct forward *f)
{
	char text[ADDR_TEXT];
	struct js_writer w;
	struct buf json;

	addr_format(&f->address.sa, text);
	log_info("tunnel_opened", kv_c("id", f->wish.id),
	    kv_c("target", f->wish.host), kv_u("port", f->wish.port),
	    kv_c("address", text), kv_b("listens", f->wish.listen));
	f->all->counts.opened++;
	if (!f->wish.answers)
		return;
	begin_json(&w, &json);
	js_kv_string(&w, "address", slice_from(text));
	put_times(&w, f->approach);
	js_end(&w);
	put_json(f, 0, &json);
}

void
forward_refused(struct forward *f, const struct forward_refusal *no)
{
	struct js_writer w;
	struct buf json;

	log_warn("tunnel_refused", kv_c("id", f->wish.id),
	    kv_c("target", f->wish.host), kv_u("port", f->wish.port),
	    kv_c("code", no->code), kv_c("why", no->text));
	f->all->counts.refused++;
	forward_count(f, false);
	f->state = FORWARD_OVER;
	begin_json(&w, &json);
	js_kv_string(&w, "code", slice_from(no->code));
	js_kv_string(&w, "text", slice_from(no->text));
	if (no->line > 0)
		js_kv_u64(&w, "line", no->line);
	put_times(&w, f->approach);
	js_end(&w);
	put_json(f, 1, &json);
	forward_approach_free(f);
	forward_look(f);
}

/* It fails after its opening was read. */
static void
fail(struct forward *f, const struct forward_refusal *no)
{
	forward_refused(f, no);
	if (!f->wish.answers) {
		forward_cut(f, no->text);
		return;
	}
	buf_fini(&f->opening);
	forward_consume(f, f->owed);
}

static void
fail_because(struct forward *f, const char *code, const char *why)
{
	struct forward_refusal no;

	(void)forward_refuse(&no, code, "%s", why);
	fail(f, &no);
}

static void
step_done(struct approach *a, int step)
{
	msec now = now_of(a->forward);

	a->took[step] = now - a->began;
	a->began = now;
}

static void
opened(struct forward *f, struct stream *s)
{
	f->stream = s;
	stream_set_marks(s, FORWARD_MARK, FORWARD_MARK);
	stream_set_bite(s, FORWARD_HOLD);
	forward_accepted(f);
	forward_approach_free(f);
	stream_start(s, &forward_stream_ops, f);
	int err = forward_begin(f);
	if (err != 0)
		forward_cut(f, err_name(err));
}

/* TLS -----------------------------------------------------------------------
 */

static void
on_shaken(void *owner, int err, const char *why)
{
	struct approach *a = owner;
	struct forward *f = a->forward;
	struct stream *s = a->shaking;

	a->shaking = NULL;
	step_done(a, STEP_TLS);
	if (err != 0)
		fail_because(f, "TLS_FAILED", why);
	else
		opened(f, s);
}

static struct tls_client *
client_of(struct forward *f, char why[TLS_WHY])
{
	struct forwards *all = f->all;
	struct tls_client **t = &all->tls[f->wish.insecure];
	struct tls_client_config c = { .insecure = f->wish.insecure };
	char file[4096];

	if (*t != NULL)
		return *t;
	if (all->c.policy->tunnel_ca.len > 0) {
		if (slice_cstr(all->c.policy->tunnel_ca, file, sizeof(file)) !=
		    0)
			return NULL;
		c.ca_file = file;
	}
	return tls_client_new(&c, t, why) == 0 ? *t : NULL;
}

static void
shake_hands(struct approach *a, struct stream *s)
{
	struct forward *f = a->forward;
	char why[TLS_WHY] = "no memory";
	struct tls_client *t = client_of(f, why);
	const char *name =
	    f->wish.tls_name[0] != '\0' ? f->wish.tls_name : f->wish.host;

	if (t != NULL && tls_connect(s, t, name, on_shaken, a) == 0) {
		a->shaking = s;
		return;
	}
	stream_abort(s, false);
	fail_because(f, "TLS_FAILED", why);
}

/* Connecting ----------------------------------------------------------------
 */

static void
on_dialed(void *owner, struct stream *s, int err, const char *why)
{
	struct approach *a = owner;
	struct forward *f = a->forward;

	a->dial = NULL;
	step_done(a, STEP_CONNECT);
	if (err == ERR_TIMEOUT)
		fail_because(f, "CONNECT_TIMEOUT", why);
	else if (err == ERR_REFUSED)
		fail_because(f, "CONNECT_REFUSED", why);
	else if (err != 0)
		fail_because(f, "UNREACHABLE", why);
	if (err != 0)
		return;
	/* The stream has no room for the path of a socket. */
	const struct sockaddr *to = stream_remote(s);
	memcpy(&f->address, to, addr_len(to));
	if (f->wish.tls)
		shake_hands(a, s);
	else
		opened(f, s);
}

static int
open_udp(struct forward *f)
{
	const struct approach *a = f->approach;
	int err = ERR_UNREACHABLE;

	for (size_t i = 0; err != 0 && i < a->count; i++)
		err = forward_udp_open(f, &a->to[i]);
	if (err != 0)
		return err;
	forward_accepted(f);
	forward_approach_free(f);
	return forward_begin(f);
}

static int
connect_to(struct approach *a, struct forward_refusal *no)
{
	struct forward *f = a->forward;
	msec left = a->due - now_of(f);

	if (f->wish.udp) {
		int err = open_udp(f);
		if (err == ERR_UNREACHABLE || err == ERR_DENIED)
			return forward_refuse(
			    no, "UNREACHABLE", "%s", err_name(err));
		return err;
	}
	const struct dial_config c = {
		.host = f->wish.host,
		.port = f->wish.port,
		.address = a->to,
		.address_count = a->count,
		.timeout_ms = left > 0 ? left : 1,
	};
	return dial_start(f->all->c.loop, &c, on_dialed, a, &a->dial);
}

/* Names ---------------------------------------------------------------------
 */

/* Keep what may be dialled. */
static int
sift(struct approach *a, struct forward_refusal *no)
{
	const struct forward *f = a->forward;
	const char *host = f->wish.host;
	bool loopback = target_is_loopback(host) &&
	    policy_names_target(
		f->all->c.policy, slice_from(host), f->wish.port);
	char text[ADDR_TEXT];

	addr_format_ip(&a->to[0].sa, text);
	a->count = target_sift(a->to, a->count, loopback);
	if (a->count > 0)
		return 0;
	return forward_refuse(no, "TARGET_REFUSED", "%s is %s, which %s", host,
	    text,
	    addr_is_loopback(&a->to[0].sa)
		? "is this host: only where policy and request spell it so"
		: "no policy opens");
}

static void
on_resolved(void *owner, int err, const char *why, const union addr *addresses,
    size_t count)
{
	struct approach *a = owner;
	struct forward *f = a->forward;
	struct forward_refusal no;

	a->query = NULL;
	step_done(a, STEP_RESOLVE);
	if (err == 0) {
		memcpy(a->to, addresses, count * sizeof(*addresses));
		a->count = count;
		err = sift(a, &no);
		if (err == 0)
			err = connect_to(a, &no);
	} else {
		err = forward_refuse(
		    &no, "NAME_NOT_FOUND", "%s: %s", f->wish.host, why);
	}
	if (err == ERR_DENIED)
		fail(f, &no);
	else if (err != 0)
		forward_cut(f, err_name(err));
}

/* A deadline ----------------------------------------------------------------
 */

static void
on_deadline(struct loop_timer *t)
{
	struct approach *a = LIST_OF(t, struct approach, deadline);
	struct forward *f = a->forward;

	if (f->state == FORWARD_ASKING)
		forward_cut(f, "no answer to its opening");
	else if (a->query != NULL)
		fail_because(f, "NAME_NOT_FOUND",
		    "the resolver does not answer in time");
	else if (a->shaking != NULL)
		fail_because(f, "TLS_FAILED", "the handshake takes too long");
	else
		fail_because(f, "CONNECT_TIMEOUT", "connecting takes too long");
}

int
forward_await(struct forward *f, msec within)
{
	struct approach *a = alloc_new(sizeof(*a));

	if (a == NULL)
		return ERR_NOMEM;
	a->forward = f;
	a->began = now_of(f);
	a->due = a->began + within;
	for (size_t i = 0; i < 3; i++)
		a->took[i] = -1;
	/* The dial has a time-out of its own, and says more. */
	int err = loop_timer_set(f->all->c.loop, &a->deadline,
	    a->due + (f->wish.tls ? 0 : 50), on_deadline);
	if (err != 0) {
		alloc_free(a);
		return err;
	}
	f->approach = a;
	return 0;
}

int
forward_approach(struct forward *f, struct forward_refusal *no)
{
	struct loop *l = f->all->c.loop;
	int err = forward_await(f, f->wish.within);

	if (err != 0)
		return err;
	struct approach *a = f->approach;
	if (addr_parse_ip(slice_from(f->wish.host), f->wish.port, a->to) != 0)
		return resolve_start(
		    l, f->wish.host, f->wish.port, on_resolved, a, &a->query);
	a->count = 1;
	err = sift(a, no);
	return err == 0 ? connect_to(a, no) : err;
}

void
forward_approach_free(struct forward *f)
{
	struct approach *a = f->approach;

	f->approach = NULL;
	if (a == NULL)
		return;
	loop_timer_stop(f->all->c.loop, &a->deadline);
	resolve_cancel(a->query);
	dial_cancel(a->dial);
	if (a->shaking != NULL)
		stream_abort(a->shaking, true);
	alloc_free(a);
}
