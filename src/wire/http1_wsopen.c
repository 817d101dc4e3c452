#include <string.h>

#include "base/err.h"

#include "wire/http1_wsopen.h"

/* All values with a name as one list (RFC 9110 5.3); 0 or ERR_NOMEM. */
static int
join(const struct http1_head *h, const char *name, struct arena *a,
    struct slice *out)
{
	size_t len = 0, pos = 0, at = 0;
	struct slice value;
	uint8_t *mem;

	*out = http1_field(h, name);
	if (http1_count(h, name) < 2)
		return 0;
	while (http1_next_value(h, name, &pos, &value))
		len += value.len + 2;
	mem = arena_alloc(a, len);
	if (mem == NULL)
		return ERR_NOMEM;
	for (pos = 0; http1_next_value(h, name, &pos, &value);) {
		if (at > 0) {
			memcpy(mem + at, ", ", 2);
			at += 2;
		}
		if (value.len > 0)
			memcpy(mem + at, value.ptr, value.len);
		at += value.len;
	}
	*out = (struct slice){ mem, at };
	return 0;
}

static struct slice
last(const struct http1_head *h, const char *name)
{
	struct slice value = { 0 };
	size_t pos = 0;

	while (http1_next_value(h, name, &pos, &value))
		;
	return value;
}

int
http1_wsopen_request(
    const struct http1_head *h, struct arena *a, struct wsopen_request *out)
{
	struct wsopen_request r = {
		.method = h->method,
		.major = 1,
		.minor = (unsigned)h->minor,
		.hosts = (unsigned)http1_count(h, "host"),
		.key = last(h, "sec-websocket-key"),
		.keys = (unsigned)http1_count(h, "sec-websocket-key"),
		.version = last(h, "sec-websocket-version"),
		.versions = (unsigned)http1_count(h, "sec-websocket-version"),
		.has_body = h->has_body,
	};
	int err = join(h, "upgrade", a, &r.upgrade);

	if (err == 0)
		err = join(h, "connection", a, &r.connection);
	if (err == 0)
		err = join(h, "sec-websocket-extensions", a, &r.extensions);
	if (err == 0)
		err = join(h, "sec-websocket-protocol", a, &r.protocols);
	if (err == 0)
		*out = r;
	return err;
}

int
http1_wsopen_response(
    const struct http1_head *h, struct arena *a, struct wsopen_response *out)
{
	struct wsopen_response r = {
		.status = h->status,
		.accept = last(h, "sec-websocket-accept"),
		.accepts = (unsigned)http1_count(h, "sec-websocket-accept"),
	};
	int err = join(h, "upgrade", a, &r.upgrade);

	if (err == 0)
		err = join(h, "connection", a, &r.connection);
	if (err == 0)
		err = join(h, "sec-websocket-extensions", a, &r.extensions);
	if (err == 0)
		err = join(h, "sec-websocket-protocol", a, &r.protocol);
	if (err == 0)
		*out = r;
	return err;
}
