#include <string.h>

#include "base/err.h"

#include "dialect/cluster.h"

#include "io/clock.h"

#include "server/credential.h"
#include "server/legacy.h"

static enum cluster_call
which(const struct call *call)
{
	static const struct {
		const char *end;
		enum cluster_call call;
	} ends[] = {
		{ "/register", CLUSTER_REGISTER },
		{ "/heartbeat", CLUSTER_HEARTBEAT },
		{ "/poll", CLUSTER_POLL },
		{ "/tunnel-info", CLUSTER_TUNNEL_INFO },
		{ "/result", CLUSTER_RESULT },
	};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (slice_ends(
			slice_from(call->route->path), slice_from(ends[i].end)))
			return ends[i].call;
	}
	return CLUSTER_ACK;
}

/* Let it in for this one call, say it, and let go: three events, in order. */
static int
post_hello(struct conn *c, const struct call *call)
{
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_HELLO, &a);

	if (ev == NULL)
		return ERR_NOMEM;
	ev->hello.entrance = ENTRANCE_CLUSTER_HTTP;
	int err = credential_copy(a, &call->credential, &ev->hello.credential);
	return err != 0 ? err : dock_post(c->dock, ev);
}

static int
post_call(struct conn *c, struct call *call)
{
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_BAD, &a);
	struct slice body, cluster, command;

	if (ev == NULL)
		return ERR_NOMEM;
	struct peer_id peer = ev->peer;
	wall_msec at = ev->at;
	int err = arena_copy(a, buf_peek(&call->body), &body);
	if (err == 0)
		err = arena_copy(a, call->params[0], &cluster);
	if (err == 0)
		err = arena_copy(a, call->params[1], &command);
	if (err == 0)
		err = cluster_decode_call(
		    which(call), cluster, command, body, a, ev);
	ev->peer = peer;
	ev->at = at;
	return err != 0 ? err : dock_post(c->dock, ev);
}

static int
post_gone(struct conn *c)
{
	struct event *ev = conn_event(c, EVENT_GONE, NULL);

	return ev == NULL ? ERR_NOMEM : dock_post(c->dock, ev);
}

void
legacy_ask(struct conn *c, struct call *call)
{
	/* If one of the two is lost, the connection's end clears it up. */
	c->greeted = true;
	if (post_hello(c, call) != 0 || post_call(c, call) != 0)
		web_problem(
		    c, &(struct problem){ .status = 503, .retry_after = 1 });
}

void
legacy_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct cluster_context ctx = {
		.tunnel_origin = ours_tunnel_origin(c->dock->server),
		.now = clock_wall(),
	};
	static const struct http1_pair link = { SL_INIT("Link"),
		SL_INIT("</api/v1/clusters/agent/ws>; "
			"rel=\"successor-version\"") };
	static const struct http1_pair deprecation = { SL_INIT("Deprecation"),
		SL_INIT("@1760572800") };
	struct http1_pair fields[3] = { deprecation, link };
	struct buf *text = &c->dock->text, seconds;
	size_t n = 2;
	int status = 500;

	if (ev->kind == EVENT_WELCOME)
		return;
	buf_clear(text);
	buf_init(&seconds, 32);
	if (ev->kind == EVENT_DENIED && ev->denied.retry_after > 0) {
		buf_put_u64(&seconds, ev->denied.retry_after);
		fields[n++] = (struct http1_pair){ SL("Retry-After"),
			buf_peek(&seconds) };
	}
	if (cluster_encode_call(ev, which(call), &ctx, &status, text) != 0) {
		buf_clear(text);
		status = 500;
	}
	if (post_gone(c) == 0)
		c->greeted = false;
	web_answer_with(
	    c, status, "application/json", buf_peek(text), fields, n);
	buf_fini(&seconds);
}
