/*
 * sched: which stream of a link sends next (floor: wire; decisions of the
 * stop).
 *
 * Pure.  Classes, each of which goes before all below it: what is short and
 * waited for by the other program (starts, exits, acknowledgements), what is
 * short and waited for by somebody (keystrokes, small requests), and bulk;
 * however many are brisk, every ninth turn of the two is bulk's.
 * Inside a class streams take turns by deficit round robin, so that one that
 * shouts costs the others no more than its share.  Control text and yamux's
 * own frames go before all of them and are not in here.
 */
#ifndef WIRE_SCHED_H
#define WIRE_SCHED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"

enum { SCHED_QUANTUM = 16 * 1024, SCHED_BRISK = 8 };

/* From last to first. */
enum sched_turn { TURN_IDLE, TURN_BULK, TURN_BRISK, TURN_SOON };

/* Embed one in each stream. */
struct sched_item {
	struct list link;
	enum sched_turn class;
	long credit; /* bytes that it may still send in this turn; a debt
		      * when its last frame was longer */
};

struct sched {
	struct list waiting[TURN_SOON]; /* by class, without TURN_IDLE */
	unsigned brisk; /* turns of that class since bulk's last */
};

void sched_init(struct sched *s);
void sched_item_init(struct sched_item *i);

/* Has this to send from now on; TURN_IDLE: nothing.  An item keeps its
 * place when the class is what it was. */
void sched_set(struct sched *s, struct sched_item *i, enum sched_turn class);

/* Who is next; NULL when nobody has anything. */
struct sched_item *sched_next(struct sched *s);

/* The item that is next has sent n bytes, at most SCHED_QUANTUM; 0 ends its
 * turn. */
void sched_spent(struct sched *s, struct sched_item *i, size_t n);

bool sched_any(const struct sched *s);

#endif
