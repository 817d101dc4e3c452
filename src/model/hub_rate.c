/*
 * How often: failed credentials of an address, logins of an account,
 * requests of a user.  Windows of a minute from their first use; the table
 * forgets who was quiet longest when it is full.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_state.h"

enum { WINDOW = 60000 };

void
rate_init(struct rate_table *t, size_t cap, const uint64_t seed[2])
{
	map_init(&t->map, cap, seed);
	list_init(&t->age);
}

void
rate_fini(struct rate_table *t)
{
	while (!list_empty(&t->age))
		alloc_free(LIST_OF(list_pop(&t->age), struct attempts, link));
	map_fini(&t->map);
}

static struct attempts *
attempts_of(struct hub *h, struct rate_table *t, struct slice key)
{
	struct attempts *a = map_get(&t->map, key);

	if (a != NULL)
		return a;
	if (t->map.count >= t->map.cap) {
		a = LIST_OF(list_pop(&t->age), struct attempts, link);
		map_del(&t->map, a->key);
		alloc_free(a);
	}
	a = alloc_new(sizeof(*a) + key.len + 1);
	if (a == NULL)
		return NULL;
	if (key.len > 0)
		memcpy(a + 1, key.ptr, key.len);
	a->key = (struct slice){ (const uint8_t *)(a + 1), key.len };
	a->since = h->now;
	if (map_put(&t->map, a->key, a) != 0) {
		alloc_free(a);
		return NULL;
	}
	list_push(&t->age, &a->link);
	return a;
}

bool
rate_take(struct hub *h, struct rate_table *t, struct slice key, uint32_t limit,
    struct rate_state *out)
{
	struct attempts *a = attempts_of(h, t, key);

	*out = (struct rate_state){ .limit = limit, .reset = 1 };
	if (a == NULL)
		return false;
	if (h->now - a->since >= WINDOW) {
		a->since = h->now;
		a->count = 0;
	}
	list_remove(&a->link);
	list_push(&t->age, &a->link);
	out->reset = (uint32_t)((a->since + WINDOW - h->now + 999) / 1000);
	if (a->count >= limit)
		return false;
	out->left = limit - ++a->count;
	return true;
}
