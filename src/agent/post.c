#include <stdio.h>

#include "base/err.h"
#include "io/dial.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/tls.h"
#include "wire/http1_client.h"

#include "agent/post.h"

enum { PATIENCE = 30 * 1000, TIMERS = 64 };

struct posting {
	const struct post *post;
	struct loop loop;
	struct dial *dial;
	struct stream *stream; /* NULL once closed */
	struct http1_client http;
	struct http1_head head;
	struct loop_timer timer;
	struct buf *out;
	char *why;
	int status, err;
	bool done;
};

static void
end(struct posting *p, int err, const char *why)
{
	if (p->done)
		return;
	p->done = true;
	p->err = err;
	(void)snprintf(p->why, POST_WHY, "%s", why);
	if (p->dial != NULL)
		dial_cancel(p->dial);
	p->dial = NULL;
	if (p->stream != NULL)
		stream_abort(p->stream, false);
	else
		loop_stop(&p->loop);
}

static void
take_events(struct posting *p)
{
	struct http1_event ev;

	while (!p->done && http1_client_next(&p->http, &p->head, &ev)) {
		if (ev.kind == HTTP1_RESPONSE)
			p->status = ev.head->status;
		else if (ev.kind == HTTP1_BODY)
			buf_put(p->out, ev.data);
		else if (ev.kind == HTTP1_BAD)
			end(p, ERR_PROTOCOL, ev.why);
		else if (ev.kind == HTTP1_END && p->status >= 200)
			end(p, p->out->err, "no memory for the answer");
	}
}

static void
on_read(void *owner, uint8_t *bytes, size_t n)
{
	struct posting *p = owner;

	http1_client_feed(&p->http, (struct slice){ bytes, n });
	take_events(p);
}

static void
on_eof(void *owner)
{
	struct posting *p = owner;

	http1_client_eof(&p->http);
	take_events(p);
	end(p, ERR_CLOSED, "the server hung up");
}

static void
on_closed(void *owner, int why)
{
	struct posting *p = owner;

	p->stream = NULL;
	end(p, why, err_name(why));
	loop_stop(&p->loop);
}

static const struct stream_ops stream_ops = {
	.read = on_read,
	.eof = on_eof,
	.closed = on_closed,
};

static int
write_request(struct posting *p, struct buf *out)
{
	const struct post *want = p->post;
	struct buf host, bearer;

	buf_init(&host, DIAL_HOST + 16);
	buf_init(&bearer, 8192);
	url_put_host(&host, want->url);
	buf_put(&bearer, SL("Bearer "));
	buf_put(&bearer, want->bearer);
	const struct http1_pair fields[] = {
		{ SL("Authorization"), buf_peek(&bearer) },
		{ SL("Content-Type"), SL("application/json") },
		{ SL("Accept"), SL("application/json") },
		{ SL("User-Agent"), SL("muster-agent/" MUSTER_VERSION) },
		{ SL("Connection"), SL("close") },
	};
	const struct http1_ask ask = {
		.method = SL("POST"),
		.target = want->target,
		.host = buf_peek(&host),
		.fields = fields,
		.count = sizeof(fields) / sizeof(fields[0]),
		.length = (int64_t)want->json.len,
	};
	int err = host.err != 0 ? host.err : bearer.err;
	if (err == 0)
		err = http1_client_ask(&p->http, &ask, out);
	if (err == 0)
		err = http1_client_data(&p->http, want->json, out);
	if (err == 0)
		err = http1_client_finish(&p->http, out);
	buf_fini(&host);
	buf_fini(&bearer);
	return err;
}

static void
on_dialed(void *owner, struct stream *s, int err, const char *why)
{
	struct posting *p = owner;
	struct buf out;

	p->dial = NULL;
	if (err != 0) {
		end(p, err, why);
		return;
	}
	p->stream = s;
	stream_start(s, &stream_ops, p);
	buf_init(&out, 64 * 1024);
	err = write_request(p, &out);
	if (err == 0)
		err = stream_write(s, buf_peek(&out));
	buf_fini(&out);
	if (err != 0)
		end(p, err, err_name(err));
}

static void
on_timer(struct loop_timer *t)
{
	end(LIST_OF(t, struct posting, timer), ERR_TIMEOUT,
	    "no answer within 30 s");
}

static int
begin(struct posting *p, struct tls_client *tls)
{
	const struct url *u = p->post->url;
	struct dial_proxy proxy;
	char host[DIAL_HOST];
	struct dial_config c = { .host = host,
		.port = (uint16_t)u->port,
		.tls = tls,
		.timeout_ms = PATIENCE };

	int err = slice_cstr(u->at.name, host, sizeof(host));
	if (err == 0)
		err = dial_proxy_from_env(host, c.port, u->tls, &proxy);
	if (err == 0 && proxy.kind != DIAL_DIRECT)
		c.proxy = &proxy;
	if (err == 0)
		err = dial_start(&p->loop, &c, on_dialed, p, &p->dial);
	if (err == 0)
		err = loop_timer_set(&p->loop, &p->timer,
		    loop_now(&p->loop) + PATIENCE, on_timer);
	if (err != 0)
		end(p, err, err_name(err));
	return err;
}

int
post_json(
    const struct post *want, struct buf *out, int *status, char why[POST_WHY])
{
	static struct posting p;
	const struct tls_client_config tc = { .ca_file = want->ca_file,
		.pin = want->pin };
	struct tls_client *tls = NULL;

	p = (struct posting){ .post = want, .out = out, .why = why };
	int err = want->url->tls ? tls_client_new(&tc, &tls, why) : 0;
	if (err != 0)
		return err;
	err = loop_init(&p.loop, TIMERS);
	if (err != 0) {
		tls_client_free(tls);
		(void)snprintf(why, POST_WHY, "%s", err_name(err));
		return err;
	}
	http1_client_init(&p.http, POST_ANSWER);
	if (begin(&p, tls) == 0)
		loop_run(&p.loop);
	loop_timer_stop(&p.loop, &p.timer);
	http1_client_fini(&p.http);
	stream_loop_fini(&p.loop);
	loop_fini(&p.loop);
	tls_client_free(tls);
	*status = p.status;
	return p.err;
}
