#include "base/err.h"

#include "wire/enc.h"
#include "wire/token.h"

#include "io/rand.h"

#include "server/wall_token.h"

enum { VERSION = 1, HEAD = 18, KEY = 32, ID_MAX = 256 };

/* Key ---------------------------------------------------------------------- */

int
wall_key_open(struct store *s, uint8_t key[32], wall_msec now)
{
	struct arena a;
	struct slice kept;

	arena_init(&a, 1 << 16);
	int err = store_meta(s, SL("wall.key"), &a, &kept);
	if (err == 0 && kept.len == KEY)
		memcpy(key, kept.ptr, KEY);
	else if (err == 0)
		err = ERR_CORRUPT;
	arena_fini(&a);
	if (err != ERR_NOT_FOUND)
		return err;
	rand_fill(key, KEY);
	const struct op put = { .verb = OP_PUT_META,
		.at = now,
		.meta = { .key = SL("wall.key"), .value = { key, KEY } } };
	const struct op *const ops[] = { &put };
	int result = 0;
	err = store_apply(s, ops, 1, &result);
	return err != 0 ? err : result;
}

static int
mac_of(const struct server *s, struct slice body, uint8_t mac[SHA256_LEN])
{
	struct buf b;

	buf_init(&b, WALL_TOKEN_MAX);
	buf_put(&b, SL("muster wall 1\n"));
	buf_put(&b, body);
	int err = b.err != 0
	    ? b.err
	    : token_hmac((struct slice){ s->wall_key, sizeof(s->wall_key) },
		  buf_peek(&b), mac);
	buf_fini(&b);
	return err;
}

/* Writing ------------------------------------------------------------------ */

static void
put_instant(struct buf *b, wall_msec at)
{
	for (int shift = 56; shift >= 0; shift -= 8)
		buf_put_byte(b, (uint8_t)((uint64_t)at >> shift));
}

static void
put_text(struct buf *b, struct slice s)
{
	buf_put_byte(b, (uint8_t)(s.len >> 8));
	buf_put_byte(b, (uint8_t)s.len);
	buf_put(b, s);
}

static int
put_body(struct buf *b, const struct wall_token *t)
{
	if (t->route_id.len > ID_MAX || t->user_id.len > ID_MAX ||
	    t->login_id.len > ID_MAX)
		return ERR_TOO_BIG;
	buf_put_byte(b, VERSION);
	buf_put_byte(b, (uint8_t)t->kind);
	put_instant(b, t->issued_at);
	put_instant(b, t->expires_at);
	put_text(b, t->route_id);
	put_text(b, t->user_id);
	put_text(b, t->login_id);
	return b->err;
}

int
wall_token_write(
    const struct server *s, const struct wall_token *t, struct buf *out)
{
	uint8_t mac[SHA256_LEN];
	struct buf body;

	buf_init(&body, WALL_TOKEN_MAX);
	int err = put_body(&body, t);
	if (err == 0)
		err = mac_of(s, buf_peek(&body), mac);
	if (err == 0) {
		enc_put_base64(out, buf_peek(&body), ENC_URL_BARE);
		buf_put_byte(out, '.');
		enc_put_base64(
		    out, (struct slice){ mac, sizeof(mac) }, ENC_URL_BARE);
		err = out->err;
	}
	buf_fini(&body);
	return err;
}

/* Reading ------------------------------------------------------------------ */

static wall_msec
take_instant(const uint8_t *at)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | at[i];
	return (wall_msec)n;
}

/* An empty one is absent. */
static int
take_text(struct slice *rest, struct arena *a, struct slice *out)
{
	size_t n;

	if (rest->len < 2)
		return ERR_INVALID;
	n = (size_t)rest->ptr[0] << 8 | rest->ptr[1];
	if (rest->len - 2 < n)
		return ERR_INVALID;
	struct slice text = slice_first(slice_from_at(*rest, 2), n);
	*rest = slice_from_at(*rest, n + 2);
	*out = (struct slice){ 0 };
	return n == 0 ? 0 : arena_copy(a, text, out);
}

static int
take_body(struct slice body, enum wall_kind kind, struct arena *a,
    struct wall_token *t)
{
	if (body.len < HEAD || body.ptr[0] != VERSION ||
	    body.ptr[1] != (uint8_t)kind)
		return ERR_INVALID;
	t->kind = kind;
	t->issued_at = take_instant(body.ptr + 2);
	t->expires_at = take_instant(body.ptr + 10);
	body = slice_from_at(body, HEAD);
	int err = take_text(&body, a, &t->route_id);
	if (err == 0)
		err = take_text(&body, a, &t->user_id);
	if (err == 0)
		err = take_text(&body, a, &t->login_id);
	return err == 0 && body.len > 0 ? ERR_INVALID : err;
}

/* Both parts decoded, and the one vouched for by the other. */
static int
open_text(const struct server *s, struct slice text, struct buf *body,
    struct buf *mac)
{
	size_t dot = slice_find(text, '.');
	uint8_t want[SHA256_LEN];

	if (text.len > WALL_TOKEN_MAX || dot == text.len)
		return ERR_INVALID;
	int err = enc_get_base64(slice_first(text, dot), ENC_URL_BARE, body);
	if (err == 0)
		err = enc_get_base64(
		    slice_from_at(text, dot + 1), ENC_URL_BARE, mac);
	if (err != 0)
		return err == ERR_NOMEM ? err : ERR_INVALID;
	err = mac_of(s, buf_peek(body), want);
	if (err != 0)
		return err;
	return token_equal(buf_peek(mac), (struct slice){ want, sizeof(want) })
	    ? 0
	    : ERR_INVALID;
}

int
wall_token_read(const struct server *s, struct slice text, enum wall_kind kind,
    wall_msec now, struct arena *a, struct wall_token *out)
{
	struct wall_token t = { 0 };
	struct buf body, mac;

	buf_init(&body, WALL_TOKEN_MAX);
	buf_init(&mac, WALL_TOKEN_MAX);
	int err = open_text(s, text, &body, &mac);
	if (err == 0)
		err = take_body(buf_peek(&body), kind, a, &t);
	if (err == 0 && now >= t.expires_at)
		err = ERR_EXPIRED;
	if (err == 0)
		*out = t;
	buf_fini(&body);
	buf_fini(&mac);
	return err;
}

void
wall_token_credential(const struct wall_token *t, struct credential *out)
{
	out->kind = t->kind == WALL_LINK ? CREDENTIAL_LINK : CREDENTIAL_WALL;
	out->route_id = t->route_id;
	out->claims = (struct claims){ .subject = t->user_id,
		.login_id = t->login_id,
		.issued_at = t->issued_at,
		.expires_at = t->expires_at };
}
