#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"

#include "io/rand.h"

#include "server/flow_pool.h"

enum { BUCKETS = 256, SWEEP = 5000 };

struct idle {
	struct list age;    /* of pool.all: the oldest first */
	struct list bucket; /* the newest first */
	struct flow_pool *pool;
	struct flow *flow;
	struct peer_id link;
	msec until;
	uint64_t hash;
};

struct flow_pool {
	struct dock *dock;
	struct list all;
	struct list buckets[BUCKETS];
	size_t count;
	uint64_t seed[2];
	struct loop_timer sweep;
};

/* Keys ---------------------------------------------------------------------
 */

static void
put_name(struct buf *b, struct slice s)
{
	/* Names have no such byte, so that parts do not run into another. */
	buf_put(b, s);
	buf_put_byte(b, '\0');
}

int
flow_pool_key(
    const struct peer_id *link, const struct tunnel_target *t, struct buf *out)
{
	buf_clear(out);
	buf_put_u64(out, link->slot);
	buf_put_byte(out, '.');
	buf_put_u64(out, link->generation);
	buf_put_byte(out, t->tls ? t->insecure ? 'i' : 's' : 'p');
	put_name(out, t->host);
	put_name(out, t->service);
	put_name(out, t->namespace);
	put_name(out, t->tls_name);
	buf_put_u64(out, t->port);
	return out->err;
}

/* The pool -------------------------------------------------------------------
 */

static struct flow_pool *
pool_of(struct dock *d)
{
	struct flow_pool *p = d->flow_pool;

	if (p != NULL)
		return p;
	p = alloc_new(sizeof(*p));
	if (p == NULL)
		return NULL;
	p->dock = d;
	rand_fill(p->seed, sizeof(p->seed));
	list_init(&p->all);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&p->buckets[i]);
	d->flow_pool = p;
	return p;
}

static struct flow *
forget(struct idle *i)
{
	struct flow *f = i->flow;

	list_remove(&i->age);
	list_remove(&i->bucket);
	i->pool->count--;
	alloc_free(i);
	return f;
}

static void
on_word(void *owner, uint8_t *bytes, size_t n)
{
	(void)bytes;
	(void)n;
	/* Nobody has asked: it cannot be trusted to answer the next one. */
	flow_close(forget(owner));
}

static void
on_eof(void *owner)
{
	flow_close(forget(owner));
}

static void
on_gone(void *owner, int why)
{
	(void)why;
	forget(owner);
}

static void
on_answered(void *owner, const struct flow_answer *a)
{
	(void)owner;
	(void)a;
}

static void
on_drained(void *owner)
{
	(void)owner;
}

static const struct flow_ops ops = {
	.answered = on_answered,
	.data = on_word,
	.eof = on_eof,
	.drained = on_drained,
	.gone = on_gone,
};

static void
on_sweep(struct loop_timer *t)
{
	struct flow_pool *p = LIST_OF(t, struct flow_pool, sweep);
	struct loop *l = p->dock->lane.loop;

	for (struct list *at = p->all.next, *next; at != &p->all; at = next) {
		struct idle *i = LIST_OF(at, struct idle, age);
		next = at->next;
		if (i->until <= loop_now(l))
			flow_close(forget(i));
	}
	if (!list_empty(&p->all))
		loop_timer_set(l, t, loop_now(l) + SWEEP, on_sweep);
}

struct flow *
flow_pool_take(struct dock *d, struct slice key)
{
	struct flow_pool *p = d->flow_pool;

	if (p == NULL || p->count == 0)
		return NULL;
	uint64_t hash = map_hash(p->seed, key);
	struct list *bucket = &p->buckets[hash % BUCKETS];
	for (struct list *l = bucket->next; l != bucket; l = l->next) {
		struct idle *i = LIST_OF(l, struct idle, bucket);
		if (i->hash == hash && i->until > loop_now(d->lane.loop))
			return forget(i);
	}
	return NULL;
}

static size_t
count_of(struct list *bucket, uint64_t hash)
{
	size_t n = 0;

	for (struct list *l = bucket->next; l != bucket; l = l->next)
		n += LIST_OF(l, struct idle, bucket)->hash == hash;
	return n;
}

void
flow_pool_give(struct dock *d, const struct peer_id *link, struct slice key,
    struct flow *f, msec keep)
{
	struct flow_pool *p = keep > 0 ? pool_of(d) : NULL;
	struct idle *i = p == NULL ? NULL : alloc_new(sizeof(*i));

	if (i == NULL) {
		flow_close(f);
		return;
	}
	uint64_t hash = map_hash(p->seed, key);
	struct list *bucket = &p->buckets[hash % BUCKETS];
	if (count_of(bucket, hash) >= FLOW_POOL_EACH) {
		alloc_free(i);
		flow_close(f);
		return;
	}
	if (p->count >= FLOW_POOL_ALL)
		flow_close(forget(LIST_OF(p->all.next, struct idle, age)));
	if (p->count == 0 &&
	    loop_timer_set(d->lane.loop, &p->sweep,
		loop_now(d->lane.loop) + SWEEP, on_sweep) != 0) {
		alloc_free(i);
		flow_close(f);
		return;
	}
	*i = (struct idle){ .pool = p,
		.flow = f,
		.link = *link,
		.until = loop_now(d->lane.loop) +
		    (keep < FLOW_POOL_IDLE ? keep : FLOW_POOL_IDLE),
		.hash = hash };
	list_push(&p->all, &i->age);
	list_push_front(bucket, &i->bucket);
	p->count++;
	flow_own(f, &ops, i);
}

bool
flow_pool_evict(struct dock *d, const struct peer_id *link)
{
	struct flow_pool *p = d->flow_pool;

	if (p == NULL)
		return false;
	for (struct list *l = p->all.next; l != &p->all; l = l->next) {
		struct idle *i = LIST_OF(l, struct idle, age);
		if (i->link.slot == link->slot &&
		    i->link.generation == link->generation) {
			flow_close(forget(i));
			return true;
		}
	}
	return false;
}

size_t
flow_pool_count(const struct dock *d)
{
	return d->flow_pool == NULL ? 0 : d->flow_pool->count;
}

void
flow_pool_end(struct dock *d)
{
	struct flow_pool *p = d->flow_pool;

	if (p == NULL)
		return;
	while (!list_empty(&p->all))
		flow_close(forget(LIST_OF(p->all.next, struct idle, age)));
	loop_timer_stop(d->lane.loop, &p->sweep);
	alloc_free(p);
	d->flow_pool = NULL;
}
