/*
 * list: an intrusive doubly linked list (floor: base).
 *
 * The head is a link of its own; an unlinked link points at itself, so that
 * list_remove is safe to call twice.  The list owns nothing.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

/* The structure of the given type whose member is the link at ptr. */
#define LIST_OF(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void
list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool
list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void
list_insert_before(struct list *at, struct list *l)
{
	l->prev = at->prev;
	l->next = at;
	at->prev->next = l;
	at->prev = l;
}

/* Append at the tail of the list whose head is given. */
static inline void
list_push(struct list *head, struct list *l)
{
	list_insert_before(head, l);
}

static inline void
list_push_front(struct list *head, struct list *l)
{
	list_insert_before(head->next, l);
}

static inline void
list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

/* Unlink and return the first link, NULL when empty. */
static inline struct list *
list_pop(struct list *head)
{
	struct list *l = head->next;

	if (l == head)
		return NULL;
	list_remove(l);
	return l;
}

#endif
