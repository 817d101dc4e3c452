#include <pthread.h>
#include <stdio.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/tls_link.h"

#include "io/addr.h"

struct tls_server {
	pthread_mutex_t lock; /* around the pointer, never a handshake */
	SSL_CTX *ctx;         /* owned; replaced by a reload */
};

struct tls_client {
	SSL_CTX *ctx;
	uint8_t pin[TLS_PIN];
	bool pinned;
	bool insecure;
};

/* Words -------------------------------------------------------------------- */

void
tls_reason(unsigned long reason, int verify, char out[TLS_WHY])
{
	const char *text = ERR_SYSTEM_ERROR(reason)
	    ? strerrordesc_np(ERR_GET_REASON(reason))
	    : ERR_reason_error_string(reason);

	if (verify == X509_V_ERR_APPLICATION_VERIFICATION)
		snprintf(out, TLS_WHY,
		    "certificate verify failed: the key is not the pinned one");
	else if (verify != X509_V_OK)
		snprintf(out, TLS_WHY, "certificate verify failed: %s",
		    X509_verify_cert_error_string(verify));
	else
		snprintf(out, TLS_WHY, "%s",
		    text == NULL ? "handshake failed" : text);
}

/* What failed, and OpenSSL's reason; then its list of errors is empty. */
static int
refuse(char why[TLS_WHY], const char *what, const char *name)
{
	char reason[TLS_WHY];

	tls_reason(ERR_peek_last_error(), X509_V_OK, reason);
	snprintf(why, TLS_WHY, "%s %.90s: %.80s", what, name, reason);
	ERR_clear_error();
	return ERR_TLS;
}

void
tls_pin_text(const uint8_t pin[TLS_PIN], char out[TLS_PIN_TEXT])
{
	for (size_t i = 0; i < TLS_PIN; i++)
		snprintf(out + 2 * i, 3, "%02x", pin[i]);
}

int
tls_pin_parse(struct slice text, uint8_t pin[TLS_PIN])
{
	uint8_t out[TLS_PIN];

	if (text.len != 2 * TLS_PIN)
		return ERR_INVALID;
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.ptr[i], nibble;
		if (c >= '0' && c <= '9')
			nibble = (uint8_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			nibble = (uint8_t)((c | 0x20) - 'a' + 10);
		else
			return ERR_INVALID;
		out[i / 2] =
		    (uint8_t)(i % 2 == 0 ? nibble << 4 : out[i / 2] | nibble);
	}
	memcpy(pin, out, TLS_PIN);
	return 0;
}

int
tls_pin_of(const X509 *cert, uint8_t pin[TLS_PIN])
{
	uint8_t *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	bool ok = len > 0 &&
	    EVP_Digest(der, (size_t)len, pin, NULL, EVP_sha256(), NULL) == 1;

	OPENSSL_free(der);
	ERR_clear_error();
	return ok ? 0 : ERR_NOMEM;
}

/* Contexts ----------------------------------------------------------------- */

/* What both ends want. */
static SSL_CTX *
ctx_new(const SSL_METHOD *m)
{
	SSL_CTX *ctx = SSL_CTX_new(m);

	if (ctx == NULL)
		return NULL;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") != 1 ||
	    SSL_CTX_set_cipher_list(
		ctx, "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL") != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

/* http/1.1 when it is offered; a client that offers only others is taken
 * without, as are those that do not ask (RFC 7301 3.2 allows either). */
static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *len,
    const unsigned char *offer, unsigned offer_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, len, ours, sizeof(ours) - 1, offer,
		offer_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* A key behind a pass phrase must not ask the terminal for it. */
static int
no_phrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return 0;
}

static int
load_pair(SSL_CTX *ctx, const char *cert, const char *key, char why[TLS_WHY])
{
	SSL_CTX_set_default_passwd_cb(ctx, no_phrase);
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		return refuse(why, "cannot use certificate", cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		return refuse(why, "cannot use key", key);
	if (SSL_CTX_check_private_key(ctx) != 1)
		return refuse(
		    why, "the certificate does not belong to key", key);
	return 0;
}

static int
server_ctx(const char *cert, const char *key, SSL_CTX **out, char why[TLS_WHY])
{
	SSL_CTX *ctx = ctx_new(TLS_server_method());
	int err;

	if (ctx == NULL) {
		snprintf(why, TLS_WHY, "cannot set up TLS");
		return ERR_NOMEM;
	}
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
	err = load_pair(ctx, cert, key, why);
	if (err != 0) {
		SSL_CTX_free(ctx);
		return err;
	}
	*out = ctx;
	return 0;
}

int
tls_server_new(const char *cert_file, const char *key_file,
    struct tls_server **out, char why[TLS_WHY])
{
	struct tls_server *t = alloc_new(sizeof(*t));
	int err;

	if (t == NULL) {
		snprintf(why, TLS_WHY, "out of memory");
		return ERR_NOMEM;
	}
	err = server_ctx(cert_file, key_file, &t->ctx, why);
	if (err != 0) {
		alloc_free(t);
		return err;
	}
	pthread_mutex_init(&t->lock, NULL);
	*out = t;
	return 0;
}

void
tls_server_free(struct tls_server *t)
{
	if (t == NULL)
		return;
	SSL_CTX_free(t->ctx);
	pthread_mutex_destroy(&t->lock);
	alloc_free(t);
}

int
tls_server_reload(struct tls_server *t, const char *cert_file,
    const char *key_file, char why[TLS_WHY])
{
	unsigned char tickets[80];
	SSL_CTX *ctx, *old;
	int err = server_ctx(cert_file, key_file, &ctx, why);

	if (err != 0)
		return err;
	pthread_mutex_lock(&t->lock);
	old = t->ctx;
	if (SSL_CTX_get_tlsext_ticket_keys(old, tickets, sizeof(tickets)) == 1)
		SSL_CTX_set_tlsext_ticket_keys(ctx, tickets, sizeof(tickets));
	t->ctx = ctx;
	pthread_mutex_unlock(&t->lock);
	OPENSSL_cleanse(tickets, sizeof(tickets));
	SSL_CTX_free(old);
	return 0;
}

int
tls_server_pin(struct tls_server *t, uint8_t pin[TLS_PIN])
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = tls_pin_of(SSL_CTX_get0_certificate(t->ctx), pin);
	pthread_mutex_unlock(&t->lock);
	return err;
}

/* In place of the chain's check: the peer proved in the handshake that it
 * has the key; that key is the one, or not. */
static int
check_pin(X509_STORE_CTX *store, void *arg)
{
	const struct tls_client *t = arg;
	const X509 *cert = X509_STORE_CTX_get0_cert(store);
	uint8_t pin[TLS_PIN];

	if (cert != NULL && tls_pin_of(cert, pin) == 0 &&
	    CRYPTO_memcmp(pin, t->pin, TLS_PIN) == 0) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
	return 0;
}

static int
trust(
    struct tls_client *t, const struct tls_client_config *c, char why[TLS_WHY])
{
	t->insecure = c->insecure;
	if (c->insecure) {
		SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);
		return 0;
	}
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	if (c->pin != NULL) {
		t->pinned = true;
		memcpy(t->pin, c->pin, TLS_PIN);
		SSL_CTX_set_cert_verify_callback(t->ctx, check_pin, t);
		return 0;
	}
	if (c->ca_file != NULL) {
		if (SSL_CTX_load_verify_file(t->ctx, c->ca_file) != 1)
			return refuse(why, "cannot use CA file", c->ca_file);
		return 0;
	}
	/* On Debian these are looked up one by one, by hash. */
	if (SSL_CTX_set_default_verify_paths(t->ctx) != 1)
		return refuse(why, "cannot use", "the system's roots");
	return 0;
}

int
tls_client_new(const struct tls_client_config *c, struct tls_client **out,
    char why[TLS_WHY])
{
	struct tls_client *t = alloc_new(sizeof(*t));
	int err;

	if (t != NULL)
		t->ctx = ctx_new(TLS_client_method());
	if (t == NULL || t->ctx == NULL ||
	    SSL_CTX_set_alpn_protos(
		t->ctx, (const unsigned char *)"\x08http/1.1", 9) != 0) {
		snprintf(why, TLS_WHY, "cannot set up TLS");
		tls_client_free(t);
		return ERR_NOMEM;
	}
	err = trust(t, c, why);
	if (err != 0) {
		tls_client_free(t);
		return err;
	}
	*out = t;
	return 0;
}

void
tls_client_free(struct tls_client *t)
{
	if (t == NULL)
		return;
	SSL_CTX_free(t->ctx);
	alloc_free(t);
}

/* Handshakes --------------------------------------------------------------- */

int
tls_accept(
    struct stream *s, struct tls_server *t, tls_ready_fn *ready, void *owner)
{
	SSL *ssl;

	pthread_mutex_lock(&t->lock);
	ssl = SSL_new(t->ctx);
	pthread_mutex_unlock(&t->lock);
	if (ssl == NULL)
		return ERR_NOMEM;
	SSL_set_accept_state(ssl);
	return tls_link_start(s, ssl, ready, owner);
}

/* Whom we expect. */
static bool
expect(SSL *ssl, const struct tls_client *t, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	union addr a;
	bool ip = addr_parse_ip(slice_from(host), 0, &a) == 0;

	if (!ip && SSL_set_tlsext_host_name(ssl, host) != 1)
		return false;
	if (t->pinned || t->insecure)
		return true;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return ip ? X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1
		  : SSL_set1_host(ssl, host) == 1;
}

int
tls_connect(struct stream *s, struct tls_client *t, const char *host,
    tls_ready_fn *ready, void *owner)
{
	SSL *ssl = SSL_new(t->ctx);

	if (ssl == NULL || !expect(ssl, t, host)) {
		SSL_free(ssl);
		return ERR_NOMEM;
	}
	SSL_set_connect_state(ssl);
	return tls_link_start(s, ssl, ready, owner);
}
