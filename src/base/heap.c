#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "base/heap.h"

enum { ROOM_MIN = 16 };

void
heap_init(struct heap *h, size_t cap)
{
	*h = (struct heap){ .cap = cap };
}

void
heap_fini(struct heap *h)
{
	alloc_free(h->nodes);
	*h = (struct heap){ 0 };
}

static void
place(struct heap *h, size_t i, struct heap_node *n)
{
	h->nodes[i] = n;
	n->at = i + 1;
}

static void
sift_up(struct heap *h, size_t i)
{
	struct heap_node *n = h->nodes[i];

	while (i > 0 && n->due < h->nodes[(i - 1) / 2]->due) {
		place(h, i, h->nodes[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(h, i, n);
}

static void
sift_down(struct heap *h, size_t i)
{
	struct heap_node *n = h->nodes[i];

	for (;;) {
		size_t kid = 2 * i + 1;
		if (kid >= h->count)
			break;
		if (kid + 1 < h->count &&
		    h->nodes[kid + 1]->due < h->nodes[kid]->due)
			kid++;
		if (h->nodes[kid]->due >= n->due)
			break;
		place(h, i, h->nodes[kid]);
		i = kid;
	}
	place(h, i, n);
}

static int
make_room(struct heap *h)
{
	if (h->count < h->room)
		return 0;
	if (h->count >= h->cap)
		return ERR_FULL;
	size_t want = h->room == 0 ? ROOM_MIN : h->room * 2;
	if (want > h->cap)
		want = h->cap;
	struct heap_node **nodes =
	    alloc_resize(h->nodes, want * sizeof(*h->nodes));
	if (nodes == NULL)
		return ERR_NOMEM;
	h->nodes = nodes;
	h->room = want;
	return 0;
}

int
heap_set(struct heap *h, struct heap_node *n, msec due)
{
	if (n->at == 0) {
		int err = make_room(h);
		if (err != 0)
			return err;
		n->due = due;
		place(h, h->count++, n);
	} else {
		n->due = due;
	}
	size_t i = n->at - 1;
	assert(h->nodes[i] == n);
	sift_up(h, i);
	sift_down(h, n->at - 1);
	return 0;
}

void
heap_drop(struct heap *h, struct heap_node *n)
{
	if (n->at == 0)
		return;
	size_t i = n->at - 1;
	assert(h->nodes[i] == n);
	struct heap_node *last = h->nodes[--h->count];
	n->at = 0;
	if (last == n)
		return;
	place(h, i, last);
	sift_up(h, i);
	sift_down(h, last->at - 1);
}

struct heap_node *
heap_first(const struct heap *h)
{
	return h->count == 0 ? NULL : h->nodes[0];
}
