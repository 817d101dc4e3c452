#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"

#include "model/newsfeed.h"

enum { QUIET = 50, AT_MOST = 1000 };

/* One block: behind the struct are the bytes of its texts. */
struct newsfeed_entry {
	struct heap_node timer;
	struct newsfeed_item item;
	msec since;
};

static struct newsfeed_entry *
entry_of(struct heap_node *n)
{
	return LIST_OF(n, struct newsfeed_entry, timer);
}

void
newsfeed_init(struct newsfeed *f, size_t cap, const uint64_t seed[2])
{
	map_init(&f->agents, cap, seed);
	heap_init(&f->due, cap);
}

static void
drop(struct newsfeed *f, struct newsfeed_entry *e)
{
	heap_drop(&f->due, &e->timer);
	map_del(&f->agents, e->item.news.id);
	alloc_free(e);
}

void
newsfeed_fini(struct newsfeed *f)
{
	struct heap_node *n;

	while ((n = heap_first(&f->due)) != NULL)
		drop(f, entry_of(n));
	map_fini(&f->agents);
	heap_fini(&f->due);
}

enum { TEXTS = 5 };

/* The texts of news, to be copied or measured. */
static void
texts_of(struct agent_news *n, struct slice *out[TEXTS])
{
	out[0] = &n->id;
	out[1] = &n->name;
	out[2] = &n->type;
	out[3] = &n->version;
	out[4] = &n->metadata_json;
}

static size_t
texts_size(const struct agent_news *news)
{
	struct agent_news n = *news;
	struct slice *texts[TEXTS];
	size_t size = 0;

	texts_of(&n, texts);
	for (size_t i = 0; i < TEXTS; i++)
		size += texts[i]->len;
	return size;
}

/* The bytes of n's texts to `to`, and n pointing there; absent ones stay
 * absent. */
static void
move_texts(struct agent_news *n, uint8_t *to)
{
	struct slice *texts[TEXTS];

	texts_of(n, texts);
	for (size_t i = 0; i < TEXTS; i++) {
		if (texts[i]->ptr == NULL)
			continue;
		if (texts[i]->len > 0)
			memcpy(to, texts[i]->ptr, texts[i]->len);
		texts[i]->ptr = to;
		to += texts[i]->len;
	}
}

static struct newsfeed_entry *
new_entry(const struct agent_news *news)
{
	struct newsfeed_entry *e = alloc_new(sizeof(*e) + texts_size(news) + 1);

	if (e == NULL)
		return NULL;
	e->item.news = *news;
	move_texts(&e->item.news, (uint8_t *)(e + 1));
	return e;
}

int
newsfeed_feed(struct newsfeed *f, const struct notice *n, wall_msec at,
    const struct audience_set *seen_by, msec now)
{
	struct newsfeed_entry *old = map_get(&f->agents, n->agent->id);
	struct newsfeed_entry *e;

	if (old == NULL && f->agents.count >= f->agents.cap)
		return ERR_FULL;
	e = new_entry(n->agent);
	if (e == NULL)
		return ERR_NOMEM;
	e->since = old != NULL ? old->since : now;
	e->item.before = old != NULL ? old->item.before : n->agent->was_shown;
	e->item.metrics =
	    n->kind == NOTICE_METRICS || (old != NULL && old->item.metrics);
	e->item.seen_by = *seen_by;
	e->item.at = at;
	msec due = e->since + AT_MOST;
	if (now + QUIET < due)
		due = now + QUIET;
	/* Its room in both is the old one's, if there is one. */
	if (old != NULL)
		drop(f, old);
	int err = map_put(&f->agents, e->item.news.id, e);
	if (err == 0) {
		err = heap_set(&f->due, &e->timer, due);
		if (err != 0)
			map_del(&f->agents, e->item.news.id);
	}
	if (err != 0)
		alloc_free(e);
	return err;
}

static bool
worth_telling(const struct newsfeed_item *i)
{
	return i->metrics || i->before != i->news.shown ||
	    i->news.presence == PRESENCE_REMOVED;
}

int
newsfeed_next(
    struct newsfeed *f, msec now, struct arena *a, struct newsfeed_item *out)
{
	struct heap_node *n;

	while ((n = heap_first(&f->due)) != NULL && n->due <= now) {
		struct newsfeed_entry *e = entry_of(n);
		if (!worth_telling(&e->item)) {
			drop(f, e);
			continue;
		}
		uint8_t *texts = arena_alloc(a, texts_size(&e->item.news) + 1);
		if (texts == NULL)
			return ERR_NOMEM;
		*out = e->item;
		move_texts(&out->news, texts);
		drop(f, e);
		return 1;
	}
	return 0;
}

msec
newsfeed_deadline(const struct newsfeed *f)
{
	const struct heap_node *n = heap_first(&f->due);

	return n == NULL ? INT64_MAX : n->due;
}
