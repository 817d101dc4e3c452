/*
 * signed: agents that sign what they say (floor: server;
 * docs/protocol/signed.md).
 *
 * Anyone may open /agent.  What the first message claims to be is asked of
 * the hub, which answers with a sealed secret; then every message is verified
 * here, on the lane, before anything of it reaches the hub.
 */
#ifndef SERVER_SIGNED_H
#define SERVER_SIGNED_H

#include "server/web.h"

void signed_setup(struct dock *d);

/* GET /agent */
void signed_open(struct conn *c, struct call *call);

/* /api/v1/signed: secrets are sealed and shown here, and nowhere else. */
void signed_api_ask(struct conn *c, struct call *call);
void signed_api_answer(
    struct conn *c, struct call *call, const struct event *ev);

/* /api/websocket/agents: what dashboards of such agents know. */
void signed_http_ask(struct conn *c, struct call *call);
void signed_http_answer(
    struct conn *c, struct call *call, const struct event *ev);

#endif
