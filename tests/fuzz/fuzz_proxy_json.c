/*
 * What agents answer by JSON messages.  The first byte says what was asked;
 * then lines, each a text, or, when it begins with 'B', everything left as one
 * binary frame.  What comes of them must hold together, whatever they are.
 */
#include <stdlib.h>

#include "base/err.h"

#include "dialect/proxied.h"

#include "wire/octet.h"
#include "wire/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 64 };

struct seen {
	bool head, over;
	int64_t length, body;
	bool bodiless;
};

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
check_fields(const struct proxy_said *said)
{
	check(said->status >= 101 && said->status <= 599);
	for (size_t i = 0; i < said->count; i++) {
		struct slice v = said->fields[i].value;
		check(octet_all(said->fields[i].name, OCTET_TOKEN));
		check(v.len == 0 || octet_all(v, OCTET_VALUE));
	}
}

static void
check_end(const struct seen *s)
{
	check(s->head);
	check(s->bodiless || s->length < 0 || s->length == s->body);
}

static void
check_event(struct seen *s, const struct proxied_event *ev)
{
	check(!s->over);
	switch (ev->kind) {
	case PROXIED_HEAD:
		check(!s->head);
		check_fields(ev->said);
		s->head = true;
		s->length = ev->length;
		s->bodiless |=
		    ev->said->status == 204 || ev->said->status == 304;
		break;
	case PROXIED_UPGRADED:
		check(!s->head);
		check_fields(ev->said);
		break;
	case PROXIED_BODY:
		check(s->head && ev->said->body.len > 0);
		s->body += (int64_t)ev->said->body.len;
		break;
	case PROXIED_MESSAGE:
		check(ev->said->body.len <= PROXY_MESSAGE_MAX);
		break;
	case PROXIED_ENDED:
		check_end(s);
		s->over = true;
		break;
	case PROXIED_CLOSED:
		check(ev->close == WS_CODE_NONE || ws_code_valid(ev->close));
		s->over = true;
		break;
	case PROXIED_FAILED:
		check(ev->err < 0 && ev->code.len > 0 && ev->text.len > 0);
		check(ev->status >= 502 && ws_code_valid(ev->close));
		s->over = true;
		break;
	}
}

static void
feed(struct proxied *p, struct seen *s, const struct proxy_said *said, msec now)
{
	struct proxied_event ev;

	if (said->kind == PROXY_OTHER)
		return;
	bool was_over = s->over;
	bool meant = proxied_feed(p, said, now);
	check(!was_over || !meant);
	while (proxied_next(p, &ev))
		check_event(s, &ev);
	check(s->over == (p->state == PROXIED_OVER));
	if (s->over)
		return;
	msec due = proxied_deadline(p);
	proxied_expire(p, due < now + 100 ? due : now + 100);
	while (proxied_next(p, &ev))
		check_event(s, &ev);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = { data, size }, line;
	struct proxied_terms terms = proxied_defaults;
	struct seen seen = { .length = -1 };
	struct proxy_said said;
	struct proxied p;
	struct arena a;
	struct buf body;

	if (size == 0)
		return 0;
	rest = slice_from_at(rest, 1);
	terms.head = seen.bodiless = (data[0] & 1) != 0;
	terms.websocket = (data[0] & 2) != 0;
	terms.protocols = SL("a, b");
	proxied_init(&p, &terms, 0);
	proxied_asked(&p, 0);
	arena_init(&a, 256 << 20);
	buf_init(&body, PROXY_BODY_MAX);
	for (int i = 0; i < LINES_MAX; i++) {
		if (rest.len > 0 && rest.ptr[0] == 'B') {
			check(proxy_read_frame(slice_from_at(rest, 1), &a,
				  &body, &said) == 0);
			rest = (struct slice){ 0 };
		} else if (!slice_split(&rest, '\n', &line)) {
			break;
		} else {
			check(proxy_read_text(line, &a, &body, &said) == 0);
		}
		feed(&p, &seen, &said, i * 1000);
		arena_reset(&a);
	}
	buf_fini(&body);
	arena_fini(&a);
	return 0;
}
