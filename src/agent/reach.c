#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "io/clock.h"
#include "io/file.h"

#include "agent/holder_proto.h"
#include "agent/record.h"
#include "agent/runner_dir.h"

#include "agent/reach.h"

enum { NAMES = 65536, NAMES_ARENA = NAMES * 256, ONE_ARENA = 64 * 1024 };

enum { HOLDERS = 16384 };

struct walk {
	struct reach_result *out;
	msec until;
	size_t count;
	int fds[HOLDERS];
};

/* A holder's socket; -1 when nobody listens.  A directory's path may be
 * longer than a socket's name. */
static int
reach(const char *dir)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int where = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (where < 0)
		return -1;
	(void)snprintf(
	    at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/ctl", where);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 &&
	    connect(fd, (const struct sockaddr *)&at, sizeof(at)) != 0) {
		close(fd);
		fd = -1;
	}
	close(where);
	return fd;
}

/* The socket stays: a holder that cannot greet us would not listen. */
static int
tell(struct reach_result *out, const char *dir)
{
	uint8_t frame[HOLDER_HEAD + 1] = { [4] = 'S', [5] = HOLDER_STOP };
	int fd = reach(dir);

	if (fd < 0)
		return fd;
	holder_put(frame, 1, 4);
	out->holders++;
	(void)send(fd, frame, sizeof(frame), MSG_NOSIGNAL);
	return fd;
}

static uint64_t
number(struct slice text, const char *key)
{
	uint64_t n = 0;

	(void)slice_u64(
	    record_value(text, '\0', slice_from(key)), INT64_MAX, &n);
	return n;
}

static size_t
count_names(struct slice list)
{
	struct slice part;
	size_t n = 0;

	while (list.len > 0 && slice_split(&list, ',', &part))
		n++;
	return n;
}

/* A status: whether it is the last that is wanted. */
static bool
take_status(struct walk *w, struct slice text)
{
	struct slice left = record_value(text, '\0', SL("left"));

	if (number(text, "dead") == 0 && left.len == 0)
		return false;
	w->out->killed += number(text, "killed");
	w->out->left += count_names(left);
	return true;
}

/* Whether another piece came before the time was up. */
static bool
read_more(int fd, msec until, uint8_t *in, size_t room, size_t *len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	msec left = until - clock_mono();

	if (left < 0 || room == *len || poll(&p, 1, (int)left) <= 0)
		return false;
	ssize_t n = read(fd, in + *len, room - *len);
	*len += n > 0 ? (size_t)n : 0;
	return n > 0;
}

static bool
hear(struct walk *w, int fd)
{
	uint8_t in[4 * (HOLDER_HEAD + HOLDER_TEXT_MAX)];
	size_t len = 0;

	while (read_more(fd, w->until, in, sizeof(in), &len)) {
		size_t n;
		while (len >= HOLDER_HEAD &&
		    len >= (n = HOLDER_HEAD + (size_t)holder_get(in, 4))) {
			struct slice body = { in + HOLDER_HEAD,
				n - HOLDER_HEAD };
			if (in[4] == 'T' && take_status(w, body))
				return true;
			len -= n;
			memmove(in, in + n, len);
		}
	}
	return false;
}

/* Every command of every link. */
static int
each_of(struct walk *w, const char *dir, unsigned depth)
{
	static const char *const below[] = { "links", NULL, "cmd", NULL };
	struct file_names names;
	struct arena a;
	int err = 0;

	if (depth == sizeof(below) / sizeof(below[0])) {
		int fd = w->count < HOLDERS ? tell(w->out, dir) : -1;
		if (fd >= 0)
			w->fds[w->count++] = fd;
		return 0;
	}
	arena_init(&a, below[depth] != NULL ? ONE_ARENA : NAMES_ARENA);
	if (below[depth] != NULL) {
		char *path = dir_path(&a, dir, below[depth], NULL);
		err = path == NULL ? ERR_TOO_BIG : each_of(w, path, depth + 1);
		arena_fini(&a);
		return err;
	}
	err = file_list(&file_real, dir, NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		char *path = dir_path(&a, dir, names.at[i].name, NULL);
		if (path == NULL)
			err = ERR_TOO_BIG;
		else if (names.at[i].is_dir)
			err = each_of(w, path, depth + 1);
	}
	arena_fini(&a);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* One descriptor a holder. */
static void
raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
}

int
reach_stop(const char *state, msec patience, struct reach_result *out)
{
	struct walk w = { .out = out };

	*out = (struct reach_result){ 0 };
	raise_limit();
	int err = each_of(&w, state, 0);
	w.until = clock_mono() + patience;
	for (size_t i = 0; i < w.count; i++) {
		if (!hear(&w, w.fds[i]))
			out->silent++;
		close(w.fds[i]);
	}
	return err;
}
