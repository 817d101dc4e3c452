#include <pthread.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/map.h"

#include "io/rand.h"

#include "server/tally.h"

enum { USERS_MAX = 1 << 20 };

struct count {
	uint64_t n;
	struct slice user_id; /* behind the struct */
};

struct tally {
	pthread_mutex_t lock;
	struct map counts;
	uint64_t most;
};

struct tally *
tally_new(uint64_t most)
{
	struct tally *t = alloc_new(sizeof(*t));
	uint64_t seed[2];

	if (t == NULL)
		return NULL;
	rand_fill(seed, sizeof(seed));
	pthread_mutex_init(&t->lock, NULL);
	map_init(&t->counts, USERS_MAX, seed);
	t->most = most;
	return t;
}

void
tally_free(struct tally *t)
{
	struct count *c;
	size_t pos = 0;

	if (t == NULL)
		return;
	while ((c = map_next(&t->counts, &pos)) != NULL) {
		map_del(&t->counts, c->user_id);
		alloc_free(c);
		pos = 0;
	}
	map_fini(&t->counts);
	pthread_mutex_destroy(&t->lock);
	alloc_free(t);
}

static int
enter(struct tally *t, struct slice user_id)
{
	struct count *c = map_get(&t->counts, user_id);

	if (c == NULL) {
		c = alloc_new(sizeof(*c) + user_id.len + 1);
		if (c == NULL)
			return ERR_NOMEM;
		if (user_id.len > 0)
			memcpy(c + 1, user_id.ptr, user_id.len);
		c->user_id =
		    (struct slice){ (const uint8_t *)(c + 1), user_id.len };
		if (map_put(&t->counts, c->user_id, c) != 0) {
			alloc_free(c);
			return ERR_NOMEM;
		}
	}
	if (c->n >= t->most)
		return ERR_LIMITED;
	c->n++;
	return 0;
}

int
tally_enter(struct tally *t, struct slice user_id)
{
	pthread_mutex_lock(&t->lock);
	int err = enter(t, user_id);
	pthread_mutex_unlock(&t->lock);
	return err;
}

void
tally_leave(struct tally *t, struct slice user_id)
{
	pthread_mutex_lock(&t->lock);
	struct count *c = map_get(&t->counts, user_id);

	if (c != NULL && --c->n == 0) {
		map_del(&t->counts, c->user_id);
		alloc_free(c);
	}
	pthread_mutex_unlock(&t->lock);
}
