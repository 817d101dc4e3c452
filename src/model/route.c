/*
 * Texts of routes.  What is refused here could be read in two ways by one of
 * the programs that a request passes.
 */
#include "base/err.h"
#include "base/js.h"

#include "model/route.h"

enum {
	TARGET_HOST_MAX = 253,
	LABEL_MAX = 63,
	ORIGINS_MAX = 4096,
	VALUE_MAX = 4096,
	CONNECT_MOST = 120 * 1000,
	ANSWER_MOST = 24 * 3600 * 1000,
	IDLE_MOST = 7 * 24 * 3600 * 1000,
	MESSAGES_MOST = 1000000,
};

static const uint64_t bytes_most = UINT64_C(1) << 40;
static const struct slice none;

/* Form ------------------------------------------------------------------- */

static int
lower(struct slice *s, struct arena *a)
{
	uint8_t *text = arena_alloc(a, s->len + 1);

	if (text == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < s->len; i++) {
		uint8_t c = s->ptr[i];
		text[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
	}
	*s = (struct slice){ text, s->len };
	return 0;
}

/* "app.example.com-api-v1": what it takes in, without a slash. */
static int
make_name(struct route_record *r, struct arena *a)
{
	size_t rest = r->prefix.len > 1 ? r->prefix.len : 0;
	uint8_t *text = arena_alloc(a, r->host.len + rest + 1);

	if (text == NULL)
		return ERR_NOMEM;
	if (r->host.len > 0)
		memcpy(text, r->host.ptr, r->host.len);
	for (size_t i = 0; i < rest; i++)
		text[r->host.len + i] =
		    r->prefix.ptr[i] == '/' ? '-' : r->prefix.ptr[i];
	r->name = (struct slice){ text, r->host.len + rest };
	if (r->name.len > ROUTE_NAME_MAX)
		r->name.len = ROUTE_NAME_MAX;
	return 0;
}

int
route_normalise(struct route_record *r, struct arena *a)
{
	int err = lower(&r->host, a);

	while (r->prefix.len > 1 && r->prefix.ptr[r->prefix.len - 1] == '/')
		r->prefix.len--;
	if (r->prefix.len == 0)
		r->prefix = SL("/");
	if (err == 0 && r->name.len == 0)
		err = make_name(r, a);
	return err;
}

/* Hosts ------------------------------------------------------------------ */

static bool
is_alnum(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9');
}

static bool
label_ok(struct slice s)
{
	if (s.len == 0 || s.len > LABEL_MAX || s.ptr[0] == '-' ||
	    s.ptr[s.len - 1] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!is_alnum(s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '_')
			return false;
	}
	return true;
}

static bool
name_of_host_ok(struct slice host)
{
	struct slice label;

	if (host.len == 0 || host.len > ROUTE_HOST_MAX)
		return false;
	/* slice_split says nothing of what would be behind a last dot. */
	if (host.ptr[host.len - 1] == '.')
		return false;
	while (slice_split(&host, '.', &label)) {
		if (!label_ok(label))
			return false;
	}
	return true;
}

static bool
host_ok(struct slice host)
{
	bool suffix = slice_starts(host, SL("*."));

	return host.len <= ROUTE_HOST_MAX &&
	    name_of_host_ok(suffix ? slice_from_at(host, 2) : host);
}

/* A name, or an address of either family; the agent's resolver decides what
 * it means. */
static bool
target_host_ok(struct slice host)
{
	bool colon = slice_find(host, ':') < host.len;

	if (!colon)
		return name_of_host_ok(host);
	if (host.len > TARGET_HOST_MAX)
		return false;
	for (size_t i = 0; i < host.len; i++) {
		uint8_t c = host.ptr[i];
		bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
		    (c >= 'A' && c <= 'F');
		if (!hex && c != ':' && c != '.')
			return false;
	}
	return true;
}

struct slice
tunnel_fault(const struct tunnel_target *t, struct slice *field)
{
	*field = SL("target");
	if ((t->host.len == 0) == (t->service.len == 0))
		return SL("a target is a host and a port, or a service with "
			  "its namespace and a port");
	if (t->port == 0)
		return SL("a port is a number from 1 to 65535");
	if (t->host.len > 0 && !target_host_ok(t->host))
		return SL("this is no name or address of a host");
	if (t->service.len > 0 &&
	    (!label_ok(t->service) || !label_ok(t->namespace)))
		return SL("service and namespace are words of a-z 0-9 -");
	if (t->host.len > 0 && t->namespace.len > 0)
		return SL("a namespace goes with a service");
	*field = SL("tls");
	if (!t->tls && (t->insecure || t->tls_name.len > 0))
		return SL("how a certificate is judged matters with tls only");
	if (t->tls_name.len > 0 && !target_host_ok(t->tls_name))
		return SL("tls_name is no name of a host");
	return none;
}

/* Prefixes ----------------------------------------------------------------- */

static bool
path_byte_ok(uint8_t c)
{
	static const struct slice extra = SL_INIT("-._~!$&'()*+,=:@/");

	return is_alnum(c) || slice_find(extra, c) < extra.len;
}

/* No text that another program could take for something else. */
static bool
prefix_ok(struct slice p)
{
	struct slice rest = slice_from_at(p, 1), part;

	if (p.len == 0 || p.len > ROUTE_PREFIX_MAX || p.ptr[0] != '/')
		return false;
	for (size_t i = 0; i < p.len; i++) {
		if (!path_byte_ok(p.ptr[i]))
			return false;
	}
	while (rest.len > 0 && slice_split(&rest, '/', &part)) {
		if (part.len == 0 || slice_eq(part, SL(".")) ||
		    slice_eq(part, SL("..")))
			return false;
	}
	return true;
}

static bool
name_ok(struct slice name)
{
	if (name.len == 0 || name.len > ROUTE_NAME_MAX ||
	    slice_starts(name, SL("rte_")))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		if (name.ptr[i] == '/' || !path_byte_ok(name.ptr[i]))
			return false;
	}
	return true;
}

/* Origins: scheme://host[:port], the host may be *.suffix --------------------
 */

static bool
port_ok(struct slice s)
{
	unsigned n = 0;

	if (s.len == 0 || s.len > 5)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
		n = n * 10 + (s.ptr[i] - '0');
	}
	return n > 0 && n <= UINT16_MAX;
}

static bool
origin_ok(struct slice s)
{
	size_t cut = slice_starts(s, SL("https://")) ? 8
	    : slice_starts(s, SL("http://"))         ? 7
						     : 0;
	struct slice host = slice_from_at(s, cut);
	size_t colon = slice_find(host, ':');

	if (cut == 0 ||
	    (colon < host.len && !port_ok(slice_from_at(host, colon + 1))))
		return false;
	return host_ok(slice_first(host, colon));
}

static bool
origins_ok(struct slice list)
{
	struct slice part;
	size_t n = 0;

	if (list.len > ORIGINS_MAX)
		return false;
	while (slice_split(&list, ',', &part)) {
		if (!origin_ok(slice_trim(part)) || ++n > ROUTE_ORIGINS)
			return false;
	}
	return true;
}

/* Rules -------------------------------------------------------------------- */

static bool
token_byte_ok(uint8_t c)
{
	static const struct slice extra = SL_INIT("!#$%&'*+-.^_`|~");

	return is_alnum(c) || slice_find(extra, c) < extra.len;
}

static bool
starts_nocase(struct slice s, struct slice with)
{
	return slice_eq_nocase(slice_first(s, with.len), with);
}

/* Framing is the gateway's, and so is who a request came from. */
static bool
field_ok(struct slice name, bool set)
{
	static const struct slice fixed[] = { SL_INIT("connection"),
		SL_INIT("keep-alive"), SL_INIT("te"), SL_INIT("trailer"),
		SL_INIT("transfer-encoding"), SL_INIT("content-length"),
		SL_INIT("upgrade"), SL_INIT("http2-settings"),
		SL_INIT("expect"), SL_INIT("forwarded"),
		SL_INIT("x-request-id"), SL_INIT("traceparent") };

	if (name.len == 0 || name.len > 128)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		if (!token_byte_ok(name.ptr[i]))
			return false;
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (slice_eq_nocase(name, fixed[i]))
			return false;
	}
	return !starts_nocase(name, SL("proxy-")) &&
	    !starts_nocase(name, SL("x-forwarded-")) &&
	    !starts_nocase(name, SL("sec-websocket-")) &&
	    (set || !slice_eq_nocase(name, SL("host")));
}

static bool
value_ok(struct slice v)
{
	if (v.len > VALUE_MAX || slice_trim(v).len != v.len)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		if ((v.ptr[i] < 0x20 && v.ptr[i] != '\t') || v.ptr[i] > 0x7e)
			return false;
	}
	return true;
}

static bool
sets_ok(struct js_value set)
{
	struct js_walk w = js_walk(set);
	struct slice name, text;
	struct js_value v;
	size_t n = 0;

	if (set.kind != JS_NONE && set.kind != JS_OBJECT)
		return false;
	while (js_next(&w, &name, &v)) {
		if (js_string(v, &text) != 0 || !field_ok(name, true) ||
		    !value_ok(text) || ++n > ROUTE_RULES)
			return false;
	}
	return true;
}

static bool
removals_ok(struct js_value list)
{
	struct js_walk w = js_walk(list);
	struct slice name;
	struct js_value v;
	size_t n = 0;

	if (list.kind != JS_NONE && list.kind != JS_ARRAY)
		return false;
	while (js_next(&w, NULL, &v)) {
		if (js_string(v, &name) != 0 || !field_ok(name, false) ||
		    ++n > ROUTE_RULES)
			return false;
	}
	return true;
}

static bool
way_ok(struct js_value way)
{
	struct js_walk w = js_walk(way);
	struct slice name;
	struct js_value v;

	if (way.kind != JS_OBJECT)
		return false;
	while (js_next(&w, &name, &v)) {
		if (!slice_eq(name, SL("set")) && !slice_eq(name, SL("remove")))
			return false;
	}
	return sets_ok(js_get(way, "set")) &&
	    removals_ok(js_get(way, "remove"));
}

static bool
rules_ok(struct slice text, struct arena *scratch)
{
	const struct js_limits limits = { ROUTE_RULES_MAX, 4 };
	struct js_doc doc;
	struct slice name;
	struct js_value v;

	arena_reset(scratch);
	if (js_parse(&doc, text, &limits, scratch) != 0 ||
	    doc.repeated.ptr != NULL || js_root(&doc).kind != JS_OBJECT)
		return false;
	struct js_walk w = js_walk(js_root(&doc));
	while (js_next(&w, &name, &v)) {
		bool known = slice_eq(name, SL("request")) ||
		    slice_eq(name, SL("response"));
		if (!known || !way_ok(v))
			return false;
	}
	return true;
}

/* All of it ---------------------------------------------------------------- */

static struct slice
limits_fault(const struct route_record *r, struct slice *field)
{
	*field = SL("connect_ms");
	if (r->connect_within < 0 || r->connect_within > CONNECT_MOST)
		return SL("a connection has at most 120 s");
	*field = SL("answer_ms");
	if (r->answer_within < 0 || r->answer_within > ANSWER_MOST)
		return SL("an answer has at most a day");
	*field = SL("idle_ms");
	if (r->idle_within < 0 || r->idle_within > IDLE_MOST)
		return SL("nothing is idle for more than a week");
	*field = SL("messages_per_second");
	if (r->message_rate > MESSAGES_MOST)
		return SL("at most 1000000 messages a second");
	*field = SL("bytes_per_second");
	if (r->byte_rate > bytes_most)
		return SL("at most 1 TiB a second");
	return none;
}

struct slice
route_fault(
    const struct route_record *r, struct arena *scratch, struct slice *field)
{
	*field = SL("host");
	if (!host_ok(r->host))
		return SL("a host is a name like app.example.com or "
			  "*.apps.example.com, without a port");
	*field = SL("prefix");
	if (!prefix_ok(r->prefix))
		return SL("a prefix is a path like /api of letters, digits and "
			  "-._~!$&'()*+,=:@, without empty and dot segments");
	*field = SL("name");
	if (!name_ok(r->name))
		return SL("a name has 1 to 128 letters, digits and "
			  "-._~!$&'()*+,=:@ and does not begin with rte_");
	*field = SL("agent");
	if ((r->agent.len == 0) == (r->selector.len == 0))
		return SL("a route goes by one agent or by a selector");
	struct slice text = tunnel_fault(&r->target, field);
	if (text.len > 0)
		return text;
	*field = SL("origins");
	if (!origins_ok(r->origins))
		return SL("origins are like https://app.example.com or "
			  "https://*.example.com:8443, joined by commas");
	*field = SL("headers");
	if (r->rules_json.len > 0 && !rules_ok(r->rules_json, scratch))
		return SL(
		    "header rules set and remove fields by name; those of "
		    "framing, and those that say where a request came "
		    "from, are the gateway's");
	return limits_fault(r, field);
}

/* Order -------------------------------------------------------------------- */

/* "/" is the empty prefix of all. */
static struct slice
stem(struct slice prefix)
{
	return prefix.len == 1 ? SL("") : prefix;
}

int
route_cmp(const struct route_record *a, const struct route_record *b)
{
	int d = slice_cmp(a->host, b->host);

	return d != 0 ? d : slice_cmp(stem(a->prefix), stem(b->prefix));
}

/* The first one behind all that are not above (host, path). */
static size_t
upper_bound(const struct route_record *const *list, size_t count,
    struct slice host, struct slice path)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int d = slice_cmp(list[mid]->host, host);
		if (d == 0)
			d = slice_cmp(stem(list[mid]->prefix), path);
		if (d <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static size_t
common(struct slice a, struct slice b)
{
	size_t n = 0;

	while (n < a.len && n < b.len && a.ptr[n] == b.ptr[n])
		n++;
	return n;
}

/* Cut back to the last border at or before n, which is a "/" that is left
 * out. */
static struct slice
cut_back(struct slice path, size_t n)
{
	while (n > 0 && !(n == path.len || path.ptr[n] == '/'))
		n--;
	return slice_first(path, n);
}

size_t
route_longest(const struct route_record *const *list, size_t count,
    struct slice host, struct slice path)
{
	if (path.len > ROUTE_PREFIX_MAX)
		path = cut_back(path, ROUTE_PREFIX_MAX);
	/* What is just below the path is its prefix, or has less in common
	 * with it, as has then any prefix that it has. */
	for (;;) {
		size_t at = upper_bound(list, count, host, path);
		if (at == 0 || !slice_eq(list[at - 1]->host, host))
			return count;
		struct slice below = stem(list[at - 1]->prefix);
		size_t same = common(below, path);
		if (same == below.len &&
		    (same == path.len || path.ptr[same] == '/'))
			return at - 1;
		if (path.len == 0)
			return count;
		path = cut_back(path, same);
	}
}
