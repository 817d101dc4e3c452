#include "base/alloc.h"
#include "base/err.h"

#include "wire/idtable.h"

enum { ROOM_MIN = 8 };

void
idtable_init(struct idtable *t, uint64_t seed)
{
	*t = (struct idtable){ .factor = seed | 1 };
}

void
idtable_fini(struct idtable *t)
{
	alloc_free(t->slots);
	*t = (struct idtable){ .factor = t->factor };
}

static uint32_t
place(const struct idtable *t, uint32_t id)
{
	return (uint32_t)(id * t->factor >> 32) & (t->room - 1);
}

/* The slot of id, or the free one where it would be. */
static struct idtable_slot *
probe(const struct idtable *t, uint32_t id)
{
	uint32_t i = place(t, id);

	while (t->slots[i].value != NULL && t->slots[i].id != id)
		i = (i + 1) & (t->room - 1);
	return &t->slots[i];
}

void *
idtable_get(const struct idtable *t, uint32_t id)
{
	return t->count == 0 ? NULL : probe(t, id)->value;
}

static int
grow(struct idtable *t)
{
	struct idtable old = *t;

	t->room = old.room == 0 ? ROOM_MIN : old.room * 2;
	t->slots = alloc_array(t->room, sizeof(*t->slots));
	if (t->slots == NULL) {
		*t = old;
		return ERR_NOMEM;
	}
	for (uint32_t i = 0; i < old.room; i++)
		if (old.slots[i].value != NULL)
			*probe(t, old.slots[i].id) = old.slots[i];
	alloc_free(old.slots);
	return 0;
}

int
idtable_put(struct idtable *t, uint32_t id, void *value)
{
	if ((t->count + 1) * 2 > t->room && grow(t) != 0)
		return ERR_NOMEM;
	*probe(t, id) = (struct idtable_slot){ value, id };
	t->count++;
	return 0;
}

/* Linear probing without tombstones: what can follow into the hole does. */
void
idtable_del(struct idtable *t, uint32_t id)
{
	const uint32_t mask = t->room - 1;
	uint32_t hole = (uint32_t)(probe(t, id) - t->slots);

	for (uint32_t i = (hole + 1) & mask; t->slots[i].value != NULL;
	     i = (i + 1) & mask) {
		uint32_t home = place(t, t->slots[i].id);
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		t->slots[hole] = t->slots[i];
		hole = i;
	}
	t->slots[hole].value = NULL;
	if (--t->count == 0)
		idtable_fini(t);
}

void *
idtable_next(const struct idtable *t, size_t *pos)
{
	while (*pos < t->room) {
		void *value = t->slots[(*pos)++].value;
		if (value != NULL)
			return value;
	}
	return NULL;
}
