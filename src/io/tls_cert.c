#include <stdio.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/err.h"

#include "io/addr.h"
#include "io/file.h"
#include "io/rand.h"

#include "io/tls.h"

/* "DNS:a" or "IP:1.2.3.4".  Only characters of names and addresses, so that
 * nothing else can be said in OpenSSL's little language. */
static int
add_name(BIO *list, struct slice name, bool first)
{
	union addr a;
	bool ip = addr_parse_ip(name, 0, &a) == 0;

	if (name.len == 0 || name.len > 253)
		return ERR_INVALID;
	for (size_t i = 0; i < name.len; i++) {
		static const char good[] = "abcdefghijklmnopqrstuvwxyz"
					   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
					   "0123456789.-*_";
		uint8_t c = name.ptr[i];
		if (!(ip && c == ':') &&
		    memchr(good, c, sizeof(good) - 1) == NULL)
			return ERR_INVALID;
	}
	BIO_printf(list, "%s%s:%.*s", first ? "" : ",", ip ? "IP" : "DNS",
	    SLICE_FMT(name));
	return 0;
}

static bool
add_extension(X509 *cert, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = e != NULL && X509_add_ext(cert, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

/* names, as a NUL-terminated extension value, in list. */
static int
name_list(BIO *list, const struct slice *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int err = add_name(list, names[i], i == 0);
		if (err != 0)
			return err;
	}
	return count > 0 && BIO_write(list, "", 1) == 1 ? 0 : ERR_INVALID;
}

static bool
fill_in(X509 *cert, EVP_PKEY *key, const char *names)
{
	X509_NAME *subject = X509_get_subject_name(cert);
	uint8_t serial[16];
	BIGNUM *number;
	bool ok;

	rand_fill(serial, sizeof(serial));
	serial[0] &= 0x7f; /* positive (RFC 5280 4.1.2.2) */
	number = BN_bin2bn(serial, sizeof(serial), NULL);
	ok = number != NULL &&
	    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
	BN_free(number);
	return ok && X509_set_version(cert, X509_VERSION_3) == 1 &&
	    /* A day back, for clocks that are behind. */
	    X509_gmtime_adj(X509_getm_notBefore(cert), -86400) != NULL &&
	    X509_time_adj_ex(X509_getm_notAfter(cert), 365 * TLS_YEARS + 2, 0,
		NULL) != NULL &&
	    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
		(const unsigned char *)"muster", -1, -1, 0) == 1 &&
	    X509_set_issuer_name(cert, subject) == 1 &&
	    X509_set_pubkey(cert, key) == 1 &&
	    add_extension(cert, NID_subject_alt_name, names) &&
	    add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
	    add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
	    add_extension(cert, NID_ext_key_usage, "serverAuth") &&
	    add_extension(cert, NID_subject_key_identifier, "hash") &&
	    X509_sign(cert, key, EVP_sha256()) > 0;
}

static int
save(BIO *b, const char *path, unsigned mode, char why[TLS_WHY])
{
	char *text;
	long len = BIO_get_mem_data(b, &text);
	int err = file_write_atomic(&file_real, path,
	    (struct slice){ (const uint8_t *)text, (size_t)len }, mode);

	if (err != 0)
		snprintf(why, TLS_WHY, "cannot write %.120s: %s", path,
		    err_name(err));
	return err;
}

int
tls_make_self_signed(const char *cert_path, const char *key_path,
    const struct slice *names, size_t count, char why[TLS_WHY])
{
	BIO *list = BIO_new(BIO_s_mem());
	BIO *cert_pem = BIO_new(BIO_s_mem());
	BIO *key_pem = BIO_new(BIO_s_secmem());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	char *text;
	int err = ERR_NOMEM;

	snprintf(why, TLS_WHY, "cannot make a certificate");
	if (list == NULL || cert_pem == NULL || key_pem == NULL ||
	    key == NULL || cert == NULL)
		goto out;
	err = name_list(list, names, count);
	if (err != 0) {
		snprintf(why, TLS_WHY,
		    "a certificate needs host names or IP addresses");
		goto out;
	}
	BIO_get_mem_data(list, &text);
	err = ERR_TLS;
	if (!fill_in(cert, key, text) ||
	    PEM_write_bio_X509(cert_pem, cert) != 1 ||
	    PEM_write_bio_PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL) !=
		1)
		goto out;
	err = save(key_pem, key_path, 0600, why);
	if (err == 0)
		err = save(cert_pem, cert_path, 0644, why);
out:
	X509_free(cert);
	EVP_PKEY_free(key);
	BIO_free(key_pem);
	BIO_free(cert_pem);
	BIO_free(list);
	ERR_clear_error();
	return err;
}
