/*
 * selector: choosing agents by their labels (floor: model).
 *
 * "env=prod,tier!=db,gpu,!old": comma-separated terms that must all hold.
 * key=value and key==value, key!=value (also without the key), key (is
 * there), !key (is not).  Labels set by operators win over reported ones.
 */
#ifndef MODEL_SELECTOR_H
#define MODEL_SELECTOR_H

#include "base/arena.h"
#include "base/slice.h"

enum { SELECTOR_TERMS = 16 };

enum selector_how { TERM_IS, TERM_IS_NOT, TERM_THERE, TERM_NOT_THERE };

struct selector {
	struct {
		struct slice key;
		struct slice value;
		enum selector_how how;
	} terms[SELECTOR_TERMS]; /* borrowing the text */
	size_t count;
};

/* 0, ERR_INVALID or ERR_FULL.  An absent or empty text chooses all. */
int selector_parse(struct slice text, struct selector *out);

/*
 * Whether the labels fit; both are JSON objects of strings or absent, own
 * set by operators, said reported.  ERR_NOMEM, else 0 or 1.
 */
int selector_match(const struct selector *s, struct slice own,
    struct slice said, struct arena *scratch);

/*
 * Whether the labels that operators set rule it out whatever is reported: 1,
 * or 0 while it fits or that is for the agent to say.  ERR_NOMEM.
 */
int selector_excludes(
    const struct selector *s, struct slice own, struct arena *scratch);

/* Label keys: 1 to 63 of [A-Za-z0-9._/-]; values: up to 255 bytes without
 * control characters. */
bool label_key_ok(struct slice key);
bool label_value_ok(struct slice value);

#endif
