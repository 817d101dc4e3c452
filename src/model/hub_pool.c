/*
 * Which agents a selector chooses, as long as some route asks.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_tunnel.h"

enum { ROOM_MIN = 16 };

/* The first whose id is not below. */
static size_t
place(const struct pool *p, struct slice id)
{
	size_t low = 0, high = p->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (slice_cmp(p->agents[mid]->id, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int
insert(struct pool *p, size_t at, struct agent *a)
{
	if (p->count == p->room) {
		size_t room = p->room == 0 ? ROOM_MIN : p->room * 2;
		struct agent **wider =
		    alloc_resize(p->agents, room * sizeof(struct agent *));
		if (wider == NULL)
			return ERR_NOMEM;
		p->agents = wider;
		p->room = room;
	}
	memmove(&p->agents[at + 1], &p->agents[at],
	    (p->count - at) * sizeof(p->agents[0]));
	p->agents[at] = a;
	p->count++;
	return 0;
}

static void
drop(struct pool *p, size_t at)
{
	p->count--;
	memmove(&p->agents[at], &p->agents[at + 1],
	    (p->count - at) * sizeof(p->agents[0]));
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
free_pool(struct hub *h, struct pool *p)
{
	while (!list_empty(&p->routes))
		LIST_OF(list_pop(&p->routes), struct route, by_pool)->pool =
		    NULL;
	if (p->key.ptr != NULL)
		map_del(&h->tunnels.pools, p->key);
	list_remove(&p->use);
	hub_unkeep(&p->key);
	alloc_free(p->agents);
	alloc_free(p);
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
			err = insert(p, p->count, h->sorted[i]);
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
	hub_unkeep(&p->key);
	alloc_free(p->agents);
	alloc_free(p);
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
	size_t at = place(p, a->id);
	bool was = at < p->count && p->agents[at] == a;
	bool is = chooses(h, p, a);

	if (was == is)
		return;
	forget_pool(h, p);
	if (was) {
		drop(p, at);
		lost(h, p, a);
	} else if (insert(p, at, a) != 0) {
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

void
hub_drop_from_pools(struct hub *h, const struct agent *a)
{
	struct list *l = h->tunnels.pool_use.next;

	for (; l != &h->tunnels.pool_use; l = l->next) {
		struct pool *p = LIST_OF(l, struct pool, use);
		size_t at = place(p, a->id);
		if (at < p->count && p->agents[at] == a)
			drop(p, at);
	}
}
