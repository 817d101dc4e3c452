/*
 * What both HTTP/1 targets do: read a head and its body in pieces of a
 * given size, so that two ways of cutting can be compared.
 */
#ifndef FUZZ_HTTP1_PIECES_H
#define FUZZ_HTTP1_PIECES_H

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "wire/http1_input.h"

struct pieces {
	struct http1_head head;
	int head_result;
	struct http1_body body;
	int body_result; /* 0, or the error */
	size_t used;     /* of the bytes behind the head */
	struct buf data;
	struct buf trailers;
};

static inline void
pieces_check(bool holds)
{
	if (!holds)
		abort();
}

static inline void
pieces_init(struct pieces *p)
{
	buf_init(&p->data, 1 << 20);
	buf_init(&p->trailers, 1 << 20);
}

static inline void
pieces_fini(struct pieces *p)
{
	buf_fini(&p->data);
	buf_fini(&p->trailers);
}

static inline void
pieces_head(
    struct pieces *p, http1_parser *parser, struct slice in, size_t step)
{
	http1_head_init(&p->head);
	p->head_result = 0;
	for (size_t n = step; p->head_result == 0; n += step) {
		p->head_result = parser(&p->head, slice_first(in, n));
		if (n >= in.len)
			break;
	}
}

static inline void
pieces_body(struct pieces *p, struct slice in, size_t step)
{
	p->used = 0;
	p->body_result = 0;
	p->body.keep = &p->trailers;
	while (p->used < in.len && !p->body.done) {
		struct slice data;
		struct slice piece =
		    slice_first(slice_from_at(in, p->used), step);
		int n = http1_body_feed(&p->body, piece, &data);
		if (n < 0) {
			p->body_result = n;
			return;
		}
		pieces_check(n > 0 && (size_t)n <= piece.len);
		p->used += (size_t)n;
		buf_put(&p->data, data);
	}
}

/* What came behind a body is as good as the fields of a head. */
static inline void
pieces_trailers(struct pieces *p)
{
	static struct http1_head h;

	if (!p->body.done || buf_peek(&p->trailers).len == 0)
		return;
	buf_put(&p->trailers, SL("\r\n"));
	http1_head_init(&h);
	int n = http1_parse_trailers(&h, buf_peek(&p->trailers));
	pieces_check(
	    n > 0 ? (size_t)n == buf_peek(&p->trailers).len : n == ERR_TOO_BIG);
	pieces_check(n < 0 || h.count > 0);
	pieces_check(n < 0 || http1_count(&h, "content-length") == 0);
}

static inline void
pieces_compare(const struct pieces *a, const struct pieces *b)
{
	pieces_check(a->head_result == b->head_result);
	pieces_check(a->head.status == b->head.status);
	pieces_check(a->head.why == b->head.why);
	pieces_check(a->head.count == b->head.count);
	if (a->head_result <= 0)
		return;
	pieces_check(a->head.content_length == b->head.content_length);
	pieces_check(slice_eq(a->head.path, b->head.path));
	pieces_check(slice_eq(a->head.host.host, b->head.host.host));
	pieces_check(a->body_result == b->body_result);
	pieces_check(a->body.done == b->body.done);
	pieces_check(a->body.status == b->body.status);
	pieces_check(slice_eq(buf_peek(&a->data), buf_peek(&b->data)));
	pieces_check(slice_eq(buf_peek(&a->trailers), buf_peek(&b->trailers)));
	pieces_check(a->body_result != 0 || a->used == b->used);
}

/* What holds for every head that is let through. */
static inline void
pieces_judge(const struct http1_head *h)
{
	pieces_check(!(h->chunked && h->has_length));
	pieces_check(!h->chunked || h->minor == 1);
	pieces_check(http1_count(h, "content-length") <= 1);
	for (size_t i = 0; i < h->count; i++) {
		struct slice v = http1_value_at(h, i);
		pieces_check(http1_name_at(h, i).len > 0);
		pieces_check(v.len == 0 ||
		    (memchr(v.ptr, '\r', v.len) == NULL &&
			memchr(v.ptr, '\n', v.len) == NULL &&
			memchr(v.ptr, 0, v.len) == NULL));
	}
}

#endif
