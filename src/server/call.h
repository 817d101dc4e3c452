/*
 * call: the beginning and the end of one request (floor: server; the struct
 * is in web.h).
 */
#ifndef SERVER_CALL_H
#define SERVER_CALL_H

#include "server/web.h"

enum { BODY_DEFAULT = 64 * 1024 };

/* What is kept of a head, where it comes from and its id; NULL without
 * memory. */
struct call *call_new(struct conn *c, const struct http1_head *h);
void call_free(struct call *call);

/* A copy that lives as long as the call; absent without memory. */
struct slice call_keep(struct call *call, struct slice s);

#endif
