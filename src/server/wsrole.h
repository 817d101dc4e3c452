/*
 * wsrole: what every role on a WebSocket does alike (floor: server).
 */
#ifndef SERVER_WSROLE_H
#define SERVER_WSROLE_H

#include "wire/wsconn.h"

#include "server/web.h"

enum { WSROLE_PAUSE = 2 }; /* ms after which a paused one looks again */

/* Write what the machine itself has to say.  Whether c is there still. */
bool wsrole_flush(struct conn *c, struct wsconn *ws);

/*
 * Read as fast as the hub takes what is said: a flood waits a moment at a
 * time, and the rest is TCP's to hold.  Whether reading is paused now.
 */
bool wsrole_pace(struct conn *c, bool paused);

/* Whether the peer's close is an end it did not mean: anything but 1000, 1001
 * and no code at all. */
bool wsrole_broke(uint16_t code);

/* Whether the peer has been silent for as long as it may: to be closed with
 * 1001 `stale`, before the machine gives up, for then it says no more. */
bool wsrole_stale(const struct conn *c, const struct wsconn *ws);
/* And after that: no answer is waited for. */
void wsrole_give_up(struct conn *c);

/* Ask the hub whether it may come in; answered by WELCOME or DENIED. */
void wsrole_knock(
    struct conn *c, struct call *call, enum entrance entrance, bool native);

#endif
