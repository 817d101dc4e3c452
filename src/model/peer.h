/*
 * peer: the address of a connection (floor: model).
 *
 * An address means the same on this lane, another lane or another
 * controller.  Slots are reused, generations are not: what is sent to a
 * stale address is dropped, and whoever asks learns "gone".
 */
#ifndef MODEL_PEER_H
#define MODEL_PEER_H

#include <stdbool.h>
#include <stdint.h>

struct peer_id {
	uint16_t node;
	uint16_t lane;
	uint32_t slot;
	uint32_t generation; /* 0 = no peer */
};

static inline bool
peer_eq(struct peer_id a, struct peer_id b)
{
	return a.node == b.node && a.lane == b.lane && a.slot == b.slot &&
	    a.generation == b.generation;
}

static inline bool
peer_some(struct peer_id a)
{
	return a.generation != 0;
}

#endif
