#include "base/alloc.h"
#include "base/err.h"

#include "model/outbox.h"

enum { ROOM_MIN = 64, EFFECTS_MAX = 1 << 20 };

void
outbox_init(struct outbox *o, size_t cap)
{
	*o = (struct outbox){ 0 };
	arena_init(&o->arena, cap);
}

void
outbox_fini(struct outbox *o)
{
	alloc_free(o->effects);
	arena_fini(&o->arena);
	*o = (struct outbox){ 0 };
}

void
outbox_reset(struct outbox *o)
{
	arena_reset(&o->arena);
	o->count = 0;
	o->err = 0;
	o->stamp = 0;
}

struct effect *
outbox_add(struct outbox *o, enum effect_kind kind)
{
	if (o->err != 0)
		return NULL;
	if (o->count == o->room) {
		size_t want = o->room == 0 ? ROOM_MIN : o->room * 2;
		if (want > EFFECTS_MAX) {
			o->err = ERR_FULL;
			return NULL;
		}
		struct effect *wider =
		    alloc_resize(o->effects, want * sizeof(*wider));
		if (wider == NULL) {
			o->err = ERR_NOMEM;
			return NULL;
		}
		o->effects = wider;
		o->room = want;
	}
	struct effect *e = &o->effects[o->count++];
	*e = (struct effect){ .kind = kind };
	return e;
}

struct event *
outbox_send(struct outbox *o, struct peer_id peer, enum event_kind kind)
{
	struct event *ev = arena_alloc(&o->arena, sizeof(*ev));

	if (ev == NULL) {
		o->err = ERR_NOMEM;
		return NULL;
	}
	struct effect *e = outbox_add(o, EFFECT_SEND);
	if (e == NULL)
		return NULL;
	ev->kind = kind;
	ev->peer = peer;
	e->peer = peer;
	e->event = ev;
	return ev;
}
