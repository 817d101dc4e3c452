#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"

#include "wire/enc.h"
#include "wire/jwk.h"

static const struct slice names[JWS_ALGS] = {
	[JWS_NONE] = SL_INIT("none"),
	[JWS_HS256] = SL_INIT("HS256"),
	[JWS_HS384] = SL_INIT("HS384"),
	[JWS_HS512] = SL_INIT("HS512"),
	[JWS_RS256] = SL_INIT("RS256"),
	[JWS_RS384] = SL_INIT("RS384"),
	[JWS_RS512] = SL_INIT("RS512"),
	[JWS_PS256] = SL_INIT("PS256"),
	[JWS_PS384] = SL_INIT("PS384"),
	[JWS_PS512] = SL_INIT("PS512"),
	[JWS_ES256] = SL_INIT("ES256"),
	[JWS_ES384] = SL_INIT("ES384"),
	[JWS_ES512] = SL_INIT("ES512"),
	[JWS_EDDSA] = SL_INIT("EdDSA"),
};

enum jws_alg
jws_alg_of(struct slice name)
{
	enum jws_alg alg = JWS_ALGS - 1;

	while (alg != JWS_NONE && !slice_eq(names[alg], name))
		alg--;
	return alg;
}

struct slice
jws_alg_name(enum jws_alg alg)
{
	return names[alg];
}

/* Sets ------------------------------------------------------------------- */

static void
slice_free(struct slice *s)
{
	/* Owned bytes were made by slice_keep. */
	alloc_free((void *)(uintptr_t)s->ptr);
	*s = (struct slice){ 0 };
}

static int
slice_keep(struct slice *out, struct slice s)
{
	uint8_t *mem;

	*out = (struct slice){ 0 };
	if (s.ptr == NULL)
		return 0;
	if ((mem = alloc_new(s.len + 1)) == NULL)
		return ERR_NOMEM;
	if (s.len > 0)
		memcpy(mem, s.ptr, s.len);
	*out = (struct slice){ mem, s.len };
	return 0;
}

static void
key_fini(struct jwk *key)
{
	if (key->secret.ptr != NULL)
		OPENSSL_cleanse(
		    (void *)(uintptr_t)key->secret.ptr, key->secret.len);
	slice_free(&key->secret);
	slice_free(&key->kid);
	EVP_PKEY_free(key->pkey);
	*key = (struct jwk){ 0 };
}

static void
set_cut(struct jwk_set *set, size_t count)
{
	while (set->count > count)
		key_fini(&set->keys[--set->count]);
}

void
jwk_set_fini(struct jwk_set *set)
{
	set_cut(set, 0);
	set->skipped = 0;
}

/* Takes the key, on failure too. */
static int
set_take(struct jwk_set *set, struct jwk *key)
{
	int err = set->count == JWK_KEYS ? ERR_FULL : 0;

	for (size_t i = 0; err == 0 && i < set->count; i++) {
		if (key->kid.ptr != NULL &&
		    slice_eq(set->keys[i].kid, key->kid))
			err = ERR_DUPLICATE;
	}
	if (err != 0)
		key_fini(key);
	else
		set->keys[set->count++] = *key;
	return err;
}

int
jwk_add_secret(struct jwk_set *set, struct slice kid, struct slice secret)
{
	struct jwk key = { .alg = JWS_HS256 };

	if (secret.len == 0 || kid.len > JWK_KID)
		return ERR_INVALID;
	if (slice_keep(&key.kid, kid) != 0 ||
	    slice_keep(&key.secret, secret) != 0) {
		key_fini(&key);
		return ERR_NOMEM;
	}
	return set_take(set, &key);
}

int
jwk_add_ed25519(struct jwk_set *set, struct slice kid, const uint8_t *raw)
{
	struct jwk key = { .alg = JWS_EDDSA };

	if (kid.len > JWK_KID)
		return ERR_INVALID;
	key.pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, 32);
	if (key.pkey == NULL)
		return ERR_INVALID;
	if (slice_keep(&key.kid, kid) != 0) {
		key_fini(&key);
		return ERR_NOMEM;
	}
	return set_take(set, &key);
}

/* What a public key may be ----------------------------------------------- */

/*
 * RSA moduli of a well-known smart card library lie, modulo each of these
 * primes, in the group that 65537 generates (CVE-2017-15361); they can be
 * factored, and other moduli do so with a probability of 2^-27 or less.
 */
static bool
weak_modulus(const BIGNUM *n)
{
	static const uint8_t primes[] = { 3, 5, 7, 11, 13, 17, 19, 23, 29, 31,
		37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101,
		103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163,
		167 };

	for (size_t i = 0; i < sizeof(primes); i++) {
		unsigned p = primes[i], power = 1, left = p;
		unsigned want = (unsigned)BN_mod_word(n, p);
		while (power != want && left-- > 0)
			power = power * (65537 % p) % p;
		if (power != want)
			return false;
	}
	return true;
}

static int
check_rsa(const EVP_PKEY *pkey)
{
	BIGNUM *n = NULL, *e = NULL;
	int bits = EVP_PKEY_get_bits(pkey);
	int err = ERR_NOMEM;

	if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
	    EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1) {
		bool good = bits >= JWK_RSA_BITS && bits <= JWK_RSA_BITS_MAX &&
		    BN_is_odd(n) && BN_is_odd(e) && !BN_is_one(e) &&
		    BN_num_bits(e) <= 64 && !weak_modulus(n);
		err = good ? 0 : ERR_UNSUPPORTED;
	}
	BN_free(n);
	BN_free(e);
	return err;
}

static const struct curve {
	const char *jwk;   /* RFC 7518 6.2.1.1 */
	const char *group; /* OpenSSL's name */
	size_t bytes;
	enum jws_alg alg;
} curves[] = {
	{ "P-256", "prime256v1", 32, JWS_ES256 },
	{ "P-384", "secp384r1", 48, JWS_ES384 },
	{ "P-521", "secp521r1", 66, JWS_ES512 },
};
enum { CURVES = sizeof(curves) / sizeof(*curves) };

static int
check_ec(const EVP_PKEY *pkey, enum jws_alg *alg)
{
	char group[64];
	size_t n;

	if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &n) != 1)
		return ERR_UNSUPPORTED;
	for (size_t i = 0; i < CURVES; i++) {
		if (strcmp(group, curves[i].group) == 0) {
			*alg = curves[i].alg;
			return 0;
		}
	}
	return ERR_UNSUPPORTED;
}

/* The algorithm of a key that names none. */
static int
check_pkey(const EVP_PKEY *pkey, enum jws_alg *alg)
{
	switch (EVP_PKEY_get_base_id(pkey)) {
	case EVP_PKEY_RSA:
		*alg = JWS_RS256;
		return check_rsa(pkey);
	case EVP_PKEY_EC:
		return check_ec(pkey, alg);
	case EVP_PKEY_ED25519:
		*alg = JWS_EDDSA;
		return 0;
	default:
		return ERR_UNSUPPORTED;
	}
}

/* PEM -------------------------------------------------------------------- */

/* One line of base64 after another, in any width; blanks are no part. */
static int
pem_body(struct slice text, struct buf *out)
{
	struct buf joined;
	struct slice line;

	buf_init(&joined, JWK_TEXT);
	while (slice_split(&text, '\n', &line)) {
		if (slice_ends(line, SL("\r")))
			line = slice_first(line, line.len - 1);
		buf_put(&joined, slice_trim(line));
	}
	int err = joined.err != 0
	    ? joined.err
	    : enc_get_base64(buf_peek(&joined), ENC_STD, out);
	buf_fini(&joined);
	return err;
}

static int
add_der(struct jwk_set *set, struct slice der)
{
	struct jwk key = { 0 };
	const unsigned char *at = der.ptr;
	int err = ERR_INVALID;

	key.pkey = d2i_PUBKEY(NULL, &at, (long)der.len);
	if (key.pkey != NULL && at == der.ptr + der.len)
		err = check_pkey(key.pkey, &key.alg);
	if (err != 0) {
		key_fini(&key);
		return err;
	}
	return set_take(set, &key);
}

static size_t
find(struct slice in, struct slice what)
{
	size_t at = 0;

	while (at < in.len && !slice_starts(slice_from_at(in, at), what))
		at++;
	return at;
}

int
jwk_read_pem(struct jwk_set *set, struct slice text)
{
	const struct slice begin = SL("-----BEGIN PUBLIC KEY-----");
	const struct slice end = SL("-----END PUBLIC KEY-----");
	size_t before = set->count, at;
	int err = text.len > JWK_TEXT ? ERR_TOO_BIG : 0;
	struct buf der;

	buf_init(&der, JWK_TEXT);
	while (err == 0 && (at = find(text, begin)) < text.len) {
		text = slice_from_at(text, at + begin.len);
		if ((at = find(text, end)) == text.len)
			err = ERR_INVALID;
		if (err == 0)
			err = pem_body(slice_first(text, at), &der);
		if (err == 0)
			err = add_der(set, buf_peek(&der));
		text = slice_from_at(text, at + end.len);
		buf_clear(&der);
	}
	buf_fini(&der);
	if (err == 0 && set->count == before)
		err = ERR_MISSING;
	if (err != 0)
		set_cut(set, before);
	return err;
}

/* JWK -------------------------------------------------------------------- */

struct member {
	uint8_t bytes[JWK_RSA_BITS_MAX / 8 + 8];
	size_t len;
};

static int
get_bytes(struct js_fields *f, const char *name, struct member *out)
{
	struct slice text;
	struct buf raw;

	js_need_string(f, name, &text);
	if (f->err != 0)
		return ERR_INVALID;
	buf_init(&raw, sizeof(out->bytes));
	int err = enc_get_base64(text, ENC_URL_BARE, &raw);
	if (err == 0) {
		out->len = buf_peek(&raw).len;
		if (out->len > 0)
			memcpy(out->bytes, buf_peek(&raw).ptr, out->len);
	}
	buf_fini(&raw);
	return err == ERR_NOMEM ? ERR_NOMEM : err != 0 ? ERR_INVALID : 0;
}

static int
make_pkey(const char *type, OSSL_PARAM *params, EVP_PKEY **out)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	int err = ERR_NOMEM;

	if (ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
		err = EVP_PKEY_fromdata(
			  ctx, out, EVP_PKEY_PUBLIC_KEY, params) == 1
		    ? 0
		    : ERR_INVALID;
	EVP_PKEY_CTX_free(ctx);
	return err;
}

/* OSSL_PARAM wants integers in the machine's order. */
static void
reverse(struct member *m)
{
	for (size_t i = 0; i < m->len / 2; i++) {
		uint8_t c = m->bytes[i];
		m->bytes[i] = m->bytes[m->len - 1 - i];
		m->bytes[m->len - 1 - i] = c;
	}
}

static int
read_rsa(struct js_fields *f, EVP_PKEY **out)
{
	struct member n, e;
	int err = get_bytes(f, "n", &n);

	if (err == 0)
		err = get_bytes(f, "e", &e);
	if (err != 0 || n.len == 0 || e.len == 0)
		return err != 0 ? err : ERR_INVALID;
	reverse(&n);
	reverse(&e);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N, n.bytes, n.len),
		OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_E, e.bytes, e.len),
		OSSL_PARAM_construct_end(),
	};
	return make_pkey("RSA", params, out);
}

static int
read_ec(struct js_fields *f, EVP_PKEY **out)
{
	struct member x, y;
	struct slice crv;
	uint8_t point[1 + 2 * 66] = { 4 }; /* uncompressed */
	char group[16];
	size_t i = 0;

	js_need_string(f, "crv", &crv);
	if (f->err != 0)
		return ERR_INVALID;
	while (i < CURVES && !slice_eq(slice_from(curves[i].jwk), crv))
		i++;
	if (i == CURVES)
		return ERR_UNSUPPORTED;
	size_t size = curves[i].bytes;
	int err = get_bytes(f, "x", &x);
	if (err == 0)
		err = get_bytes(f, "y", &y);
	if (err != 0 || x.len != size || y.len != size)
		return err != 0 ? err : ERR_INVALID;
	memcpy(point + 1, x.bytes, size);
	memcpy(point + 1 + size, y.bytes, size);
	slice_cstr(slice_from(curves[i].group), group, sizeof(group));
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(
		    OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
		OSSL_PARAM_construct_octet_string(
		    OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size),
		OSSL_PARAM_construct_end(),
	};
	return make_pkey("EC", params, out);
}

static int
read_okp(struct js_fields *f, EVP_PKEY **out)
{
	struct member x;
	struct slice crv;

	js_need_string(f, "crv", &crv);
	if (f->err != 0)
		return ERR_INVALID;
	if (!slice_eq(crv, SL("Ed25519")))
		return ERR_UNSUPPORTED;
	int err = get_bytes(f, "x", &x);
	if (err != 0 || x.len != 32)
		return err != 0 ? err : ERR_INVALID;
	*out =
	    EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x.bytes, x.len);
	return *out == NULL ? ERR_INVALID : 0;
}

/* RFC 7518 3.2: a key of the hash's size or more. */
static int
read_oct(struct js_fields *f, struct jwk *key)
{
	static const uint8_t least[] = {
		[JWS_HS256] = 32, [JWS_HS384] = 48, [JWS_HS512] = 64
	};
	struct member k;
	int err = get_bytes(f, "k", &k);

	if (err == 0 && key->alg == JWS_NONE)
		key->alg = JWS_HS256;
	if (err == 0 && (key->alg > JWS_HS512 || k.len < least[key->alg]))
		err = ERR_UNSUPPORTED;
	if (err == 0)
		err =
		    slice_keep(&key->secret, (struct slice){ k.bytes, k.len });
	OPENSSL_cleanse(&k, sizeof(k));
	return err;
}

/* RSA keys choose; a curve has one algorithm. */
static bool
alg_fits(enum jws_alg named, enum jws_alg own)
{
	return named == own ||
	    (own == JWS_RS256 && named >= JWS_RS256 && named <= JWS_PS512);
}

static int
read_public(struct js_fields *f, struct slice kty, struct jwk *key)
{
	enum jws_alg own = JWS_NONE;
	int err = ERR_UNSUPPORTED;

	if (slice_eq(kty, SL("RSA")))
		err = read_rsa(f, &key->pkey);
	else if (slice_eq(kty, SL("EC")))
		err = read_ec(f, &key->pkey);
	else if (slice_eq(kty, SL("OKP")))
		err = read_okp(f, &key->pkey);
	if (err == 0)
		err = check_pkey(key->pkey, &own);
	if (err == 0 && key->alg == JWS_NONE)
		key->alg = own;
	if (err == 0 && !alg_fits(key->alg, own))
		err = ERR_UNSUPPORTED;
	return err;
}

/* RFC 7517 4.2 and 4.3. */
static bool
for_signatures(struct slice use, struct js_value ops)
{
	struct js_value one;
	struct slice op;
	bool verify = ops.kind == JS_NONE;

	for (struct js_walk w = js_walk(ops); js_next(&w, NULL, &one);)
		verify |=
		    js_string(one, &op) == 0 && slice_eq(op, SL("verify"));
	return verify && (use.ptr == NULL || slice_eq(use, SL("sig")));
}

static int
read_key(struct jwk_set *set, struct js_value v)
{
	struct jwk key = { 0 };
	struct slice kty, use, alg, kid;
	struct js_value ops;
	struct js_fields f;
	int err;

	js_fields_init(&f, v);
	js_need_string(&f, "kty", &kty);
	js_opt_string(&f, "use", &use);
	js_opt_string(&f, "alg", &alg);
	js_opt_string(&f, "kid", &kid);
	js_opt_kind(&f, "key_ops", JS_ARRAY, &ops);
	if (f.err != 0 || kid.len > JWK_KID)
		return ERR_INVALID;
	if (alg.ptr != NULL)
		key.alg = jws_alg_of(alg);
	if (!for_signatures(use, ops) ||
	    (alg.ptr != NULL && key.alg == JWS_NONE))
		return ERR_UNSUPPORTED;
	if (slice_eq(kty, SL("oct")))
		err = read_oct(&f, &key);
	else
		err = read_public(&f, kty, &key);
	if (err == 0)
		err = slice_keep(&key.kid, kid);
	if (err != 0) {
		key_fini(&key);
		return err;
	}
	return set_take(set, &key);
}

static int
read_keys(struct jwk_set *set, struct js_value list)
{
	struct js_value one;
	size_t before = set->count;
	int err = 0;

	for (struct js_walk w = js_walk(list); js_next(&w, NULL, &one);) {
		err = read_key(set, one);
		if (err == ERR_UNSUPPORTED) {
			set->skipped++;
			err = 0;
		}
		if (err != 0)
			return err;
	}
	return set->count > before ? 0 : ERR_MISSING;
}

static bool
mixed(const struct jwk_set *set, size_t from)
{
	for (size_t i = from + 1; i < set->count; i++) {
		if ((set->keys[i].pkey == NULL) !=
		    (set->keys[from].pkey == NULL))
			return true;
	}
	return false;
}

int
jwk_read(struct jwk_set *set, struct slice text, struct arena *a)
{
	const struct js_limits limits = { JWK_TEXT, 16 };
	size_t before = set->count, skipped = set->skipped;
	struct js_doc doc;
	int err = js_parse(&doc, text, &limits, a);

	if (err != 0)
		return err;
	if (doc.repeated.ptr != NULL)
		return ERR_DUPLICATE;
	struct js_value root = js_root(&doc);
	struct js_value list = js_get(root, "keys");
	if (root.kind != JS_OBJECT)
		err = ERR_INVALID;
	else if (list.kind == JS_ARRAY)
		err = read_keys(set, list);
	else if (list.kind == JS_NONE)
		err = read_key(set, root);
	else
		err = ERR_INVALID;
	if (err == 0 && mixed(set, before))
		err = ERR_UNSUPPORTED;
	if (err != 0) {
		set_cut(set, before);
		set->skipped = skipped;
	}
	return err;
}
