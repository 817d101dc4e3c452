/*
 * forward: an operator's tool that reaches services behind an agent (floor:
 * server; docs/protocol/muster.md, "Forwards").
 */
#ifndef SERVER_FORWARD_H
#define SERVER_FORWARD_H

#include "server/web.h"

/* GET /api/v1/tunnel: what the hub says of the credential. */
void forward_open(struct conn *c, struct call *call, const struct event *ev);

#endif
