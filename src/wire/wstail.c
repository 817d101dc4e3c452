#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/wstail.h"

enum { ROOM = 640 }; /* a few pongs and the close frame */

struct wstail {
	uint16_t head; /* first byte not yet written */
	uint16_t len;
	uint16_t pong; /* where the newest frame begins, when it is a pong */
	bool has_pong;
	uint8_t bytes[ROOM];
};

/* Give back the room of what was written. */
static void
slide(struct wstail *t)
{
	if (t->pong < t->head)
		t->has_pong = false;
	t->len = (uint16_t)(t->len - t->head);
	t->pong = (uint16_t)(t->pong - t->head);
	memmove(t->bytes, t->bytes + t->head, t->len);
	t->head = 0;
}

int
wstail_put(struct wstail **where, enum ws_opcode opcode, struct slice frame)
{
	size_t room = opcode == WS_CLOSE ? ROOM : ROOM - WSTAIL_FRAME_MAX;
	struct wstail *t = *where;

	assert(frame.len <= WSTAIL_FRAME_MAX);
	if (t == NULL)
		t = *where = alloc_new(sizeof(*t));
	if (t == NULL)
		return ERR_NOMEM;
	if (t->head > 0)
		slide(t);
	size_t at = t->len;
	if (at + frame.len > room && opcode == WS_PONG && t->has_pong)
		at = t->pong;
	if (at + frame.len > room)
		return ERR_FULL;
	memcpy(t->bytes + at, frame.ptr, frame.len);
	t->len = (uint16_t)(at + frame.len);
	t->pong = (uint16_t)at;
	t->has_pong = opcode == WS_PONG;
	return 0;
}

struct slice
wstail_peek(const struct wstail *t)
{
	if (t == NULL)
		return (struct slice){ 0 };
	return (struct slice){ t->bytes + t->head, (size_t)(t->len - t->head) };
}

void
wstail_eat(struct wstail **where, size_t n)
{
	struct wstail *t = *where;

	if (n == 0)
		return;
	assert(t != NULL && n <= (size_t)(t->len - t->head));
	t->head = (uint16_t)(t->head + n);
	if (t->head < t->len)
		return;
	wstail_free(t);
	*where = NULL;
}

void
wstail_free(struct wstail *t)
{
	alloc_free(t);
}

size_t
wstail_memory(const struct wstail *t)
{
	return t == NULL ? 0 : sizeof(*t);
}
