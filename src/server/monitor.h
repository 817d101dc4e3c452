/*
 * monitor: the WebSocket of a status board (floor: server;
 * docs/protocol/monitor.md).
 *
 * It says nothing that counts.  It is told how all agents stand that it may
 * see, then what changes, and every 30 s that the controller is there.
 */
#ifndef SERVER_MONITOR_H
#define SERVER_MONITOR_H

#include "server/web.h"

/* Once for each dock. */
void monitor_setup(struct dock *d);

/* GET / and whatever no other route has, as a WebSocket. */
void monitor_open(struct conn *c, struct call *call);
/* The hub's word while the handshake waits. */
void monitor_answer(struct conn *c, struct call *call, const struct event *ev);

#endif
