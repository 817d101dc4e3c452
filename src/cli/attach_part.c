#include <stdio.h>

#include "base/err.h"
#include "base/js_write.h"
#include "cli/attach_part.h"
#include "cli/login.h"
#include "cli/output.h"
#include "cli/render.h"
#include "cli/safe.h"
#include "io/clock.h"
#include "wire/url.h"

enum {
	MESSAGE_MAX = 4 << 20,
	INPUT_MAX = 16 * 1024,
	INPUT_QUEUE = 64 * 1024,
	INPUT_KEPT = 512 * 1024, /* beyond the agent's credit */
	LINE_MAX = 64 * 1024,
	DEPTH = 32,
	AGAIN_FIRST = 250, /* ms to the first try, doubling */
	AGAIN_MOST = 4000,
};

static void
finish(struct attach_part *p, int exit)
{
	p->exit = exit;
	p->state = PART_ENDED;
}

/* Say goodbye without waiting for an answer. */
static void
leave(struct attach_part *p)
{
	struct wsconn_event ev;

	while (wslink_next(p->link, &ev) > 0)
		continue;
	wslink_close(p->link, WS_CODE_NORMAL);
	wslink_pump(p->link);
	wslink_free(p->link);
	p->link = NULL;
}

/* Connect, and ask for the command: a new one, or the one we had. */
static int
ask(struct attach_part *p, bool again)
{
	char url[URL_MAX + 32];
	struct wslink_ask ask = { .url = url,
		.protocol = "muster.exec.v1",
		.bearer = true,
		.cap = MESSAGE_MAX,
		.again = again };
	struct js_writer w;
	struct buf text;
	int exit;

	snprintf(url, sizeof(url), "%s/api/v1/exec", p->cli->at.url);
	exit = p->renewing ? login_renew_spent(p->cli) : EXIT_OK;
	if (exit != EXIT_OK)
		return exit;
	exit = wslink_open(p->cli, &ask, &p->link);
	if (exit != EXIT_OK)
		return exit;
	/* One that was not accepted carries a key, so that it runs once. */
	if (p->id[0] == '\0')
		return wslink_send(p->link, WS_TEXT, p->target->ask) == 0
		    ? EXIT_OK
		    : cli_nomem(p->cli);
	buf_init(&text, 1024);
	js_write(&w, &text);
	js_begin_object(&w);
	js_kv_string(&w, "attach", slice_from(p->id));
	js_kv_u64(&w, "out", p->got[0]);
	js_kv_u64(&w, "err", p->got[1]);
	js_end(&w);
	if (js_finish(&w) != 0 ||
	    wslink_send(p->link, WS_TEXT, buf_peek(&text)) != 0)
		exit = cli_nomem(p->cli);
	buf_fini(&text);
	return exit;
}

void
part_open(struct attach_part *p, struct cli *c, const struct attach_target *t,
    msec again)
{
	memset(p, 0, sizeof(*p));
	p->cli = c;
	p->target = t;
	p->name = t->name;
	p->again = again;
	buf_init(&p->lines[0], LINE_MAX);
	buf_init(&p->lines[1], LINE_MAX);
	buf_init(&p->input, INPUT_KEPT);
	int exit = ask(p, false);
	if (exit != EXIT_OK)
		finish(p, exit);
}

void
part_fini(struct attach_part *p)
{
	wslink_free(p->link);
	p->link = NULL;
	buf_fini(&p->lines[0]);
	buf_fini(&p->lines[1]);
	buf_fini(&p->input);
}

/* Input ----------------------------------------------------------------------
 */

static uint64_t
sent(const struct attach_part *p)
{
	return p->safe + buf_peek(&p->input).len;
}

size_t
part_credit(const struct attach_part *p)
{
	if (p->state != PART_RUNNING || !p->credited || sent(p) >= p->limit ||
	    wslink_queued(p->link) > INPUT_QUEUE)
		return 0;
	uint64_t n = p->limit - sent(p);
	size_t room = INPUT_KEPT - buf_peek(&p->input).len;
	if (n > room)
		n = room;
	return n > INPUT_MAX ? INPUT_MAX : (size_t)n;
}

static void
put_frame(struct attach_part *p, const struct execframe *f)
{
	struct buf b;

	if (p->link == NULL)
		return;
	buf_init(&b, INPUT_MAX + EXECFRAME_HEAD_MAX);
	execframe_put(&b, EXECFRAME_ON_MESSAGE, f);
	if (b.err != 0 || wslink_send(p->link, WS_BINARY, buf_peek(&b)) != 0)
		cli_nomem(p->cli);
	buf_fini(&b);
}

/* Input from at on, and its end if that is known. */
static void
send_input(struct attach_part *p, struct slice rest, uint64_t at)
{
	while (rest.len > 0) {
		struct execframe f = { .type = EXECFRAME_STDIN,
			.offset = at,
			.data = slice_first(rest, INPUT_MAX) };
		put_frame(p, &f);
		at += f.data.len;
		rest = slice_from_at(rest, f.data.len);
	}
	if (p->ended)
		put_frame(p,
		    &(struct execframe){
			.type = EXECFRAME_STDIN_EOF, .offset = at });
}

void
part_input(struct attach_part *p, struct slice bytes)
{
	uint64_t at = sent(p);

	buf_put(&p->input, bytes);
	if (p->input.err != 0)
		cli_nomem(p->cli);
	send_input(p, bytes, at);
}

void
part_input_end(struct attach_part *p)
{
	p->ended = true;
	send_input(p, (struct slice){ 0 }, sent(p));
}

void
part_signal(struct attach_part *p, enum execframe_signal signal)
{
	struct execframe f = { .type = EXECFRAME_SIGNAL,
		.signal = (uint8_t)signal };

	put_frame(p, &f);
}

/* Output --------------------------------------------------------------------
 */

static void
put_line(struct attach_part *p, struct attach_out *out, unsigned stream)
{
	struct buf b;

	buf_init(&b, 2 * LINE_MAX);
	if (out->prefix) {
		safe_text(&b, slice_from(p->name));
		buf_put(&b, SL(": "));
	}
	buf_put(&b, buf_peek(&p->lines[stream]));
	sink_put(&out->sinks[stream], buf_peek(&b));
	buf_clear(&p->lines[stream]);
	buf_fini(&b);
}

/* Of several writers each line stays whole, up to LINE_MAX of it. */
static void
put_lines(struct attach_part *p, struct attach_out *out, unsigned stream,
    struct slice s)
{
	struct buf *line = &p->lines[stream];

	while (s.len > 0) {
		size_t end = slice_find(s, '\n');
		size_t room = LINE_MAX - 1 - buf_peek(line).len;
		size_t n = end < s.len ? end + 1 : s.len;

		if (n > room)
			n = room;
		buf_put(line, slice_first(s, n));
		if (s.ptr[n - 1] == '\n') {
			put_line(p, out, stream);
		} else if (n == room) {
			buf_put_byte(line, '\n');
			put_line(p, out, stream);
		}
		s = slice_from_at(s, n);
	}
}

static void
end_lines(struct attach_part *p, struct attach_out *out)
{
	for (unsigned i = 0; i < 2; i++) {
		if (buf_peek(&p->lines[i]).len == 0)
			continue;
		buf_put_byte(&p->lines[i], '\n');
		put_line(p, out, i);
	}
}

static void
put_json(struct attach_part *p, struct attach_out *out, unsigned stream,
    const struct execframe *f)
{
	const struct output_piece piece = { .id = slice_from(p->id),
		.agent = slice_from(p->name),
		.err = stream == 1,
		.offset = f->offset,
		.bytes = f->data };
	struct buf line;

	buf_init(&line, MESSAGE_MAX);
	output_put_json(&line, &piece);
	if (line.err == 0)
		sink_put(&out->sinks[0], buf_peek(&line));
	else
		cli_nomem(p->cli);
	buf_fini(&line);
}

static void
put_output(struct attach_part *p, struct attach_out *out, unsigned stream,
    const struct execframe *f)
{
	if (out->dropped)
		return;
	if (out->json)
		put_json(p, out, stream, f);
	else if (out->several)
		put_lines(p, out, stream, f->data);
	else
		sink_put(&out->sinks[stream], f->data);
}

/* What was taken before a break may come once more. */
static void
take_output(struct attach_part *p, struct attach_out *out, unsigned stream,
    const struct execframe *f)
{
	uint64_t end = f->offset + f->data.len;
	struct execframe rest = *f;

	if (end <= p->got[stream])
		return;
	if (f->offset < p->got[stream]) {
		rest.data = slice_from_at(f->data, p->got[stream] - f->offset);
		rest.offset = p->got[stream];
	}
	p->got[stream] = end;
	put_output(p, out, stream, &rest);
}

/* Input that the agent has is done with.  The first word of a stream that
 * was opened anew, or that we came back to, says where to go on. */
static void
take_credit(struct attach_part *p, const struct execframe *f)
{
	if (f->offset > p->safe) {
		uint64_t n = f->offset - p->safe;
		size_t have = buf_peek(&p->input).len;
		buf_eat(&p->input, n < have ? (size_t)n : have);
		p->safe = f->offset;
	}
	p->credited = true;
	p->limit = f->limit;
	if (p->rewind)
		send_input(p, buf_peek(&p->input), p->safe);
	p->rewind = false;
}

/* Frames ---------------------------------------------------------------------
 */

static void
take_gap(struct attach_part *p, const struct execframe *f)
{
	unsigned stream = f->stream == EXECFRAME_OUT ? 0 : 1;

	if (f->limit <= p->got[stream])
		return;
	p->got[stream] = f->limit;
	cli_note(p->cli,
	    "%s: bytes %llu to %llu of %s are gone: they were more "
	    "than is kept",
	    p->name, (unsigned long long)f->offset,
	    (unsigned long long)f->limit,
	    f->stream == EXECFRAME_OUT ? "stdout" : "stderr");
}

static void
take_frame(
    struct attach_part *p, struct attach_out *out, const struct execframe *f)
{
	switch (f->type) {
	case EXECFRAME_STDOUT:
	case EXECFRAME_STDERR:
		take_output(p, out, f->type == EXECFRAME_STDERR, f);
		return;
	case EXECFRAME_STDIN_ACK:
		take_credit(p, f);
		return;
	case EXECFRAME_GAP:
		take_gap(p, f);
		return;
	case EXECFRAME_STARTED:
		p->rewind = true;
		return;
	case EXECFRAME_EXIT:
	case EXECFRAME_REFUSED:
	case EXECFRAME_STDIN:
	case EXECFRAME_STDIN_EOF:
	case EXECFRAME_ACK:
	case EXECFRAME_SIGNAL:
	case EXECFRAME_DONE:
		return;
	}
}

static int
take_refusal(struct attach_part *p, struct js_value m)
{
	struct slice text = render_text(m, "text");
	struct slice code = render_text(m, "code");
	int64_t status = 0;

	js_i64(js_get(m, "status"), &status);
	cli_note(p->cli, "%s: %.*s (%lld %.*s)", p->name, SLICE_FMT(text),
	    (long long)status, SLICE_FMT(code));
	finish(p, exit_of_refusal((long)status, code));
	return 0;
}

static void
remark(struct attach_part *p, const struct outcome *o)
{
	const char *sentence = outcome_remark(o);

	if (sentence == NULL)
		return;
	if (o->why.len > 0)
		cli_note(p->cli, "%s: %s (%.*s): %.*s", p->name, sentence,
		    SLICE_FMT(o->id), SLICE_FMT(slice_first(o->why, 1024)));
	else
		cli_note(p->cli, "%s: %s (%.*s)", p->name, sentence,
		    SLICE_FMT(o->id));
}

static int
take_end(struct attach_part *p, struct attach_out *out, struct js_value m)
{
	struct js_value command = js_get(m, "command");
	struct outcome o;
	struct buf line;

	if (outcome_read(command, &o) != 0)
		return ERR_PROTOCOL;
	if (out->json) {
		buf_init(&line, MESSAGE_MAX);
		safe_json(&line, js_raw(command));
		buf_put_byte(&line, '\n');
		sink_put(&out->sinks[0], buf_peek(&line));
		buf_fini(&line);
	} else {
		end_lines(p, out);
	}
	remark(p, &o);
	finish(p, exit_of_outcome(&o));
	return 0;
}

static int
take_words(struct attach_part *p, struct attach_out *out, struct js_value m)
{
	struct slice type = render_text(m, "type");

	if (slice_eq(type, SL("ended")) && p->state == PART_RUNNING)
		return take_end(p, out, m);
	if (slice_eq(type, SL("refused")) && p->state == PART_ASKED)
		return take_refusal(p, m);
	if (!slice_eq(type, SL("accepted")) || p->state != PART_ASKED)
		return ERR_PROTOCOL;
	if (p->tries > 0)
		cli_note(p->cli, "%s: attached again", p->name);
	p->renewing = false;
	p->state = PART_RUNNING;
	p->rewind = true;
	p->tries = 0;
	p->lost_at = 0;
	return slice_cstr(render_text(m, "id"), p->id, sizeof(p->id));
}

static int
take_text(struct attach_part *p, struct attach_out *out, struct slice text)
{
	static const struct js_limits limits = { MESSAGE_MAX, DEPTH };
	struct js_doc doc;
	struct arena a;
	int err;

	arena_init(&a, (size_t)24 * MESSAGE_MAX);
	err = js_parse(&doc, text, &limits, &a);
	if (err == 0)
		err = take_words(p, out, js_root(&doc));
	arena_fini(&a);
	return err;
}

static int
take_event(struct attach_part *p, struct attach_out *out,
    const struct wsconn_event *ev)
{
	struct execframe f;
	int err;

	switch (ev->kind) {
	case WS_TEXT:
		return take_text(p, out, ev->data);
	case WS_BINARY:
		err = execframe_parse(EXECFRAME_AGENT, ev->data, &f);
		if (err == 0 && p->state != PART_RUNNING)
			err = ERR_PROTOCOL;
		if (err == 0)
			take_frame(p, out, &f);
		return err == ERR_UNSUPPORTED ? 0 : err;
	case WS_CLOSE:
		p->code = ev->code;
		p->expired = ev->code == WS_CODE_POLICY &&
		    slice_eq(ev->data, SL("token_expired"));
		return ERR_CLOSED;
	case WSCONN_ERROR:
		return ev->err;
	default:
		return 0;
	}
}

/* The command, if it was begun, is not hurt by our going. */
static void
say_lost(struct attach_part *p, const char *why)
{
	if (p->id[0] == '\0')
		cli_note(p->cli,
		    "%s: %s before it accepted the command; it may not have "
		    "been started",
		    p->name, why);
	else
		cli_note(p->cli,
		    "%s: %s; the command goes on: 'muster job wait %s' waits "
		    "for it, 'muster job logs %s' shows its output",
		    p->name, why, p->id, p->id);
}

static const char *
why_lost(const struct attach_part *p, int err)
{
	switch (err) {
	case ERR_CLOSED:
		if (p->expired)
			return "the token has expired";
		return p->code == WS_CODE_NORMAL
		    ? "another client has attached to it"
		    : "the controller closed the connection";
	case ERR_TIMEOUT:
		return "the controller fell silent";
	case ERR_RESET:
		return "the connection broke";
	default:
		return "the controller broke the protocol";
	}
}

/* A close with a verdict would be given again. */
static bool
may_come_back(const struct attach_part *p, int err)
{
	if (err == ERR_TIMEOUT || err == ERR_RESET)
		return true;
	return err == ERR_CLOSED &&
	    (p->code == 0 || p->code == WS_CODE_NONE ||
		p->code == WS_CODE_AWAY || p->code == WS_CODE_INTERNAL);
}

/* Wait for the next try, if there is time for one. */
static bool
wait_again(struct attach_part *p)
{
	msec now = clock_mono(), wait = AGAIN_FIRST;

	if (p->lost_at == 0)
		p->lost_at = now;
	for (unsigned i = 0; i < p->tries && wait < AGAIN_MOST; i++)
		wait *= 2;
	p->tries++;
	p->again_at = now + wait;
	p->state = PART_AWAY;
	return p->again_at - p->lost_at <= p->again;
}

/* The connection is over and the outcome did not come. */
static void
lose(struct attach_part *p, struct attach_out *out, int err)
{
	const char *why = why_lost(p, err);
	bool first = p->lost_at == 0;

	wslink_free(p->link);
	p->link = NULL;
	p->credited = false;
	/* Of a login: it goes on with the next token. */
	if (p->expired && p->cli->at.refresh != NULL && !p->renewing) {
		p->renewing = true;
		p->again_at = clock_mono() + AGAIN_FIRST;
		p->state = PART_AWAY;
		return;
	}
	if (may_come_back(p, err) && wait_again(p)) {
		if (first)
			cli_note(
			    p->cli, "%s: %s; attaching again", p->name, why);
		return;
	}
	end_lines(p, out);
	say_lost(p, why);
	finish(p, EXIT_FAILED);
}

msec
part_due(const struct attach_part *p)
{
	return p->state == PART_AWAY ? p->again_at : INT64_MAX;
}

void
part_again(struct attach_part *p, struct attach_out *out)
{
	p->code = 0;
	p->expired = false;
	int exit = ask(p, true);

	if (exit == EXIT_OK) {
		p->state = PART_ASKED;
		return;
	}
	if (exit == WSLINK_AGAIN && wait_again(p))
		return;
	end_lines(p, out);
	say_lost(p, "the controller cannot be reached");
	finish(p, exit == WSLINK_AGAIN ? EXIT_FAILED : exit);
}

void
part_abandon(struct attach_part *p)
{
	if (p->state == PART_AWAY)
		say_lost(p, "the connection broke");
}

bool
part_pump(struct attach_part *p, struct attach_out *out)
{
	struct wsconn_event ev;
	int got = wslink_pump(p->link), err = 0;

	while (
	    err == 0 && p->state != PART_ENDED && wslink_next(p->link, &ev) > 0)
		err = take_event(p, out, &ev);
	if (err == 0 && got < 0 && p->state != PART_ENDED)
		err = got;
	if (err != 0)
		lose(p, out, err);
	if (p->state == PART_ENDED && p->link != NULL)
		leave(p);
	return p->link != NULL && got > 0;
}
