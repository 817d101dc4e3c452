/*
 * api: REST requests that the hub answers (floor: server; docs/api.md).
 */
#ifndef SERVER_API_H
#define SERVER_API_H

#include "server/web.h"

/* Make the request of the route's op and ask the hub. */
void api_ask(struct conn *c, struct call *call);

/* The hub's reply as JSON or problem+json. */
void api_answer(struct conn *c, struct call *call, const struct event *ev);

/* A refusal in the hub's reply as problem+json. */
void api_refuse(struct conn *c, const struct reply *r);

/* /api/v1/openapi.json */
void api_describe(struct conn *c, struct call *call);

/*
 * Read the members of a command's JSON description (POST /api/v1/commands
 * and the first message of /api/v1/exec) into *q, all in the arena.
 * 0, or ERR_* with *field and *text saying what is wrong.
 */
int api_read_command(struct slice text, struct arena *a, struct request *q,
    struct slice *field, struct slice *why);

#endif
