/*
 * command: the life of a command (floor: model).
 *
 * queued -> sent -> running -> one of the final states, as a table.
 */
#ifndef MODEL_COMMAND_H
#define MODEL_COMMAND_H

#include <stdbool.h>

#include "model/record.h"

/* "queued", "sent"... as in REST, logs and the command line. */
struct slice command_state_name(enum command_state s);
/* 0 or ERR_INVALID. */
int command_state_find(struct slice name, enum command_state *out);
bool command_may_move(enum command_state from, enum command_state to);
/* No move leads out of it. */
bool command_is_final(enum command_state s);

/* Whether both ask for the same on the same agent; when it must have begun is
 * no part of that. */
bool command_same(
    const struct command_record *a, const struct command_record *b);

/* "low", "normal", "high". */
struct slice priority_name(uint8_t priority);
int priority_find(struct slice name, uint8_t *out);

#endif
