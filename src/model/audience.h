/*
 * audience: who may see what (floor: model).
 *
 * Everybody who watches with the same selector in the same workspace is one
 * audience, known by a small number.  What is published carries the set of
 * audiences that may see it, so that a lane decides for each watcher by one
 * bit, and a selector is judged once an agent and not once a dashboard.
 */
#ifndef MODEL_AUDIENCE_H
#define MODEL_AUDIENCE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	AUDIENCES = 256,     /* different selectors watching at once */
	AUDIENCES_IDLE = 16, /* kept for who comes back */
};

struct audience_set {
	uint64_t words[AUDIENCES / 64];
};

static inline void
audience_add(struct audience_set *s, unsigned audience)
{
	s->words[audience / 64] |= UINT64_C(1) << audience % 64;
}

static inline bool
audience_has(const struct audience_set *s, unsigned audience)
{
	return (s->words[audience / 64] >> audience % 64 & 1) != 0;
}

#endif
