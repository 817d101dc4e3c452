#include <limits.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/err.h"

#include "wire/enc.h"

#include "wire/seal.h"

enum { TEXT_MAX = 64 * 1024 };

/* One pass over owner and text: encrypting fills in the tag, decrypting
 * checks it. */
static bool
crypt(EVP_CIPHER_CTX *c, bool encrypt, struct slice owner, struct slice in,
    uint8_t *out, uint8_t tag[SEAL_TAG])
{
	int n = 0, last = 0;

	if (EVP_CipherUpdate(c, NULL, &n, owner.ptr, (int)owner.len) != 1 ||
	    EVP_CipherUpdate(c, out, &n, in.ptr, (int)in.len) != 1)
		return false;
	if (!encrypt &&
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, tag) != 1)
		return false;
	if (EVP_CipherFinal_ex(c, out + n, &last) != 1)
		return false;
	return !encrypt ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, tag) == 1;
}

static int
run(const uint8_t key[SEAL_KEY], const uint8_t *nonce, bool encrypt,
    struct slice owner, struct slice in, uint8_t *out, uint8_t *tag)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

	if (c == NULL ||
	    EVP_CipherInit_ex(
		c, EVP_aes_256_gcm(), NULL, key, nonce, encrypt) != 1) {
		EVP_CIPHER_CTX_free(c);
		return ERR_NOMEM;
	}
	bool ok = crypt(c, encrypt, owner, in, out, tag);
	EVP_CIPHER_CTX_free(c);
	return ok ? 0 : encrypt ? ERR_NOMEM : ERR_DENIED;
}

int
seal_put(const uint8_t key[SEAL_KEY], const uint8_t nonce[SEAL_NONCE],
    struct slice owner, struct slice secret, struct buf *out)
{
	struct buf b;

	if (secret.len > TEXT_MAX || owner.len > TEXT_MAX)
		return ERR_FULL;
	buf_init(&b, TEXT_MAX + SEAL_NONCE + SEAL_TAG);
	uint8_t *p = buf_reserve(&b, SEAL_NONCE + secret.len + SEAL_TAG);
	if (p == NULL)
		return b.err;
	memcpy(p, nonce, SEAL_NONCE);
	int err = run(key, nonce, true, owner, secret, p + SEAL_NONCE,
	    p + SEAL_NONCE + secret.len);
	buf_commit(&b, SEAL_NONCE + secret.len + SEAL_TAG);
	if (err == 0) {
		enc_put_base64(out, buf_peek(&b), ENC_STD);
		err = out->err;
	}
	buf_fini(&b);
	return err;
}

/* The bytes of a sealed text, opened into out. */
static int
open_bytes(const uint8_t key[SEAL_KEY], struct slice owner, struct slice all,
    struct buf *out)
{
	uint8_t tag[SEAL_TAG];

	if (all.len < SEAL_NONCE + SEAL_TAG)
		return ERR_DENIED;
	struct slice text = { all.ptr + SEAL_NONCE,
		all.len - SEAL_NONCE - SEAL_TAG };
	memcpy(tag, text.ptr + text.len, SEAL_TAG);
	/* One more: an empty secret needs a place, too. */
	uint8_t *p = buf_reserve(out, text.len + 1);
	if (p == NULL)
		return out->err;
	int err = run(key, all.ptr, false, owner, text, p, tag);
	if (err == 0)
		buf_commit(out, text.len);
	else
		OPENSSL_cleanse(p, text.len);
	return err;
}

int
seal_open(const uint8_t key[SEAL_KEY], struct slice owner, struct slice sealed,
    struct buf *out)
{
	struct buf b;

	buf_init(&b, TEXT_MAX + SEAL_NONCE + SEAL_TAG);
	int err = enc_get_base64(sealed, ENC_STD, &b);
	if (err == 0)
		err = open_bytes(key, owner, buf_peek(&b), out);
	else if (err != ERR_NOMEM)
		err = ERR_DENIED;
	buf_fini(&b);
	return err;
}
