/*
 * hop_list: fields that are being put together for the next hop (floor:
 * wire; part of hop).
 *
 * The first failure stays in err.
 */
#ifndef WIRE_HOP_LIST_H
#define WIRE_HOP_LIST_H

#include "wire/hop.h"

struct hop_list {
	struct arena *arena;
	const struct http1_head *head; /* where fields come from */
	struct slice text;             /* the copy of its bytes */
	struct http1_pair *pairs;
	size_t count, room;
	int err;
};

/* Room for the fields of h and so many more. */
void hop_list_init(struct hop_list *l, const struct http1_head *h,
    struct arena *a, size_t more);

/* The same bytes in the copy; what is not of the head stays. */
struct slice hop_kept(const struct hop_list *l, struct slice s);

/* Both must outlive the list. */
void hop_put(struct hop_list *l, struct slice name, struct slice value);
void hop_drop(struct hop_list *l, struct slice name);

/* Bytes that are being put together where there is room for them. */
struct hop_text {
	uint8_t *mem;
	size_t len;
};

/* Room for len bytes; mem is NULL when there is no memory. */
struct hop_text hop_room(struct hop_list *l, size_t len);
void hop_add(struct hop_text *t, struct slice s);

/* The parts behind each other; absent when there is no memory. */
struct slice hop_join(
    struct hop_list *l, const struct slice *parts, size_t count);

/* All values with a name, and last, as one list. */
struct slice hop_append(
    struct hop_list *l, const char *name, struct slice last);

/* *host may be NULL: there is none to be set. */
void hop_apply(struct hop_list *l, const struct hop_rule *rules, size_t count,
    struct slice *host);

/* Equal, ignoring case, with '_' for '-': to CGI and its like they are the
 * same (RFC 3875 4.1.18).  want is in lower case. */
bool hop_alike(struct slice name, struct slice want);
/* The same of the beginning. */
bool hop_begins(struct slice name, struct slice want);

/* Whether a cookie's text begins with a name of Muster's own. */
bool hop_cookie_is_ours(const struct hop *hop, struct slice cookie);

/* s without the route's prefix; absent when it is not under it. */
struct slice hop_under(struct slice path, struct slice prefix);

#endif
