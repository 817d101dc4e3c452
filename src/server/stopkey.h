/*
 * stopkey: what proves that an order to stop was one of ours (floor: server;
 * docs/protocol/muster.md section 7).
 *
 * The key is made at the first start and kept in the database, so that a
 * backup carries it; it is never shown and never leaves the controller.
 */
#ifndef SERVER_STOPKEY_H
#define SERVER_STOPKEY_H

#include "model/stop.h"

#include "store/store.h"

#include "server/server.h"

/* From the store, or made and put there.  0 or ERR_*. */
int stopkey_open(struct store *s, uint8_t key[STOP_MAC_LEN], wall_msec now);

/* Set the mac of an order; without memory it has none. */
void stopkey_sign(const struct server *s, struct stop_order *o);

/* Whether what this agent shows has a mac of ours. */
bool stopkey_proves(const struct server *s, struct slice agent_id,
    const struct stop_order *shown);

#endif
