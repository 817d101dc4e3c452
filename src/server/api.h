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

/* What is wrong with a request. */
struct api_fault {
	struct slice field;
	struct slice text;
};

/* A question of the route's op, with who asks, of what ({} of the path) and the
 * request's id, to be filled in further; *a is its arena.  NULL without
 * memory. */
struct event *api_question(struct conn *c, struct call *call, struct arena **a);

/* Ask it; or say why not: ev is NULL, or err with *f of reading the rest. */
void api_post(
    struct conn *c, struct event *ev, int err, const struct api_fault *f);

/* limit, 1 to 1000, and cursor of the query.  0, ERR_RANGE with *f, or
 * ERR_NOMEM. */
int api_read_page(
    struct call *call, struct arena *a, struct request *q, struct api_fault *f);

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
