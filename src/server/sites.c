#include "wire/url.h"

#include "model/route.h"

#include "io/addr.h"

#include "server/mail.h"

#include "server/sites.h"

enum { PATH_MAX_LEN = 16 * 1024 };

/* Names ------------------------------------------------------------------ */

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

/* The host of tunnel_origin has paths, not routes. */
static bool
has_paths(const struct server *s, struct slice host)
{
	struct url u;

	return s->settings.tunnel_origin.len > 0 &&
	    url_parse(s->settings.tunnel_origin, &u) == 0 &&
	    slice_eq_nocase(host, u.at.name);
}

bool
sites_is_own(const struct server *s, struct slice host)
{
	union addr a;

	return slice_eq_nocase(host, s->public_host) || has_paths(s, host) ||
	    slice_eq_nocase(host, SL("localhost")) ||
	    listed(s->settings.hosts, host) || addr_parse_ip(host, 0, &a) == 0;
}

static bool
is_of(const struct route_list *l, size_t at, struct slice host)
{
	return at < l->count && slice_eq(l->sites[at]->host, host);
}

/* Where the routes of this host begin, as it is written in routes. */
static size_t
first_of(const struct route_list *l, struct slice host)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (slice_cmp(l->sites[mid]->host, host) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool
has(const struct route_list *l, struct slice host)
{
	return is_of(l, first_of(l, host), host);
}

/* From the host itself to ever shorter suffixes. */
struct walk {
	uint8_t text[ROUTE_HOST_MAX + 2];
	struct slice host; /* now */
	struct slice rest; /* what suffixes are still to be cut from */
	bool begun;
};

static bool
walk_next(struct walk *w)
{
	size_t dot = slice_find(w->rest, '.');

	if (!w->begun) {
		w->begun = true;
		w->host = w->rest;
		return w->host.len > 0 && w->host.len <= ROUTE_HOST_MAX;
	}
	if (dot + 1 >= w->rest.len)
		return false;
	w->rest = slice_from_at(w->rest, dot + 1);
	w->text[0] = '*';
	w->text[1] = '.';
	memcpy(w->text + 2, w->rest.ptr, w->rest.len);
	w->host = (struct slice){ w->text, w->rest.len + 2 };
	return true;
}

bool
sites_has_host(const struct dock *d, struct slice host)
{
	struct walk w = { .rest = host };

	if (d->routes == NULL || sites_is_own(d->server, host))
		return false;
	while (walk_next(&w)) {
		if (has(d->routes, w.host))
			return true;
	}
	return false;
}

/* Paths -------------------------------------------------------------------- */

static int
hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Whether two programs could read it differently. */
static bool
is_plain(struct slice path)
{
	for (size_t i = 0; i < path.len; i++) {
		uint8_t c = path.ptr[i];
		if (c == '%' || c == '\\' || c == ';')
			return false;
		if (c == '/' && i + 1 < path.len &&
		    (path.ptr[i + 1] == '/' || path.ptr[i + 1] == '.'))
			return false;
	}
	return true;
}

/* One byte of it as a service that decodes and knows "\" would see it. */
static uint8_t
decoded(struct slice path, size_t *at)
{
	uint8_t c = path.ptr[*at];

	if (c == '%' && *at + 2 < path.len && hex(path.ptr[*at + 1]) >= 0 &&
	    hex(path.ptr[*at + 2]) >= 0) {
		c = (uint8_t)(hex(path.ptr[*at + 1]) * 16 +
		    hex(path.ptr[*at + 2]));
		*at += 2;
	}
	*at += 1;
	return c == '\\' ? '/' : c;
}

/* A segment ends at text[n]: without parameters, and if it is dots, gone.
 * Returns the new length. */
static size_t
end_segment(uint8_t *text, size_t from, size_t n, bool merge)
{
	struct slice s = { text + from, n - from };

	s = slice_first(s, slice_find(s, ';'));
	n = from + s.len;
	if (slice_eq(s, SL(".")) || (s.len == 0 && merge))
		return from - 1;
	if (!slice_eq(s, SL("..")))
		return n;
	/* from is behind a slash; back to the one before. */
	n = from - 1;
	while (n > 0 && text[n - 1] != '/')
		n--;
	return n > 0 ? n - 1 : 0;
}

/*
 * The path as a service may understand it: decoded, without dot segments,
 * and with merge also without empty ones.  Without a slash at its end.
 */
static struct slice
understood(struct slice path, bool merge, uint8_t *text)
{
	size_t n = 0, from = 0, at = 0;

	while (at < path.len) {
		uint8_t c = decoded(path, &at);
		if (c == '/' && from > 0)
			n = end_segment(text, from, n, merge);
		text[n++] = c;
		if (c == '/')
			from = n;
	}
	if (from > 0)
		n = end_segment(text, from, n, merge);
	return (struct slice){ text, n };
}

static const struct route_record *
longest(const struct route_list *l, struct slice host, struct slice path)
{
	size_t at = route_longest(l->sites, l->count, host, path);

	return at < l->count ? l->sites[at] : NULL;
}

static const struct route_record *
find(const struct route_list *l, struct slice host, struct slice path)
{
	struct walk w = { .rest = host };
	const struct route_record *r = NULL;

	while (r == NULL && walk_next(&w))
		r = longest(l, w.host, path);
	return r;
}

static bool
begins_with(struct slice path, struct slice prefix)
{
	return slice_eq_nocase(slice_first(path, prefix.len), prefix) &&
	    (path.len == prefix.len || path.ptr[prefix.len] == '/');
}

/* Whether a service that does not tell "A" from "a" would take the path for
 * that of another route, which has more of it than r. */
static bool
is_others(const struct route_list *l, struct slice host, struct slice path,
    const struct route_record *r)
{
	struct walk w = { .rest = host };
	bool own = false;

	while (!own && walk_next(&w)) {
		own = slice_eq(w.host, r->host);
		for (size_t i = first_of(l, w.host); is_of(l, i, w.host); i++) {
			struct slice prefix = l->sites[i]->prefix;
			if ((!own || prefix.len > r->prefix.len) &&
			    begins_with(path, prefix))
				return true;
		}
	}
	return false;
}

const struct route_record *
sites_match(const struct dock *d, struct slice host, struct slice path)
{
	const struct route_list *l = d->routes;
	uint8_t text[PATH_MAX_LEN];

	path = slice_first(path, slice_find(path, '?'));
	if (l == NULL || sites_is_own(d->server, host) ||
	    path.len > sizeof(text))
		return NULL;
	const struct route_record *r = find(l, host, path);
	/* What is behind a wall must not be reached as what is before it. */
	if (r == NULL || is_others(l, host, path, r))
		return NULL;
	if (is_plain(path))
		return r;
	for (int merge = 0; merge < 2; merge++) {
		struct slice s = understood(path, merge == 1, text);
		if (find(l, host, s) != r || is_others(l, host, s, r))
			return NULL;
	}
	return r;
}

const struct route_record *
sites_find(const struct dock *d, struct slice route_id)
{
	const struct route_list *l = d->routes;
	size_t low = 0, high = l == NULL ? 0 : l->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = slice_cmp(l->ids[mid]->id, route_id);
		if (c == 0)
			return l->ids[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* The list ----------------------------------------------------------------- */

void
sites_replace(struct dock *d, struct batch *b, const struct route_list *routes)
{
	if (b != NULL)
		batch_hold(b);
	if (d->routes_batch != NULL)
		batch_drop(d->routes_batch);
	d->routes_batch = b;
	d->routes = routes;
}
