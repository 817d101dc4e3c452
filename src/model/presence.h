/*
 * presence: is an agent there? (floor: model)
 *
 * One state machine, as a table; every change has a cause and an instant.
 * What agents or other back ends claim can only lower what is derived.
 */
#ifndef MODEL_PRESENCE_H
#define MODEL_PRESENCE_H

#include <stdbool.h>

#include "base/slice.h"

enum presence {
	PRESENCE_JOINING,
	PRESENCE_ONLINE,
	PRESENCE_BUSY,
	PRESENCE_DEGRADED,
	PRESENCE_ERROR,
	PRESENCE_RECONNECTING,
	PRESENCE_OFFLINE,
	PRESENCE_STOPPED,
	PRESENCE_REMOVED,
	PRESENCES
};

/* The name, as in logs, REST and the command line. */
struct slice presence_name(enum presence p);

/* 0, or ERR_INVALID. */
int presence_find(struct slice name, enum presence *out);

/* Whether the table allows the move (staying is no move). */
bool presence_may_move(enum presence from, enum presence to);

/* Whether a link stands: joining, online, busy, degraded, error, stopped. */
bool presence_is_linked(enum presence p);

/*
 * The words of the dialects; absent for reconnecting, which changes nothing
 * that they show.
 */
struct slice presence_cluster_word(enum presence p); /* active error inactive */
struct slice presence_console_word(
    enum presence p); /* online busy error offline */
struct slice presence_monitor_word(enum presence p); /* online error offline */

/*
 * What agents say of themselves, and other back ends of agents: a word that
 * lowers what is derived, or none.  "error" "failed" "unhealthy" -> ERROR,
 * "degraded" "warning" -> DEGRADED, "busy" -> BUSY, "offline" -> OFFLINE,
 * anything else -> JOINING, which is no claim.
 */
enum presence presence_claim(struct slice word);

/* The lower of what is derived and what is claimed. */
enum presence presence_lower(enum presence derived, enum presence claim);

#endif
