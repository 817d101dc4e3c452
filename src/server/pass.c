/*
 * Design notes.  A pass that may be found is in the table; whoever travels by
 * one has a reference, and may go on when it was withdrawn.  So that those
 * can be cut later, every pass, withdrawn or not, is in buckets: one for its
 * route, user, login, and each agent.  A withdrawal walks the smallest bucket
 * that it names.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "io/clock.h"

#include "server/pass.h"
#include "server/sites.h"

enum {
	KEY_MAX = 64 * 1024,
	BUCKETS_MAX = 1 << 22,
	BLAME_FOR = 5000,
	FORWARD_FOR = 60000,
	EXPIRE_STEP = 24 * 3600 * 1000, /* a timer's longest sleep */
};

/* All passes that are about one thing. */
struct bucket {
	struct slice key; /* behind the struct */
	struct list tags;
	size_t count;
};

struct tag {
	struct list link;
	struct entry *entry;
	struct bucket *bucket;
};

struct entry {
	struct pass pass;
	struct passes *home; /* NULL: the lane is over */
	struct loop *loop;
	struct slice key; /* owned, in block; absent: never found */
	bool found;       /* in the table, which has a reference */
	msec stale_at;    /* it is not found from then on */
	struct list all;
	struct list age;
	struct list doomed;
	struct heap_node expiry;
	void *block; /* owned: all that the grant points to */
	size_t tag_count;
	struct tag tags[];
};

static struct entry *
entry_of(struct pass *p)
{
	return LIST_OF(p, struct entry, pass);
}

/* Keys --------------------------------------------------------------------- */

static void
put_number(struct buf *b, uint64_t n)
{
	buf_put(b, (struct slice){ (const uint8_t *)&n, sizeof(n) });
}

static void
put_text(struct buf *b, struct slice s)
{
	put_number(b, s.ptr == NULL ? UINT64_MAX : s.len);
	buf_put(b, s);
}

static void
put_target(struct buf *b, const struct tunnel_target *t)
{
	put_text(b, t->host);
	put_text(b, t->service);
	put_text(b, t->namespace);
	put_number(b, t->port);
	put_number(b, (uint64_t)t->tls << 1 | t->insecure);
	put_text(b, t->tls_name);
}

static void
put_visit(struct buf *b, const struct tunnel_visit *v)
{
	put_number(b, v->way);
	put_number(b, (uint64_t)v->proto << 1 | v->reverse);
	put_text(b, v->route_id);
	put_text(b, v->agent);
	put_target(b, &v->target);
}

static void
put_claims(struct buf *b, const struct claims *c)
{
	put_number(b, (uint64_t)(int64_t)c->err);
	put_text(b, c->subject);
	put_text(b, c->issuer);
	put_text(b, c->login_id);
	put_number(b, c->role);
	put_number(b, (uint64_t)c->scopes << 1 | c->has_scopes);
	put_number(b, (uint64_t)c->issued_at);
	put_number(b, (uint64_t)c->expires_at);
}

/* Two that may differ in what they permit differ here; false for one that
 * says nothing by itself. */
static bool
put_credential(struct buf *b, const struct credential *c)
{
	put_number(b, c->kind);
	switch (c->kind) {
	case CREDENTIAL_NONE:
		return true;
	case CREDENTIAL_TOKEN:
		/* It may be good from some addresses alone. */
		put_text(b, c->address);
		buf_put(b, (struct slice){ c->hash, HASH_LEN });
		return true;
	case CREDENTIAL_COOKIE:
		put_text(b, c->claims.login_id);
		buf_put(b, (struct slice){ c->hash, HASH_LEN });
		return true;
	case CREDENTIAL_JWT:
		put_claims(b, &c->claims);
		return true;
	case CREDENTIAL_WALL:
	case CREDENTIAL_LINK:
		put_text(b, c->route_id);
		put_claims(b, &c->claims);
		return true;
	case CREDENTIAL_KEY:
	case CREDENTIAL_LOCAL:
	case CREDENTIAL_WATCH:
	case CREDENTIAL_SIGNED:
		return false;
	}
	return false;
}

static bool
is_public(const struct dock *d, const struct tunnel_visit *v)
{
	const struct route_record *r =
	    v->way == TUNNEL_BY_ROUTE ? sites_find(d, v->route_id) : NULL;

	return r != NULL && r->wall == TUNNEL_PUBLIC;
}

/* What a pass is found by; absent: not at all. */
static struct slice
make_key(
    struct dock *d, const struct tunnel_visit *v, const struct credential *who)
{
	static const struct credential anybody;
	struct buf *b = &d->passes.key;

	buf_clear(b);
	put_visit(b, v);
	if (!put_credential(b, is_public(d, v) ? &anybody : who) || b->err != 0)
		return (struct slice){ 0 };
	return buf_peek(b);
}

/* Life ------------------------------------------------------------------- */

void
pass_setup(struct dock *d, const uint64_t seed[2])
{
	struct passes *t = &d->passes;

	map_init(&t->table, PASSES, seed);
	map_init(&t->buckets, BUCKETS_MAX, seed);
	list_init(&t->all);
	list_init(&t->age);
	heap_init(&t->expiring, (size_t)2 * PASSES);
	buf_init(&t->key, KEY_MAX);
}

static void
untag(struct passes *t, struct tag *tag)
{
	struct bucket *b = tag->bucket;

	if (b == NULL)
		return;
	list_remove(&tag->link);
	tag->bucket = NULL;
	if (--b->count > 0)
		return;
	map_del(&t->buckets, b->key);
	alloc_free(b);
}

static void
leave_home(struct entry *e)
{
	struct passes *t = e->home;

	if (t == NULL)
		return;
	for (size_t i = 0; i < e->tag_count; i++)
		untag(t, &e->tags[i]);
	heap_drop(&t->expiring, &e->expiry);
	list_remove(&e->all);
	e->home = NULL;
}

static void
free_entry(struct entry *e)
{
	leave_home(e);
	alloc_free(e->block);
	alloc_free(e);
}

void
pass_drop(struct pass *p)
{
	if (p != NULL && --p->refs == 0)
		free_entry(entry_of(p));
}

/* It is not found any more. */
static void
withdraw(struct entry *e)
{
	if (!e->found)
		return;
	e->found = false;
	e->pass.withdrawn = true;
	map_del(&e->home->table, e->key);
	list_remove(&e->age);
	pass_drop(&e->pass);
}

void
pass_end(struct dock *d)
{
	struct passes *t = &d->passes;

	while (!list_empty(&t->age))
		withdraw(LIST_OF(t->age.next, struct entry, age));
	while (!list_empty(&t->all))
		leave_home(LIST_OF(t->all.next, struct entry, all));
	loop_timer_stop(d->lane.loop, &t->timer);
	map_fini(&t->table);
	map_fini(&t->buckets);
	heap_fini(&t->expiring);
	buf_fini(&t->key);
}

/* Time --------------------------------------------------------------------- */

static void on_expiry(struct loop_timer *timer);

/* When the wall clock, should it go right, will have come there. */
static msec
due_at(const struct entry *e)
{
	wall_msec left = e->pass.grant.expires_at - clock_wall();

	if (left > EXPIRE_STEP)
		left = EXPIRE_STEP;
	return loop_now(e->loop) + (left > 0 ? left : 0);
}

static int
arm(struct passes *t, struct loop *loop)
{
	const struct heap_node *n = heap_first(&t->expiring);

	return n == NULL ? 0
			 : loop_timer_set(loop, &t->timer, n->due, on_expiry);
}

static bool
is_over(const struct entry *e)
{
	wall_msec at = e->pass.grant.expires_at;

	return at != 0 && clock_wall() >= at;
}

/* Those who travel by it are told to go. */
static void
cut(struct pass *p, struct slice why)
{
	p->refs++;
	while (!list_empty(&p->holders)) {
		struct pass_holder *h =
		    LIST_OF(list_pop(&p->holders), struct pass_holder, link);
		h->cut(h, why);
	}
	pass_drop(p);
}

static void
expire(struct entry *e)
{
	struct pass *p = &e->pass;

	p->refs++;
	withdraw(e);
	cut(p, SL("expired"));
	pass_drop(p);
}

static void
on_expiry(struct loop_timer *timer)
{
	struct passes *t = LIST_OF(timer, struct passes, timer);
	struct dock *d = LIST_OF(t, struct dock, passes);
	struct heap_node *n;

	while ((n = heap_first(&t->expiring)) != NULL &&
	    n->due <= loop_now(d->lane.loop)) {
		struct entry *e = LIST_OF(n, struct entry, expiry);
		if (is_over(e)) {
			heap_drop(&t->expiring, n);
			expire(e);
		} else {
			/* It is in: this cannot fail. */
			heap_set(&t->expiring, n, due_at(e) + 1);
		}
	}
	arm(t, d->lane.loop);
}

/* Keeping ------------------------------------------------------------------ */

static size_t
target_size(const struct tunnel_target *t)
{
	return t->host.len + t->service.len + t->namespace.len +
	    t->tls_name.len;
}

static size_t
block_size(const struct tunnel_grant *g, struct slice key)
{
	const struct tunnel_visit *v = g->visit;
	size_t n = sizeof(*v) + g->member_count * sizeof(g->members[0]) +
	    target_size(&g->target) + target_size(&v->target) +
	    v->route_id.len + v->agent.len + g->user_id.len + g->login_id.len +
	    key.len;

	for (size_t i = 0; i < g->member_count; i++)
		n += g->members[i].agent_id.len + g->members[i].name.len;
	return n + 1;
}

static void
move_text(struct slice *s, uint8_t **at)
{
	if (s->ptr == NULL)
		return;
	if (s->len > 0)
		memcpy(*at, s->ptr, s->len);
	s->ptr = *at;
	*at += s->len;
}

static void
move_target(struct tunnel_target *t, uint8_t **at)
{
	move_text(&t->host, at);
	move_text(&t->service, at);
	move_text(&t->namespace, at);
	move_text(&t->tls_name, at);
}

/* visit, members, texts. */
static void
fill_block(struct entry *e, const struct tunnel_grant *from)
{
	struct tunnel_grant *g = &e->pass.grant;
	struct tunnel_visit *v = e->block;
	struct tunnel_member *m = (struct tunnel_member *)(v + 1);
	uint8_t *at = (uint8_t *)(m + from->member_count);

	*g = *from;
	*v = *from->visit;
	g->visit = v;
	g->members = m;
	for (size_t i = 0; i < from->member_count; i++) {
		m[i] = from->members[i];
		move_text(&m[i].agent_id, &at);
		move_text(&m[i].name, &at);
	}
	move_target(&g->target, &at);
	move_target(&v->target, &at);
	move_text(&v->route_id, &at);
	move_text(&v->agent, &at);
	move_text(&g->user_id, &at);
	move_text(&g->login_id, &at);
	move_text(&e->key, &at);
}

static struct entry *
new_entry(struct dock *d, const struct tunnel_grant *g, struct slice key)
{
	struct entry *e =
	    alloc_new(sizeof(*e) + (g->member_count + 3) * sizeof(struct tag));

	if (e == NULL)
		return NULL;
	e->home = &d->passes;
	e->loop = d->lane.loop;
	e->key = key;
	e->pass.refs = 1;
	list_init(&e->pass.holders);
	list_init(&e->age);
	list_init(&e->doomed);
	list_push(&d->passes.all, &e->all);
	e->block = alloc_new(block_size(g, key));
	if (e->block == NULL) {
		free_entry(e);
		return NULL;
	}
	fill_block(e, g);
	return e;
}

static struct slice
bucket_key(char kind, struct slice id, uint8_t text[256])
{
	size_t n = id.len < 255 ? id.len : 255;

	text[0] = (uint8_t)kind;
	if (n > 0)
		memcpy(text + 1, id.ptr, n);
	return (struct slice){ text, n + 1 };
}

static struct bucket *
find_bucket(const struct passes *t, char kind, struct slice id)
{
	uint8_t text[256];

	return map_get(&t->buckets, bucket_key(kind, id, text));
}

static struct bucket *
new_bucket(struct passes *t, struct slice key)
{
	struct bucket *b = alloc_new(sizeof(*b) + key.len);

	if (b == NULL)
		return NULL;
	memcpy(b + 1, key.ptr, key.len);
	b->key = (struct slice){ (const uint8_t *)(b + 1), key.len };
	list_init(&b->tags);
	if (map_put(&t->buckets, b->key, b) == 0)
		return b;
	alloc_free(b);
	return NULL;
}

static int
tag(struct entry *e, char kind, struct slice id)
{
	struct passes *t = e->home;
	uint8_t text[256];
	struct bucket *b;

	if (id.len == 0)
		return 0;
	b = find_bucket(t, kind, id);
	if (b == NULL)
		b = new_bucket(t, bucket_key(kind, id, text));
	if (b == NULL)
		return ERR_NOMEM;
	struct tag *x = &e->tags[e->tag_count++];
	x->entry = e;
	x->bucket = b;
	b->count++;
	list_push(&b->tags, &x->link);
	return 0;
}

static int
tag_all(struct entry *e)
{
	const struct tunnel_grant *g = &e->pass.grant;
	int err = tag(e, 'r', g->visit->route_id);

	if (err == 0)
		err = tag(e, 'u', g->user_id);
	if (err == 0)
		err = tag(e, 'l', g->login_id);
	for (size_t i = 0; err == 0 && i < g->member_count; i++)
		err = tag(e, 'a', g->members[i].agent_id);
	return err;
}

static int
schedule(struct entry *e)
{
	if (e->pass.grant.expires_at == 0)
		return 0;
	int err = heap_set(&e->home->expiring, &e->expiry, due_at(e));
	return err != 0 ? err : arm(e->home, e->loop);
}

/* So that it is found; what was found before by this key is older. */
static void
show(struct entry *e)
{
	struct passes *t = e->home;
	struct entry *old = map_get(&t->table, e->key);

	if (old != NULL)
		withdraw(old);
	if (t->table.count == PASSES)
		withdraw(LIST_OF(t->age.next, struct entry, age));
	if (map_put(&t->table, e->key, e) != 0)
		return; /* good for who asked */
	/* The hub writes each leave for a forward into the journal. */
	e->stale_at = e->pass.grant.visit->way == TUNNEL_BY_FORWARD
	    ? loop_now(e->loop) + FORWARD_FOR
	    : INT64_MAX;
	e->found = true;
	e->pass.refs++;
	list_push(&t->age, &e->age);
}

struct pass *
pass_keep(struct dock *d, const struct tunnel_grant *grant,
    const struct credential *who)
{
	struct slice key = make_key(d, grant->visit, who);
	struct entry *e = new_entry(d, grant, key);

	if (e == NULL)
		return NULL;
	if (tag_all(e) != 0 || schedule(e) != 0) {
		pass_drop(&e->pass);
		return NULL;
	}
	if (key.len > 0)
		show(e);
	return &e->pass;
}

struct pass *
pass_find(struct dock *d, const struct tunnel_visit *visit,
    const struct credential *who)
{
	struct passes *t = &d->passes;
	struct slice key = make_key(d, visit, who);
	struct entry *e = key.len == 0 ? NULL : map_get(&t->table, key);

	if (e == NULL)
		return NULL;
	if (is_over(e)) {
		expire(e);
		return NULL;
	}
	if (loop_now(e->loop) >= e->stale_at) {
		withdraw(e);
		return NULL;
	}
	list_remove(&e->age);
	list_push(&t->age, &e->age);
	e->pass.refs++;
	return &e->pass;
}

/* Going -------------------------------------------------------------------- */

void
pass_enter(struct pass *p, struct pass_holder *h)
{
	p->refs++;
	h->pass = p;
	list_push(&p->holders, &h->link);
}

void
pass_leave(struct pass_holder *h)
{
	struct pass *p = h->pass;

	if (p == NULL)
		return;
	h->pass = NULL;
	list_remove(&h->link);
	pass_drop(p);
}

/* Withdrawing -------------------------------------------------------------- */

static bool
fits(struct slice named, struct slice has)
{
	return named.ptr == NULL || slice_eq(named, has);
}

static bool
goes_by(const struct tunnel_grant *g, struct slice agent_id)
{
	if (agent_id.ptr == NULL)
		return true;
	for (size_t i = 0; i < g->member_count; i++) {
		if (slice_eq(g->members[i].agent_id, agent_id))
			return true;
	}
	return false;
}

static bool
is_meant(const struct entry *e, const struct tunnel_withdrawal *w)
{
	const struct tunnel_grant *g = &e->pass.grant;

	return fits(w->route_id, g->visit->route_id) &&
	    fits(w->user_id, g->user_id) && fits(w->login_id, g->login_id) &&
	    goes_by(g, w->agent_id);
}

static void
doom(struct list *doomed, struct entry *e, const struct tunnel_withdrawal *w)
{
	if (!is_meant(e, w))
		return;
	e->pass.refs++;
	list_push(doomed, &e->doomed);
}

/* The smallest bucket of those that are named; false when one of them is
 * empty, so that nothing is meant. */
static bool
smallest(const struct passes *t, const struct tunnel_withdrawal *w,
    struct bucket **out)
{
	const struct {
		char kind;
		struct slice id;
	} named[] = { { 'r', w->route_id }, { 'u', w->user_id },
		{ 'l', w->login_id }, { 'a', w->agent_id } };

	*out = NULL;
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		if (named[i].id.ptr == NULL)
			continue;
		struct bucket *b = find_bucket(t, named[i].kind, named[i].id);
		if (b == NULL)
			return false;
		if (*out == NULL || b->count < (*out)->count)
			*out = b;
	}
	return true;
}

void
pass_withdraw(struct dock *d, const struct tunnel_withdrawal *w)
{
	struct passes *t = &d->passes;
	struct list doomed, *l;
	struct bucket *b;

	list_init(&doomed);
	if (!smallest(t, w, &b))
		return;
	if (b != NULL) {
		for (l = b->tags.next; l != &b->tags; l = l->next)
			doom(&doomed, LIST_OF(l, struct tag, link)->entry, w);
	} else {
		for (l = t->all.next; l != &t->all; l = l->next)
			doom(&doomed, LIST_OF(l, struct entry, all), w);
	}
	while ((l = list_pop(&doomed)) != NULL) {
		struct entry *e = LIST_OF(l, struct entry, doomed);
		withdraw(e);
		if (w->cut)
			cut(&e->pass, w->why);
		pass_drop(&e->pass);
	}
}

/* Choosing ----------------------------------------------------------------- */

/* The same on every lane and after every start. */
static const uint64_t fixed[2] = { UINT64_C(0x9e3779b97f4a7c15),
	UINT64_C(0xd1b54a32d192ed03) };

/*
 * A slot has the upper half of a hash and, below it, the instant until which
 * what has that hash is blamed, for all lanes: who is sent to another lane
 * because of it must not be sent back from there.  That one takes another's
 * place is a hint lost, no more.
 */
static uint64_t
blame_hash(struct dock *d, struct slice agent_id, const struct tunnel_target *t)
{
	struct buf *b = &d->passes.key;

	buf_clear(b);
	put_text(b, agent_id);
	put_target(b, t);
	return map_hash(fixed, buf_peek(b));
}

void
pass_blame(
    struct dock *d, struct slice agent_id, const struct tunnel_target *target)
{
	uint64_t hash = blame_hash(d, agent_id, target);
	uint32_t until = (uint32_t)(loop_now(d->lane.loop) + BLAME_FOR);

	atomic_store_explicit(&d->server->blamed[hash % SERVER_BLAMED],
	    (hash & ~(uint64_t)UINT32_MAX) | until, memory_order_relaxed);
}

static bool
is_blamed(struct dock *d, const struct pass *p, const struct tunnel_member *m)
{
	uint64_t hash = blame_hash(d, m->agent_id, &p->grant.target);
	uint64_t slot = atomic_load_explicit(
	    &d->server->blamed[hash % SERVER_BLAMED], memory_order_relaxed);
	uint32_t left = (uint32_t)slot - (uint32_t)loop_now(d->lane.loop);

	/* Long ago is as far ahead as the half that is not meant. */
	return slot >> 32 == hash >> 32 && left - 1 < BLAME_FOR;
}

const struct tunnel_member *
pass_choose(struct dock *d, const struct pass *p, struct slice visitor_key)
{
	const uint64_t seed[2] = { map_hash(fixed, visitor_key), fixed[1] };
	const struct tunnel_member *best = NULL;
	bool best_blamed = false;
	uint64_t best_score = 0;

	for (size_t i = 0; i < p->grant.member_count; i++) {
		const struct tunnel_member *m = &p->grant.members[i];
		if (!peer_some(m->link))
			continue;
		bool blamed = is_blamed(d, p, m);
		uint64_t score = map_hash(seed, m->agent_id);
		if (best != NULL &&
		    (blamed != best_blamed ? blamed : score <= best_score))
			continue;
		best = m;
		best_blamed = blamed;
		best_score = score;
	}
	return best;
}
