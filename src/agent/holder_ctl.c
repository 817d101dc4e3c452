#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/holder_ctl.h"

static ssize_t
read_all(int fd, void *to, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, (char *)to + got, len - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

size_t
ctl_read_order(char *text, size_t room)
{
	uint8_t head[HOLDER_HEAD];

	if (read_all(0, head, sizeof(head)) != sizeof(head) || head[4] != 'O')
		return 0;
	size_t len = (size_t)holder_get(head, 4);
	if (len == 0 || len > room || read_all(0, text, len) != (ssize_t)len)
		return 0;
	return len;
}

bool
ctl_stop_waits(void)
{
	uint8_t in[4096];
	ssize_t len = recv(0, in, sizeof(in), MSG_PEEK | MSG_DONTWAIT);

	for (size_t at = 0; len > 0 && at + HOLDER_HEAD < (size_t)len;
	     at += HOLDER_HEAD + (size_t)holder_get(in + at, 4))
		if (in[at + 4] == 'S' && in[at + HOLDER_HEAD] == HOLDER_STOP)
			return true;
	return false;
}

int
ctl_refuse(const char *reason, const char *error)
{
	char text[512];
	uint8_t head[HOLDER_HEAD];

	int n = snprintf(
	    text, sizeof(text), "reason=%s%cerror=%s", reason, 0, error);
	size_t len = n < (int)sizeof(text) ? (size_t)n + 1 : sizeof(text);
	holder_put(head, len, 4);
	head[4] = 'V';
	(void)send(0, head, sizeof(head), MSG_NOSIGNAL | MSG_MORE);
	(void)send(0, text, len, MSG_NOSIGNAL);
	return 1;
}

void
ctl_init(struct ctl *c)
{
	c->listener = -1;
	for (int i = 0; i < HOLDER_CONNS; i++)
		c->conns[i].fd = -1;
}

int
ctl_listen(struct ctl *c)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "ctl" };

	c->listener =
	    socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener < 0)
		return -1;
	return bind(c->listener, (struct sockaddr *)&at, sizeof(at)) != 0 ||
		listen(c->listener, HOLDER_CONNS) != 0
	    ? -1
	    : 0;
}

struct ctl_conn *
ctl_add(struct ctl *c, int fd)
{
	struct ctl_conn *at = &c->conns[0];

	for (int i = 1; i < HOLDER_CONNS && at->fd >= 0; i++) {
		struct ctl_conn *o = &c->conns[i];
		if (o->fd < 0 || o->serial < at->serial)
			at = o;
	}
	ctl_close(at);
	at->fd = fd;
	at->serial = ++c->serial;
	at->owes = 0;
	at->armed = false;
	at->flags = 0;
	at->in_len = at->out_at = at->out_len = 0;
	return at;
}

struct ctl_conn *
ctl_accept(struct ctl *c)
{
	struct ucred who;
	socklen_t size = sizeof(who);

	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 ||
	    (who.uid != geteuid() && who.uid != 0)) {
		close(fd);
		return NULL;
	}
	return ctl_add(c, fd);
}

int
ctl_read(struct ctl_conn *c)
{
	ssize_t n = read(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len);

	if (n > 0) {
		c->in_len += (size_t)n;
		return 0;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	ctl_close(c);
	return -1;
}

int
ctl_next(
    const struct ctl_conn *c, uint8_t *type, const uint8_t **body, size_t *len)
{
	if (c->in_len < HOLDER_HEAD)
		return 0;
	size_t n = (size_t)holder_get(c->in, 4);
	if (n > HOLDER_FRAME_MAX)
		return -1;
	if (c->in_len < HOLDER_HEAD + n)
		return 0;
	*type = c->in[4];
	*body = c->in + HOLDER_HEAD;
	*len = n;
	return 1;
}

void
ctl_eat(struct ctl_conn *c)
{
	size_t n = HOLDER_HEAD + (size_t)holder_get(c->in, 4);

	memmove(c->in, c->in + n, c->in_len - n);
	c->in_len -= n;
}

void
ctl_put(struct ctl_conn *c, uint8_t type, const void *body, size_t len)
{
	holder_put(c->out, len, 4);
	c->out[4] = type;
	memcpy(c->out + HOLDER_HEAD, body, len);
	c->out_at = 0;
	c->out_len = HOLDER_HEAD + len;
}

bool
ctl_idle(const struct ctl_conn *c)
{
	return c->out_at == c->out_len;
}

int
ctl_write(struct ctl_conn *c)
{
	while (c->fd >= 0 && !ctl_idle(c)) {
		ssize_t n = send(c->fd, c->out + c->out_at,
		    c->out_len - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			ctl_close(c);
			return -1;
		}
		c->out_at += (size_t)n;
	}
	return 0;
}

void
ctl_close(struct ctl_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}
