/*
 * args: one verb's words and options (floor: cli).
 *
 * Options may stand anywhere before "--", long ones as --name VALUE or
 * --name=VALUE, short ones as -n VALUE or -nVALUE, those without a value
 * bundled.  Words after "--" are never looked at.  All text is borrowed from
 * argv.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

struct flag {
	const char *name; /* long; NULL: the short one alone */
	char letter;      /* 0: the long one alone */
	const char *meta; /* of its value; NULL: it has none */
	const char *help;
};

struct flag_list {
	const struct flag *at;
	size_t count;
};

struct args {
	const char **words; /* in the arena */
	size_t count;
	char **tail; /* behind "--"; NULL without one */
	size_t tail_count;
	struct args_given {
		const struct flag *flag;
		const char *value; /* NULL when it has none */
	} * given;                 /* in the arena */
	size_t given_count;
};

/*
 * 0; ERR_NOMEM; or ERR_NOT_FOUND (no such option), ERR_MISSING (its value),
 * ERR_TYPE (a value where none is meant) with *culprit the option as typed.
 * An option is looked for in both lists.
 */
int args_parse(int argc, char **argv, const struct flag_list lists[2],
    struct arena *a, struct args *out, const char **culprit);

/* Whether it was given, and its last value.  name is the long one, or a
 * string of one letter. */
bool args_has(const struct args *a, const char *name);
const char *args_get(const struct args *a, const char *name);

/* All its values, in order: *at = 0 first; NULL at the end. */
const char *args_each(const struct args *a, const char *name, size_t *at);

#endif
