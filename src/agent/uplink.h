/*
 * uplink: the link to one controller (agent; docs/protocol/muster.md).
 *
 * Dials out, proves the key, registers, beats, and carries yamux streams;
 * comes back by itself after every loss.  Commands are not touched by what
 * happens to the link.
 *
 * Life: uplink_new -> uplink_start -> ... -> uplink_stop, and when
 * uplink_stopped says so uplink_free.
 */
#ifndef AGENT_UPLINK_H
#define AGENT_UPLINK_H

#include "base/js_write.h"

#include "agent/agent.h"

struct uplink;

/* agent and link are borrowed.  Takes up commands of an earlier agent, so
 * it blocks.  0, or ERR_* and a sentence in why. */
int uplink_new(struct agent *agent, const struct state_link *link,
    struct uplink **out, char why[STATE_WHY]);
void uplink_free(struct uplink *u);

void uplink_start(struct uplink *u);

/* The network has changed: do not wait any longer for the next try. */
void uplink_hurry(struct uplink *u);

/* The policy was read again: the controller learns it by a new register. */
void uplink_policy(struct uplink *u);

/* agent->local_stop has changed; its reason may not be known yet, then this
 * is called again. */
void uplink_local_stop(struct uplink *u, bool known);

/* Say goodbye, flush, let go of the commands. */
void uplink_stop(struct uplink *u);
bool uplink_stopped(const struct uplink *u);

/* An object of the state of the link, for `status`. */
void uplink_put_status(const struct uplink *u, struct js_writer *w);

#endif
