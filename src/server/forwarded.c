#include "base/err.h"

#include "server/forwarded.h"

enum { HOPS_MAX = 32 };

/* What one proxy wrote: whom it had the request from, and how it came. */
struct hop {
	struct address from;
	bool known;
	bool tls;
};

/* Oldest first; of more than there is room for, the newest. */
struct hops {
	struct hop all[HOPS_MAX];
	size_t count;
};

static struct hop *
add_hop(struct hops *h)
{
	if (h->count == HOPS_MAX) {
		memmove(h->all, h->all + 1, sizeof(h->all) - sizeof(h->all[0]));
		h->count--;
	}
	h->all[h->count] = (struct hop){ .known = false };
	return &h->all[h->count++];
}

/* "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80", and
 * without brackets, as some write it. */
static bool
read_node(struct slice text, struct address *out)
{
	size_t close = slice_find(text, ']');
	size_t colon = slice_find(text, ':');

	if (address_parse(text, out) == 0)
		return true;
	if (text.len > 0 && text.ptr[0] == '[')
		return close < text.len &&
		    address_parse(slice_first(text, close + 1), out) == 0;
	return colon < text.len &&
	    address_parse(slice_first(text, colon), out) == 0;
}

/* Forwarded ---------------------------------------------------------------- */

/* A value without its quotes; escapes are in no address. */
static struct slice
unquoted(struct slice s)
{
	if (s.len >= 2 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"')
		return slice_first(slice_from_at(s, 1), s.len - 2);
	return s;
}

/* One element: "for=192.0.2.60;proto=http;by=203.0.113.43". */
static void
read_element(struct slice element, struct hop *out)
{
	struct slice pair;

	while (slice_split(&element, ';', &pair)) {
		size_t at = slice_find(pair, '=');
		struct slice name = slice_trim(slice_first(pair, at));
		struct slice value =
		    unquoted(slice_trim(slice_from_at(pair, at + 1)));
		if (slice_eq_nocase(name, SL("for")))
			out->known = read_node(value, &out->from);
		else if (slice_eq_nocase(name, SL("proto")))
			out->tls = slice_eq_nocase(value, SL("https"));
	}
}

static void
read_forwarded(const struct http1_head *h, struct hops *out)
{
	struct slice value, element;
	size_t pos = 0;

	while (http1_next_value(h, "Forwarded", &pos, &value)) {
		while (http1_next_element(&value, &element))
			read_element(element, add_hop(out));
	}
}

/* X-Forwarded-For ---------------------------------------------------------- */

static bool
last_proto_is_tls(const struct http1_head *h)
{
	struct slice value, element;
	size_t pos = 0;
	bool tls = false;

	while (http1_next_value(h, "X-Forwarded-Proto", &pos, &value)) {
		while (http1_next_element(&value, &element))
			tls = slice_eq_nocase(element, SL("https"));
	}
	return tls;
}

static void
read_x_forwarded(const struct http1_head *h, struct hops *out)
{
	struct slice value, element;
	size_t pos = 0;
	bool tls = last_proto_is_tls(h);

	while (http1_next_value(h, "X-Forwarded-For", &pos, &value)) {
		while (http1_next_element(&value, &element)) {
			struct hop *hop = add_hop(out);
			hop->known = read_node(element, &hop->from);
		}
	}
	for (size_t i = 0; i < out->count; i++)
		out->all[i].tls = tls;
}

/* The walk ----------------------------------------------------------------- */

static void
walk(const struct hops *hops, struct slice trusted, struct forwarded *out)
{
	for (size_t i = hops->count; i-- > 0;) {
		const struct hop *hop = &hops->all[i];
		out->tls = hop->tls;
		if (!hop->known)
			return;
		out->client = hop->from;
		if (!cidr_list_has(trusted, &hop->from))
			return;
	}
}

static bool
same(const struct address *a, const struct address *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

void
forwarded_read(const struct http1_head *h, struct slice trusted,
    const struct address *peer, struct forwarded *out)
{
	struct hops standard = { .count = 0 }, custom = { .count = 0 };
	struct forwarded a, b;

	*out = (struct forwarded){ .client = *peer,
		.by_proxy = trusted.len > 0 && cidr_list_has(trusted, peer) };
	if (!out->by_proxy)
		return;
	a = b = *out;
	read_forwarded(h, &standard);
	read_x_forwarded(h, &custom);
	walk(&standard, trusted, &a);
	walk(&custom, trusted, &b);
	if (custom.count == 0)
		*out = a;
	else if (standard.count == 0)
		*out = b;
	else if (same(&a.client, &b.client))
		*out = (struct forwarded){ .client = a.client,
			.by_proxy = true,
			.tls = a.tls && b.tls };
	/* A proxy may tell the scheme alone. */
	if (standard.count == 0 && custom.count == 0)
		out->tls = last_proto_is_tls(h);
}

bool
forwarded_any(const struct http1_head *h)
{
	return http1_count(h, "Forwarded") > 0 ||
	    http1_count(h, "X-Forwarded-For") > 0;
}

int
forwarded_check(struct slice list)
{
	struct slice one;

	while (slice_split(&list, ',', &one)) {
		one = slice_trim(one);
		if (one.len > 0 && cidr_check(one) != 0)
			return ERR_INVALID;
	}
	return 0;
}
