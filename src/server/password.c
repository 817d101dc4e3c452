#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/err.h"

#include "wire/enc.h"
#include "wire/token.h"

#include "io/rand.h"

#include "server/password.h"

enum { SALT = 16, HASH = 32, LOG_N = 15, COST_R = 8, COST_P = 3 };

struct kept {
	unsigned log_n, r, p;
	uint8_t salt[SALT];
	uint8_t hash[HASH];
};

/* 128 N r bytes, and a little more. */
static const uint64_t memory_max = UINT64_C(160) << 20;

static int
derive(struct slice text, const struct kept *k, uint8_t out[HASH])
{
	return EVP_PBE_scrypt((const char *)text.ptr, text.len, k->salt, SALT,
		   UINT64_C(1) << k->log_n, k->r, k->p, memory_max, out,
		   HASH) == 1
	    ? 0
	    : ERR_NOMEM;
}

int
password_keep(struct slice text, char out[PASSWORD_KEPT])
{
	struct kept k = { .log_n = LOG_N, .r = COST_R, .p = COST_P };
	struct buf b;

	if (text.len < PASSWORD_MIN || text.len > PASSWORD_MAX)
		return ERR_RANGE;
	rand_fill(k.salt, SALT);
	int err = derive(text, &k, k.hash);
	if (err != 0)
		return err;
	buf_init(&b, PASSWORD_KEPT - 1);
	buf_put(&b, SL("scrypt:15:8:3:"));
	enc_put_base64(&b, (struct slice){ k.salt, SALT }, ENC_BARE);
	buf_put_byte(&b, ':');
	enc_put_base64(&b, (struct slice){ k.hash, HASH }, ENC_BARE);
	err = b.err != 0 ? b.err : slice_cstr(buf_peek(&b), out, PASSWORD_KEPT);
	buf_fini(&b);
	return err;
}

static bool
read_number(struct slice *rest, uint64_t max, unsigned *out)
{
	struct slice part;
	uint64_t n;

	if (!slice_split(rest, ':', &part) || slice_u64(part, max, &n) != 0 ||
	    n == 0)
		return false;
	*out = (unsigned)n;
	return true;
}

static bool
read_bytes(struct slice *rest, uint8_t *out, size_t len)
{
	struct slice part;
	struct buf b;

	if (!slice_split(rest, ':', &part))
		return false;
	buf_init(&b, 64);
	bool ok =
	    enc_get_base64(part, ENC_BARE, &b) == 0 && buf_peek(&b).len == len;
	if (ok)
		memcpy(out, buf_peek(&b).ptr, len);
	buf_fini(&b);
	return ok;
}

/* The costs are those of when it was made. */
static bool
read_kept(struct slice text, struct kept *k)
{
	struct slice scheme;

	return slice_split(&text, ':', &scheme) &&
	    slice_eq(scheme, SL("scrypt")) &&
	    read_number(&text, 17, &k->log_n) && read_number(&text, 8, &k->r) &&
	    read_number(&text, 16, &k->p) && read_bytes(&text, k->salt, SALT) &&
	    read_bytes(&text, k->hash, HASH) && text.ptr == NULL;
}

bool
password_fits(struct slice text, struct slice kept)
{
	struct kept k = { 0 };
	uint8_t hash[HASH];
	bool real = kept.len > 0 && read_kept(kept, &k);

	if (!real)
		k = (struct kept){ .log_n = LOG_N, .r = COST_R, .p = COST_P };
	if (text.len > PASSWORD_MAX || derive(text, &k, hash) != 0)
		return false;
	bool same = token_equal(
	    (struct slice){ hash, HASH }, (struct slice){ k.hash, HASH });
	OPENSSL_cleanse(hash, sizeof(hash));
	return real && same;
}
