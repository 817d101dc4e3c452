/*
 * Which agents a selector chooses, as long as some route asks.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_tunnel.h"

enum { ROOM_MIN = 16 };

/* The first whose id is not below. */
static size_t
place(const struct roster *r, struct slice id)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (slice_cmp(r->agents[mid]->id, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool
has(const struct roster *r, const struct agent *a)
{
	size_t at = place(r, a->id);

	return at < r->count && r->agents[at] == a;
}

static int
insert(struct roster *r, struct agent *a)
{
	size_t at = place(r, a->id);

	if (r->count == r->room) {
		size_t room = r->room == 0 ? ROOM_MIN : r->room * 2;
		struct agent **wider =
		    alloc_resize(r->agents, room * sizeof(struct agent *));
		if (wider == NULL)
			return ERR_NOMEM;
		r->agents = wider;
		r->room = room;
	}
	memmove(&r->agents[at + 1], &r->agents[at],
	    (r->count - at) * sizeof(r->agents[0]));
	r->agents[at] = a;
	r->count++;
	return 0;
}

static void
drop(struct roster *r, const struct agent *a)
{
	size_t at = place(r, a->id);

	if (at == r->count || r->agents[at] != a)
		return;
	r->count--;
	memmove(&r->agents[at], &r->agents[at + 1],
	    (r->count - at) * sizeof(r->agents[0]));
}

static int
join(struct pool *p, struct agent *a)
{
	int err = insert(&p->all, a);

	if (err != 0)
		return err;
	a->pools++;
	return a->link != NULL ? insert(&p->there, a) : 0;
}

static void
leave(struct pool *p, struct agent *a)
{
	drop(&p->all, a);
	drop(&p->there, a);
	a->pools--;
}

static bool
chooses(struct hub *h, const struct pool *p, const struct agent *a)
{
	if (a->record->removed_at != 0 ||
	    a->record->workspace_id != p->workspace_id)
		return false;
	arena_reset(&h->scratch);
	return selector_match(&p->selector, a->record->operator_labels_json,
		   a->record->labels_json, &h->scratch) == 1;
}

/* Life ------------------------------------------------------------------- */

static void
free_memory(struct pool *p)
{
	for (size_t i = 0; i < p->all.count; i++)
		p->all.agents[i]->pools--;
	hub_unkeep(&p->key);
	alloc_free(p->all.agents);
	alloc_free(p->there.agents);
	alloc_free(p);
}

static void
free_pool(struct hub *h, struct pool *p)
{
	while (!list_empty(&p->routes))
		LIST_OF(list_pop(&p->routes), struct route, by_pool)->pool =
		    NULL;
	if (p->key.ptr != NULL)
		map_del(&h->tunnels.pools, p->key);
	list_remove(&p->use);
	free_memory(p);
}

void
hub_free_pools(struct hub *h)
{
	while (!list_empty(&h->tunnels.pool_use))
		free_pool(
		    h, LIST_OF(h->tunnels.pool_use.next, struct pool, use));
}

/* Whoever travels by its routes asks again. */
static void
forget_pool(struct hub *h, const struct pool *p)
{
	for (struct list *l = p->routes.next; l != &p->routes; l = l->next) {
		const struct route *r = LIST_OF(l, struct route, by_pool);
		const struct tunnel_withdrawal w = { .route_id =
							 r->record->id };
		if (r->visited)
			hub_withdraw(h, &w);
	}
}

void
hub_leave_pool(struct hub *h, struct route *r)
{
	struct pool *p = r->pool;

	list_remove(&r->by_pool);
	r->pool = NULL;
	if (p != NULL && list_empty(&p->routes))
		free_pool(h, p);
}

/* Making ------------------------------------------------------------------- */

static int
make_key(struct pool *p, const struct route_record *r)
{
	uint8_t *text =
	    alloc_new(sizeof(r->workspace_id) + r->selector.len + 1);

	if (text == NULL)
		return ERR_NOMEM;
	memcpy(text, &r->workspace_id, sizeof(r->workspace_id));
	memcpy(
	    text + sizeof(r->workspace_id), r->selector.ptr, r->selector.len);
	p->key =
	    (struct slice){ text, sizeof(r->workspace_id) + r->selector.len };
	return selector_parse(
	    slice_from_at(p->key, sizeof(r->workspace_id)), &p->selector);
}

static int
fill(struct hub *h, struct pool *p)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < h->agents.count; i++) {
		if (chooses(h, p, h->sorted[i]))
			err = join(p, h->sorted[i]);
	}
	return err;
}

static struct pool *
new_pool(struct hub *h, const struct route_record *r)
{
	struct pool *p = alloc_new(sizeof(*p));

	if (p == NULL)
		return NULL;
	list_init(&p->use);
	list_init(&p->routes);
	p->workspace_id = r->workspace_id;
	int err = make_key(p, r);
	struct pool *same =
	    err == 0 ? map_get(&h->tunnels.pools, p->key) : NULL;
	if (err == 0 && same == NULL)
		err = fill(h, p);
	if (err == 0 && same == NULL)
		err = map_put(&h->tunnels.pools, p->key, p);
	if (err == 0 && same == NULL) {
		list_push(&h->tunnels.pool_use, &p->use);
		return p;
	}
	/* The map may have another of this key: it is not to be taken out. */
	free_memory(p);
	return same;
}

struct pool *
hub_pool_of(struct hub *h, struct route *r)
{
	struct pool *p = r->pool;

	if (p == NULL) {
		struct pool *oldest =
		    LIST_OF(h->tunnels.pool_use.next, struct pool, use);
		if (h->tunnels.pools.count == POOLS) {
			forget_pool(h, oldest);
			free_pool(h, oldest);
		}
		p = new_pool(h, r->record);
		if (p == NULL) {
			h->out->err = ERR_NOMEM;
			return NULL;
		}
		r->pool = p;
		list_push(&p->routes, &r->by_pool);
	}
	list_remove(&p->use);
	list_push(&h->tunnels.pool_use, &p->use);
	return p;
}

/* Agents ------------------------------------------------------------------- */

static void
lost(struct hub *h, const struct pool *p, const struct agent *a)
{
	for (struct list *l = p->routes.next; l != &p->routes; l = l->next) {
		const struct route *r = LIST_OF(l, struct route, by_pool);
		const struct tunnel_withdrawal w = { .route_id = r->record->id,
			.agent_id = a->id,
			.cut = true,
			.why = SL("relabelled") };
		if (a->visited && r->visited)
			hub_withdraw(h, &w);
	}
}

static void
judge(struct hub *h, struct pool *p, struct agent *a)
{
	bool was = has(&p->all, a), is = chooses(h, p, a);

	if (was == is)
		return;
	forget_pool(h, p);
	if (was) {
		leave(p, a);
		lost(h, p, a);
	} else if (join(p, a) != 0) {
		free_pool(h, p); /* made anew when it is asked for */
	}
}

void
hub_judge_pools(struct hub *h, struct agent *a)
{
	struct list *l = h->tunnels.pool_use.next;

	while (l != &h->tunnels.pool_use) {
		struct pool *p = LIST_OF(l, struct pool, use);
		l = l->next;
		judge(h, p, a);
	}
}

/* One that a grant would have named, had it been there. */
static void
missed(struct hub *h, struct pool *p)
{
	if (!p->scarce)
		return;
	p->scarce = false;
	forget_pool(h, p);
}

void
hub_track_link(struct hub *h, struct agent *a)
{
	struct list *l = h->tunnels.pool_use.next;

	while (a->pools > 0 && l != &h->tunnels.pool_use) {
		struct pool *p = LIST_OF(l, struct pool, use);
		l = l->next;
		if (!has(&p->all, a))
			continue;
		missed(h, p);
		if (a->link == NULL) {
			drop(&p->there, a);
		} else if (!has(&p->there, a) && insert(&p->there, a) != 0) {
			forget_pool(h, p);
			free_pool(h, p);
		}
	}
}

void
hub_drop_from_pools(struct hub *h, struct agent *a)
{
	struct list *l = h->tunnels.pool_use.next;

	for (; a->pools > 0 && l != &h->tunnels.pool_use; l = l->next) {
		struct pool *p = LIST_OF(l, struct pool, use);
		if (has(&p->all, a))
			leave(p, a);
	}
}
