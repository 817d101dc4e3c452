/*
 * pipe: the stream of one command, between its agent, the store and whoever
 * watches (floor: server; docs/protocol/muster.md, 4 and 5).
 *
 * Output goes from the agent's yamux stream to the store's writer and to the
 * attached client, and the agent's window opens again only when both have
 * taken it: a slow client slows the command, never the memory.  What is
 * durable is acknowledged to the agent.  Control (started, exit) goes to
 * the hub.
 *
 * A pipe lives from the hub's OPEN (or an attached client) to its DONE.
 */
#ifndef SERVER_PIPE_H
#define SERVER_PIPE_H

#include "model/outbox.h"

#include "store/writer.h"

#include "server/dock.h"

struct pipe;

/* The hub's order about a command; link: of its agent, may be none.  awaits:
 * an OPEN of what another lane still has; pipe_arrive follows. */
void pipe_order(struct dock *d, struct peer_id link,
    const struct stream_order *o, bool awaits);

/* What the writer has made of output. */
void pipe_stored(struct dock *d, const struct writer_done *done);

/*
 * The stream goes to another lane: what this one has of it, and the viewer,
 * taken off the lane, into t.
 */
void pipe_let_go(struct dock *d, struct transit *t);
/* What another lane had has come: the viewer (owned, detached; may be
 * NULL). */
void pipe_arrive(struct dock *d, struct slice command_id, struct conn *viewer,
    const uint64_t shown[3]);
/* The lane ends: forget all. */
void pipe_end(struct dock *d);

/* From the attached client: frames for the agent.  ERR_NOT_FOUND when there
 * is no such command here, ERR_PROTOCOL when it may not send that. */
int pipe_frame(struct dock *d, struct slice command_id, struct slice message);
/* This client is gone; the command goes on. */
void pipe_forget_viewer(
    struct dock *d, struct slice command_id, struct peer_id viewer);
/* Up to where output has come from the agent, stored or not. */
uint64_t pipe_received(
    struct dock *d, struct slice command_id, enum output_stream stream);
/* The client takes more again. */
void pipe_resume(struct dock *d, struct slice command_id);

#endif
