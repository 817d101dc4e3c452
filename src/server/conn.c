#include "base/alloc.h"
#include "base/err.h"

#include "io/addr.h"
#include "io/log.h"

#include "server/sources.h"
#include "server/web.h"

#include "server/conn.h"

enum { SLOTS_MIN = 64, SLOTS_MAX = 1 << 20 };

static int
grow(struct dock *d)
{
	size_t want = d->slot_room == 0 ? SLOTS_MIN : d->slot_room * 2;

	if (want > SLOTS_MAX)
		return ERR_FULL;
	struct conn **slots = alloc_resize(d->slots, want * sizeof(*slots));
	if (slots == NULL)
		return ERR_NOMEM;
	d->slots = slots;
	uint32_t *generations =
	    alloc_resize(d->generations, want * sizeof(*generations));
	if (generations == NULL)
		return ERR_NOMEM;
	d->generations = generations;
	uint32_t *freed = alloc_resize(d->free_slots, want * sizeof(*freed));
	if (freed == NULL)
		return ERR_NOMEM;
	d->free_slots = freed;
	d->slot_room = want;
	return 0;
}

static int
take_slot(struct dock *d, struct conn *c)
{
	uint32_t slot;

	if (d->free_count > 0) {
		slot = d->free_slots[--d->free_count];
	} else {
		if (d->slot_count == d->slot_room) {
			int err = grow(d);
			if (err != 0)
				return err;
		}
		slot = (uint32_t)d->slot_count++;
		d->generations[slot] = 0;
	}
	/* 0 means "no peer". */
	if (++d->generations[slot] == 0)
		d->generations[slot] = 1;
	d->slots[slot] = c;
	c->id =
	    (struct peer_id){ .node = (uint16_t)d->server->store_config.node,
		    .lane = (uint16_t)d->lane.config.index,
		    .slot = slot,
		    .generation = d->generations[slot] };
	return 0;
}

static void
on_read(void *owner, uint8_t *bytes, size_t n)
{
	struct conn *c = owner;

	c->dock->server->counts.bytes_in += n;
	if (!c->ending)
		c->role->read(c, bytes, n);
}

static void
on_eof(void *owner)
{
	struct conn *c = owner;

	if (!c->ending)
		c->role->eof(c);
}

static void
on_pull(void *owner, size_t room)
{
	struct conn *c = owner;

	if (!c->ending && c->role->pull != NULL)
		c->role->pull(c, room);
}

static void
on_drained(void *owner)
{
	struct conn *c = owner;

	if (!c->ending && c->role->drained != NULL)
		c->role->drained(c);
}

static void
give_slot(struct conn *c)
{
	struct dock *d = c->dock;

	d->slots[c->id.slot] = NULL;
	d->free_slots[d->free_count++] = c->id.slot;
	list_remove(&c->link);
}

static void
count_off(const struct conn *c)
{
	sources_leave(
	    c->dock->server->sources, c->counted ? &c->from : NULL, c->known);
}

int
conn_know(struct conn *c, struct slice address)
{
	struct address from;
	int err;

	if (c->known || address_parse(address, &from) != 0)
		return 0;
	/* This host, by itself. */
	if (!c->counted && slice_eq(address, SL("127.0.0.1")))
		return 0;
	err = sources_know(
	    c->dock->server->sources, c->counted ? &c->from : NULL, &from);
	if (err != 0)
		return err;
	c->from = from;
	c->counted = c->known = true;
	return 0;
}

/* One less; the last one of all may be waited for. */
static void
count_out(struct dock *d)
{
	struct server *s = d->server;

	if (atomic_fetch_sub(&s->counts.connections, 1) == 1 && s->draining)
		loop_wake(d->lane.config.hub_loop);
}

static void
on_closed(void *owner, int why)
{
	struct conn *c = owner;
	struct dock *d = c->dock;

	c->ending = true;
	loop_timer_stop(d->lane.loop, &c->timer);
	if (c->why == 0)
		c->why = why;
	c->role->gone(c, why);
	give_slot(c);
	count_off(c);
	count_out(d);
	if (c->greeted)
		dock_mourn(d, c);
	else
		alloc_free(c);
}

static const struct stream_ops ops = {
	.read = on_read,
	.eof = on_eof,
	.pull = on_pull,
	.drained = on_drained,
	.closed = on_closed,
};

/* Whether connections of this peer count for its address: not this host's,
 * nor a trusted proxy's, behind which there are many. */
static bool
counts_for(struct dock *d, const struct sockaddr *peer, struct address *out)
{
	char text[ADDR_TEXT];

	if (addr_is_loopback(peer))
		return false;
	addr_format_ip(peer, text);
	return address_parse(slice_from(text), out) == 0 &&
	    !cidr_list_has(d->server->settings.trusted_proxies, out);
}

static void
refuse(struct dock *d, struct stream *s, int err)
{
	char text[ADDR_TEXT];

	addr_format(stream_remote(s), text);
	log_warn("connection_refused", kv_c("remote", text), kv_e("err", err));
	d->server->counts.refused++;
	stream_abort(s, true);
}

static void
forget(struct conn *c, int why)
{
	(void)c;
	(void)why;
}

/* Of one that did not get as far as having one. */
static const struct conn_role no_role = { .gone = forget };

struct conn *
conn_new_with(struct dock *d, struct stream *s, conn_begin_fn *begin, void *arg)
{
	struct conn *c = alloc_new(sizeof(*c));
	int err = ERR_NOMEM;

	if (c != NULL) {
		c->dock = d;
		c->counted = counts_for(d, stream_remote(s), &c->from);
		err = sources_enter(d->server->sources,
		    c->counted ? &c->from : NULL, &c->reserve);
	}
	if (err == 0) {
		err = take_slot(d, c);
		if (err != 0)
			count_off(c);
	}
	if (err != 0) {
		alloc_free(c);
		refuse(d, s, err);
		return NULL;
	}
	c->stream = s;
	c->role = &no_role;
	list_push(&d->conns, &c->link);
	d->server->counts.connections++;
	d->server->counts.accepted++;
	err = begin(c, arg);
	stream_start(s, &ops, c);
	if (err != 0)
		conn_drop(c);
	return c;
}

static int
begin_web(struct conn *c, void *arg)
{
	(void)arg;
	return web_begin(c);
}

void
conn_new(struct dock *d, struct stream *s)
{
	conn_new_with(d, s, begin_web, NULL);
}

int
conn_leave(struct conn *c)
{
	struct stream *s;

	if (c->ending || c->greeted || c->role->moved == NULL)
		return ERR_WRONG_STATE;
	s = stream_detach(c->stream);
	if (s == NULL)
		return ERR_NOMEM;
	loop_timer_stop(c->dock->lane.loop, &c->timer);
	give_slot(c);
	c->stream = s;
	c->afloat = true;
	return 0;
}

int
conn_travel(struct conn *c, unsigned lane)
{
	struct dock *d = c->dock;

	if (c->ending || c->afloat || c->greeted || c->role->moved == NULL ||
	    lane == d->lane.config.index || lane >= d->server->dock_count)
		return ERR_WRONG_STATE;
	c->heading = (uint16_t)lane;
	loop_timer_stop(d->lane.loop, &c->timer);
	stream_read_stop(c->stream);
	/* Its end takes it off that list, too. */
	list_remove(&c->link);
	list_push(&d->leaving, &c->link);
	loop_defer(d->lane.loop, &d->depart);
	return 0;
}

void
conn_discard(struct conn *c)
{
	stream_abort(c->stream, true);
	c->ending = true;
	c->role->gone(c, ERR_CLOSED);
	count_off(c);
	count_out(c->dock);
	alloc_free(c);
}

int
conn_arrive(struct conn *c, struct dock *d)
{
	int err = stream_attach(c->stream, d->lane.loop);

	if (err == 0)
		err = take_slot(d, c);
	if (err != 0) {
		conn_discard(c);
		return err;
	}
	c->dock = d;
	c->afloat = false;
	list_push(&d->conns, &c->link);
	stream_start(c->stream, &ops, c);
	c->role->moved(c);
	return 0;
}

void
conn_become(struct conn *c, const struct conn_role *role, void *state)
{
	c->role = role;
	c->state = state;
}

static void
on_timer(struct loop_timer *t)
{
	struct conn *c = LIST_OF(t, struct conn, timer);

	if (!c->ending && c->role->timer != NULL)
		c->role->timer(c);
}

void
conn_wake_at(struct conn *c, msec due)
{
	struct loop *l = c->dock->lane.loop;

	if (due == INT64_MAX)
		loop_timer_stop(l, &c->timer);
	else if (loop_timer_set(l, &c->timer, due, on_timer) != 0)
		conn_drop(c);
}

bool
conn_write(struct conn *c, struct slice bytes)
{
	return conn_write2(c, bytes, (struct slice){ 0 });
}

static bool
wrote(struct conn *c, size_t len, int err)
{
	if (err == 0) {
		c->dock->server->counts.bytes_out += len;
		return true;
	}
	/* A peer that does not read what it asked for: it pays alone. */
	log_info("connection_dropped", kv_e("err", err),
	    kv_u("queued", stream_queued(c->stream)));
	c->why = err;
	conn_drop(c);
	return false;
}

bool
conn_write2(struct conn *c, struct slice head, struct slice body)
{
	size_t len = head.len + body.len;

	if (c->ending)
		return false;
	return len == 0 || wrote(c, len, stream_write2(c->stream, head, body));
}

bool
conn_write_parts(struct conn *c, const struct slice *parts, size_t count)
{
	size_t len = 0;

	if (c->ending)
		return false;
	for (size_t i = 0; i < count; i++)
		len += parts[i].len;
	return wrote(c, len, stream_write_parts(c->stream, parts, count));
}

bool
conn_write_chunk(struct conn *c, struct chunk *chunk)
{
	return !c->ending &&
	    wrote(c, chunk->len,
		stream_write_chunk(
		    c->stream, (struct slice){ 0 }, chunk, 0, chunk->len));
}

void
conn_end(struct conn *c)
{
	if (c->ending)
		return;
	c->ending = true;
	stream_close(c->stream);
}

void
conn_drop(struct conn *c)
{
	c->ending = true;
	/* What is cut off has not said goodbye. */
	if (c->why == 0)
		c->why = ERR_CLOSED;
	stream_abort(c->stream, true);
}

struct event *
conn_event(struct conn *c, enum event_kind kind, struct arena **arena)
{
	struct event *ev = dock_event(c->dock, kind, arena);

	if (ev != NULL)
		ev->peer = c->id;
	return ev;
}

static struct slice
keep(struct arena *a, const char *text)
{
	struct slice s;

	if (arena_copy(a, slice_from(text), &s) != 0)
		return SL("");
	return s;
}

struct slice
conn_remote(const struct conn *c, struct arena *a)
{
	char text[ADDR_TEXT];

	addr_format(stream_remote(c->stream), text);
	return keep(a, text);
}

struct slice
conn_address(const struct conn *c, struct arena *a)
{
	char text[ADDR_TEXT];

	addr_format_ip(stream_remote(c->stream), text);
	return keep(a, text);
}
