/*
 * tunnel_load: what bench/tunnel drives: a service, its client, and a plain
 * relay to compare with.  One thread each, epoll.
 *
 *   tunnel_load service ADDR:PORT
 *   tunnel_load relay ADDR:PORT TO_ADDR:PORT [splice]
 *   tunnel_load client ADDR:PORT down|up|both MIB
 *   tunnel_load client ADDR:PORT small SECONDS STREAMS BYTES
 *
 * A connection begins with 'd' (the service sends until it is cut), 'u' (it
 * reads), 'e' (it echoes), 'b' (the first two at once).
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/slice.h"

#include "io/addr.h"

enum {
	EVENTS = 64,
	BLOCK = 64 * 1024,
	STREAMS_MAX = 1024,
	SMALL_MAX = 16 * 1024,
};

static uint8_t block[BLOCK];

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
tune(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static union addr
address(const char *text)
{
	union addr a;

	if (addr_parse(slice_from(text), &a) != 0) {
		fprintf(stderr, "tunnel_load: %s is no address\n", text);
		exit(2);
	}
	return a;
}

static int
dial(const union addr *a)
{
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, &a->sa, addr_len(&a->sa)) != 0)
		die("connect");
	tune(fd);
	return fd;
}

/* Says where it listens, for whoever started it. */
static int
listen_at(const union addr *a)
{
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;
	union addr at;
	socklen_t len = sizeof(at);
	char text[ADDR_TEXT];

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, &a->sa, addr_len(&a->sa)) != 0 ||
	    listen(fd, 1024) != 0 || getsockname(fd, &at.sa, &len) != 0)
		die("listen");
	addr_format(&at.sa, text);
	printf("%s\n", text);
	fflush(stdout);
	return fd;
}

/* One end of something that epoll watches. */
struct end {
	int fd;
	struct end *peer;   /* relay: the other side */
	int pipe[2];        /* relay by splice: what comes from here */
	uint8_t *held;      /* relay: bytes that the peer did not take */
	size_t from, until; /* of held, or bytes in the pipe */
	uint8_t mode;       /* service: 0 before its first byte */
	size_t owed;        /* service: to be echoed */
	bool eof, ended;
	uint32_t mask;
};

static int poll_fd;

static void
watch(struct end *e, uint32_t mask)
{
	struct epoll_event ev = { .events = mask, .data.ptr = e };

	if (e->mask == mask)
		return;
	if (epoll_ctl(poll_fd, e->mask == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
		e->fd, &ev) != 0)
		die("epoll_ctl");
	e->mask = mask;
}

static struct end *
end_new(int fd)
{
	struct end *e = calloc(1, sizeof(*e));

	if (e == NULL)
		die("calloc");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	tune(fd);
	e->fd = fd;
	return e;
}

/* Closed ones are freed behind the events that may name them. */
static struct end *dead[2 * EVENTS + 2];
static size_t dead_count;

static void
bury(struct end *e)
{
	if (e->fd < 0)
		return;
	close(e->fd);
	e->fd = -1;
	if (e->pipe[0] > 0) {
		close(e->pipe[0]);
		close(e->pipe[1]);
	}
	dead[dead_count++] = e;
}

static void
reap(void)
{
	while (dead_count > 0) {
		struct end *e = dead[--dead_count];
		free(e->held);
		free(e);
	}
}

/* The service -------------------------------------------------------------- */

static void
serve(struct end *e, uint32_t events)
{
	static uint8_t in[4 * BLOCK];
	ssize_t n = 1;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = read(e->fd, in, e->mode == 'e' ? SMALL_MAX : sizeof(in));
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			bury(e);
			return;
		}
		if (n > 0 && e->mode == 0)
			e->mode = in[0];
		else if (n > 0 && e->mode == 'e' &&
		    write(e->fd, in, (size_t)n) != n)
			bury(e);
	}
	if (e->fd < 0 || (e->mode != 'd' && e->mode != 'b'))
		return;
	for (int i = 0; i < 8; i++) {
		n = write(e->fd, block, sizeof(block));
		if (n < 0 && errno != EAGAIN) {
			bury(e);
			return;
		}
		if (n < (ssize_t)sizeof(block))
			break;
	}
	watch(e, EPOLLIN | EPOLLOUT);
}

/* The relay ---------------------------------------------------------------- */

static bool by_splice;

/* What has come from e goes to its peer, as far as that takes it. */
static bool
push(struct end *e)
{
	while (e->from < e->until) {
		ssize_t n = by_splice
		    ? splice(e->pipe[0], NULL, e->peer->fd, NULL,
			  e->until - e->from, SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
		    : write(e->peer->fd, e->held + e->from, e->until - e->from);
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n <= 0)
			break;
		e->from += (size_t)n;
	}
	if (e->from == e->until) {
		e->from = e->until = 0;
		if (e->eof && !e->peer->ended) {
			e->peer->ended = true;
			shutdown(e->peer->fd, SHUT_WR);
		}
	}
	return true;
}

static bool
pull(struct end *e)
{
	ssize_t n;

	if (e->eof || e->until > 0)
		return true;
	n = by_splice ? splice(e->fd, NULL, e->pipe[1], NULL, BLOCK,
			    SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
		      : read(e->fd, e->held, BLOCK);
	if (n < 0)
		return errno == EAGAIN;
	if (n == 0)
		e->eof = true;
	e->until = (size_t)n;
	return push(e);
}

static void
mind(struct end *e)
{
	uint32_t mask = 0;

	if (!e->eof && e->until == 0)
		mask |= EPOLLIN;
	if (e->peer->until > 0)
		mask |= EPOLLOUT;
	watch(e, mask == 0 ? EPOLLRDHUP : mask);
}

static void
relay(struct end *e, uint32_t events)
{
	struct end *peer = e->peer;
	bool good = true;

	if (events & EPOLLOUT)
		good = push(peer);
	if (good && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		good = pull(e);
	if (!good || (e->eof && peer->eof && e->until + peer->until == 0)) {
		bury(e);
		bury(peer);
		return;
	}
	mind(e);
	mind(peer);
}

static struct end *
relay_end(int fd)
{
	struct end *e = end_new(fd);

	if (by_splice && pipe2(e->pipe, O_NONBLOCK | O_CLOEXEC) != 0)
		die("pipe");
	if (!by_splice && (e->held = malloc(BLOCK)) == NULL)
		die("malloc");
	return e;
}

static void __attribute__((noreturn)) run(int listener, const union addr *to)
{
	struct epoll_event events[EVENTS];
	struct end door = { .fd = listener };

	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	watch(&door, EPOLLIN);
	for (;;) {
		int n = epoll_wait(poll_fd, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct end *e = events[i].data.ptr;
			if (e == &door) {
				int fd =
				    accept4(listener, NULL, NULL, SOCK_CLOEXEC);
				if (fd < 0)
					continue;
				if (to == NULL) {
					watch(end_new(fd), EPOLLIN);
					continue;
				}
				struct end *a = relay_end(fd);
				a->peer = relay_end(dial(to));
				a->peer->peer = a;
				mind(a);
				mind(a->peer);
			} else if (e->fd >= 0 && to == NULL) {
				serve(e, events[i].events);
			} else if (e->fd >= 0) {
				relay(e, events[i].events);
			}
		}
		reap();
	}
}

/* The client --------------------------------------------------------------- */

/* MB/s of so many bytes one way or both. */
static void
bulk(const union addr *to, uint8_t mode, size_t mib)
{
	static uint8_t in[4 * BLOCK];
	size_t want = mib << 20, got = 0, sent = 0;
	bool down = mode != 'u', up = mode != 'd';
	int fd = dial(to);
	struct epoll_event ev = { .events = (down ? EPOLLIN : 0U) |
		    (up ? EPOLLOUT : 0U) };
	double began;

	if (write(fd, &mode, 1) != 1)
		die("write");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &ev);
	began = now();
	while ((down && got < want) || (up && sent < want)) {
		if (epoll_wait(poll_fd, &ev, 1, 10000) != 1)
			die("stalled");
		ssize_t n;
		if ((ev.events & EPOLLIN) && (n = read(fd, in, sizeof(in))) > 0)
			got += (size_t)n;
		if ((ev.events & EPOLLOUT) &&
		    (n = write(fd, block, sizeof(block))) > 0)
			sent += (size_t)n;
		if (ev.events & (EPOLLHUP | EPOLLERR))
			die("cut");
	}
	printf("%.1f\n", (double)(got + sent) / 1e6 / (now() - began));
}

static int
by_time(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Requests a second, p50 and p99 in microseconds, one at a time a stream. */
static void
small(const union addr *to, double seconds, int streams, size_t size)
{
	enum { SAMPLES = 4 << 20 };
	static uint8_t in[SMALL_MAX];
	static int fds[STREAMS_MAX];
	static size_t got[STREAMS_MAX];
	static double began[STREAMS_MAX];
	struct epoll_event events[EVENTS];
	double *took = malloc(SAMPLES * sizeof(*took));
	size_t count = 0;
	uint8_t mode = 'e';

	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (took == NULL || streams > STREAMS_MAX || size > SMALL_MAX)
		die("too many");
	for (int i = 0; i < streams; i++) {
		struct epoll_event ev = { .events = EPOLLIN,
			.data.u32 = (uint32_t)i };
		fds[i] = dial(to);
		if (write(fds[i], &mode, 1) != 1)
			die("write");
		usleep(1000);
		epoll_ctl(poll_fd, EPOLL_CTL_ADD, fds[i], &ev);
	}
	usleep(200000);
	double start = now(), t = start;
	for (int i = 0; i < streams; i++) {
		began[i] = now();
		if (write(fds[i], block, size) != (ssize_t)size)
			die("write");
	}
	while (t - start < seconds && count < SAMPLES) {
		int n = epoll_wait(poll_fd, events, EVENTS, 10000);
		if (n <= 0)
			die("stalled");
		for (int k = 0; k < n; k++) {
			uint32_t i = events[k].data.u32;
			ssize_t r = read(fds[i], in, size - got[i]);
			if (r <= 0)
				die("cut");
			got[i] += (size_t)r;
			if (got[i] < size)
				continue;
			got[i] = 0;
			t = now();
			if (count < SAMPLES)
				took[count++] = t - began[i];
			began[i] = t;
			if (write(fds[i], block, size) != (ssize_t)size)
				die("write");
		}
	}
	qsort(took, count, sizeof(*took), by_time);
	printf("%.0f %.0f %.0f\n", (double)count / (t - start),
	    took[count / 2] * 1e6, took[count * 99 / 100] * 1e6);
	free(took);
}

int
main(int argc, char **argv)
{
	union addr a, to;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 3) {
		fprintf(stderr, "tunnel_load: see its first lines\n");
		return 2;
	}
	a = address(argv[2]);
	if (strcmp(argv[1], "service") == 0)
		run(listen_at(&a), NULL);
	if (strcmp(argv[1], "relay") == 0 && argc >= 4) {
		by_splice = argc > 4;
		to = address(argv[3]);
		run(listen_at(&a), &to);
	}
	if (argc >= 7)
		small(&a, strtod(argv[4], NULL), (int)strtol(argv[5], NULL, 10),
		    (size_t)strtol(argv[6], NULL, 10));
	else if (argc == 5)
		bulk(
		    &a, (uint8_t)argv[3][0], (size_t)strtol(argv[4], NULL, 10));
	return 0;
}
