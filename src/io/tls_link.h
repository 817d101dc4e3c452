/* tls_link: TLS on one stream, for io/stream and io/tls alone. */
#ifndef IO_TLS_LINK_H
#define IO_TLS_LINK_H

#include <openssl/ssl.h>

#include "io/stream_in.h"
#include "io/tls.h"

struct tls_link {
	SSL *ssl;         /* owned; NULL once the stream has failed */
	struct stream *s; /* whose this is */
	tls_ready_fn *ready;
	void *owner;
	const uint8_t *raw; /* received, not yet taken by OpenSSL */
	size_t raw_len;
	uint8_t *held; /* owned; the same between handshake and start */
	uint8_t *owed; /* owned; encrypted, not yet taken by the kernel */
	uint32_t owed_at, owed_end;
	int err;              /* why the socket failed under OpenSSL */
	int verify;           /* X509_V_*, and the error of a handshake */
	unsigned long reason; /* ERR_get_error's */
	bool raw_eof;
	bool notified; /* close_notify is said */
};

/* Take over ssl, and start.  On failure ssl is freed. */
int tls_link_start(
    struct stream *s, SSL *ssl, tls_ready_fn *ready, void *owner);

/* A readable event; false when there was nothing. */
bool tls_take(struct stream *s);
/* Go on with bytes held since the handshake. */
void tls_take_held(struct stream *s);
/* As stream_flush, but settling. */
int tls_flush(struct stream *s);
/* Encrypt at once what the socket takes; *went counts it. */
int tls_write_now(
    struct stream *s, struct slice head, struct slice body, size_t *went);
/* Say close_notify. */
int tls_goodbye(struct stream *s);
/* The stream has failed; its last callback is still to come. */
void tls_fail(struct stream *s);
/* That callback. */
void tls_closed(struct stream *s);
size_t tls_memory(const struct stream *s);

/* OpenSSL's own words for an error, or verify's when it is not X509_V_OK. */
void tls_reason(unsigned long reason, int verify, char out[TLS_WHY]);

/* SHA-256 of the SubjectPublicKeyInfo. */
int tls_pin_of(const X509 *cert, uint8_t pin[TLS_PIN]);

#endif
