/*
 * pass_table: where a lane keeps its passes (floor: server; see pass.h).
 */
#ifndef SERVER_PASS_TABLE_H
#define SERVER_PASS_TABLE_H

#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"

#include "io/loop.h"

struct passes {
	struct map table;   /* those to be found, by visit and credential */
	struct map buckets; /* all, by what they are about */
	struct list all;    /* all */
	struct list age;    /* those of the table, longest unused first */
	struct heap expiring;
	struct loop_timer timer;
	struct buf key; /* scratch */
};

#endif
