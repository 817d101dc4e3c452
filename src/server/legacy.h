/*
 * legacy: the cluster dialect's HTTP endpoints (floor: server;
 * docs/protocol/cluster.md).
 */
#ifndef SERVER_LEGACY_H
#define SERVER_LEGACY_H

#include "server/web.h"

void legacy_ask(struct conn *c, struct call *call);
void legacy_answer(struct conn *c, struct call *call, const struct event *ev);

#endif
