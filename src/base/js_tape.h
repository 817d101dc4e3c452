/*
 * js_tape: how a read JSON text lies in memory; private to base/js*.c.
 *
 * Values stand in the order of the text.  In an object each is preceded by
 * its name.  A node may have one more slot behind it: a container its count,
 * a string with escapes its decoded bytes.  `next` leads behind the node and
 * all it contains, so that a walk costs one step per member.
 */
#ifndef BASE_JS_TAPE_H
#define BASE_JS_TAPE_H

#include "base/js.h"

enum { JS_DECODED = 1, JS_TRUE = 2 };

/* Slot 0 is never used: 0 is "no container", the root is at 1. */
enum { JS_TAPE_ROOT = 1 };

struct js_node {
	uint32_t start, end; /* in the text */
	uint32_t next;
	uint8_t kind; /* enum js_kind; names are JS_STRING */
	uint8_t flags;
};

union js_slot {
	struct js_node node;
	struct slice decoded; /* in the arena */
	struct {
		uint64_t names;  /* filter for repeated names, see js_read.c */
		uint32_t count;  /* members or elements */
		uint32_t parent; /* while open */
	} inside;
};

/* The decoded bytes of the string at slot i. */
static inline struct slice
js_tape_text(const struct js_doc *doc, uint32_t i)
{
	const struct js_node *n = &doc->tape[i].node;

	if ((n->flags & JS_DECODED) != 0)
		return doc->tape[i + 1].decoded;
	return (struct slice){ doc->text.ptr + n->start + 1,
		n->end - n->start - 2 };
}

#endif
