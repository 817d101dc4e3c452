#include "base/err.h"

#include "wire/enc.h"

#include "dialect/cluster_proxy.h"

static const struct enc_unpack_limits unpack = { PROXY_BODY_MAX,
	PROXY_RATIO_MAX };

struct slice
proxy_field(const struct http1_pair *fields, size_t count, struct slice name)
{
	for (size_t i = 0; i < count; i++) {
		if (slice_eq_nocase(fields[i].name, name))
			return fields[i].value;
	}
	return (struct slice){ 0 };
}

static int
open_gzip(struct slice text, struct buf *body)
{
	struct buf packed;

	buf_init(&packed, PROXY_BODY_MAX);
	int err = enc_get_base64(text, ENC_STD, &packed);
	if (err == 0)
		err = enc_unpack(buf_peek(&packed), ENC_GZIP, &unpack, body);
	buf_fini(&packed);
	return err;
}

static int
fault(int err)
{
	return err == ERR_FULL ? ERR_TOO_BIG : err;
}

int
proxy_open_body(struct slice text, struct slice encoding, struct buf *body,
    struct slice *out)
{
	int err = 0;

	if (encoding.len == 0 || slice_eq_nocase(encoding, SL("none")) ||
	    slice_eq_nocase(encoding, SL("text"))) {
		*out = text;
		return 0;
	}
	if (slice_eq_nocase(encoding, SL("base64")))
		err = enc_get_base64(text, ENC_STD, body);
	else if (slice_eq_nocase(encoding, SL("gzip")))
		err = open_gzip(text, body);
	else
		err = ERR_UNSUPPORTED;
	if (err == 0)
		*out = buf_peek(body);
	return fault(err);
}

/* What their agents pack when it is long: text-like by its type. */
static bool
holds(struct slice s, const char *word)
{
	size_t n = strlen(word);

	for (size_t at = 0; at + n <= s.len; at++) {
		struct slice part = { s.ptr + at, n };
		if (slice_eq_nocase(part, slice_from(word)))
			return true;
	}
	return false;
}

static bool
packable(struct slice type)
{
	static const char *const never[] = { "gzip", "compress", "zip",
		"image/", "video/", "audio/" };
	static const char *const words[] = { "text/", "json", "javascript",
		"xml", "html", "yaml" };

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		if (holds(type, never[i]))
			return false;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (holds(type, words[i]))
			return true;
	}
	return false;
}

static bool
is_gzip(struct slice s)
{
	return s.len >= 2 && s.ptr[0] == 0x1f && s.ptr[1] == 0x8b;
}

/*
 * Nothing in a binary frame says whether the agent has packed the body.  A
 * Content-Length of the service's decides it; without one the type does, and
 * what the service itself calls gzip was packed twice or not by the agent.
 */
int
proxy_settle_body(struct slice raw, const struct http1_pair *fields,
    size_t count, struct buf *body, struct slice *out)
{
	struct slice coding =
	    proxy_field(fields, count, SL("Content-Encoding"));
	uint64_t length = 0;
	bool sized = slice_u64(proxy_field(fields, count, SL("Content-Length")),
			 UINT64_MAX, &length) == 0;

	*out = raw;
	if (!is_gzip(raw) || (sized && length == raw.len) ||
	    (!sized &&
		!packable(proxy_field(fields, count, SL("Content-Type")))))
		return 0;
	int err = fault(enc_unpack(raw, ENC_GZIP, &unpack, body));
	if (err == ERR_INVALID)
		return 0;
	if (err != 0)
		return err;
	struct slice opened = buf_peek(body);
	if (sized ? length == opened.len
		  : !holds(coding, "gzip") || is_gzip(opened))
		*out = opened;
	return 0;
}
