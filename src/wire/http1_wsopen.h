/*
 * http1_wsopen: from HTTP heads to WebSocket handshakes (floor: wire).
 */
#ifndef WIRE_HTTP1_WSOPEN_H
#define WIRE_HTTP1_WSOPEN_H

#include "base/arena.h"
#include "wire/http1.h"
#include "wire/wsopen.h"

/* Fill in what the handshake's rules look at; lists that came in several
 * fields are joined in a.  The rest borrows from h.  0 or ERR_NOMEM. */
int http1_wsopen_request(
    const struct http1_head *h, struct arena *a, struct wsopen_request *out);
int http1_wsopen_response(
    const struct http1_head *h, struct arena *a, struct wsopen_response *out);

#endif
