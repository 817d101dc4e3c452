#include <openssl/evp.h>

#include "store/digest.h"

/* A digest is OpenSSL's context under our name. */
static EVP_MD_CTX *
context(struct digest *d)
{
	return (EVP_MD_CTX *)d;
}

bool
digest_of(struct slice bytes, uint8_t out[DIGEST_LEN])
{
	return EVP_Digest(
		   bytes.ptr, bytes.len, out, NULL, EVP_sha256(), NULL) == 1;
}

struct digest *
digest_new(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (c != NULL && EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(c);
		return NULL;
	}
	return (struct digest *)c;
}

void
digest_free(struct digest *d)
{
	EVP_MD_CTX_free(context(d));
}

bool
digest_add(struct digest *d, struct slice bytes)
{
	return d != NULL &&
	    EVP_DigestUpdate(context(d), bytes.ptr, bytes.len) == 1;
}

bool
digest_end(struct digest *d, uint8_t out[DIGEST_LEN])
{
	return d != NULL && EVP_DigestFinal_ex(context(d), out, NULL) == 1 &&
	    EVP_DigestInit_ex(context(d), EVP_sha256(), NULL) == 1;
}
