#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/sys.h"

#include "agent/local.h"

enum { BACKLOG = 8, ASK_SECONDS = 5 };

struct answer {
	uv_pipe_t pipe;
	uv_write_t write;
	struct buf text;
};

static void
on_answer_closed(uv_handle_t *h)
{
	struct answer *a = LIST_OF(h, struct answer, pipe);

	buf_fini(&a->text);
	alloc_free(a);
}

static void
on_written(uv_write_t *w, int status)
{
	struct answer *a = LIST_OF(w, struct answer, write);

	(void)status;
	uv_close((uv_handle_t *)&a->pipe, on_answer_closed);
}

static void
on_connection(uv_stream_t *server, int status)
{
	struct local *l = LIST_OF(server, struct local, pipe);
	struct answer *a = status == 0 ? alloc_new(sizeof(*a)) : NULL;

	if (a == NULL)
		return;
	buf_init(&a->text, LOCAL_TEXT);
	(void)uv_pipe_init(server->loop, &a->pipe, 0);
	if (uv_accept(server, (uv_stream_t *)&a->pipe) == 0) {
		l->tell(l->arg, &a->text);
		struct slice s = buf_peek(&a->text);
		uv_buf_t b = { .base = (char *)a->text.mem + a->text.head,
			.len = s.len };
		if (a->text.err == 0 &&
		    uv_write(&a->write, (uv_stream_t *)&a->pipe, &b, 1,
			on_written) == 0)
			return;
	}
	uv_close((uv_handle_t *)&a->pipe, on_answer_closed);
}

static int
fill_address(struct sockaddr_un *sa, const char *path)
{
	size_t len = strlen(path);

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (len >= sizeof(sa->sun_path))
		return ERR_TOO_BIG;
	memcpy(sa->sun_path, path, len);
	return 0;
}

static int
listen_at(const char *path, int *out)
{
	struct sockaddr_un sa;
	int err = fill_address(&sa, path);

	if (err != 0)
		return err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return sys_err(errno);
	/* The lock says that nobody else serves it. */
	(void)unlink(path);
	mode_t before = umask(0177);
	int r = bind(fd, (const struct sockaddr *)&sa, sizeof(sa));
	err = r != 0 ? sys_err(errno) : 0;
	(void)umask(before);
	if (err != 0) {
		close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

int
local_open(struct local *l, struct loop *loop, const char *path,
    void (*tell)(void *arg, struct buf *out), void *arg)
{
	int fd;

	*l = (struct local){ .tell = tell, .arg = arg };
	int err = listen_at(path, &fd);
	if (err != 0)
		return err;
	(void)uv_pipe_init(&loop->uv, &l->pipe, 0);
	if (uv_pipe_open(&l->pipe, fd) != 0 ||
	    uv_listen((uv_stream_t *)&l->pipe, BACKLOG, on_connection) != 0) {
		uv_close((uv_handle_t *)&l->pipe, NULL);
		return ERR_IO;
	}
	l->open = true;
	return 0;
}

void
local_close(struct local *l)
{
	if (l->open)
		uv_close((uv_handle_t *)&l->pipe, NULL);
	l->open = false;
}

static int
read_all(int fd, struct buf *out)
{
	uint8_t *to;
	ssize_t n;

	while ((to = buf_reserve(out, 4096)) != NULL) {
		n = read(fd, to, 4096);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return sys_err(errno);
		buf_commit(out, n > 0 ? (size_t)n : 0);
	}
	return out->err;
}

int
local_ask(const char *path, struct buf *out)
{
	const struct timeval patience = { .tv_sec = ASK_SECONDS };
	struct sockaddr_un sa;
	int err = fill_address(&sa, path);

	if (err != 0)
		return err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return sys_err(errno);
	(void)setsockopt(
	    fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) != 0)
		err = sys_err(errno);
	else
		err = read_all(fd, out);
	close(fd);
	return err;
}
