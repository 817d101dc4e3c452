/*
 * gateway_log: what the gateway tells of itself (floor: server).
 */
#ifndef SERVER_GATEWAY_LOG_H
#define SERVER_GATEWAY_LOG_H

#include "base/buf.h"

#include "server/server.h"

/* The gateway's part of /metrics. */
void gateway_put_metrics(struct buf *b, const struct server *s);

#endif
