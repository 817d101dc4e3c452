/*
 * echo_raw: a TCP echo on epoll, the floor that others are measured against
 * (bench).
 *
 * usage: echo_raw
 *
 * Prints "ready PORT".  One thread, one receive buffer; what a socket does
 * not take is kept, and no more is read until it has gone.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVE = 512 * 1024, EVENTS = 512 };

struct conn {
	int fd;
	uint8_t *kept; /* owned; not yet sent */
	size_t at, end;
};

static uint8_t receive[RECEIVE];

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static void
watch(int epoll, struct conn *c, int op, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = c };

	if (epoll_ctl(epoll, op, c->fd, &e) != 0)
		fail("epoll_ctl");
}

static void
drop(struct conn *c)
{
	close(c->fd);
	free(c->kept);
	free(c);
}

static void
accept_one(int epoll, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct conn *c = fd < 0 ? NULL : calloc(1, sizeof(*c));
	int on = 1;

	if (c == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	c->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	watch(epoll, c, EPOLL_CTL_ADD, EPOLLIN);
}

static void
keep(int epoll, struct conn *c, const uint8_t *bytes, size_t n)
{
	c->kept = malloc(n);
	if (c->kept == NULL)
		fail("malloc");
	memcpy(c->kept, bytes, n);
	c->at = 0;
	c->end = n;
	watch(epoll, c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void
on_readable(int epoll, struct conn *c)
{
	ssize_t n = recv(c->fd, receive, sizeof(receive), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(c);
		return;
	}
	ssize_t went = send(c->fd, receive, (size_t)n, MSG_NOSIGNAL);
	if (went < 0 && errno != EAGAIN) {
		drop(c);
		return;
	}
	if (went < n) {
		size_t sent = went < 0 ? 0 : (size_t)went;
		keep(epoll, c, receive + sent, (size_t)n - sent);
	}
}

static void
on_writable(int epoll, struct conn *c)
{
	ssize_t n = send(c->fd, c->kept + c->at, c->end - c->at, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN) {
		drop(c);
		return;
	}
	c->at += n < 0 ? 0 : (size_t)n;
	if (c->at < c->end)
		return;
	free(c->kept);
	c->kept = NULL;
	watch(epoll, c, EPOLL_CTL_MOD, EPOLLIN);
}

static int
listen_here(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) != 0)
		fail("listen");
	printf("ready %d\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

int
main(void)
{
	struct rlimit files;
	struct epoll_event events[EVENTS];
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	struct conn listener = { .fd = listen_here() };
	watch(epoll, &listener, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (c == &listener)
				accept_one(epoll, c->fd);
			else if (c->kept != NULL)
				on_writable(epoll, c);
			else
				on_readable(epoll, c);
		}
	}
}
