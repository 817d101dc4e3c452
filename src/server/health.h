/*
 * health: how the controller is (floor: server).
 */
#ifndef SERVER_HEALTH_H
#define SERVER_HEALTH_H

#include "server/web.h"

/* GET /health, GET /api/v1/health: open to all. */
void health_show(struct conn *c, struct call *call);

/* GET /metrics: from loopback, or with scope metrics:read. */
void metrics_ask(struct conn *c, struct call *call);
void metrics_answer(struct conn *c, struct call *call, const struct event *ev);

#endif
