/*
 * figures: an agent's load for a while, by REST (floor: server; docs/api.md).
 */
#ifndef SERVER_FIGURES_H
#define SERVER_FIGURES_H

#include "server/web.h"

/* GET /api/v1/agents/{}/metrics */
void figures_ask(struct conn *c, struct call *call);
void figures_answer(struct conn *c, struct call *call, const struct event *ev);

#endif
