#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "wire/enc.h"

#include "io/clock.h"
#include "io/file.h"
#include "io/log.h"
#include "io/rand.h"

#include "server/keyring.h"

enum {
	PATH_SIZE = 4200,
	FILE_MAX = 256 << 10,
	ARENA_MAX = 16 << 20,
	KID = 16,
	MAC_TEXT = 26, /* characters of 16 bytes */
	RANDOM_TEXT = 32,
	SHORT_SECRET = 32, /* RFC 7518 3.2 */
};

struct own_key {
	char kid[KID + 1];
	uint8_t seed[ED25519_KEY];
	wall_msec made_at;
};

/* What DIR/keys.json holds. */
struct own {
	struct own_key keys[2]; /* in use, before */
	size_t count;
	uint8_t mac[32]; /* of refresh tokens */
};

struct keyring {
	char path[PATH_SIZE];
	pthread_rwlock_t lock; /* of all below */
	struct own own;
	struct jwk_set own_public;
	struct jwk_set others;  /* of files */
	struct jwk_set fetched; /* of jwt_jwks_url */
	atomic_bool wants_fetch;
};

static int
say(char *why, size_t size, const char *what, const char *path, int err)
{
	snprintf(why, size, "%s %s: %s", what, path, err_name(err));
	return err;
}

/* Our own ------------------------------------------------------------------ */

static void
make_key(struct own_key *k)
{
	char id[RAND_ID_SIZE];

	rand_id("k", id);
	memcpy(k->kid, id, KID);
	rand_fill(k->seed, sizeof(k->seed));
	k->made_at = clock_wall();
}

static void
put_bytes(struct js_writer *w, const char *key, const uint8_t *bytes, size_t n)
{
	struct buf b;

	buf_init(&b, 256);
	enc_put_base64(&b, (struct slice){ bytes, n }, ENC_URL_BARE);
	js_kv_string(w, key, buf_peek(&b));
	buf_fini(&b);
}

static int
write_own(const char *path, const struct own *own)
{
	struct js_writer w;
	struct buf text;

	buf_init(&text, FILE_MAX);
	js_write(&w, &text);
	js_begin_object(&w);
	js_kv_u64(&w, "version", 1);
	put_bytes(&w, "refresh", own->mac, sizeof(own->mac));
	js_kv_array(&w, "keys");
	for (size_t i = 0; i < own->count; i++) {
		js_begin_object(&w);
		js_kv_string(&w, "kid", slice_from(own->keys[i].kid));
		js_kv_string(&w, "alg", SL("EdDSA"));
		js_kv_i64(&w, "made_at", own->keys[i].made_at);
		put_bytes(&w, "seed", own->keys[i].seed, ED25519_KEY);
		js_end(&w);
	}
	js_end(&w);
	js_end(&w);
	int err = js_finish(&w);
	buf_put_byte(&text, '\n');
	if (err == 0)
		err = text.err;
	if (err == 0)
		err =
		    file_write_atomic(&file_real, path, buf_peek(&text), 0600);
	if (text.mem != NULL)
		OPENSSL_cleanse(text.mem, text.alloc);
	buf_fini(&text);
	return err;
}

static int
get_bytes(struct js_fields *f, const char *name, uint8_t *out, size_t len)
{
	struct slice text;
	struct buf b;

	js_need_string(f, name, &text);
	if (f->err != 0)
		return ERR_CORRUPT;
	buf_init(&b, 256);
	int err = enc_get_base64(text, ENC_URL_BARE, &b);
	if (err == 0 && buf_peek(&b).len == len)
		memcpy(out, buf_peek(&b).ptr, len);
	else
		err = ERR_CORRUPT;
	buf_fini(&b);
	return err;
}

static int
read_one(struct js_value v, struct own_key *k)
{
	struct js_fields f;
	struct slice kid, alg;

	js_fields_init(&f, v);
	js_need_string(&f, "kid", &kid);
	js_need_string(&f, "alg", &alg);
	js_need_i64(&f, "made_at", 0, INT64_MAX, &k->made_at);
	if (f.err != 0 || !slice_eq(alg, SL("EdDSA")) ||
	    slice_cstr(kid, k->kid, sizeof(k->kid)) != 0)
		return ERR_CORRUPT;
	return get_bytes(&f, "seed", k->seed, ED25519_KEY);
}

static int
parse_own(struct slice text, struct arena *a, struct own *own)
{
	const struct js_limits limits = { FILE_MAX, 8 };
	struct js_doc doc;
	struct js_fields f;
	struct js_value keys, one;
	int64_t version;

	if (js_parse(&doc, text, &limits, a) != 0 || doc.repeated.ptr != NULL)
		return ERR_CORRUPT;
	js_fields_init(&f, js_root(&doc));
	js_need_i64(&f, "version", 1, INT64_MAX, &version);
	js_need_kind(&f, "keys", JS_ARRAY, &keys);
	if (f.err != 0 || js_count(keys) == 0 || js_count(keys) > 2)
		return ERR_CORRUPT;
	if (version > 1)
		return ERR_NEWER;
	int err = get_bytes(&f, "refresh", own->mac, sizeof(own->mac));
	struct js_walk w = js_walk(keys);
	while (err == 0 && js_next(&w, NULL, &one))
		err = read_one(one, &own->keys[own->count++]);
	return err;
}

static int
read_own(const char *path, struct own *own)
{
	struct slice text;
	struct arena a;

	memset(own, 0, sizeof(*own));
	arena_init(&a, ARENA_MAX);
	int err = file_read_all(&file_real, path, FILE_MAX, &a, &text);
	if (err == 0)
		err = parse_own(text, &a, own);
	arena_fini(&a);
	if (err != ERR_NOT_FOUND)
		return err;
	make_key(&own->keys[0]);
	own->count = 1;
	rand_fill(own->mac, sizeof(own->mac));
	return write_own(path, own);
}

static int
publish(const struct own *own, struct jwk_set *out)
{
	uint8_t key[ED25519_KEY];
	int err = 0;

	for (size_t i = 0; err == 0 && i < own->count; i++) {
		err = token_public_key(own->keys[i].seed, key);
		if (err == 0)
			err = jwk_add_ed25519(
			    out, slice_from(own->keys[i].kid), key);
	}
	return err;
}

int
keyring_rotate(const char *dir, char *why, size_t size)
{
	char path[PATH_SIZE];
	struct own own;

	snprintf(path, sizeof(path), "%s/keys.json", dir);
	int err = read_own(path, &own);
	if (err != 0)
		return say(why, size, "cannot read", path, err);
	own.keys[1] = own.keys[0];
	own.count = 2;
	make_key(&own.keys[0]);
	err = write_own(path, &own);
	OPENSSL_cleanse(&own, sizeof(own));
	return err == 0 ? 0 : say(why, size, "cannot write", path, err);
}

/* Other issuers' ----------------------------------------------------------- */

static int
read_secret(struct slice text, struct jwk_set *out)
{
	/* One end of line is the editor's, not the secret's. */
	if (slice_ends(text, SL("\n")))
		text = slice_first(text, text.len - 1);
	if (slice_ends(text, SL("\r")))
		text = slice_first(text, text.len - 1);
	if (text.len < SHORT_SECRET)
		log_warn("jwt_secret_is_short", kv_u("bytes", text.len),
		    kv_u("should_have", SHORT_SECRET));
	return jwk_add_secret(out, (struct slice){ 0 }, text);
}

static int
read_keys(struct slice text, struct arena *a, struct jwk_set *out)
{
	size_t at = 0;

	while (at < text.len &&
	    (text.ptr[at] == ' ' || text.ptr[at] == '\n' ||
		text.ptr[at] == '\r' || text.ptr[at] == '\t'))
		at++;
	if (at < text.len && text.ptr[at] == '{')
		return jwk_read(out, text, a);
	return jwk_read_pem(out, text);
}

static int
read_file(
    struct slice name, bool secret, struct jwk_set *out, char *why, size_t size)
{
	char path[PATH_SIZE];
	struct slice text;
	struct arena a;

	if (name.len == 0)
		return 0;
	if (slice_cstr(name, path, sizeof(path)) != 0)
		return ERR_TOO_BIG;
	arena_init(&a, ARENA_MAX);
	int err = file_read_all(&file_real, path, FILE_MAX, &a, &text);
	if (err == 0)
		err =
		    secret ? read_secret(text, out) : read_keys(text, &a, out);
	arena_fini(&a);
	return err == 0 ? 0 : say(why, size, "cannot read keys of", path, err);
}

static int
read_others(
    const struct settings *s, struct jwk_set *out, char *why, size_t size)
{
	int err = read_file(s->jwt_hs256_secret_file, true, out, why, size);

	return err != 0 ? err
			: read_file(s->jwt_keys_file, false, out, why, size);
}

int
keyring_check(const char *path, bool is_secret, char *why, size_t size)
{
	struct jwk_set keys = { 0 };
	int err = read_file(slice_from(path), is_secret, &keys, why, size);

	jwk_set_fini(&keys);
	return err;
}

/* Life --------------------------------------------------------------------- */

int
keyring_reload(
    struct keyring *k, const struct settings *s, char *why, size_t size)
{
	struct own own;
	struct jwk_set public = { 0 }, others = { 0 };
	int err = read_own(k->path, &own);

	if (err != 0)
		return say(why, size, "cannot read or make", k->path, err);
	err = publish(&own, &public);
	if (err != 0)
		say(why, size, "cannot use", k->path, err);
	if (err == 0)
		err = read_others(s, &others, why, size);
	if (err != 0) {
		jwk_set_fini(&public);
		jwk_set_fini(&others);
		return err;
	}
	pthread_rwlock_wrlock(&k->lock);
	jwk_set_fini(&k->own_public);
	jwk_set_fini(&k->others);
	k->own = own;
	k->own_public = public;
	k->others = others;
	pthread_rwlock_unlock(&k->lock);
	OPENSSL_cleanse(&own, sizeof(own));
	return 0;
}

int
keyring_open(struct keyring **out, const char *dir, const struct settings *s,
    char *why, size_t size)
{
	struct keyring *k = alloc_new(sizeof(*k));

	if (k == NULL)
		return ERR_NOMEM;
	snprintf(k->path, sizeof(k->path), "%s/keys.json", dir);
	pthread_rwlock_init(&k->lock, NULL);
	int err = keyring_reload(k, s, why, size);
	if (err != 0)
		keyring_free(k);
	else
		*out = k;
	return err;
}

void
keyring_free(struct keyring *k)
{
	if (k == NULL)
		return;
	jwk_set_fini(&k->own_public);
	jwk_set_fini(&k->others);
	jwk_set_fini(&k->fetched);
	pthread_rwlock_destroy(&k->lock);
	OPENSSL_cleanse(&k->own, sizeof(k->own));
	alloc_free(k);
}

int
keyring_fetched(struct keyring *k, struct slice text)
{
	struct jwk_set fresh = { 0 };
	struct arena a;

	arena_init(&a, ARENA_MAX);
	int err = jwk_read(&fresh, text, &a);
	arena_fini(&a);
	if (err != 0)
		return err;
	/* Whoever answers at a URL knows no secret of ours. */
	if (fresh.keys[0].pkey == NULL) {
		jwk_set_fini(&fresh);
		return ERR_UNSUPPORTED;
	}
	pthread_rwlock_wrlock(&k->lock);
	jwk_set_fini(&k->fetched);
	k->fetched = fresh;
	pthread_rwlock_unlock(&k->lock);
	return 0;
}

bool
keyring_wants_fetch(struct keyring *k)
{
	return atomic_exchange(&k->wants_fetch, false);
}

/* Use ---------------------------------------------------------------------- */

int
keyring_verify(struct keyring *k, const struct jws *j, bool *own)
{
	pthread_rwlock_rdlock(&k->lock);
	/* Ours always say which key it was. */
	int err =
	    j->kid.ptr == NULL ? ERR_NOT_FOUND : jws_verify(j, &k->own_public);
	*own = err == 0;
	if (err == ERR_NOT_FOUND)
		err = jws_verify(j, &k->others);
	if (err == ERR_NOT_FOUND || (err == ERR_DENIED && !*own)) {
		int other = jws_verify(j, &k->fetched);
		if (other == 0 || err == ERR_NOT_FOUND)
			err = other;
	}
	pthread_rwlock_unlock(&k->lock);
	if (err == ERR_NOT_FOUND)
		atomic_store(&k->wants_fetch, true);
	return err == ERR_NOT_FOUND ? ERR_DENIED : err;
}

void
keyring_sign(struct keyring *k, struct slice claims, struct buf *out)
{
	pthread_rwlock_rdlock(&k->lock);
	const struct own_key *key = &k->own.keys[0];
	jws_write_ed25519(out, slice_from(key->kid), key->seed, claims);
	pthread_rwlock_unlock(&k->lock);
}

/* Texts of logins ---------------------------------------------------------- */

enum { ID_TEXT = 20, PREFIX = 4 };

/* "mrt_" or "mss_", then the id behind its own prefix, then random. */
static size_t
put_text(const char *prefix, const char *login_id, char *out)
{
	char text[RAND_TOKEN_SIZE];

	memcpy(out, prefix, PREFIX);
	memcpy(out + PREFIX, login_id + PREFIX, ID_TEXT);
	rand_token("", text);
	memcpy(out + PREFIX + ID_TEXT, text, RANDOM_TEXT);
	return PREFIX + ID_TEXT + RANDOM_TEXT;
}

static bool
get_id(struct slice text, const char *prefix, size_t len, char *login_id)
{
	if (text.len != len || memcmp(text.ptr, prefix, PREFIX) != 0)
		return false;
	memcpy(login_id, "lgn_", PREFIX);
	memcpy(login_id + PREFIX, text.ptr + PREFIX, ID_TEXT);
	login_id[PREFIX + ID_TEXT] = '\0';
	return true;
}

static int
mac_of(struct keyring *k, struct slice text, char out[MAC_TEXT])
{
	uint8_t mac[SHA256_LEN];
	struct buf b;

	pthread_rwlock_rdlock(&k->lock);
	int err = token_hmac(
	    (struct slice){ k->own.mac, sizeof(k->own.mac) }, text, mac);
	pthread_rwlock_unlock(&k->lock);
	buf_init(&b, 64);
	enc_put_base32(&b, (struct slice){ mac, 16 });
	if (err == 0)
		err = b.err;
	if (err == 0)
		memcpy(out, buf_peek(&b).ptr, MAC_TEXT);
	buf_fini(&b);
	return err;
}

int
keyring_make_refresh(struct keyring *k, const char login_id[KEYRING_LOGIN],
    char out[KEYRING_TEXT])
{
	size_t n = put_text("mrt_", login_id, out);

	out[n + MAC_TEXT] = '\0';
	return mac_of(k, (struct slice){ (uint8_t *)out, n }, out + n);
}

void
keyring_make_cookie(const char login_id[KEYRING_LOGIN], char out[KEYRING_TEXT])
{
	out[put_text("mss_", login_id, out)] = '\0';
}

bool
keyring_read_refresh(
    struct keyring *k, struct slice text, char login_id[KEYRING_LOGIN + 1])
{
	const size_t n = PREFIX + ID_TEXT + RANDOM_TEXT;
	char mac[MAC_TEXT];

	if (!get_id(text, "mrt_", n + MAC_TEXT, login_id) ||
	    mac_of(k, slice_first(text, n), mac) != 0)
		return false;
	return token_equal(
	    slice_from_at(text, n), (struct slice){ (uint8_t *)mac, MAC_TEXT });
}

bool
keyring_read_cookie(struct slice text, char login_id[KEYRING_LOGIN + 1])
{
	return get_id(text, "mss_", PREFIX + ID_TEXT + RANDOM_TEXT, login_id);
}
