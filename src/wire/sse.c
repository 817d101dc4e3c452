#include <assert.h>

#include "base/err.h"

#include "wire/sse.h"

static bool
one_line(struct slice s)
{
	return slice_find(s, '\n') == s.len && slice_find(s, '\r') == s.len &&
	    slice_find(s, 0) == s.len;
}

/* The position of the first CR or LF, or s.len. */
static size_t
line_end(struct slice s)
{
	size_t i = 0;

	while (i < s.len && s.ptr[i] != '\n' && s.ptr[i] != '\r')
		i++;
	return i;
}

static void
put_line(struct buf *b, struct slice field, struct slice value)
{
	buf_put(b, field);
	buf_put(b, SL(": "));
	buf_put(b, value);
	buf_put_byte(b, '\n');
}

static void
put_data(struct buf *b, struct slice data)
{
	for (;;) {
		size_t end = line_end(data);
		put_line(b, SL("data"), slice_first(data, end));
		if (end == data.len)
			return;
		if (slice_starts(slice_from_at(data, end), SL("\r\n")))
			end++;
		data = slice_from_at(data, end + 1);
	}
}

static bool
refuse(struct buf *b, bool good)
{
	if (!good && b->err == 0)
		b->err = ERR_INVALID;
	return !good;
}

void
sse_put_event(struct buf *b, const struct sse_event *ev)
{
	if (refuse(b, one_line(ev->type) && one_line(ev->id)))
		return;
	if (ev->type.ptr != NULL)
		put_line(b, SL("event"), ev->type);
	if (ev->id.ptr != NULL)
		put_line(b, SL("id"), ev->id);
	put_data(b, ev->data);
	buf_put_byte(b, '\n');
}

void
sse_put_comment(struct buf *b, struct slice text)
{
	if (refuse(b, one_line(text)))
		return;
	buf_put_byte(b, ':');
	buf_put(b, text);
	buf_put(b, SL("\n\n"));
}

void
sse_put_retry(struct buf *b, msec wait)
{
	assert(wait >= 0);
	buf_put(b, SL("retry: "));
	buf_put_u64(b, (uint64_t)wait);
	buf_put(b, SL("\n\n"));
}

void
sse_reader_init(struct sse_reader *r, size_t cap)
{
	*r = (struct sse_reader){ .retry = -1 };
	buf_init(&r->line, cap);
	buf_init(&r->data, cap);
	buf_init(&r->type, cap);
	buf_init(&r->id, cap);
}

void
sse_reader_fini(struct sse_reader *r)
{
	buf_fini(&r->line);
	buf_fini(&r->data);
	buf_fini(&r->type);
	buf_fini(&r->id);
	*r = (struct sse_reader){ 0 };
}

void
sse_feed(struct sse_reader *r, struct slice bytes)
{
	assert(r->fed.len == 0);
	r->fed = bytes;
}

static int
put(struct sse_reader *r, struct buf *b, struct slice s)
{
	buf_put(b, s);
	if (b->err != 0)
		r->err = b->err == ERR_FULL ? ERR_TOO_BIG : b->err;
	return r->err;
}

static void
on_data(struct sse_reader *r, struct slice value)
{
	if (put(r, &r->data, value) == 0)
		put(r, &r->data, SL("\n"));
}

static void
on_type(struct sse_reader *r, struct slice value)
{
	buf_clear(&r->type);
	put(r, &r->type, value);
}

static void
on_id(struct sse_reader *r, struct slice value)
{
	if (slice_find(value, 0) < value.len)
		return;
	buf_clear(&r->id);
	put(r, &r->id, value);
}

static void
on_retry(struct sse_reader *r, struct slice value)
{
	uint64_t n;

	if (slice_u64(value, INT64_MAX, &n) == 0)
		r->retry = (msec)n;
}

static const struct {
	const char *field;
	void (*take)(struct sse_reader *r, struct slice value);
} fields[] = {
	{ "data", on_data },
	{ "event", on_type },
	{ "id", on_id },
	{ "retry", on_retry },
};

static void
take_field(struct sse_reader *r, struct slice line)
{
	size_t colon = slice_find(line, ':');
	struct slice value = slice_from_at(line, colon + 1);

	if (value.len > 0 && value.ptr[0] == ' ')
		value = slice_from_at(value, 1);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (slice_eq(
			slice_first(line, colon), slice_from(fields[i].field)))
			fields[i].take(r, value);
	}
}

/* An empty line: true when there is an event, which lives in r. */
static bool
dispatch(struct sse_reader *r, struct sse_event *ev)
{
	struct slice data = buf_peek(&r->data);

	if (data.len == 0) {
		buf_clear(&r->type);
		return false;
	}
	ev->data = slice_first(data, data.len - 1);
	ev->type = buf_peek(&r->type);
	if (ev->type.len == 0)
		ev->type = SL("message");
	ev->id = buf_peek(&r->id);
	r->given = true;
	return true;
}

/*
 * The next whole line, in place or collected in r->line; false when there is
 * none, or with r->err.
 */
static bool
next_line(struct sse_reader *r, struct slice *line)
{
	size_t end;

	if (r->after_cr && r->fed.len > 0) {
		if (r->fed.ptr[0] == '\n')
			r->fed = slice_from_at(r->fed, 1);
		r->after_cr = false;
	}
	end = line_end(r->fed);
	*line = slice_first(r->fed, end);
	if (end == r->fed.len || buf_peek(&r->line).len > 0) {
		if (put(r, &r->line, *line) != 0)
			return false;
		*line = buf_peek(&r->line);
	}
	if (end == r->fed.len) {
		r->fed = (struct slice){ 0 };
		return false;
	}
	if (line->len > r->line.cap) {
		r->err = ERR_TOO_BIG;
		return false;
	}
	r->after_cr = r->fed.ptr[end] == '\r';
	r->fed = slice_from_at(r->fed, end + 1);
	if (!r->begun && slice_starts(*line, SL("\xef\xbb\xbf")))
		*line = slice_from_at(*line, 3);
	r->begun = true;
	return true;
}

int
sse_next(struct sse_reader *r, struct sse_event *ev)
{
	struct slice line;

	if (r->given) {
		buf_clear(&r->data);
		buf_clear(&r->type);
		r->given = false;
	}
	while (r->err == 0 && next_line(r, &line)) {
		if (line.len == 0 && dispatch(r, ev))
			return 1;
		take_field(r, line);
		buf_clear(&r->line);
	}
	if (r->err != 0)
		r->fed = (struct slice){ 0 };
	return r->err;
}
