/*
 * tunnel_api: REST of the gateway's routes (floor: server; docs/api.md).
 */
#ifndef SERVER_TUNNEL_API_H
#define SERVER_TUNNEL_API_H

#include "server/web.h"

void tunnel_api_ask(struct conn *c, struct call *call);
void tunnel_api_answer(
    struct conn *c, struct call *call, const struct event *ev);

#endif
