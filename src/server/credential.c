#include "base/err.h"

#include "wire/enc.h"
#include "wire/token.h"

#include "model/cidr.h"

#include "io/addr.h"
#include "io/clock.h"

#include "server/forwarded.h"

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

int
credential_read(const struct server *s, const struct http1_head *h,
    struct slice query, struct arena *a, struct credential *out)
{
	struct slice field = http1_field(h, "Authorization"), rest;
	struct slice bearer = { 0 }, text = { 0 };

	if (http1_count(h, "Authorization") > 1)
		return ERR_INVALID;
	int err = url_query_get(query, SL("token"), a, &text);
	if (err != 0 && err != ERR_MISSING)
		return ERR_INVALID;
	if (field.ptr != NULL && scheme(field, SL("Muster-Key"), &rest)) {
		/* A proof that does not hold is no credential: the answer
		 * is a new challenge. */
		if (text.ptr != NULL)
			return ERR_INVALID;
		check_proof(s, rest, out, a);
		return 0;
	}
	if (field.ptr != NULL && scheme(field, SL("Bearer"), &rest))
		bearer = rest;
	if (bearer.ptr != NULL && text.ptr != NULL && !slice_eq(bearer, text))
		return ERR_INVALID;
	if (bearer.ptr == NULL)
		bearer = text;
	if (bearer.len == 0)
		return 0;
	err = credential_hash(bearer, out->hash);
	if (err == 0)
		out->kind = CREDENTIAL_TOKEN;
	return err;
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
	call->tls = by.tls;
	if (memcmp(&peer, &by.client, sizeof(peer)) == 0)
		return;
	to->address = address_text(&by.client, &call->arena);
	to->remote = to->address;
}
