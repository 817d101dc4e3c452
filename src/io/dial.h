/*
 * dial: connections outwards (floor: io).
 *
 * Resolve off the loop's thread, try every address (the next one after
 * DIAL_STAGGER ms or at a failure, families in turn: RFC 8305), pass an HTTP
 * or SOCKS5 proxy, shake hands by TLS; the result is a stream that waits for
 * stream_start, or an error and a sentence that names the hop that failed:
 *
 *	dns: no such host: agent.example
 *	connect: 192.0.2.1:443: connection refused
 *	proxy: 407 Proxy Authentication Required
 *	tls: certificate verify failed: self-signed certificate
 *
 * With a proxy, names are resolved by the proxy and not here.
 */
#ifndef IO_DIAL_H
#define IO_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"

#include "io/addr.h"

struct dial;
struct loop;
struct stream;
struct tls_client;

enum {
	DIAL_WHY = 320,
	DIAL_STAGGER = 250,
	DIAL_ADDRESSES = 16, /* more are left out */
	DIAL_HOST = 254,     /* bytes of a name, NUL counted */
	DIAL_SECRET = 256,   /* of a user name or password, NUL counted */
};

enum dial_kind { DIAL_DIRECT, DIAL_HTTP, DIAL_SOCKS5 };

struct dial_proxy {
	enum dial_kind kind;
	uint16_t port;
	char host[DIAL_HOST];
	char user[DIAL_SECRET]; /* empty: none */
	char password[DIAL_SECRET];
};

struct dial_config {
	const char *host; /* name or IP address, without brackets */
	uint16_t port;
	/* Not NULL: connect to these and nothing else, whatever host says. */
	const union addr *address;
	size_t address_count;           /* 0 = one */
	const struct dial_proxy *proxy; /* NULL = directly */
	struct tls_client *tls;         /* borrowed until done; NULL = plain */
	msec timeout_ms;                /* for all of it; 0 = 30 s */
};

/* s is NULL when err is not 0; the dial is gone either way. */
typedef void dial_fn(void *owner, struct stream *s, int err, const char *why);

/*
 * Everything but tls is copied.  done is called once, from the loop, and not
 * after dial_cancel.  0, ERR_INVALID (a host with bytes that no host has) or
 * ERR_NOMEM.
 */
int dial_start(struct loop *l, const struct dial_config *c, dial_fn *done,
    void *owner, struct dial **out);
void dial_cancel(struct dial *d);

/*
 * "http://user:password@host:port", "socks5://...", "socks5h://...", or
 * "host:port" (http); user and password percent-encoded.  Ports 80 and 1080
 * unless said.  0, ERR_INVALID, or ERR_UNSUPPORTED for other schemes.
 */
int dial_proxy_parse(struct slice url, struct dial_proxy *out);

/*
 * Whether a NO_PROXY list ("example.com,.local,10.0.0.0/8,[::1]:80,*") names
 * host and port: a name covers itself and what ends in it behind a dot.
 */
bool dial_proxy_exempt(struct slice list, const char *host, uint16_t port);

/*
 * What HTTPS_PROXY (secure), http_proxy (not), ALL_PROXY and NO_PROXY, in
 * lower case first, say of host; HTTP_PROXY in capitals is not believed
 * (a web server's CGI sets it for strangers).  out->kind is DIAL_DIRECT for
 * none.  0, or dial_proxy_parse's errors.  Reads the environment.
 */
int dial_proxy_from_env(
    const char *host, uint16_t port, bool secure, struct dial_proxy *out);

#endif
