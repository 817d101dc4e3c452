/*
 * route: what a tunnel route may say (floor: model).
 */
#ifndef MODEL_ROUTE_H
#define MODEL_ROUTE_H

#include "base/arena.h"

#include "model/tunnel.h"

enum {
	ROUTE_HOST_MAX = 253,
	ROUTE_PREFIX_MAX = 256,
	ROUTE_NAME_MAX = 128,
	ROUTE_RULES_MAX = 16 * 1024, /* bytes of rules_json */
	ROUTE_RULES = 32,            /* fields set or removed, each way */
	ROUTE_ORIGINS = 32,
};

/*
 * Bring it into its form: host in lower case, prefix with one "/" before and
 * none behind, and a name when it has none, made of both.  New text is in
 * the arena.  0 or ERR_NOMEM.
 */
int route_normalise(struct route_record *r, struct arena *a);

/* What is wrong with one in its form: the field and a sentence, or an absent
 * slice.  A text that is JSON is read in scratch. */
struct slice route_fault(
    const struct route_record *r, struct arena *scratch, struct slice *field);

/* The same of a target that a visitor names. */
struct slice tunnel_fault(const struct tunnel_target *t, struct slice *field);

/* By host, then by prefix: "/" before all others of its host. */
int route_cmp(const struct route_record *a, const struct route_record *b);

/*
 * The place of the route whose host is just this and whose prefix is the
 * longest that path begins with, at a border; count when there is none.
 * list is in the order of route_cmp.
 */
size_t route_longest(const struct route_record *const *list, size_t count,
    struct slice host, struct slice path);

#endif
