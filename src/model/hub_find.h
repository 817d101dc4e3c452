/*
 * hub_find: agents that one request names (floor: model).
 */
#ifndef MODEL_HUB_FIND_H
#define MODEL_HUB_FIND_H

#include "model/hub_state.h"

/* An agent, or NULL and why. */
struct found_agent {
	struct agent *agent;
	struct refusal no;
};

/*
 * n agents, each by id, name or the beginning of its id, as hub_pick_agent
 * finds one, as far as who may see them; in one walk over all agents, for
 * nothing may keep the hub from a stop for long.  found has room for n.  0
 * or ERR_NOMEM.
 */
int hub_find_agents(struct hub *h, const struct access *who,
    const struct slice *ids, size_t n, struct found_agent *found);

#endif
