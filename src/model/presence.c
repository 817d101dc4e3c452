#include "base/err.h"

#include "model/presence.h"

struct row {
	struct slice name;
	struct slice cluster; /* decisions of the cluster dialect */
	bool linked;
	unsigned to; /* bits of the states it may move to */
};

#define TO(p) (1U << PRESENCE_##p)
#define ENDS (TO(RECONNECTING) | TO(OFFLINE) | TO(REMOVED))
#define LIVES (TO(ONLINE) | TO(BUSY) | TO(DEGRADED) | TO(ERROR) | TO(STOPPED))

static const struct row rows[PRESENCES] = {
	[PRESENCE_JOINING] = { SL_INIT("joining"), SL_INIT("active"), true,
	    LIVES | ENDS },
	[PRESENCE_ONLINE] = { SL_INIT("online"), SL_INIT("active"), true,
	    TO(JOINING) | LIVES | ENDS },
	[PRESENCE_BUSY] = { SL_INIT("busy"), SL_INIT("active"), true,
	    TO(JOINING) | LIVES | ENDS },
	[PRESENCE_DEGRADED] = { SL_INIT("degraded"), SL_INIT("active"), true,
	    TO(JOINING) | LIVES | ENDS },
	[PRESENCE_ERROR] = { SL_INIT("error"), SL_INIT("error"), true,
	    TO(JOINING) | LIVES | ENDS },
	[PRESENCE_RECONNECTING] = { SL_INIT("reconnecting"), SL_INIT("active"),
	    false, TO(JOINING) | LIVES | ENDS },
	[PRESENCE_OFFLINE] = { SL_INIT("offline"), SL_INIT("inactive"), false,
	    TO(JOINING) | LIVES | TO(RECONNECTING) | TO(REMOVED) },
	[PRESENCE_STOPPED] = { SL_INIT("stopped"), SL_INIT("error"), true,
	    TO(JOINING) | LIVES | ENDS },
	/* The end: an agent that comes back is a new one. */
	[PRESENCE_REMOVED] = { SL_INIT("removed"), SL_INIT("inactive"), false,
	    0 },
};

struct slice
presence_name(enum presence p)
{
	return rows[p].name;
}

int
presence_find(struct slice name, enum presence *out)
{
	for (int p = 0; p < PRESENCES; p++) {
		if (slice_eq(rows[p].name, name)) {
			*out = (enum presence)p;
			return 0;
		}
	}
	return ERR_INVALID;
}

bool
presence_may_move(enum presence from, enum presence to)
{
	return (rows[from].to & 1U << to) != 0;
}

bool
presence_is_linked(enum presence p)
{
	return rows[p].linked;
}

struct slice
presence_cluster_word(enum presence p)
{
	return rows[p].cluster;
}
