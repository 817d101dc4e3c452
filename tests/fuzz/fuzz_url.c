/*
 * URLs, hosts, paths, queries: whatever is accepted, written and read again
 * is the same; what is checked or redacted is what it claims to be.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "wire/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
try_url(struct slice in)
{
	struct url u, again;
	struct buf b;

	if (url_parse(in, &u) != 0)
		return;
	buf_init(&b, in.len + 100);
	buf_put(&b, u.scheme);
	buf_put(&b, SL("://"));
	url_put_host(&b, &u);
	url_put_target(&b, &u);
	check(b.err == 0 && url_parse(buf_peek(&b), &again) == 0);
	check(again.port == u.port && again.tls == u.tls);
	check(slice_eq(again.at.host, u.at.host));
	check(slice_eq(again.path, u.path));
	check(slice_eq(again.query, u.query));
	buf_fini(&b);
}

/* A decoded path that passed is one that a file system could be asked. */
static void
try_path(struct slice in, struct arena *a)
{
	struct slice out, segment;
	size_t slashes = 0;

	if (url_path_check(in) != 0)
		return;
	check(url_decode(in, false, a, &out) == 0 && utf8_valid(out));
	check(slice_find(out, 0) == out.len);
	check(slice_find(out, '\\') == out.len);
	for (size_t i = 0; i < in.len; i++)
		slashes += in.ptr[i] == '/';
	for (size_t i = 0; i < out.len; i++)
		slashes -= out.ptr[i] == '/';
	check(slashes == 0);
	while (slice_split(&out, '/', &segment))
		check(!slice_eq(segment, SL(".")) &&
		    !slice_eq(segment, SL("..")));
}

static void
try_escapes(struct slice in, struct arena *a)
{
	struct slice out = { 0 };
	struct buf b;

	buf_init(&b, 3 * in.len + 100);
	url_put_encoded(&b, in);
	check(b.err == 0 && url_decode(buf_peek(&b), true, a, &out) == 0);
	check(slice_eq(in, out));
	buf_fini(&b);
	url_query_get(in, SL("token"), a, &out);
}

/* No value of a token is left, and nothing that a terminal would obey. */
static void
try_redact(struct slice in)
{
	struct slice target, rest, name, value;
	struct buf b;

	buf_init(&b, 4 * in.len + 100);
	url_put_redacted(&b, in);
	check(b.err == 0);
	target = buf_peek(&b);
	for (size_t i = 0; i < target.len; i++)
		check(target.ptr[i] > ' ' && target.ptr[i] < 0x7f);
	rest = slice_from_at(target, slice_find(target, '?') + 1);
	while (url_query_next(&rest, &name, &value)) {
		if (slice_eq_nocase(name, SL("token")) && value.ptr != NULL)
			check(slice_eq(value, SL("***")));
	}
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = { data, size };
	struct arena a;

	if (size == 0)
		return 0;
	arena_init(&a, 1 << 22);
	try_url(in);
	try_path(in, &a);
	try_escapes(in, &a);
	try_redact(in);
	arena_fini(&a);
	return 0;
}
