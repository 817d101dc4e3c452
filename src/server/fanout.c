#include "base/alloc.h"
#include "base/err.h"

#include "wire/wsconn.h"

#include "io/log.h"

#include "server/conn.h"

#include "server/fanout.h"

enum {
	SENDS = 512,                 /* listeners a turn */
	NEWS_MAX = 32 * 1024 * 1024, /* beyond it, all of them */
	SLOW_MARK = 4 * 1024 * 1024, /* waiting for one listener */
	SLOW_SHORT = 256 * 1024,     /* when memory is short */
	PACK_FROM = 512,             /* bytes */
	PACK_MAX = 16 * 1024 * 1024,
};

/* Who listens -------------------------------------------------------------- */

static void
note_presence(struct fanout *f, unsigned audience)
{
	uint64_t bit = UINT64_C(1) << audience % 64;

	if (f->audiences[audience] > 0)
		f->present.words[audience / 64] |= bit;
	else
		f->present.words[audience / 64] &= ~bit;
}

void
fanout_join(struct fanout *f, struct watcher *w)
{
	list_push(&f->ready, &w->link);
	w->seen = f->last;
	f->voices[w->voice]++;
	f->audiences[w->audience]++;
	note_presence(f, w->audience);
}

void
fanout_leave(struct fanout *f, struct watcher *w)
{
	if (list_empty(&w->link))
		return;
	list_remove(&w->link);
	f->voices[w->voice]--;
	f->audiences[w->audience]--;
	note_presence(f, w->audience);
}

bool
fanout_heard(
    const struct fanout *f, enum voice v, const struct audience_set *seen_by)
{
	uint64_t both = 0;

	for (size_t i = 0; i < AUDIENCES / 64; i++)
		both |= f->present.words[i] & seen_by->words[i];
	return f->voices[v] > 0 && both != 0;
}

/* Texts -------------------------------------------------------------------- */

static void
free_said(struct said *s)
{
	chunk_drop(s->plain);
	chunk_drop(s->packed);
	chunk_drop(s->wrapped);
	alloc_free(s);
}

static struct chunk *
make_frame(struct slice payload, bool packed)
{
	uint8_t head[WS_HEAD_MAX];
	const struct ws_head h = { .opcode = WS_TEXT,
		.fin = true,
		.rsv1 = packed,
		.len = payload.len };
	size_t n = ws_encode_head(head, &h);
	struct chunk *c = chunk_new(n + payload.len);

	if (c == NULL)
		return NULL;
	memcpy(c->bytes, head, n);
	memcpy(c->bytes + n, payload.ptr, payload.len);
	return c;
}

static struct slice
keep(uint8_t **at, struct slice s)
{
	struct slice kept = { 0 };

	if (s.ptr == NULL)
		return kept;
	memcpy(*at, s.ptr, s.len);
	kept = (struct slice){ *at, s.len };
	*at += s.len;
	return kept;
}

static struct said *
new_said(const struct said_about *about, struct slice text)
{
	struct said *s = alloc_new(
	    sizeof(*s) + about->agent_id.len + about->command_id.len + 1);
	uint8_t *at = (uint8_t *)(s + 1);

	if (s == NULL)
		return NULL;
	s->plain = make_frame(text, false);
	if (s->plain == NULL) {
		alloc_free(s);
		return NULL;
	}
	s->text = (struct slice){ s->plain->bytes + s->plain->len - text.len,
		text.len };
	s->about = *about;
	s->about.agent_id = keep(&at, about->agent_id);
	s->about.command_id = keep(&at, about->command_id);
	return s;
}

struct said *
fanout_make(const struct said_about *about, struct slice text)
{
	return new_said(about, text);
}

void
fanout_free(struct said *s)
{
	if (s != NULL)
		free_said(s);
}

void
fanout_say(struct fanout *f, const struct said_about *about, struct slice text)
{
	struct said *s;

	if (!fanout_heard(f, about->voice, &about->seen_by))
		return;
	s = new_said(about, text);
	if (s == NULL) {
		log_error("news_dropped", kv_e("err", ERR_NOMEM));
		return;
	}
	s->number = ++f->last;
	f->bytes += s->plain->len;
	list_push(&f->news, &s->link);
}

/* The deflated frame, made when it is first wanted; NULL when it is no
 * shorter. */
static struct chunk *
packed(struct fanout *f, struct said *s)
{
	struct deflate_stream *z;
	uint8_t *to;
	size_t n = 0;

	if (s->packed != NULL || s->unpackable)
		return s->packed;
	s->unpackable = true;
	z = s->text.len > PACK_MAX
	    ? NULL
	    : deflate_pool_packer(&f->dock->ws.pool, DEFLATE_BITS_MAX);
	buf_clear(&f->pack);
	to = z == NULL ? NULL : buf_reserve(&f->pack, s->text.len);
	if (to != NULL)
		n = deflate_pack(z, s->text, to, s->text.len);
	if (n > 0)
		s->packed = make_frame((struct slice){ to, n }, true);
	return s->packed;
}

/* Handing out -------------------------------------------------------------- */

bool
fanout_check_slow(struct watcher *w)
{
	struct server *server = w->conn->dock->server;
	size_t most = server->short_of_memory ? SLOW_SHORT : SLOW_MARK;
	size_t queued = stream_queued(w->conn->stream);

	if (queued == 0)
		w->allowed = 0;
	if (queued <= most + w->allowed)
		return false;
	server->counts.slow++;
	log_info("slow_listener", kv_u("queued", queued));
	w->slow(w);
	return true;
}

struct chunk *
fanout_frame(struct slice text)
{
	return make_frame(text, false);
}

void
fanout_send_frame(struct watcher *w, struct chunk *frame)
{
	if (w->conn->ending || w->ws->state != WSCONN_OPEN)
		return;
	w->conn->dock->server->counts.deliveries++;
	conn_write_chunk(w->conn, frame);
}

void
fanout_send(struct watcher *w, struct said *s)
{
	struct dock *d = w->conn->dock;
	struct chunk *c = NULL;

	if (s->text.len >= PACK_FROM &&
	    wsconn_shared_bits(w->ws) == DEFLATE_BITS_MAX)
		c = packed(&d->fanout, s);
	if (c != NULL)
		d->server->counts.compressed++;
	fanout_send_frame(w, c != NULL ? c : s->plain);
}

static bool
is_for(const struct watcher *w, const struct said *s)
{
	bool own = peer_eq(s->about.asked_by, w->conn->id);

	if (s->about.voice != w->voice ||
	    (s->about.whose == SAID_TO_ASKER && !own) ||
	    (s->about.whose == SAID_TO_OTHERS && own))
		return false;
	return (own || audience_has(&s->about.seen_by, w->audience)) &&
	    (w->wants == NULL || w->wants(w, s));
}

void
fanout_catch_up(struct watcher *w)
{
	struct fanout *f = &w->conn->dock->fanout;
	struct list *at = &f->news;

	if (list_empty(&w->link) || w->seen == f->last)
		return;
	while (at->prev != &f->news &&
	    LIST_OF(at->prev, struct said, link)->number > w->seen)
		at = at->prev;
	w->seen = f->last;
	for (; at != &f->news && !w->conn->ending; at = at->next) {
		struct said *s = LIST_OF(at, struct said, link);
		if (!is_for(w, s))
			continue;
		if (w->ws->state != WSCONN_OPEN || fanout_check_slow(w))
			return;
		if (w->take != NULL)
			w->take(w, s);
		else
			fanout_send(w, s);
	}
}

static void
begin_round(struct fanout *f)
{
	f->round = f->last;
	if (list_empty(&f->ready))
		return;
	/* All of ready to the empty behind. */
	f->behind.next = f->ready.next;
	f->behind.prev = f->ready.prev;
	f->behind.next->prev = f->behind.prev->next = &f->behind;
	list_init(&f->ready);
}

static void
end_round(struct fanout *f)
{
	while (!list_empty(&f->news)) {
		struct said *s = LIST_OF(f->news.next, struct said, link);
		if (s->number > f->round)
			return;
		f->bytes -= s->plain->len;
		list_remove(&s->link);
		free_said(s);
	}
}

static void
hand_out(struct loop_task *t)
{
	struct fanout *f = LIST_OF(t, struct fanout, task);
	size_t left = f->bytes > NEWS_MAX ? SIZE_MAX : SENDS;
	struct list *l;

	if (list_empty(&f->news))
		return;
	if (list_empty(&f->behind))
		begin_round(f);
	while (left-- > 0 && (l = list_pop(&f->behind)) != NULL) {
		list_push(&f->ready, l);
		fanout_catch_up(LIST_OF(l, struct watcher, link));
	}
	if (list_empty(&f->behind))
		end_round(f);
	if (!list_empty(&f->news))
		loop_again(f->dock->lane.loop);
}

/* Life --------------------------------------------------------------------- */

void
fanout_init(struct fanout *f, struct dock *d)
{
	*f = (struct fanout){ .dock = d };
	list_init(&f->ready);
	list_init(&f->behind);
	list_init(&f->news);
	buf_init(&f->pack, PACK_MAX);
	loop_task_init(&f->task, hand_out);
	loop_hook(d->lane.loop, LOOP_SEND, &f->task);
}

void
fanout_fini(struct fanout *f)
{
	f->round = f->last;
	end_round(f);
	buf_fini(&f->pack);
	loop_task_drop(&f->task);
}
