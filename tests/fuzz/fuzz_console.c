/*
 * Lines of any bytes as console messages: one that begins with `A` is an
 * agent's, with `D` a dashboard's, on connections of their own; decoded,
 * decided by a hub, and what it says encoded for both sides in both
 * spellings.  Whatever comes, all that goes out is JSON without a repeated
 * member, and what is compressed reads as what it was.
 */
#include <stdlib.h>

#include "base/err.h"
#include "base/js.h"

#include "dialect/console_interest.h"
#include "dialect/console_say.h"

#include "model/hub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AGENT = 1, DASHBOARD = 2, PEERS = 3, LINES_MAX = 48, SAID_MAX = 64 };

static struct run {
	struct hub *hub;
	struct console_peer peers[PEERS];
	struct console_interest interest;
	int depth;
} run;

static void
check(bool holds)
{
	if (!holds)
		abort();
}

/* What is compressed is read like the plain message. */
static void
check_packed(struct slice text, const struct console_context *c)
{
	struct console_peer a = { 0 }, b = { 0 };
	struct console_message plain, packed;
	struct arena arena;
	struct buf out;

	buf_init(&out, 8 << 20);
	arena_init(&arena, 512 << 20);
	int got = console_encode_compressed(text, c, &out);
	check(got == 0 || got == 1);
	if (got == 1) {
		check(console_decode(text, &a, 0, &arena, &plain) == 0);
		check(console_decode(buf_peek(&out), &b, 0, &arena, &packed) ==
		    0);
		if (packed.word == CONSOLE_PACKED)
			check(console_unpack(&packed, &b, 0, &arena, &packed) ==
			    0);
		check(plain.word == packed.word);
		check(plain.event.kind == packed.event.kind);
		check(a.spelling == b.spelling);
	}
	buf_fini(&out);
	arena_fini(&arena);
}

static void
check_said(struct slice text, const struct console_context *c)
{
	const struct js_limits limits = { 1 << 24, 64 };
	struct js_doc doc;
	struct slice type;
	struct arena a;

	arena_init(&a, 512 << 20);
	check(js_parse(&doc, text, &limits, &a) == 0);
	check(doc.repeated.ptr == NULL);
	check(js_string(js_get(js_root(&doc), "type"), &type) == 0);
	arena_fini(&a);
	check_packed(text, c);
}

static void
tell(const struct event *ev)
{
	for (unsigned spelling = 0; spelling < CONSOLE_SPELLINGS; spelling++) {
		for (unsigned own = 0; own < 2; own++) {
			const struct console_context c = {
				.spelling = (enum console_spelling)spelling,
				.now = ev->at,
				.number = 7,
				.own = own == 1
			};
			int got = 1;
			for (size_t n = 0; got > 0 && n < SAID_MAX; n++) {
				struct buf out;
				buf_init(&out, 16 << 20);
				got = console_encode(ev, &c, n, &out);
				check(got == 0 || got == 1);
				if (got == 1)
					check_said(buf_peek(&out), &c);
				buf_fini(&out);
			}
		}
	}
}

static void
input(const struct event *ev, uint32_t peer)
{
	struct event copy = *ev;
	struct outbox out;

	copy.peer = (struct peer_id){ .slot = peer, .generation = 1 };
	copy.at = 1760616000000;
	outbox_init(&out, 64 << 20);
	hub_input(run.hub, &copy, 1000, &out);
	check(out.err == 0);
	for (size_t i = 0; i < out.count; i++) {
		const struct effect *e = &out.effects[i];
		if (e->kind == EFFECT_SEND || e->kind == EFFECT_PUBLISH)
			tell(e->event);
		if (e->kind != EFFECT_STORE)
			continue;
		struct event stored = { .kind = EVENT_STORED };
		stored.stored.number = e->op->number;
		input(&stored, 0);
	}
	outbox_fini(&out);
}

static void
show(const struct console_output *heard)
{
	struct console_carry carry = { 0 };
	struct buf text, out;

	buf_init(&text, 8 << 20);
	uint64_t at = console_carry_feed(&carry, 5, heard->content, &text);
	console_carry_end(&carry, &text);
	check(text.err == 0 && at <= 5);
	for (unsigned s = 0; s < CONSOLE_SPELLINGS; s++) {
		const struct console_context c = {
			.spelling = (enum console_spelling)s
		};
		struct console_output o = *heard;
		o.content = buf_peek(&text);
		buf_init(&out, 64 << 20);
		if (console_encode_output(&o, &c, &out) == 1)
			check_said(buf_peek(&out), &c);
		buf_fini(&out);
	}
	buf_fini(&text);
}

static void
hear(uint32_t peer, const struct console_message *m, struct arena *a)
{
	struct console_message part;

	check(m->word != CONSOLE_EVENT || m->event.kind != EVENT_BAD ||
	    m->event.complaint.code.len > 0);
	if (m->has_filter && m->word != CONSOLE_BATCH) {
		int err = console_interest_apply(&run.interest, &m->filter);
		check(err == 0 || err == ERR_FULL);
		console_interest_wants(
		    &run.interest, CONSOLE_AGENTS, SL("a"), SL("c"));
	}
	if (m->word == CONSOLE_EVENT)
		input(&m->event, peer);
	if (m->word == CONSOLE_OUTPUT)
		show(&m->output);
	if (m->word == CONSOLE_PACKED) {
		check(console_unpack(m, &run.peers[peer], 9000, a, &part) == 0);
		check(
		    part.word != CONSOLE_BATCH && part.word != CONSOLE_PACKED);
		hear(peer, &part, a);
	}
	if (m->word != CONSOLE_BATCH)
		return;
	for (size_t i = 0; i < m->batch.count && i < SAID_MAX; i++) {
		check(console_decode_part(m->batch.texts[i], &run.peers[peer],
			  9000, a, &part) == 0);
		check(part.word != CONSOLE_BATCH);
		hear(peer, &part, a);
	}
}

static void
say(struct slice line)
{
	bool agent = line.len > 0 && line.ptr[0] == 'A';
	bool marked = agent || (line.len > 0 && line.ptr[0] == 'D');
	uint32_t peer = agent ? AGENT : DASHBOARD;
	struct console_message m;
	struct arena a;

	arena_init(&a, 512 << 20);
	check(console_decode(slice_from_at(line, marked ? 1 : 0),
		  &run.peers[peer], 9000, &a, &m) == 0);
	hear(peer, &m, &a);
	arena_fini(&a);
}

static void
knock(uint32_t peer)
{
	struct event ev = { .kind = EVENT_HELLO };

	ev.hello.entrance = ENTRANCE_CONSOLE;
	ev.hello.credential.kind = CREDENTIAL_TOKEN;
	ev.hello.credential.hash[0] = (uint8_t)peer;
	ev.hello.credential.address = SL("192.0.2.1");
	input(&ev, peer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct hub_config config = { .seed = { 1, 2, 3, 4 },
		.incarnation = SL("db") };
	const struct user_record user = { .id = SL("u"),
		.name = SL("u"),
		.role = ROLE_ADMIN,
		.workspace_id = 1 };
	const struct token_record tokens[] = {
		{ .id = SL("t1"),
		    .scopes = SCOPES_CLUSTER | SCOPE_AGENT_CONNECT,
		    .workspace_id = 1,
		    .hash = { AGENT } },
		{ .id = SL("t2"),
		    .user_id = SL("u"),
		    .scopes = SCOPES_ALL,
		    .workspace_id = 1,
		    .hash = { DASHBOARD } },
	};
	const struct hub_snapshot snapshot = { .users = &user,
		.user_count = 1,
		.tokens = tokens,
		.token_count = 2 };
	struct slice rest = { data, size }, line;

	run = (struct run){ .hub = hub_new(&config) };
	run.peers[DASHBOARD].user_id = SL("u");
	check(run.hub != NULL && hub_load(run.hub, &snapshot, 0) == 0);
	knock(AGENT);
	knock(DASHBOARD);
	for (int i = 0; i < LINES_MAX && slice_split(&rest, '\n', &line); i++)
		say(line);
	console_interest_fini(&run.interest);
	hub_free(run.hub);
	return 0;
}
