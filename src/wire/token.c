#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/err.h"

#include "wire/token.h"

int
token_sha256(struct slice in, uint8_t out[SHA256_LEN])
{
	unsigned n = SHA256_LEN;

	return EVP_Digest(in.ptr, in.len, out, &n, EVP_sha256(), NULL) == 1
	    ? 0
	    : ERR_NOMEM;
}

int
token_hmac(struct slice key, struct slice in, uint8_t out[SHA256_LEN])
{
	unsigned n = SHA256_LEN;

	return HMAC(EVP_sha256(), key.ptr, (int)key.len, in.ptr, in.len, out,
		   &n) != NULL
	    ? 0
	    : ERR_NOMEM;
}

int
token_hasher_init(struct token_hasher *h)
{
	h->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	h->work = EVP_MD_CTX_new();
	if (h->md != NULL && h->work != NULL)
		return 0;
	token_hasher_fini(h);
	return ERR_NOMEM;
}

void
token_hasher_fini(struct token_hasher *h)
{
	EVP_MD_CTX_free(h->work);
	EVP_MD_free(h->md);
	*h = (struct token_hasher){ NULL, NULL };
}

int
token_hasher_sha256(struct token_hasher *h, struct slice a, struct slice b,
    uint8_t out[SHA256_LEN])
{
	unsigned n = SHA256_LEN;

	return EVP_DigestInit_ex2(h->work, h->md, NULL) == 1 &&
		EVP_DigestUpdate(h->work, a.ptr, a.len) == 1 &&
		EVP_DigestUpdate(h->work, b.ptr, b.len) == 1 &&
		EVP_DigestFinal_ex(h->work, out, &n) == 1
	    ? 0
	    : ERR_NOMEM;
}

enum { BLOCK = 64 }; /* of SHA-256 */

/* RFC 2104. */
int
token_hasher_hmac(struct token_hasher *h, struct slice key, struct slice in,
    uint8_t out[SHA256_LEN])
{
	const struct slice none = { 0 };
	uint8_t pad[BLOCK] = { 0 };
	const struct slice block = { pad, BLOCK };
	int err = 0;

	if (key.len > BLOCK)
		err = token_hasher_sha256(h, key, none, pad);
	else if (key.len > 0)
		memcpy(pad, key.ptr, key.len);
	for (size_t i = 0; i < BLOCK; i++)
		pad[i] ^= 0x36;
	if (err == 0)
		err = token_hasher_sha256(h, block, in, out);
	for (size_t i = 0; i < BLOCK; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	if (err == 0)
		err = token_hasher_sha256(
		    h, block, (struct slice){ out, SHA256_LEN }, out);
	OPENSSL_cleanse(pad, sizeof(pad));
	return err;
}

bool
token_equal(struct slice a, struct slice b)
{
	return a.len == b.len &&
	    (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}

static EVP_PKEY *
private_key(const uint8_t seed[ED25519_KEY])
{
	return EVP_PKEY_new_raw_private_key(
	    EVP_PKEY_ED25519, NULL, seed, ED25519_KEY);
}

int
token_public_key(const uint8_t seed[ED25519_KEY], uint8_t out[ED25519_KEY])
{
	EVP_PKEY *key = private_key(seed);
	size_t n = ED25519_KEY;
	int ok = key != NULL && EVP_PKEY_get_raw_public_key(key, out, &n) == 1;

	EVP_PKEY_free(key);
	return ok ? 0 : ERR_NOMEM;
}

int
token_sign(
    const uint8_t seed[ED25519_KEY], struct slice in, uint8_t out[ED25519_SIG])
{
	EVP_PKEY *key = private_key(seed);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t n = ED25519_SIG;
	int ok = key != NULL && ctx != NULL &&
	    EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestSign(ctx, out, &n, in.ptr, in.len) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return ok ? 0 : ERR_NOMEM;
}

int
token_verify(const uint8_t key[ED25519_KEY], struct slice in,
    const uint8_t sig[ED25519_SIG])
{
	EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(
	    EVP_PKEY_ED25519, NULL, key, ED25519_KEY);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int err = ERR_NOMEM;

	if (ctx != NULL) {
		/* A key that is no point of the curve fits nothing. */
		bool ok = pkey != NULL &&
		    EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
		    EVP_DigestVerify(ctx, sig, ED25519_SIG, in.ptr, in.len) ==
			1;
		err = ok ? 0 : ERR_DENIED;
	}
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	return err;
}

struct slice
token_cut_pin(struct slice text, struct slice *pin)
{
	enum { HEX = 64 };
	struct slice mark = SL(".sha256-");

	*pin = (struct slice){ 0 };
	if (text.len < mark.len + HEX)
		return text;
	size_t at = text.len - HEX - mark.len;
	if (!slice_starts(slice_from_at(text, at), mark))
		return text;
	*pin = slice_from_at(text, at + mark.len);
	return slice_first(text, at);
}
