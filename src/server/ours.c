#include "base/err.h"

#include "io/addr.h"

#include "server/ours.h"

/* Host --------------------------------------------------------------------- */

static bool
listed(struct slice list, struct slice word)
{
	struct slice one;

	while (slice_split(&list, ',', &one)) {
		if (one.len > 0 && slice_eq_nocase(slice_trim(one), word))
			return true;
	}
	return false;
}

/* An address cannot be rebound as a name can: our own loopback always, any
 * when the addresses that we listen on have no name. */
static bool
literal_is_ours(const struct server *s, const union addr *a)
{
	return addr_is_loopback(&a->sa) ||
	    slice_eq(s->public_host, SL("0.0.0.0")) ||
	    slice_eq(s->public_host, SL("::"));
}

bool
ours_is_host(const struct server *s, const struct url_host *host)
{
	struct slice name = host->name;
	union addr a;

	if (name.ptr == NULL)
		return true; /* HTTP/1.0 without Host */
	if (addr_parse_ip(name, 0, &a) == 0 && literal_is_ours(s, &a))
		return true;
	return slice_eq_nocase(name, s->public_host) ||
	    slice_eq_nocase(name, SL("localhost")) ||
	    slice_ends(name, SL(".localhost")) ||
	    listed(s->settings.hosts, name);
}

struct slice
ours_tunnel_origin(const struct server *s)
{
	struct slice at = s->settings.tunnel_origin;

	if (at.len == 0)
		return s->public_url;
	return at.ptr[at.len - 1] == '/' ? slice_first(at, at.len - 1) : at;
}

/* Origin ------------------------------------------------------------------- */

struct origin_parts {
	bool tls;
	int port;
	struct slice name;
	bool wild; /* "*." was before the name */
};

/* "https://" or "http://", host, port; "*." only where it is allowed. */
static int
split(struct slice text, bool wild, struct origin_parts *out)
{
	struct slice rest = text;
	struct url_host at;

	if (slice_starts(text, SL("https://")))
		rest = slice_from_at(text, 8);
	else if (slice_starts(text, SL("http://")))
		rest = slice_from_at(text, 7);
	else
		return ERR_INVALID;
	out->tls = text.ptr[4] == 's';
	out->wild = wild && slice_starts(rest, SL("*."));
	if (out->wild)
		rest = slice_from_at(rest, 2);
	if (url_host_parse(rest, &at) != 0 || at.port == 0 ||
	    slice_find(at.name, '*') < at.name.len ||
	    (out->wild && (at.ipv6 || at.name.ptr[0] == '.')))
		return ERR_INVALID;
	out->name = at.name;
	out->port = at.port > 0 ? at.port : out->tls ? 443 : 80;
	return 0;
}

static bool
name_fits(const struct origin_parts *entry, struct slice name)
{
	size_t more;

	if (!entry->wild)
		return slice_eq_nocase(entry->name, name);
	if (name.len < entry->name.len + 2)
		return false;
	more = name.len - entry->name.len;
	return name.ptr[0] != '.' && name.ptr[more - 1] == '.' &&
	    slice_eq_nocase(slice_from_at(name, more), entry->name);
}

bool
ours_origin_fits(struct slice entry, struct slice origin)
{
	struct origin_parts e, o;

	return split(entry, true, &e) == 0 && split(origin, false, &o) == 0 &&
	    e.tls == o.tls && e.port == o.port && name_fits(&e, o.name);
}

int
ours_check_origins(struct slice list)
{
	struct slice one;
	struct origin_parts parts;

	while (slice_split(&list, ',', &one)) {
		one = slice_trim(one);
		if (one.len > 0 && split(one, true, &parts) != 0)
			return ERR_INVALID;
	}
	return 0;
}

/* public_url may have a path, and that of a proxy in front. */
static bool
is_own(const struct server *s, struct slice origin)
{
	struct url u;
	struct origin_parts o;

	return url_parse(s->public_url, &u) == 0 &&
	    split(origin, false, &o) == 0 && u.tls == o.tls &&
	    u.port == o.port && slice_eq_nocase(u.at.name, o.name);
}

enum origin
ours_origin(const struct server *s, struct slice origin)
{
	struct slice list = s->settings.cors_origins, one;

	if (origin.ptr == NULL)
		return ORIGIN_NONE;
	if (is_own(s, origin))
		return ORIGIN_OWN;
	while (slice_split(&list, ',', &one)) {
		if (ours_origin_fits(slice_trim(one), origin))
			return ORIGIN_LISTED;
	}
	return ORIGIN_FOREIGN;
}

/* CORS --------------------------------------------------------------------- */

size_t
ours_cors(const struct server *s, enum origin kind, struct slice origin,
    struct http1_pair out[OURS_CORS])
{
	size_t n = 0;

	if (s->settings.cors_origins.len == 0)
		return 0;
	/* Whatever is answered depends on it, also where it is absent. */
	out[n++] = (struct http1_pair){ SL("Vary"), SL("Origin") };
	if (kind != ORIGIN_LISTED)
		return n;
	out[n++] =
	    (struct http1_pair){ SL("Access-Control-Allow-Origin"), origin };
	out[n++] = (struct http1_pair){ SL("Access-Control-Expose-Headers"),
		SL("Content-Range, RateLimit-Limit, RateLimit-Remaining, "
		   "RateLimit-Reset, Retry-After, X-Muster-Offset, "
		   "X-Muster-Size, X-Request-Id") };
	return n;
}

size_t
ours_preflight(struct slice methods, struct http1_pair out[OURS_PREFLIGHT])
{
	out[0] =
	    (struct http1_pair){ SL("Access-Control-Allow-Methods"), methods };
	out[1] = (struct http1_pair){ SL("Access-Control-Allow-Headers"),
		SL("Authorization, Content-Type, Idempotency-Key, "
		   "Last-Event-ID, Range, X-Muster, X-Request-Id") };
	out[2] = (struct http1_pair){ SL("Access-Control-Max-Age"), SL("600") };
	return OURS_PREFLIGHT;
}
