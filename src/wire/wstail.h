/*
 * wstail: control frames waiting to be written (floor: wire; RFC 6455 5.5).
 *
 * A small bounded queue that exists only while something is in it.  There is
 * always room for the close frame.  A pong that finds none takes the place
 * of the one before it, because the latest ping alone need be answered
 * (5.5.3); so a flood of pings costs no memory.
 */
#ifndef WIRE_WSTAIL_H
#define WIRE_WSTAIL_H

#include "base/slice.h"
#include "wire/ws.h"

struct wstail;

enum { WSTAIL_FRAME_MAX = 2 + 4 + WS_CONTROL_MAX };

/* Append a whole frame of at most WSTAIL_FRAME_MAX bytes to *t, NULL when
 * empty.  0, ERR_FULL or ERR_NOMEM. */
int wstail_put(struct wstail **t, enum ws_opcode opcode, struct slice frame);

/* What waits, borrowed until the next call; and drop its first n bytes. */
struct slice wstail_peek(const struct wstail *t);
void wstail_eat(struct wstail **t, size_t n);

void wstail_free(struct wstail *t);

/* Bytes that t holds; 0 for NULL. */
size_t wstail_memory(const struct wstail *t);

#endif
