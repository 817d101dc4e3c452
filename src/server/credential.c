#include "base/err.h"

#include "wire/enc.h"
#include "wire/jwt.h"
#include "wire/token.h"

#include "model/cidr.h"
#include "model/role.h"

#include "io/addr.h"
#include "io/clock.h"

#include "server/forwarded.h"
#include "server/keyring.h"

#include "server/credential.h"

enum { NONCE_BYTES = 8 + 16, NONCE_LIFE = 60000 };

int
credential_hash(struct slice text, uint8_t out[HASH_LEN])
{
	struct slice pin;

	return token_sha256(token_cut_pin(text, &pin), out);
}

int
credential_copy(
    struct arena *a, const struct credential *from, struct credential *to)
{
	*to = *from;
	int err = arena_copy(a, from->agent_id, &to->agent_id);
	if (err == 0)
		err = arena_copy(a, from->address, &to->address);
	if (err == 0)
		err = arena_copy(a, from->claims.subject, &to->claims.subject);
	if (err == 0)
		err = arena_copy(a, from->claims.name, &to->claims.name);
	if (err == 0)
		err = arena_copy(a, from->claims.issuer, &to->claims.issuer);
	if (err == 0)
		err =
		    arena_copy(a, from->claims.login_id, &to->claims.login_id);
	return err != 0 ? err : arena_copy(a, from->remote, &to->remote);
}

/* Challenges ----------------------------------------------------------------
 */

static int
make_nonce(const struct server *s, wall_msec at, uint8_t out[NONCE_BYTES])
{
	uint8_t mac[SHA256_LEN];

	for (size_t i = 0; i < 8; i++)
		out[i] = (uint8_t)((uint64_t)at >> (56 - 8 * i));
	int err = token_hmac(
	    (struct slice){ s->nonce_key, 32 }, (struct slice){ out, 8 }, mac);
	memcpy(out + 8, mac, NONCE_BYTES - 8);
	return err;
}

struct slice
credential_challenge(const struct server *s, struct arena *a)
{
	uint8_t nonce[NONCE_BYTES];
	struct slice text = { 0 };
	struct buf b;

	if (make_nonce(s, clock_wall(), nonce) != 0)
		return text;
	buf_init(&b, 256);
	buf_put(&b, SL("Muster-Key nonce=\""));
	enc_put_base64(&b, (struct slice){ nonce, NONCE_BYTES }, ENC_URL_BARE);
	buf_put(&b, SL("\""));
	if (b.err == 0 && arena_copy(a, buf_peek(&b), &text) != 0)
		text = (struct slice){ 0 };
	buf_fini(&b);
	return text;
}

static bool
nonce_ok(const struct server *s, const uint8_t *nonce)
{
	uint8_t want[NONCE_BYTES];
	uint64_t at = 0;

	for (size_t i = 0; i < 8; i++)
		at = at << 8 | nonce[i];
	wall_msec age = clock_wall() - (wall_msec)at;
	if (age < 0 || age > NONCE_LIFE ||
	    make_nonce(s, (wall_msec)at, want) != 0)
		return false;
	return token_equal((struct slice){ nonce, NONCE_BYTES },
	    (struct slice){ want, NONCE_BYTES });
}

struct proof {
	struct slice id;
	struct slice nonce; /* as text */
	uint8_t key[ED25519_KEY];
	uint8_t sig[ED25519_SIG];
};

static int
decode(struct slice text, uint8_t *out, size_t len)
{
	struct buf b;

	buf_init(&b, 256);
	int err = enc_get_base64(text, ENC_URL_BARE, &b);
	if (err == 0 && buf_peek(&b).len == len)
		memcpy(out, buf_peek(&b).ptr, len);
	else
		err = ERR_INVALID;
	buf_fini(&b);
	return err;
}

static int
read_proof(struct slice params, struct proof *p)
{
	struct slice part;
	unsigned seen = 0;

	while (slice_split(&params, ',', &part)) {
		part = slice_trim(part);
		size_t at = slice_find(part, '=');
		struct slice name = slice_first(part, at);
		struct slice value = slice_from_at(part, at + 1);
		if (value.len < 2 || value.ptr[0] != '"' ||
		    value.ptr[value.len - 1] != '"')
			return ERR_INVALID;
		value = slice_first(slice_from_at(value, 1), value.len - 2);
		if (slice_eq(name, SL("id"))) {
			p->id = value;
			seen |= 1;
		} else if (slice_eq(name, SL("nonce"))) {
			p->nonce = value;
			seen |= 2;
		} else if (slice_eq(name, SL("key")) &&
		    decode(value, p->key, ED25519_KEY) == 0) {
			seen |= 4;
		} else if (slice_eq(name, SL("sig")) &&
		    decode(value, p->sig, ED25519_SIG) == 0) {
			seen |= 8;
		} else {
			return ERR_INVALID;
		}
	}
	return seen == 15 ? 0 : ERR_INVALID;
}

static int
check_proof(const struct server *s, struct slice params, struct credential *out,
    struct arena *a)
{
	uint8_t nonce[NONCE_BYTES];
	struct proof p = { 0 };
	struct buf text;

	if (read_proof(params, &p) != 0)
		return ERR_INVALID;
	if (decode(p.nonce, nonce, NONCE_BYTES) != 0 || !nonce_ok(s, nonce))
		return ERR_EXPIRED;
	buf_init(&text, 1024);
	buf_put(&text, SL("muster-link-v1\n"));
	buf_put(&text, p.id);
	buf_put(&text, SL("\n"));
	buf_put(&text, p.nonce);
	int err = text.err != 0 ? text.err
				: token_verify(p.key, buf_peek(&text), p.sig);
	buf_fini(&text);
	if (err != 0)
		return err;
	out->kind = CREDENTIAL_KEY;
	memcpy(out->public_key, p.key, KEY_LEN);
	return arena_copy(a, p.id, &out->agent_id);
}

/* Heads ----------------------------------------------------------------------
 */

static bool
scheme(struct slice value, struct slice name, struct slice *rest)
{
	if (!slice_eq_nocase(slice_first(value, name.len), name) ||
	    value.len <= name.len || value.ptr[name.len] != ' ')
		return false;
	*rest = slice_trim(slice_from_at(value, name.len));
	return true;
}

/* One pair of a Cookie field (RFC 6265 5.4); absent when it is not there or
 * stands twice. */
static struct slice
cookie(struct slice field, struct slice name)
{
	struct slice part, found = { 0 };
	int count = 0;

	while (slice_split(&field, ';', &part)) {
		part = slice_trim(part);
		size_t at = slice_find(part, '=');
		if (at < part.len && slice_eq(slice_first(part, at), name)) {
			found = slice_from_at(part, at + 1);
			count++;
		}
	}
	return count == 1 ? found : (struct slice){ 0 };
}

/* Of document 2: only where consoles come in, and only with our own page as
 * the origin, since a browser sends it whoever asks. */
static bool
takes_token_cookie(const struct call *call)
{
	return call->route->websocket && call->origin_is == ORIGIN_OWN &&
	    slice_starts(slice_from(call->route->path), SL("/ws"));
}

/* All texts that a head shows; -1 when two differ. */
struct shown {
	struct slice text;
	bool cookie;  /* in a cookie */
	bool session; /* in that of a login */
	bool proof;
	struct slice params; /* of the proof */
	int err;
};

static void
show(struct shown *s, struct slice text, bool is_cookie)
{
	if (text.len == 0)
		return;
	if (s->proof || (s->text.ptr != NULL && !slice_eq(s->text, text)))
		s->err = ERR_INVALID;
	s->text = text;
	s->cookie |= is_cookie;
}

static void
gather(const struct http1_head *h, const struct call *call, struct arena *a,
    struct shown *s)
{
	struct slice field = http1_field(h, "Authorization"), rest;
	struct slice cookies = http1_field(h, "Cookie"), text = { 0 };
	int err = url_query_get(call->query, SL("token"), a, &text);

	if (http1_count(h, "Authorization") > 1 ||
	    (err != 0 && err != ERR_MISSING)) {
		s->err = ERR_INVALID;
		return;
	}
	if (field.ptr != NULL && scheme(field, SL("Muster-Key"), &s->params))
		s->proof = true;
	else if (field.ptr != NULL && scheme(field, SL("Bearer"), &rest))
		show(s, rest, false);
	show(s, text, false);
	if (http1_count(h, "Cookie") > 1)
		cookies = (struct slice){ 0 };
	show(s, cookie(cookies, SL(CREDENTIAL_COOKIE_NAME)), true);
	s->session = s->cookie;
	if (takes_token_cookie(call))
		show(s, cookie(cookies, SL("token")), true);
}

static bool
looks_like_jwt(struct slice text)
{
	struct slice part;
	int parts = 0;

	while (slice_split(&text, '.', &part))
		parts++;
	return parts == 3;
}

/* Names that are not ours are not about us; without any of ours it is not
 * limited at all, as with the tokens of OpenID providers. */
static void
read_scopes(struct slice list, bool own, struct claims *c)
{
	struct slice name;

	while (slice_split(&list, ' ', &name))
		c->scopes |= scope_find(name);
	c->has_scopes = c->scopes != 0 || (own && list.ptr != NULL);
}

static void
fill_claims(
    const struct server *s, const struct jwt *t, bool own, struct claims *c)
{
	c->subject = t->subject;
	c->name = t->name;
	c->issued_at = t->issued;
	c->expires_at = t->expires;
	read_scopes(t->scope, own, c);
	if (own) {
		c->login_id = t->session;
		return;
	}
	c->issuer = t->issuer.ptr != NULL ? t->issuer : SL("");
	if (role_find(t->role, &c->role) != 0)
		role_find(s->settings.jwt_default_role, &c->role);
}

/* 0 whatever it is worth: the hub answers, and counts. */
static int
check_jwt(const struct server *s, struct slice text, struct arena *a,
    struct credential *out)
{
	struct jwt_rules rules = { .issuer = s->settings.jwt_issuer,
		.audience = s->settings.jwt_audience };
	struct jwt *t = arena_alloc(a, sizeof(*t));
	struct jws j;
	bool own = false;

	if (t == NULL)
		return ERR_NOMEM;
	out->kind = CREDENTIAL_JWT;
	out->claims.err = ERR_DENIED;
	if (jws_read(&j, text, a) != 0 ||
	    keyring_verify(s->keyring, &j, &own) != 0 ||
	    jwt_read(t, j.payload, a) != 0)
		return 0;
	if (own)
		rules = (struct jwt_rules){ .issuer = SL("muster") };
	out->claims.err = jwt_check(t, &rules, clock_wall());
	if (out->claims.err != ERR_DENIED)
		fill_claims(s, t, own, &out->claims);
	return 0;
}

int
credential_of_text(const struct server *s, struct slice text, struct arena *a,
    struct credential *out)
{
	if (looks_like_jwt(text))
		return check_jwt(s, text, a, out);
	int err = credential_hash(text, out->hash);
	if (err == 0)
		out->kind = CREDENTIAL_TOKEN;
	return err;
}

static int
check_cookie(struct slice text, struct arena *a, struct credential *out)
{
	char id[KEYRING_LOGIN + 1];

	out->kind = CREDENTIAL_COOKIE;
	if (!keyring_read_cookie(text, id))
		id[0] = '\0';
	int err = token_sha256(text, out->hash);
	return err != 0 ? err
			: arena_copy(a, slice_from(id), &out->claims.login_id);
}

int
credential_read(
    const struct server *s, const struct http1_head *h, struct call *call)
{
	struct credential *out = &call->credential;
	struct arena *a = &call->arena;
	struct shown shown = { .err = 0 };

	gather(h, call, a, &shown);
	if (shown.err != 0)
		return shown.err;
	call->by_cookie = shown.cookie;
	if (shown.proof) {
		/* A proof that does not hold is no credential: the answer
		 * is a new challenge. */
		if (shown.text.ptr != NULL)
			return ERR_INVALID;
		check_proof(s, shown.params, out, a);
		return 0;
	}
	if (shown.text.len == 0)
		return 0;
	if (shown.session)
		return check_cookie(shown.text, a, out);
	return credential_of_text(s, shown.text, a, out);
}

/* Places --------------------------------------------------------------------
 */

static struct slice
address_text(const struct address *from, struct arena *a)
{
	union addr addr = { .in6 = { .sin6_family = AF_INET6 } };
	char text[ADDR_TEXT];
	struct slice copy;

	memcpy(&addr.in6.sin6_addr, from->bytes, sizeof(from->bytes));
	addr_format_ip(&addr.sa, text);
	if (arena_copy(a, slice_from(text), &copy) != 0)
		return SL("");
	return copy;
}

void
credential_locate(struct conn *c, struct call *call, const struct http1_head *h)
{
	const struct server *s = c->dock->server;
	struct credential *to = &call->credential;
	struct address peer;
	struct forwarded by = { .by_proxy = false };

	to->address = conn_address(c, &call->arena);
	to->remote = conn_remote(c, &call->arena);
	call->tls = stream_is_tls(c->stream);
	/* A proxy that nobody told us of is no reason to trust the world. */
	call->local =
	    addr_is_loopback(stream_remote(c->stream)) && !forwarded_any(h);
	if (address_parse(to->address, &peer) != 0)
		return;
	forwarded_read(h, s->settings.trusted_proxies, &peer, &by);
	if (!by.by_proxy)
		return;
	call->by_proxy = true;
	call->tls = by.tls;
	if (memcmp(&peer, &by.client, sizeof(peer)) == 0)
		return;
	to->address = address_text(&by.client, &call->arena);
	to->remote = to->address;
}
