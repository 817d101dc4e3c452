/*
 * verbs: what can be asked of agents that sign their messages (floor: model).
 *
 * They know five words, each with named arguments that are strings.  A
 * command for one is its word and NAME=VALUE for each argument.
 */
#ifndef MODEL_VERBS_H
#define MODEL_VERBS_H

#include "base/arena.h"

#include "model/record.h"

enum { VERB_ARGS = 32, VERB_SIZE = 24 * 1024 };

struct verb_arg {
	struct slice name;  /* letter or _, then letters, digits, _ . - */
	struct slice value; /* printable ASCII without < > & */
};

struct verb_call {
	struct slice verb;
	struct verb_arg args[VERB_ARGS]; /* sorted by name, no name twice */
	size_t count;
};

/* Its number, from 0; -1 for what is none. */
int verbs_find(struct slice word);

/*
 * What a command asks.  0; ERR_UNSUPPORTED, and why (a literal): such an
 * agent cannot be asked that; ERR_NOMEM.  What is read lives in a.
 */
int verbs_read(const struct command_record *r, struct arena *a,
    struct verb_call *out, struct slice *why);

#endif
