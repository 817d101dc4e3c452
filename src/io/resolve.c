#include <netdb.h>
#include <stdio.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/loop.h"

#include "io/resolve.h"

struct resolve {
	uv_getaddrinfo_t query;
	resolve_fn *done; /* NULL: cancelled */
	void *owner;
	uint16_t port;
	union addr addresses[RESOLVE_ADDRESSES];
	size_t count;
};

static void
add(struct resolve *r, const struct sockaddr *sa)
{
	union addr *a = &r->addresses[r->count];

	if (r->count == RESOLVE_ADDRESSES)
		return;
	if (sa->sa_family == AF_INET) {
		memcpy(&a->in, sa, sizeof(a->in));
		a->in.sin_port = htons(r->port);
		r->count++;
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&a->in6, sa, sizeof(a->in6));
		a->in6.sin6_port = htons(r->port);
		r->count++;
	}
}

/* The resolver's order within a family, the families in turn. */
static void
add_in_turn(struct resolve *r, const struct addrinfo *list)
{
	const struct addrinfo *next[2] = { list, list };
	int family = list->ai_family;

	for (int side = 0; next[0] != NULL || next[1] != NULL; side ^= 1) {
		const struct addrinfo *i = next[side];
		while (i != NULL && (i->ai_family == family) != (side == 0))
			i = i->ai_next;
		if (i != NULL)
			add(r, i->ai_addr);
		next[side] = i == NULL ? NULL : i->ai_next;
	}
}

static int
error_of(int status, size_t count)
{
	if (status == 0 && count > 0)
		return 0;
	if (status == 0 || status == UV_EAI_NONAME || status == UV_EAI_NODATA ||
	    status == UV_EAI_ADDRFAMILY)
		return ERR_DNS;
	return status == UV_EAI_MEMORY ? ERR_NOMEM : ERR_UNREACHABLE;
}

static void
on_resolved(uv_getaddrinfo_t *query, int status, struct addrinfo *list)
{
	struct resolve *r = LIST_OF(query, struct resolve, query);

	if (r->done != NULL && status == 0 && list != NULL)
		add_in_turn(r, list);
	uv_freeaddrinfo(list);
	if (r->done != NULL) {
		int err = error_of(status, r->count);
		char why[64] = "";
		if (err == ERR_DNS)
			snprintf(why, sizeof(why), "no such host");
		else if (err != 0)
			uv_strerror_r(status, why, sizeof(why));
		r->done(r->owner, err, why, r->addresses, r->count);
	}
	alloc_free(r);
}

int
resolve_start(struct loop *l, const char *host, uint16_t port, resolve_fn *done,
    void *owner, struct resolve **out)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM };
	struct resolve *r = alloc_new(sizeof(*r));

	if (r == NULL)
		return ERR_NOMEM;
	r->done = done;
	r->owner = owner;
	r->port = port;
	int rc =
	    uv_getaddrinfo(&l->uv, &r->query, on_resolved, host, NULL, &hints);
	if (rc != 0) {
		alloc_free(r);
		return rc == UV_ENOMEM ? ERR_NOMEM : ERR_INVALID;
	}
	*out = r;
	return 0;
}

void
resolve_cancel(struct resolve *r)
{
	if (r == NULL)
		return;
	r->done = NULL;
	(void)uv_cancel((uv_req_t *)&r->query);
}
