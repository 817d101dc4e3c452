#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/attach.h"

#include "server/live.h"

enum {
	ACTIVITY_EVERY = 200, /* ms, of one session */
	LOOK_EVERY = 50,      /* ms, for activity that waits */
	TEXT_CAP = 4 * 1024 * 1024,
	PIECE_MAX = 128 * 1024,  /* of one terminal:output */
	COMMAND_LINE_MAX = 4096, /* bytes that are shown */
};

void
live_init(struct live *l)
{
	*l = (struct live){ .said_at = -ACTIVITY_EVERY };
	list_init(&l->due);
}

void
live_fini(struct live *l)
{
	list_remove(&l->due);
	alloc_free(l->line);
	l->line = NULL;
}

/* Saying ------------------------------------------------------------------- */

static struct said_about
about(const struct live_parcel *p, enum voice v)
{
	return (struct said_about){ .voice = v,
		.kind = SAID_OUTPUT,
		.seen_by = p->seen_by,
		.asked_by = p->asked_by,
		.agent_id = p->command.agent_id,
		.command_id = p->command.id };
}

static void
say_as(struct dock *d, const struct live_parcel *p, struct said_about *to,
    enum console_spelling spelling)
{
	const struct console_context c = { .spelling = spelling,
		.now = p->at,
		.number = ++d->encoded,
		.own = to->whose == SAID_TO_ASKER };
	const struct console_output o = { .agent_id = p->command.agent_id,
		.command_id = console_command_id(&p->command, spelling, c.own),
		.stream = p->stream,
		.content = p->text,
		.offset = p->offset,
		.at = p->at };

	buf_clear(&d->text);
	if (console_encode_output(&o, &c, &d->text) > 0)
		fanout_say(&d->fanout, to, buf_peek(&d->text));
}

static void
say_output(struct dock *d, const struct live_parcel *p)
{
	struct said_about to = about(p, VOICE_FLAT);

	if (fanout_heard(&d->fanout, VOICE_FLAT, &p->seen_by))
		say_as(d, p, &to, CONSOLE_FLAT);
	if (!fanout_heard(&d->fanout, VOICE_UPPER, &p->seen_by))
		return;
	to.voice = VOICE_UPPER;
	to.whose = SAID_TO_OTHERS;
	say_as(d, p, &to, CONSOLE_UPPER);
	if (dock_find(d, p->asked_by) == NULL)
		return;
	to.whose = SAID_TO_ASKER;
	say_as(d, p, &to, CONSOLE_UPPER);
}

static void
say_activity(struct dock *d, const struct live_parcel *p)
{
	struct said_about to = about(p, VOICE_MONITOR);

	to.kind = SAID_ACTIVITY;
	if (!fanout_heard(&d->fanout, VOICE_MONITOR, &p->seen_by))
		return;
	buf_clear(&d->text);
	if (monitor_encode_activity(p->command.agent_id, p->command.id, p->text,
		p->at, &d->text) > 0)
		fanout_say(&d->fanout, &to, buf_peek(&d->text));
}

static void
show_frame(struct dock *d, const struct live_parcel *p)
{
	struct conn *c = attach_find(d, p->viewer);
	struct slice rest = p->text;
	uint64_t at = p->offset;

	while (c != NULL && !c->ending && rest.len > 0) {
		const struct execframe f = { .type = p->stream == CONSOLE_STDERR
			    ? EXECFRAME_STDERR
			    : EXECFRAME_STDOUT,
			.offset = at,
			.data = slice_first(rest, EXECFRAME_BULK_MAX) };
		attach_frame(c, &f);
		at += f.data.len;
		rest = slice_from_at(rest, f.data.len);
	}
}

/* From lane to lane -------------------------------------------------------- */

void
live_parcel_hold(struct live_parcel *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
}

void
live_parcel_drop(struct live_parcel *p)
{
	if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
		alloc_free(p);
}

static struct slice
keep(uint8_t **at, struct slice s)
{
	struct slice kept = { *at, s.len };

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return s.ptr == NULL ? s : kept;
}

static struct live_parcel *
copy_parcel(const struct live_parcel *p)
{
	const struct command_record *r = &p->command;
	struct live_parcel *kept =
	    alloc_new(sizeof(*kept) + r->id.len + r->agent_id.len +
		r->user_id.len + r->request_key.len + p->text.len + 1);

	if (kept == NULL)
		return NULL;
	uint8_t *at = (uint8_t *)(kept + 1);
	memcpy(kept, p, sizeof(*kept));
	atomic_init(&kept->refs, 1);
	kept->command.id = keep(&at, r->id);
	kept->command.agent_id = keep(&at, r->agent_id);
	kept->command.user_id = keep(&at, r->user_id);
	kept->command.request_key = keep(&at, r->request_key);
	kept->text = keep(&at, p->text);
	return kept;
}

static void
send_parcel(struct dock *d, const struct live_parcel *p)
{
	struct live_parcel *kept = copy_parcel(p);
	int err = kept == NULL ? ERR_NOMEM : dock_relay(d, kept);

	if (err == 0)
		return;
	/* Those of other lanes see the hole in the offsets. */
	log_warn("output_not_relayed", kv_s("command", p->command.id),
	    kv_e("err", err));
	if (kept != NULL)
		live_parcel_drop(kept);
}

void
live_arrive(struct dock *d, const struct live_parcel *p)
{
	if (p->kind == LIVE_OUTPUT)
		say_output(d, p);
	else if (p->kind == LIVE_ACTIVITY)
		say_activity(d, p);
	else
		show_frame(d, p);
}

/* Here, and wherever else somebody may watch. */
static void
spread(struct dock *d, const struct live_parcel *p)
{
	const struct server_counts *n = &d->server->counts;
	uint64_t all = p->kind == LIVE_OUTPUT ? n->dashboards : n->monitors;
	uint64_t here = p->kind == LIVE_OUTPUT
	    ? d->fanout.voices[VOICE_FLAT] + d->fanout.voices[VOICE_UPPER]
	    : d->fanout.voices[VOICE_MONITOR];

	live_arrive(d, p);
	if (all > here && d->server->dock_count > 1)
		send_parcel(d, p);
}

static struct live_parcel
parcel(struct dock *d, const struct live *l, enum live_kind kind)
{
	return (struct live_parcel){ .from = d->lane.config.index,
		.kind = kind,
		.at = clock_wall(),
		.seen_by = l->seen_by,
		.asked_by = l->asked_by,
		.command = { .id = l->command->id,
		    .agent_id = l->command->agent_id,
		    .user_id = l->command->user_id,
		    .request_key = l->command->request_key } };
}

/* Boards ------------------------------------------------------------------- */

static void
tell_activity(struct dock *d, struct live *l)
{
	struct live_parcel p = parcel(d, l, LIVE_ACTIVITY);

	if (monitor_line_take(l->line, &p.text) <= 0)
		return;
	l->said_at = loop_now(d->lane.loop);
	spread(d, &p);
}

static void on_look(struct loop_timer *t);

static void
look_later(struct dock *d)
{
	/* Without it the next output says it. */
	loop_timer_set(d->lane.loop, &d->live_timer,
	    loop_now(d->lane.loop) + LOOK_EVERY, on_look);
}

static void
on_look(struct loop_timer *t)
{
	struct dock *d = LIST_OF(t, struct dock, live_timer);
	msec now = loop_now(d->lane.loop);
	struct list *at = d->live_due.next;

	while (at != &d->live_due) {
		struct live *l = LIST_OF(at, struct live, due);
		at = at->next;
		if (now - l->said_at < ACTIVITY_EVERY)
			continue;
		list_remove(&l->due);
		tell_activity(d, l);
	}
	if (!list_empty(&d->live_due))
		look_later(d);
}

static void
note_activity(struct dock *d, struct live *l, struct slice bytes)
{
	if (d->server->counts.monitors == 0)
		return;
	if (l->line == NULL)
		l->line = alloc_new(sizeof(*l->line));
	if (l->line == NULL)
		return;
	monitor_line_feed(l->line, bytes);
	if (loop_now(d->lane.loop) - l->said_at >= ACTIVITY_EVERY) {
		tell_activity(d, l);
	} else if (list_empty(&l->due)) {
		list_push(&d->live_due, &l->due);
		look_later(d);
	}
}

/* Dashboards --------------------------------------------------------------- */

static enum console_stream
stream_of(enum output_stream stream)
{
	return stream == OUTPUT_ERR ? CONSOLE_STDERR : CONSOLE_STDOUT;
}

static void
tell_text(struct dock *d, struct live *l, enum console_stream stream,
    uint64_t offset, struct slice text)
{
	struct live_parcel p = parcel(d, l, LIVE_OUTPUT);

	if (text.len == 0)
		return;
	p.stream = stream;
	p.offset = offset;
	p.text = text;
	spread(d, &p);
}

static bool
is_watched(const struct dock *d, const struct live *l)
{
	return l->command != NULL && d->server->counts.dashboards > 0;
}

void
live_output(struct dock *d, struct live *l, enum output_stream stream,
    uint64_t offset, struct slice bytes)
{
	uint64_t end = offset + bytes.len;

	if (l->command == NULL || end <= l->shown[stream])
		return;
	if (offset < l->shown[stream]) {
		bytes = slice_from_at(bytes, l->shown[stream] - offset);
		offset = l->shown[stream];
	}
	l->shown[stream] = end;
	note_activity(d, l, bytes);
	while (bytes.len > 0 && is_watched(d, l)) {
		struct slice piece = slice_first(bytes, PIECE_MAX);
		buf_clear(&d->live_text);
		uint64_t at = console_carry_feed(
		    &l->carry[stream], offset, piece, &d->live_text);
		tell_text(d, l, stream_of(stream), at, buf_peek(&d->live_text));
		offset += piece.len;
		bytes = slice_from_at(bytes, piece.len);
	}
}

void
live_remark(
    struct dock *d, struct live *l, enum console_stream kind, struct slice text)
{
	if (is_watched(d, l))
		tell_text(d, l, kind, 0, text);
}

void
live_gap(struct dock *d, struct live *l, enum output_stream stream,
    uint64_t from, uint64_t to)
{
	struct buf text;

	if (to > l->shown[stream])
		l->shown[stream] = to;
	if (!is_watched(d, l) || to <= from)
		return;
	buf_init(&text, 256);
	buf_put_u64(&text, to - from);
	buf_put(&text, SL(" bytes of "));
	buf_put(&text, stream == OUTPUT_ERR ? SL("stderr") : SL("stdout"));
	buf_put(&text, SL(" are missing here\n"));
	live_remark(d, l, CONSOLE_SYSTEM, buf_peek(&text));
	buf_fini(&text);
}

void
live_finish(struct dock *d, struct live *l)
{
	for (int i = OUTPUT_OUT; i <= OUTPUT_ERR && is_watched(d, l); i++) {
		buf_clear(&d->live_text);
		uint64_t at = console_carry_end(&l->carry[i], &d->live_text);
		tell_text(d, l, stream_of((enum output_stream)i), at,
		    buf_peek(&d->live_text));
	}
	if (l->line != NULL && l->command != NULL && !list_empty(&l->due)) {
		list_remove(&l->due);
		tell_activity(d, l);
	}
}

void
live_whole(struct dock *d, const struct effect *e)
{
	struct live l;

	live_init(&l);
	l.command = e->output.command;
	l.seen_by = e->seen_by;
	l.asked_by = e->output.asked_by;
	live_output(d, &l, OUTPUT_OUT, 0, e->output.out);
	live_output(d, &l, OUTPUT_ERR, 0, e->output.err);
	live_finish(d, &l);
	live_fini(&l);
}

/* One word, so that it could be typed again. */
static void
put_word(struct buf *out, struct slice word)
{
	static const char plain[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	    "%+,-./:=@_";
	bool quote = word.len == 0;

	for (size_t i = 0; i < word.len && !quote; i++)
		quote = word.ptr[i] == 0 ||
		    strchr(plain, (char)word.ptr[i]) == NULL;
	if (!quote) {
		buf_put(out, word);
		return;
	}
	buf_put_byte(out, '\'');
	for (size_t i = 0; i < word.len; i++) {
		if (word.ptr[i] == '\'')
			buf_put(out, SL("'\\''"));
		else
			buf_put_byte(out, word.ptr[i]);
	}
	buf_put_byte(out, '\'');
}

void
live_command_line(struct dock *d, struct live *l)
{
	const struct js_limits limits = { 1 << 20, 4 };
	struct slice word;
	struct js_value v;
	struct js_doc doc;
	struct arena a;
	struct buf line;

	if (!is_watched(d, l))
		return;
	arena_init(&a, 16 << 20);
	buf_init(&line, COMMAND_LINE_MAX);
	if (js_parse(&doc, l->command->argv_json, &limits, &a) == 0) {
		struct js_walk walk = js_walk(js_root(&doc));
		for (bool more = false; js_next(&walk, NULL, &v); more = true) {
			if (more)
				buf_put_byte(&line, ' ');
			if (js_string(v, &word) == 0)
				put_word(&line, word);
		}
	}
	/* Longer ones are shown as far as they go. */
	if (buf_peek(&line).len > 0) {
		struct slice all = buf_peek(&line);
		buf_clear(&d->live_text);
		buf_put(&d->live_text, slice_first(all, utf8_floor(all)));
		buf_put(&d->live_text, SL("\n"));
		tell_text(
		    d, l, CONSOLE_COMMAND_LINE, 0, buf_peek(&d->live_text));
	}
	buf_fini(&line);
	arena_fini(&a);
}

/* The attached client ------------------------------------------------------ */

void
live_to_viewer(struct dock *d, struct live *l, struct peer_id viewer,
    enum output_stream stream, uint64_t offset, struct slice bytes)
{
	struct live_parcel p;

	if (!peer_some(viewer) || bytes.len == 0)
		return;
	p = parcel(d, l, LIVE_FRAME);
	p.viewer = viewer;
	p.stream = stream_of(stream);
	p.offset = offset;
	p.text = bytes;
	if (viewer.lane == d->lane.config.index)
		show_frame(d, &p);
	else
		send_parcel(d, &p);
}

/* Life --------------------------------------------------------------------- */

void
live_setup(struct dock *d)
{
	list_init(&d->live_due);
	buf_init(&d->live_text, TEXT_CAP);
}

void
live_end(struct dock *d)
{
	loop_timer_stop(d->lane.loop, &d->live_timer);
	buf_fini(&d->live_text);
}
