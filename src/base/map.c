#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "base/map.h"

enum { ROOM_MIN = 16 };

struct map_slot {
	struct slice key; /* borrowed */
	void *value;      /* borrowed; NULL = free */
	uint64_t hash;
};

static uint64_t
rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

uint64_t
map_hash(const uint64_t seed[2], struct slice key)
{
	uint64_t v[4] = { seed[0] ^ 0x736f6d6570736575U,
		seed[1] ^ 0x646f72616e646f6dU, seed[0] ^ 0x6c7967656e657261U,
		seed[1] ^ 0x7465646279746573U };
	uint64_t word = 0;
	size_t at = 0;

	for (; key.len - at >= 8; at += 8) {
		memcpy(&word, key.ptr + at, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)key.len << 56;
	for (size_t i = 0; at + i < key.len; i++)
		word |= (uint64_t)key.ptr[at + i] << (8 * i);
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void
map_init(struct map *m, size_t cap, const uint64_t seed[2])
{
	*m = (struct map){ .cap = cap, .seed = { seed[0], seed[1] } };
}

void
map_fini(struct map *m)
{
	alloc_free(m->slots);
	*m = (struct map){ 0 };
}

/* The slot that holds the key, or the free one where it would go. */
static struct map_slot *
find(const struct map *m, struct slice key, uint64_t hash)
{
	size_t i = hash & (m->room - 1);

	for (;;) {
		struct map_slot *s = &m->slots[i];
		if (s->value == NULL)
			return s;
		if (s->hash == hash && slice_eq(s->key, key))
			return s;
		i = (i + 1) & (m->room - 1);
	}
}

void *
map_get(const struct map *m, struct slice key)
{
	if (m->count == 0)
		return NULL;
	return find(m, key, map_hash(m->seed, key))->value;
}

static int
grow(struct map *m)
{
	size_t want = m->room == 0 ? ROOM_MIN : m->room * 2;
	struct map_slot *slots = alloc_array(want, sizeof(*slots));

	if (slots == NULL)
		return ERR_NOMEM;
	struct map wider = *m;
	wider.slots = slots;
	wider.room = want;
	for (size_t i = 0; i < m->room; i++) {
		if (m->slots[i].value != NULL)
			*find(&wider, m->slots[i].key, m->slots[i].hash) =
			    m->slots[i];
	}
	alloc_free(m->slots);
	*m = wider;
	return 0;
}

int
map_put(struct map *m, struct slice key, void *value)
{
	assert(value != NULL);
	uint64_t hash = map_hash(m->seed, key);

	if (m->count > 0 && find(m, key, hash)->value != NULL)
		return ERR_EXISTS;
	if (m->count >= m->cap)
		return ERR_FULL;
	/* At most two thirds full keeps the probes short. */
	if ((m->count + 1) * 3 > m->room * 2) {
		int err = grow(m);
		if (err != 0)
			return err;
	}
	*find(m, key, hash) = (struct map_slot){ key, value, hash };
	m->count++;
	return 0;
}

void *
map_del(struct map *m, struct slice key)
{
	if (m->count == 0)
		return NULL;
	struct map_slot *s = find(m, key, map_hash(m->seed, key));
	void *value = s->value;
	if (value == NULL)
		return NULL;

	/* Close the gap: move back whatever probed past it (Knuth 6.4 R). */
	size_t gap = (size_t)(s - m->slots);
	size_t i = gap;
	for (;;) {
		i = (i + 1) & (m->room - 1);
		struct map_slot *next = &m->slots[i];
		if (next->value == NULL)
			break;
		size_t home = next->hash & (m->room - 1);
		if (((i - home) & (m->room - 1)) >=
		    ((i - gap) & (m->room - 1))) {
			m->slots[gap] = *next;
			gap = i;
		}
	}
	m->slots[gap] = (struct map_slot){ 0 };
	m->count--;
	return value;
}

void *
map_next(const struct map *m, size_t *pos)
{
	while (*pos < m->room) {
		void *value = m->slots[(*pos)++].value;
		if (value != NULL)
			return value;
	}
	return NULL;
}
