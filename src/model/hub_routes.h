/*
 * hub_routes: where the hub keeps routes (model; private to it, see
 * hub_tunnel.h).
 */
#ifndef MODEL_HUB_ROUTES_H
#define MODEL_HUB_ROUTES_H

#include <stdbool.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"

struct route;

/* And what lanes know of them. */
struct tunnels {
	struct map routes;    /* by id */
	struct map names;     /* the same by name */
	struct route **sites; /* the same by host and prefix; owned array */
	struct route **ids;   /* and by id */
	size_t count;         /* in those two */
	size_t room;
	struct map pools;     /* by selector */
	struct list pool_use; /* the same, longest unused first */
	uint64_t grants;
	bool untold;   /* lanes have not the newest list */
	bool owed;     /* they are to forget everything */
	bool owed_cut; /* and to cut it */
	msec retry_at;
};

#endif
