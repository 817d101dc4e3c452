/*
 * clone: whole copies of records (floor: model).
 *
 * A clone is one block: the struct and, behind it, the bytes of all its
 * slices.  Absent slices stay absent.
 */
#ifndef MODEL_CLONE_H
#define MODEL_CLONE_H

#include "base/arena.h"

#include "model/event.h"

enum clone_kind {
	CLONE_USER,
	CLONE_LOGIN,
	CLONE_TOKEN,
	CLONE_AGENT,
	CLONE_COMMAND,
	CLONE_LINK, /* struct connection_record */
	CLONE_OUTCOME,
	CLONE_STOP,
	CLONE_RECEIPT,
	CLONE_SECRET,
	CLONE_LOG,
	CLONE_ROUTE,
	CLONE_KINDS
};

/* On the heap, ended by alloc_free; NULL without memory. */
void *clone_new(enum clone_kind kind, const void *from);

/* In an arena; NULL without memory. */
void *clone_in(struct arena *a, enum clone_kind kind, const void *from);

/* Bytes that a clone takes. */
size_t clone_size(enum clone_kind kind, const void *from);

#endif
