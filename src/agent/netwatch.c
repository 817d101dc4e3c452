#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "io/sys.h"

#include "agent/netwatch.h"

static void
on_calm(struct loop_timer *t)
{
	struct netwatch *n = LIST_OF(t, struct netwatch, calm);

	n->changed(n->arg);
}

/* What changed does not matter: all is read, and the burst waited for. */
static void
on_poll(uv_poll_t *h, int status, int events)
{
	struct netwatch *n = LIST_OF(h, struct netwatch, poll);
	uint8_t skip[8192];

	(void)status;
	(void)events;
	while (recv(n->fd, skip, sizeof(skip), MSG_DONTWAIT) > 0)
		continue;
	(void)loop_timer_set(
	    n->loop, &n->calm, loop_now(n->loop) + NETWATCH_CALM, on_calm);
}

static int
open_socket(void)
{
	const struct sockaddr_nl sa = { .nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR |
		    RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
		    RTMGRP_IPV6_ROUTE };
	int fd = socket(
	    AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd >= 0 &&
	    bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) != 0) {
		int number = errno;
		close(fd);
		errno = number;
		return -1;
	}
	return fd;
}

int
netwatch_open(
    struct netwatch *n, struct loop *l, void (*changed)(void *arg), void *arg)
{
	*n = (struct netwatch){
		.loop = l, .changed = changed, .arg = arg, .fd = -1
	};
	int fd = open_socket();
	if (fd < 0)
		return sys_err(errno);
	if (uv_poll_init(&l->uv, &n->poll, fd) != 0) {
		close(fd);
		return ERR_IO;
	}
	n->fd = fd;
	(void)uv_poll_start(&n->poll, UV_READABLE, on_poll);
	return 0;
}

static void
on_closed(uv_handle_t *h)
{
	struct netwatch *n = LIST_OF(h, struct netwatch, poll);

	close(n->fd);
	n->fd = -1;
}

void
netwatch_close(struct netwatch *n)
{
	if (n->fd < 0)
		return;
	loop_timer_stop(n->loop, &n->calm);
	uv_close((uv_handle_t *)&n->poll, on_closed);
}
