/*
 * tls: contexts, certificates and handshakes (floor: io).
 *
 * TLS 1.2 and 1.3 by OpenSSL, certificates P-256, key agreement X25519 first
 * (P-256's keys stay with each connection: 3.4 KB more, and 15 % more CPU a
 * handshake), no renegotiation, no compression, no early data, http/1.1 by
 * ALPN.  A stream on which a handshake was started is an ordinary stream
 * when it is ready; see tls_link.c for how records and our buffers meet.
 *
 * The pin of a key is the SHA-256 of its SubjectPublicKeyInfo (RFC 7469 2.4)
 * in lower-case hex.  A context serves any number of lanes.
 */
#ifndef IO_TLS_H
#define IO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct stream;
struct tls_client;
struct tls_server;

enum {
	TLS_WHY = 200,
	TLS_PIN = 32,
	TLS_PIN_TEXT = 2 * TLS_PIN + 1,
	TLS_YEARS = 10, /* life of a self-made certificate */
};

/*
 * PEM files: the chain, leaf first, and its key.  0, or ERR_TLS (unreadable,
 * broken, not a pair) or ERR_NOMEM, and a sentence in why.
 */
int tls_server_new(const char *cert_file, const char *key_file,
    struct tls_server **out, char why[TLS_WHY]);
void tls_server_free(struct tls_server *t);

/* Take another pair for connections from now on; tickets stay good.  On
 * failure the old pair stays.  Any thread. */
int tls_server_reload(struct tls_server *t, const char *cert_file,
    const char *key_file, char why[TLS_WHY]);

/* The pin of the key in use. */
int tls_server_pin(struct tls_server *t, uint8_t pin[TLS_PIN]);

struct tls_client_config {
	const char *ca_file; /* trust only these; NULL = the system's roots */
	const uint8_t *pin;  /* trust only this key, whatever its chain says,
				and need no name; NULL = check the chain */
	bool insecure;       /* trust whoever answers; what is above is not
				looked at */
};

int tls_client_new(const struct tls_client_config *c, struct tls_client **out,
    char why[TLS_WHY]);
void tls_client_free(struct tls_client *t);

/*
 * The end of a handshake, from the loop: err 0, and the stream waits for
 * stream_start; or ERR_* and a sentence, and the stream is gone.  Not called
 * after stream_abort.
 */
typedef void tls_ready_fn(void *owner, int err, const char *why);

/*
 * Begin a handshake on a stream that was not started.  There is no time-out
 * in here: whoever waits aborts the stream.  0 or ERR_NOMEM.
 * host: a name (sent as SNI) or an IP address, checked against the
 * certificate unless a pin decides.
 */
int tls_accept(
    struct stream *s, struct tls_server *t, tls_ready_fn *ready, void *owner);
int tls_connect(struct stream *s, struct tls_client *t, const char *host,
    tls_ready_fn *ready, void *owner);

/*
 * Make a P-256 key and a certificate for it that it signs itself, valid for
 * these names and IP addresses.  Existing files are replaced, the key first;
 * its mode is 0600.  0 or ERR_*, and a sentence.
 */
int tls_make_self_signed(const char *cert_path, const char *key_path,
    const struct slice *names, size_t count, char why[TLS_WHY]);

void tls_pin_text(const uint8_t pin[TLS_PIN], char out[TLS_PIN_TEXT]);
/* 0 or ERR_INVALID. */
int tls_pin_parse(struct slice text, uint8_t pin[TLS_PIN]);

#endif
