#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/map.h"

#include "io/clock.h"
#include "io/log.h"
#include "io/rand.h"

#include "server/conn.h"
#include "server/live.h"

#include "server/router.h"

enum { PLACES_MAX = 1 << 20 };

/* What one lane could not be given. */
struct debt {
	struct peer_id peers[CUT_MAX];
	size_t count;
	bool all;
	bool followers;
	enum lane_word word; /* START or DRAIN, with its spread */
	msec spread;
	struct list results; /* struct writer_done */
	struct batch *batch; /* one reference, for the newest list: */
	const struct effect *routes;
	bool forget; /* a withdrawal was lost */
	bool forget_cut;
};

/* Where a command's stream lives, and where it is to live. */
struct place {
	struct slice id;        /* behind the struct */
	unsigned lane;          /* has what there is of it */
	unsigned heading;       /* while moving: it comes there next */
	unsigned target;        /* of the newest order to open */
	struct peer_id link;    /* of that order */
	struct transit transit; /* while moving */
	bool expelled;          /* likewise: its viewer is to go no further */
	bool moving;
	struct batch *batch;       /* one reference, for the last order: */
	const struct effect *done; /* it waits for the end of the move */
};

struct router {
	struct server *server;
	struct lane *lanes[LANES_MAX];
	struct debt debts[LANES_MAX];
	size_t lane_count;
	bool owes;
	uint64_t published; /* notices so far */
	struct map places;  /* of open streams; empty with one lane */
};

/* Debts -------------------------------------------------------------------- */

void
router_cut(struct router *r, struct peer_id peer)
{
	struct debt *d;

	if (!peer_some(peer))
		return;
	assert(peer.lane < r->lane_count);
	d = &r->debts[peer.lane];
	r->owes = true;
	for (size_t i = 0; i < d->count; i++) {
		if (peer_eq(d->peers[i], peer))
			return;
	}
	if (d->count < CUT_MAX)
		d->peers[d->count++] = peer;
	else
		d->all = true;
}

static struct lane_mail *
new_mail(struct lane *lane, enum mail_class class, enum lane_word word)
{
	struct arena *a = mailbox_arena(&lane->to_lane, class);
	struct lane_mail *m = a == NULL ? NULL : arena_alloc(a, sizeof(*m));

	if (m != NULL)
		m->word = word;
	return m;
}

static bool
post(struct lane *lane, enum mail_class class, struct lane_mail *m)
{
	return m != NULL && mailbox_put(&lane->to_lane, class, &m->mail) == 0;
}

static bool
pay_cut(struct lane *lane, struct debt *d)
{
	struct lane_mail *m;

	if (d->count == 0 && !d->all && !d->followers)
		return true;
	m = new_mail(lane, MAIL_URGENT, LANE_CUT);
	struct arena *a = mailbox_arena(&lane->to_lane, MAIL_URGENT);
	struct peer_id *peers =
	    m == NULL ? NULL : arena_alloc(a, sizeof(d->peers));
	if (peers == NULL) {
		m = NULL;
	} else {
		memcpy(peers, d->peers, sizeof(d->peers));
		m->cut.peers = peers;
		m->cut.count = d->count;
		m->cut.all = d->all;
		m->cut.followers = d->followers;
	}
	if (!post(lane, MAIL_URGENT, m))
		return false;
	log_warn("lane_overloaded", kv_u("lane", lane->config.index),
	    kv_u("cut", d->count), kv_b("all", d->all));
	d->count = 0;
	d->all = d->followers = false;
	return true;
}

static bool
pay_word(struct lane *lane, struct debt *d)
{
	struct lane_mail *m;

	if (d->word != LANE_START && d->word != LANE_DRAIN)
		return true;
	m = new_mail(lane, MAIL_URGENT, d->word);
	if (m != NULL)
		m->spread = d->spread;
	if (!post(lane, MAIL_URGENT, m))
		return false;
	d->word = LANE_EFFECT;
	return true;
}

static bool
pay_results(struct lane *lane, struct debt *d)
{
	while (!list_empty(&d->results)) {
		struct lane_mail *m = new_mail(lane, MAIL_NORMAL, LANE_STORED);
		if (m != NULL)
			m->done =
			    LIST_OF(d->results.next, struct writer_done, link);
		if (!post(lane, MAIL_NORMAL, m))
			return false;
		list_pop(&d->results);
	}
	return true;
}

static bool
pay_routes(struct lane *lane, struct debt *d)
{
	struct lane_mail *m;

	if (d->batch == NULL)
		return true;
	m = new_mail(lane, MAIL_NORMAL, LANE_EFFECT);
	if (m != NULL) {
		m->batch = d->batch;
		m->effect = d->routes;
	}
	if (!post(lane, MAIL_NORMAL, m))
		return false;
	d->batch = NULL;
	return true;
}

static bool
pay_forget(struct lane *lane, struct debt *d)
{
	struct lane_mail *m;

	if (!d->forget)
		return true;
	m = new_mail(lane, MAIL_NORMAL, LANE_FORGET);
	if (m != NULL)
		m->cut.all = d->forget_cut;
	if (!post(lane, MAIL_NORMAL, m))
		return false;
	d->forget = d->forget_cut = false;
	return true;
}

bool
router_retry(struct router *r)
{
	if (!r->owes)
		return false;
	r->owes = false;
	for (size_t i = 0; i < r->lane_count; i++) {
		struct lane *lane = r->lanes[i];
		struct debt *d = &r->debts[i];
		bool paid = pay_word(lane, d);
		paid = pay_cut(lane, d) && paid;
		paid = pay_results(lane, d) && paid;
		paid = pay_routes(lane, d) && paid;
		paid = pay_forget(lane, d) && paid;
		r->owes |= !paid;
	}
	return r->owes;
}

void
router_tell_all(struct router *r, enum lane_word word, msec spread)
{
	for (size_t i = 0; i < r->lane_count; i++) {
		r->debts[i].word = word;
		r->debts[i].spread = spread;
	}
	r->owes = true;
}

void
router_stored(struct router *r, struct writer_done *done)
{
	const struct lane *lane = done->tag;

	if (lane == NULL) {
		writer_done_free(done);
		return;
	}
	struct debt *d = &r->debts[lane->config.index];
	list_push(&d->results, &done->link);
	if (!pay_results(r->lanes[lane->config.index], d))
		r->owes = true;
}

/* Effects ------------------------------------------------------------------ */

/* What cannot be performed costs those it was for their connection. */
static void
forfeit(struct router *r, unsigned lane, const struct effect *e)
{
	struct debt *d = &r->debts[lane];

	r->owes = true;
	if (e->kind == EFFECT_PUBLISH) {
		d->followers = true;
		return;
	}
	if (e->kind == EFFECT_WITHDRAW) {
		d->forget = true;
		d->forget_cut |= e->withdrawal.cut;
		return;
	}
	router_cut(r, e->peer);
	if (e->kind == EFFECT_STREAM)
		router_cut(r, e->stream.viewer);
}

/* An order to stop overtakes: it is right at any place among others, for its
 * number says what it is newer than. */
static enum mail_class
class_of(const struct effect *e)
{
	return e->kind == EFFECT_SEND && e->event->kind == EVENT_STOP_ORDER
	    ? MAIL_URGENT
	    : MAIL_NORMAL;
}

/*
 * All other effects go one way, so that a close does not overtake the
 * sentence that explains it, nor a signal the order to open.
 */
static void
hand_over_mail(struct router *r, unsigned lane, struct lane_mail *m,
    struct batch *b, const struct effect *e)
{
	if (m != NULL) {
		m->batch = b;
		m->effect = e;
	}
	/* Held before the lane can drop it. */
	batch_hold(b);
	if (post(r->lanes[lane], class_of(e), m))
		return;
	batch_drop(b);
	forfeit(r, lane, e);
}

static void
hand_over_open(struct router *r, unsigned lane, struct batch *b,
    const struct effect *e, bool awaits)
{
	struct lane_mail *m =
	    new_mail(r->lanes[lane], class_of(e), LANE_EFFECT);

	if (m != NULL)
		m->awaits = awaits;
	hand_over_mail(r, lane, m, b, e);
}

static void
hand_over(
    struct router *r, unsigned lane, struct batch *b, const struct effect *e)
{
	hand_over_open(r, lane, b, e, false);
}

/* Numbered in the order in which it is told, which is not that in which it
 * happened: some waits for the disk. */
static void
publish(struct router *r, struct batch *b, const struct effect *e)
{
	struct server *s = r->server;

	r->published++;
	const struct server_counts *n = &s->counts;

	if (n->followers == 0 && n->dashboards == 0 && n->monitors == 0 &&
	    clock_mono() >= atomic_load(&s->follow_until))
		return;
	for (unsigned i = 0; i < r->lane_count; i++) {
		struct lane_mail *m =
		    new_mail(r->lanes[i], MAIL_NORMAL, LANE_EFFECT);
		if (m != NULL)
			m->number = r->published;
		hand_over_mail(r, i, m, b, e);
	}
}

/* To all lanes: this list, instead of any that is still owed. */
static void
tell_routes(struct router *r, struct batch *b, const struct effect *e)
{
	for (unsigned i = 0; i < r->lane_count; i++) {
		struct debt *d = &r->debts[i];
		if (d->batch != NULL)
			batch_drop(d->batch);
		batch_hold(b);
		d->batch = b;
		d->routes = e;
		if (!pay_routes(r->lanes[i], d))
			r->owes = true;
	}
}

static void
withdraw(struct router *r, struct batch *b, const struct effect *e)
{
	for (unsigned i = 0; i < r->lane_count; i++)
		hand_over(r, i, b, e);
}

void
router_relay(struct router *r, struct live_parcel *p)
{
	for (unsigned i = 0; i < r->lane_count; i++) {
		if (i == p->from ||
		    (p->kind == LIVE_FRAME && i != p->viewer.lane))
			continue;
		struct lane_mail *m =
		    new_mail(r->lanes[i], MAIL_NORMAL, LANE_LIVE);
		if (m != NULL)
			m->parcel = p;
		/* Held before the lane can drop it. */
		live_parcel_hold(p);
		if (post(r->lanes[i], MAIL_NORMAL, m))
			continue;
		live_parcel_drop(p);
		log_warn("output_not_relayed", kv_u("lane", i),
		    kv_s("command", p->command.id));
	}
	live_parcel_drop(p);
}

void
router_carry(struct router *r, struct conn *c)
{
	struct lane *lane = r->lanes[c->heading];
	struct lane_mail *m = new_mail(lane, MAIL_NORMAL, LANE_TRAVEL);

	if (m != NULL)
		m->traveller = c;
	if (!post(lane, MAIL_NORMAL, m))
		conn_discard(c);
}

/* Streams ------------------------------------------------------------------ */

static struct place *
new_place(struct router *r, struct slice id, unsigned lane)
{
	struct place *p = alloc_new(sizeof(*p) + id.len + 1);

	if (p == NULL)
		return NULL;
	memcpy(p + 1, id.ptr, id.len);
	p->id = (struct slice){ (const uint8_t *)(p + 1), id.len };
	p->lane = p->target = lane;
	if (map_put(&r->places, p->id, p) == 0)
		return p;
	alloc_free(p);
	return NULL;
}

static void
drop_place(struct router *r, struct place *p)
{
	if (p->batch != NULL)
		batch_drop(p->batch);
	map_del(&r->places, p->id);
	alloc_free(p);
}

/* Have what a lane has of a stream, or of its viewer alone, brought to
 * where the stream is to be opened. */
static void
move(struct router *r, struct place *p, unsigned from, struct peer_id viewer)
{
	struct lane_mail *m =
	    new_mail(r->lanes[from], MAIL_NORMAL, LANE_LET_GO);

	p->transit = (struct transit){
		.place = p, .command_id = p->id, .viewer = viewer
	};
	list_init(&p->transit.link);
	if (m != NULL)
		m->transit = &p->transit;
	if (!post(r->lanes[from], MAIL_NORMAL, m)) {
		/* The agent comes back, and the order again. */
		router_cut(r, p->link);
		router_cut(r, viewer);
		return;
	}
	p->moving = true;
	p->heading = p->target;
}

/*
 * The order goes to the link's lane at once, because an agent takes its
 * commands in the order of their numbers; there it waits for what another
 * lane has of it.
 */
static void
order_open(
    struct router *r, struct place *p, struct batch *b, const struct effect *e)
{
	unsigned from =
	    peer_some(e->stream.viewer) ? e->stream.viewer.lane : e->peer.lane;

	if (p == NULL)
		p = new_place(r, e->stream.command_id, from);
	if (p == NULL) {
		forfeit(r, e->peer.lane, e);
		return;
	}
	if (peer_some(e->peer)) {
		p->target = e->peer.lane;
		p->link = e->peer;
	}
	hand_over_open(r, p->target, b, e, p->moving || p->lane != p->target);
	if (!p->moving && p->lane != p->target)
		move(r, p, p->lane, e->stream.viewer);
}

/* A viewer comes to a stream that is open, or will be: on its lane. */
static void
order_view(
    struct router *r, struct place *p, struct batch *b, const struct effect *e)
{
	struct peer_id viewer = e->stream.viewer;

	if (p == NULL)
		p = new_place(r, e->stream.command_id, viewer.lane);
	if (p == NULL || p->moving)
		router_cut(r, viewer); /* it comes again */
	else if (p->lane == viewer.lane)
		hand_over(r, p->lane, b, e);
	else
		move(r, p, viewer.lane, viewer);
}

/* The last order; once all that came before has settled. */
static void
order_done(
    struct router *r, struct place *p, struct batch *b, const struct effect *e)
{
	if (!p->moving) {
		hand_over(r, p->lane, b, e);
		drop_place(r, p);
	} else if (p->done == NULL) {
		batch_hold(b);
		p->batch = b;
		p->done = e;
	}
}

static void
order_stream(struct router *r, struct batch *b, const struct effect *e)
{
	struct peer_id to = peer_some(e->peer) ? e->peer : e->stream.viewer;
	struct place *p;

	if (r->lane_count == 1) {
		hand_over(r, 0, b, e);
		return;
	}
	p = map_get(&r->places, e->stream.command_id);
	if (p == NULL && !peer_some(to))
		return;
	if (e->stream.verb == STREAM_OPEN)
		order_open(r, p, b, e);
	else if (e->stream.verb == STREAM_VIEW)
		order_view(r, p, b, e);
	else if (p == NULL && e->stream.verb == STREAM_DONE &&
	    peer_some(e->stream.viewer))
		/* Of a console agent: its client has stayed where it was. */
		hand_over(r, e->stream.viewer.lane, b, e);
	else if (p == NULL)
		hand_over(r, to.lane, b, e);
	else if (e->stream.verb == STREAM_DONE)
		order_done(r, p, b, e);
	else
		hand_over(r, p->target, b, e);
	/* Between two lanes neither would find it.  What is done is freed. */
	if (e->stream.verb == STREAM_EXPEL && p != NULL && p->moving)
		p->expelled = true;
}

void
router_perform(struct router *r, struct batch *b, const struct effect *e)
{
	if (e->kind == EFFECT_PUBLISH) {
		publish(r, b, e);
		return;
	}
	if (e->kind == EFFECT_STREAM) {
		order_stream(r, b, e);
		return;
	}
	if (e->kind == EFFECT_OUTPUT) {
		/* Of no connection: any lane shows it to all. */
		if (r->server->counts.dashboards > 0 ||
		    r->server->counts.monitors > 0)
			hand_over(r, 0, b, e);
		return;
	}
	if (e->kind == EFFECT_ROUTES)
		tell_routes(r, b, e);
	if (e->kind == EFFECT_WITHDRAW)
		withdraw(r, b, e);
	if (!peer_some(e->peer))
		return;
	assert(e->peer.lane < r->lane_count);
	hand_over(r, e->peer.lane, b, e);
}

/* Tell the lane that it may open now, also when there is no viewer. */
static void
bring(struct router *r, struct place *p)
{
	struct lane *lane = r->lanes[p->lane];
	struct lane_mail *m = new_mail(lane, MAIL_NORMAL, LANE_ARRIVE);

	/* The place may be gone before the lane reads this. */
	if (m != NULL &&
	    arena_copy(mailbox_arena(&lane->to_lane, MAIL_NORMAL), p->id,
		&m->arrival.command_id) != 0)
		m = NULL;
	if (m != NULL)
		m->arrival.conn = p->transit.conn;
	if (m != NULL)
		memcpy(m->arrival.shown, p->transit.shown,
		    sizeof(m->arrival.shown));
	if (post(lane, MAIL_NORMAL, m))
		return;
	if (p->transit.conn != NULL)
		conn_discard(p->transit.conn);
	router_cut(r, p->link);
}

void
router_arrived(struct router *r, struct transit *t)
{
	struct place *p = t->place;

	p->moving = false;
	p->lane = p->heading;
	if (p->expelled && p->transit.conn != NULL) {
		conn_discard(p->transit.conn);
		p->transit.conn = NULL;
	}
	p->expelled = false;
	bring(r, p);
	if (p->lane != p->target) {
		/* Its agent is on a third lane by now. */
		move(r, p, p->lane, (struct peer_id){ 0 });
	} else if (p->done != NULL) {
		hand_over(r, p->lane, p->batch, p->done);
		drop_place(r, p);
	}
}

/* Life --------------------------------------------------------------------- */

struct router *
router_new(struct server *server)
{
	struct router *r = alloc_new(sizeof(*r));
	uint64_t seed[2];

	if (r == NULL)
		return NULL;
	rand_fill(seed, sizeof(seed));
	r->server = server;
	map_init(&r->places, PLACES_MAX, seed);
	for (size_t i = 0; i < LANES_MAX; i++)
		list_init(&r->debts[i].results);
	return r;
}

void
router_free(struct router *r)
{
	struct place *p;
	size_t pos = 0;

	if (r == NULL)
		return;
	while ((p = map_next(&r->places, &pos)) != NULL) {
		drop_place(r, p);
		pos = 0;
	}
	map_fini(&r->places);
	alloc_free(r);
}

void
router_add_lane(struct router *r, struct lane *lane)
{
	assert(r->lane_count < LANES_MAX);
	r->lanes[r->lane_count++] = lane;
}

static void
discard(struct lane_mail *m)
{
	if (m->word == LANE_EFFECT)
		batch_drop(m->batch);
	else if (m->word == LANE_STORED)
		writer_done_free(m->done);
	else if (m->word == LANE_LIVE)
		live_parcel_drop(m->parcel);
	else if (m->word == LANE_TRAVEL)
		conn_discard(m->traveller);
	else if (m->word == LANE_ARRIVE && m->arrival.conn != NULL)
		conn_discard(m->arrival.conn);
}

void
router_discard(struct router *r, struct lane *lane)
{
	struct debt *d = &r->debts[lane->config.index];

	for (int class = 0; class < MAIL_CLASSES; class ++) {
		struct mail *m;
		while ((m = mailbox_take(
			    &lane->to_lane, (enum mail_class) class)) != NULL)
			discard((struct lane_mail *)(void *)m);
	}
	if (d->batch != NULL)
		batch_drop(d->batch);
	d->batch = NULL;
	while (!list_empty(&d->results))
		writer_done_free(
		    LIST_OF(list_pop(&d->results), struct writer_done, link));
}
