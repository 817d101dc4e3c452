#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/term.h"
#include "io/sys.h"

void
term_init(struct term *t)
{
	const char *plain = getenv("NO_COLOR");
	const char *kind = getenv("TERM");
	struct winsize size = { 0 };

	t->in_tty = isatty(0) == 1;
	t->out_tty = isatty(1) == 1;
	t->err_tty = isatty(2) == 1;
	t->colour = t->out_tty && (plain == NULL || *plain == '\0') &&
	    (kind == NULL || strcmp(kind, "dumb") != 0);
	t->width = 80;
	if (ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
		t->width = size.ws_col;
}

/* A descriptor that somebody else made non-blocking is waited for. */
int
term_write(int fd, struct slice s)
{
	while (s.len > 0) {
		ssize_t n = write(fd, s.ptr, s.len);

		if (n >= 0) {
			s = slice_from_at(s, (size_t)n);
		} else if (errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
		} else if (errno == EPIPE) {
			return ERR_CLOSED;
		} else if (errno != EINTR) {
			return sys_err(errno);
		}
	}
	return 0;
}

static int
read_line(int fd, char *out, size_t size)
{
	size_t len = 0;

	for (;;) {
		char c;
		ssize_t n = read(fd, &c, 1);

		if (n <= 0)
			return n == 0 ? ERR_CLOSED : ERR_IO;
		if (c == '\n')
			break;
		if (len + 1 >= size)
			return ERR_TOO_BIG;
		out[len++] = c;
	}
	out[len] = '\0';
	return 0;
}

int
term_read_secret(const char *prompt, char *out, size_t size)
{
	struct termios shown, hidden;
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	int err = ERR_IO;

	if (fd < 0)
		return ERR_IO;
	if (tcgetattr(fd, &shown) == 0) {
		hidden = shown;
		hidden.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(fd, TCSAFLUSH, &hidden);
		term_write(fd, slice_from(prompt));
		err = read_line(fd, out, size);
		term_write(fd, SL("\n"));
		tcsetattr(fd, TCSAFLUSH, &shown);
	}
	close(fd);
	return err;
}

int
term_ask(const char *prompt, char *out, size_t size)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	int err;

	if (fd < 0)
		return ERR_IO;
	term_write(fd, slice_from(prompt));
	err = read_line(fd, out, size);
	close(fd);
	return err;
}
