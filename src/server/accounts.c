#include <openssl/crypto.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "model/role.h"

#include "io/clock.h"
#include "io/rand.h"

#include "server/api.h"
#include "server/credential.h"
#include "server/keyring.h"
#include "server/password.h"
#include "server/show.h"

#include "server/accounts.h"

enum {
	JSON_MAX = 64 * 1024,
	HASHING_MAX = 16, /* at once: 32 MiB each */
	TOKEN_TTL = 3600000,
	COOKIE_TEXT = 200,
};

static const struct slice none;

/* A request under way; in the call's arena. */
struct account {
	enum request_op op; /* of the question that is out */
	bool asked_first;
	struct slice name;
	struct slice password; /* of a login; else the new one */
	struct slice old;      /* OWN_PASSWORD */
	struct slice secret;   /* SETUP */
	struct slice refresh;
	bool wants_cookie;
	struct user_record user;
	unsigned changes;
	int64_t ttl; /* USER_TOKEN */
	scope_set scopes;
	bool has_scopes;
	char kept[PASSWORD_KEPT];
	/* A login that begins or goes on. */
	struct login_record login;
	char login_id[RAND_ID_SIZE];
	char user_id[RAND_ID_SIZE];
	char text[KEYRING_TEXT]; /* the new refresh token or cookie */
	bool judged;             /* what was shown was compared */
	bool passed;
};

/* Bodies ------------------------------------------------------------------- */

static int
refuse_field(struct conn *c, const struct js_fields *f)
{
	web_problem(c,
	    &(struct problem){ .status = 400,
		.field = f->field,
		.text = f->err == ERR_MISSING
		    ? SL("this member is required")
		    : SL("this member has the wrong type or range") });
	return ERR_INVALID;
}

static int
refuse_value(struct conn *c, struct slice field, struct slice text)
{
	web_problem(c,
	    &(struct problem){ .status = 400, .field = field, .text = text });
	return ERR_INVALID;
}

static int
parse(struct conn *c, struct call *call, struct js_doc *doc)
{
	const struct js_limits limits = { JSON_MAX, 8 };
	struct slice text = buf_peek(&call->body);
	int err = js_parse(
	    doc, text.len > 0 ? text : SL("{}"), &limits, &call->arena);

	if (err == 0 && doc->repeated.ptr != NULL)
		return refuse_value(
		    c, doc->repeated, SL("a member stands twice"));
	if (err != 0 || js_root(doc).kind != JS_OBJECT)
		return refuse_value(
		    c, none, SL("the body is not a JSON object"));
	return 0;
}

static int
check_password(struct conn *c, struct slice text)
{
	if (text.ptr == NULL ||
	    (text.len >= PASSWORD_MIN && text.len <= PASSWORD_MAX))
		return 0;
	return refuse_value(
	    c, SL("password"), SL("a password has 8 to 1024 bytes"));
}

static int
read_login(struct conn *c, struct js_fields *f, struct account *a)
{
	js_need_string(f, "name", &a->name);
	js_need_string(f, "password", &a->password);
	js_opt_bool(f, "cookie", false, &a->wants_cookie);
	return f->err != 0 ? refuse_field(c, f) : 0;
}

static int
read_setup(struct conn *c, struct js_fields *f, struct account *a)
{
	js_need_string(f, "token", &a->secret);
	js_need_string(f, "password", &a->password);
	a->changes = USER_PASSWORD;
	return f->err != 0 ? refuse_field(c, f)
			   : check_password(c, a->password);
}

static int
read_password(struct conn *c, struct js_fields *f, struct account *a)
{
	js_need_string(f, "old_password", &a->old);
	js_need_string(f, "password", &a->password);
	a->changes = USER_PASSWORD;
	return f->err != 0 ? refuse_field(c, f)
			   : check_password(c, a->password);
}

static int
read_refresh(struct conn *c, struct js_fields *f, struct account *a)
{
	js_need_string(f, "refresh_token", &a->refresh);
	return f->err != 0 ? refuse_field(c, f) : 0;
}

static int
read_user(struct conn *c, struct js_fields *f, struct account *a)
{
	bool add = a->op == OP_USER_ADD;
	struct slice role;
	struct js_value selector = js_field(f, "selector");

	if (add)
		js_need_string(f, "name", &a->user.name);
	if (add)
		js_need_string(f, "role", &role);
	else
		js_opt_string(f, "role", &role);
	js_opt_string(f, "password", &a->password);
	if (f->err != 0)
		return refuse_field(c, f);
	if (role.ptr != NULL) {
		if (role_find(role, &a->user.role) != 0)
			return refuse_value(c, SL("role"),
			    SL("a role is viewer, operator or admin"));
		a->changes |= USER_ROLE;
	}
	/* null, and nothing in it, lift the limit. */
	if (selector.kind != JS_NONE) {
		a->changes |= USER_SELECTOR;
		if (selector.kind != JS_NULL &&
		    js_string(selector, &a->user.selector) != 0)
			return refuse_value(c, SL("selector"),
			    SL("a selector is a string or null"));
		if (a->user.selector.len == 0)
			a->user.selector = none;
	}
	if (a->password.ptr != NULL)
		a->changes |= USER_PASSWORD;
	return check_password(c, a->password);
}

static int
read_token(struct conn *c, struct js_fields *f, struct account *a)
{
	const int64_t month = INT64_C(30) * 86400000;
	struct js_value scopes, item;
	struct slice name;

	js_opt_i64(f, "ttl_ms", 1000, month, TOKEN_TTL, &a->ttl);
	js_opt_kind(f, "scopes", JS_ARRAY, &scopes);
	if (f->err != 0)
		return refuse_field(c, f);
	a->has_scopes = scopes.kind != JS_NONE;
	for (struct js_walk w = js_walk(scopes); js_next(&w, NULL, &item);) {
		scope_set bit =
		    js_string(item, &name) == 0 ? scope_find(name) : 0;
		if (bit == 0)
			return refuse_value(
			    c, SL("scopes"), SL("there is no such scope"));
		a->scopes |= bit;
	}
	return 0;
}

static int
read_nothing(struct conn *c, struct js_fields *f, struct account *a)
{
	(void)c;
	(void)f;
	(void)a;
	return 0;
}

typedef int read_fn(struct conn *c, struct js_fields *f, struct account *a);

static read_fn *const readers[OPS] = {
	[OP_LOGIN] = read_login,
	[OP_REFRESH] = read_refresh,
	[OP_SETUP] = read_setup,
	[OP_LOGOUT] = read_nothing,
	[OP_OWN_PASSWORD] = read_password,
	[OP_USER_ADD] = read_user,
	[OP_USER_CHANGE] = read_user,
	[OP_USER_TOKEN] = read_token,
};

/* Asking the hub ----------------------------------------------------------- */

static int
copy_user(struct arena *to, const struct account *a, struct request *q)
{
	struct user_record *r = arena_alloc(to, sizeof(*r));

	if (r == NULL)
		return ERR_NOMEM;
	*r = a->user;
	q->user = r;
	q->changes = a->changes;
	int err = arena_copy(to, a->user.name, &r->name);
	if (err == 0)
		err = arena_copy(to, a->user.selector, &r->selector);
	if (err == 0)
		err = arena_copy(to, slice_from(a->kept), &r->password);
	if (r->password.len == 0)
		r->password = none;
	return err;
}

static int
copy_login(struct arena *to, const struct account *a, struct request *q)
{
	struct login_record *r = arena_alloc(to, sizeof(*r));

	if (r == NULL)
		return ERR_NOMEM;
	*r = a->login;
	q->login = r;
	q->passed = a->passed;
	int err = arena_copy(to, slice_from(a->login_id), &r->id);
	if (err == 0)
		err = arena_copy(to, slice_from(a->user_id), &r->user_id);
	return err;
}

static int
fill(struct arena *to, struct call *call, struct account *a, struct request *q)
{
	bool of_login = a->op == OP_LOGIN || a->op == OP_LOGIN_DONE;
	int err = credential_copy(to, &call->credential, &q->credential);

	q->op = a->op;
	if (err == 0)
		err = arena_copy(
		    to, of_login ? a->name : call->params[0], &q->id);
	if (err == 0)
		err = copy_user(to, a, q);
	if (err == 0)
		err = copy_login(to, a, q);
	/* With a password at hand and not yet hashed. */
	q->ask_first =
	    a->password.ptr != NULL && a->kept[0] == '\0' && !a->judged;
	if (err == 0 && a->op == OP_SETUP)
		err = credential_hash(a->secret, q->credential.hash);
	if (err == 0 && a->op == OP_REFRESH)
		err = token_sha256(slice_from(a->text), q->new_hash);
	return err;
}

static void
refuse_busy(struct conn *c)
{
	web_problem(c, &(struct problem){ .status = 503, .retry_after = 1 });
}

static void
post(struct conn *c, struct call *call, struct account *a)
{
	struct arena *to;
	struct event *ev = conn_event(c, EVENT_REQUEST, &to);

	if (ev == NULL || fill(to, call, a, &ev->request) != 0 ||
	    arena_copy(to, call->request_id, &ev->request_id) != 0 ||
	    dock_post(c->dock, ev) != 0)
		refuse_busy(c);
}

/* What was shown, and what is to take its place.  One that is not of ours
 * names no login. */
static int
take_refresh(struct conn *c, struct account *a)
{
	struct keyring *k = c->dock->server->keyring;
	int err = token_sha256(a->refresh, a->login.hash);

	if (!keyring_read_refresh(k, a->refresh, a->login_id))
		a->login_id[0] = '\0';
	else if (err == 0)
		err = keyring_make_refresh(k, a->login_id, a->text);
	return err;
}

void
accounts_ask(struct conn *c, struct call *call)
{
	struct account *a = arena_alloc(&call->arena, sizeof(*a));
	struct js_doc *doc = arena_alloc(&call->arena, sizeof(*doc));
	struct js_fields f;

	if (a == NULL || doc == NULL) {
		refuse_busy(c);
		return;
	}
	a->op = call->route->op;
	if (parse(c, call, doc) != 0)
		return;
	js_fields_init(&f, js_root(doc));
	if (readers[a->op](c, &f, a) != 0)
		return;
	if (a->op == OP_REFRESH && take_refresh(c, a) != 0) {
		refuse_busy(c);
		return;
	}
	call->state = a;
	post(c, call, a);
}

/* Passwords ---------------------------------------------------------------- */

/* One password at work: to be kept, or compared with what is. */
struct hashing {
	struct loop_work work;
	struct dock *dock;
	struct peer_id peer;
	bool compare;
	struct slice password; /* behind the struct */
	struct slice stored;
	char kept[PASSWORD_KEPT];
	bool passed;
	int err;
};

static void
hash(struct loop_work *work)
{
	struct hashing *h = LIST_OF(work, struct hashing, work);

	if (h->compare)
		h->passed = password_fits(h->password, h->stored);
	else
		h->err = password_keep(h->password, h->kept);
}

static void
prepare_login(struct conn *c, struct account *a)
{
	const struct server *s = c->dock->server;
	struct login_record *r = &a->login;

	rand_id("lgn_", a->login_id);
	r->cookie = a->wants_cookie;
	r->expires_at = clock_wall() +
	    (r->cookie ? s->settings.session_ttl : s->settings.refresh_ttl);
	int err = 0;
	if (r->cookie)
		keyring_make_cookie(a->login_id, a->text);
	else
		err = keyring_make_refresh(s->keyring, a->login_id, a->text);
	if (err != 0 || token_sha256(slice_from(a->text), r->hash) != 0)
		a->passed = false;
}

static void start(
    struct conn *c, struct slice password, const struct slice *stored);

/* What was shown fits, or not. */
static void
compared(struct conn *c, struct call *call, struct account *a)
{
	a->judged = true;
	if (a->op == OP_LOGIN) {
		a->op = OP_LOGIN_DONE;
		prepare_login(c, a);
	} else if (a->passed) {
		start(c, a->password, NULL);
		return;
	}
	post(c, call, a);
}

static void
hashed(struct loop_work *work)
{
	struct hashing *h = LIST_OF(work, struct hashing, work);
	struct conn *c = dock_find(h->dock, h->peer);
	struct call *call = c == NULL || c->ending ? NULL : web_call(c);

	atomic_fetch_sub(&h->dock->server->hashing, 1);
	if (call != NULL && h->err != 0) {
		refuse_busy(c);
	} else if (call != NULL) {
		struct account *a = call->state;
		memcpy(a->kept, h->kept, sizeof(a->kept));
		if (h->compare) {
			a->passed = h->passed;
			compared(c, call, a);
		} else {
			post(c, call, a);
		}
	}
	if (call != NULL)
		web_resume(c);
	OPENSSL_cleanse(h, sizeof(*h) + h->password.len);
	alloc_free(h);
}

/* stored: what to compare it with; NULL: it is to be kept. */
static void
start(struct conn *c, struct slice password, const struct slice *stored)
{
	struct server *s = c->dock->server;
	size_t len = stored != NULL ? stored->len : 0;
	struct hashing *h = alloc_new(sizeof(*h) + password.len + len + 1);
	uint8_t *at = (uint8_t *)(h + 1);

	if (h == NULL || atomic_load(&s->hashing) >= HASHING_MAX) {
		alloc_free(h);
		refuse_busy(c);
		return;
	}
	h->work.work = hash;
	h->work.done = hashed;
	h->dock = c->dock;
	h->peer = c->id;
	h->compare = stored != NULL;
	if (password.len > 0)
		memcpy(at, password.ptr, password.len);
	h->password = (struct slice){ at, password.len };
	at += password.len;
	if (len > 0)
		memcpy(at, stored->ptr, len);
	h->stored = (struct slice){ at, len };
	atomic_fetch_add(&s->hashing, 1);
	if (loop_work(c->dock->lane.loop, &h->work) == 0)
		return;
	atomic_fetch_sub(&s->hashing, 1);
	alloc_free(h);
	refuse_busy(c);
}

/* Answers ------------------------------------------------------------------ */

/* NumericDate with milliseconds, so that a token made in the second of a
 * password's change is told from one before it. */
static void
put_instant(struct js_writer *w, const char *key, wall_msec at)
{
	js_kv_double(w, key, (double)at / 1000);
}

static void
put_scopes(struct js_writer *w, scope_set scopes)
{
	unsigned pos = 0;
	struct buf b;

	buf_init(&b, 1024);
	for (struct slice s; (s = scope_next(scopes, &pos)).ptr != NULL;) {
		if (buf_peek(&b).len > 0)
			buf_put_byte(&b, ' ');
		buf_put(&b, s);
	}
	js_kv_string(
	    w, "scope", buf_peek(&b).ptr == NULL ? SL("") : buf_peek(&b));
	buf_fini(&b);
}

static int
sign(struct conn *c, const struct user_record *u, const struct account *a,
    struct slice login_id, wall_msec until, struct buf *out)
{
	struct js_writer w;
	struct buf claims;

	buf_init(&claims, 4096);
	js_write(&w, &claims);
	js_begin_object(&w);
	js_kv_string(&w, "iss", SL("muster"));
	js_kv_string(&w, "sub", u->id);
	js_kv_string(&w, "username", u->name);
	js_kv_string(&w, "role", role_name(u->role));
	put_instant(&w, "iat", clock_wall());
	put_instant(&w, "exp", until);
	if (login_id.len > 0)
		js_kv_string(&w, "sid", login_id);
	if (a->has_scopes)
		put_scopes(&w, a->scopes);
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		keyring_sign(c->dock->server->keyring, buf_peek(&claims), out);
	buf_fini(&claims);
	return err != 0 ? err : out->err;
}

int
accounts_sign(struct conn *c, const struct user_record *u,
    struct slice login_id, wall_msec until, struct buf *out)
{
	const struct account all = { .has_scopes = false };

	return sign(c, u, &all, login_id, until, out);
}

static const struct http1_pair no_store = { SL_INIT("Cache-Control"),
	SL_INIT("no-store") };

static void
put_token(struct js_writer *w, const struct buf *token, wall_msec until)
{
	js_kv_string(w, "token", buf_peek(token));
	js_kv_string(w, "token_type", SL("Bearer"));
	js_kv_i64(w, "expires_in", (until - clock_wall() + 500) / 1000);
	show_at(w, "expires_at", until);
}

static void
set_cookie(const struct account *a, const struct server *s, char *out)
{
	snprintf(out, COOKIE_TEXT,
	    CREDENTIAL_COOKIE_NAME "=%s; Path=/; Max-Age=%lld; Secure; "
				   "HttpOnly; SameSite=Strict",
	    a->text, (long long)(s->settings.session_ttl / 1000));
}

/* The login's own end comes first. */
static wall_msec
access_until(const struct server *s, const struct login_record *r)
{
	wall_msec until = clock_wall() + s->settings.access_ttl;

	return until < r->expires_at ? until : r->expires_at;
}

static void
answer_login(struct conn *c, const struct account *a, const struct reply *r)
{
	const struct server *s = c->dock->server;
	wall_msec until = access_until(s, r->login);
	struct http1_pair fields[2] = { no_store };
	struct buf token, *text = &c->dock->text;
	char cookie[COOKIE_TEXT];
	struct js_writer w;
	size_t n = 1;

	buf_init(&token, JWS_TEXT);
	int err = sign(c, r->user, a, r->login->id, until, &token);
	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.login/1"));
	put_token(&w, &token, until);
	if (r->login->cookie) {
		set_cookie(a, s, cookie);
		fields[n++] =
		    (struct http1_pair){ SL("Set-Cookie"), slice_from(cookie) };
	} else {
		js_kv_string(&w, "refresh_token", slice_from(a->text));
	}
	show_at(&w, "login_expires_at", r->login->expires_at);
	js_key(&w, SL("user"));
	show_user(&w, r->user);
	js_end(&w);
	if (err == 0)
		err = js_finish(&w);
	if (err != 0)
		refuse_busy(c);
	else
		web_answer_with(
		    c, 200, "application/json", buf_peek(text), fields, n);
	buf_fini(&token);
}

static void
answer_token(struct conn *c, const struct account *a, const struct reply *r)
{
	wall_msec until = clock_wall() + a->ttl;
	struct buf token, *text = &c->dock->text;
	struct js_writer w;

	buf_init(&token, JWS_TEXT);
	int err = sign(c, &r->users[0], a, none, until, &token);
	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.user_token/1"));
	put_token(&w, &token, until);
	js_key(&w, SL("user"));
	show_user(&w, &r->users[0]);
	js_end(&w);
	if (err == 0)
		err = js_finish(&w);
	if (err != 0)
		refuse_busy(c);
	else
		web_answer_with(
		    c, 200, "application/json", buf_peek(text), &no_store, 1);
	buf_fini(&token);
}

static void
answer_logout(struct conn *c, const struct reply *r)
{
	const struct http1_pair gone = { SL("Set-Cookie"),
		SL(CREDENTIAL_COOKIE_NAME "=; Path=/; Max-Age=0; Secure; "
					  "HttpOnly; SameSite=Strict") };

	web_answer_with(c, 204, NULL, none, &gone, r->login->cookie ? 1 : 0);
}

/* What was asked first may be: now the work. */
static bool
go_on(struct conn *c, struct account *a, const struct reply *r)
{
	struct slice stored = r->user_count > 0 ? r->users[0].password : none;

	if (a->password.ptr == NULL || a->kept[0] != '\0' ||
	    a->op == OP_LOGIN_DONE)
		return false;
	if (a->op == OP_LOGIN && r->user_count > 0)
		slice_cstr(r->users[0].id, a->user_id, sizeof(a->user_id));
	a->login.created_at = clock_wall();
	if (a->op == OP_LOGIN)
		start(c, a->password, &stored);
	else if (a->op == OP_OWN_PASSWORD)
		start(c, a->old, &stored);
	else
		start(c, a->password, NULL);
	return true;
}

void
accounts_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;
	struct account *a = call->state;

	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	if (go_on(c, a, r))
		return;
	if (a->op == OP_LOGIN_DONE || a->op == OP_REFRESH)
		answer_login(c, a, r);
	else if (a->op == OP_USER_TOKEN)
		answer_token(c, a, r);
	else if (a->op == OP_LOGOUT)
		answer_logout(c, r);
	else
		api_answer(c, call, ev);
}
