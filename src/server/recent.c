#include <assert.h>
#include <string.h>

#include "base/alloc.h"

#include "server/recent.h"

static struct recent_event **
place(const struct recent *r, uint64_t number)
{
	return &r->events[number % RECENT_MAX];
}

uint64_t
recent_first(const struct recent *r)
{
	return r->next - r->count;
}

static void
drop_first(struct recent *r)
{
	struct recent_event **e = place(r, recent_first(r));

	r->bytes -= (*e)->text.len;
	alloc_free(*e);
	*e = NULL;
	r->count--;
}

static void
empty(struct recent *r)
{
	while (r->count > 0)
		drop_first(r);
}

void
recent_fini(struct recent *r)
{
	empty(r);
	alloc_free(r->events);
	*r = (struct recent){ 0 };
}

void
recent_put(struct recent *r, uint64_t number, const struct recent_event *ev)
{
	struct recent_event *e = alloc_new(sizeof(*e) + ev->text.len + 1);

	if (r->events == NULL)
		r->events =
		    alloc_array(RECENT_MAX, sizeof(struct recent_event *));
	if (number != r->next || e == NULL || r->events == NULL)
		empty(r);
	if (e == NULL || r->events == NULL) {
		r->next = number + 1;
		alloc_free(e);
		return;
	}
	*e = *ev;
	if (ev->text.len > 0)
		memcpy(e + 1, ev->text.ptr, ev->text.len);
	e->text.ptr = (const uint8_t *)(e + 1);
	while (r->count == RECENT_MAX ||
	    (r->count > 0 && r->bytes + e->text.len > RECENT_BYTES))
		drop_first(r);
	*place(r, number) = e;
	r->next = number + 1;
	r->count++;
	r->bytes += e->text.len;
}

const struct recent_event *
recent_get(const struct recent *r, uint64_t number)
{
	assert(number >= recent_first(r) && number < r->next);
	return *place(r, number);
}
