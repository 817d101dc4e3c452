#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/crash.h"
#include "io/sys.h"

#include "agent/holder_proto.h"

#include "agent/runner_link.h"

enum { LINK_IN = HOLDER_HEAD + 2 * HOLDER_TEXT_MAX };

/* A child to reap; outlives its link when it has a command to hold. */
struct kid {
	uv_process_t proc;
	struct list link;
	struct link_home *home;
};

struct out {
	uv_write_t req;
	uint8_t bytes[];
};

void
link_home_init(
    struct link_home *h, struct loop *loop, const struct link_ops *ops)
{
	*h = (struct link_home){ .loop = loop, .ops = ops };
	list_init(&h->kids);
}

static void
drop_handle(struct link_home *h)
{
	if (--h->handles == 0)
		h->ops->empty(h);
}

static void
on_link_closed(uv_handle_t *h)
{
	struct link *l = h->data;
	struct link_home *home = l->home;

	buf_fini(&l->in);
	alloc_free(l);
	drop_handle(home);
}

void
link_close(struct link *l)
{
	if (l->closing)
		return;
	l->closing = true;
	list_remove(&l->idle);
	uv_close((uv_handle_t *)&l->pipe, on_link_closed);
}

static void
fail(struct link *l)
{
	if (l->closing)
		return;
	link_close(l);
	l->home->ops->ended(l);
}

static void
on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out)
{
	struct link *l = h->data;

	(void)hint;
	/* Whole frames are eaten at once, so half of it is always free. */
	size_t room = LINK_IN - buf_peek(&l->in).len;
	uint8_t *at = room == 0 ? NULL : buf_reserve(&l->in, room);
	*out = uv_buf_init((char *)at, at == NULL ? 0 : (unsigned)room);
}

/* Take one whole frame: 1, 0 none yet, ERR_PROTOCOL. */
static int
take(struct link *l)
{
	struct slice in = buf_peek(&l->in);

	if (in.len < HOLDER_HEAD)
		return 0;
	size_t n = (size_t)holder_get(in.ptr, 4);
	if (n > HOLDER_TEXT_MAX)
		return ERR_PROTOCOL;
	if (in.len < HOLDER_HEAD + n)
		return 0;
	l->home->ops->frame(
	    l, in.ptr[4], (struct slice){ in.ptr + HOLDER_HEAD, n });
	buf_eat(&l->in, HOLDER_HEAD + n);
	return 1;
}

static void
on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *data)
{
	struct link *l = s->data;
	int more = 1;

	(void)data;
	if (n > 0)
		buf_commit(&l->in, (size_t)n);
	while (!l->closing && more > 0)
		more = take(l);
	if (n < 0 || more < 0)
		fail(l);
}

static struct link *
new_link(struct link_home *h)
{
	struct link *l = alloc_new(sizeof(*l));

	if (l == NULL)
		return NULL;
	if (uv_pipe_init(&h->loop->uv, &l->pipe, 0) != 0) {
		alloc_free(l);
		return NULL;
	}
	l->pipe.data = l;
	l->home = h;
	list_init(&l->idle);
	buf_init(&l->in, LINK_IN);
	h->handles++;
	return l;
}

static void
on_kid_closed(uv_handle_t *h)
{
	struct kid *k = h->data;
	struct link_home *home = k->home;

	alloc_free(k);
	drop_handle(home);
}

static void
reap_kid(struct kid *k)
{
	list_remove(&k->link);
	uv_close((uv_handle_t *)&k->proc, on_kid_closed);
}

void
link_home_leave(struct link_home *h)
{
	while (!list_empty(&h->kids))
		reap_kid(LIST_OF(h->kids.next, struct kid, link));
}

static void
on_kid_exit(uv_process_t *p, int64_t status, int signal)
{
	(void)status;
	(void)signal;
	reap_kid(p->data);
}

static int
spawn(struct loop *loop, const char *holder, struct link *l, struct kid *k)
{
	char name[] = "muster-holder";
	char *args[] = { name, NULL };
	uv_stdio_container_t io[3] = {
		{ .flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE,
		    .data.stream = (uv_stream_t *)&l->pipe },
	};
	uv_process_options_t o = {
		.exit_cb = on_kid_exit,
		.file = holder,
		.args = args,
		.env = crash_env(),
		.cwd = "/",
		.flags = UV_PROCESS_DETACHED,
		.stdio_count = 3,
		.stdio = io,
	};

	k->proc.data = k;
	int err = uv_spawn(&loop->uv, &k->proc, &o);
	if (err == 0)
		err = uv_read_start((uv_stream_t *)&l->pipe, on_alloc, on_read);
	/* The loop need not run for a holder's sake. */
	uv_unref((uv_handle_t *)&k->proc);
	return err == 0 ? 0 : sys_err(-err);
}

int
link_spawn(struct link_home *h, const char *holder, struct link **out)
{
	struct kid *k = alloc_new(sizeof(*k));
	struct link *l = k == NULL ? NULL : new_link(h);

	if (l == NULL) {
		alloc_free(k);
		return ERR_NOMEM;
	}
	k->home = h;
	list_push(&h->kids, &k->link);
	h->handles++;
	int err = spawn(h->loop, holder, l, k);
	if (err != 0) {
		reap_kid(k);
		link_close(l);
		return err;
	}
	l->pid = k->proc.pid;
	*out = l;
	return 0;
}

/* Who listens there. */
static pid_t
peer_pid(struct link *l)
{
	struct ucred who = { 0 };
	socklen_t size = sizeof(who);
	uv_os_fd_t fd;

	if (uv_fileno((uv_handle_t *)&l->pipe, &fd) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
		return 0;
	return who.pid;
}

static void
on_connect(uv_connect_t *req, int status)
{
	struct link *l = req->data;

	if (l->closing)
		return;
	if (status == 0)
		status =
		    uv_read_start((uv_stream_t *)&l->pipe, on_alloc, on_read);
	if (status != 0)
		link_close(l);
	else
		l->pid = peer_pid(l);
	l->home->ops->opened(l, status == 0 ? 0 : sys_err(-status));
}

int
link_connect(struct link_home *h, const char *dir, struct link **out)
{
	char path[64];

	/* A state directory's path may be longer than a socket's name. */
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return ERR_NOT_FOUND;
	struct link *l = new_link(h);
	if (l != NULL) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/ctl", fd);
		l->connect.data = l;
		uv_pipe_connect(&l->connect, &l->pipe, path, on_connect);
		*out = l;
	}
	close(fd);
	return l == NULL ? ERR_NOMEM : 0;
}

static void
on_written(uv_write_t *req, int status)
{
	/* The read side tells an end in order, after the last words. */
	(void)status;
	alloc_free(LIST_OF(req, struct out, req));
}

int
link_send(struct link *l, uint8_t type, struct slice a, struct slice b)
{
	size_t n = a.len + b.len;

	if (l->closing)
		return ERR_CLOSED;
	if (uv_stream_get_write_queue_size((uv_stream_t *)&l->pipe) + n >
	    LINK_QUEUE)
		return ERR_FULL;
	struct out *o = alloc_new(sizeof(*o) + HOLDER_HEAD + n);
	if (o == NULL)
		return ERR_NOMEM;
	holder_put(o->bytes, n, 4);
	o->bytes[4] = type;
	if (a.len > 0)
		memcpy(o->bytes + HOLDER_HEAD, a.ptr, a.len);
	if (b.len > 0)
		memcpy(o->bytes + HOLDER_HEAD + a.len, b.ptr, b.len);
	uv_buf_t data =
	    uv_buf_init((char *)o->bytes, (unsigned)(HOLDER_HEAD + n));
	int err =
	    uv_write(&o->req, (uv_stream_t *)&l->pipe, &data, 1, on_written);
	if (err != 0)
		alloc_free(o);
	return err == 0 ? 0 : sys_err(-err);
}
