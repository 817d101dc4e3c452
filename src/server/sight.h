/*
 * sight: what a user with a selector may see of what is stored (floor:
 * server).
 *
 * The hub judges what lives; rows of commands and of the journal are judged
 * here, by the labels that their agent has now, on the thread that reads.
 */
#ifndef SERVER_SIGHT_H
#define SERVER_SIGHT_H

#include "model/selector.h"

#include "store/store.h"

struct sight {
	struct slice text;    /* borrowed; empty: sees all */
	struct slice user_id; /* borrowed */
	int64_t workspace_id;
	struct selector selector;
	struct store_reader *reader; /* borrowed */
	struct arena scratch;
	char agent[160]; /* judged last */
	bool sees;
	struct row_filter commands;
	struct row_filter lines;
};

/* text is a user's selector, already checked.  Must not move. */
void sight_init(struct sight *s, struct slice text, struct slice user_id,
    int64_t workspace_id);
void sight_fini(struct sight *s);

/* What to hand to the store; NULL when all may be seen. */
const struct row_filter *sight_commands(
    struct sight *s, struct store_reader *r);
const struct row_filter *sight_lines(struct sight *s, struct store_reader *r);

/* One command. */
bool sight_command(
    struct sight *s, struct store_reader *r, const struct command_record *c);

#endif
