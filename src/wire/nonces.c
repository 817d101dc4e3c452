#include "base/alloc.h"
#include "base/err.h"

#include "wire/token.h"

#include "wire/nonces.h"

enum { ROOM_MIN = 64, PARTS = 3 };

static const uint8_t blank[NONCE_HASH];

void
nonces_init(struct nonces *n, msec hold, uint32_t each, uint32_t all, msec now)
{
	*n = (struct nonces){ .hold = hold, .each = each, .all = all };
	n->ring[0].since = now;
}

static void
forget(struct nonces *n, struct nonce_generation *g)
{
	n->count -= g->table.count;
	alloc_free(g->table.slots);
	alloc_free(g->tally.slots);
	*g = (struct nonce_generation){ 0 };
}

void
nonces_fini(struct nonces *n)
{
	for (size_t i = 0; i < NONCE_GENERATIONS; i++)
		forget(n, &n->ring[i]);
}

int
nonce_owner(struct token_hasher *h, struct slice name, uint64_t *out)
{
	const struct slice none = { 0 };
	uint8_t hash[SHA256_LEN];
	int err = token_hasher_sha256(h, name, none, hash);

	if (err != 0)
		return err;
	memcpy(out, hash, sizeof(*out));
	/* 0 stands for free. */
	*out |= 1;
	return 0;
}

int
nonce_of(struct token_hasher *h, uint64_t owner, struct slice text,
    struct nonce *out)
{
	const struct slice first = { (const uint8_t *)&owner, sizeof(owner) };
	uint8_t hash[SHA256_LEN];
	int err = token_hasher_sha256(h, first, text, hash);

	if (err != 0)
		return err;
	out->owner = owner;
	memcpy(out->hash, hash, NONCE_HASH);
	out->hash[0] |= 1;
	return 0;
}

int
nonce_make(struct slice owner, struct slice text, struct nonce *out)
{
	struct token_hasher h;
	uint64_t id;
	int err = token_hasher_init(&h);

	if (err == 0)
		err = nonce_owner(&h, owner, &id);
	if (err == 0)
		err = nonce_of(&h, id, text, out);
	token_hasher_fini(&h);
	return err;
}

/* Tables ------------------------------------------------------------------- */

static uint64_t
mix(const uint8_t *hash)
{
	uint64_t x;

	memcpy(&x, hash + 8, sizeof(x));
	return x;
}

/* Its place, or the free one where it would be; room is never full. */
static uint32_t
place(const struct nonce_table *t, const uint8_t *hash)
{
	uint32_t at = (uint32_t)mix(hash) & (t->room - 1);

	while (memcmp(t->slots[at], blank, NONCE_HASH) != 0 &&
	    memcmp(t->slots[at], hash, NONCE_HASH) != 0)
		at = (at + 1) & (t->room - 1);
	return at;
}

static bool
has(const struct nonce_table *t, const uint8_t *hash)
{
	return t->room > 0 &&
	    memcmp(t->slots[place(t, hash)], hash, NONCE_HASH) == 0;
}

static int
grow_table(struct nonce_table *t)
{
	struct nonce_table more = {
		.room = t->room == 0 ? ROOM_MIN : 2 * t->room, .count = t->count
	};

	if (t->count < t->room / 4 * 3)
		return 0;
	more.slots = alloc_new(more.room * sizeof(*more.slots));
	if (more.slots == NULL)
		return ERR_NOMEM;
	for (uint32_t i = 0; i < t->room; i++) {
		if (memcmp(t->slots[i], blank, NONCE_HASH) != 0)
			memcpy(more.slots[place(&more, t->slots[i])],
			    t->slots[i], NONCE_HASH);
	}
	alloc_free(t->slots);
	*t = more;
	return 0;
}

static uint32_t
tally_place(const struct nonce_tally *t, uint64_t owner)
{
	uint32_t at = (uint32_t)(owner >> 8) & (t->room - 1);

	while (t->slots[at].owner != 0 && t->slots[at].owner != owner)
		at = (at + 1) & (t->room - 1);
	return at;
}

static uint32_t
tally_of(const struct nonce_tally *t, uint64_t owner)
{
	return t->room == 0 ? 0 : t->slots[tally_place(t, owner)].count;
}

static int
grow_tally(struct nonce_tally *t)
{
	struct nonce_tally more = {
		.room = t->room == 0 ? ROOM_MIN : 2 * t->room, .count = t->count
	};

	if (t->count < t->room / 4 * 3)
		return 0;
	more.slots = alloc_new(more.room * sizeof(*more.slots));
	if (more.slots == NULL)
		return ERR_NOMEM;
	for (uint32_t i = 0; i < t->room; i++) {
		if (t->slots[i].owner != 0)
			more.slots[tally_place(&more, t->slots[i].owner)] =
			    t->slots[i];
	}
	alloc_free(t->slots);
	*t = more;
	return 0;
}

/* Generations -------------------------------------------------------------- */

static struct nonce_generation *
generation(struct nonces *n, uint64_t number)
{
	return &n->ring[number % NONCE_GENERATIONS];
}

/* A generation is closed where the next begins. */
static void
turn(struct nonces *n, msec now)
{
	msec part = n->hold / PARTS;

	while (n->oldest < n->newest &&
	    now - generation(n, n->oldest + 1)->since > n->hold)
		forget(n, generation(n, n->oldest++));
	if (now - generation(n, n->newest)->since < part ||
	    n->newest - n->oldest == NONCE_GENERATIONS - 1)
		return;
	n->newest++;
	generation(n, n->newest)->since = now;
}

int
nonces_put(struct nonces *n, const struct nonce *x, msec now)
{
	turn(n, now);
	struct nonce_generation *g = generation(n, n->newest);
	int err = grow_table(&g->table);
	if (err == 0)
		err = grow_tally(&g->tally);
	if (err != 0)
		return err;
	uint32_t at = place(&g->table, x->hash);
	if (memcmp(g->table.slots[at], x->hash, NONCE_HASH) == 0)
		return 0;
	memcpy(g->table.slots[at], x->hash, NONCE_HASH);
	g->table.count++;
	n->count++;
	at = tally_place(&g->tally, x->owner);
	g->tally.count += g->tally.slots[at].owner == 0;
	g->tally.slots[at].owner = x->owner;
	g->tally.slots[at].count++;
	return 0;
}

int
nonces_take(struct nonces *n, const struct nonce *x, msec now)
{
	uint32_t of_owner = 0;

	turn(n, now);
	for (uint64_t i = n->oldest; i <= n->newest; i++) {
		const struct nonce_generation *g = generation(n, i);
		if (has(&g->table, x->hash))
			return ERR_EXISTS;
		of_owner += tally_of(&g->tally, x->owner);
	}
	if (of_owner >= n->each || n->count >= n->all)
		return ERR_FULL;
	return nonces_put(n, x, now);
}
