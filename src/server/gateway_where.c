#include <stdio.h>

#include "base/err.h"
#include "base/js.h"

#include "wire/octet.h"
#include "wire/url.h"

#include "io/rand.h"

#include "server/call.h"
#include "server/credential.h"
#include "server/ours.h"
#include "server/sites.h"
#include "server/wall.h"

#include "server/gateway_parts.h"

enum { HOST_MAX = 253, RULES_MAX = 16 * 1024, RULES_DEPTH = 8, LABEL_MAX = 63 };

/* Cookies of Muster's own, by the beginning of their names. */
static const struct slice own_cookies[] = {
	SL_INIT("__Host-muster"), SL_INIT("__Secure-muster"),
	SL_INIT("muster_"),
	SL_INIT("token"), /* of consoles; where Muster itself answers */
};
enum { OWN_COOKIES = sizeof(own_cookies) / sizeof(own_cookies[0]) };

static int
refuse(struct gateway_no *no, int status, struct slice code, struct slice text)
{
	*no = (struct gateway_no){
		.hop = HOP_VISITOR, .status = status, .code = code, .text = text
	};
	return ERR_DENIED;
}

/* Nobody means this: what follows is not to be read. */
static int
refuse_for_good(struct gateway_no *no, struct slice code, struct slice text)
{
	refuse(no, 400, code, text);
	no->close = true;
	return ERR_DENIED;
}

/* Hosts --------------------------------------------------------------------
 */

/* In lower case, into text; absent when it cannot be a route's. */
static struct slice
lower(struct slice name, uint8_t text[HOST_MAX])
{
	/* A final dot names the same host (RFC 1034 3.1). */
	if (name.len > 0 && name.ptr[name.len - 1] == '.')
		name.len--;
	if (name.len == 0 || name.len > HOST_MAX)
		return (struct slice){ 0 };
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.ptr[i];
		text[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
	}
	return (struct slice){ text, name.len };
}

/* Whether a Host is that of tunnel_origin, port and all. */
static bool
is_tunnel_origin(const struct server *s, const struct url_host *host)
{
	struct url u;

	if (s->settings.tunnel_origin.len == 0 || host->name.ptr == NULL ||
	    url_parse(s->settings.tunnel_origin, &u) != 0)
		return false;
	return slice_eq_nocase(u.at.name, host->name) &&
	    u.port ==
	    (host->port >= 0 ? host->port
		    : u.tls  ? 443
			     : 80);
}

struct slice
gateway_host(struct arena *a, struct slice name)
{
	uint8_t text[HOST_MAX];
	struct slice out = lower(name, text);

	if (out.ptr != NULL && arena_copy(a, out, &out) != 0)
		out = (struct slice){ 0 };
	return out;
}

bool
gateway_wants(const struct dock *d, const struct http1_head *h)
{
	uint8_t text[HOST_MAX];
	struct slice host = lower(h->host.name, text);

	if (host.ptr != NULL && sites_has_host(d, host))
		return true;
	if (is_tunnel_origin(d->server, &h->host))
		return true;
	return (slice_starts(h->path, SL("/clusters/")) ||
		   (d->server->settings.unsafe_path_routes &&
		       slice_starts(h->path, SL(WALL_PATHS)))) &&
	    ours_is_host(d->server, &h->host);
}

/* Paths --------------------------------------------------------------------
 */

/* Bytes that stand for one of a path once it is decoded. */
static size_t
decoded(struct slice s, uint8_t *out)
{
	int high, low;

	*out = s.ptr[0];
	if (s.ptr[0] != '%' || s.len < 3)
		return 1;
	high = octet_hex(s.ptr[1]);
	low = octet_hex(s.ptr[2]);
	if (high < 0 || low < 0)
		return 1;
	*out = (uint8_t)(high << 4 | low);
	return 3;
}

/*
 * Whether a path has a dot segment, in whichever spelling: it could lead out
 * of the agent's and service's own part of this origin.
 */
static bool
climbs(struct slice path)
{
	size_t dots = 0, others = 0;
	uint8_t c;

	while (path.len > 0) {
		path = slice_from_at(path, decoded(path, &c));
		if (c == '/' || c == '\\') {
			if (others == 0 && (dots == 1 || dots == 2))
				return true;
			dots = others = 0;
		} else if (c == '.') {
			dots++;
		} else {
			others++;
		}
	}
	return others == 0 && (dots == 1 || dots == 2);
}

/* RFC 1035 2.3.1, and digits in front. */
static bool
is_label(struct slice s)
{
	if (s.len == 0 || s.len > LABEL_MAX || s.ptr[0] == '-' ||
	    s.ptr[s.len - 1] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!octet_is(s.ptr[i], OCTET_PLAIN) || s.ptr[i] == '.' ||
		    s.ptr[i] == '_' || s.ptr[i] == '~' ||
		    (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z'))
			return false;
	}
	return true;
}

/* Cut the first segment off a path that begins with "/". */
static struct slice
cut(struct slice *path)
{
	struct slice rest = slice_from_at(*path, 1), one;

	one = slice_first(rest, slice_find(rest, '/'));
	*path = slice_from_at(rest, one.len);
	return one;
}

/* services/NAMESPACE/SERVICE:PORT */
static int
read_service(struct slice *rest, struct tunnel_target *t)
{
	struct slice namespace, service, port;
	uint64_t n;

	cut(rest);
	namespace = cut(rest);
	port = cut(rest);
	service = slice_first(port, slice_find(port, ':'));
	port = slice_from_at(port, service.len + 1);
	if (!is_label(namespace) || !is_label(service) ||
	    slice_u64(port, UINT16_MAX, &n) != 0 || n == 0)
		return ERR_INVALID;
	*t = (struct tunnel_target){
		.service = service, .namespace = namespace, .port = (uint16_t)n
	};
	return 0;
}

/* With all slices into the path but the agent's name. */
int
gateway_read_path(struct slice path, struct arena *a, struct tunnel_visit *what,
    struct slice *prefix)
{
	struct slice rest = path;
	int err;

	if (!slice_starts(path, SL("/clusters/")) || climbs(path))
		return ERR_INVALID;
	cut(&rest);
	*what = (struct tunnel_visit){ .way = TUNNEL_BY_PATH };
	err = url_decode(cut(&rest), false, a, &what->agent);
	if (err == 0 && what->agent.len == 0)
		err = ERR_INVALID;
	if (err == 0 &&
	    (slice_starts(rest, SL("/services/")) ||
		slice_eq(rest, SL("/services"))))
		err = read_service(&rest, &what->target);
	*prefix = slice_first(path, path.len - rest.len);
	return err;
}

/* What is relative on the page needs the slash. */
static int
redirect(struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	struct buf to;
	int err;

	buf_init(&to, URL_MAX + HTTP1_HEAD_BYTES);
	buf_put(&to, h->path);
	buf_put_byte(&to, '/');
	if (h->query.ptr != NULL)
		buf_put_byte(&to, '?');
	buf_put(&to, h->query);
	*no = (struct gateway_no){ .status = 308 };
	err = to.err != 0
	    ? to.err
	    : arena_copy(&v->call->arena, buf_peek(&to), &no->location);
	buf_fini(&to);
	return err != 0 ? ERR_NOMEM : ERR_DENIED;
}

static int
locate_path(struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	const struct server *s = v->conn->dock->server;
	int err;

	v->own_origin = !is_tunnel_origin(s, &h->host);
	/* Where nothing of a service is, paths are read as our own. */
	if (climbs(v->path) ||
	    (v->own_origin && !s->settings.unsafe_path_routes &&
		url_path_check(v->path) != 0))
		return refuse_for_good(no, SL("INVALID_REQUEST"),
		    SL("the path has dot segments, or escapes that are not "
		       "allowed"));
	if (v->own_origin && !s->settings.unsafe_path_routes)
		return refuse(no, 421, SL("MISDIRECTED"),
		    SL("services are not answered on the controller's own "
		       "origin: set tunnel_origin, or give the service a host "
		       "of its own by a route"));
	err = gateway_read_path(
	    v->path, &v->call->arena, &v->what, &v->hop.prefix);
	if (err == ERR_INVALID)
		return refuse(no, 404, SL("NOT_FOUND"),
		    SL("the path is not /clusters/AGENT/... or "
		       "/clusters/AGENT/services/NAMESPACE/SERVICE:PORT/..."));
	if (err == 0 && v->hop.prefix.len == v->path.len && v->call->safe)
		return redirect(v, h, no);
	return err;
}

/* Credentials --------------------------------------------------------------
 */

/*
 * Authorization is the service's: programs that come by a wall show a token of
 * Muster's in a field of its own, which goes no further.
 */
static int
read_credential(
    struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	struct slice text = http1_field(h, GATEWAY_TOKEN);
	size_t space = slice_find(text, ' ');
	int err;

	if (text.ptr == NULL)
		return 0;
	if (http1_count(h, GATEWAY_TOKEN) > 1 ||
	    !slice_eq_nocase(slice_first(text, space), SL("Bearer")))
		return refuse(no, 400, SL("INVALID_REQUEST"),
		    SL("X-Muster-Authorization is \"Bearer TOKEN\", once"));
	text = slice_trim(slice_from_at(text, space));
	err = arena_copy(&v->call->arena, text, &text);
	return err != 0 ? err
			: credential_of_text(v->conn->dock->server, text,
			      &v->call->arena, &v->call->credential);
}

/* Routes -------------------------------------------------------------------
 */

/* No request brings it to a service. */
static const struct hop_rule no_token = { .verb = HOP_REMOVE,
	.name = SL_INIT(GATEWAY_TOKEN) };

/* One side of a route's rules: {"set": {..}, "remove": [..]}, behind those
 * that are there. */
static int
read_rules(struct js_value side, struct arena *a, const struct hop_rule **out,
    size_t *count)
{
	struct js_value set = js_get(side, "set"), value;
	struct js_value remove = js_get(side, "remove");
	size_t room = *count + js_count(set) + js_count(remove), n = *count;
	struct js_walk w = js_walk(set);
	struct hop_rule *rules = arena_array(a, room + 1, sizeof(*rules));
	struct slice name, text;

	if (rules == NULL)
		return ERR_NOMEM;
	if (n > 0)
		memcpy(rules, *out, n * sizeof(*rules));
	while (n < room && js_next(&w, &name, &value)) {
		if (js_string(value, &text) == 0)
			rules[n++] = (struct hop_rule){ HOP_SET, name, text };
	}
	w = js_walk(remove);
	while (n < room && js_next(&w, NULL, &value)) {
		if (js_string(value, &text) == 0)
			rules[n++] = (struct hop_rule){ .verb = HOP_REMOVE,
				.name = text };
	}
	*out = rules;
	*count = n < HOP_RULES ? n : HOP_RULES;
	return 0;
}

static int
apply_rules(struct visit *v, struct slice json)
{
	static const struct js_limits limits = { RULES_MAX, RULES_DEPTH };
	struct arena *a = &v->call->arena;
	struct js_doc *doc;
	struct slice text;
	int err;

	if (json.len == 0)
		return 0;
	doc = arena_alloc(a, sizeof(*doc));
	if (doc == NULL || arena_copy(a, json, &text) != 0)
		return ERR_NOMEM;
	/* It was checked when it was made. */
	if (js_parse(doc, text, &limits, a) != 0)
		return 0;
	err = read_rules(js_get(js_root(doc), "request"), a, &v->hop.to_service,
	    &v->hop.to_service_count);
	return err != 0 ? err
			: read_rules(js_get(js_root(doc), "response"), a,
			      &v->hop.to_visitor, &v->hop.to_visitor_count);
}

int
gateway_apply(struct visit *v, const struct route_record *r)
{
	v->connect_within =
	    r->connect_within > 0 ? r->connect_within : GATEWAY_CONNECT;
	v->answer_within =
	    r->answer_within > 0 ? r->answer_within : GATEWAY_ANSWER;
	v->idle_within = r->idle_within > 0 ? r->idle_within : GATEWAY_IDLE;
	v->message_rate = r->message_rate;
	v->byte_rate = r->byte_rate;
	if (r->strip && r->prefix.len > 1 &&
	    arena_copy(&v->call->arena, r->prefix, &v->hop.prefix) != 0)
		return ERR_NOMEM;
	return apply_rules(v, r->rules_json);
}

static int
locate_route(struct visit *v, const struct route_record *r,
    const struct http1_head *h, struct gateway_no *no)
{
	struct arena *a = &v->call->arena;
	int err;

	if (r == NULL)
		return refuse(no, 404, SL("NO_ROUTE"),
		    SL("no route of this host leads there"));
	v->what.way = TUNNEL_BY_ROUTE;
	err = arena_copy(a, r->id, &v->what.route_id);
	if (err == 0)
		err = gateway_apply(v, r);
	if (err == 0 && r->selector.len > 0)
		gateway_find_key(v, h);
	return err;
}

/* All together ------------------------------------------------------------- */

static bool
names_page(const struct http1_head *h)
{
	struct slice list = http1_field(h, "Accept"), one;

	while (http1_next_element(&list, &one)) {
		if (slice_starts(one, SL("text/html")) ||
		    slice_starts(one, SL("application/xhtml")))
			return true;
	}
	return false;
}

static void
fill_hop(struct visit *v, const struct http1_head *h)
{
	struct hop *hop = &v->hop;
	struct conn *c = v->conn;

	hop->peer = conn_address(c, &v->call->arena);
	hop->client = v->call->credential.address;
	hop->trusted = v->call->by_proxy;
	hop->tls = v->call->tls;
	hop->host = call_keep(v->call,
	    http1_count(h, "Host") > 0 && h->form != HTTP1_ABSOLUTE
		? http1_field(h, "Host")
		: h->host.host);
	hop->own_origin = v->own_origin;
	hop->upgrade = v->websocket;
	hop->drop_authorization = false;
	hop->request_id = v->call->request_id;
	for (size_t i = 0; i < HOP_TRACE; i += 4) {
		uint32_t word = rand_u32();
		memcpy(hop->trace + i, &word, sizeof(word));
	}
	hop->cookies = own_cookies;
	hop->cookie_count = v->own_origin ? OWN_COOKIES : OWN_COOKIES - 1;
}

/* Strangers learn here what the hub would say, which they may not ask as often
 * as they like. */
static int
admit(struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	int err = wall_admit(v, h, no);

	if (err != 0 || v->call->credential.kind != CREDENTIAL_NONE)
		return err;
	refuse(no, 401, SL("UNAUTHORIZED"), SL("a login is required"));
	wall_lead(v, no);
	return ERR_DENIED;
}

int
gateway_locate(
    struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	const struct dock *d = v->conn->dock;
	uint8_t text[HOST_MAX];
	struct slice host = lower(h->host.name, text);
	const struct route_record *r = NULL;
	bool by_route;
	int err;

	v->wants_page = names_page(h);
	v->hop.to_service = &no_token;
	v->hop.to_service_count = 1;
	err = read_credential(v, h, no);
	if (err != 0)
		return err;
	v->path = call_keep(v->call, h->path.ptr != NULL ? h->path : SL("/"));
	v->host = call_keep(v->call, host);
	v->connect_within = GATEWAY_CONNECT;
	v->answer_within = GATEWAY_ANSWER;
	v->idle_within = GATEWAY_IDLE;
	v->target =
	    call_keep(v->call, h->form == HTTP1_ORIGIN ? h->target : v->path);
	if (v->path.ptr == NULL || v->target.ptr == NULL)
		return ERR_NOMEM;
	by_route = host.ptr != NULL && sites_has_host(d, host);
	if (slice_starts(v->path, SL(WALL_PATHS))) {
		v->own_origin =
		    !by_route && !is_tunnel_origin(d->server, &h->host);
		return wall_serve(v, h, no);
	}
	if (by_route) {
		r = sites_match(d, host, v->path);
		err = locate_route(v, r, h, no);
	} else {
		err = locate_path(v, h, no);
	}
	fill_hop(v, h);
	if (err == 0 && (r == NULL || r->wall != TUNNEL_PUBLIC))
		err = admit(v, h, no);
	if (err == 0 && v->websocket && !gateway_origin_ok(v, r, h))
		return refuse(no, 403, SL("ORIGIN_NOT_ALLOWED"),
		    SL("pages of this origin may not open WebSockets here"));
	return err;
}

/* Origins ------------------------------------------------------------------
 */

/* The origin of the page that the service itself served. */
static bool
is_same_origin(const struct visit *v, struct slice origin)
{
	struct url_host host;
	struct url u;

	if (url_host_parse(v->hop.host, &host) != 0 ||
	    url_parse(origin, &u) != 0 || u.path.len > 1 || u.websocket)
		return false;
	/* Who came by https has no page that did not. */
	if (v->hop.tls && !u.tls)
		return false;
	return slice_eq_nocase(u.at.name, host.name) &&
	    u.port ==
	    (host.port >= 0 ? host.port
		    : u.tls ? 443
			    : 80);
}

bool
gateway_origin_ok(const struct visit *v, const struct route_record *r,
    const struct http1_head *h)
{
	struct slice origin = http1_field(h, "Origin"), list, one;

	if (origin.ptr == NULL)
		return true; /* no browser */
	if (http1_count(h, "Origin") > 1)
		return false;
	if (r == NULL || r->origins.len == 0)
		return is_same_origin(v, origin);
	list = r->origins;
	while (slice_split(&list, ',', &one)) {
		if (ours_origin_fits(slice_trim(one), origin))
			return true;
	}
	return false;
}

/* Stickiness -----------------------------------------------------------------
 */

static bool
is_key(struct slice s)
{
	if (s.len != GATEWAY_KEY)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (octet_hex(s.ptr[i]) < 0)
			return false;
	}
	return true;
}

static struct slice
cookie(const struct http1_head *h)
{
	struct slice field, part;
	size_t pos = 0;

	while (http1_next_value(h, "Cookie", &pos, &field)) {
		while (slice_split(&field, ';', &part)) {
			part = slice_trim(part);
			size_t at = slice_find(part, '=');
			struct slice value = slice_from_at(part, at + 1);
			if (slice_eq(
				slice_first(part, at), SL(GATEWAY_COOKIE)) &&
			    is_key(value))
				return value;
		}
	}
	return (struct slice){ 0 };
}

/*
 * Browsers keep what they are told, and are spread at random.  Others may not,
 * and go where their address leads them.
 */
void
gateway_find_key(struct visit *v, const struct http1_head *h)
{
	struct slice key = cookie(h), from = v->call->credential.address;
	uint64_t n;

	if (key.ptr != NULL) {
		memcpy(v->key, key.ptr, GATEWAY_KEY);
		return;
	}
	n = v->wants_page
	    ? (uint64_t)rand_u32() << 32 | rand_u32()
	    : map_hash((const uint64_t[]){ 0x6d7573746572, 1 }, from);
	snprintf(v->key, sizeof(v->key), "%016llx", (unsigned long long)n);
	v->new_key = true;
}
