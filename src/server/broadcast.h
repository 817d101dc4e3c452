/*
 * broadcast: what other back ends tell of agents (floor: server; document 4,
 * docs/api.md).  The body is the payload of the event that boards hear.
 */
#ifndef SERVER_BROADCAST_H
#define SERVER_BROADCAST_H

#include "server/web.h"

/* POST /api/v1/broadcast/agent-status, .../session-activity */
void broadcast_ask(struct conn *c, struct call *call);

#endif
