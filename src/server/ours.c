#include "io/addr.h"

#include "server/ours.h"

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
ours_is_host(const struct server *s, const struct http1_head *h)
{
	struct slice name = h->host.name;
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

bool
ours_is_origin(const struct server *s, struct slice origin)
{
	return origin.ptr == NULL || slice_eq_nocase(origin, s->public_url) ||
	    listed(s->settings.cors_origins, origin);
}
