#include "base/alloc.h"

#include "server/readers.h"

enum { READERS_MAX = 8 };

struct reader {
	struct list link; /* among the idle ones */
	struct store_reader *store;
};

struct reader *
readers_take(struct dock *d)
{
	struct list *l = list_pop(&d->readers);

	if (l != NULL)
		return LIST_OF(l, struct reader, link);
	if (d->reader_count >= READERS_MAX)
		return NULL;
	struct reader *r = alloc_new(sizeof(*r));
	if (r == NULL)
		return NULL;
	list_init(&r->link);
	d->reader_count++;
	return r;
}

void
readers_give(struct dock *d, struct reader *r)
{
	list_push(&d->readers, &r->link);
}

int
readers_open(struct dock *d, struct reader *r, struct store_reader **out)
{
	int err = r->store != NULL
	    ? 0
	    : store_reader_open(&r->store, &d->server->store_config);

	*out = r->store;
	return err;
}

bool
readers_busy(const struct dock *d)
{
	size_t idle = 0;

	for (struct list *l = d->readers.next; l != &d->readers; l = l->next)
		idle++;
	return idle < d->reader_count;
}

void
readers_end(struct dock *d)
{
	for (struct list *l; (l = list_pop(&d->readers)) != NULL;) {
		struct reader *r = LIST_OF(l, struct reader, link);
		store_reader_close(r->store);
		alloc_free(r);
	}
}
