/*
 * listen: sockets that accept (floor: io).
 *
 * A listener hands over streams that are ready to be talked on: behind the
 * PROXY header where one is due, behind the TLS handshake where there is
 * TLS.  What is on the way is counted against pending_cap and has
 * handshake_ms; at the cap the oldest goes when it has had its chance
 * (LISTEN_PATIENCE), else new ones wait in the kernel's backlog.
 *
 * Out of descriptors (EMFILE, ENFILE) it accepts by a reserve descriptor and
 * closes at once, so that peers hear of it and the loop does not spin; this
 * is logged once until it is over.
 */
#ifndef IO_LISTEN_H
#define IO_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"

#include "io/addr.h"

struct listener;
struct loop;
struct stream;
struct tls_server;

enum {
	LISTEN_BACKLOG = 4096,
	LISTEN_BURST = 64,      /* accepted in one turn */
	LISTEN_PATIENCE = 3000, /* ms a pending one is safe at the cap */
	LISTEN_WHY = 200,
};

struct listen_config {
	union addr address;     /* a port of 0 lets the kernel choose */
	int fd;                 /* >= 0: an inherited socket, taken over */
	bool inherited;         /* fd counts, address does not */
	bool proxy;             /* PROXY protocol v2 before all else */
	bool reuse_port;        /* SO_REUSEPORT: one listener a lane */
	struct tls_server *tls; /* borrowed; NULL = plain */
	unsigned pending_cap;   /* 0 = 4096 */
	msec handshake_ms;      /* 0 = 10 s; PROXY header and TLS each */
};

/* Start s or abort it. */
typedef void accept_fn(void *owner, struct stream *s);

/*
 * 0, or ERR_BUSY, ERR_DENIED, ERR_INVALID... and a sentence in why.  A path
 * that a dead process left is replaced; a new one has mode 0600.
 */
int listener_open(struct loop *l, const struct listen_config *c,
    accept_fn *on_accept, void *owner, struct listener **out,
    char why[LISTEN_WHY]);

/* Whether a TCP address can be bound by one that does not share it; others
 * are taken to be.  For those that then share it among themselves. */
bool listen_is_free(const union addr *a);

/* Stop, and drop what is pending.  Idempotent is the caller's: once. */
void listener_close(struct listener *l);

/* Leave new connections in the backlog, and go on. */
void listener_pause(struct listener *l, bool pause);

/* Where it really listens. */
const union addr *listener_address(const struct listener *l);

/* Connections on their way through PROXY header and TLS handshake. */
unsigned listener_pending(const struct listener *l);

/*
 * Sockets passed by systemd (sd_listen_fds(3)): how many, from descriptor 3
 * on; 0 when they are not for this process.  They become close-on-exec and
 * the environment forgets them.
 */
int listen_inherited(void);

#endif
