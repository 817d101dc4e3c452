#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include "support/streams.h"

static void
on_read(void *owner, uint8_t *bytes, size_t n)
{
	struct probe *p = owner;

	p->reads++;
	buf_put(&p->got, (struct slice){ bytes, n });
	if (p->echo)
		stream_write(p->s, (struct slice){ bytes, n });
	if (p->on_read != NULL)
		p->on_read(p);
}

static void
on_eof(void *owner)
{
	struct probe *p = owner;

	p->eof = true;
}

static void
on_pull(void *owner, size_t room)
{
	struct probe *p = owner;

	p->pulls++;
	if (p->on_pull != NULL)
		p->on_pull(p, room);
}

static void
on_drained(void *owner)
{
	struct probe *p = owner;

	p->drains++;
}

static void
on_closed(void *owner, int why)
{
	struct probe *p = owner;

	assert(!p->closed);
	p->closed = true;
	p->why = why;
	p->s = NULL;
}

static const struct stream_ops ops = {
	.read = on_read,
	.eof = on_eof,
	.pull = on_pull,
	.drained = on_drained,
	.closed = on_closed,
};

void
probe_init(struct probe *p)
{
	*p = (struct probe){ 0 };
	buf_init(&p->got, 256 * 1024 * 1024);
}

void
probe_fini(struct probe *p)
{
	buf_fini(&p->got);
}

void
probe_start(struct probe *p, struct stream *s)
{
	p->s = s;
	stream_start(s, &ops, p);
}

void
probe_accept(void *owner, struct stream *s)
{
	probe_start(owner, s);
}

void
tcp_pair(int fd[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), bad;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bad = bind(l, (struct sockaddr *)&a, sizeof(a));
	bad |= listen(l, 1);
	bad |= getsockname(l, (struct sockaddr *)&a, &len);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bad |= connect(fd[0], (struct sockaddr *)&a, sizeof(a));
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	bad |= fcntl(fd[0], F_SETFL, O_NONBLOCK);
	bad |= fcntl(fd[1], F_SETFL, O_NONBLOCK);
	assert(!bad && fd[1] >= 0);
	stream_tune(fd[0]);
	stream_tune(fd[1]);
	close(l);
}
