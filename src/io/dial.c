#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"

#include "io/dial_hop.h"
#include "io/loop.h"
#include "io/resolve.h"
#include "io/stream.h"
#include "io/sys.h"
#include "io/tls.h"

#include "io/dial.h"

/* One address being tried.  The winner's socket goes on to the proxy. */
struct attempt {
	uv_poll_t poll;
	struct dial *dial;
	struct list link;
	union addr to;
	int fd;
};

struct dial {
	struct loop *loop; /* borrowed */
	dial_fn *done;     /* NULL once it was called, or cancelled */
	void *owner;
	char host[DIAL_HOST];
	uint16_t port;
	struct dial_proxy proxy;
	struct tls_client *tls; /* borrowed */
	union addr addresses[DIAL_ADDRESSES];
	size_t count, next;
	struct list attempts;
	struct loop_timer timeout, stagger;
	struct stream *stream; /* in its TLS handshake */
	struct resolve *query;
	bool proxying; /* the way to the proxy is open */
	struct hop hop;
	struct loop_task funeral;
	int err; /* the last failure, with its sentence */
	char why[DIAL_WHY];
};

static_assert((int)RESOLVE_ADDRESSES <= (int)DIAL_ADDRESSES,
    "what is resolved is copied whole");

static void try_next(struct dial *d);

/* Ends --------------------------------------------------------------------- */

static void
on_attempt_closed(uv_handle_t *h)
{
	alloc_free(LIST_OF(h, struct attempt, poll));
}

/* Returns the socket, which is the caller's from now on. */
static int
attempt_end(struct attempt *a)
{
	int fd = a->fd;

	list_remove(&a->link);
	uv_close((uv_handle_t *)&a->poll, on_attempt_closed);
	return fd;
}

static void
drop_attempts(struct dial *d)
{
	while (!list_empty(&d->attempts))
		close(attempt_end(
		    LIST_OF(d->attempts.next, struct attempt, link)));
}

static void
bury(struct loop_task *t)
{
	struct dial *d = LIST_OF(t, struct dial, funeral);

	explicit_bzero(&d->proxy, sizeof(d->proxy));
	explicit_bzero(&d->hop, sizeof(d->hop));
	alloc_free(d);
}

/* Nothing goes on any more; the memory follows at the turn's end. */
static void
put_down(struct dial *d)
{
	drop_attempts(d);
	loop_timer_stop(d->loop, &d->timeout);
	loop_timer_stop(d->loop, &d->stagger);
	resolve_cancel(d->query);
	d->query = NULL;
	loop_bury(d->loop, &d->funeral);
}

static void
finish(struct dial *d, struct stream *s, int err)
{
	dial_fn *done = d->done;

	d->done = NULL;
	put_down(d);
	done(d->owner, s, err, err == 0 ? "" : d->why);
}

void
dial_cancel(struct dial *d)
{
	if (d == NULL || d->done == NULL)
		return;
	d->done = NULL;
	if (d->stream != NULL)
		stream_abort(d->stream, false);
	put_down(d);
}

static int
because(struct dial *d, int err, const char *hop, const char *what)
{
	d->err = err;
	snprintf(d->why, sizeof(d->why), "%s: %.280s", hop, what);
	return err;
}

static void
on_timeout(struct loop_timer *t)
{
	struct dial *d = LIST_OF(t, struct dial, timeout);
	const char *hop = "connect";

	if (d->query != NULL)
		hop = "dns";
	else if (d->stream != NULL)
		hop = "tls";
	else if (d->proxying)
		hop = "proxy";
	because(d, ERR_TIMEOUT, hop, "timed out");
	if (d->stream != NULL)
		stream_abort(d->stream, false);
	finish(d, NULL, ERR_TIMEOUT);
}

/* TLS, or done --------------------------------------------------------------
 */

static void
on_shaken(void *owner, int err, const char *why)
{
	struct dial *d = owner;
	struct stream *s = d->stream;

	d->stream = NULL;
	if (err != 0)
		because(d, err, "tls", why);
	finish(d, err == 0 ? s : NULL, err);
}

/* The way is open: what is left is between us and the target. */
static void
open_stream(struct dial *d, int fd, const union addr *to)
{
	struct stream *s = NULL;
	int err = stream_new(d->loop, fd, &to->sa, &s);

	if (err != 0) {
		close(fd);
	} else if (d->tls == NULL) {
		finish(d, s, 0);
		return;
	} else {
		d->stream = s;
		err = tls_connect(s, d->tls, d->host, on_shaken, d);
		if (err == 0)
			return;
		d->stream = NULL;
		stream_abort(s, false);
	}
	finish(d, NULL, because(d, err, "tls", "out of memory"));
}

/* The proxy -----------------------------------------------------------------
 */

static void
proxy_failed(struct dial *d, int err, const char *why)
{
	finish(d, NULL, because(d, err, "proxy", why));
}

/* What we say is short, and the socket is empty: it goes whole. */
static bool
proxy_say(struct dial *d, int fd)
{
	size_t n = d->hop.out_len;

	d->hop.out_len = 0;
	if (n == 0 || send(fd, d->hop.out, n, MSG_NOSIGNAL) == (ssize_t)n)
		return true;
	proxy_failed(d, ERR_RESET, "it closed the connection");
	return false;
}

/* Look first, then take what is the proxy's and no more. */
static void
on_proxy(uv_poll_t *h, int status, int events)
{
	struct attempt *a = LIST_OF(h, struct attempt, poll);
	struct dial *d = a->dial;
	union addr to = a->to;
	uint8_t in[2048];
	size_t used = 0;
	int result;

	(void)status;
	(void)events;
	ssize_t n = recv(a->fd, in, sizeof(in), MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		proxy_failed(d, ERR_RESET, "it closed the connection");
		return;
	}
	result = hop_feed(&d->hop, (struct slice){ in, (size_t)n }, &used);
	if (recv(a->fd, in, used, 0) != (ssize_t)used)
		result = ERR_IO;
	if (result < 0) {
		proxy_failed(d, result, d->hop.why);
	} else if (result > 0) {
		int fd = attempt_end(a);
		open_stream(d, fd, &to);
	} else {
		proxy_say(d, a->fd);
	}
}

/* Connecting ----------------------------------------------------------------
 */

static void
connected(struct attempt *a)
{
	struct dial *d = a->dial;
	union addr to = a->to;

	list_remove(&a->link);
	drop_attempts(d); /* the others lost */
	list_push(&d->attempts, &a->link);
	loop_timer_stop(d->loop, &d->stagger);
	stream_tune(a->fd);
	if (d->proxy.kind == DIAL_DIRECT) {
		int fd = attempt_end(a);
		open_stream(d, fd, &to);
		return;
	}
	d->proxying = true;
	if (proxy_say(d, a->fd))
		uv_poll_start(&a->poll, UV_READABLE, on_proxy);
}

static void
attempt_failed(struct dial *d, const union addr *to, int number)
{
	char where[ADDR_TEXT], what[DIAL_WHY];
	bool proxy = d->proxy.kind != DIAL_DIRECT;

	addr_format(&to->sa, where);
	snprintf(what, sizeof(what), "%s%s: %s",
	    proxy ? "cannot reach it at " : "", where, strerrordesc_np(number));
	because(d, sys_err(number), proxy ? "proxy" : "connect", what);
}

static void
on_connect(uv_poll_t *h, int status, int events)
{
	struct attempt *a = LIST_OF(h, struct attempt, poll);
	struct dial *d = a->dial;
	int number = 0;
	socklen_t len = sizeof(number);

	(void)status; /* the socket knows better */
	(void)events;
	getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &number, &len);
	if (number == 0) {
		connected(a);
		return;
	}
	attempt_failed(d, &a->to, number);
	close(attempt_end(a));
	try_next(d);
}

/* 0 or an errno. */
static int
attempt_start(struct dial *d, const union addr *to)
{
	struct attempt *a;
	int number = 0;
	int fd = socket(
	    to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return errno;
	if (connect(fd, &to->sa, addr_len(&to->sa)) != 0 &&
	    errno != EINPROGRESS) {
		number = errno;
		close(fd);
		return number;
	}
	a = alloc_new(sizeof(*a));
	if (a == NULL || uv_poll_init(&d->loop->uv, &a->poll, fd) != 0) {
		alloc_free(a);
		close(fd);
		return ENOMEM;
	}
	a->dial = d;
	a->to = *to;
	a->fd = fd;
	list_push(&d->attempts, &a->link);
	uv_poll_start(&a->poll, UV_WRITABLE, on_connect);
	return 0;
}

static void
on_stagger(struct loop_timer *t)
{
	try_next(LIST_OF(t, struct dial, stagger));
}

/* Begin with the next address; the end of all of them is the dial's. */
static void
try_next(struct dial *d)
{
	while (d->next < d->count) {
		const union addr *to = &d->addresses[d->next++];
		int number = attempt_start(d, to);
		if (number != 0) {
			attempt_failed(d, to, number);
			continue;
		}
		if (d->next < d->count)
			loop_timer_set(d->loop, &d->stagger,
			    loop_now(d->loop) + DIAL_STAGGER, on_stagger);
		return;
	}
	if (list_empty(&d->attempts))
		finish(d, NULL, d->err);
}

/* Names ---------------------------------------------------------------------
 */

static void
on_resolved(void *owner, int err, const char *why, const union addr *addresses,
    size_t count)
{
	struct dial *d = owner;
	bool proxy = d->proxy.kind != DIAL_DIRECT;
	char what[DIAL_WHY];

	d->query = NULL;
	if (err != 0) {
		snprintf(what, sizeof(what), "%.64s: %s", why,
		    proxy ? d->proxy.host : d->host);
		finish(d, NULL, because(d, ERR_DNS, "dns", what));
		return;
	}
	memcpy(d->addresses, addresses, count * sizeof(*addresses));
	d->count = count;
	try_next(d);
}

/* Beginning -----------------------------------------------------------------
 */

/* What is said to proxies and in certificates' names must not say more. */
static bool
good_host(const char *host)
{
	size_t n = strlen(host);

	if (n == 0 || n >= DIAL_HOST)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (host[i] <= ' ' || host[i] > '~' ||
		    strchr("/@?#[]\"\\<>", host[i]) != NULL)
			return false;
	}
	return true;
}

/* Numeric addresses need no resolver, but wait for the loop as well. */
static void
on_numeric(struct loop_timer *t)
{
	try_next(LIST_OF(t, struct dial, stagger));
}

static int
find_addresses(struct dial *d, const char *host, uint16_t port)
{
	union addr a;

	if (d->count == 0 && addr_parse_ip(slice_from(host), port, &a) == 0) {
		d->addresses[0] = a;
		d->count = 1;
	}
	if (d->count > 0)
		return loop_timer_set(
		    d->loop, &d->stagger, loop_now(d->loop), on_numeric);
	/* Its place in the heap, so that setting it later cannot fail. */
	if (loop_timer_set(d->loop, &d->stagger, LOOP_NEVER, on_stagger) != 0)
		return ERR_NOMEM;
	return resolve_start(d->loop, host, port, on_resolved, d, &d->query);
}

static struct dial *
dial_new(struct loop *l, const struct dial_config *c)
{
	struct dial *d = alloc_new(sizeof(*d));

	if (d == NULL)
		return NULL;
	d->loop = l;
	d->port = c->port;
	d->tls = c->tls;
	memcpy(d->host, c->host, strlen(c->host) + 1);
	list_init(&d->attempts);
	loop_task_init(&d->funeral, bury);
	if (c->proxy != NULL)
		d->proxy = *c->proxy;
	if (c->address != NULL) {
		d->count = c->address_count > 0 ? c->address_count : 1;
		if (d->count > DIAL_ADDRESSES)
			d->count = DIAL_ADDRESSES;
		memcpy(d->addresses, c->address, d->count * sizeof(union addr));
	}
	return d;
}

int
dial_start(struct loop *l, const struct dial_config *c, dial_fn *done,
    void *owner, struct dial **out)
{
	bool proxy = c->proxy != NULL && c->proxy->kind != DIAL_DIRECT;
	msec due = loop_now(l) + (c->timeout_ms > 0 ? c->timeout_ms : 30000);
	struct dial *d;
	int err = 0;

	if (!good_host(c->host) || (proxy && !good_host(c->proxy->host)))
		return ERR_INVALID;
	assert(c->address == NULL || !proxy);
	d = dial_new(l, c);
	if (d == NULL)
		return ERR_NOMEM;
	if (proxy)
		err = hop_init(&d->hop, &d->proxy, d->host, d->port);
	if (err == 0)
		err = loop_timer_set(l, &d->timeout, due, on_timeout);
	if (err == 0)
		err = proxy ? find_addresses(d, d->proxy.host, d->proxy.port)
			    : find_addresses(d, d->host, d->port);
	if (err != 0) {
		put_down(d);
		return err;
	}
	d->done = done;
	d->owner = owner;
	*out = d;
	return 0;
}
