/*
 * wslink: a WebSocket to a controller, or to any server (floor: cli).
 *
 * The connection is made and secured by libcurl with the very settings of
 * the REST calls (CA, pin, proxy); the handshake and the frames are
 * wire/http1 and wire/wsconn.  Opening blocks; after that nothing does:
 *
 *	poll(wslink_fd, wslink_wants) -> wslink_pump -> wslink_next...
 */
#ifndef CLI_WSLINK_H
#define CLI_WSLINK_H

#include "cli/rest.h"
#include "wire/wsconn.h"

struct wslink;

struct wslink_ask {
	const char *url;      /* http, https, ws or wss */
	const char *protocol; /* subprotocol, required of the server; NULL */
	bool bearer;          /* send the token */
	bool deflate;         /* offer permessage-deflate */
	size_t cap;           /* longest message */
	bool again;           /* will be tried again: see wslink_open */
};

enum { WSLINK_AGAIN = -1 };

enum { WSLINK_SILENCE = 60000, WSLINK_PING = 20000 }; /* ms */

/*
 * EXIT_OK, or a message was printed, and the exit code.  With ask->again it
 * does not wait long, and what may be different the next time (nobody
 * answers, 429, 5xx) is WSLINK_AGAIN without a message.
 */
int wslink_open(
    struct cli *c, const struct wslink_ask *ask, struct wslink **out);

/* At once, without a closing handshake.  NULL is fine. */
void wslink_free(struct wslink *l);

int wslink_fd(const struct wslink *l);

/* POLLIN while reading is wanted, POLLOUT while something is to be sent. */
short wslink_wants(const struct wslink *l);

/* Stop and go on reading, so that a slow reader here slows the sender
 * there.  Stopped, the link still shows life. */
void wslink_read_stop(struct wslink *l);
void wslink_read_start(struct wslink *l);

/*
 * Send and receive what goes without waiting.  1 when something came, 0
 * when not, ERR_CLOSED, ERR_RESET, ERR_TIMEOUT (silence) or another ERR_*
 * when the transport is over; what came before is still in wslink_next.
 */
int wslink_pump(struct wslink *l);

/* As wsconn_next; call it until it gives 0, after every wslink_pump. */
int wslink_next(struct wslink *l, struct wsconn_event *ev);

/* Queue a message.  0, or as wsconn_send. */
int wslink_send(struct wslink *l, enum ws_opcode opcode, struct slice payload);

/* Bytes queued and not sent. */
size_t wslink_queued(const struct wslink *l);

/* Begin the closing handshake. */
void wslink_close(struct wslink *l, uint16_t code);

/* Close and wait until the other side ends the connection, dropping what
 * comes; at most within ms. */
void wslink_finish(struct wslink *l, uint16_t code, msec within);

/* When wslink_pump wants to be called even without readiness. */
msec wslink_deadline(const struct wslink *l);

#endif
