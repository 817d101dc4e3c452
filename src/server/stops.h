/*
 * stops: the emergency stop over REST (floor: server; docs/api.md).
 */
#ifndef SERVER_STOPS_H
#define SERVER_STOPS_H

#include "server/web.h"

/* Routes of OP_STOP_*. */
void stops_ask(struct conn *c, struct call *call);
void stops_answer(struct conn *c, struct call *call, const struct event *ev);

#endif
