#include <errno.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/loop.h"
#include "io/sys.h"

#include "io/dgram.h"

struct dgram {
	uv_poll_t poll;
	const struct dgram_ops *ops;
	void *owner;
	int fd;
};

static void
on_poll(uv_poll_t *h, int status, int events)
{
	struct dgram *d = LIST_OF(h, struct dgram, poll);

	(void)events;
	/* libuv stops the handle when it tells of EPOLLERR; what that was
	 * dgram_receive says. */
	if (status < 0)
		(void)uv_poll_start(&d->poll, UV_READABLE, on_poll);
	d->ops->ready(d->owner);
}

static int
open_socket(const union addr *local, const union addr *remote, int *out)
{
	int family = local != NULL ? local->sa.sa_family : remote->sa.sa_family;
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return sys_err(errno);
	if ((local != NULL &&
		bind(fd, &local->sa, addr_len(&local->sa)) != 0) ||
	    (remote != NULL &&
		connect(fd, &remote->sa, addr_len(&remote->sa)) != 0)) {
		int err = sys_err(errno);
		close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

int
dgram_open(struct loop *l, const union addr *local, const union addr *remote,
    const struct dgram_ops *ops, void *owner, struct dgram **out)
{
	struct dgram *d;
	int fd = -1;

	if (local == NULL && remote == NULL)
		return ERR_INVALID;
	int err = open_socket(local, remote, &fd);
	if (err != 0)
		return err;
	d = alloc_new(sizeof(*d));
	if (d == NULL || uv_poll_init(&l->uv, &d->poll, fd) != 0) {
		alloc_free(d);
		close(fd);
		return ERR_NOMEM;
	}
	d->ops = ops;
	d->owner = owner;
	d->fd = fd;
	(void)uv_poll_start(&d->poll, UV_READABLE, on_poll);
	*out = d;
	return 0;
}

static void
on_closed(uv_handle_t *h)
{
	struct dgram *d = LIST_OF(h, struct dgram, poll);

	d->ops->closed(d->owner);
	alloc_free(d);
}

void
dgram_close(struct dgram *d)
{
	uv_close((uv_handle_t *)&d->poll, on_closed);
	close(d->fd);
	d->fd = -1;
}

int
dgram_receive(
    struct dgram *d, uint8_t *to, size_t room, size_t *n, union addr *from)
{
	union addr a = { .in6 = { 0 } };
	socklen_t len = sizeof(a);
	ssize_t got;

	do
		got = recvfrom(d->fd, to, room, 0, &a.sa, &len);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? ERR_AGAIN : sys_err(errno);
	*n = (size_t)got;
	if (from != NULL)
		*from = a;
	return 0;
}

int
dgram_send(struct dgram *d, struct slice bytes, const union addr *to)
{
	ssize_t went;

	do
		went = sendto(d->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL,
		    to == NULL ? NULL : &to->sa,
		    to == NULL ? 0 : addr_len(&to->sa));
	while (went < 0 && errno == EINTR);
	if (went >= 0)
		return 0;
	if (errno == EAGAIN || errno == ENOBUFS)
		return ERR_AGAIN;
	return errno == EMSGSIZE ? ERR_TOO_BIG : sys_err(errno);
}

void
dgram_address(const struct dgram *d, union addr *out)
{
	socklen_t len = sizeof(*out);

	*out = (union addr){ .in6 = { 0 } };
	(void)getsockname(d->fd, &out->sa, &len);
}
