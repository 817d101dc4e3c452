#include "base/err.h"
#include "wire/http1_wsopen.h"
#include "wire/octet.h"

#include "wire/hop_list.h"

enum { ADDED = 4 };

/*
 * What a stranger may not say on Muster's own origin: it would hold for all
 * of it (decisions 10), or send browsers elsewhere.
 */
static const struct slice of_origin[] = { SL_INIT("service-worker-allowed"),
	SL_INIT("clear-site-data"), SL_INIT("strict-transport-security"),
	SL_INIT("report-to"), SL_INIT("nel"), SL_INIT("reporting-endpoints"),
	SL_INIT("alt-svc") };

static bool
is_of_origin(struct slice name)
{
	for (size_t i = 0; i < sizeof(of_origin) / sizeof(of_origin[0]); i++) {
		if (slice_eq_nocase(name, of_origin[i]))
			return true;
	}
	return false;
}

/* Set-Cookie (RFC 6265 5.2) ------------------------------------------------ */

/* A prefix that ends no attribute. */
static bool
fits_cookie(struct slice prefix)
{
	for (size_t i = 0; i < prefix.len; i++) {
		uint8_t c = prefix.ptr[i];
		if (!octet_is(c, OCTET_PLAIN) && strchr("/%:@+", c) == NULL)
			return false;
	}
	return true;
}

/* Cut the next attribute off: the last of a kind counts for browsers. */
static bool
next_attribute(struct slice *rest, struct slice *name, struct slice *value)
{
	struct slice part;
	size_t at;

	if (!slice_split(rest, ';', &part))
		return false;
	at = slice_find(part, '=');
	*name = slice_trim(slice_first(part, at));
	*value = slice_trim(slice_from_at(part, at + 1));
	return true;
}

/* Where the cookie is to hold: where the service wants it, below prefix. */
static struct slice
cookie_path(struct hop_list *l, struct slice rest, struct slice prefix)
{
	struct slice name, value, path = SL("/");

	while (next_attribute(&rest, &name, &value)) {
		if (slice_eq_nocase(name, SL("path")))
			path = value;
	}
	if (path.len == 0 || path.ptr[0] != '/')
		path = SL("/");
	if (hop_under(path, prefix).ptr != NULL)
		return path;
	return hop_join(l, (struct slice[]){ prefix, path }, 2);
}

/* The same cookie, for prefix alone: without Domain, with one Path. */
static struct slice
confined(struct hop_list *l, struct slice cookie, struct slice prefix)
{
	struct slice rest = cookie, pair, name, value, path;
	struct hop_text t;

	slice_split(&rest, ';', &pair);
	path = cookie_path(l, rest, prefix);
	/* Each attribute comes with its ';' and grows by at most a blank. */
	t = hop_room(l, 2 * cookie.len + path.len + sizeof("; Path="));
	hop_add(&t, slice_trim(pair));
	while (next_attribute(&rest, &name, &value)) {
		if (slice_eq_nocase(name, SL("path")) ||
		    slice_eq_nocase(name, SL("domain")) || name.len == 0)
			continue;
		hop_add(&t, SL("; "));
		hop_add(&t, name);
		hop_add(&t, value.len > 0 ? SL("=") : SL(""));
		hop_add(&t, value);
	}
	hop_add(&t, SL("; Path="));
	hop_add(&t, path);
	return (struct slice){ t.mem, t.len };
}

/*
 * Browsers send a cookie without a name as its value alone, so that a value
 * can look like a pair.
 */
static bool
sets_ours(const struct hop *hop, struct slice cookie)
{
	cookie = slice_trim(cookie);
	while (cookie.len > 0 && cookie.ptr[0] == '=')
		cookie = slice_trim(slice_from_at(cookie, 1));
	return hop_cookie_is_ours(hop, cookie);
}

static void
put_cookie(struct hop_list *l, const struct hop *hop, struct slice name,
    struct slice cookie)
{
	if (sets_ours(hop, cookie))
		return;
	if (hop->own_origin && hop->prefix.len == 0)
		return;
	if (hop->prefix.len > 0) {
		if (!fits_cookie(hop->prefix))
			return;
		cookie = confined(l, cookie, hop->prefix);
	}
	hop_put(l, name, cookie);
}

/* Location and its like ---------------------------------------------------- */

/* Whether two authorities are one: the same host, and a port that is the
 * same, or left out on either side because it is the usual one. */
static bool
same_host(struct slice a, struct slice b, int a_port, int b_port)
{
	struct url_host x, y;

	if (url_host_parse(a, &x) != 0 || url_host_parse(b, &y) != 0 ||
	    !slice_eq_nocase(x.host, y.host))
		return false;
	return x.port == y.port ||
	    (x.port < 0 ? a_port : x.port) == (y.port < 0 ? b_port : y.port);
}

/* The Host that a rule gave the service instead of the visitor's. */
static struct slice
given_host(const struct hop *hop)
{
	struct slice host = { 0 };

	for (size_t i = 0; i < hop->to_service_count && i < HOP_RULES; i++) {
		const struct hop_rule *r = &hop->to_service[i];
		if (hop_alike(r->name, SL("host")) &&
		    hop_rule_check(r, false) == 0)
			host = r->value;
	}
	return host;
}

static size_t
authority_len(struct slice s)
{
	size_t n = 0;

	while (
	    n < s.len && s.ptr[n] != '/' && s.ptr[n] != '?' && s.ptr[n] != '#')
		n++;
	return n;
}

/*
 * "scheme:" (perhaps none) and "//host/path"; absent when it stays as it is.
 * A service that does not know of the TLS before it does not take visitors
 * off it.
 */
static struct slice
move_absolute(struct hop_list *l, const struct hop *hop, struct slice scheme,
    struct slice rest)
{
	struct slice authority, path, prefix = hop->prefix;
	int port = slice_eq_nocase(scheme, SL("https:")) ? 443 : 80;
	bool by_rule;

	rest = slice_from_at(rest, 2);
	authority = slice_first(rest, authority_len(rest));
	path = slice_from_at(rest, authority.len);
	by_rule = hop->host.len > 0 &&
	    same_host(authority, given_host(hop), port, port);
	if (by_rule)
		authority = hop->host;
	else if (prefix.len == 0 ||
	    !same_host(authority, hop->host, port, hop->tls ? 443 : 80))
		return (struct slice){ 0 };
	if (hop_under(path, prefix).ptr != NULL && path.len > 0)
		prefix = (struct slice){ 0 };
	if (scheme.len > 0 && (by_rule || hop->tls))
		scheme = hop->tls ? SL("https:") : SL("http:");
	return hop_join(l,
	    (struct slice[]){ scheme, SL("//"), authority, prefix,
		path.len > 0 && path.ptr[0] == '/' ? SL("") : SL("/"), path },
	    6);
}

/* A reference (RFC 3986 4.1) as it is to be from outside. */
static struct slice
moved(struct hop_list *l, const struct hop *hop, struct slice ref)
{
	static const char *const schemes[] = { "", "http:", "https:" };
	struct slice out;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		struct slice scheme = slice_first(ref, strlen(schemes[i]));
		struct slice rest = slice_from_at(ref, scheme.len);
		if (!slice_eq_nocase(scheme, slice_from(schemes[i])) ||
		    !slice_starts(rest, SL("//")))
			continue;
		out = move_absolute(l, hop, scheme, rest);
		return out.ptr != NULL ? out : ref;
	}
	if (ref.len == 0 || ref.ptr[0] != '/' ||
	    hop_under(ref, hop->prefix).ptr != NULL)
		return ref;
	return hop_join(l, (struct slice[]){ hop->prefix, ref }, 2);
}

/* "5; url=/next", as browsers read it in a field. */
static struct slice
moved_refresh(struct hop_list *l, const struct hop *hop, struct slice value)
{
	size_t at = slice_find(value, ';');
	struct slice rest = slice_from_at(value, at + 1), ref, out;
	size_t equals = slice_find(rest, '=');

	if (!slice_eq_nocase(slice_trim(slice_first(rest, equals)), SL("url")))
		return value;
	ref = slice_trim(slice_from_at(rest, equals + 1));
	if (ref.len > 1 && (ref.ptr[0] == '"' || ref.ptr[0] == '\'') &&
	    ref.ptr[ref.len - 1] == ref.ptr[0])
		ref = slice_first(slice_from_at(ref, 1), ref.len - 2);
	out = moved(l, hop, ref);
	if (out.ptr == ref.ptr)
		return value;
	return hop_join(l,
	    (struct slice[]){ slice_first(value, at), SL("; url="), out }, 3);
}

/* All together ------------------------------------------------------------- */

static void
put_moved(struct hop_list *l, const struct hop *hop, struct slice name,
    struct slice value)
{
	if (slice_eq_nocase(name, SL("location")) ||
	    slice_eq_nocase(name, SL("content-location")))
		hop_put(l, name, moved(l, hop, value));
	else if (slice_eq_nocase(name, SL("refresh")))
		hop_put(l, name, moved_refresh(l, hop, value));
	else
		hop_put(l, name, value);
}

static void
copy_fields(struct hop_list *l, const struct hop *hop)
{
	const struct http1_head *h = l->head;

	for (size_t i = 0; i < h->count; i++) {
		struct slice name = http1_name_at(h, i);
		bool switches =
		    h->status == 101 && hop_begins(name, SL("sec-websocket-"));
		if (!switches &&
		    (http1_is_hop_by_hop(h, name) ||
			slice_eq_nocase(name, SL("content-length"))))
			continue;
		name = hop_kept(l, name);
		struct slice value = hop_kept(l, http1_value_at(h, i));
		if (slice_eq_nocase(name, SL("set-cookie")))
			put_cookie(l, hop, name, value);
		else
			put_moved(l, hop, name, value);
	}
}

/* Last, so that neither service nor route can undo it. */
static void
guard_origin(struct hop_list *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (!is_of_origin(l->pairs[i].name))
			l->pairs[kept++] = l->pairs[i];
	}
	l->count = kept;
	if (l->head->status >= 200)
		hop_put(l, SL("Content-Security-Policy"),
		    SL("sandbox allow-scripts allow-forms allow-popups"));
}

int
hop_response(const struct hop *hop, const struct http1_head *h, struct arena *a,
    struct http1_reply *out)
{
	struct hop_list l;

	if (h->status == 101 && !hop->upgrade)
		return ERR_PROTOCOL;
	hop_list_init(&l, h, a, ADDED + hop->to_visitor_count);
	if (l.err != 0)
		return l.err;
	copy_fields(&l, hop);
	hop_apply(&l, hop->to_visitor, hop->to_visitor_count, NULL);
	if (hop->own_origin)
		guard_origin(&l);
	if (h->status == 101) {
		hop_put(&l, SL("Connection"), SL("Upgrade"));
		hop_put(&l, SL("Upgrade"), SL("websocket"));
	}
	*out = (struct http1_reply){ .status = h->status,
		.length = h->has_length ? (int64_t)h->content_length : -1,
		.fields = l.pairs,
		.count = l.count,
		.relayed = true,
		.reason = hop_kept(&l, h->reason) };
	return l.err;
}

int
hop_trailers(const struct hop *hop, const struct http1_head *trailers,
    struct arena *a, const struct http1_pair **fields, size_t *count)
{
	struct hop_list l;

	hop_list_init(&l, trailers, a, 0);
	for (size_t i = 0; l.err == 0 && i < trailers->count; i++) {
		struct slice name = http1_name_at(trailers, i);
		if (!http1_may_trail(name) ||
		    (hop->own_origin && is_of_origin(name)))
			continue;
		hop_put(&l, hop_kept(&l, name),
		    hop_kept(&l, http1_value_at(trailers, i)));
	}
	*fields = l.pairs;
	*count = l.err == 0 ? l.count : 0;
	return l.err;
}

/* Switching --------------------------------------------------------------- */

static struct slice
list_of(struct hop_list *l, const struct http1_ask *ask, struct slice name)
{
	struct slice out = { 0 };

	for (size_t i = 0; i < ask->count; i++) {
		if (!slice_eq_nocase(ask->fields[i].name, name))
			continue;
		out = out.ptr == NULL ? ask->fields[i].value
				      : hop_join(l,
					    (struct slice[]){ out, SL(", "),
						ask->fields[i].value },
					    3);
	}
	return out;
}

int
hop_wish(const struct http1_ask *ask, struct arena *a, struct hop_wish *out)
{
	struct hop_list l = { .arena = a };

	*out = (struct hop_wish){
		.key = list_of(&l, ask, SL("sec-websocket-key")),
		.protocols = list_of(&l, ask, SL("sec-websocket-protocol")),
		.extensions = list_of(&l, ask, SL("sec-websocket-extensions")),
	};
	return l.err;
}

/* RFC 6455 4.1: no extension that was not offered. */
static bool
extensions_offered(struct slice chosen, struct slice offered)
{
	struct wsopen_extension one, other;

	while (wsopen_next_extension(&chosen, &one) > 0) {
		struct slice rest = offered;
		bool found = false;
		while (!found && wsopen_next_extension(&rest, &other) > 0)
			found = slice_eq_nocase(one.name, other.name);
		if (!found)
			return false;
	}
	return true;
}

int
hop_switch_check(const struct hop_wish *wish, const struct http1_head *h,
    struct arena *a, struct slice *reason)
{
	struct wsopen_response r;
	int err = http1_wsopen_response(h, a, &r);

	if (err == 0)
		err = wsopen_check_response(
		    &r, wish->key, wish->protocols, reason);
	if (err == 0 && !extensions_offered(r.extensions, wish->extensions)) {
		*reason = SL("the answer's Sec-WebSocket-Extensions was not "
			     "offered");
		err = ERR_PROTOCOL;
	}
	return err;
}
