#include <stdio.h>

#include "base/err.h"
#include "cli/attach_part.h"
#include "cli/output.h"
#include "cli/render.h"
#include "cli/safe.h"
#include "wire/url.h"

enum {
	MESSAGE_MAX = 4 << 20,
	INPUT_MAX = 16 * 1024,
	INPUT_QUEUE = 64 * 1024,
	INPUT_KEPT = 512 * 1024, /* beyond the agent's credit */
	LINE_MAX = 64 * 1024,
	DEPTH = 32
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

void
part_open(struct attach_part *p, struct cli *c, const struct attach_target *t)
{
	char url[URL_MAX + 32];
	struct wslink_ask ask = { .url = url,
		.protocol = "muster.exec.v1",
		.bearer = true,
		.cap = MESSAGE_MAX };
	int exit;

	memset(p, 0, sizeof(*p));
	p->cli = c;
	p->name = t->name;
	buf_init(&p->lines[0], LINE_MAX);
	buf_init(&p->lines[1], LINE_MAX);
	buf_init(&p->kept, INPUT_KEPT);
	snprintf(url, sizeof(url), "%s/api/v1/exec", c->at.url);
	exit = wslink_open(c, &ask, &p->link);
	if (exit == EXIT_OK && wslink_send(p->link, WS_TEXT, t->ask) != 0)
		exit = cli_nomem(c);
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
	buf_fini(&p->kept);
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

/* Input ----------------------------------------------------------------------
 */

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

static void
put_input(struct attach_part *p, uint64_t at, struct slice bytes)
{
	while (bytes.len > 0) {
		struct slice part = slice_first(bytes, INPUT_MAX);
		put_frame(p,
		    &(struct execframe){
			.type = EXECFRAME_STDIN, .offset = at, .data = part });
		bytes = slice_from_at(bytes, part.len);
		at += part.len;
	}
}

static void
put_input_end(struct attach_part *p)
{
	put_frame(p,
	    &(struct execframe){
		.type = EXECFRAME_STDIN_EOF, .offset = p->sent });
}

/* After a break on the agent's side what was on its way is lost: the new
 * stream's first word on input says from where it is wanted. */
static void
take_credit(struct attach_part *p, const struct execframe *f)
{
	uint64_t base = p->sent - buf_peek(&p->kept).len;

	p->credited = true;
	p->limit = f->limit;
	if (f->offset > base && f->offset <= p->sent) {
		buf_eat(&p->kept, f->offset - base);
		base = f->offset;
	}
	if (!p->anew)
		return;
	p->anew = false;
	put_input(p, base, buf_peek(&p->kept));
	if (p->ended)
		put_input_end(p);
}

size_t
part_credit(const struct attach_part *p)
{
	size_t kept = buf_peek(&p->kept).len;
	uint64_t n;

	if (p->state != PART_RUNNING || !p->credited || p->sent >= p->limit ||
	    wslink_queued(p->link) > INPUT_QUEUE || kept >= INPUT_KEPT)
		return 0;
	n = p->limit - p->sent;
	if (n > INPUT_KEPT - kept)
		n = INPUT_KEPT - kept;
	return n > INPUT_MAX ? INPUT_MAX : (size_t)n;
}

void
part_input(struct attach_part *p, struct slice bytes)
{
	buf_put(&p->kept, bytes);
	if (p->kept.err != 0)
		cli_nomem(p->cli);
	put_input(p, p->sent, bytes);
	p->sent += bytes.len;
}

void
part_input_end(struct attach_part *p)
{
	p->ended = true;
	put_input_end(p);
}

/* Frames ---------------------------------------------------------------------
 */

static void
take_frame(
    struct attach_part *p, struct attach_out *out, const struct execframe *f)
{
	switch (f->type) {
	case EXECFRAME_STDOUT:
	case EXECFRAME_STDERR:
		put_output(p, out, f->type == EXECFRAME_STDERR, f);
		return;
	case EXECFRAME_STDIN_ACK:
		take_credit(p, f);
		return;
	case EXECFRAME_STARTED:
		p->anew = p->credited;
		return;
	case EXECFRAME_GAP:
		cli_note(p->cli,
		    "%s: bytes %llu to %llu of %s are gone: they were more "
		    "than is kept",
		    p->name, (unsigned long long)f->offset,
		    (unsigned long long)f->limit,
		    f->stream == EXECFRAME_OUT ? "stdout" : "stderr");
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
	p->state = PART_RUNNING;
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
		return ERR_CLOSED;
	case WSCONN_ERROR:
		return ev->err;
	default:
		return 0;
	}
}

/* The connection is over and the outcome did not come.  The command, if it
 * was begun, is not hurt by that. */
static void
lose(struct attach_part *p, struct attach_out *out, int err)
{
	const char *why = err == ERR_CLOSED ? "the controller closed the "
					      "connection"
	    : err == ERR_TIMEOUT            ? "the controller fell silent"
	    : err == ERR_RESET              ? "the connection broke"
			       : "the controller broke the protocol";

	end_lines(p, out);
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
	finish(p, EXIT_FAILED);
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
	if (p->state != PART_ENDED)
		return got > 0;
	leave(p);
	return false;
}

void
part_signal(struct attach_part *p, enum execframe_signal signal)
{
	struct execframe f = { .type = EXECFRAME_SIGNAL,
		.signal = (uint8_t)signal };

	put_frame(p, &f);
}
