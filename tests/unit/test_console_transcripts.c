/*
 * Golden transcripts of the console and monitor dialects:
 * tests/transcripts/console and tests/transcripts/monitor.
 *
 *   # why                        a remark
 *   @1500                        time moves on to that millisecond
 *   !user NAME ROLE [SELECTOR]   someone; a token of theirs has their name
 *   !token NAME                  an agent's, with agent:connect
 *   !console A NAME [agent|dashboard]  a WebSocket knocks, of that path
 *   !monitor M NAME              a board knocks
 *   !muster M NAME ID            an agent of ours registers
 *   !label ID JSON               an operator labels an agent
 *   !gone A CAUSE                goodbye, or the name of an error
 *   !store ok|hold|NAME          answers at once, later, or fails with NAME
 *   > A TEXT                     a message from there
 *   < A TEXT                     what must come out, in this order
 *
 * See support/golden.h.  What a lane of musterd does is done here: who has
 * come in as a dashboard hears all that is published and it may see, and an
 * agent's output goes to them.  Every message fits its schema, and is carried
 * by real framing; no prefix of one is a message.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/js.h"

#include "dialect/console_interest.h"
#include "dialect/console_say.h"
#include "dialect/monitor.h"

#include "support/framing.h"
#include "support/golden.h"
#include "support/guard.h"
#include "support/rig.h"
#include "support/unit.h"

#define SCHEMAS "docs/protocol/schema/"

enum { NAMES = 64, COMMANDS = 32 };

enum part { PART_NAME, PART_CONSOLE, PART_MONITOR, PART_MUSTER };

struct name {
	char text[64];
	enum part part;
	bool joined;
	uint16_t audience;
	struct console_peer peer;
	struct console_interest interest;
};

/* A command that an agent was told of. */
struct told {
	char id[64], key[64];
	uint32_t agent;
	struct peer_id asked_by;
	uint64_t sizes[2];
};

static struct script {
	struct rig rig;
	struct arena arena;
	struct name names[NAMES]; /* the number is peer and token number */
	uint32_t count;
	struct told told[COMMANDS];
	size_t told_count;
	int store;
} s;

/* Names ---------------------------------------------------------------------
 */

static uint32_t
number_of(struct slice name)
{
	for (uint32_t i = 1; i <= s.count; i++) {
		if (slice_eq(slice_from(s.names[i].text), name))
			return i;
	}
	fail_msg(
	    "%s:%d: who is %.*s?", golden_file, golden_line, SLICE_FMT(name));
	return 0;
}

static uint32_t
new_name(struct slice text, enum part part)
{
	uint32_t at = ++s.count;

	assert_true(at < NAMES);
	s.names[at] = (struct name){ .part = part };
	assert_int_equal(
	    slice_cstr(text, s.names[at].text, sizeof(s.names[at].text)), 0);
	return at;
}

static struct slice
next_word(struct slice *rest)
{
	*rest = slice_trim(*rest);
	size_t at = slice_find(*rest, ' ');
	struct slice word = slice_first(*rest, at);
	*rest = slice_trim(slice_from_at(*rest, at));
	return word;
}

static struct slice
keep(struct slice text)
{
	struct slice copy;

	assert_int_equal(arena_copy(&s.arena, text, &copy), 0);
	return copy;
}

/* Output --------------------------------------------------------------------
 */

static struct slice
type_of(struct slice text)
{
	const struct js_limits limits = { 1 << 20, 64 };
	struct slice type;
	struct js_doc doc;

	assert_int_equal(js_parse(&doc, text, &limits, &s.arena), 0);
	assert_null(doc.repeated.ptr);
	assert_int_equal(js_string(js_get(js_root(&doc), "type"), &type), 0);
	return type;
}

/* "agent:list" is agent-list.json. */
static void
must_fit(const char *dialect, const char *way, struct slice text)
{
	char file[256], name[64];

	assert_int_equal(slice_cstr(type_of(text), name, sizeof(name)), 0);
	for (char *c = name; *c != '\0'; c++)
		*c = *c == ':' ? '-' : *c;
	snprintf(file, sizeof(file), SCHEMAS "%s%s%s.json", dialect, way, name);
	golden_fits(file, text);
}

static const char *
spelling_of(struct slice text)
{
	struct slice type = type_of(text);

	return type.ptr[0] >= 'A' && type.ptr[0] <= 'Z' ? "console/upper/"
							: "console/flat/";
}

static void
emit(const struct name *n, struct slice text)
{
	struct slice said = framing_carry(WSCONN_SERVER, text);

	if (n->part == PART_MONITOR)
		must_fit("monitor/", "", said);
	else
		must_fit(spelling_of(said), "out/", said);
	golden_came(n->text, said);
	guard_free(said);
}

static struct console_context
context_of(const struct name *n)
{
	return (struct console_context){
		.spelling = n->peer.spelling, .now = s.rig.wall, .number = 1
	};
}

static void
tell(const struct name *n, const struct event *ev, bool own)
{
	struct console_context c = context_of(n);
	struct buf out;
	int got = 1;

	c.own = own;
	buf_init(&out, 1 << 20);
	for (size_t i = 0; got > 0; i++) {
		buf_clear(&out);
		got = n->part == PART_MONITOR ? monitor_encode(ev, i, &out)
					      : console_encode(ev, &c, i, &out);
		if (got > 0)
			emit(n, buf_peek(&out));
	}
	assert_int_equal(got, 0);
	buf_fini(&out);
}

static void
note_told(uint32_t agent, const struct event *ev)
{
	struct told *t = &s.told[s.told_count++];

	assert_true(s.told_count < COMMANDS);
	*t = (struct told){ .agent = agent, .asked_by = ev->execute.asked_by };
	slice_cstr(ev->execute.command->id, t->id, sizeof(t->id));
	slice_cstr(ev->execute.command->request_key, t->key, sizeof(t->key));
}

static void
send(uint32_t peer, const struct event *ev)
{
	struct name *n = &s.names[peer];
	char text[128];

	if (ev->kind == EVENT_DENIED && n->part != PART_CONSOLE) {
		snprintf(text, sizeof(text), "denied %u %.*s",
		    ev->denied.status, SLICE_FMT(ev->denied.code));
		golden_came(n->text, slice_from(text));
		return;
	}
	if (n->part == PART_MUSTER || ev->kind == EVENT_AUDIENCE)
		return;
	if (ev->kind == EVENT_WELCOME) {
		n->audience = ev->welcome.audience;
		n->joined = n->part == PART_MONITOR;
		if (ev->welcome.user != NULL)
			n->peer.user_id = keep(ev->welcome.user->id);
	}
	if (ev->kind == EVENT_REPLY && ev->reply->op == OP_WATCH &&
	    ev->reply->err == 0) {
		n->audience = ev->reply->audience;
		n->joined = true;
	}
	if (ev->kind == EVENT_EXECUTE)
		note_told(peer, ev);
	if (ev->kind == EVENT_STOP_ORDER)
		n->peer.stop_epoch = ev->stop.epoch;
	tell(n, ev, false);
}

/* What a dashboard asked to be spared. */
static bool
wants(const struct name *n, const struct notice *news)
{
	enum console_topic topic = CONSOLE_AGENTS;

	if (news->kind == NOTICE_COMMAND)
		topic = CONSOLE_COMMANDS;
	else if (news->kind == NOTICE_TRACE)
		topic = CONSOLE_TRACES;
	else if (news->kind == NOTICE_QUEUE)
		topic = n->peer.spelling == CONSOLE_UPPER ? CONSOLE_COMMANDS
							  : CONSOLE_QUEUES;
	else if (news->kind != NOTICE_PRESENCE && news->kind != NOTICE_METRICS)
		return true;
	return console_interest_wants(
	    &n->interest, topic, news->agent_id, news->command_id);
}

static void
publish(const struct effect *e)
{
	const struct notice *news = &e->event->notice;

	for (uint32_t i = 1; i <= s.count; i++) {
		const struct name *n = &s.names[i];
		bool own = peer_some(news->asked_by) &&
		    peer_eq(news->asked_by, rig_peer(i));
		if (n->joined && audience_has(&e->seen_by, n->audience) &&
		    (own || wants(n, news)))
			tell(n, e->event, own);
	}
}

static void
perform(void *arg, const struct effect *e)
{
	struct name *n = &s.names[e->peer.slot];
	char text[128];

	(void)arg;
	if (e->kind == EFFECT_SEND) {
		send(e->peer.slot, e->event);
	} else if (e->kind == EFFECT_PUBLISH) {
		publish(e);
	} else if (e->kind == EFFECT_CLOSE) {
		snprintf(text, sizeof(text), "close %u %.*s", e->close.code,
		    SLICE_FMT(e->close.reason));
		golden_came(n->text, slice_from(text));
		n->joined = false;
	}
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	(void)op;
	return s.store;
}

/* Input ---------------------------------------------------------------------
 */

/* No prefix of a message is one. */
static void
cut_everywhere(const struct name *n, struct slice text)
{
	struct console_message m;
	struct arena a;

	arena_init(&a, 64 << 20);
	for (size_t len = 0; len < text.len; len++) {
		struct console_peer peer = n->peer;
		struct slice part = guard_copy(slice_first(text, len));
		arena_reset(&a);
		assert_int_equal(console_decode(part, &peer, 0, &a, &m), 0);
		assert_int_equal(m.word, CONSOLE_EVENT);
		assert_int_equal(m.event.kind, EVENT_BAD);
		assert_true(m.event.complaint.code.len > 0);
		assert_true(m.event.complaint.text.len > 0);
		assert_memory_equal(&peer, &n->peer, sizeof(peer));
		guard_free(part);
	}
	arena_fini(&a);
}

static void
show_output(uint32_t from, const struct console_output *heard)
{
	struct told *t = NULL;

	for (size_t i = 0; i < s.told_count; i++) {
		if (s.told[i].agent == from &&
		    slice_eq(slice_from(s.told[i].id), heard->command_id))
			t = &s.told[i];
	}
	if (t == NULL)
		return;
	uint64_t *size = &s.told[t - s.told].sizes[heard->stream & 1];
	for (uint32_t i = 1; i <= s.count; i++) {
		const struct name *n = &s.names[i];
		const struct console_context c = context_of(n);
		bool own = n->peer.spelling == CONSOLE_UPPER &&
		    peer_eq(t->asked_by, rig_peer(i));
		struct console_output o = *heard;
		struct buf out;

		if (!n->joined || n->part != PART_CONSOLE)
			continue;
		o.agent_id = (struct slice){ s.names[from].peer.agent_id,
			s.names[from].peer.agent_id_len };
		o.command_id = slice_from(own ? t->key : t->id);
		o.offset = *size;
		o.at = s.rig.wall;
		buf_init(&out, 1 << 20);
		if (console_encode_output(&o, &c, &out) > 0)
			emit(n, buf_peek(&out));
		buf_fini(&out);
	}
	*size += heard->content.len;
}

static void
acknowledge(struct name *n, struct slice request_id)
{
	const struct console_context c = context_of(n);
	struct buf out;

	buf_init(&out, 4096);
	if (console_encode_ack(request_id, &c, &out) > 0)
		emit(n, buf_peek(&out));
	buf_fini(&out);
}

static void
note(const char *who, const char *what)
{
	golden_came(who, slice_from(what));
}

static void hear(uint32_t peer, const struct console_message *m);

static void
hear_batch(uint32_t peer, const struct console_message *batch)
{
	for (size_t i = 0; i < batch->batch.count; i++) {
		struct console_message m;
		assert_int_equal(
		    console_decode_part(batch->batch.texts[i],
			&s.names[peer].peer, s.rig.wall, &s.arena, &m),
		    0);
		hear(peer, &m);
	}
}

static void
hear_packed(uint32_t peer, const struct console_message *m)
{
	struct console_message inner;

	assert_int_equal(console_unpack(m, &s.names[peer].peer, s.rig.wall,
			     &s.arena, &inner),
	    0);
	hear(peer, &inner);
}

static void
hear(uint32_t peer, const struct console_message *m)
{
	struct name *n = &s.names[peer];
	struct event ev = m->event;

	if (m->has_filter)
		assert_int_equal(
		    console_interest_apply(&n->interest, &m->filter), 0);
	switch (m->word) {
	case CONSOLE_EVENT:
		ev.peer = rig_peer(peer);
		rig_input(&s.rig, &ev);
		break;
	case CONSOLE_OUTPUT:
		show_output(peer, &m->output);
		break;
	case CONSOLE_REFRESH:
		note(n->text,
		    m->refresh.token.ptr != NULL ? "(new token)" : "(refresh)");
		break;
	case CONSOLE_BATCH:
		hear_batch(peer, m);
		break;
	case CONSOLE_PACKED:
		hear_packed(peer, m);
		break;
	case CONSOLE_FILTER:
	case CONSOLE_NOTHING:
		break;
	}
	if (m->wants_ack)
		acknowledge(n, m->event.request_id);
}

static void
say(uint32_t peer, struct slice text)
{
	struct name *n = &s.names[peer];
	struct slice heard = framing_carry(WSCONN_CLIENT, text);
	struct console_message m;
	struct slice kept = keep(heard);

	cut_everywhere(n, heard);
	assert_int_equal(
	    console_decode(kept, &n->peer, s.rig.wall, &s.arena, &m), 0);
	if (m.word != CONSOLE_EVENT || m.event.kind != EVENT_BAD)
		must_fit(spelling_of(heard), "in/", heard);
	guard_free(heard);
	hear(peer, &m);
}

/* Directives ----------------------------------------------------------------
 */

static void
load_user(struct slice rest)
{
	struct slice name = next_word(&rest), role = next_word(&rest);
	uint32_t at = new_name(name, PART_NAME);
	const struct user_record user = { .id = name,
		.name = name,
		.role = slice_eq(role, SL("admin"))  ? ROLE_ADMIN
		    : slice_eq(role, SL("operator")) ? ROLE_OPERATOR
						     : ROLE_VIEWER,
		.selector = rest,
		.workspace_id = 1 };
	struct token_record token = { .id = name,
		.name = name,
		.user_id = name,
		.scopes = SCOPES_ALL,
		.workspace_id = 1 };
	const struct hub_snapshot snapshot = { .users = &user,
		.user_count = 1,
		.tokens = &token,
		.token_count = 1 };

	rig_hash(token.hash, at);
	assert_int_equal(hub_load(s.rig.hub, &snapshot, s.rig.now), 0);
}

static void
load_token(struct slice rest)
{
	struct slice name = next_word(&rest), word = next_word(&rest);
	uint64_t expires = 0;
	struct token_record token = { .id = name,
		.name = name,
		.scopes = SCOPE_AGENT_CONNECT | SCOPES_CLUSTER,
		.workspace_id = 1 };
	const struct hub_snapshot snapshot = { .tokens = &token,
		.token_count = 1 };

	if (slice_u64(word, UINT32_MAX, &expires) == 0)
		token.expires_at = s.rig.wall + (wall_msec)expires;
	rig_hash(token.hash, new_name(name, PART_NAME));
	assert_int_equal(hub_load(s.rig.hub, &snapshot, s.rig.now), 0);
}

static void
knock(struct slice rest, enum part part, enum entrance entrance)
{
	uint32_t at = new_name(next_word(&rest), part);
	struct slice token = next_word(&rest);
	uint32_t number = slice_eq(token, SL("?")) ? 9999 : number_of(token);
	struct event ev = rig_hello(at, number, "192.0.2.1", entrance);

	if (slice_eq(rest, SL("agent")))
		s.names[at].peer.path = CONSOLE_AGENT_ONLY;
	if (slice_eq(rest, SL("dashboard")))
		s.names[at].peer.path = CONSOLE_DASHBOARD_ONLY;
	rig_input(&s.rig, &ev);
	if (part != PART_MUSTER)
		return;
	ev = rig_event(EVENT_REGISTER, at);
	ev.registration.agent_id = ev.registration.name = rest;
	ev.registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true };
	rig_input(&s.rig, &ev);
}

static void
label(struct slice rest)
{
	struct event ev = rig_event(EVENT_REQUEST, 0);
	struct event hello =
	    rig_hello(0, 1, "192.0.2.1", ENTRANCE_CLUSTER_HTTP);

	ev.request.op = OP_AGENT_LABEL;
	ev.request.credential = hello.hello.credential;
	ev.request.id = next_word(&rest);
	ev.request.labels_json = rest;
	s.names[0].part = PART_MUSTER; /* nobody hears the answer */
	rig_input(&s.rig, &ev);
}

static int
error_named(struct slice name)
{
	for (int err = -1; err > -64; err--) {
		if (slice_eq(name, slice_from(err_name(err))))
			return err;
	}
	fail_msg("%s:%d: no such error", golden_file, golden_line);
	return 0;
}

static void
lose(struct slice rest)
{
	uint32_t at = number_of(next_word(&rest));
	struct event ev = rig_event(EVENT_GONE, at);

	s.names[at].joined = false;
	if (!slice_eq(rest, SL("goodbye")))
		ev.gone.why = error_named(rest);
	rig_input(&s.rig, &ev);
}

static void
set_store(struct slice rest)
{
	s.store = slice_eq(rest, SL("ok")) ? 0
	    : slice_eq(rest, SL("hold"))   ? RIG_HOLD
					   : error_named(rest);
	rig_settle(&s.rig);
}

static void
direct(struct slice rest)
{
	struct slice verb = next_word(&rest);

	if (slice_eq(verb, SL("user")))
		load_user(rest);
	else if (slice_eq(verb, SL("token")))
		load_token(rest);
	else if (slice_eq(verb, SL("console")))
		knock(rest, PART_CONSOLE, ENTRANCE_CONSOLE);
	else if (slice_eq(verb, SL("monitor")))
		knock(rest, PART_MONITOR, ENTRANCE_MONITOR);
	else if (slice_eq(verb, SL("muster")))
		knock(rest, PART_MUSTER, ENTRANCE_CLUSTER_LINK);
	else if (slice_eq(verb, SL("label")))
		label(rest);
	else if (slice_eq(verb, SL("gone")))
		lose(rest);
	else if (slice_eq(verb, SL("store")))
		set_store(rest);
	else
		fail_msg(
		    "%s:%d: %.*s?", golden_file, golden_line, SLICE_FMT(verb));
}

static void
do_line(char *line)
{
	uint64_t at;

	if (line[0] == '#' || line[0] == '\0')
		return;
	if (line[0] == '<') {
		golden_expect(line + 2);
		return;
	}
	golden_done();
	char *filled = golden_fill(line + 1);
	struct slice rest = keep(slice_trim(slice_from(filled)));
	free(filled);
	if (line[0] == '@') {
		assert_int_equal(slice_u64(rest, UINT32_MAX, &at), 0);
		rig_advance(&s.rig, (msec)at);
	} else if (line[0] == '!') {
		direct(rest);
	} else {
		assert_int_equal(line[0], '>');
		uint32_t peer = number_of(next_word(&rest));
		say(peer, rest);
	}
}

static void
replay(const char *file)
{
	static char line[1 << 16];
	FILE *f = fopen(file, "r");

	assert_non_null(f);
	golden_file = file;
	golden_line = 0;
	golden_reset();
	s = (struct script){ 0 };
	arena_init(&s.arena, 256 << 20);
	rig_init(&s.rig, NULL);
	assert_non_null(s.rig.hub);
	s.rig.perform = perform;
	s.rig.store = store;
	while (fgets(line, sizeof(line), f) != NULL) {
		golden_line++;
		line[strcspn(line, "\n")] = '\0';
		do_line(line);
	}
	golden_done();
	assert_int_equal(s.rig.err, 0);
	fclose(f);
	for (uint32_t i = 0; i <= s.count; i++)
		console_interest_fini(&s.names[i].interest);
	rig_fini(&s.rig);
	arena_fini(&s.arena);
}

static void
replay_all(const char *directory, size_t least)
{
	DIR *d = opendir(directory);
	struct dirent *e;
	char file[512];
	size_t n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (!slice_ends(slice_from(e->d_name), SL(".txt")))
			continue;
		snprintf(file, sizeof(file), "%s%s", directory, e->d_name);
		replay(file);
		n++;
	}
	closedir(d);
	assert_true(n >= least);
}

static void
test_console(void **state)
{
	(void)state;
	replay_all("tests/transcripts/console/", 10);
}

static void
test_monitor(void **state)
{
	(void)state;
	replay_all("tests/transcripts/monitor/", 1);
}

/* Words of a lane's own -----------------------------------------------------
 */

static void
must_say(int got, struct buf *out, const char *dialect, const char *way,
    const char *want)
{
	assert_int_equal(got, 1);
	assert_slice(buf_peek(out), slice_from(want));
	must_fit(dialect, way, buf_peek(out));
	buf_clear(out);
}

static void
test_own_words(void **state)
{
	const struct console_context flat = { .spelling = CONSOLE_FLAT,
		.now = 1760616000000 };
	const struct console_context upper = {
		.spelling = CONSOLE_UPPER, .now = 1760616000000, .number = 5
	};
	const struct console_windows w = { { 100, 100 }, { 500, 1000 },
		{ 3, 10 } };
	const struct console_renewed r = { .token = SL("t.t.t"),
		.refresh_token = SL("r"),
		.expires_at = 1760616060000 };
	struct buf out;

	(void)state;
	arena_init(&s.arena, 64 << 20);
	buf_init(&out, 1 << 20);
	must_say(console_encode_ping(&flat, &out), &out, "console/flat/",
	    "out/",
	    "{\"type\":\"heartbeat:ping\","
	    "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}");
	must_say(console_encode_ping(&upper, &out), &out, "console/upper/",
	    "out/",
	    "{\"type\":\"PING\",\"id\":\"00000000-0000-4000-8000-000000000005"
	    "\",\"timestamp\":1760616000000,\"payload\":{\"timestamp\":"
	    "1760616000000}}");
	must_say(console_encode_trouble(SL("RATE_LIMIT"),
		     SL("Rate limit exceeded"), 60, &w, SL("q"), &flat, &out),
	    &out, "console/flat/", "out/",
	    "{\"type\":\"connection:error\",\"error\":\"Rate limit exceeded\","
	    "\"code\":\"RATE_LIMIT\",\"retryAfter\":60,\"limits\":{"
	    "\"perMinute\":{\"used\":100,\"limit\":100},\"perHour\":{\"used\":"
	    "500,\"limit\":1000},\"burst\":{\"used\":3,\"limit\":10}},"
	    "\"requestId\":\"q\",\"timestamp\":\"2025-10-16T12:00:00.000Z\"}");
	must_say(console_encode_trouble(
		     SL("RATE_LIMIT"), SL("x"), 1, &w, SL("q"), &upper, &out),
	    &out, "console/upper/", "out/",
	    "{\"type\":\"ERROR\",\"id\":\"00000000-0000-4000-8000-000000000005"
	    "\",\"timestamp\":1760616000000,\"payload\":{\"message\":\"x\","
	    "\"code\":\"RATE_LIMIT\",\"details\":{\"code\":\"RATE_LIMIT\","
	    "\"retryAfter\":1,\"limits\":{\"perMinute\":{\"used\":100,"
	    "\"limit\":100},\"perHour\":{\"used\":500,\"limit\":1000},"
	    "\"burst\":{\"used\":3,\"limit\":10}}},\"originalMessageId\":"
	    "\"q\"}}");
	must_say(console_encode_renewed(&r, SL("q"), &flat, &out), &out,
	    "console/flat/", "out/",
	    "{\"type\":\"auth:refresh-success\",\"token\":\"t.t.t\","
	    "\"refreshToken\":\"r\",\"expiresIn\":60,\"requestId\":\"q\","
	    "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}");
	must_say(console_encode_renewed(&r, SL("q"), &upper, &out), &out,
	    "console/upper/", "out/",
	    "{\"type\":\"TOKEN_REFRESH\",\"id\":\"00000000-0000-4000-8000-"
	    "000000000005\",\"timestamp\":1760616000000,\"payload\":{"
	    "\"accessToken\":\"t.t.t\",\"refreshToken\":\"r\",\"expiresIn\":60"
	    ",\"originalMessageId\":\"q\"}}");
	must_say(console_encode_not_renewed(SL("TOKEN_REUSED"),
		     SL("Invalid refresh token"), SL(""), &flat, &out),
	    &out, "console/flat/", "out/",
	    "{\"type\":\"auth:refresh-failed\",\"error\":\"Invalid refresh "
	    "token\",\"code\":\"TOKEN_REUSED\","
	    "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}");
	const struct slice texts[] = { SL("{\"type\":\"terminal:output\"}"),
		SL("{}") };
	must_say(console_encode_batch(texts, 2, &upper, &out), &out,
	    "console/flat/", "out/",
	    "{\"type\":\"batch\",\"messages\":[{\"type\":\"terminal:output\"},"
	    "{}],\"count\":2,\"timestamp\":\"2025-10-16T12:00:00.000Z\"}");
	must_say(monitor_encode_heartbeat(1760616000000, &out), &out,
	    "monitor/", "",
	    "{\"type\":\"heartbeat\",\"payload\":{\"timestamp\":1760616000000}"
	    "}");
	must_say(monitor_encode_activity(
		     SL("a"), SL("c"), SL("Building..."), 1760616000000, &out),
	    &out, "monitor/", "",
	    "{\"type\":\"session:activity\",\"payload\":{\"agentId\":\"a\","
	    "\"sessionId\":\"c\",\"lastMessage\":\"Building...\","
	    "\"timestamp\":1760616000000}}");
	buf_fini(&out);
	arena_fini(&s.arena);
}

static void
test_compressed(void **state)
{
	const struct console_context c = { .spelling = CONSOLE_FLAT,
		.now = 1760616000000 };
	static char text[4096];
	struct buf out;

	(void)state;
	arena_init(&s.arena, 64 << 20);
	buf_init(&out, 1 << 20);
	snprintf(text, sizeof(text),
	    "{\"type\":\"terminal:output\",\"x\":\"%2000s\"}", "");
	assert_int_equal(
	    console_encode_compressed(slice_from(text), &c, &out), 1);
	must_fit("console/flat/", "out/", buf_peek(&out));
	assert_true(buf_peek(&out).len < 400);
	buf_fini(&out);
	arena_fini(&s.arena);
}

static void
test_every_schema_was_used(void **state)
{
	(void)state;
	golden_all_used(SCHEMAS "console/flat/in/");
	golden_all_used(SCHEMAS "console/flat/out/");
	golden_all_used(SCHEMAS "console/upper/in/");
	golden_all_used(SCHEMAS "console/upper/out/");
	golden_all_used(SCHEMAS "monitor/");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_monitor),
		cmocka_unit_test(test_own_words),
		cmocka_unit_test(test_compressed),
		cmocka_unit_test(test_every_schema_was_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
