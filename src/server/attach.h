/*
 * attach: an operator's client that runs a command and holds its streams
 * (floor: server; docs/protocol/muster.md, 5).
 */
#ifndef SERVER_ATTACH_H
#define SERVER_ATTACH_H

#include "wire/execframe.h"

#include "server/web.h"

/* GET /api/v1/exec */
void attach_open(struct conn *c, struct call *call);

/*
 * For the pipe: a frame to the client.  What it has seen already is cut; one
 * that came back gets nothing new before it has what is stored.
 */
void attach_frame(struct conn *c, const struct execframe *f);
/* More of the output is durable, or the stream has begun anew. */
void attach_stored(struct conn *c);
/* Another client has attached to the command. */
void attach_replaced(struct conn *c);
/* Whether the client has more waiting than it should. */
bool attach_is_slow(const struct conn *c);
/* The outcome, and the end, once all output is shown. */
void attach_ended(struct conn *c, const struct command_record *r);
/* The connection at an address, if it is attached; else NULL. */
struct conn *attach_find(struct dock *d, struct peer_id peer);

#endif
