#include "base/err.h"
#include "wire/http1.h"
#include "wire/octet.h"

#include "wire/http1_write.h"

static const struct {
	int status;
	const char *reason;
} reasons[] = {
	{ 100, "Continue" },
	{ 101, "Switching Protocols" },
	{ 103, "Early Hints" },
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 203, "Non-Authoritative Information" },
	{ 204, "No Content" },
	{ 205, "Reset Content" },
	{ 206, "Partial Content" },
	{ 300, "Multiple Choices" },
	{ 301, "Moved Permanently" },
	{ 302, "Found" },
	{ 303, "See Other" },
	{ 304, "Not Modified" },
	{ 307, "Temporary Redirect" },
	{ 308, "Permanent Redirect" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 402, "Payment Required" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 406, "Not Acceptable" },
	{ 407, "Proxy Authentication Required" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 410, "Gone" },
	{ 411, "Length Required" },
	{ 412, "Precondition Failed" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" },
	{ 416, "Range Not Satisfiable" },
	{ 417, "Expectation Failed" },
	{ 421, "Misdirected Request" },
	{ 422, "Unprocessable Content" },
	{ 423, "Locked" },
	{ 425, "Too Early" },
	{ 426, "Upgrade Required" },
	{ 428, "Precondition Required" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 451, "Unavailable For Legal Reasons" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 502, "Bad Gateway" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
	{ 507, "Insufficient Storage" },
	{ 511, "Network Authentication Required" },
};

const char *
http1_reason(int status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].status == status)
			return reasons[i].reason;
	}
	return "Unknown";
}

static void
refuse(struct buf *b)
{
	if (b->err == 0)
		b->err = ERR_INVALID;
}

void
http1_put_line(struct buf *b, int status, struct slice reason)
{
	if (reason.ptr == NULL)
		reason = slice_from(http1_reason(status));
	if (status < 100 || status > 999 ||
	    (reason.len > 0 && !octet_all(reason, OCTET_VALUE))) {
		refuse(b);
		return;
	}
	buf_put(b, SL("HTTP/1.1 "));
	buf_put_u64(b, (uint64_t)status);
	buf_put_byte(b, ' ');
	buf_put(b, reason);
	buf_put(b, SL("\r\n"));
}

void
http1_put_date(struct buf *b, wall_msec at)
{
	uint8_t date[STAMP_HTTP_LEN];

	stamp_format_http(at, date);
	buf_put(b, SL("Date: "));
	buf_put(b, (struct slice){ date, sizeof(date) });
	buf_put(b, SL("\r\n"));
}

void
http1_put_status(struct buf *b, int status, wall_msec at)
{
	http1_put_line(b, status, (struct slice){ 0 });
	if (b->err != 0)
		return;
	http1_put_date(b, at);
	buf_put(b, SL("Server: muster\r\n"));
}

void
http1_put_request(
    struct buf *b, struct slice method, struct slice target, struct slice host)
{
	bool visible = target.len > 0;

	for (size_t i = 0; i < target.len; i++)
		visible =
		    visible && target.ptr[i] > ' ' && target.ptr[i] < 0x7f;
	if (!visible || !octet_all(method, OCTET_TOKEN)) {
		refuse(b);
		return;
	}
	buf_put(b, method);
	buf_put_byte(b, ' ');
	buf_put(b, target);
	buf_put(b, SL(" HTTP/1.1\r\n"));
	http1_put_field(b, SL("Host"), host);
}

void
http1_put_field(struct buf *b, struct slice name, struct slice value)
{
	if (!octet_all(name, OCTET_TOKEN) ||
	    (value.len > 0 && !octet_all(value, OCTET_VALUE))) {
		refuse(b);
		return;
	}
	buf_put(b, name);
	buf_put(b, SL(": "));
	buf_put(b, value);
	buf_put(b, SL("\r\n"));
}

void
http1_put_number(struct buf *b, struct slice name, uint64_t value)
{
	if (!octet_all(name, OCTET_TOKEN)) {
		refuse(b);
		return;
	}
	buf_put(b, name);
	buf_put(b, SL(": "));
	buf_put_u64(b, value);
	buf_put(b, SL("\r\n"));
}

void
http1_put_end(struct buf *b)
{
	buf_put(b, SL("\r\n"));
}

size_t
http1_chunk_head(size_t n, uint8_t out[HTTP1_CHUNK_HEAD])
{
	static const char digits[] = "0123456789abcdef";
	size_t len = 1;

	for (size_t rest = n >> 4; rest > 0; rest >>= 4)
		len++;
	for (size_t i = len; i > 0; i--, n >>= 4)
		out[i - 1] = (uint8_t)digits[n & 15];
	out[len] = '\r';
	out[len + 1] = '\n';
	return len + 2;
}

static void
put_chunk(struct buf *b, struct slice data)
{
	uint8_t head[HTTP1_CHUNK_HEAD];

	buf_put(b, (struct slice){ head, http1_chunk_head(data.len, head) });
	buf_put(b, data);
	buf_put(b, SL("\r\n"));
}

int
http1_send_data(struct http1_sender *s, struct buf *out, struct slice data)
{
	if (data.len == 0 || s->how == HTTP1_SEND_NONE)
		return 0;
	if (s->how == HTTP1_SEND_CHUNKED) {
		put_chunk(out, data);
		return 0;
	}
	if (s->how == HTTP1_SEND_SIZED) {
		if (data.len > s->left)
			return ERR_RANGE;
		s->left -= data.len;
	}
	buf_put(out, data);
	return 0;
}

int
http1_send_wrap(struct http1_sender *s, size_t n, struct http1_wrap *out)
{
	*out = (struct http1_wrap){ .skip = s->how == HTTP1_SEND_NONE };
	if (s->how == HTTP1_SEND_CHUNKED) {
		out->head_len = http1_chunk_head(n, out->head);
		out->tail_len = 2;
	}
	if (s->how == HTTP1_SEND_SIZED) {
		if (n > s->left)
			return ERR_RANGE;
		s->left -= n;
	}
	return 0;
}

int
http1_send_trailers(struct http1_sender *s, struct buf *out,
    const struct http1_pair *trailers, size_t count)
{
	if (s->how == HTTP1_SEND_SIZED && s->left > 0)
		return ERR_RANGE;
	if (s->how == HTTP1_SEND_CHUNKED) {
		buf_put(out, SL("0\r\n"));
		for (size_t i = 0; i < count; i++) {
			if (http1_may_trail(trailers[i].name))
				http1_put_field(
				    out, trailers[i].name, trailers[i].value);
		}
		http1_put_end(out);
	}
	s->how = HTTP1_SEND_NONE;
	return 0;
}

int
http1_send_end(struct http1_sender *s, struct buf *out)
{
	return http1_send_trailers(s, out, NULL, 0);
}
