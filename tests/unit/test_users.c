/*
 * Users and logins in the hub.  Each request is answered by a line, status
 * and code; effects on connections by another.
 */
#include <stdio.h>

#include "base/err.h"

#include "support/oom.h"
#include "support/rig.h"
#include "support/unit.h"

enum { ROOT = 1, VIEWER, OP = 900 };

static struct world {
	struct rig rig;
	char log[4096];
	size_t len;
	int store_err;
	char user_id[32]; /* of the last user answered */
	char audit[32];   /* the last line's action */
	char actor[32];
	uint32_t left; /* requests, by the last answer */
	size_t logins_put, logins_dropped;
} w;

static void __attribute__((format(printf, 1, 2))) note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	w.len += (size_t)vsnprintf(
	    w.log + w.len, sizeof(w.log) - w.len, format, args);
	va_end(args);
	assert_true(w.len < sizeof(w.log));
}

#define expect(text) expect_(text, __LINE__)
static void
expect_(const char *text, int line)
{
	if (strcmp(w.log, text) != 0)
		fail_msg("line %d: wanted\n%s\ngot\n%s", line, text, w.log);
	w.len = 0;
	w.log[0] = '\0';
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	if (e->kind == EFFECT_CLOSE)
		note("close %u %u %.*s\n", e->peer.slot, e->close.code,
		    SLICE_FMT(e->close.reason));
	if (e->kind != EFFECT_SEND)
		return;
	if (e->event->kind == EVENT_WELCOME)
		note("welcome %u\n", e->peer.slot);
	if (e->event->kind == EVENT_DENIED)
		note("denied %u %u %.*s\n", e->peer.slot,
		    e->event->denied.status, SLICE_FMT(e->event->denied.code));
	if (e->event->kind != EVENT_REPLY)
		return;
	const struct reply *r = e->event->reply;
	note("%u", r->status);
	if (r->err != 0)
		note(" %.*s", SLICE_FMT(r->code));
	for (size_t i = 0; i < r->user_count; i++)
		note(" %.*s/%d", SLICE_FMT(r->users[i].name), r->users[i].role);
	note("\n");
	w.left = r->rate.left;
	if (r->user_count > 0)
		slice_cstr(r->users[0].id, w.user_id, sizeof(w.user_id));
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	w.logins_put += op->verb == OP_PUT_LOGIN;
	w.logins_dropped += op->verb == OP_DROP_LOGIN;
	if (op->audit.action.ptr != NULL) {
		slice_cstr(op->audit.action, w.audit, sizeof(w.audit));
		slice_cstr(op->audit.actor, w.actor, sizeof(w.actor));
	}
	return w.store_err;
}

static int
load(void)
{
	const struct user_record users[] = {
		{ .id = SL("usr_root"),
		    .name = SL("root"),
		    .role = ROLE_ADMIN,
		    .workspace_id = 1 },
		{ .id = SL("usr_view"),
		    .name = SL("vera"),
		    .role = ROLE_VIEWER,
		    .password = SL("hash of vera"),
		    .workspace_id = 1 },
	};
	struct token_record tokens[] = {
		{ .id = SL("tok_r"),
		    .scopes = SCOPES_ALL,
		    .workspace_id = 1,
		    .user_id = SL("usr_root") },
		{ .id = SL("tok_v"),
		    .scopes = SCOPES_ALL,
		    .workspace_id = 1,
		    .user_id = SL("usr_view") },
	};
	const struct hub_snapshot all = { .users = users,
		.user_count = 2,
		.tokens = tokens,
		.token_count = 2 };

	for (uint32_t i = 0; i < 2; i++)
		rig_hash(tokens[i].hash, i + 1);
	return hub_load(w.rig.hub, &all, 0);
}

static int
begin(void **state)
{
	struct hub_config config = { .seed = { 7, 8, 9, 10 },
		.incarnation = SL("db-1"),
		.request_rate = 60,
		.may_set_up = true,
		.setup_until = INT64_MAX };

	(void)state;
	memset(&w, 0, sizeof(w));
	rig_hash(config.setup_hash, 77);
	rig_init(&w.rig, &config);
	if (w.rig.hub == NULL)
		return -1;
	w.rig.perform = perform;
	w.rig.store = store;
	return load();
}

static int
end(void **state)
{
	(void)state;
	rig_fini(&w.rig);
	return 0;
}

static struct event
request(enum request_op op, uint32_t token, const char *id)
{
	struct event ev = rig_event(EVENT_REQUEST, OP);
	struct event hello =
	    rig_hello(OP, token, "192.0.2.9", ENTRANCE_CLUSTER_HTTP);

	ev.request.op = op;
	ev.request.id = slice_from(id);
	ev.request.credential = hello.hello.credential;
	return ev;
}

static struct credential
jwt(const char *subject, const char *issuer)
{
	return (struct credential){ .kind = CREDENTIAL_JWT,
		.address = SL("192.0.2.9"),
		.claims = { .subject = slice_from(subject),
		    .issuer = slice_from(issuer),
		    .role = ROLE_VIEWER,
		    .issued_at = INT64_MAX,
		    .expires_at = INT64_MAX / 2 } };
}

static void
ask(struct event ev)
{
	rig_input(&w.rig, &ev);
}

static void
whoami(struct credential c)
{
	struct event ev = request(OP_WHOAMI, ROOT, "");

	ev.request.credential = c;
	ask(ev);
}

static void
knock(uint32_t peer, struct credential c)
{
	struct event ev = rig_event(EVENT_HELLO, peer);

	ev.hello.credential = c;
	ev.hello.entrance = ENTRANCE_MONITOR;
	ask(ev);
}

static void
add(const char *name, enum role role)
{
	struct user_record r = { .name = slice_from(name), .role = role };
	struct event ev = request(OP_USER_ADD, ROOT, "");

	ev.request.user = &r;
	ask(ev);
}

static void
change(const char *id, unsigned changes, struct user_record r)
{
	struct event ev = request(OP_USER_CHANGE, ROOT, id);

	ev.request.user = &r;
	ev.request.changes = changes;
	ask(ev);
}

static void
test_administration(void **state)
{
	(void)state;
	add("ada", ROLE_OPERATOR);
	expect("201 ada/2\n");
	assert_string_equal(w.audit, "user.create");
	assert_string_equal(w.actor, "usr_root");
	add("ada", ROLE_VIEWER);
	add("a b", ROLE_VIEWER);
	add("usr_x", ROLE_VIEWER);
	add("", ROLE_VIEWER);
	expect("409 USER_EXISTS\n400 INVALID_REQUEST\n400 INVALID_REQUEST\n"
	       "400 INVALID_REQUEST\n");
	change(
	    "ada", USER_SELECTOR, (struct user_record){ .selector = SL("=") });
	change("ada", USER_ROLE, (struct user_record){ .role = ROLE_ADMIN });
	expect("400 INVALID_REQUEST\n200 ada/3\n");
	ask(request(OP_USER_LIST, ROOT, ""));
	ask(request(OP_USER_SHOW, ROOT, "vera"));
	ask(request(OP_USER_SHOW, ROOT, "nobody"));
	expect("200 ada/3 root/3 vera/1\n200 vera/1\n404 USER_NOT_FOUND\n");
	ask(request(OP_USER_REMOVE, ROOT, "ada"));
	ask(request(OP_USER_LIST, ROOT, ""));
	expect("200 ada/3\n200 root/3 vera/1\n");
	/* Its name is free again. */
	add("ada", ROLE_VIEWER);
	expect("201 ada/1\n");
}

static void
test_rights(void **state)
{
	(void)state;
	ask(request(OP_USER_LIST, VIEWER, ""));
	ask(request(OP_USER_REMOVE, VIEWER, "root"));
	ask(request(OP_USER_TOKEN, VIEWER, "root"));
	expect("403 NOT_PERMITTED\n403 NOT_PERMITTED\n403 NOT_PERMITTED\n");
}

static void
by_ada(enum request_op op, const char *id, struct user_record r)
{
	struct event ev = request(op, ROOT, id);
	struct token_record fresh = { .shown = SL("mut_") };

	ev.request.credential = jwt("", NULL);
	ev.request.credential.claims.subject = slice_from(w.user_id);
	ev.request.user = &r;
	ev.request.changes =
	    r.selector.ptr != NULL ? USER_SELECTOR : USER_PASSWORD;
	ev.request.token = &fresh;
	ask(ev);
}

/* An administrator with a selector is one of those agents alone. */
static void
test_limited_admin(void **state)
{
	struct user_record r = { .name = SL("ada"),
		.role = ROLE_ADMIN,
		.selector = SL("env=prod") };
	struct event ev = request(OP_USER_ADD, ROOT, "");
	const struct user_record none = { .selector = { 0 } };

	(void)state;
	ev.request.user = &r;
	ev.request.changes = USER_SELECTOR;
	ask(ev);
	by_ada(OP_USER_TOKEN, "root", none);
	by_ada(OP_USER_REMOVE, "vera", none);
	by_ada(OP_USER_CHANGE, "root", none);
	by_ada(
	    OP_USER_CHANGE, "ada", (struct user_record){ .selector = SL("") });
	by_ada(OP_USER_ADD, "", (struct user_record){ .name = SL("eve") });
	by_ada(OP_TOKEN_ROTATE, "tok_r", none);
	expect("201 ada/3\n403 NOT_PERMITTED\n403 NOT_PERMITTED\n"
	       "403 NOT_PERMITTED\n403 NOT_PERMITTED\n403 NOT_PERMITTED\n"
	       "403 NOT_PERMITTED\n");
	by_ada(OP_USER_TOKEN, "ada", none);
	expect("200 ada/3\n");
	r.name = SL("eve");
	by_ada(OP_USER_ADD, "", r);
	expect("201 eve/3\n");
}

/* A token is rotated into the hands of whoever might have made it. */
static void
test_rotation_widens_nothing(void **state)
{
	struct token_record fresh = { .shown = SL("mut_") };
	struct event ev = request(OP_TOKEN_ROTATE, ROOT, "tok_v");

	(void)state;
	rig_hash(fresh.hash, 50);
	ev.request.token = &fresh;
	ev.request.credential = jwt("usr_root", NULL);
	ev.request.credential.claims.scopes = SCOPE_TOKEN_WRITE;
	ev.request.credential.claims.has_scopes = true;
	ask(ev);
	ev.request.credential.claims.has_scopes = false;
	ask(ev);
	expect("403 NOT_PERMITTED\n200\n");
}

static void
test_last_admin(void **state)
{
	(void)state;
	ask(request(OP_USER_REMOVE, ROOT, "root"));
	change("root", USER_ROLE, (struct user_record){ .role = ROLE_VIEWER });
	change("root", USER_SELECTOR,
	    (struct user_record){ .selector = SL("a=b") });
	expect("409 LAST_ADMIN\n409 LAST_ADMIN\n409 LAST_ADMIN\n");
	add("ada", ROLE_ADMIN);
	change("root", USER_ROLE, (struct user_record){ .role = ROLE_VIEWER });
	assert_string_equal(w.actor, "usr_root");
	ask(request(OP_USER_LIST, ROOT, ""));
	expect("201 ada/3\n200 root/1\n403 NOT_PERMITTED\n");
}

static void
test_undone(void **state)
{
	(void)state;
	w.store_err = ERR_IO;
	add("ada", ROLE_VIEWER);
	change("vera", USER_ROLE, (struct user_record){ .role = ROLE_ADMIN });
	w.store_err = 0;
	ask(request(OP_USER_LIST, ROOT, ""));
	expect("503 STORE_FAILED\n503 STORE_FAILED\n200 root/3 vera/1\n");
}

/* A change reaches whoever is connected. */
static void
test_revocation(void **state)
{
	(void)state;
	knock(1, jwt("usr_view", NULL));
	knock(2, jwt("usr_view", NULL));
	knock(3, jwt("usr_root", NULL));
	expect("welcome 1\nwelcome 2\nwelcome 3\n");
	change(
	    "vera", USER_ROLE, (struct user_record){ .role = ROLE_OPERATOR });
	expect("close 1 1008 revoked\nclose 2 1008 revoked\n200 vera/2\n");
	knock(4, jwt("usr_view", NULL));
	ask(request(OP_USER_REMOVE, ROOT, "vera"));
	expect("welcome 4\nclose 4 1008 revoked\n200 vera/2\n");
	knock(5, jwt("usr_view", NULL));
	whoami(jwt("usr_view", NULL));
	ask(request(OP_WHOAMI, VIEWER, ""));
	expect("denied 5 403 USER_REMOVED\n403 USER_REMOVED\n"
	       "403 USER_REMOVED\n");
}

/* Another credential takes over, if it is the same user's. */
static void
test_renewal(void **state)
{
	struct event ev = request(OP_RENEW, ROOT, "");
	struct credential c = jwt("usr_view", NULL);

	(void)state;
	c.claims.expires_at = w.rig.wall + 600000;
	knock(7, c);
	ev.peer = rig_peer(7);
	ev.request.credential = jwt("usr_root", NULL);
	ask(ev);
	ev.request.credential = jwt("usr_view", NULL);
	ev.request.credential.claims.err = ERR_EXPIRED;
	ask(ev);
	expect("welcome 7\n403 OTHER_SUBJECT\n401 TOKEN_EXPIRED\n");
	ev.request.credential = c;
	ev.request.credential.claims.expires_at = w.rig.wall + 1200000;
	ask(ev);
	rig_advance(&w.rig, 1199000);
	expect("200\n");
	rig_advance(&w.rig, 1201000);
	expect("close 7 1008 token_expired\n");
}

/* Who is nobody of ours is what the newest token says. */
static void
test_renewal_with_less(void **state)
{
	struct event ev = request(OP_RENEW, ROOT, "");
	struct credential c = jwt("someone", "https://issuer");
	struct event stop = request(OP_STOP_RAISE, ROOT, "");

	(void)state;
	ask(stop);
	c.claims.role = ROLE_ADMIN;
	knock(7, c);
	ev.peer = stop.peer = rig_peer(7);
	c.claims.role = ROLE_OPERATOR;
	ev.request.credential = c;
	ask(ev);
	stop.request.op = OP_STOP_LIFT;
	stop.request.credential.kind = CREDENTIAL_WATCH;
	ask(stop);
	/* That an admin alone may. */
	expect("200\nwelcome 7\n200\n403 NOT_PERMITTED\n");
}

static void
test_jwt(void **state)
{
	struct credential c = jwt("usr_root", NULL);

	(void)state;
	whoami(c);
	c.claims.err = ERR_EXPIRED;
	whoami(c);
	c.claims.err = ERR_AGAIN;
	whoami(c);
	c.claims.err = ERR_DENIED;
	whoami(c);
	expect("200\n401 TOKEN_EXPIRED\n401 TOKEN_NOT_YET_VALID\n"
	       "401 UNAUTHORIZED\n");
	/* Ours name a user by its id alone. */
	whoami(jwt("root", NULL));
	expect("403 USER_REMOVED\n");
	/* A scope narrows what the role gives, and widens nothing. */
	c = jwt("usr_root", NULL);
	c.claims.has_scopes = true;
	c.claims.scopes = SCOPE_AGENT_READ;
	struct event ev = request(OP_USER_LIST, ROOT, "");
	ev.request.credential = c;
	ask(ev);
	ev.request.credential = jwt("usr_view", NULL);
	ev.request.credential.claims.has_scopes = true;
	ev.request.credential.claims.scopes = SCOPES_ALL;
	ask(ev);
	expect("403 NOT_PERMITTED\n403 NOT_PERMITTED\n");
	/* A password takes back what was signed before it. */
	c = jwt("usr_view", NULL);
	c.claims.issued_at = w.rig.wall - 1;
	whoami(c);
	change(
	    "vera", USER_PASSWORD, (struct user_record){ .password = SL("x") });
	whoami(c);
	c.claims.issued_at = w.rig.wall;
	whoami(c);
	expect("200\n200 vera/1\n401 TOKEN_REVOKED\n200\n");
}

static void
test_foreign_issuer(void **state)
{
	struct credential c = jwt("root", "https://issuer");
	struct event ev = request(OP_USER_LIST, ROOT, "");

	(void)state;
	/* One of ours has our role, whatever the token says. */
	ev.request.credential = c;
	ask(ev);
	expect("200 root/3 vera/1\n");
	c = jwt("someone", "https://issuer");
	whoami(c);
	ev.request.credential = c;
	ask(ev);
	ev.request.credential.claims.role = ROLE_ADMIN;
	ask(ev);
	/* By the subject: a name of people's own choosing is nobody's. */
	ev.request.credential.claims.name = SL("vera");
	ask(ev);
	ev.request.credential.claims.subject = SL("vera");
	ask(ev);
	expect("200\n403 NOT_PERMITTED\n200 root/3 vera/1\n"
	       "200 root/3 vera/1\n403 NOT_PERMITTED\n");
}

/* A login is no host's credential: not even an administrator's, whose role
 * has the scopes. */
static void
test_no_agent(void **state)
{
	struct event ev = rig_event(EVENT_HELLO, 1);

	(void)state;
	ev.hello.credential = jwt("usr_root", NULL);
	ev.hello.entrance = ENTRANCE_CLUSTER_LINK;
	ask(ev);
	ev.hello.entrance = ENTRANCE_CLUSTER_HTTP;
	ask(ev);
	ev.hello.credential = jwt("someone", "https://issuer");
	ev.hello.credential.claims.role = ROLE_ADMIN;
	ev.hello.entrance = ENTRANCE_CLUSTER_LINK;
	ask(ev);
	expect("denied 1 403 NOT_PERMITTED\ndenied 1 403 NOT_PERMITTED\n"
	       "denied 1 403 NOT_PERMITTED\n");
}

/* Logins ------------------------------------------------------------------- */

static struct login_record
login_record(uint32_t hash, bool cookie)
{
	struct login_record r = { .id = SL("lgn_1"),
		.user_id = SL("usr_view"),
		.cookie = cookie,
		.created_at = w.rig.wall,
		.expires_at = w.rig.wall + 3600000 };

	rig_hash(r.hash, hash);
	return r;
}

static void
log_in(struct login_record r, bool passed)
{
	struct event ev = request(OP_LOGIN_DONE, 0, "vera");

	ev.request.credential.kind = CREDENTIAL_NONE;
	ev.request.login = &r;
	ev.request.passed = passed;
	ask(ev);
}

static void
refresh(uint32_t old, uint32_t fresh)
{
	struct login_record r = login_record(old, false);
	struct event ev = request(OP_REFRESH, 0, "");

	ev.request.credential.kind = CREDENTIAL_NONE;
	ev.request.login = &r;
	rig_hash(ev.request.new_hash, fresh);
	ask(ev);
}

static struct credential
of_login(void)
{
	struct credential c = jwt("usr_view", NULL);

	c.claims.login_id = SL("lgn_1");
	return c;
}

static void
test_login_rate(void **state)
{
	struct event ev = request(OP_LOGIN, 0, "vera");

	(void)state;
	ev.request.credential.kind = CREDENTIAL_NONE;
	for (int i = 0; i < 6; i++)
		ask(ev);
	expect("200 vera/1\n200 vera/1\n200 vera/1\n200 vera/1\n200 vera/1\n"
	       "429 TOO_MANY_ATTEMPTS\n");
	/* Accounts that do not exist wear out the same. */
	ev.request.id = SL("ghost");
	for (int i = 0; i < 6; i++)
		ask(ev);
	expect("200\n200\n200\n200\n200\n429 TOO_MANY_ATTEMPTS\n");
	rig_advance(&w.rig, 60000);
	ask(ev);
	expect("200\n");
}

/* No user is called so: nothing is counted, hashed or kept for it. */
static void
test_endless_name(void **state)
{
	struct event ev = request(OP_LOGIN, 0, "");
	uint8_t name[256];

	(void)state;
	memset(name, 'a', sizeof(name));
	ev.request.credential.kind = CREDENTIAL_NONE;
	ev.request.id = (struct slice){ name, 255 };
	ask(ev);
	ev.request.id.len = 256;
	ask(ev);
	expect("200\n401 LOGIN_FAILED\n");
}

static void
test_refresh(void **state)
{
	(void)state;
	log_in(login_record(10, false), false);
	log_in(login_record(10, false), true);
	whoami(of_login());
	expect("401 LOGIN_FAILED\n200\n200\n");
	refresh(10, 11);
	refresh(11, 12);
	knock(7, of_login());
	expect("200\n200\nwelcome 7\n");
	/* Used before: the whole family ends, the newest text with it. */
	refresh(10, 13);
	assert_string_equal(w.audit, "login.reuse");
	refresh(12, 14);
	whoami(of_login());
	expect("close 7 1008 revoked\n401 TOKEN_REUSED\n401 TOKEN_REVOKED\n"
	       "401 TOKEN_REVOKED\n");
	assert_int_equal(w.logins_put, 3);
	assert_int_equal(w.logins_dropped, 1);
}

/* A socket's own user's login alone may be traded there. */
static void
test_refresh_of_another(void **state)
{
	struct login_record r = login_record(10, false);
	struct event ev = request(OP_RENEW, 0, "");

	(void)state;
	log_in(r, true);
	knock(7, jwt("usr_root", NULL));
	ev.request.credential.kind = CREDENTIAL_WATCH;
	ev.peer = rig_peer(7);
	ev.request.login = &r;
	ask(ev);
	expect("200\nwelcome 7\n403 OTHER_SUBJECT\n");
	refresh(10, 11);
	expect("200\n");
}

static void
test_refresh_undone(void **state)
{
	(void)state;
	log_in(login_record(10, false), true);
	w.store_err = ERR_IO;
	refresh(10, 11);
	w.store_err = 0;
	refresh(10, 12);
	expect("200\n503 STORE_FAILED\n200\n");
}

static void
test_logout(void **state)
{
	struct event ev = request(OP_LOGOUT, ROOT, "");
	struct credential c = { .kind = CREDENTIAL_COOKIE,
		.address = SL("192.0.2.9"),
		.claims.login_id = SL("lgn_1") };

	(void)state;
	ask(ev);
	rig_hash(c.hash, 20);
	log_in(login_record(20, true), true);
	whoami(c);
	/* A cookie is no refresh token. */
	refresh(20, 21);
	expect("400 NO_LOGIN\n200\n200\n401 TOKEN_REVOKED\n");
	ev.request.credential = c;
	ask(ev);
	whoami(c);
	expect("200\n401 UNAUTHORIZED\n");
	/* It ends by itself, too. */
	log_in(login_record(20, true), true);
	whoami(c);
	rig_advance(&w.rig, 3600000);
	whoami(c);
	expect("200\n200\n401 UNAUTHORIZED\n");
}

static void
own_password(struct credential c, bool first, bool passed, wall_msec asked_at)
{
	const struct user_record r = { .password = SL("another hash") };
	struct login_record l = { .created_at = asked_at };
	struct event ev = request(OP_OWN_PASSWORD, ROOT, "");

	ev.request.credential = c;
	ev.request.user = &r;
	ev.request.changes = USER_PASSWORD;
	ev.request.login = &l;
	ev.request.ask_first = first;
	ev.request.passed = passed;
	ask(ev);
}

static void
test_own_password(void **state)
{
	struct login_record other = login_record(20, false);
	struct credential c = of_login(), theirs = of_login();

	(void)state;
	other.id = theirs.claims.login_id = SL("lgn_2");
	log_in(login_record(10, false), true);
	log_in(other, true);
	c.claims.issued_at = theirs.claims.issued_at = w.rig.wall;
	rig_advance(&w.rig, 1000);
	expect("200\n200\n");
	own_password(c, false, false, w.rig.wall);
	whoami(theirs);
	expect("403 WRONG_PASSWORD\n200\n");
	own_password(c, true, false, 0);
	own_password(c, false, true, w.rig.wall);
	/* All JWTs from before end, and all logins but this. */
	whoami(c);
	whoami(theirs);
	refresh(10, 11);
	c.claims.issued_at = theirs.claims.issued_at = w.rig.wall;
	whoami(c);
	whoami(theirs);
	expect("200 vera/1\n200 vera/1\n401 TOKEN_REVOKED\n"
	       "401 TOKEN_REVOKED\n200\n200\n401 TOKEN_REVOKED\n");
	/* Somebody else was faster: what was judged is not the password. */
	own_password(c, false, true, w.rig.wall - 1);
	/* Another issuer's users have none here. */
	own_password(jwt("eve", "https://id.example"), true, false, 0);
	expect("403 WRONG_PASSWORD\n403 NOT_PERMITTED\n");
	/* Each try counts, as that of a login does. */
	for (int i = 0; i < 4; i++)
		own_password(c, true, false, 0);
	expect("200 vera/1\n200 vera/1\n200 vera/1\n200 vera/1\n");
	own_password(c, true, false, 0);
	expect("429 TOO_MANY_ATTEMPTS\n");
}

static void
test_too_many_logins(void **state)
{
	char id[16];

	(void)state;
	for (int i = 0; i < 101; i++) {
		struct login_record r = login_record(100, false);
		snprintf(id, sizeof(id), "lgn_%d", i);
		r.id = slice_from(id);
		log_in(r, true);
		w.len = 0;
	}
	assert_int_equal(w.logins_dropped, 1);
}

static void
test_set_up(void **state)
{
	struct user_record r = { .password = SL("hash") };
	struct event ev = request(OP_SETUP, 78, "");

	(void)state;
	ev.request.user = &r;
	ask(ev);
	rig_hash(ev.request.credential.hash, 77);
	ev.request.ask_first = true;
	ask(ev);
	ev.request.ask_first = false;
	ask(ev);
	ask(ev);
	expect("403 SETUP_OVER\n200\n200 root/3\n403 SETUP_OVER\n");
	assert_string_equal(w.actor, "usr_root");
}

static void
test_request_rate(void **state)
{
	struct event ev = request(OP_WHOAMI, ROOT, "");

	(void)state;
	for (uint32_t i = 0; i < 60; i++) {
		ask(ev);
		assert_int_equal(w.left, 59 - i);
	}
	w.len = 0;
	ask(ev);
	expect("429 RATE_LIMITED\n");
	/* What ends things goes on, and so does everybody else. */
	ask(request(OP_COMMAND_CANCEL, ROOT, "cmd_x"));
	ask(request(OP_WHOAMI, VIEWER, ""));
	expect("404 COMMAND_NOT_FOUND\n200\n");
	/* Who has no credential cannot use up a user's share. */
	rig_advance(&w.rig, 60000);
	ev.request.credential.kind = CREDENTIAL_NONE;
	for (int i = 0; i < 120; i++)
		ask(ev);
	w.len = 0;
	ask(ev);
	ask(request(OP_WHOAMI, ROOT, ""));
	expect("429 RATE_LIMITED\n200\n");
}

static void
a_day(void *arg)
{
	(void)arg;
	if (begin(NULL) == 0) {
		add("ada", ROLE_OPERATOR);
		knock(1, jwt("usr_view", NULL));
		knock(2, jwt("x", "https://issuer"));
		log_in(login_record(10, false), true);
		refresh(10, 11);
		refresh(10, 12);
		log_in(login_record(20, true), true);
		change("vera", USER_PASSWORD | USER_ROLE,
		    (struct user_record){
			.role = ROLE_OPERATOR, .password = SL("x") });
		ask(request(OP_USER_LIST, ROOT, ""));
		ask(request(OP_USER_REMOVE, ROOT, "vera"));
	}
	if (w.rig.hub != NULL)
		rig_fini(&w.rig);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(a_day, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_administration),
		TEST(test_rights),
		TEST(test_limited_admin),
		TEST(test_rotation_widens_nothing),
		TEST(test_last_admin),
		TEST(test_undone),
		TEST(test_revocation),
		TEST(test_renewal),
		TEST(test_renewal_with_less),
		TEST(test_jwt),
		TEST(test_foreign_issuer),
		TEST(test_no_agent),
		TEST(test_login_rate),
		TEST(test_endless_name),
		TEST(test_refresh),
		TEST(test_refresh_of_another),
		TEST(test_refresh_undone),
		TEST(test_logout),
		TEST(test_own_password),
		TEST(test_too_many_logins),
		TEST(test_set_up),
		TEST(test_request_rate),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
