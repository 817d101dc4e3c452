#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/http1_input.h"

void
http1_input_init(struct http1_input *in)
{
	*in = (struct http1_input){ 0 };
	buf_init(&in->held, HTTP1_AHEAD_BYTES);
	buf_init(&in->trailers, HTTP1_HEAD_BYTES);
}

void
http1_input_fini(struct http1_input *in)
{
	buf_fini(&in->held);
	buf_fini(&in->trailers);
	alloc_free(in->head);
	*in = (struct http1_input){ 0 };
}

struct slice
http1_input_peek(const struct http1_input *in)
{
	struct slice held = buf_peek(&in->held);

	return held.len > 0 ? held : in->fed;
}

void
http1_input_eat(struct http1_input *in, size_t n)
{
	if (buf_peek(&in->held).len > 0)
		buf_eat(&in->held, n);
	else
		in->fed = slice_from_at(in->fed, n);
}

bool
http1_input_empty(const struct http1_input *in)
{
	return http1_input_peek(in).len == 0;
}

/* Move at most n bytes from fed to held. */
static int
hold(struct http1_input *in, size_t n)
{
	struct slice piece = slice_first(in->fed, n);
	int err;

	buf_put(&in->held, piece);
	err = in->held.err;
	in->held.err = 0;
	if (err == 0)
		in->fed = slice_from_at(in->fed, piece.len);
	return err;
}

/* Take over a head that scratch has begun. */
static int
adopt(struct http1_input *in, const struct http1_head *scratch)
{
	in->head = alloc_new(sizeof(*in->head));
	if (in->head == NULL)
		return ERR_NOMEM;
	*in->head = *scratch;
	return 0;
}

static int
continue_head(struct http1_input *in, http1_parser *parser)
{
	size_t have = buf_peek(&in->held).len;
	int n;

	if (have < HTTP1_HEAD_BYTES) {
		n = hold(in, HTTP1_HEAD_BYTES - have);
		if (n != 0)
			return n;
	}
	n = parser(in->head, buf_peek(&in->held));
	if (n > 0)
		buf_eat(&in->held, (size_t)n);
	return n;
}

int
http1_input_head(struct http1_input *in, http1_parser *parser,
    struct http1_head *scratch, struct http1_head **head)
{
	int n = 0, err;

	assert(!in->given);
	*head = scratch;
	if (in->head == NULL) {
		if (http1_input_empty(in))
			return 0;
		http1_head_init(scratch);
		n = parser(scratch, http1_input_peek(in));
		if (n < 0)
			return n;
		if (n > 0) {
			http1_input_eat(in, (size_t)n);
			in->given = true;
			return n;
		}
		err = adopt(in, scratch);
		if (err != 0)
			return err;
	}
	*head = in->head;
	n = continue_head(in, parser);
	in->given = n > 0;
	return n;
}

int
http1_input_trailers(struct http1_input *in, const struct http1_body *b,
    struct http1_head *scratch, const struct http1_head **head)
{
	int n;

	if (b->keep == NULL)
		return 0;
	if (buf_peek(&in->trailers).len == 0 && in->trailers.err == 0)
		return 0;
	buf_put(&in->trailers, SL("\r\n"));
	if (in->trailers.err != 0)
		return in->trailers.err;
	http1_head_init(scratch);
	n = http1_parse_trailers(scratch, buf_peek(&in->trailers));
	in->spent = true;
	*head = scratch;
	return n < 0 ? n : 1;
}

void
http1_input_settle(struct http1_input *in)
{
	if (in->spent) {
		buf_fini(&in->trailers);
		buf_init(&in->trailers, HTTP1_HEAD_BYTES);
		in->spent = false;
	}
	if (in->given) {
		alloc_free(in->head);
		in->head = NULL;
		in->given = false;
	}
	if (buf_peek(&in->held).len == 0 && in->held.mem != NULL) {
		buf_fini(&in->held);
		buf_init(&in->held, HTTP1_AHEAD_BYTES);
	}
}

int
http1_input_keep(struct http1_input *in)
{
	return hold(in, in->fed.len);
}

void
http1_input_drop(struct http1_input *in)
{
	in->fed = (struct slice){ 0 };
	buf_clear(&in->held);
}

int
http1_input_rest(struct http1_input *in, struct slice *rest)
{
	int err = 0;

	/* The end of HTTP here: what was fed last is all that there is. */
	in->held.cap += in->fed.len;
	if (buf_peek(&in->held).len > 0)
		err = http1_input_keep(in);
	if (err == 0)
		*rest = http1_input_peek(in);
	return err;
}
