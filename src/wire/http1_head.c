#include <string.h>

#include "base/err.h"
#include "wire/octet.h"

#include "wire/http1.h"

/*
 * Design notes.
 *
 * A head is read by one small function per state, each of which runs over
 * as many bytes as belong to it.  Everything is kept as offsets until the
 * head is complete, so that the caller may collect the bytes in a buffer
 * that grows.  Lines are judged when their CRLF is there, bytes at once.
 */

enum state {
	STATE_LEAD,    /* before the first byte */
	STATE_LEAD_LF, /* inside the one empty line */
	STATE_FIRST,   /* after it */
	STATE_METHOD,
	STATE_TARGET,
	STATE_VERSION, /* "HTTP/1.x" in either kind of first line */
	STATE_STATUS,
	STATE_REASON,
	STATE_LINE_LF,
	STATE_FIELD, /* at the start of a line */
	STATE_NAME,
	STATE_VALUE,
	STATE_VALUE_LF,
	STATE_END_LF,
	STATE_DONE,
};

static int
bad(struct http1_head *h, int status, const char *why)
{
	h->status = status;
	h->why = why;
	return ERR_PROTOCOL;
}

static uint8_t
octet(const struct http1_head *h)
{
	return h->bytes.ptr[h->at];
}

static struct slice
part(const struct http1_head *h, size_t at, size_t len)
{
	return (struct slice){ h->bytes.ptr + at, len };
}

static void
go(struct http1_head *h, enum state state)
{
	h->state = (uint8_t)state;
}

/* Skip bytes of a class; true when a byte of another class is next. */
static bool
skip(struct http1_head *h, enum octet_bit bit)
{
	while (h->at < h->bytes.len && octet_is(octet(h), bit))
		h->at++;
	return h->at < h->bytes.len;
}

/* RFC 9112 2.2: one empty line before a message is skipped. */
static int
step_lead(struct http1_head *h)
{
	if (octet(h) != '\r') {
		go(h, STATE_FIRST);
		return 0;
	}
	h->at++;
	go(h, STATE_LEAD_LF);
	return 0;
}

static int
expect_lf(struct http1_head *h, enum state then)
{
	if (octet(h) != '\n')
		return bad(h, 400, "A CR is not followed by LF.");
	h->at++;
	go(h, then);
	return 0;
}

static int
step_lead_lf(struct http1_head *h)
{
	return expect_lf(h, STATE_FIRST);
}

static int
step_method(struct http1_head *h)
{
	bool ended = skip(h, OCTET_TOKEN);
	size_t len = (size_t)(h->at - h->start);

	if (len > HTTP1_METHOD_BYTES)
		return bad(h, 501, "The method is not known.");
	if (!ended)
		return 0;
	if (octet(h) != ' ' || len == 0)
		return bad(h, 400, "The method is not a token.");
	h->method_len = (uint16_t)len;
	h->at++;
	h->target_at = h->at;
	go(h, STATE_TARGET);
	return 0;
}

/* "?query" of s, if any, goes to h->query and the rest to h->path. */
static int
split_query(struct http1_head *h, struct slice s)
{
	size_t mark = slice_find(s, '?');

	h->path = slice_first(s, mark);
	h->query = (struct slice){ 0 };
	if (mark < s.len)
		h->query = slice_from_at(s, mark + 1);
	if (h->path.len == 0)
		h->path = SL("/");
	if (!octet_all(h->path, OCTET_PATH))
		return bad(h, 400, "A byte is not allowed in a path.");
	if (h->query.len > 0 && !octet_all(h->query, OCTET_QUERY))
		return bad(h, 400, "A byte is not allowed in a query.");
	return 0;
}

/*
 * RFC 9112 3.2.2.  The authority counts, and the Host field must agree.
 * A fragment, which is not part of the form, is cut off as it never leaves
 * a client that knows what it is.
 */
static int
read_absolute(struct http1_head *h, struct slice s)
{
	struct slice rest;
	size_t end = 0;
	int err;

	h->secure = slice_eq_nocase(slice_first(s, 8), SL("https://"));
	if (!h->secure && !slice_eq_nocase(slice_first(s, 7), SL("http://")))
		return bad(h, 400, "The target has no form that is known.");
	s = slice_from_at(s, h->secure ? 8 : 7);
	s = slice_first(s, slice_find(s, '#'));
	while (end < s.len && s.ptr[end] != '/' && s.ptr[end] != '?')
		end++;
	err = url_host_parse(slice_first(s, end), &h->host);
	if (err == ERR_MISSING)
		return bad(h, 421, "The target names no host.");
	if (err != 0)
		return bad(h, 400, "The target's host is not valid.");
	h->form = HTTP1_ABSOLUTE;
	rest = slice_from_at(s, end);
	return split_query(h, rest);
}

/* RFC 9112 3.2.3: host and port, both. */
static int
read_authority(struct http1_head *h, struct slice s)
{
	h->form = HTTP1_AUTHORITY;
	if (url_host_parse(s, &h->host) != 0 || h->host.port <= 0)
		return bad(h, 400, "CONNECT needs a host and a port.");
	return 0;
}

static int
read_target(struct http1_head *h)
{
	struct slice method = part(h, h->start, h->method_len);
	struct slice target = part(h, h->target_at, h->target_len);

	if (slice_eq(method, SL("CONNECT")))
		return read_authority(h, target);
	if (slice_eq(target, SL("*"))) {
		h->form = HTTP1_ASTERISK;
		return slice_eq(method, SL("OPTIONS"))
		    ? 0
		    : bad(h, 400, "Only OPTIONS has the target *.");
	}
	if (target.len == 0 || target.ptr[0] != '/')
		return read_absolute(h, target);
	h->form = HTTP1_ORIGIN;
	return split_query(h, target);
}

static int
step_target(struct http1_head *h)
{
	while (h->at < h->bytes.len && octet(h) > ' ' && octet(h) < 0x7f)
		h->at++;
	if (h->at == h->bytes.len)
		return 0;
	if (octet(h) == '\r' || octet(h) == '\n')
		return bad(h, 400, "The request line has no version.");
	if (octet(h) != ' ')
		return bad(h, 400, "A byte is not allowed in a target.");
	h->target_len = (uint16_t)(h->at - h->target_at);
	h->at++;
	h->mark = h->at;
	go(h, STATE_VERSION);
	return read_target(h);
}

/* RFC 9112 2.3: HTTP-name "/" DIGIT "." DIGIT, byte by byte. */
static int
version_byte(struct http1_head *h, size_t n, uint8_t c)
{
	static const char form[] = "HTTP/1.";

	if (n == 7 && (c == '0' || c == '1')) {
		h->minor = c - '0';
		return 0;
	}
	if (n < 7 && c == (uint8_t)form[n])
		return 0;
	if ((n == 5 || n == 7) && c >= '0' && c <= '9')
		return bad(h, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken.");
	return bad(h, 400, "The version is malformed.");
}

static int
step_version(struct http1_head *h)
{
	size_t n = (size_t)(h->at - h->mark);

	for (; n < 8 && h->at < h->bytes.len; n++) {
		int err = version_byte(h, n, octet(h));
		if (err != 0)
			return err;
		h->at++;
	}
	if (h->at == h->bytes.len)
		return 0;
	if (h->method_len == 0) {
		if (octet(h) != ' ')
			return bad(h, 400, "The version is malformed.");
		go(h, STATE_STATUS);
	} else {
		if (octet(h) != '\r')
			return bad(h, 400, "The version is malformed.");
		go(h, STATE_LINE_LF);
	}
	h->at++;
	h->mark = h->at;
	return 0;
}

/* RFC 9112 4.  The blank before an empty reason is often left out. */
static int
step_status(struct http1_head *h)
{
	for (; h->at < h->bytes.len && h->at - h->mark < 3; h->at++) {
		uint8_t c = octet(h);
		if (c < (h->at == h->mark ? '1' : '0') || c > '9')
			return bad(h, 400, "The status is malformed.");
		h->status = h->status * 10 + (c - '0');
	}
	if (h->at == h->bytes.len)
		return 0;
	if (octet(h) != ' ' && octet(h) != '\r')
		return bad(h, 400, "The status is malformed.");
	if (octet(h) == ' ')
		h->at++;
	h->reason_at = h->at;
	go(h, STATE_REASON);
	return 0;
}

static int
step_reason(struct http1_head *h)
{
	if (!skip(h, OCTET_VALUE))
		return 0;
	if (octet(h) != '\r')
		return bad(h, 400, "A byte is not allowed in a reason.");
	h->reason_len = (uint16_t)(h->at - h->reason_at);
	h->at++;
	go(h, STATE_LINE_LF);
	return 0;
}

static int
step_line_lf(struct http1_head *h)
{
	return expect_lf(h, STATE_FIELD);
}

static int
step_field(struct http1_head *h)
{
	uint8_t c = octet(h);

	if (c == '\r') {
		h->at++;
		go(h, STATE_END_LF);
		return 0;
	}
	if (c == ' ' || c == '\t')
		return bad(h, 400, "A line starts with a blank.");
	if (h->count == HTTP1_FIELDS) {
		bad(h, 431, "There are too many fields.");
		return ERR_TOO_BIG;
	}
	h->mark = h->at;
	go(h, STATE_NAME);
	return 0;
}

static int
step_name(struct http1_head *h)
{
	struct http1_place *f = &h->fields[h->count];

	if (!skip(h, OCTET_TOKEN))
		return 0;
	if (octet(h) != ':' || h->at == h->mark)
		return bad(h, 400, "A field's name is not a token.");
	f->name = h->mark;
	f->name_len = (uint16_t)(h->at - h->mark);
	h->at++;
	h->mark = h->at;
	go(h, STATE_VALUE);
	return 0;
}

static int
step_value(struct http1_head *h)
{
	struct http1_place *f = &h->fields[h->count];
	struct slice value;

	if (!skip(h, OCTET_VALUE))
		return 0;
	if (octet(h) != '\r')
		return bad(h, 400, "A byte is not allowed in a value.");
	value = slice_trim(part(h, h->mark, (size_t)(h->at - h->mark)));
	f->value = (uint16_t)(value.ptr - h->bytes.ptr);
	f->value_len = (uint16_t)value.len;
	h->at++;
	go(h, STATE_VALUE_LF);
	return 0;
}

static int
take_host(struct http1_head *h, struct slice value)
{
	struct url_host host;

	if (h->has_host)
		return bad(h, 400, "There is more than one Host.");
	h->has_host = true;
	h->host_field = h->count;
	if (url_host_parse(value, &host) != 0)
		return bad(h, 400, "The Host is not valid.");
	return 0;
}

/* RFC 9112 6.2, without the leave to accept equal repetitions. */
static int
take_length(struct http1_head *h, struct slice value)
{
	int err = slice_u64(value, INT64_MAX, &h->content_length);

	if (h->has_length)
		return bad(h, 400, "There is more than one Content-Length.");
	h->has_length = true;
	if (err == ERR_RANGE)
		return bad(h, 413, "The Content-Length is too large.");
	if (err != 0)
		return bad(h, 400, "The Content-Length is not a number.");
	return 0;
}

/*
 * RFC 9112 6.1: chunked comes once and last; codings before it are legal,
 * and we implement none.
 */
static int
take_coding(struct http1_head *h, struct slice value)
{
	struct slice element;

	if (value.len == 0)
		return bad(h, 400, "The Transfer-Encoding is empty.");
	while (slice_split(&value, ',', &element)) {
		element = slice_trim(element);
		if (!octet_all(element, OCTET_TOKEN))
			return bad(h, 400, "A coding is not a token.");
		if (h->chunked)
			return bad(h, 400, "A coding follows chunked.");
		h->chunked = slice_eq_nocase(element, SL("chunked"));
		h->foreign_coding = h->foreign_coding || !h->chunked;
	}
	return 0;
}

static int
take_expect(struct http1_head *h, struct slice value)
{
	if (!slice_eq_nocase(value, SL("100-continue")))
		return bad(h, 417, "Only 100-continue can be expected.");
	h->expect_continue = true;
	return 0;
}

/* Fields that the framing hangs on are judged when their line is there. */
static const struct {
	const char *name;
	int (*take)(struct http1_head *h, struct slice value);
	bool request_only;
} framing[] = {
	{ "host", take_host, true },
	{ "content-length", take_length, false },
	{ "transfer-encoding", take_coding, false },
	{ "expect", take_expect, true },
};

static int
step_value_lf(struct http1_head *h)
{
	int err = expect_lf(h, STATE_FIELD);
	struct slice name = http1_name_at(h, h->count);

	for (size_t i = 0; err == 0 && i < sizeof(framing) / sizeof(*framing);
	     i++) {
		if (framing[i].request_only && h->method_len == 0)
			continue;
		if (slice_eq_nocase(name, slice_from(framing[i].name)))
			err = framing[i].take(h, http1_value_at(h, h->count));
	}
	h->count++;
	return err;
}

static int
step_end_lf(struct http1_head *h)
{
	return expect_lf(h, STATE_DONE);
}

static int
check_coding(struct http1_head *h)
{
	if (!h->chunked && !h->foreign_coding)
		return 0;
	if (h->minor == 0)
		return bad(h, 400, "HTTP/1.0 has no Transfer-Encoding.");
	if (h->has_length)
		return bad(h, 400, "There are two ways to tell the length.");
	if (!h->chunked)
		return bad(h, 400, "The last coding is not chunked.");
	if (h->foreign_coding)
		return bad(h, 501, "Only the coding chunked is known.");
	return 0;
}

/* RFC 9112 9.3; a list that makes http1_is_hop_by_hop dear is refused. */
static int
read_connection(struct http1_head *h)
{
	bool close = http1_has_token(h, "connection", "close");
	bool stay = http1_has_token(h, "connection", "keep-alive");
	struct slice value, element;
	size_t pos = 0, count = 0;

	while (http1_next_value(h, "connection", &pos, &value)) {
		while (http1_next_element(&value, &element))
			count++;
	}
	if (count > HTTP1_CONNECTION_NAMES)
		return bad(h, 400, "Connection names too many fields.");
	h->keep_alive = !close && (h->minor == 1 || stay);
	return 0;
}

static int
check_host(struct http1_head *h)
{
	struct url_host host = { 0 };
	int port = h->secure ? 443 : 80;

	if (!h->has_host) {
		return h->minor == 0 ? 0 : bad(h, 400, "There is no Host.");
	}
	if (url_host_parse(http1_value_at(h, h->host_field), &host) != 0)
		return bad(h, 400, "The Host is not valid.");
	if (h->form == HTTP1_AUTHORITY)
		port = h->host.port;
	if (h->host.host.ptr == NULL)
		h->host = host;
	else if (!url_host_equal(&h->host, &host, port))
		return bad(h, 421, "Host and target do not agree.");
	return 0;
}

static int
finish_request(struct http1_head *h)
{
	int err = read_target(h);

	if (err == 0)
		err = check_host(h);
	if (err == 0)
		err = check_coding(h);
	h->method = part(h, h->start, h->method_len);
	h->target = part(h, h->target_at, h->target_len);
	h->has_body = h->chunked || h->content_length > 0;
	h->expect_continue = h->expect_continue && h->minor == 1;
	return err != 0 ? err : read_connection(h);
}

static int
finish_response(struct http1_head *h)
{
	int err;

	h->reason = part(h, h->reason_at, h->reason_len);
	err = check_coding(h);
	return err != 0 ? err : read_connection(h);
}

static int
finish_trailers(struct http1_head *h)
{
	(void)h;
	return 0;
}

static int
step_request(struct http1_head *h)
{
	h->start = h->at;
	go(h, STATE_METHOD);
	return 0;
}

static int
step_response(struct http1_head *h)
{
	h->mark = h->start = h->at;
	go(h, STATE_VERSION);
	return 0;
}

typedef int step_fn(struct http1_head *h);

static step_fn *const steps[] = {
	[STATE_LEAD] = step_lead,
	[STATE_LEAD_LF] = step_lead_lf,
	[STATE_METHOD] = step_method,
	[STATE_TARGET] = step_target,
	[STATE_VERSION] = step_version,
	[STATE_STATUS] = step_status,
	[STATE_REASON] = step_reason,
	[STATE_LINE_LF] = step_line_lf,
	[STATE_FIELD] = step_field,
	[STATE_NAME] = step_name,
	[STATE_VALUE] = step_value,
	[STATE_VALUE_LF] = step_value_lf,
	[STATE_END_LF] = step_end_lf,
};

static int
too_big(struct http1_head *h)
{
	if (h->state == STATE_TARGET)
		bad(h, 414, "The target is too long.");
	else
		bad(h, 431, "The head is too large.");
	return ERR_TOO_BIG;
}

static int
parse(struct http1_head *h, struct slice bytes, step_fn *first, step_fn *finish)
{
	int err = 0;

	h->bytes = slice_first(bytes, HTTP1_HEAD_BYTES);
	while (h->state != STATE_DONE) {
		if (h->at == HTTP1_HEAD_BYTES)
			return too_big(h);
		if (h->at == h->bytes.len)
			return 0;
		err = h->state == STATE_FIRST ? first(h) : steps[h->state](h);
		if (err != 0)
			return err;
	}
	h->bytes = slice_first(bytes, h->at);
	err = finish(h);
	return err != 0 ? err : h->at;
}

void
http1_head_init(struct http1_head *h)
{
	memset(h, 0, offsetof(struct http1_head, fields));
}

int
http1_parse_request(struct http1_head *h, struct slice bytes)
{
	return parse(h, bytes, step_request, finish_request);
}

int
http1_parse_trailers(struct http1_head *h, struct slice bytes)
{
	if (h->state == STATE_LEAD)
		go(h, STATE_FIELD);
	return parse(h, bytes, step_field, finish_trailers);
}

int
http1_parse_response(struct http1_head *h, struct slice bytes)
{
	int n = parse(h, bytes, step_response, finish_response);

	if (n < 0)
		h->status = 502;
	return n;
}
