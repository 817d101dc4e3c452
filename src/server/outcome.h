/*
 * outcome: what an agent says of a command (floor: server).
 *
 * The JSON of STARTED, EXIT and REFUSED (docs/protocol/muster.md, 4).  What
 * is not of that shape says nothing of the command, least of all that it
 * went well.
 */
#ifndef SERVER_OUTCOME_H
#define SERVER_OUTCOME_H

#include "base/arena.h"

#include "model/event.h"

/* Fills *o, whose strings are in the arena; EXIT must have an exit_code.
 * 0, an error of js_parse or of the getters, or ERR_NOMEM. */
int outcome_decode(enum event_kind kind, struct slice json, struct arena *a,
    struct outcome *o);

#endif
