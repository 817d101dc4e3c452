#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/stream_in.h"

#define NONE ((struct slice){ 0 })

struct chunk *
chunk_new(size_t len)
{
	struct chunk *c;

	if (len > UINT32_MAX - sizeof(*c))
		return NULL;
	c = alloc_new(sizeof(*c) + len);
	if (c == NULL)
		return NULL;
	c->refs = 1;
	c->len = (uint32_t)len;
	return c;
}

/* Chunks cross lanes, so their counts are touched by several threads. */
void
chunk_hold(struct chunk *c)
{
	__atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
}

void
chunk_drop(struct chunk *c)
{
	if (c != NULL && __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0)
		alloc_free(c);
}

struct slice
span_bytes(const struct span *p)
{
	const uint8_t *at = p->chunk != NULL ? p->chunk->bytes : p->bytes;

	return (struct slice){ at + p->from, p->end - p->from };
}

static bool
in_cork(const struct stream_lane *lane, const struct span *p)
{
	const uint8_t *at = (const uint8_t *)p;

	return lane != NULL && at >= lane->cork &&
	    at < lane->cork + STREAM_CORK;
}

static void
append(struct stream *s, struct span *p)
{
	p->next = NULL;
	if (s->last == NULL)
		s->first = p;
	else
		s->last->next = p;
	s->last = p;
}

static void
copy_in(struct stream *s, struct span *p, struct slice bytes)
{
	if (bytes.len > 0)
		memcpy(p->bytes + p->end, bytes.ptr, bytes.len);
	p->end += (uint32_t)bytes.len;
	s->queued += (uint32_t)bytes.len;
}

/* Heap spans --------------------------------------------------------------- */

static struct span *
span_new(struct stream_lane *lane, size_t room)
{
	struct span *p;

	if (room > SPAN_MAX / 4 && lane->spare != NULL) {
		p = lane->spare;
		lane->spare = p->next;
		lane->spares--;
		*p = (struct span){ .room = SPAN_MAX };
		return p;
	}
	/* A reference has no bytes; the rest come in three sizes, so that
	 * freed ones fit again. */
	if (room > SPAN_MAX / 4)
		room = SPAN_MAX;
	else if (room > SPAN_MIN)
		room = SPAN_MAX / 4;
	else if (room > 0)
		room = SPAN_MIN;
	/* Not zeroed: 64 KiB of that would cost as much as the copy. */
	p = alloc_resize(NULL, sizeof(*p) + room);
	if (p != NULL)
		*p = (struct span){ .room = (uint32_t)room };
	return p;
}

static void
span_free(struct stream_lane *lane, struct span *p)
{
	chunk_drop(p->chunk);
	if (in_cork(lane, p))
		return;
	if (lane != NULL && p->room == SPAN_MAX && lane->spares < SPAN_SPARE) {
		p->next = lane->spare;
		lane->spare = p;
		lane->spares++;
		return;
	}
	alloc_free(p);
}

void
span_free_spares(struct stream_lane *lane)
{
	struct span *p;

	while ((p = lane->spare) != NULL) {
		lane->spare = p->next;
		alloc_free(p);
	}
	lane->spares = 0;
}

/* Room for len bytes in heap spans behind the last one, as a list whose
 * first may be the last span itself; all or nothing. */
static int
extend(struct stream *s, size_t len, struct span **more)
{
	struct span **at = more, *p;

	*more = NULL;
	if (s->last != NULL && s->last->chunk == NULL)
		len -= len < s->last->room - s->last->end
		    ? len
		    : s->last->room - s->last->end;
	while (len > 0) {
		p = span_new(s->lane, len < SPAN_MAX ? len : SPAN_MAX);
		if (p == NULL)
			break;
		p->next = NULL;
		*at = p;
		at = &p->next;
		len -= len < p->room ? len : p->room;
	}
	if (len == 0)
		return 0;
	while ((p = *more) != NULL) {
		*more = p->next;
		span_free(s->lane, p);
	}
	return ERR_NOMEM;
}

static void
fill(struct stream *s, struct span **more, struct slice bytes)
{
	while (bytes.len > 0) {
		struct span *p = s->last;
		size_t room =
		    p != NULL && p->chunk == NULL ? p->room - p->end : 0;
		if (room == 0) {
			p = *more;
			*more = p->next;
			append(s, p);
			room = p->room;
		}
		copy_in(s, p, slice_first(bytes, room));
		bytes = slice_from_at(bytes, room);
	}
}

int
span_keep2(struct stream *s, struct slice head, struct slice body)
{
	struct span *more;
	int err = extend(s, head.len + body.len, &more);

	if (err != 0)
		return err;
	fill(s, &more, head);
	fill(s, &more, body);
	return 0;
}

/* p takes over a hold on the chunk. */
static void
refer(
    struct stream *s, struct span *p, struct chunk *c, size_t from, size_t len)
{
	p->chunk = c;
	p->from = (uint32_t)from;
	p->end = (uint32_t)(from + len);
	s->queued += (uint32_t)len;
	append(s, p);
}

static int
keep_refer(struct stream *s, struct slice head, struct chunk *c, size_t from,
    size_t len)
{
	struct span *p = span_new(s->lane, 0);
	int err = p == NULL ? ERR_NOMEM : span_keep2(s, head, NONE);

	if (err != 0) {
		alloc_free(p);
		return err;
	}
	refer(s, p, c, from, len);
	return 0;
}

/* The cork ----------------------------------------------------------------- */

/* A span of room bytes at the top of the cork, which has the space. */
static struct span *
cork_span(struct stream_lane *lane, size_t room)
{
	size_t at = (lane->corked + 7) & ~(size_t)7;
	struct span *p = (struct span *)(void *)(lane->cork + at);

	*p = (struct span){ .room = (uint32_t)room };
	lane->corked = at + sizeof(*p) + room;
	lane->top = p;
	return p;
}

/* len more bytes for s in the cork, in its newest span when that is its. */
static struct span *
cork_bytes(struct stream *s, size_t len)
{
	struct stream_lane *lane = s->lane;
	struct span *p = lane->top;

	if (p != NULL && p == s->last && p->chunk == NULL) {
		p->room += (uint32_t)len;
		lane->corked += len;
		return p;
	}
	p = cork_span(lane, len);
	append(s, p);
	return p;
}

/* Make sure of need bytes, spans' heads included.  May find s broken. */
static int
cork_room(struct stream *s, size_t need)
{
	struct stream_lane *lane = s->lane;

	if (lane->corked + need <= STREAM_CORK)
		return 0;
	lane_flush_all(lane);
	return s->state == STREAM_DEAD ? ERR_CLOSED : 0;
}

int
span_put(struct stream *s, struct slice head, struct slice body)
{
	size_t len = head.len + body.len;
	struct span *p;
	int err;

	if (!s->blocked) {
		err = cork_room(s, len + sizeof(*p) + 8);
		if (err != 0)
			return err;
	}
	if (s->blocked)
		return span_keep2(s, head, body);
	p = cork_bytes(s, len);
	copy_in(s, p, head);
	copy_in(s, p, body);
	lane_mark(s);
	return 0;
}

int
span_refer(struct stream *s, struct slice head, struct chunk *c, size_t from,
    size_t len)
{
	int err;

	if (!s->blocked) {
		err = cork_room(s, head.len + 2 * (sizeof(struct span) + 8));
		if (err != 0)
			return err;
	}
	if (s->blocked) {
		err = keep_refer(s, head, c, from, len);
		if (err != 0)
			return err;
	} else {
		if (head.len > 0)
			copy_in(s, cork_bytes(s, head.len), head);
		refer(s, cork_span(s->lane, 0), c, from, len);
		lane_mark(s);
	}
	chunk_hold(c);
	return 0;
}

/*
 * The cork is about to be emptied: what is left of this stream's part moves
 * to the heap.  On failure bytes are lost and the stream has to end.
 */
int
span_settle(struct stream *s)
{
	struct span *p = s->first, *last = NULL, *next;
	int err = 0;

	while (p != NULL && !in_cork(s->lane, p)) {
		last = p;
		p = p->next;
	}
	if (p == NULL)
		return 0;
	s->last = last;
	if (last == NULL)
		s->first = NULL;
	else
		last->next = NULL;
	for (; p != NULL; p = next) {
		next = p->next;
		struct slice bytes = span_bytes(p);
		s->queued -= (uint32_t)bytes.len;
		if (err != 0)
			chunk_drop(p->chunk);
		else if (p->chunk == NULL)
			err = span_keep2(s, bytes, NONE);
		else if ((err = keep_refer(
			      s, NONE, p->chunk, p->from, bytes.len)) != 0)
			chunk_drop(p->chunk);
	}
	return err;
}

void
span_eat(struct stream *s, size_t n)
{
	s->queued -= (uint32_t)n;
	while (n > 0) {
		struct span *p = s->first;
		uint32_t len = p->end - p->from;
		if (n < len) {
			p->from += (uint32_t)n;
			return;
		}
		n -= len;
		s->first = p->next;
		if (s->first == NULL)
			s->last = NULL;
		span_free(s->lane, p);
	}
}

void
span_drop_all(struct stream *s)
{
	struct span *p;

	while ((p = s->first) != NULL) {
		s->first = p->next;
		span_free(s->lane, p);
	}
	s->last = NULL;
	s->queued = 0;
}
