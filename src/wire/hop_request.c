#include "base/err.h"
#include "wire/octet.h"

#include "wire/hop_list.h"

/* What is added here, at most. */
enum { ADDED = 12, NAME_MAX = 64 };

/*
 * Fields that Muster writes itself, or that have no business behind it:
 * `Proxy` becomes HTTP_PROXY in a CGI's environment.
 */
static const struct slice replaced[] = { SL_INIT("host"),
	SL_INIT("content-length"), SL_INIT("expect"), SL_INIT("proxy"),
	SL_INIT("x-request-id"), SL_INIT("forwarded"),
	SL_INIT("x-forwarded-for"), SL_INIT("x-forwarded-proto"),
	SL_INIT("x-forwarded-host"), SL_INIT("x-forwarded-prefix"),
	SL_INIT("traceparent"), SL_INIT("tracestate") };

static bool
is_replaced(struct slice name)
{
	for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++) {
		if (hop_alike(name, replaced[i]))
			return true;
	}
	return false;
}

/* What only a proxy may say of a client. */
static bool
is_claim(struct slice name)
{
	return hop_begins(name, SL("x-forwarded-")) ||
	    hop_alike(name, SL("x-real-ip"));
}

/* Connection's own spelling, and the one that CGI takes for the same. */
static bool
is_of_hop(const struct http1_head *h, struct slice name)
{
	uint8_t text[NAME_MAX];

	if (http1_is_hop_by_hop(h, name))
		return true;
	if (slice_find(name, '_') == name.len || name.len > sizeof(text))
		return false;
	for (size_t i = 0; i < name.len; i++)
		text[i] = name.ptr[i] == '_' ? '-' : name.ptr[i];
	return http1_is_hop_by_hop(h, (struct slice){ text, name.len });
}

static bool
stays(const struct hop *hop, const struct http1_head *h, struct slice name)
{
	if (hop->upgrade && hop_begins(name, SL("sec-websocket-")))
		return true;
	if (is_replaced(name) || is_of_hop(h, name))
		return false;
	if (!hop->trusted && is_claim(name))
		return false;
	return !hop->drop_authorization ||
	    !slice_eq_nocase(name, SL("authorization"));
}

/* Cookies (RFC 6265 4.2) --------------------------------------------------- */

static bool
has_ours(const struct hop *hop, struct slice value)
{
	struct slice pair;

	while (slice_split(&value, ';', &pair)) {
		if (hop_cookie_is_ours(hop, slice_trim(pair)))
			return true;
	}
	return false;
}

/* The pairs that are not ours; they never need more room than all. */
static void
put_cookies(struct hop_list *l, const struct hop *hop, struct slice name,
    struct slice value)
{
	struct hop_text t;
	struct slice pair;

	if (!has_ours(hop, value)) {
		hop_put(l, name, value);
		return;
	}
	/* "a;b" may become "a; b". */
	t = hop_room(l, 2 * value.len);
	while (slice_split(&value, ';', &pair)) {
		pair = slice_trim(pair);
		if (pair.len == 0 || hop_cookie_is_ours(hop, pair))
			continue;
		if (t.len > 0)
			hop_add(&t, SL("; "));
		hop_add(&t, pair);
	}
	if (t.len > 0)
		hop_put(l, name, (struct slice){ t.mem, t.len });
}

static void
copy_fields(struct hop_list *l, const struct hop *hop)
{
	const struct http1_head *h = l->head;

	for (size_t i = 0; i < h->count; i++) {
		struct slice name = http1_name_at(h, i);
		if (!stays(hop, h, name))
			continue;
		name = hop_kept(l, name);
		struct slice value = hop_kept(l, http1_value_at(h, i));
		if (slice_eq_nocase(name, SL("cookie")))
			put_cookies(l, hop, name, value);
		else
			hop_put(l, name, value);
	}
}

/* Who asked --------------------------------------------------------------- */

/* Whether to believe what proxies said: they named somebody. */
static bool
believes(const struct hop *hop)
{
	return hop->trusted && !slice_eq(hop->client, hop->peer);
}

static void
put_for(struct hop_list *l, const struct hop *hop)
{
	struct slice value = hop->peer;

	if (believes(hop) && http1_count(l->head, "x-forwarded-for") > 0)
		value = hop_append(l, "x-forwarded-for", hop->peer);
	else if (believes(hop))
		value = hop_join(
		    l, (struct slice[]){ hop->client, SL(", "), hop->peer }, 3);
	else
		value = hop_join(l, &hop->peer, 1);
	hop_put(l, SL("X-Forwarded-For"), value);
}

/* RFC 7239 6: IPv6 is in brackets and quotes; what is no address has no
 * name that others understand. */
static struct slice
node(struct hop_list *l, struct slice address)
{
	if (slice_find(address, ':') < address.len)
		return hop_join(
		    l, (struct slice[]){ SL("\"["), address, SL("]\"") }, 3);
	return octet_all(address, OCTET_TOKEN) ? address : SL("unknown");
}

/* RFC 7239 4: a token, or quoted.  No host has a quote or backslash. */
static struct slice
element(struct hop_list *l, const struct hop *hop, struct slice address,
    struct slice host)
{
	struct slice quote = octet_all(host, OCTET_TOKEN) ? SL("") : SL("\"");

	return hop_join(l,
	    (struct slice[]){ SL("for="), node(l, address), SL(";host="), quote,
		host, quote, SL(";proto="),
		hop->tls ? SL("https") : SL("http") },
	    8);
}

static void
put_forwarded(struct hop_list *l, const struct hop *hop, struct slice host)
{
	struct slice last = element(l, hop, hop->peer, host);

	if (believes(hop) && http1_count(l->head, "forwarded") > 0)
		last = hop_append(l, "forwarded", last);
	else if (believes(hop))
		last = hop_join(l,
		    (struct slice[]){
			element(l, hop, hop->client, host), SL(", "), last },
		    3);
	hop_put(l, SL("Forwarded"), last);
}

/* The first proxy knows best what the client said. */
static struct slice
first_host(const struct hop_list *l, const struct hop *hop, struct slice host)
{
	struct slice values = http1_field(l->head, "x-forwarded-host"), first;
	struct url_host parsed;

	if (believes(hop) && http1_next_element(&values, &first) &&
	    url_host_parse(first, &parsed) == 0)
		return hop_kept(l, first);
	return host;
}

static bool
is_path(struct slice s)
{
	return s.len > 1 && s.ptr[0] == '/' && s.ptr[1] != '/' &&
	    octet_all(s, OCTET_PATH);
}

/* What proxies took off before stands before what is taken off here. */
static void
put_prefix(struct hop_list *l, const struct hop *hop)
{
	struct slice before = http1_field(l->head, "x-forwarded-prefix");

	if (!believes(hop) || !is_path(before))
		before = (struct slice){ 0 };
	else if (before.ptr[before.len - 1] == '/')
		before.len--;
	if (before.len + hop->prefix.len > 0)
		hop_put(l, SL("X-Forwarded-Prefix"),
		    hop_join(l, (struct slice[]){ before, hop->prefix }, 2));
}

/* Tracing (W3C Trace Context, level 1) ------------------------------------- */

static bool
hex_part(struct slice s, size_t at, size_t len, bool zeros)
{
	bool other = false;

	for (size_t i = at; i < at + len; i++) {
		uint8_t c = s.ptr[i];
		if (!octet_is(c, OCTET_HEX) || (c >= 'A' && c <= 'F'))
			return false;
		other = other || c != '0';
	}
	return zeros || other;
}

/* 3.2: version "-" trace-id "-" parent-id "-" flags; later versions may have
 * more behind. */
static bool
traceparent_valid(struct slice s)
{
	if (s.len < 55 || s.ptr[2] != '-' || s.ptr[35] != '-' ||
	    s.ptr[52] != '-' || !hex_part(s, 0, 2, true) ||
	    !hex_part(s, 3, 32, false) || !hex_part(s, 36, 16, false) ||
	    !hex_part(s, 53, 2, true))
		return false;
	if (slice_starts(s, SL("ff")))
		return false;
	return s.len == 55 || (!slice_starts(s, SL("00")) && s.ptr[55] == '-');
}

static struct slice
made_parent(struct hop_list *l, const struct hop *hop)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t text[2 * HOP_TRACE];

	for (size_t i = 0; i < HOP_TRACE; i++) {
		text[2 * i] = (uint8_t)digits[hop->trace[i] >> 4];
		text[2 * i + 1] = (uint8_t)digits[hop->trace[i] & 15];
	}
	/* Sampled: else whoever follows the parent's choice is silent. */
	return hop_join(l,
	    (struct slice[]){ SL("00-"), { text, 32 }, SL("-"),
		{ text + 32, 16 }, SL("-01") },
	    5);
}

/* 4.3: without a good parent the state is no good either. */
static void
put_trace(struct hop_list *l, const struct hop *hop)
{
	struct slice parent = http1_field(l->head, "traceparent"), state;
	size_t pos = 0;

	if (http1_count(l->head, "traceparent") != 1 ||
	    !traceparent_valid(parent)) {
		hop_put(l, SL("Traceparent"), made_parent(l, hop));
		return;
	}
	hop_put(l, SL("Traceparent"), hop_kept(l, parent));
	if (http1_next_value(l->head, "tracestate", &pos, &state))
		hop_put(l, SL("Tracestate"),
		    hop_append(l, "tracestate", (struct slice){ 0 }));
}

/* All together ------------------------------------------------------------- */

static void
put_ours(struct hop_list *l, const struct hop *hop, struct slice host)
{
	const struct http1_head *h = l->head;

	put_for(l, hop);
	hop_put(
	    l, SL("X-Forwarded-Proto"), hop->tls ? SL("https") : SL("http"));
	hop_put(l, SL("X-Forwarded-Host"), first_host(l, hop, host));
	put_prefix(l, hop);
	put_forwarded(l, hop, host);
	hop_put(l, SL("X-Request-Id"), hop_join(l, &hop->request_id, 1));
	put_trace(l, hop);
	/* RFC 9110 10.1.1: whether to go on is for the service to say. */
	if (h->expect_continue && h->has_body)
		hop_put(l, SL("Expect"), SL("100-continue"));
}

/* RFC 6455 4.1; no other protocol is switched to (h2c least of all). */
static void
put_upgrade(struct hop_list *l)
{
	hop_put(l, SL("Connection"), SL("Upgrade"));
	hop_put(l, SL("Upgrade"), SL("websocket"));
}

/* The Host that the visitor gave; or the target's, which counts before it
 * and agrees with it (RFC 9112 3.2.2). */
static int
find_host(struct hop_list *l, const struct hop *hop, struct slice *out)
{
	struct slice host = hop->host;
	struct url_host parsed;

	if (host.ptr == NULL)
		host = http1_field(l->head, "host");
	if (host.ptr == NULL)
		host = l->head->host.host;
	if (host.ptr == NULL)
		return ERR_MISSING;
	*out = hop_join(l, &host, 1);
	return url_host_parse(host, &parsed) == 0 ? 0 : ERR_INVALID;
}

static int
find_target(struct hop_list *l, const struct hop *hop, struct slice *out)
{
	const struct http1_head *h = l->head;
	bool query = h->query.ptr != NULL;
	struct slice path = h->path;

	if (h->form == HTTP1_AUTHORITY)
		return ERR_INVALID;
	if (h->form == HTTP1_ASTERISK) {
		*out = SL("*");
		return hop->prefix.len > 0 ? ERR_INVALID : 0;
	}
	path = hop_under(path, hop->prefix);
	if (path.ptr == NULL)
		return ERR_INVALID;
	*out = hop_join(l,
	    (struct slice[]){ path.len > 0 ? path : SL("/"),
		query ? SL("?") : SL(""), h->query },
	    3);
	return 0;
}

int
hop_request(const struct hop *hop, const struct http1_head *h, struct arena *a,
    struct http1_ask *out)
{
	struct slice host = { 0 }, target = { 0 };
	struct hop_list l;
	int err;

	if (hop->upgrade && h->has_body)
		return ERR_INVALID;
	hop_list_init(&l, h, a, ADDED + hop->to_service_count);
	err = find_host(&l, hop, &host);
	if (err == 0)
		err = find_target(&l, hop, &target);
	if (err != 0 || l.err != 0)
		return err != 0 ? err : l.err;
	copy_fields(&l, hop);
	put_ours(&l, hop, host);
	hop_apply(&l, hop->to_service, hop->to_service_count, &host);
	if (hop->upgrade)
		put_upgrade(&l);
	*out = (struct http1_ask){ .method = hop_kept(&l, h->method),
		.target = target,
		.host = host,
		.fields = l.pairs,
		.count = l.count,
		.length = h->chunked ? -1 : (int64_t)h->content_length,
		.upgrade = hop->upgrade };
	return l.err;
}
