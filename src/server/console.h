/*
 * console: the WebSocket of a dashboard or of a coding agent (floor: server;
 * docs/protocol/console.md).
 *
 * The upgrade is accepted and then, without a good credential, closed with
 * 1008.  The first message decides the spelling and the side: a dashboard
 * (console_dash) or an agent (console_agent).
 */
#ifndef SERVER_CONSOLE_H
#define SERVER_CONSOLE_H

#include "server/web.h"

/* Once for each dock. */
void console_setup(struct dock *d);

/* GET /ws, /ws/dashboard, /ws/agent */
void console_open(struct conn *c, struct call *call);
/* The hub's word while the handshake waits. */
void console_answer(struct conn *c, struct call *call, const struct event *ev);

#endif
