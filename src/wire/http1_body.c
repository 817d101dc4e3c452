#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "wire/octet.h"

#include "wire/http1.h"

enum state {
	BODY_SIZED,
	BODY_CLOSE, /* until the connection ends */
	BODY_SIZE0, /* the first digit of a chunk's size */
	BODY_SIZE,
	BODY_EXT0,    /* after ";": blanks, then a name */
	BODY_EXT,     /* in a name */
	BODY_EXT_END, /* blanks after a name */
	BODY_VALUE0,  /* after "=": blanks, then a value */
	BODY_VALUE,
	BODY_QUOTED,
	BODY_QUOTED_ANY, /* after a backslash */
	BODY_VALUE_END,
	BODY_SIZE_LF,
	BODY_DATA,
	BODY_DATA_CR,
	BODY_DATA_LF,
	BODY_TRAILER, /* at the start of a line */
	BODY_NAME,
	BODY_FIELD,
	BODY_FIELD_LF,
	BODY_END_LF,
	BODY_STATES,
};

static int
bad(struct http1_body *b, int status, const char *why)
{
	b->status = status;
	b->why = why;
	return status == 400 ? ERR_PROTOCOL : ERR_TOO_BIG;
}

/* Count n promised bytes in. */
static int
promise(struct http1_body *b, uint64_t n)
{
	if (n > b->cap - b->total)
		return bad(b, 413, "The body is too large.");
	b->total += n;
	b->left = n;
	return 0;
}

static int
chunked_init(struct http1_body *b)
{
	b->chunked = true;
	b->state = BODY_SIZE0;
	return 0;
}

static int
sized_init(struct http1_body *b, uint64_t length)
{
	b->state = BODY_SIZED;
	b->done = length == 0;
	return promise(b, length);
}

int
http1_body_request(
    struct http1_body *b, const struct http1_head *h, uint64_t cap)
{
	*b = (struct http1_body){ .cap = cap };
	return h->chunked ? chunked_init(b) : sized_init(b, h->content_length);
}

int
http1_body_response(
    struct http1_body *b, const struct http1_head *h, bool head, uint64_t cap)
{
	*b = (struct http1_body){ .cap = cap };
	if (head || h->status < 200 || h->status == 204 || h->status == 304)
		return sized_init(b, 0);
	if (h->chunked)
		return chunked_init(b);
	if (h->has_length)
		return sized_init(b, h->content_length);
	b->state = BODY_CLOSE;
	return 0;
}

bool
http1_body_until_close(const struct http1_body *b)
{
	return b->state == BODY_CLOSE && !b->done;
}

static int
go(struct http1_body *b, enum state state)
{
	b->state = (uint8_t)state;
	return 0;
}

static int
on_digit(struct http1_body *b, uint8_t c)
{
	/* 2^59 and more cannot take another digit below 2^63. */
	if (b->left >> 59 != 0)
		return bad(b, 413, "A chunk is too large.");
	b->left = b->left << 4 | (uint64_t)octet_hex(c);
	return go(b, BODY_SIZE);
}

static int
on_size0(struct http1_body *b, uint8_t c)
{
	b->left = 0;
	b->line = 0;
	if (!octet_is(c, OCTET_HEX))
		return bad(b, 400, "A chunk has no size.");
	return on_digit(b, c);
}

/* The end of a size: nothing but an extension or the line's end. */
static int
on_size_end(struct http1_body *b, uint8_t c)
{
	if (c == ';')
		return go(b, BODY_EXT0);
	if (c == '\r')
		return go(b, BODY_SIZE_LF);
	return bad(b, 400, "A chunk's size is malformed.");
}

static int
on_size(struct http1_body *b, uint8_t c)
{
	return octet_is(c, OCTET_HEX) ? on_digit(b, c) : on_size_end(b, c);
}

static bool
blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* RFC 9112 7.1.1: name ["=" (token | quoted-string)], blanks tolerated. */
static int
on_ext0(struct http1_body *b, uint8_t c)
{
	if (blank(c))
		return 0;
	if (octet_is(c, OCTET_TOKEN))
		return go(b, BODY_EXT);
	return bad(b, 400, "A chunk extension has no name.");
}

static int
on_ext_end(struct http1_body *b, uint8_t c)
{
	if (blank(c))
		return go(b, BODY_EXT_END);
	return c == '=' ? go(b, BODY_VALUE0) : on_size_end(b, c);
}

static int
on_ext(struct http1_body *b, uint8_t c)
{
	return octet_is(c, OCTET_TOKEN) ? 0 : on_ext_end(b, c);
}

static int
on_value0(struct http1_body *b, uint8_t c)
{
	if (blank(c))
		return 0;
	if (c == '"')
		return go(b, BODY_QUOTED);
	if (octet_is(c, OCTET_TOKEN))
		return go(b, BODY_VALUE);
	return bad(b, 400, "A chunk extension has no value.");
}

static int
on_value_end(struct http1_body *b, uint8_t c)
{
	return blank(c) ? go(b, BODY_VALUE_END) : on_size_end(b, c);
}

static int
on_value(struct http1_body *b, uint8_t c)
{
	return octet_is(c, OCTET_TOKEN) ? 0 : on_value_end(b, c);
}

static int
on_quoted(struct http1_body *b, uint8_t c)
{
	if (c == '"')
		return go(b, BODY_VALUE_END);
	if (c == '\\')
		return go(b, BODY_QUOTED_ANY);
	if (octet_is(c, OCTET_VALUE))
		return 0;
	return bad(b, 400, "A quoted string does not end.");
}

static int
on_quoted_any(struct http1_body *b, uint8_t c)
{
	if (octet_is(c, OCTET_VALUE))
		return go(b, BODY_QUOTED);
	return bad(b, 400, "A quoted string does not end.");
}

static int
on_size_lf(struct http1_body *b, uint8_t c)
{
	if (c != '\n')
		return bad(b, 400, "A CR is not followed by LF.");
	if (b->left > 0) {
		go(b, BODY_DATA);
		return promise(b, b->left);
	}
	b->line = 0;
	return go(b, BODY_TRAILER);
}

static int
on_data_cr(struct http1_body *b, uint8_t c)
{
	if (c != '\r')
		return bad(b, 400, "A chunk does not end where it should.");
	return go(b, BODY_DATA_LF);
}

static int
on_data_lf(struct http1_body *b, uint8_t c)
{
	if (c != '\n')
		return bad(b, 400, "A CR is not followed by LF.");
	return go(b, BODY_SIZE0);
}

static int
on_name_byte(struct http1_body *b, uint8_t c)
{
	if (!octet_is(c, OCTET_TOKEN))
		return bad(b, 400, "A trailer's name is not a token.");
	if (b->name_len < sizeof(b->name))
		b->name[b->name_len] = c;
	if (b->name_len < UINT8_MAX)
		b->name_len++;
	return go(b, BODY_NAME);
}

static int
on_trailer(struct http1_body *b, uint8_t c)
{
	b->name_len = 0;
	return c == '\r' ? go(b, BODY_END_LF) : on_name_byte(b, c);
}

/* RFC 9110 6.5.1: framing in a trailer means that somebody is confused. */
static int
on_name(struct http1_body *b, uint8_t c)
{
	struct slice name = { b->name, b->name_len };

	if (c != ':')
		return on_name_byte(b, c);
	if (slice_eq_nocase(
		slice_first(name, sizeof(b->name)), SL("content-length")) ||
	    slice_eq_nocase(
		slice_first(name, sizeof(b->name)), SL("transfer-encoding")))
		return bad(b, 400, "A trailer would change the framing.");
	return go(b, BODY_FIELD);
}

static int
on_field(struct http1_body *b, uint8_t c)
{
	if (octet_is(c, OCTET_VALUE))
		return 0;
	if (c == '\r')
		return go(b, BODY_FIELD_LF);
	return bad(b, 400, "A byte is not allowed in a trailer.");
}

static int
on_field_lf(struct http1_body *b, uint8_t c)
{
	if (c != '\n')
		return bad(b, 400, "A CR is not followed by LF.");
	return go(b, BODY_TRAILER);
}

static int
on_end_lf(struct http1_body *b, uint8_t c)
{
	if (c != '\n')
		return bad(b, 400, "A CR is not followed by LF.");
	b->done = true;
	return 0;
}

typedef int byte_fn(struct http1_body *b, uint8_t c);

static byte_fn *const on_byte[BODY_STATES] = {
	[BODY_SIZE0] = on_size0,
	[BODY_SIZE] = on_size,
	[BODY_EXT0] = on_ext0,
	[BODY_EXT] = on_ext,
	[BODY_EXT_END] = on_ext_end,
	[BODY_VALUE0] = on_value0,
	[BODY_VALUE] = on_value,
	[BODY_QUOTED] = on_quoted,
	[BODY_QUOTED_ANY] = on_quoted_any,
	[BODY_VALUE_END] = on_value_end,
	[BODY_SIZE_LF] = on_size_lf,
	[BODY_DATA_CR] = on_data_cr,
	[BODY_DATA_LF] = on_data_lf,
	[BODY_TRAILER] = on_trailer,
	[BODY_NAME] = on_name,
	[BODY_FIELD] = on_field,
	[BODY_FIELD_LF] = on_field_lf,
	[BODY_END_LF] = on_end_lf,
};

static bool
in_data(const struct http1_body *b)
{
	return b->state == BODY_SIZED || b->state == BODY_CLOSE ||
	    b->state == BODY_DATA;
}

/*
 * A line of framing may not grow for ever, nor may extensions make up for
 * data that never comes.
 */
static int
count_byte(struct http1_body *b)
{
	b->line++;
	if (b->state >= BODY_TRAILER)
		return b->line <= HTTP1_HEAD_BYTES
		    ? 0
		    : bad(b, 431, "The trailers are too large.");
	if (b->state >= BODY_EXT0 && b->state <= BODY_VALUE_END)
		b->extra++;
	if (b->line > HTTP1_CHUNK_LINE || b->extra > HTTP1_HEAD_BYTES)
		return bad(b, 413, "The chunk extensions are too large.");
	return 0;
}

/* All lines of trailers, without the empty one behind them. */
static void
keep_byte(const struct http1_body *b, uint8_t c)
{
	if (b->state < BODY_TRAILER || b->state == BODY_END_LF ||
	    (b->state == BODY_TRAILER && c == '\r'))
		return;
	buf_put_byte(b->keep, c);
}

/* Framing up to the next data; the number of bytes, or an error. */
static int
eat_framing(struct http1_body *b, struct slice bytes)
{
	size_t at = 0;

	while (at < bytes.len && !b->done && !in_data(b)) {
		uint8_t c = bytes.ptr[at++];
		if (b->keep != NULL)
			keep_byte(b, c);
		int err = on_byte[b->state](b, c);
		if (err == 0)
			err = count_byte(b);
		if (err != 0)
			return err;
	}
	return (int)at;
}

static struct slice
take_data(struct http1_body *b, struct slice bytes)
{
	if (b->state == BODY_CLOSE) {
		b->total += bytes.len;
		return bytes;
	}
	bytes = slice_first(
	    bytes, (size_t)(b->left < bytes.len ? b->left : bytes.len));
	b->left -= bytes.len;
	if (b->left == 0 && b->state == BODY_DATA)
		go(b, BODY_DATA_CR);
	else if (b->left == 0)
		b->done = true;
	return bytes;
}

int
http1_body_feed(struct http1_body *b, struct slice bytes, struct slice *data)
{
	int n;

	bytes = slice_first(bytes, INT_MAX);
	*data = (struct slice){ 0 };
	n = b->done ? 0 : eat_framing(b, bytes);
	if (n < 0 || b->done || !in_data(b))
		return n;
	bytes = slice_from_at(bytes, (size_t)n);
	if (b->state == BODY_CLOSE && bytes.len > b->cap - b->total)
		return bad(b, 413, "The body is too large.");
	*data = take_data(b, bytes);
	return n + (int)data->len;
}
