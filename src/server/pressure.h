/*
 * pressure: keeping the controller inside its memory (floor: server).
 *
 * Once a second the resident size is held against memory_limit.  Above it,
 * in this order: requests that are not agents' own, health or metrics are
 * answered 503 and their connections closed, attached commands among them;
 * followers that are behind lose their place.  Agents' links, their control
 * and what runs are never touched.  It ends when a tenth of the limit is
 * free again.
 */
#ifndef SERVER_PRESSURE_H
#define SERVER_PRESSURE_H

#include "io/loop.h"

#include "server/server.h"

struct pressure {
	struct server *server;
	struct loop *loop;
	struct loop_timer timer;
	uint64_t limit; /* bytes */
};

/* Begin to watch; memory_limit 0 means a quarter of the machine's. */
void pressure_start(struct pressure *p, struct server *s, struct loop *l);
void pressure_stop(struct pressure *p);

/* Bytes of memory this process has resident; 0 when nobody tells. */
uint64_t pressure_resident(void);

#endif
