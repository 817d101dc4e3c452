#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "wire/enc.h"
#include "wire/jws.h"
#include "wire/token.h"

static int
decode(struct slice text, struct arena *a, struct slice *out)
{
	struct buf raw;

	buf_init(&raw, JWS_TEXT);
	int err = enc_get_base64(text, ENC_URL_BARE, &raw);
	if (err == 0)
		err = arena_copy(a, buf_peek(&raw), out);
	buf_fini(&raw);
	return err == 0 || err == ERR_NOMEM ? err : ERR_INVALID;
}

/*
 * RFC 7515 4.1.11: whoever does not understand what `crit` names refuses;
 * we know no extension, so `crit` itself is refused, and `b64` (RFC 7797),
 * which must be named there, with it.  typ, cty and the key's own copies
 * (jwk, jku, x5c, x5u) are not looked at: keys come from the receiver.
 */
static int
read_header(struct jws *j, struct arena *a)
{
	const struct js_limits limits = { JWS_TEXT, 16 };
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields f;
	struct slice alg;

	if (doc == NULL)
		return ERR_NOMEM;
	int err = js_parse(doc, j->header, &limits, a);
	if (err != 0)
		return err == ERR_NOMEM ? err : ERR_INVALID;
	if (doc->repeated.ptr != NULL)
		return ERR_DUPLICATE;
	js_fields_init(&f, js_root(doc));
	js_need_string(&f, "alg", &alg);
	js_opt_string(&f, "kid", &j->kid);
	if (js_root(doc).kind != JS_OBJECT || f.err != 0)
		return ERR_INVALID;
	j->alg = jws_alg_of(alg);
	return j->alg == JWS_NONE ||
		js_get(js_root(doc), "crit").kind != JS_NONE ||
		js_get(js_root(doc), "b64").kind != JS_NONE
	    ? ERR_UNSUPPORTED
	    : 0;
}

int
jws_read(struct jws *j, struct slice text, struct arena *a)
{
	struct slice rest = text, part[3] = { 0 };

	if (text.len > JWS_TEXT)
		return ERR_TOO_BIG;
	for (int i = 0; i < 3; i++) {
		if (!slice_split(&rest, '.', &part[i]))
			return ERR_INVALID;
	}
	/* An empty payload is one; an empty signature never is. */
	if (rest.ptr != NULL || part[0].len == 0 || part[2].len == 0)
		return ERR_INVALID;
	*j = (struct jws){ .text = slice_first(
			       text, part[0].len + 1 + part[1].len) };
	int err = decode(part[0], a, &j->header);
	if (err == 0)
		err = decode(part[1], a, &j->payload);
	if (err == 0)
		err = decode(part[2], a, &j->signature);
	return err != 0 ? err : read_header(j, a);
}

/* Signatures ------------------------------------------------------------- */

static const EVP_MD *
digest_of(enum jws_alg alg)
{
	switch (alg) {
	case JWS_HS256:
	case JWS_RS256:
	case JWS_PS256:
	case JWS_ES256:
		return EVP_sha256();
	case JWS_HS384:
	case JWS_RS384:
	case JWS_PS384:
	case JWS_ES384:
		return EVP_sha384();
	case JWS_HS512:
	case JWS_RS512:
	case JWS_PS512:
	case JWS_ES512:
		return EVP_sha512();
	case JWS_NONE:
	case JWS_EDDSA:
	case JWS_ALGS:
		break;
	}
	return NULL;
}

static int
verify_hmac(const struct jws *j, const struct jwk *key)
{
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned n = sizeof(mac);

	if (HMAC(digest_of(j->alg), key->secret.ptr, (int)key->secret.len,
		j->text.ptr, j->text.len, mac, &n) == NULL)
		return ERR_NOMEM;
	return token_equal((struct slice){ mac, n }, j->signature) ? 0
								   : ERR_DENIED;
}

/* RFC 7518 3.4: r and s, each as long as the curve's order; OpenSSL takes
 * them as DER. */
static int
ecdsa_der(const struct jws *j, uint8_t **der, int *len)
{
	static const size_t bytes[] = {
		[JWS_ES256] = 32, [JWS_ES384] = 48, [JWS_ES512] = 66
	};
	size_t half = bytes[j->alg];

	if (j->signature.len != 2 * half)
		return ERR_DENIED;
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(j->signature.ptr, (int)half, NULL);
	BIGNUM *s = BN_bin2bn(j->signature.ptr + half, (int)half, NULL);
	if (sig == NULL || r == NULL || s == NULL ||
	    ECDSA_SIG_set0(sig, r, s) != 1) {
		BN_free(r);
		BN_free(s);
		ECDSA_SIG_free(sig);
		return ERR_NOMEM;
	}
	*der = NULL;
	*len = i2d_ECDSA_SIG(sig, der);
	ECDSA_SIG_free(sig);
	return *len <= 0 ? ERR_NOMEM : 0;
}

/* RFC 7518 3.5: MGF1 with the same hash, a salt as long as the hash. */
static bool
set_padding(EVP_PKEY_CTX *ctx, enum jws_alg alg)
{
	if (alg < JWS_PS256 || alg > JWS_PS512)
		return true;
	return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
	    EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static int
verify_pkey(const struct jws *j, EVP_PKEY *pkey, struct slice sig)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *ctx = NULL;
	int err = ERR_NOMEM;

	if (md != NULL &&
	    EVP_DigestVerifyInit(md, &ctx, digest_of(j->alg), NULL, pkey) ==
		1 &&
	    set_padding(ctx, j->alg))
		err = EVP_DigestVerify(
			  md, sig.ptr, sig.len, j->text.ptr, j->text.len) == 1
		    ? 0
		    : ERR_DENIED;
	EVP_MD_CTX_free(md);
	return err;
}

static int
verify_one(const struct jws *j, const struct jwk *key)
{
	struct slice sig = j->signature;
	uint8_t *der = NULL;
	int len = 0;

	if (j->alg <= JWS_HS512)
		return verify_hmac(j, key);
	if (j->alg < JWS_ES256 || j->alg > JWS_ES512)
		return verify_pkey(j, key->pkey, sig);
	int err = ecdsa_der(j, &der, &len);
	if (err == 0)
		err = verify_pkey(
		    j, key->pkey, (struct slice){ der, (size_t)len });
	OPENSSL_free(der);
	return err;
}

int
jws_verify(const struct jws *j, const struct jwk_set *keys)
{
	int err = ERR_NOT_FOUND;

	for (size_t i = 0; err != 0 && i < keys->count; i++) {
		const struct jwk *key = &keys->keys[i];
		bool named = j->kid.ptr != NULL && key->kid.ptr != NULL;
		if (key->alg == j->alg &&
		    (!named || slice_eq(key->kid, j->kid)))
			err = verify_one(j, key);
	}
	return err;
}

void
jws_write_ed25519(struct buf *out, struct slice kid, const uint8_t *seed,
    struct slice payload)
{
	uint8_t sig[ED25519_SIG];
	struct js_writer w;
	struct buf text;

	buf_init(&text, JWS_TEXT);
	struct buf header;
	buf_init(&header, JWS_TEXT);
	js_write_ascii(&w, &header);
	js_begin_object(&w);
	js_kv_string(&w, "alg", SL("EdDSA"));
	js_kv_string(&w, "kid", kid);
	js_kv_string(&w, "typ", SL("JWT"));
	js_end(&w);
	int err = js_finish(&w);
	enc_put_base64(&text, buf_peek(&header), ENC_URL_BARE);
	buf_put_byte(&text, '.');
	enc_put_base64(&text, payload, ENC_URL_BARE);
	if (err == 0)
		err = text.err;
	if (err == 0)
		err = token_sign(seed, buf_peek(&text), sig);
	if (err == 0) {
		buf_put_byte(&text, '.');
		enc_put_base64(
		    &text, (struct slice){ sig, sizeof(sig) }, ENC_URL_BARE);
		buf_put(out, buf_peek(&text));
		err = text.err;
	}
	if (err != 0 && out->err == 0)
		out->err = err;
	buf_fini(&header);
	buf_fini(&text);
}
