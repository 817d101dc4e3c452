#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"

#include "io/log.h"
#include "io/loop.h"
#include "io/proxy2.h"
#include "io/stream.h"
#include "io/sys.h"
#include "io/tls.h"

#include "io/listen.h"

enum { PAUSE_MS = 100, FIRST_FD = 3 };

struct listener {
	uv_poll_t poll;
	struct loop *loop; /* borrowed */
	struct tls_server *tls;
	accept_fn *on_accept;
	void *owner;
	union addr address;
	struct list pending; /* struct pending, oldest first */
	unsigned pending_count, pending_cap;
	msec handshake_ms;
	struct loop_timer timer; /* the oldest pending's end, or a pause's */
	int fd;
	int reserve; /* a descriptor to be given up for one accept; or -1 */
	bool proxy;
	bool paused; /* by the caller */
	bool full;   /* by us: until the timer or an end of a pending one */
	bool polling;
	bool inherited;
	bool short_of_fds; /* logged */
	bool closing;
};

/* A connection that is not ready to be handed over. */
struct pending {
	struct listener *listener;
	struct list link;
	msec since;
	void (*drop)(struct pending *p); /* end it, and the memory */
};

/* One whose PROXY header is awaited. */
struct proxied {
	struct pending base;
	uv_poll_t poll;
	union addr from;
	int fd; /* -1 once passed on */
	size_t got;
	uint8_t head[PROXY2_MAX];
};

static void watch(struct listener *l);
static void on_timer(struct loop_timer *t);

/* Pending ------------------------------------------------------------------ */

static void
set_timer(struct listener *l)
{
	msec due;

	if (l->full && !l->closing)
		due = loop_now(l->loop) + PAUSE_MS;
	else if (!list_empty(&l->pending))
		due = LIST_OF(l->pending.next, struct pending, link)->since +
		    l->handshake_ms;
	else
		due = LOOP_NEVER; /* its place in the heap is kept */
	loop_timer_set(l->loop, &l->timer, due, on_timer);
}

static void
pending_add(struct listener *l, struct pending *p)
{
	p->listener = l;
	p->since = loop_now(l->loop);
	list_push(&l->pending, &p->link);
	l->pending_count++;
	if (l->pending.next == &p->link)
		set_timer(l);
}

static void
pending_remove(struct pending *p)
{
	struct listener *l = p->listener;

	list_remove(&p->link);
	l->pending_count--;
	if (l->full && !l->closing) {
		l->full = false;
		watch(l);
	}
}

/* At the cap: make room by the oldest if it had its time. */
static bool
make_room(struct listener *l)
{
	struct pending *p = LIST_OF(l->pending.next, struct pending, link);

	if (l->pending_count < l->pending_cap)
		return true;
	if (loop_now(l->loop) - p->since < LISTEN_PATIENCE)
		return false;
	p->drop(p);
	return true;
}

static void
on_timer(struct loop_timer *t)
{
	struct listener *l = LIST_OF(t, struct listener, timer);

	while (!list_empty(&l->pending)) {
		struct pending *p =
		    LIST_OF(l->pending.next, struct pending, link);
		if (p->since + l->handshake_ms > loop_now(l->loop))
			break;
		p->drop(p);
	}
	l->full = false;
	watch(l);
	set_timer(l);
}

/* Handing over ------------------------------------------------------------- */

/* One whose TLS handshake goes on. */
struct shaking {
	struct pending base;
	struct stream *s;
};

static void
shaking_drop(struct pending *base)
{
	struct shaking *p = LIST_OF(base, struct shaking, base);

	pending_remove(base);
	stream_abort(p->s, false);
	alloc_free(p);
}

static void
on_shaken(void *owner, int err, const char *why)
{
	struct shaking *p = owner;
	struct listener *l = p->base.listener;
	struct stream *s = p->s;
	char from[ADDR_TEXT];

	if (err == 0) {
		pending_remove(&p->base);
		alloc_free(p);
		l->on_accept(l->owner, s);
		return;
	}
	addr_format(stream_remote(s), from);
	log_debug("tls_handshake_failed", kv_c("from", from), kv_e("err", err),
	    kv_c("why", why));
	pending_remove(&p->base);
	alloc_free(p);
}

static void
await_handshake(struct listener *l, struct stream *s)
{
	struct shaking *p = alloc_new(sizeof(*p));

	if (p == NULL) {
		stream_abort(s, false);
		return;
	}
	p->s = s;
	p->base.drop = shaking_drop;
	pending_add(l, &p->base);
	if (tls_accept(s, l->tls, on_shaken, p) != 0)
		shaking_drop(&p->base);
}

static void
hand_over(struct listener *l, int fd, const union addr *from)
{
	struct stream *s;

	if (stream_new(l->loop, fd, &from->sa, &s) != 0)
		close(fd);
	else if (l->tls != NULL)
		await_handshake(l, s);
	else
		l->on_accept(l->owner, s);
}

/* The PROXY header --------------------------------------------------------- */

static void
on_proxied_closed(uv_handle_t *h)
{
	alloc_free(LIST_OF(h, struct proxied, poll));
}

static void
proxied_drop(struct pending *base)
{
	struct proxied *p = LIST_OF(base, struct proxied, base);

	pending_remove(base);
	uv_close((uv_handle_t *)&p->poll, on_proxied_closed);
	if (p->fd >= 0)
		close(p->fd);
}

/* Not a byte beyond the header is read: the rest is TLS's or the stream's. */
static void
on_header(uv_poll_t *h, int status, int events)
{
	struct proxied *p = LIST_OF(h, struct proxied, poll);
	struct listener *l = p->base.listener;
	size_t want = proxy2_length((struct slice){ p->head, p->got });
	struct proxy2 head = { 0 };
	int fd = p->fd, used;

	(void)events;
	ssize_t n =
	    status < 0 ? 0 : recv(fd, p->head + p->got, want - p->got, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	p->got += n > 0 ? (size_t)n : 0;
	used = proxy2_parse((struct slice){ p->head, p->got }, &head);
	if (n > 0 && used == 0)
		return;
	if (n <= 0 || used < 0) {
		log_debug("proxy_header_refused",
		    kv_e("err", used < 0 ? used : ERR_CLOSED));
		proxied_drop(&p->base);
		return;
	}
	if (!head.local)
		memcpy(&p->from, &head.from, sizeof(head.from));
	p->fd = -1;
	proxied_drop(&p->base);
	hand_over(l, fd, &p->from);
}

static void
await_header(struct listener *l, int fd, const union addr *from)
{
	struct proxied *p = alloc_new(sizeof(*p));

	if (p == NULL || uv_poll_init(&l->loop->uv, &p->poll, fd) != 0) {
		alloc_free(p);
		close(fd);
		return;
	}
	p->fd = fd;
	p->from = *from;
	p->base.drop = proxied_drop;
	pending_add(l, &p->base);
	uv_poll_start(&p->poll, UV_READABLE, on_header);
}

/* Accepting ---------------------------------------------------------------- */

/*
 * No descriptor is left.  The reserve takes the connection so that it can
 * be closed; without one (someone else was quicker) nothing is accepted for
 * a moment.
 */
static bool
refuse_one(struct listener *l, int number)
{
	if (!l->short_of_fds)
		log_error("out_of_descriptors",
		    kv_c("errno", strerrorname_np(number)));
	l->short_of_fds = true;
	if (l->reserve < 0)
		l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (l->reserve < 0)
		return false;
	close(l->reserve);
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd >= 0;
}

static void
rest(struct listener *l)
{
	l->full = true;
	watch(l);
	set_timer(l);
}

/* False when there is no more to accept now. */
static bool
accept_one(struct listener *l)
{
	union addr from = { 0 };
	socklen_t len = sizeof(from);
	int fd;

	if (!make_room(l)) {
		rest(l);
		return false;
	}
	fd = accept4(l->fd, &from.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		if (refuse_one(l, errno))
			return true;
		if (l->reserve < 0)
			rest(l);
		return false;
	}
	if (fd < 0 && errno == EAGAIN)
		return false;
	if (fd < 0 && (errno == ENOBUFS || errno == ENOMEM)) {
		rest(l);
		return false;
	}
	if (fd < 0) /* this connection is over already (accept(2)) */
		return true;
	l->short_of_fds = false;
	addr_unmap(&from);
	if (l->proxy)
		await_header(l, fd, &from);
	else
		hand_over(l, fd, &from);
	return true;
}

static void
on_readable(uv_poll_t *h, int status, int events)
{
	struct listener *l = LIST_OF(h, struct listener, poll);

	(void)status;
	(void)events;
	for (int i = 0; i < LISTEN_BURST && l->polling; i++) {
		if (!accept_one(l))
			return;
	}
}

static void
watch(struct listener *l)
{
	bool want = !l->paused && !l->full && !l->closing;

	if (want == l->polling)
		return;
	l->polling = want;
	if (want)
		uv_poll_start(&l->poll, UV_READABLE, on_readable);
	else
		uv_poll_stop(&l->poll);
}

/* Opening ------------------------------------------------------------------ */

/* A path whose owner is dead answers no one. */
static void
unlink_stale(const union addr *a)
{
	struct stat st;
	int fd;

	if (lstat(a->un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, &a->sa, sizeof(a->un)) != 0 && errno == ECONNREFUSED)
		unlink(a->un.sun_path);
	close(fd);
}

static void
set_option(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

static int
bind_and_listen(int fd, const struct listen_config *c)
{
	const union addr *a = &c->address;

	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (c->reuse_port)
		set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (a->sa.sa_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY,
		    !IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr));
	if (a->sa.sa_family == AF_UNIX) {
		unlink_stale(a);
		/* The path gets the socket's mode, without a moment of more. */
		if (fchmod(fd, 0600) != 0)
			return -1;
	}
	if (bind(fd, &a->sa, addr_len(&a->sa)) != 0)
		return -1;
	return listen(fd, LISTEN_BACKLOG);
}

/* A bound socket, or ERR_* and why. */
static int
open_socket(const struct listen_config *c, char why[LISTEN_WHY])
{
	char text[ADDR_TEXT];
	int fd, err;

	if (c->inherited) {
		fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
		return c->fd;
	}
	fd = socket(c->address.sa.sa_family,
	    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && bind_and_listen(fd, c) == 0)
		return fd;
	err = errno;
	if (fd >= 0)
		close(fd);
	if (c->address.sa.sa_family == AF_UNIX)
		snprintf(text, sizeof(text), "%s", c->address.un.sun_path);
	else
		addr_format(&c->address.sa, text);
	snprintf(why, LISTEN_WHY, "cannot listen on %.120s: %s", text,
	    strerrordesc_np(err));
	return sys_err(err);
}

bool
listen_is_free(const union addr *a)
{
	bool busy;
	int fd;

	if (a->sa.sa_family == AF_UNIX)
		return true;
	fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return true;
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	busy = bind(fd, &a->sa, addr_len(&a->sa)) != 0 && errno == EADDRINUSE;
	close(fd);
	return !busy;
}

static struct listener *
listener_new(struct loop *loop, const struct listen_config *c, int fd)
{
	struct listener *l = alloc_new(sizeof(*l));
	socklen_t len = sizeof(l->address);

	if (l == NULL)
		return NULL;
	l->loop = loop;
	l->tls = c->tls;
	l->fd = fd;
	l->proxy = c->proxy;
	l->inherited = c->inherited;
	l->pending_cap = c->pending_cap > 0 ? c->pending_cap : LISTEN_BACKLOG;
	l->handshake_ms = c->handshake_ms > 0 ? c->handshake_ms : 10000;
	list_init(&l->pending);
	getsockname(fd, &l->address.sa, &len);
	if (loop_timer_set(loop, &l->timer, LOOP_NEVER, on_timer) != 0 ||
	    uv_poll_init(&loop->uv, &l->poll, fd) != 0) {
		loop_timer_stop(loop, &l->timer);
		alloc_free(l);
		return NULL;
	}
	l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return l;
}

int
listener_open(struct loop *loop, const struct listen_config *c,
    accept_fn *on_accept, void *owner, struct listener **out,
    char why[LISTEN_WHY])
{
	int fd = open_socket(c, why);
	struct listener *l;

	if (fd < 0)
		return fd;
	l = listener_new(loop, c, fd);
	if (l == NULL) {
		close(fd);
		snprintf(why, LISTEN_WHY, "cannot listen: out of memory");
		return ERR_NOMEM;
	}
	l->on_accept = on_accept;
	l->owner = owner;
	if (l->address.sa.sa_family != AF_UNIX)
		stream_tune(fd);
	watch(l);
	*out = l;
	return 0;
}

static void
on_listener_closed(uv_handle_t *h)
{
	alloc_free(LIST_OF(h, struct listener, poll));
}

void
listener_close(struct listener *l)
{
	if (l == NULL)
		return;
	l->closing = true;
	l->polling = false;
	while (!list_empty(&l->pending)) {
		struct pending *p =
		    LIST_OF(l->pending.next, struct pending, link);
		p->drop(p);
	}
	loop_timer_stop(l->loop, &l->timer);
	uv_close((uv_handle_t *)&l->poll, on_listener_closed);
	if (l->address.sa.sa_family == AF_UNIX && !l->inherited)
		unlink(l->address.un.sun_path);
	close(l->fd);
	if (l->reserve >= 0)
		close(l->reserve);
}

void
listener_pause(struct listener *l, bool pause)
{
	l->paused = pause;
	watch(l);
}

const union addr *
listener_address(const struct listener *l)
{
	return &l->address;
}

unsigned
listener_pending(const struct listener *l)
{
	return l->pending_count;
}

int
listen_inherited(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t who = 0, count = 0;

	if (slice_u64(slice_from(pid), INT32_MAX, &who) != 0 ||
	    slice_u64(slice_from(fds), 1024, &count) != 0 ||
	    who != (uint64_t)getpid())
		count = 0;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	for (int fd = FIRST_FD; fd < FIRST_FD + (int)count; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return (int)count;
}
