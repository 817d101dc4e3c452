#include "base/err.h"

#include "model/presence.h"

struct row {
	struct slice name;
	struct slice cluster;
	struct slice console;
	struct slice monitor;
	bool linked;
	uint8_t low; /* how little may be expected of it; 0 = no claim */
	unsigned to; /* bits of the states it may move to */
};

#define W(text) SL_INIT(text)
#define NO              \
	{               \
		NULL, 0 \
	}
#define TO(p) (1U << PRESENCE_##p)
#define ENDS (TO(RECONNECTING) | TO(OFFLINE) | TO(REMOVED))
#define LIVES (TO(ONLINE) | TO(BUSY) | TO(DEGRADED) | TO(ERROR) | TO(STOPPED))

/* docs/protocol/console.md and monitor.md show this table. */
/* clang-format off */
static const struct row rows[PRESENCES] = {
	[PRESENCE_JOINING] = { W("joining"), W("active"), W("online"),
	    W("online"), true, 0, LIVES | ENDS },
	[PRESENCE_ONLINE] = { W("online"), W("active"), W("online"),
	    W("online"), true, 1, TO(JOINING) | LIVES | ENDS },
	[PRESENCE_BUSY] = { W("busy"), W("active"), W("busy"),
	    W("online"), true, 2, TO(JOINING) | LIVES | ENDS },
	[PRESENCE_DEGRADED] = { W("degraded"), W("active"), W("online"),
	    W("online"), true, 3, TO(JOINING) | LIVES | ENDS },
	[PRESENCE_ERROR] = { W("error"), W("error"), W("error"),
	    W("error"), true, 4, TO(JOINING) | LIVES | ENDS },
	[PRESENCE_RECONNECTING] = { W("reconnecting"), NO, NO,
	    NO, false, 0, TO(JOINING) | LIVES | ENDS },
	[PRESENCE_OFFLINE] = { W("offline"), W("inactive"), W("offline"),
	    W("offline"), false, 5, TO(JOINING) | LIVES | TO(RECONNECTING) | TO(REMOVED) },
	[PRESENCE_STOPPED] = { W("stopped"), W("error"), W("error"),
	    W("error"), true, 6, TO(JOINING) | LIVES | ENDS },
	/* The end: an agent that comes back is a new one. */
	[PRESENCE_REMOVED] = { W("removed"), NO, W("offline"),
	    W("offline"), false, 0, 0 },
};

static const struct {
	struct slice word;
	enum presence claim;
} claims[] = {
	{ W("error"), PRESENCE_ERROR },
	{ W("failed"), PRESENCE_ERROR },
	{ W("unhealthy"), PRESENCE_ERROR },
	{ W("degraded"), PRESENCE_DEGRADED },
	{ W("warning"), PRESENCE_DEGRADED },
	{ W("busy"), PRESENCE_BUSY },
	{ W("offline"), PRESENCE_OFFLINE },
};
/* clang-format on */

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

struct slice
presence_console_word(enum presence p)
{
	return rows[p].console;
}

struct slice
presence_monitor_word(enum presence p)
{
	return rows[p].monitor;
}

enum presence
presence_claim(struct slice word)
{
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		if (slice_eq_nocase(claims[i].word, word))
			return claims[i].claim;
	}
	return PRESENCE_JOINING;
}

enum presence
presence_lower(enum presence derived, enum presence claim)
{
	return rows[claim].low > rows[derived].low ? claim : derived;
}
