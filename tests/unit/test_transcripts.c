/*
 * Golden transcripts of the cluster dialect: tests/transcripts/cluster.
 *
 *   # why                     a remark
 *   @1500                     time moves on to that millisecond
 *   !user NAME ROLE           someone who may ask
 *   !token NAME [KEY=VALUE..] scopes= user= max= allow= expires= (ms)
 *   !name NAME                a token's text that is not in use yet
 *   !link A TOKEN [ADDRESS]   a WebSocket knocks
 *   !caller H TOKEN [ADDRESS] who makes calls over HTTP, or asks as operator
 *   !gone A CAUSE             goodbye, or the name of an error
 *   !store ok|hold|NAME       answers at once, later, or fails with NAME
 *   > A TEXT                  a message from there
 *   > H CALL [ID..] [BODY]    a call, or an operator's word: see asks
 *   < A TEXT                  what must come out, in this order
 *
 * $name in what is expected stands for anything of [A-Za-z0-9_-]; later the
 * same name means the same text.  Everything that comes out is expected
 * somewhere, and fits its schema in docs/protocol/schema/cluster.  What is
 * said either way is carried by real framing first (support/framing.h), and
 * what came byte by byte is what is decoded.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/js.h"

#include "model/command.h"

#include "dialect/cluster.h"

#include "support/framing.h"
#include "support/guard.h"
#include "support/rig.h"
#include "support/schema.h"
#include "support/unit.h"

#define SCHEMAS "docs/protocol/schema/cluster/"
#define SCRIPTS "tests/transcripts/cluster/"

enum { NAMES = 64, LINES = 256, SEEN = 64 };

struct name {
	struct slice text;
	uint32_t token;
	const char *address;
	bool http;
	enum cluster_call call; /* being answered */
};

struct variable {
	struct slice name;
	char value[64];
};

static struct script {
	const char *file;
	int line;
	struct rig rig;
	struct arena arena;       /* of the whole script */
	struct name names[NAMES]; /* the number is the peer and token number */
	size_t count;
	struct variable variables[NAMES];
	size_t variable_count;
	char *out[LINES]; /* what came out, not yet expected */
	size_t out_head, out_tail;
	int store; /* what the store answers */
} s;

static char *seen[SEEN];
static size_t seen_count;

/* Names ------------------------------------------------------------------- */

static uint32_t
number_of(struct slice name)
{
	for (uint32_t i = 1; i <= s.count; i++) {
		if (slice_eq(s.names[i].text, name))
			return i;
	}
	fail_msg("%s:%d: who is %.*s?", s.file, s.line, SLICE_FMT(name));
	return 0;
}

static struct name *
new_name(struct slice text)
{
	assert_true(s.count + 1 < NAMES);
	/* A connection may knock again under its name. */
	for (size_t i = 1; i <= s.count; i++) {
		if (slice_eq(s.names[i].text, text))
			return &s.names[i];
	}
	s.names[++s.count] = (struct name){ .text = text };
	return &s.names[s.count];
}

static struct slice
next_word(struct slice *rest)
{
	struct slice word;

	*rest = slice_trim(*rest);
	if (rest->len == 0)
		return (struct slice){ 0 };
	size_t at = slice_find(*rest, ' ');
	word = slice_first(*rest, at);
	*rest = slice_trim(slice_from_at(*rest, at));
	return word;
}

static const char *
cstr(struct slice text)
{
	char *copy = arena_cstr(&s.arena, text);

	assert_non_null(copy);
	return copy;
}

/* Output ------------------------------------------------------------------ */

static void
note_seen(const char *schema)
{
	for (size_t i = 0; i < seen_count; i++) {
		if (strcmp(seen[i], schema) == 0)
			return;
	}
	assert_true(seen_count < SEEN);
	seen[seen_count++] = strdup(schema);
}

static void
must_fit(const char *name, struct slice text)
{
	char file[256];

	snprintf(file, sizeof(file), SCHEMAS "%s.json", name);
	const char *wrong = schema_check(file, text);
	if (wrong != NULL)
		fail_msg("%s:%d: %s: %s in %.*s", s.file, s.line, name, wrong,
		    SLICE_FMT(text));
	note_seen(name);
}

static void
must_fit_type(struct slice text)
{
	const struct js_limits limits = { 1 << 20, 64 };
	struct slice type;
	struct js_doc doc;

	assert_int_equal(js_parse(&doc, text, &limits, &s.arena), 0);
	assert_int_equal(js_string(js_get(js_root(&doc), "type"), &type), 0);
	must_fit(cstr(type), text);
}

static void
emit(const char *who, const char *what, struct slice text)
{
	assert_true(s.out_tail < LINES);
	size_t room = strlen(who) + strlen(what) + text.len + 8;
	char *line = malloc(room);
	assert_non_null(line);
	snprintf(line, room, "%s%s%s%.*s", who, who[0] != '\0' ? " " : "", what,
	    SLICE_FMT(text));
	s.out[s.out_tail++] = line;
}

static struct cluster_context
context(void)
{
	return (
	    struct cluster_context){ .tunnel_origin = SL("https://m.example"),
		.now = s.rig.wall,
		.heartbeat_ms = 30000,
		.message_max = 1 << 20 };
}

static void
emit_call(const struct name *n, const struct event *ev)
{
	static const char *const schemas[] = { "http-register",
		"http-heartbeat", "http-poll", "http-tunnel-info",
		"http-accepted", "http-accepted" };
	const struct cluster_context c = context();
	char status_text[16];
	struct buf text;
	int status = 0;

	buf_init(&text, 1 << 20);
	assert_int_equal(
	    cluster_encode_call(ev, n->call, &c, &status, &text), 0);
	must_fit(
	    status == 200 ? schemas[n->call] : "http-error", buf_peek(&text));
	snprintf(status_text, sizeof(status_text), "%d ", status);
	emit(cstr(n->text), status_text, buf_peek(&text));
	buf_fini(&text);
}

/* Its number and scope, and receipts by kind in the order of the enum. */
static void
emit_stop(const struct name *n, const struct reply *r)
{
	const struct stop_view *v = &r->stops[0];
	char text[256];

	snprintf(text, sizeof(text), "%u stop %llu %.*s%s %u %u %u %u %u",
	    r->status, (unsigned long long)v->record->epoch,
	    SLICE_FMT(stop_scope_name(v->record->scope)),
	    v->record->lifted_epoch != 0 ? " lifted" : "", v->counts[0],
	    v->counts[1], v->counts[2], v->counts[3], v->counts[4]);
	emit(cstr(n->text), "", slice_from(text));
}

static void
emit_reply(const struct name *n, const struct reply *r)
{
	char text[256] = "";

	if (r->stop_count > 0) {
		emit_stop(n, r);
		return;
	}
	struct slice id = r->command != NULL ? r->command->id
	    : r->agent_count > 0             ? r->agents[0].record->id
					     : (struct slice){ 0 };
	struct slice what = r->err != 0 ? r->code
	    : r->command != NULL        ? command_state_name(r->command->state)
	    : r->agent_count > 0        ? presence_name(r->agents[0].presence)
					: (struct slice){ 0 };

	snprintf(text, sizeof(text), "%u%s%.*s%s%.*s", r->status,
	    what.len > 0 ? " " : "", SLICE_FMT(what), id.len > 0 ? " " : "",
	    SLICE_FMT(id));
	emit(cstr(n->text), "", slice_from(text));
}

static void
emit_send(const struct name *n, const struct event *ev)
{
	const struct cluster_context c = context();
	char text[256];
	struct buf out;

	if (ev->kind == EVENT_WELCOME)
		return;
	if (n->http && ev->kind == EVENT_REPLY) {
		emit_reply(n, ev->reply);
		return;
	}
	if (n->http) {
		emit_call(n, ev);
		return;
	}
	if (ev->kind == EVENT_DENIED) {
		snprintf(text, sizeof(text), "denied %u %.*s",
		    ev->denied.status, SLICE_FMT(ev->denied.code));
		emit(cstr(n->text), "", slice_from(text));
		return;
	}
	buf_init(&out, 1 << 20);
	assert_int_equal(cluster_encode(ev, &c, &out), 0);
	struct slice said = framing_carry(WSCONN_SERVER, buf_peek(&out));
	must_fit_type(said);
	emit(cstr(n->text), "", said);
	guard_free(said);
	buf_fini(&out);
}

static void
emit_stream(const struct name *n, const struct stream_order *o)
{
	static const char *const verbs[] = { "open", "signal", "done", "seen",
		"expel", "view" };
	char text[128];

	snprintf(text, sizeof(text), "stream %s %.*s%s", verbs[o->verb],
	    SLICE_FMT(o->command_id), o->again ? " again" : "");
	emit(cstr(n->text), "", slice_from(text));
}

static void
perform(void *arg, const struct effect *e)
{
	const struct name *n = &s.names[e->peer.slot];
	char text[256];

	(void)arg;
	switch (e->kind) {
	case EFFECT_SEND:
		emit_send(n, e->event);
		break;
	case EFFECT_CLOSE:
		snprintf(text, sizeof(text), "close %u %.*s", e->close.code,
		    SLICE_FMT(e->close.reason));
		emit(cstr(n->text), "", slice_from(text));
		break;
	case EFFECT_PUBLISH:
		snprintf(text, sizeof(text), "%.*s %.*s%s%.*s",
		    SLICE_FMT(e->event->notice.name),
		    SLICE_FMT(e->event->notice.agent_id),
		    e->event->notice.data_json.len > 0 ? " " : "",
		    SLICE_FMT(e->event->notice.data_json));
		emit("event", "", slice_from(text));
		break;
	case EFFECT_STREAM:
		if (peer_some(e->peer))
			emit_stream(n, &e->stream);
		break;
	case EFFECT_STORE:
	case EFFECT_OUTPUT:
	case EFFECT_STOP:
	case EFFECT_ROUTES:
	case EFFECT_WITHDRAW:
		break;
	}
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	(void)op;
	return s.store;
}

/* Expectations --------------------------------------------------------------
 */

static bool
is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static struct variable *
variable(struct slice name)
{
	for (size_t i = 0; i < s.variable_count; i++) {
		if (slice_eq(s.variables[i].name, name))
			return &s.variables[i];
	}
	assert_true(s.variable_count < NAMES);
	s.variables[s.variable_count] = (struct variable){ .name = name };
	return &s.variables[s.variable_count++];
}

/* The name after a $ at *at, which moves behind it. */
static struct slice
variable_name(const char **at)
{
	const char *start = ++*at;

	while (is_word(**at))
		++*at;
	return (struct slice){ (const uint8_t *)start, (size_t)(*at - start) };
}

static bool
fits(const char *want, const char *got)
{
	while (*want != '\0') {
		if (*want != '$') {
			if (*want++ != *got++)
				return false;
			continue;
		}
		struct variable *v = variable(variable_name(&want));
		size_t n = 0;
		while (is_word(got[n]))
			n++;
		if (n == 0 || n >= sizeof(v->value))
			return false;
		if (v->value[0] == '\0')
			memcpy(v->value, got, n);
		if (strlen(v->value) != n || memcmp(v->value, got, n) != 0)
			return false;
		got += n;
	}
	return *got == '\0';
}

static struct slice
fill_in(const char *text)
{
	struct buf out;
	struct slice all;

	buf_init(&out, 1 << 20);
	while (*text != '\0') {
		if (*text != '$')
			buf_put_byte(&out, (uint8_t)*text++);
		else
			buf_put(&out,
			    slice_from(variable(variable_name(&text))->value));
	}
	assert_int_equal(arena_copy(&s.arena, buf_peek(&out), &all), 0);
	buf_fini(&out);
	return all;
}

static void
expect(const char *want)
{
	if (s.out_head == s.out_tail)
		fail_msg("%s:%d: nothing came", s.file, s.line);
	char *got = s.out[s.out_head++];
	if (!fits(want, got))
		fail_msg(
		    "%s:%d: wanted %s\n got    %s", s.file, s.line, want, got);
	free(got);
}

static void
expect_nothing_more(void)
{
	if (s.out_head < s.out_tail)
		fail_msg("%s:%d: not expected: %s", s.file, s.line,
		    s.out[s.out_head]);
	s.out_head = s.out_tail = 0;
}

/* Input ---------------------------------------------------------------------
 */

/* No prefix of a message is one. */
static void
cut_everywhere(struct slice text)
{
	struct arena a;
	struct event ev;

	arena_init(&a, 16 << 20);
	for (size_t n = 0; n < text.len; n++) {
		struct slice part = guard_copy(slice_first(text, n));
		arena_reset(&a);
		assert_int_equal(cluster_decode(part, &a, &ev), 0);
		assert_int_equal(ev.kind, EVENT_BAD);
		assert_true(ev.complaint.code.len > 0);
		assert_true(ev.complaint.text.len > 0);
		if (n > 0) {
			assert_int_equal(cluster_decode_call(CLUSTER_RESULT,
					     SL("c"), SL("d"), part, &a, &ev),
			    0);
			assert_int_equal(ev.kind, EVENT_BAD);
		}
		guard_free(part);
	}
	arena_fini(&a);
}

static void
say(uint32_t peer, struct slice text)
{
	struct slice heard = framing_carry(WSCONN_CLIENT, text);
	struct event ev;

	cut_everywhere(heard);
	assert_int_equal(cluster_decode(heard, &s.arena, &ev), 0);
	if (ev.kind != EVENT_BAD)
		must_fit_type(heard);
	ev.peer = rig_peer(peer);
	rig_input(&s.rig, &ev);
	guard_free(heard);
}

static void
knock(uint32_t peer, enum entrance entrance)
{
	const struct name *n = &s.names[peer];
	struct event ev = rig_hello(peer, n->token, n->address, entrance);

	rig_input(&s.rig, &ev);
}

static const char *const calls[] = { "register", "heartbeat", "poll",
	"tunnel-info", "result", "ack" };
enum { CALLS = 6 };

static bool
call(uint32_t peer, struct slice verb, struct slice rest)
{
	struct slice ids[2] = { { 0 } }, body;
	size_t i = 0;
	struct event ev;

	while (i < CALLS && !slice_eq(verb, slice_from(calls[i])))
		i++;
	if (i == CALLS)
		return false;
	for (size_t k = 0; k < 2 && rest.len > 0 && rest.ptr[0] != '{'; k++)
		ids[k] = next_word(&rest);
	body = framing_carry_body(rest);
	s.names[peer].call = (enum cluster_call)i;
	knock(peer, ENTRANCE_CLUSTER_HTTP);
	if (s.out_head < s.out_tail) {
		guard_free(body);
		return true; /* refused at the door */
	}
	assert_int_equal(cluster_decode_call((enum cluster_call)i, ids[0],
			     ids[1], body, &s.arena, &ev),
	    0);
	if (ev.kind != EVENT_BAD && body.len > 0) {
		char name[64];
		snprintf(name, sizeof(name), "http-%s-body", calls[i]);
		must_fit(name, body);
	}
	ev.peer = rig_peer(peer);
	rig_input(&s.rig, &ev);
	guard_free(body);
	/* The call is over when it is answered; a slow store may answer
	 * later, to the same address. */
	ev = rig_event(EVENT_GONE, peer);
	rig_input(&s.rig, &ev);
	return true;
}

static void
ask_to_run(struct request *q, struct slice rest)
{
	struct command_record *r = arena_alloc(&s.arena, sizeof(*r));

	assert_non_null(r);
	q->op = OP_COMMAND_CREATE;
	q->id = next_word(&rest);
	r->argv_json = rest;
	r->priority = 1;
	q->command = r;
}

/* stop SCOPE [TARGET], resume the same; the reason is always one. */
static void
ask_to_stop(struct request *q, struct slice verb, struct slice rest)
{
	q->op = slice_eq(verb, SL("stop")) ? OP_STOP_RAISE : OP_STOP_LIFT;
	assert_int_equal(stop_scope_find(next_word(&rest), &q->scope), 0);
	q->target = rest;
	q->reason = SL("drill");
}

static void
ask_to_rotate(struct request *q, struct slice rest)
{
	struct token_record *t = arena_alloc(&s.arena, sizeof(*t));
	uint64_t overlap = 0;
	struct slice to;

	assert_non_null(t);
	q->op = OP_TOKEN_ROTATE;
	q->id = next_word(&rest);
	to = next_word(&rest);
	assert_int_equal(slice_u64(rest, UINT32_MAX, &overlap), 0);
	q->overlap = (msec)overlap;
	rig_hash(t->hash, number_of(to));
	q->token = t;
}

static void
ask(uint32_t peer, struct slice verb, struct slice rest)
{
	static const struct {
		const char *verb;
		enum request_op op;
	} asks[] = {
		{ "show", OP_AGENT_SHOW },
		{ "remove", OP_AGENT_REMOVE },
		{ "attach", OP_COMMAND_ATTACH },
		{ "cancel", OP_COMMAND_CANCEL },
		{ "interrupt", OP_COMMAND_INTERRUPT },
		{ "revoke", OP_TOKEN_REVOKE },
	};
	struct event ev = rig_event(EVENT_REQUEST, peer);
	struct request *q = &ev.request;
	struct event hello = rig_hello(peer, s.names[peer].token,
	    s.names[peer].address, ENTRANCE_CLUSTER_HTTP);

	q->credential = hello.hello.credential;
	q->id = rest;
	if (slice_eq(verb, SL("run"))) {
		ask_to_run(q, rest);
	} else if (slice_eq(verb, SL("stop")) || slice_eq(verb, SL("resume"))) {
		ask_to_stop(q, verb, rest);
	} else if (slice_eq(verb, SL("rotate"))) {
		ask_to_rotate(q, rest);
	} else {
		size_t i = 0;
		while (i < 6 && !slice_eq(verb, slice_from(asks[i].verb)))
			i++;
		if (i == 6)
			fail_msg("%s:%d: no such verb", s.file, s.line);
		q->op = asks[i].op;
	}
	rig_input(&s.rig, &ev);
}

static void
from_client(struct slice rest)
{
	uint32_t peer = number_of(next_word(&rest));

	if (!s.names[peer].http) {
		say(peer, rest);
		return;
	}
	struct slice verb = next_word(&rest);
	if (!call(peer, verb, rest))
		ask(peer, verb, rest);
}

/* Directives ----------------------------------------------------------------
 */

static void
load_user(struct slice rest)
{
	struct slice name = next_word(&rest);
	const struct user_record user = { .id = name,
		.name = name,
		.role = slice_eq(rest, SL("admin")) ? ROLE_ADMIN : ROLE_VIEWER,
		.workspace_id = 1 };
	const struct hub_snapshot snapshot = { .users = &user,
		.user_count = 1 };

	assert_int_equal(hub_load(s.rig.hub, &snapshot, s.rig.now), 0);
}

static void
set_token(struct token_record *t, struct slice word)
{
	size_t at = slice_find(word, '=');
	struct slice key = slice_first(word, at);
	struct slice value = slice_from_at(word, at + 1), bad;
	uint64_t n = 0;

	slice_u64(value, UINT32_MAX, &n);
	if (slice_eq(key, SL("scopes")))
		assert_int_equal(scope_parse(value, &t->scopes, &bad), 0);
	else if (slice_eq(key, SL("user")))
		t->user_id = value;
	else if (slice_eq(key, SL("allow")))
		t->allow = value;
	else if (slice_eq(key, SL("max")))
		t->max_connections = (uint32_t)n;
	else if (slice_eq(key, SL("expires")))
		t->expires_at = 1760616000000 + (wall_msec)n;
	else
		fail_msg("%s:%d: token?", s.file, s.line);
}

static void
load_token(struct slice rest)
{
	struct slice name = next_word(&rest), word;
	struct token_record t = { .id = name,
		.name = name,
		.scopes = SCOPES_CLUSTER,
		.workspace_id = 1 };
	const struct hub_snapshot snapshot = { .tokens = &t, .token_count = 1 };

	new_name(name);
	rig_hash(t.hash, number_of(name));
	while ((word = next_word(&rest)).len > 0)
		set_token(&t, word);
	/* user=: an operator's, with all scopes. */
	if (t.user_id.len > 0)
		t.scopes = SCOPES_ALL;
	assert_int_equal(hub_load(s.rig.hub, &snapshot, s.rig.now), 0);
}

static void
connect_name(struct slice rest, bool http)
{
	struct name *n = new_name(next_word(&rest));
	struct slice token = next_word(&rest);

	n->http = http;
	n->token = slice_eq(token, SL("-")) ? 0
	    : slice_eq(token, SL("?"))      ? 9999
					    : number_of(token);
	n->address = rest.len > 0 ? cstr(rest) : "192.0.2.1";
	if (!http)
		knock((uint32_t)(n - s.names), ENTRANCE_CLUSTER_LINK);
}

static int
error_named(struct slice name)
{
	for (int err = -1; err > -64; err--) {
		if (slice_eq(name, slice_from(err_name(err))))
			return err;
	}
	fail_msg("%s:%d: no such error", s.file, s.line);
	return 0;
}

static void
lose(struct slice rest)
{
	struct event ev = rig_event(EVENT_GONE, number_of(next_word(&rest)));

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
	else if (slice_eq(verb, SL("name")))
		new_name(rest);
	else if (slice_eq(verb, SL("link")))
		connect_name(rest, false);
	else if (slice_eq(verb, SL("caller")))
		connect_name(rest, true);
	else if (slice_eq(verb, SL("gone")))
		lose(rest);
	else if (slice_eq(verb, SL("store")))
		set_store(rest);
	else
		fail_msg("%s:%d: %.*s?", s.file, s.line, SLICE_FMT(verb));
}

static void
do_line(char *line)
{
	struct slice rest = slice_from(cstr(slice_from(line + 1)));
	uint64_t at;

	if (line[0] == '#' || line[0] == '\0')
		return;
	if (line[0] == '<') {
		expect((const char *)slice_trim(rest).ptr);
		return;
	}
	expect_nothing_more();
	rest = fill_in((const char *)slice_trim(rest).ptr);
	if (line[0] == '@') {
		assert_int_equal(slice_u64(rest, UINT32_MAX, &at), 0);
		rig_advance(&s.rig, (msec)at);
	} else if (line[0] == '!') {
		direct(rest);
	} else {
		assert_int_equal(line[0], '>');
		from_client(rest);
	}
}

static void
replay(const char *file)
{
	static char line[1 << 16];
	FILE *f = fopen(file, "r");

	assert_non_null(f);
	s = (struct script){ .file = file };
	arena_init(&s.arena, 64 << 20);
	rig_init(&s.rig, NULL);
	assert_non_null(s.rig.hub);
	s.rig.perform = perform;
	s.rig.store = store;
	while (fgets(line, sizeof(line), f) != NULL) {
		s.line++;
		line[strcspn(line, "\n")] = '\0';
		do_line(line);
	}
	expect_nothing_more();
	assert_int_equal(s.rig.err, 0);
	fclose(f);
	rig_fini(&s.rig);
	arena_fini(&s.arena);
}

static bool
ends_with(const char *name, struct slice end)
{
	return slice_ends(slice_from(name), end);
}

static void
test_transcripts(void **state)
{
	DIR *d = opendir(SCRIPTS);
	struct dirent *e;
	size_t n = 0;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char file[512];
		if (!ends_with(e->d_name, SL(".txt")))
			continue;
		snprintf(file, sizeof(file), SCRIPTS "%s", e->d_name);
		replay(file);
		n++;
	}
	closedir(d);
	assert_true(n >= 10);
}

/* Messages that the hub has no part in. */
static void
test_own_messages(void **state)
{
	const struct cluster_context c = {
		.tunnel_origin = SL("https://m.example"), .now = 1760616000000
	};
	struct buf out;

	(void)state;
	s.file = "own";
	arena_init(&s.arena, 1 << 20);
	buf_init(&out, 4096);
	assert_int_equal(cluster_encode_ping(SL("p-1"), &c, &out), 0);
	assert_slice(buf_peek(&out),
	    SL("{\"type\":\"ping\",\"request_id\":\"p-1\",\"payload\":{},"
	       "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}"));
	must_fit("ping", buf_peek(&out));
	buf_clear(&out);
	assert_int_equal(cluster_encode_reconnect(100, 5000, &c, &out), 0);
	assert_slice(buf_peek(&out),
	    SL("{\"type\":\"reconnect\",\"payload\":{\"after_ms\":100,"
	       "\"spread_ms\":5000},"
	       "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}"));
	must_fit("reconnect", buf_peek(&out));
	struct event ev = { .kind = EVENT_STOP_ORDER,
		.stop = { .epoch = 7,
		    .stopped = true,
		    .scope = SL("agent:a-1"),
		    .reason = SL("run\"away"),
		    .at = 1760616000000,
		    .has_mac = true,
		    .mac = { 0xab } } };
	buf_clear(&out);
	assert_int_equal(cluster_encode(&ev, &c, &out), 0);
	assert_slice(buf_peek(&out),
	    SL("{\"type\":\"stop\",\"payload\":{\"epoch\":7,\"scope\":"
	       "\"agent:a-1\",\"keep_tunnels\":false,\"reason\":"
	       "\"run\\\"away\",\"at\":\"2025-10-16T12:00:00.000Z\",\"mac\":"
	       "\"ab00000000000000000000000000000000000000000000000000000000"
	       "000000\"},\"timestamp\":\"2025-10-16T12:00:00.000Z\"}"));
	must_fit("stop", buf_peek(&out));
	ev.stop.stopped = ev.stop.has_mac = false;
	buf_clear(&out);
	assert_int_equal(cluster_encode(&ev, &c, &out), 0);
	assert_slice(buf_peek(&out),
	    SL("{\"type\":\"resume_work\",\"payload\":{\"epoch\":7,"
	       "\"scope\":\"agent:a-1\",\"at\":"
	       "\"2025-10-16T12:00:00.000Z\",\"mac\":\"\"},"
	       "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}"));
	must_fit("resume_work", buf_peek(&out));
	must_fit("stop_receipt",
	    SL("{\"type\":\"stop_receipt\",\"payload\":{\"epoch\":7,"
	       "\"stopped\":true,\"local\":false,\"commands\":[{"
	       "\"command_id\":\"cmd_a\",\"pids\":[1,2],\"count\":2,"
	       "\"took_ms\":3}],\"left\":[],\"tunnels_closed\":0},"
	       "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}"));
	must_fit("local_stop",
	    SL("{\"type\":\"local_stop\",\"payload\":{\"stopped\":true,"
	       "\"at\":\"2025-10-16T12:00:00.000Z\",\"reason\":\"\"},"
	       "\"timestamp\":\"2025-10-16T12:00:00.000Z\"}"));
	buf_fini(&out);
	arena_fini(&s.arena);
}

/* A schema of a message that no transcript shows describes nothing. */
static void
test_every_schema_was_seen(void **state)
{
	DIR *d = opendir(SCHEMAS);
	struct dirent *e;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		size_t i = 0, len = strlen(e->d_name);
		if (!ends_with(e->d_name, SL(".json")))
			continue;
		while (i < seen_count &&
		    (strlen(seen[i]) != len - 5 ||
			memcmp(seen[i], e->d_name, len - 5) != 0))
			i++;
		if (i == seen_count)
			fail_msg("no transcript shows %s", e->d_name);
	}
	closedir(d);
	for (size_t i = 0; i < seen_count; i++)
		free(seen[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transcripts),
		cmocka_unit_test(test_own_messages),
		cmocka_unit_test(test_every_schema_was_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
