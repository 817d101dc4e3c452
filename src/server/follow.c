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
	QUEUE_SHORT = 64 * 1024,     /* when memory is short */
	BACK_WITHIN = 5 * 60 * 1000, /* for who left what happens is kept */
	ID_MAX = 48,
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
	atomic_store(&c->dock->server->follow_until,
	    loop_now(c->dock->lane.loop) + BACK_WITHIN);
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

/* Coming back ----------------------------------------------------------------
 */

/* "<start of this controller>-<place in the order of events>". */
static void
put_id(struct buf *b, const struct dock *d, uint64_t number)
{
	buf_put_u64(b, (uint64_t)d->server->started_at);
	buf_put_byte(b, '-');
	buf_put_u64(b, number);
}

/* The number of the last event that the client was told; false when it was
 * told nothing that this controller knows of. */
static bool
read_id(const struct dock *d, struct slice id, uint64_t *number)
{
	size_t at = slice_find(id, '-');
	uint64_t start;

	return slice_u64(slice_first(id, at), UINT64_MAX, &start) == 0 &&
	    start == (uint64_t)d->server->started_at &&
	    slice_u64(slice_from_at(id, at + 1), UINT64_MAX, number) == 0;
}

/* Some of what the client missed is not here any more. */
static void
say_gap(struct conn *c, struct slice last)
{
	struct dock *d = c->dock;
	struct js_writer w;
	struct buf id;

	buf_init(&id, ID_MAX);
	put_id(&id, d, d->recent.next > 0 ? d->recent.next - 1 : 0);
	buf_clear(&d->text);
	buf_clear(&d->out);
	js_write(&w, &d->text);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.event/1"));
	js_kv_u64(&w, "number", 0);
	show_at(&w, "at", clock_wall());
	js_kv_string(&w, "name", SL("gap"));
	js_kv_object(&w, "data");
	js_kv_string(&w, "after", slice_first(last, ID_MAX));
	js_end(&w);
	js_end(&w);
	if (js_finish(&w) == 0)
		sse_put_event(&d->out,
		    &(struct sse_event){ .type = SL("gap"),
			.id = buf_peek(&id),
			.data = buf_peek(&d->text) });
	buf_fini(&id);
	say(c, buf_peek(&d->out));
}

/*
 * What a client that comes back has missed.  Its audience's number may have
 * been another's once: what was told before `since` is not for it to see, and
 * what it may have missed then, nobody knows.
 */
static void
say_missed(struct conn *c, uint64_t since, struct slice last)
{
	const struct recent *r = &c->dock->recent;
	const struct follower *f = c->state;
	uint64_t n;

	if (!read_id(c->dock, last, &n) || n >= r->next ||
	    n + 1 < recent_first(r) ||
	    (n + 1 < r->next && recent_get(r, n + 1)->notice <= since)) {
		say_gap(c, last);
		return;
	}
	while (++n < r->next && !c->ending) {
		const struct recent_event *e = recent_get(r, n);
		if (e->text.len > 0 && audience_has(&e->seen_by, f->audience))
			say(c, e->text);
	}
}

void
follow_open(struct conn *c, struct call *call, const struct event *ev)
{
	struct buf *out = &c->dock->out;
	struct follower *f;

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
	struct slice last = { 0 };
	char id[ID_MAX + 1];
	/* The call goes when its connection becomes a follower's. */
	if (slice_cstr(slice_first(call->last_event, ID_MAX), id, sizeof(id)) ==
	    0)
		last = slice_from(id);
	web_leave(c, &role, f);
	if (!conn_write(c, buf_peek(out)))
		return;
	conn_wake_at(c, loop_now(c->dock->lane.loop) + KEEP_ALIVE);
	if (last.len > 0)
		say_missed(c, ev->reply->audience_since, last);
}

/* The text of an event, in the lane's scratch; absent for what followers are
 * not told: figures are for dashboards, here they would be most of it. */
static struct slice
encode(struct dock *d, const struct event *ev, uint64_t number)
{
	struct js_writer w;
	struct buf id;

	buf_clear(&d->out);
	buf_clear(&d->text);
	if (ev->notice.kind == NOTICE_METRICS)
		return (struct slice){ 0 };
	js_write(&w, &d->text);
	show_notice(&w, ev);
	if (js_finish(&w) != 0)
		return (struct slice){ 0 };
	buf_init(&id, ID_MAX);
	put_id(&id, d, number);
	const struct sse_event line = { .type = ev->notice.name,
		.id = buf_peek(&id),
		.data = buf_peek(&d->text) };
	sse_put_event(&d->out, &line);
	buf_fini(&id);
	return buf_peek(&d->out);
}

void
follow_publish(struct dock *d, const struct event *ev,
    const struct audience_set *seen_by, uint64_t number)
{
	/* One text for all; saying it may end a follower. */
	struct slice text = encode(d, ev, number);
	struct list *l = d->followers.next;
	const struct recent_event kept = {
		.seen_by = *seen_by, .notice = ev->notice.number, .text = text
	};

	recent_put(&d->recent, number, &kept);
	while (text.len > 0 && l != &d->followers) {
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
