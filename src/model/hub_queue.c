/*
 * The queue of an agent as people see it: places in it, how long each is
 * likely to wait, news of its changes, purging, cordons.
 *
 * Design notes.  What a command is likely to take is the mean of what the
 * same argv took on the same agent, else of all there, else five seconds.
 * An agent keeps the means of the 32 commands it saw last; every command
 * that waits or runs points to its one, and the mean counts who does, by
 * priority.  So the wait behind the whole queue is a sum over 32 numbers and
 * not over a thousand commands, and it is right when a mean changes.
 */
#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_signed.h"

enum {
	PACES = 32,
	PACE_UNKNOWN = 5000,
	PACE_WEIGHT = 16, /* the last so many count most */
	PACE_MAX = 30 * 86400,
	NEWS_PLACES = 100,
	NEWS_EVERY = 50,
	PLACES_DEFAULT = 100,
	PLACES_MAX = 1000,
};

/* How long one command takes on one agent. */
struct pace {
	uint64_t hash; /* of its argv; 0: free */
	uint64_t used; /* rises with use: the lowest goes first */
	msec mean;
	uint32_t samples;
	uint32_t refs; /* commands that point here */
	uint32_t waiting[3];
	uint32_t active;
};

/* The first is of all commands there, and of those that found no place. */
struct paces {
	struct pace of[1 + PACES];
	uint64_t uses;
};

/* Means -------------------------------------------------------------------- */

static uint64_t
hash_of(const struct hub *h, const struct command_record *r)
{
	uint64_t hash = map_hash(h->commands.seed, r->argv_json);

	return hash == 0 ? 1 : hash;
}

static uint8_t
find_pace(struct paces *p, uint64_t hash)
{
	uint8_t at = 0;

	for (uint8_t i = 1; i <= PACES; i++) {
		const struct pace *e = &p->of[i];
		if (e->hash == hash)
			return i;
		if (e->refs == 0 && (at == 0 || e->used < p->of[at].used))
			at = i;
	}
	if (at != 0)
		p->of[at] = (struct pace){ .hash = hash };
	return at;
}

int
hub_queue_join(struct hub *h, struct command *c)
{
	struct agent *a = c->agent;

	if (a->paces == NULL)
		a->paces = alloc_new(sizeof(*a->paces));
	if (a->paces == NULL)
		return ERR_NOMEM;
	c->pace = find_pace(a->paces, hash_of(h, c->record));
	struct pace *e = &a->paces->of[c->pace];
	e->refs++;
	e->used = ++a->paces->uses;
	return 0;
}

void
hub_queue_leave(struct command *c)
{
	c->agent->paces->of[c->pace].refs--;
}

void
hub_queue_count(struct command *c, int by)
{
	struct pace *e = &c->agent->paces->of[c->pace];
	uint32_t *n = hub_command_active(c) ? &e->active
					    : &e->waiting[c->record->priority];

	c->agent->queue_changed = true;
	if (!c->record->foreground)
		*n = (uint32_t)((int64_t)*n + by);
}

static void
learn(struct pace *e, msec took)
{
	if (e->samples < PACE_WEIGHT)
		e->samples++;
	e->mean += (took - e->mean) / (msec)e->samples;
}

void
hub_queue_learn(struct command *c, enum command_state end, wall_msec started_at,
    wall_msec finished_at)
{
	struct paces *p = c->agent->paces;
	msec took = finished_at - started_at;

	/* What was cut short says nothing of the next one, and what people
	 * hold open nothing of work. */
	if ((end != COMMAND_COMPLETED && end != COMMAND_FAILED) ||
	    c->record->foreground || started_at == 0 || took < 0 ||
	    took > PACE_MAX * INT64_C(1000))
		return;
	learn(&p->of[0], took);
	if (c->pace != 0)
		learn(&p->of[c->pace], took);
}

static msec
mean_of(const struct paces *p, size_t at)
{
	if (p->of[at].samples > 0)
		return p->of[at].mean;
	return p->of[0].samples > 0 ? p->of[0].mean : PACE_UNKNOWN;
}

uint32_t
hub_concurrency(const struct hub *h, const struct agent *a)
{
	return hub_is_signed(a) ? 1 : h->config.concurrency;
}

/* One that signs does one thing at a time, attached or not. */
bool
hub_has_room(const struct hub *h, const struct agent *a)
{
	return hub_is_signed(a) ? list_empty(&a->active)
				: a->detached < hub_concurrency(h, a);
}

static msec
shared(const struct hub *h, const struct agent *a, msec work)
{
	msec n = hub_concurrency(h, a);

	return (work + n - 1) / n;
}

/* Places ------------------------------------------------------------------- */

/* The work that runs now and that waits with this priority or a higher. */
static msec
work_ahead(const struct paces *p, size_t priority, uint32_t *waiting)
{
	msec work = 0;

	*waiting = 0;
	for (size_t i = 0; i <= PACES; i++) {
		const struct pace *e = &p->of[i];
		uint32_t n = 0;
		for (size_t q = priority; q < 3; q++)
			n += e->waiting[q];
		*waiting += n;
		if (n + e->active > 0)
			work += mean_of(p, i) * (msec)(n + e->active);
	}
	return work;
}

void
hub_queue_place(const struct hub *h, const struct command *c,
    uint32_t *position, msec *wait)
{
	struct agent *a = c->agent;
	struct list *head = &a->waiting[c->record->priority];
	uint32_t count = 0;

	*position = 0;
	*wait = 0;
	if (c->record->state != COMMAND_QUEUED || c->outcome != NULL)
		return;
	msec work = work_ahead(a->paces, c->record->priority, &count);
	/* Less itself and those behind: for the last, which is the one that
	 * is nearly always asked about, itself alone. */
	for (struct list *l = head->prev;; l = l->prev) {
		const struct command *later = LIST_OF(l, struct command, link);
		work -= mean_of(a->paces, later->pace);
		if (later == c)
			break;
		count--;
	}
	*position = count;
	*wait = shared(h, a, work);
}

/* One that runs, or is about to. */
static const struct command *
executing(const struct agent *a)
{
	const struct command *first = NULL;

	for (struct list *l = a->active.next; l != &a->active; l = l->next) {
		const struct command *c = LIST_OF(l, struct command, link);
		if (c->record->state == COMMAND_RUNNING) {
			first = c;
			break;
		}
		first = first == NULL ? c : first;
	}
	return first;
}

static size_t
fill_places(
    struct hub *h, struct agent *a, struct queue_place *places, size_t room)
{
	uint32_t waiting;
	/* Above the highest priority nothing waits: only what runs. */
	msec work = work_ahead(a->paces, 3, &waiting);
	size_t n = 0;

	for (size_t p = 3; p-- > 0;) {
		struct list *head = &a->waiting[p];
		for (struct list *l = head->next; l != head && n < room;
		     l = l->next) {
			const struct command *c =
			    LIST_OF(l, struct command, link);
			places[n] = (struct queue_place){
				.command_id = hub_text(h, &c->record->id, 1),
				.position = (uint32_t)n + 1,
				.priority = c->record->priority,
				.wait = shared(h, a, work)
			};
			work += mean_of(a->paces, c->pace);
			n++;
		}
	}
	return n;
}

/* The first places, at most max; NULL without memory. */
static const struct queue_view *
view(struct hub *h, struct agent *a, size_t max)
{
	size_t room = a->queued < max ? a->queued : max;
	const struct command *first = executing(a);
	struct queue_view *v = arena_alloc(&h->out->arena, sizeof(*v));
	struct queue_place *places =
	    arena_array(&h->out->arena, room + 1, sizeof(*places));

	if (v == NULL || places == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	*v = (struct queue_view){ .agent_id = hub_text(h, &a->id, 1),
		.size = a->queued,
		.running = a->attached + a->detached,
		.cordoned_at = a->record->cordoned_at,
		.places = places };
	if (first != NULL) {
		v->executing = hub_text(h, &first->record->id, 1);
		v->executing_at = first->record->started_at != 0
		    ? first->record->started_at
		    : first->record->sent_at;
	}
	if (room > 0)
		v->count = fill_places(h, a, places, room);
	return v;
}

/* News --------------------------------------------------------------------- */

void
hub_queue_news(struct hub *h, struct agent *a)
{
	if (!a->queue_changed || !list_empty(&a->queue_news))
		return;
	a->queue_news_due = h->now + NEWS_EVERY;
	list_push(&h->queue_news, &a->queue_news);
}

static struct agent *
first_news(const struct hub *h)
{
	return list_empty(&h->queue_news)
	    ? NULL
	    : LIST_OF(h->queue_news.next, struct agent, queue_news);
}

msec
hub_queue_deadline(const struct hub *h)
{
	const struct agent *a = first_news(h);

	return a == NULL ? INT64_MAX : a->queue_news_due;
}

static bool
anybody(const struct audience_set *s)
{
	uint64_t any = 0;

	for (size_t i = 0; i < AUDIENCES / 64; i++)
		any |= s->words[i];
	return any != 0;
}

static void
tell(struct hub *h, struct agent *a)
{
	const struct audience_set seen_by = hub_seen_by(h, a);

	if (!anybody(&seen_by) || a->record->removed_at != 0)
		return;
	struct notice *n =
	    hub_publish(h, NOTICE_QUEUE, SL("agent.queue"), a, 0);
	if (n != NULL)
		n->queue = view(h, a, NEWS_PLACES);
}

bool
hub_queue_expire(struct hub *h)
{
	struct agent *a = first_news(h);

	if (a == NULL || a->queue_news_due > h->now)
		return false;
	list_remove(&a->queue_news);
	a->queue_changed = false;
	tell(h, a);
	return true;
}

/* Requests ------------------------------------------------------------------
 */

void
hub_show_queue(struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);
	size_t max =
	    ev->request.limit == 0 ? PLACES_DEFAULT : ev->request.limit;

	if (a == NULL)
		return;
	struct reply *r = hub_reply(h, ev, who, 0);
	if (r != NULL)
		r->queue = view(h, a, max < PLACES_MAX ? max : PLACES_MAX);
}

void
hub_place_command(
    struct hub *h, const struct event *ev, const struct access *who)
{
	const struct command *c = map_get(&h->commands, ev->request.id);
	struct reply *r = hub_reply(h, ev, who, 0);

	if (r != NULL && c != NULL && hub_may_see(h, who, c->agent))
		hub_queue_place(h, c, &r->position, &r->wait);
}

/* The answer waits for the last of them: then all are cancelled for good. */
void
hub_purge_queue(struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);
	const struct outcome o = { .code = SL("CANCELLED"),
		.why = SL("the queue was purged before it was sent") };
	struct command *c;
	uint64_t purged = 0;

	if (a == NULL)
		return;
	const struct slice actor = hub_text(h, &who->user->id, 1);
	struct op *op = NULL;
	while ((c = hub_first_waiting(a)) != NULL && h->out->err == 0) {
		op = hub_finish_command(h, c, COMMAND_CANCELLED, &o);
		if (op != NULL)
			op->audit = hub_audit(actor, SL("command.cancel"),
			    op->command->id, ev, ev->request.credential.remote);
		purged++;
	}
	if (h->out->err == 0)
		op = hub_store(h, OP_AUDIT);
	if (op == NULL)
		return;
	op->audit = hub_audit(actor, SL("queue.purge"), hub_text(h, &a->id, 1),
	    ev, ev->request.credential.remote);
	hub_pend(h, op->number, PENDING_ANSWER, a->id, ev);
	struct reply *r = hub_reply(h, ev, who, op->number);
	if (r == NULL)
		return;
	r->total = purged;
	r->queue = view(h, a, 0);
	hub_queue_news(h, a);
}
