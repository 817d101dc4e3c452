#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/sink.h"
#include "io/sys.h"

enum { KEPT_MAX = 64 << 20 };

/* The same pipe or terminal under a file description of our own. */
static int
open_again(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void
sink_init(struct sink *s, int fd)
{
	struct stat st;

	*s = (struct sink){ .fd = fd, .way = SINK_PLAIN };
	buf_init(&s->kept, KEPT_MAX);
	if (fstat(fd, &st) != 0)
		s->err = ERR_CLOSED;
	else if (S_ISSOCK(st.st_mode))
		s->way = SINK_SOCKET;
	else if (S_ISFIFO(st.st_mode) || isatty(fd)) {
		int own = open_again(fd);

		s->way = own < 0 ? SINK_CAREFUL : SINK_OWN;
		s->fd = own < 0 ? fd : own;
	}
}

void
sink_fini(struct sink *s)
{
	if (s->way == SINK_OWN)
		close(s->fd);
	buf_fini(&s->kept);
}

static ssize_t
write_some(const struct sink *s, struct slice b)
{
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };

	switch ((enum sink_way)s->way) {
	case SINK_PLAIN:
	case SINK_OWN:
		return write(s->fd, b.ptr, b.len);
	case SINK_SOCKET:
		return send(s->fd, b.ptr, b.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	case SINK_CAREFUL:
		break;
	}
	if (poll(&p, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(s->fd, b.ptr, b.len < PIPE_BUF ? b.len : PIPE_BUF);
}

/* Write until nothing more goes; *b is the rest. */
static int
drain(struct sink *s, struct slice *b)
{
	while (s->err == 0 && b->len > 0) {
		ssize_t n = write_some(s, *b);

		if (n >= 0)
			*b = slice_from_at(*b, (size_t)n);
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			s->err = errno == EPIPE || errno == ECONNRESET
			    ? ERR_CLOSED
			    : sys_err(errno);
	}
	return s->err;
}

int
sink_put(struct sink *s, struct slice bytes)
{
	if (s->err == 0 && !sink_pending(s))
		drain(s, &bytes);
	if (s->err == 0 && bytes.len > 0) {
		buf_put(&s->kept, bytes);
		s->err = s->kept.err;
	}
	return s->err;
}

int
sink_flush(struct sink *s)
{
	struct slice kept = buf_peek(&s->kept), rest = kept;

	drain(s, &rest);
	buf_eat(&s->kept, kept.len - rest.len);
	if (s->err != 0)
		buf_clear(&s->kept);
	return s->err;
}

bool
sink_pending(const struct sink *s)
{
	return buf_peek(&s->kept).len > 0;
}
