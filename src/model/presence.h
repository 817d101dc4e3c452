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

/* The word of the cluster dialect: "active", "error" or "inactive". */
struct slice presence_cluster_word(enum presence p);

#endif
