#include <stdio.h>
#include <string.h>

#include "base/js.h"
#include "base/js_write.h"
#include "cli/safe.h"

#include "cli/forward_parts.h"

/* One line of JSON; what stands in it came from others. */
static void
put_line(struct forwarder *f, struct buf *json)
{
	struct buf line;

	buf_init(&line, 1 << 20);
	safe_json(&line, buf_peek(json));
	buf_put_byte(&line, '\n');
	if (json->err != 0 || line.err != 0)
		cli_nomem(f->cli);
	else
		(void)term_write(1, buf_peek(&line));
	buf_fini(&line);
	buf_fini(json);
}

static void
begin(struct forwarder *f, struct js_writer *w, struct buf *json,
    const char *event)
{
	buf_init(json, 64 * 1024);
	js_write(w, json);
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.forward/1"));
	js_kv_string(w, "event", slice_from(event));
	js_kv_string(w, "agent", slice_from(f->name));
}

static void
put_door(struct js_writer *w, const struct door *d)
{
	char target[2 * FORWARD_WHERE];

	forward_spec_target(d->spec, target);
	js_kv_string(w, "kind", d->spec->udp ? SL("udp") : SL("tcp"));
	js_kv_bool(w, "reverse", d->spec->reverse);
	js_kv_string(w, "at", slice_from(d->at));
	js_kv_string(w, "target", slice_from(target));
}

void
tell_listening(struct forwarder *f, struct door *d)
{
	char target[2 * FORWARD_WHERE];
	struct js_writer w;
	struct buf json;

	if (d->told && !d->spec->reverse)
		return;
	d->told = true;
	forward_spec_target(d->spec, target);
	if (!f->cli->json) {
		if (d->spec->reverse)
			cli_note(f->cli, "%s listens on %s%s, to %s from here",
			    f->name, d->spec->udp ? "udp " : "", d->at, target);
		else
			cli_note(f->cli, "listening on %s%s, to %s behind %s",
			    d->spec->udp ? "udp " : "", d->at, target, f->name);
		return;
	}
	begin(f, &w, &json, "listening");
	put_door(&w, d);
	js_end(&w);
	put_line(f, &json);
}

void
tell_link(struct forwarder *f, const char *event, const char *why)
{
	struct js_writer w;
	struct buf json;

	if (!f->cli->json) {
		if (why != NULL)
			cli_note(f->cli,
			    "%s; open connections are cut, connecting again",
			    why);
		else
			cli_note(f->cli, "connected again");
		return;
	}
	begin(f, &w, &json, event);
	if (why != NULL)
		js_kv_string(&w, "why", slice_from(why));
	js_end(&w);
	put_line(f, &json);
}

struct refusal {
	struct slice hop, code, text;
};

static void
read_refusal(struct slice json, struct arena *a, struct js_doc *doc,
    const char *why, struct refusal *r)
{
	static const struct js_limits limits = { UINT16_MAX, 8 };

	*r = (struct refusal){ SL("muster"), SL(""), slice_from(why) };
	if (why != NULL || js_parse(doc, json, &limits, a) != 0)
		return;
	r->hop = SL("agent");
	(void)js_string(js_get(js_root(doc), "hop"), &r->hop);
	(void)js_string(js_get(js_root(doc), "code"), &r->code);
	(void)js_string(js_get(js_root(doc), "text"), &r->text);
}

void
tell_refused(struct forwarder *f, const struct door *d, const union addr *peer,
    struct slice json, const char *why)
{
	char from[ADDR_TEXT] = "", target[2 * FORWARD_WHERE];
	struct refusal r;
	struct js_writer w;
	struct js_doc doc;
	struct arena a;
	struct buf out;

	if (d == NULL)
		return;
	arena_init(&a, 1 << 20);
	read_refusal(json, &a, &doc, why, &r);
	forward_spec_target(d->spec, target);
	if (peer != NULL && peer->sa.sa_family != AF_UNSPEC)
		addr_format(&peer->sa, from);
	if (!f->cli->json) {
		cli_note(f->cli, "%s%s%s: %.*s%s%.*s: %.*s", from,
		    from[0] != '\0' ? " to " : "",
		    from[0] != '\0' || !d->spec->reverse ? target : d->spec->at,
		    SLICE_FMT(r.hop), r.code.len > 0 ? ": " : "",
		    SLICE_FMT(r.code), SLICE_FMT(r.text));
	} else {
		begin(f, &w, &out, "refused");
		put_door(&w, d);
		js_kv_string(&w, "peer", slice_from(from));
		js_kv_string(&w, "hop", r.hop);
		js_kv_string(&w, "code", r.code);
		js_kv_string(&w, "text", r.text);
		js_end(&w);
		put_line(f, &out);
	}
	arena_fini(&a);
}

int
exit_of_answer(struct slice json)
{
	static const struct {
		struct slice code;
		int exit;
	} table[] = {
		{ SL_INIT("NOT_PERMITTED"), EXIT_DENIED },
		{ SL_INIT("TARGET_REFUSED"), EXIT_DENIED },
		{ SL_INIT("AGENT_NOT_FOUND"), EXIT_NOT_FOUND },
		{ SL_INIT("AGENT_OFFLINE"), EXIT_OFFLINE },
		{ SL_INIT("AGENT_STOPPED"), EXIT_STOPPED },
		{ SL_INIT("STOPPED"), EXIT_STOPPED },
		{ SL_INIT("TOO_MANY"), EXIT_LIMITED },
	};
	struct refusal r;
	struct js_doc doc;
	struct arena a;
	int exit = EXIT_FAILED;

	arena_init(&a, 1 << 20);
	read_refusal(json, &a, &doc, NULL, &r);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (slice_eq(table[i].code, r.code))
			exit = table[i].exit;
	arena_fini(&a);
	return exit;
}
