/*
 * Lines, each a message of one connection: as it is, and signed as its agent
 * would sign it.  Whatever is believed holds together and is believed again
 * when it is read again; nothing else is believed.  A line that begins with
 * a ! is a command that the agent is given.
 */
#include <stdlib.h>

#include "base/err.h"

#include "dialect/signed.h"

#include "wire/canon.h"
#include "wire/enc.h"
#include "wire/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct js_limits limits = { 1 << 20, SIGNED_DEPTH_MAX };
static const struct slice key = SL_INIT("key");
static const wall_msec wall = INT64_C(1731819422000);

static struct canon_work w; /* for good */

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
check_json(struct slice text, struct arena *a)
{
	struct js_doc doc;

	if (text.ptr == NULL)
		return;
	check(js_parse(&doc, text, &limits, a) == 0);
	check(js_root(&doc).kind == JS_OBJECT && doc.repeated.ptr == NULL);
}

static void
check_event(const struct event *ev, struct arena *a)
{
	if (ev->kind == EVENT_REGISTER) {
		check_json(ev->registration.info_json, a);
		check(ev->registration.name.len <= 255);
	} else if (ev->kind == EVENT_HEARTBEAT) {
		check_json(ev->heartbeat.metadata_json, a);
	} else if (ev->kind == EVENT_LOG) {
		check(ev->log.message.len <= SIGNED_LOG_MAX);
		check(ev->log.level.len > 0);
	} else {
		check(ev->kind == EVENT_AGENT_ENDED);
		check(ev->outcome.command_id.len > 0);
		check(ev->outcome.out_bytes == ev->outcome.out.len);
	}
}

static void
decode(struct signed_peer *p, const struct signed_envelope *e, struct arena *a)
{
	struct signed_refusal no;
	struct signed_message m;

	const struct signed_context now = { 1000, wall, a };

	check(signed_decode(p, e, &now, &m, &no) == 0);
	check(p->order_count <= SIGNED_ORDERS);
	if (m.word == SIGNED_EVENT)
		check_event(&m.event, a);
	if (m.registers)
		check_event(&m.registration, a);
}

/* Whether it is believed. */
static bool
hear(struct signed_peer *p, struct slice text, struct arena *a)
{
	struct signed_envelope e;
	struct signed_refusal no;
	const struct signed_judge judge = { p->agent_id, &key, 1, wall, &w };
	const struct signed_judge nobody = { p->agent_id, &key, 0, wall, &w };
	size_t which = 9;

	check(signed_read(text, a, &e, &no) == 0);
	if (no.code != 0)
		return false;
	check(signed_check(&e, &nobody, &no, &which) == 0 && no.code == 1008);
	check(signed_check(&e, &judge, &no, &which) == 0);
	if (no.code != 0)
		return false;
	check(which == 0 && slice_eq(e.agent_id, p->agent_id));
	check(e.ts >= wall - SIGNED_OLD_MAX && e.ts <= wall + SIGNED_AHEAD_MAX);
	decode(p, &e, a);
	return true;
}

static void
hear_signed(struct signed_peer *p, struct slice text, struct arena *a)
{
	uint8_t mac[SHA256_LEN];
	struct buf b;

	if (text.len < 3 || text.ptr[text.len - 1] != '}')
		return;
	buf_init(&b, 1 << 20);
	check(token_hmac(key, text, mac) == 0);
	buf_put(&b, slice_first(text, text.len - 1));
	buf_put(&b, SL(",\"signature\":\""));
	enc_put_hex(&b, (struct slice){ mac, sizeof(mac) });
	buf_put(&b, SL("\"}"));
	check(b.err == 0);
	bool believed = hear(p, buf_peek(&b), a);
	check(hear(p, buf_peek(&b), a) == believed);
	buf_fini(&b);
}

static void
give(struct signed_peer *p, struct slice argv, struct arena *a)
{
	const struct command_record r = { .id = SL("cmd_a"),
		.argv_json = argv };
	const struct signed_pen pen = { key, SL("n") };
	const struct signed_context now = { 900, wall, a };
	struct js_doc doc;
	struct buf out;

	buf_init(&out, 1 << 20);
	if (signed_encode(p, &r, &pen, &now, &out) == 0) {
		check(buf_peek(&out).len <= SIGNED_SEND_MAX);
		check(js_parse(&doc, buf_peek(&out), &limits, a) == 0);
		check(canon_verify(js_root(&doc), &key, 1, &w, NULL) == 0);
		/* Whichever way somebody verifies. */
		struct buf forms[CANON_FORMS];
		for (int f = 0; f < CANON_FORMS; f++) {
			buf_init(&forms[f], 1 << 20);
			canon_put_signed(
			    &forms[f], js_root(&doc), (enum canon_form)f);
			check(
			    slice_eq(buf_peek(&forms[f]), buf_peek(&forms[0])));
		}
		for (int f = 0; f < CANON_FORMS; f++)
			buf_fini(&forms[f]);
	}
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = { data, size }, line;
	struct signed_peer p = { .agent_id = SL("a-1") };
	struct arena a;

	if (size > 64 * 1024)
		return 0;
	if (w.hasher.md == NULL)
		check(canon_work_init(&w, 1 << 24) == 0);
	arena_init(&a, 1 << 28);
	while (slice_split(&rest, '\n', &line)) {
		if (line.len > 0 && line.ptr[0] == '!') {
			give(&p, slice_from_at(line, 1), &a);
			continue;
		}
		hear(&p, line, &a);
		hear_signed(&p, line, &a);
	}
	arena_fini(&a);
	return 0;
}
