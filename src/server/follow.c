#include "base/alloc.h"

#include "wire/http1_write.h"
#include "wire/sse.h"

#include "io/clock.h"

#include "server/api.h"
#include "server/show.h"

#include "server/follow.h"

enum {
	KEEP_ALIVE = 15000,
	QUEUE_MAX = 1024 * 1024,
	QUEUE_SHORT = 64 * 1024, /* when memory is short */
};

struct follower {
	struct list link;
	uint16_t audience;
	struct conn *conn;
};

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	(void)c; /* nothing is expected from a follower */
	(void)bytes;
	(void)n;
}

static void
on_eof(struct conn *c)
{
	conn_end(c);
}

static void
say(struct conn *c, struct slice text)
{
	/* A follower that does not read loses its place, not our memory. */
	size_t most =
	    c->dock->server->short_of_memory ? QUEUE_SHORT : QUEUE_MAX;
	if (stream_queued(c->stream) > most) {
		conn_drop(c);
		return;
	}
	conn_write(c, text);
}

static void
on_timer(struct conn *c)
{
	say(c, SL(": still here\n\n"));
	if (!c->ending)
		conn_wake_at(c, loop_now(c->dock->lane.loop) + KEEP_ALIVE);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	(void)c;
	(void)ev;
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	(void)code;
	(void)reason;
	conn_end(c);
}

static void
on_gone(struct conn *c, int why)
{
	struct follower *f = c->state;

	(void)why;
	list_remove(&f->link);
	c->dock->server->counts.followers--;
	alloc_free(f);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.gone = on_gone,
};

void
follow_open(struct conn *c, struct call *call, const struct event *ev)
{
	struct buf *out = &c->dock->out;
	struct follower *f;

	(void)call;
	if (ev->kind != EVENT_REPLY)
		return;
	if (ev->reply->err != 0) {
		api_refuse(c, ev->reply);
		return;
	}
	if (web_head_only(c)) {
		if (web_stream_begin(c, 200, "text/event-stream", NULL, 0))
			web_stream_end(c);
		return;
	}
	f = alloc_new(sizeof(*f));
	if (f == NULL) {
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	f->conn = c;
	f->audience = ev->reply->audience;
	list_push(&c->dock->followers, &f->link);
	c->dock->server->counts.followers++;
	struct http1_pair cors[OURS_CORS];
	size_t cors_count = web_cors(c, cors);

	buf_clear(out);
	http1_put_status(out, 200, clock_wall());
	http1_put_field(out, SL("Content-Type"), SL("text/event-stream"));
	http1_put_field(out, SL("Cache-Control"), SL("no-store"));
	http1_put_field(out, SL("X-Accel-Buffering"), SL("no"));
	http1_put_field(out, SL("Connection"), SL("close"));
	for (size_t i = 0; i < cors_count; i++)
		http1_put_field(out, cors[i].name, cors[i].value);
	http1_put_end(out);
	buf_put(out, SL(": muster events\n\n"));
	web_leave(c, &role, f);
	if (conn_write(c, buf_peek(out)))
		conn_wake_at(c, loop_now(c->dock->lane.loop) + KEEP_ALIVE);
}

void
follow_publish(
    struct dock *d, const struct event *ev, const struct audience_set *seen_by)
{
	struct js_writer w;
	struct list *l = d->followers.next;
	struct buf number;

	/* Figures are for dashboards; here they would be most of it. */
	if (list_empty(&d->followers) || ev->notice.kind == NOTICE_METRICS)
		return;
	buf_clear(&d->text);
	js_write(&w, &d->text);
	show_notice(&w, ev);
	if (js_finish(&w) != 0)
		return;
	buf_init(&number, 32);
	buf_put_u64(&number, ev->notice.number);
	buf_clear(&d->out);
	const struct sse_event line = { .type = ev->notice.name,
		.id = buf_peek(&number),
		.data = buf_peek(&d->text) };
	sse_put_event(&d->out, &line);
	buf_fini(&number);
	/* One text for all; saying it may end a follower. */
	struct slice text = buf_peek(&d->out);
	while (l != &d->followers) {
		struct follower *f = LIST_OF(l, struct follower, link);
		l = l->next;
		if (!f->conn->ending && audience_has(seen_by, f->audience))
			say(f->conn, text);
	}
}

void
follow_drop_all(struct dock *d)
{
	struct list *l = d->followers.next;

	while (l != &d->followers) {
		struct follower *f = LIST_OF(l, struct follower, link);
		l = l->next;
		conn_drop(f->conn);
	}
}
