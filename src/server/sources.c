#include <pthread.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/map.h"

#include "io/rand.h"

#include "server/sources.h"

struct source {
	struct address address; /* the key */
	uint64_t known;
	uint64_t strangers;
};

struct sources {
	struct sources_limits limits;
	pthread_mutex_t lock;
	struct map table; /* of those that have connections */
	uint64_t all;
};

struct sources *
sources_new(const struct sources_limits *limits)
{
	struct sources *s = alloc_new(sizeof(*s));
	uint64_t seed[2];

	if (s == NULL)
		return NULL;
	rand_fill(seed, sizeof(seed));
	s->limits = *limits;
	pthread_mutex_init(&s->lock, NULL);
	map_init(&s->table, limits->all + 1, seed);
	return s;
}

void
sources_free(struct sources *s)
{
	struct source *one;
	size_t pos = 0;

	if (s == NULL)
		return;
	while ((one = map_next(&s->table, &pos)) != NULL)
		alloc_free(one);
	map_fini(&s->table);
	pthread_mutex_destroy(&s->lock);
	alloc_free(s);
}

static struct slice
key_of(const struct address *a)
{
	return (struct slice){ a->bytes, sizeof(a->bytes) };
}

/* The entry of an address, made when there is none. */
static struct source *
take(struct sources *s, const struct address *from)
{
	struct source *one = map_get(&s->table, key_of(from));

	if (one != NULL)
		return one;
	one = alloc_new(sizeof(*one));
	if (one == NULL)
		return NULL;
	one->address = *from;
	if (map_put(&s->table, key_of(&one->address), one) == 0)
		return one;
	alloc_free(one);
	return NULL;
}

static void
settle(struct sources *s, struct source *one)
{
	if (one->known + one->strangers > 0)
		return;
	map_del(&s->table, key_of(&one->address));
	alloc_free(one);
}

static int
add(struct sources *s, const struct address *from, bool known)
{
	struct source *one = take(s, from);
	int err = 0;

	if (one == NULL)
		return ERR_NOMEM;
	if (known && one->known < s->limits.known)
		one->known++;
	else if (!known && one->strangers < s->limits.strangers)
		one->strangers++;
	else
		err = ERR_LIMITED;
	settle(s, one);
	return err;
}

static void
take_off(struct sources *s, const struct address *from, bool known)
{
	struct source *one = map_get(&s->table, key_of(from));

	if (one == NULL)
		return;
	if (known)
		one->known--;
	else
		one->strangers--;
	settle(s, one);
}

int
sources_enter(struct sources *s, const struct address *from, bool *reserved)
{
	int err = 0;

	pthread_mutex_lock(&s->lock);
	if (s->all >= s->limits.all)
		err = ERR_FULL;
	else if (from != NULL)
		err = add(s, from, false);
	if (err == 0) {
		s->all++;
		*reserved = s->all + s->limits.reserve > s->limits.all;
	}
	pthread_mutex_unlock(&s->lock);
	return err;
}

int
sources_know(
    struct sources *s, const struct address *was, const struct address *from)
{
	pthread_mutex_lock(&s->lock);
	int err = add(s, from, true);
	if (err == 0 && was != NULL)
		take_off(s, was, false);
	pthread_mutex_unlock(&s->lock);
	return err;
}

void
sources_leave(struct sources *s, const struct address *from, bool known)
{
	pthread_mutex_lock(&s->lock);
	s->all--;
	if (from != NULL)
		take_off(s, from, known);
	pthread_mutex_unlock(&s->lock);
}
