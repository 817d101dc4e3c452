/*
 * Golden transcripts of the signed dialect: tests/transcripts/signed.
 *
 *   # why                        a remark
 *   @1500                        time moves on to that millisecond
 *   !user NAME ROLE              someone; their dashboards have their name
 *   !secret ID TEXT              of an agent, or with a * of a prefix
 *   !rotate ID TEXT MS           another one; the old is good so long
 *   !remove ID                   there is none any more
 *   !signed A TEXT               a WebSocket; A signs with that secret
 *   !console D NAME              a dashboard (flat), already introduced
 *   !monitor M NAME              a status board
 *   !gone A CAUSE                goodbye, or the name of an error
 *   > A TEXT                     a message from there; of signed ones %now is
 *                                the time, %now-5 is sooner, and what has no
 *                                signature gets one
 *   < A TEXT                     what must come out, in this order; what we
 *                                sign is shown without its signature, which
 *                                was checked
 *
 * See support/golden.h.  What a lane of musterd does is done here.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "wire/canon.h"
#include "wire/enc.h"
#include "wire/token.h"

#include "dialect/console_say.h"
#include "dialect/monitor.h"
#include "dialect/signed.h"

#include "support/framing.h"
#include "support/golden.h"
#include "support/guard.h"
#include "support/rig.h"
#include "support/unit.h"

#define SCHEMAS "docs/protocol/schema/signed/"

enum { NAMES = 64 };

enum part { PART_USER, PART_SIGNED, PART_CONSOLE, PART_MONITOR };

struct name {
	char text[64];
	enum part part;
	bool joined, known, over;
	uint16_t audience;
	struct console_peer console;
	struct signed_peer peer;
	struct slice secret; /* that it signs with */
	struct slice keys[SIGNED_KEYS];
	size_t count;
	wall_msec old_until;
	size_t key;
};

static struct script {
	struct rig rig;
	struct arena arena;
	struct nonces nonces;
	struct canon_work work;
	struct name names[NAMES];
	uint32_t count;
	unsigned said; /* messages of ours */
} s;

/* Names -------------------------------------------------------------------- */

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

static void
closed(const struct name *n, uint16_t code, struct slice reason)
{
	char text[256];

	snprintf(text, sizeof(text), "close %u %.*s", code, SLICE_FMT(reason));
	golden_came(n->text, slice_from(text));
}

static void
must_fit(const char *way, struct slice text)
{
	const struct js_limits limits = { 1 << 20, 64 };
	char file[256], name[64];
	struct slice type;
	struct js_doc doc;

	assert_int_equal(js_parse(&doc, text, &limits, &s.arena), 0);
	assert_null(doc.repeated.ptr);
	assert_int_equal(js_string(js_get(js_root(&doc), "type"), &type), 0);
	assert_int_equal(slice_cstr(type, name, sizeof(name)), 0);
	snprintf(file, sizeof(file), SCHEMAS "%s%s.json", way, name);
	golden_fits(file, text);
}

/* Output ------------------------------------------------------------------- */

static void
finish(uint32_t peer, const struct signed_refusal *no)
{
	struct name *n = &s.names[peer];

	if (n->over)
		return;
	n->over = true;
	closed(n, no->code, no->reason);
}

/* Without its signature, once that is checked as others would. */
static void
show_signed(const struct name *n, struct slice text)
{
	const struct js_limits limits = { 1 << 20, 64 };
	struct slice said = framing_carry(WSCONN_SERVER, text);
	struct buf scratch;
	struct js_doc doc;

	must_fit("out/", said);
	assert_true(said.len <= SIGNED_SEND_MAX);
	assert_int_equal(js_parse(&doc, said, &limits, &s.arena), 0);
	assert_int_equal(
	    canon_verify(js_root(&doc), &n->secret, 1, &s.work, NULL), 0);
	buf_init(&scratch, 1 << 20);
	canon_put_signed(&scratch, js_root(&doc), CANON_ECMA);
	golden_came(n->text, buf_peek(&scratch));
	buf_fini(&scratch);
	guard_free(said);
}

static void
give(uint32_t peer, const struct event *ev)
{
	struct name *n = &s.names[peer];
	char nonce[32];
	struct buf out;

	snprintf(nonce, sizeof(nonce), "muster-%u", ++s.said);
	const struct signed_pen pen = { n->keys[n->key], slice_from(nonce) };
	const struct signed_context now = { s.rig.now, s.rig.wall, &s.arena };
	buf_init(&out, 1 << 20);
	assert_int_equal(
	    signed_encode(&n->peer, ev->execute.command, &pen, &now, &out), 0);
	show_signed(n, buf_peek(&out));
	buf_fini(&out);
}

static void
take_secret(struct name *n, const struct secret_record *r)
{
	struct slice used = n->keys[n->key];

	n->count = n->key = 0;
	n->keys[n->count++] = keep(r->sealed);
	if (r->old_sealed.len > 0)
		n->keys[n->count++] = keep(r->old_sealed);
	n->old_until = r->old_until;
	n->known = true;
	for (size_t i = 0; i < n->count; i++)
		n->key = slice_eq(n->keys[i], used) ? i : n->key;
}

static void
tell(const struct name *n, const struct event *ev)
{
	const struct console_context c = { .spelling = CONSOLE_FLAT,
		.now = s.rig.wall };
	struct buf out;
	int got = 1;

	buf_init(&out, 1 << 20);
	for (size_t i = 0; got > 0; i++) {
		buf_clear(&out);
		got = n->part == PART_MONITOR ? monitor_encode(ev, i, &out)
					      : console_encode(ev, &c, i, &out);
		if (got > 0)
			golden_came(n->text, buf_peek(&out));
	}
	assert_int_equal(got, 0);
	buf_fini(&out);
}

static void
send_to(uint32_t peer, const struct event *ev)
{
	struct name *n = &s.names[peer];

	if (n->part == PART_USER) {
		return;
	} else if (n->part != PART_SIGNED) {
		if (ev->kind == EVENT_WELCOME)
			n->audience = ev->welcome.audience;
		if (ev->kind == EVENT_REPLY && ev->reply->op == OP_WATCH)
			n->audience = ev->reply->audience;
		n->joined = n->joined || n->part == PART_MONITOR ||
		    (ev->kind == EVENT_REPLY && ev->reply->op == OP_WATCH);
		tell(n, ev);
	} else if (ev->kind == EVENT_WELCOME) {
		take_secret(n, ev->welcome.secret);
	} else if (ev->kind == EVENT_EXECUTE) {
		give(peer, ev);
	} else if (ev->kind == EVENT_ERROR) {
		golden_came(n->text, ev->complaint.code);
	}
}

static void
publish(const struct effect *e)
{
	for (uint32_t i = 1; i <= s.count; i++) {
		const struct name *n = &s.names[i];
		if (n->joined && audience_has(&e->seen_by, n->audience))
			tell(n, e->event);
	}
}

static void
show_stream(const char *which, struct slice bytes)
{
	struct js_writer w;
	struct buf out;

	buf_init(&out, 1 << 20);
	js_write(&w, &out);
	js_put_string(&w, bytes);
	assert_int_equal(js_finish(&w), 0);
	golden_came(which, buf_peek(&out));
	buf_fini(&out);
}

/* Stored and shown to dashboards: here its text alone. */
static void
show_output(const struct effect *e)
{
	show_stream("out", e->output.out);
	show_stream("err", e->output.err);
}

static void
perform(void *arg, const struct effect *e)
{
	struct name *n = &s.names[e->peer.slot];

	(void)arg;
	if (e->kind == EFFECT_SEND) {
		send_to(e->peer.slot, e->event);
	} else if (e->kind == EFFECT_PUBLISH) {
		publish(e);
	} else if (e->kind == EFFECT_OUTPUT) {
		show_output(e);
	} else if (e->kind == EFFECT_CLOSE) {
		closed(n, e->close.code, e->close.reason);
		n->over = true;
		n->joined = false;
	}
}

/* Input -------------------------------------------------------------------- */

static void
post(uint32_t peer, const struct event *ev)
{
	struct event heard = *ev;

	heard.peer = rig_peer(peer);
	heard.at = s.rig.wall;
	rig_input(&s.rig, &heard);
}

/* %now, %now+5, %now-300000 */
static void
put_filled(struct buf *out, struct slice text)
{
	while (text.len > 0) {
		size_t at = slice_find(text, '%');
		buf_put(out, slice_first(text, at));
		text = slice_from_at(text, at);
		if (!slice_starts(text, SL("%now"))) {
			buf_put(out, slice_first(text, 1));
			text = slice_from_at(text, 1);
			continue;
		}
		text = slice_from_at(text, 4);
		wall_msec ts = s.rig.wall;
		if (text.len > 0 &&
		    (text.ptr[0] == '+' || text.ptr[0] == '-')) {
			size_t n = 1;
			uint64_t by;
			while (text.ptr[n] >= '0' && text.ptr[n] <= '9')
				n++;
			assert_int_equal(
			    slice_u64(slice_from_at(slice_first(text, n), 1),
				UINT32_MAX, &by),
			    0);
			ts +=
			    text.ptr[0] == '+' ? (wall_msec)by : -(wall_msec)by;
			text = slice_from_at(text, n);
		}
		buf_put_u64(out, (uint64_t)ts);
	}
}

static void
put_signature(struct buf *out, struct slice secret)
{
	uint8_t mac[SHA256_LEN];

	assert_int_equal(token_hmac(secret, buf_peek(out), mac), 0);
	out->tail--;
	buf_put(out, SL(",\"signature\":\""));
	enc_put_hex(out, (struct slice){ mac, sizeof(mac) });
	buf_put(out, SL("\"}"));
	assert_int_equal(out->err, 0);
}

static bool
has_signature(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (slice_starts(slice_from_at(text, i), SL("\"signature\"")))
			return true;
	}
	return false;
}

static void
cut_everywhere(struct slice text)
{
	struct signed_envelope e;
	struct signed_refusal no;
	struct arena a;

	arena_init(&a, 64 << 20);
	for (size_t len = 0; len < text.len; len++) {
		struct slice part = guard_copy(slice_first(text, len));
		arena_reset(&a);
		assert_int_equal(signed_read(part, &a, &e, &no), 0);
		assert_int_equal(no.code, 1003);
		guard_free(part);
	}
	arena_fini(&a);
}

static void
on_message(uint32_t peer, const struct signed_message *m, struct slice text)
{
	static const char *const words[] = { "nothing", "event", "dropped",
		"ignored", "bad", "stray" };
	struct name *n = &s.names[peer];
	struct slice what = m->word == SIGNED_BAD ? m->field : m->verb;

	if (m->word == SIGNED_EVENT)
		must_fit("in/", text);
	if (m->registers)
		post(peer, &m->registration);
	if (m->word == SIGNED_EVENT) {
		post(peer, &m->event);
		return;
	}
	char line[128];
	snprintf(line, sizeof(line), "(%s%s%.*s)", words[m->word],
	    what.len > 0 ? " " : "", SLICE_FMT(what));
	golden_came(n->text, slice_from(line));
}

static void
believe(uint32_t peer, const struct signed_envelope *e, struct slice text)
{
	struct name *n = &s.names[peer];
	struct signed_refusal no;
	struct signed_message m;
	struct nonce x;

	uint64_t owner;

	assert_int_equal(
	    nonce_owner(&s.work.hasher, n->peer.agent_id, &owner), 0);
	assert_int_equal(nonce_of(&s.work.hasher, owner, e->nonce, &x), 0);
	const struct signed_context now = { s.rig.now, s.rig.wall, &s.arena };
	no = signed_nonce_refusal(nonces_take(&s.nonces, &x, s.rig.now));
	if (no.code == 0)
		assert_int_equal(signed_decode(&n->peer, e, &now, &m, &no), 0);
	if (no.code != 0)
		finish(peer, &no);
	else
		on_message(peer, &m, text);
}

static void
hear(uint32_t peer, struct slice text)
{
	struct name *n = &s.names[peer];
	struct signed_envelope e;
	struct signed_refusal no;

	assert_int_equal(signed_read(text, &s.arena, &e, &no), 0);
	if (no.code == 0 && !n->known && n->peer.agent_id.ptr == NULL) {
		struct event ev =
		    rig_hello(peer, 0, "192.0.2.1", ENTRANCE_SIGNED);
		ev.hello.credential.kind = CREDENTIAL_SIGNED;
		ev.hello.credential.agent_id = e.agent_id;
		n->peer.agent_id = e.agent_id;
		rig_input(&s.rig, &ev);
	}
	size_t good =
	    n->count == 2 && s.rig.wall >= n->old_until ? 1 : n->count;
	const struct signed_judge judge = { n->peer.agent_id, n->keys, good,
		s.rig.wall, &s.work };
	if (no.code == 0)
		assert_int_equal(signed_check(&e, &judge, &no, &n->key), 0);
	if (no.code != 0)
		finish(peer, &no);
	else
		believe(peer, &e, text);
}

static void
say_signed(uint32_t peer, struct slice rest)
{
	struct name *n = &s.names[peer];
	struct buf text;

	buf_init(&text, 1 << 20);
	put_filled(&text, rest);
	if (rest.len > 0 && rest.ptr[rest.len - 1] == '}' &&
	    !has_signature(rest))
		put_signature(&text, n->secret);
	struct slice heard = framing_carry(WSCONN_CLIENT, buf_peek(&text));
	if (rest.ptr[rest.len - 1] == '}')
		cut_everywhere(heard);
	hear(peer, keep(heard));
	guard_free(heard);
	buf_fini(&text);
}

static void
say(uint32_t peer, struct slice text)
{
	struct name *n = &s.names[peer];
	struct console_message m;

	if (n->part == PART_SIGNED) {
		say_signed(peer, text);
		return;
	}
	assert_int_equal(
	    console_decode(text, &n->console, s.rig.wall, &s.arena, &m), 0);
	if (m.word == CONSOLE_EVENT)
		post(peer, &m.event);
}

/* Directives --------------------------------------------------------------- */

static void
load_user(struct slice rest)
{
	struct slice name = next_word(&rest);
	uint32_t at = new_name(name, PART_USER);
	const struct user_record user = { .id = name,
		.name = name,
		.role =
		    slice_eq(rest, SL("admin")) ? ROLE_ADMIN : ROLE_OPERATOR,
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

/* Asked by the first user. */
static void
ask_secret(enum request_op op, struct slice rest)
{
	struct event ev = rig_event(EVENT_REQUEST, 1);
	struct event hello =
	    rig_hello(1, 1, "192.0.2.1", ENTRANCE_CLUSTER_HTTP);
	struct secret_record r = { .agent_id = next_word(&rest) };
	uint64_t overlap = 0;

	ev.request.id = r.agent_id;
	r.prefix = slice_ends(r.agent_id, SL("*"));
	r.agent_id.len -= r.prefix;
	r.sealed = next_word(&rest);
	slice_u64(rest, UINT32_MAX, &overlap);
	ev.request.op = op;
	ev.request.credential = hello.hello.credential;
	ev.request.secret = &r;
	ev.request.overlap = (msec)overlap;
	rig_input(&s.rig, &ev);
}

static void
knock(struct slice rest, enum part part, enum entrance entrance)
{
	uint32_t at = new_name(next_word(&rest), part);
	struct event ev = rig_hello(at, number_of(rest), "192.0.2.1", entrance);

	rig_input(&s.rig, &ev);
	if (part == PART_CONSOLE)
		say(at,
		    SL("{\"type\":\"dashboard:connect\",\"dashboardId\":"
		       "\"d\"}"));
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

	if (!slice_eq(rest, SL("goodbye")))
		ev.gone.why = error_named(rest);
	rig_input(&s.rig, &ev);
}

static void
direct(struct slice rest)
{
	struct slice verb = next_word(&rest);

	if (slice_eq(verb, SL("user"))) {
		load_user(rest);
	} else if (slice_eq(verb, SL("secret"))) {
		ask_secret(OP_SIGNED_ADD, rest);
	} else if (slice_eq(verb, SL("rotate"))) {
		ask_secret(OP_SIGNED_ROTATE, rest);
	} else if (slice_eq(verb, SL("remove"))) {
		ask_secret(OP_SIGNED_REMOVE, rest);
	} else if (slice_eq(verb, SL("signed"))) {
		uint32_t at = new_name(next_word(&rest), PART_SIGNED);
		s.names[at].secret = rest;
	} else if (slice_eq(verb, SL("console"))) {
		knock(rest, PART_CONSOLE, ENTRANCE_CONSOLE);
	} else if (slice_eq(verb, SL("monitor"))) {
		knock(rest, PART_MONITOR, ENTRANCE_MONITOR);
	} else if (slice_eq(verb, SL("gone"))) {
		lose(rest);
	} else {
		fail_msg(
		    "%s:%d: %.*s?", golden_file, golden_line, SLICE_FMT(verb));
	}
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
	assert_int_equal(canon_work_init(&s.work, 1 << 20), 0);
	nonces_init(&s.nonces, SIGNED_HOLD, SIGNED_NONCES, 1 << 20, 0);
	assert_non_null(s.rig.hub);
	s.rig.perform = perform;
	while (fgets(line, sizeof(line), f) != NULL) {
		golden_line++;
		line[strcspn(line, "\n")] = '\0';
		do_line(line);
	}
	golden_done();
	assert_int_equal(s.rig.err, 0);
	fclose(f);
	nonces_fini(&s.nonces);
	canon_work_fini(&s.work);
	rig_fini(&s.rig);
	arena_fini(&s.arena);
}

static void
test_transcripts(void **state)
{
	DIR *d = opendir("tests/transcripts/signed/");
	struct dirent *e;
	char file[512];
	size_t n = 0;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (!slice_ends(slice_from(e->d_name), SL(".txt")))
			continue;
		snprintf(file, sizeof(file), "tests/transcripts/signed/%s",
		    e->d_name);
		replay(file);
		n++;
	}
	closedir(d);
	assert_true(n >= 5);
	golden_all_used(SCHEMAS "in/");
	golden_all_used(SCHEMAS "out/");
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(
	    test_transcripts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
