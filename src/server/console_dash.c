/* The dashboard's side of the console role. */
#include "base/alloc.h"
#include "base/err.h"

#include "io/log.h"

#include "server/console_parts.h"

enum {
	BATCH_WITHIN = 100, /* ms */
	BATCH_BYTES = 64 * 1024,
};

/* How much it may say ------------------------------------------------------ */

static enum rate_class
class_of(const struct console_message *m)
{
	switch (m->limit) {
	case CONSOLE_COUNTED_COMMAND:
		return RATE_COMMAND;
	case CONSOLE_COUNTED_PING:
		return RATE_HEARTBEAT;
	case CONSOLE_EXEMPT:
	case CONSOLE_AS_MEMBERS:
		return RATE_EXEMPT;
	case CONSOLE_COUNTED:
	case CONSOLE_COUNTED_OUTPUT:
		break;
	}
	return RATE_GENERAL;
}

static void
say_limited(
    struct conn *c, const struct console_message *m, struct rate_verdict *v)
{
	const struct console_windows windows = {
		.minute = { v->minute.used, v->minute.limit },
		.hour = { v->hour.used, v->hour.limit },
		.burst = { v->second.used, v->second.limit },
	};
	struct console_context ctx = console_context(c);
	struct buf *text = &c->dock->text;

	c->dock->server->counts.limited++;
	buf_clear(text);
	if (console_encode_trouble(SL("RATE_LIMIT"),
		v->close ? SL("Rate limit exceeded. Too many violations.")
			 : SL("Rate limit exceeded"),
		v->retry_after, &windows, m->event.request_id, &ctx, text) > 0)
		console_say(c, buf_peek(text), false);
	if (v->close)
		console_close(c, WS_CODE_POLICY, SL("rate_limit"), ERR_LIMITED);
}

bool
console_may_say(struct conn *c, const struct console_message *m)
{
	struct console *s = console_of(c);
	struct server *server = c->dock->server;
	struct rate_verdict v;

	if (s->peer.side == CONSOLE_AGENT)
		return true;
	if (s->rate == NULL)
		s->rate = alloc_new(sizeof(*s->rate));
	if (s->rate == NULL) {
		conn_drop(c);
		return false;
	}
	pthread_mutex_lock(&server->rates_lock);
	rate_ask(s->rate, &server->rates, class_of(m), console_now(c), &v);
	pthread_mutex_unlock(&server->rates_lock);
	if (!v.ok)
		say_limited(c, m, &v);
	return v.ok;
}

/* What is of another kind than it claimed pays for that as well. */
bool
console_may_say_too(struct conn *c, const struct console_message *packed,
    const struct console_message *inner)
{
	return class_of(inner) == class_of(packed) || console_may_say(c, inner);
}

/* Batches ------------------------------------------------------------------ */

void
console_flush(struct conn *c)
{
	struct console *s = console_of(c);
	struct console_bundle *b = s->batch;
	struct console_context ctx = console_context(c);
	struct slice texts[CONSOLE_BATCH_MOST], all;
	struct buf *text = &c->dock->text;
	size_t from = 0;

	if (b == NULL || b->count == 0)
		return;
	all = buf_peek(&b->texts);
	for (size_t i = 0; i < b->count; i++) {
		texts[i] = (struct slice){ all.ptr + from, b->ends[i] - from };
		from = b->ends[i];
	}
	buf_clear(text);
	if (b->count == 1)
		console_say(c, texts[0], false);
	else if (console_encode_batch(texts, b->count, &ctx, text) > 0)
		console_say(c, buf_peek(text), false);
	c->dock->server->counts.deliveries++;
	if (b->count > 1)
		c->dock->server->counts.batched += b->count;
	b->count = 0;
	/* A quiet dashboard holds nothing. */
	buf_fini(&b->texts);
}

static bool
bundle(struct conn *c, struct slice text)
{
	struct console *s = console_of(c);
	struct console_bundle *b = s->batch;

	if (text.len > BATCH_BYTES)
		return false;
	if (b->count == CONSOLE_BATCH_MOST ||
	    buf_peek(&b->texts).len + text.len > BATCH_BYTES)
		console_flush(c);
	if (b->count == 0)
		buf_init(&b->texts, BATCH_BYTES);
	buf_put(&b->texts, text);
	if (b->texts.err != 0)
		return false;
	b->ends[b->count++] = (uint32_t)buf_peek(&b->texts).len;
	if (b->count == 1) {
		b->due = console_now(c) + BATCH_WITHIN;
		console_settle(c);
	}
	return true;
}

/* As `compressed`, made once for all who want it so. */
static bool
send_wrapped(struct console *s, struct said *said)
{
	struct conn *c = s->conn;
	struct console_context ctx = console_context(c);
	struct buf *text = &c->dock->text;

	if (said->wrapped == NULL && !said->unwrappable) {
		buf_clear(text);
		if (console_encode_compressed(said->text, &ctx, text) > 0)
			said->wrapped = fanout_frame(buf_peek(text));
		said->unwrappable = said->wrapped == NULL;
	}
	if (said->wrapped == NULL)
		return false;
	c->dock->server->counts.compressed++;
	fanout_send_frame(&s->watcher, said->wrapped);
	return true;
}

static void
on_take(struct watcher *w, struct said *said)
{
	struct console *s = console_of(w->conn);

	if (s->batch != NULL) {
		if ((said->about.kind == SAID_OUTPUT ||
			said->about.kind == SAID_METRICS) &&
		    bundle(w->conn, said->text))
			return;
		console_flush(w->conn);
	}
	if (!s->peer.compressed || !send_wrapped(s, said))
		fanout_send(w, said);
}

/* What it hears ------------------------------------------------------------ */

static const struct {
	bool always;
	enum console_topic topic;
} topics[] = {
	[SAID_AGENT] = { false, CONSOLE_AGENTS },
	[SAID_METRICS] = { false, CONSOLE_AGENTS },
	[SAID_COMMAND] = { false, CONSOLE_COMMANDS },
	[SAID_QUEUE] = { false, CONSOLE_COMMANDS },
	[SAID_OUTPUT] = { false, CONSOLE_TERMINALS },
	[SAID_TRACE] = { false, CONSOLE_TRACES },
	[SAID_STOP] = { true, CONSOLE_AGENTS },
	[SAID_ACTIVITY] = { false, CONSOLE_TERMINALS },
	[SAID_OTHER] = { true, CONSOLE_AGENTS },
};

/* What it asked for itself it hears in any case. */
static bool
wants(const struct watcher *w, const struct said *said)
{
	const struct console *s = w->conn->state;
	const struct said_about *a = &said->about;
	enum console_topic topic = topics[a->kind].topic;

	/* Clients of upper know queues, and have no word to ask for them. */
	if (a->kind == SAID_QUEUE && w->voice == VOICE_FLAT)
		topic = CONSOLE_QUEUES;
	return topics[a->kind].always || peer_eq(a->asked_by, w->conn->id) ||
	    console_interest_wants(
		&s->interest, topic, a->agent_id, a->command_id);
}

bool
console_filter(struct conn *c, const struct console_message *m)
{
	struct console *s = console_of(c);
	int err;

	/* What was said before is still heard as it was. */
	fanout_catch_up(&s->watcher);
	if (c->ending)
		return false;
	err = console_interest_apply(&s->interest, &m->filter);
	if (err != 0) {
		console_complain(c, m->event.request_id, err,
		    SL("INVALID_MESSAGE"), SL("subscriptions"),
		    SL("there are too many subscriptions"));
		return false;
	}
	return true;
}

void
console_join(struct conn *c, const struct reply *r)
{
	struct console *s = console_of(c);
	struct watcher *w = &s->watcher;

	if (s->peer.batch && s->batch == NULL)
		s->batch = alloc_new(sizeof(*s->batch));
	w->audience = r->audience;
	w->voice = s->peer.spelling == CONSOLE_UPPER ? VOICE_UPPER : VOICE_FLAT;
	w->wants = wants;
	if (s->peer.batch || s->peer.compressed)
		w->take = on_take;
	s->stage = CONSOLE_STAGE_JOINED;
	fanout_join(&c->dock->fanout, w);
	c->dock->server->counts.dashboards++;
}

static struct said *
make_list(struct conn *c, const struct event *ev)
{
	const struct said_about about = { .voice = VOICE_FLAT,
		.kind = SAID_OTHER };
	struct console_context ctx = console_context(c);
	struct buf *text = &c->dock->text;

	buf_clear(text);
	if (console_encode(ev, &ctx, 0, text) <= 0)
		return NULL;
	return fanout_make(&about, buf_peek(text));
}

bool
console_tell_list(struct conn *c, const struct event *ev)
{
	struct console *s = console_of(c);
	struct dock *d = c->dock;
	const struct reply *r = ev->reply;

	if (r->op != OP_WATCH || r->err != 0 || ev->request_id.len > 0 ||
	    s->stage != CONSOLE_STAGE_JOINED ||
	    s->peer.spelling != CONSOLE_FLAT)
		return false;
	if (d->list == NULL || d->list_id != r->news_id) {
		fanout_free(d->list);
		d->list = make_list(c, ev);
		d->list_id = r->news_id;
	}
	if (d->list == NULL)
		return false;
	s->watcher.allowed += d->list->text.len;
	if (s->watcher.take != NULL)
		s->watcher.take(&s->watcher, d->list);
	else
		fanout_send(&s->watcher, d->list);
	return true;
}

void
console_leave(struct conn *c)
{
	struct console *s = console_of(c);

	if (list_empty(&s->watcher.link))
		return;
	fanout_leave(&c->dock->fanout, &s->watcher);
	c->dock->server->counts.dashboards--;
}
