/*
 * relay: a TCP relay that behaves like a slow, long or broken link (tests).
 *
 * usage: relay ADDR:PORT TARGET:PORT [--rate BITS_PER_S] [--delay MS]
 *            [--queue BYTES] [--control UNIX_SOCKET]
 *
 * Prints "ready PORT" when it listens (port 0 takes any).  Each direction is
 * one link shared by all connections: what is read waits in a queue of
 * --queue bytes (64 KiB), leaves at --rate (0 = no limit), and arrives
 * --delay later.  When the queue is full nothing is read, so senders feel
 * it; sockets get small receive buffers when --rate is given, or the kernel
 * would be a second, larger queue.
 *
 * The control socket takes a command a line and answers each with a line,
 * "ok", "error" or JSON:
 *
 *   rate N | delay MS      change the link; a packet on its way is not
 *   pause | resume         keep everything open, move nothing
 *   refuse on|off          reset new connections
 *   cut                    reset all connections, forget what is queued
 *   fin                    end all connections in order
 *   cut-after BYTES        cut when so many more bytes have been delivered
 *   stats
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"

enum {
	CHUNK_MAX = 64 * 1024,
	CHUNK_MIN = 1500,
	RCVBUF = 32 * 1024,
	TURN = 256, /* chunks read before sockets are polled again */
	EVENTS = 256
};

/* Unwritten bytes of one sender; beyond it, it is not read. */
static const size_t held_max = 4 << 20;

static const int64_t second = 1000000000;

/* A packet: bytes, or none for the end of its direction. */
struct chunk {
	struct list link;
	struct conn *conn;
	int64_t at; /* arrived at the queue; then due at the far end */
	size_t len, off;
	uint8_t bytes[];
};

enum source { STOP, LISTENER, TIMER, CONTROL_LISTENER, CONTROL, SIDE };

struct side {
	enum source source; /* SIDE */
	struct conn *conn;
	int fd;
	bool readable, writable, eof;
	struct list ready; /* in way.ready: readable and allowed to */
	struct list out;   /* chunks to be written to fd */
	size_t held;       /* bytes read here, not yet written there */
};

struct conn {
	struct list link;
	struct side side[2]; /* client, target */
	unsigned refs;       /* chunks that point here */
	unsigned fins;       /* directions that have ended */
	bool dead;
	bool draining; /* ended by us: what comes is dropped */
};

/* One direction of the link, by the side it reads from. */
struct way {
	struct list line; /* waiting for their turn on the link */
	struct list air;  /* on their way */
	size_t line_bytes;
	int64_t busy; /* when the last packet had left */
	struct list ready;
	uint64_t delivered;
};

struct control {
	enum source source; /* CONTROL */
	struct list link;
	int fd;
	size_t len;
	char line[128];
};

static enum source stop_source = STOP, listener_source = LISTENER,
		   timer_source = TIMER, control_source = CONTROL_LISTENER;
static struct way ways[2];
static struct list conns, controls;
static size_t conn_count;
static uint64_t accepted, refused;
static int64_t rate, delay_ns, cut_left = -1;
static size_t queue_max = 64 * 1024;
static bool paused, refusing, stopping;
static int poller, listener, timer;
static struct sockaddr_in target;

__attribute__((noreturn, format(printf, 1, 2))) static void
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("relay: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static int64_t
clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * second + t.tv_nsec;
}

static void
watch(int fd, uint32_t events, void *source)
{
	struct epoll_event ev = { .events = events, .data.ptr = source };

	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &ev) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

/* Connections ------------------------------------------------------------- */

static int
other(const struct side *s)
{
	return s == &s->conn->side[0] ? 1 : 0;
}

static void
hold(struct conn *conn)
{
	conn->refs++;
}

static void
release(struct conn *conn)
{
	if (--conn->refs == 0 && conn->dead)
		free(conn);
}

static void
chunk_free(struct chunk *c)
{
	struct conn *conn = c->conn;

	list_remove(&c->link);
	free(c);
	release(conn);
}

static void
drop_chunks(struct list *l)
{
	while (!list_empty(l))
		chunk_free(LIST_OF(l->next, struct chunk, link));
}

/* Close both ends, with RST or without; the memory goes with the last
 * chunk. */
static void
conn_close(struct conn *conn, bool reset)
{
	const struct linger now = { .l_onoff = 1 };

	if (conn->dead)
		return;
	conn->dead = true;
	hold(conn);
	list_remove(&conn->link);
	conn_count--;
	for (int i = 0; i < 2; i++) {
		struct side *s = &conn->side[i];
		if (reset)
			setsockopt(
			    s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(s->fd);
		list_remove(&s->ready);
		drop_chunks(&s->out);
	}
	release(conn);
}

static void
forget_queues(void)
{
	for (int i = 0; i < 2; i++) {
		drop_chunks(&ways[i].line);
		drop_chunks(&ways[i].air);
		ways[i].line_bytes = 0;
	}
}

static void
cut_all(void)
{
	while (!list_empty(&conns))
		conn_close(LIST_OF(conns.next, struct conn, link), true);
	forget_queues();
}

/* Whether s may be read is one place's business. */
static void
consider(struct side *s)
{
	if (s->readable && !s->eof && !s->conn->dead &&
	    (s->held < held_max || s->conn->draining) && list_empty(&s->ready))
		list_push(&ways[!other(s)].ready, &s->ready);
}

/* Say FIN both ways and swallow what still comes, because closing a socket
 * with unread bytes would reset it. */
static void
fin_all(void)
{
	struct list *next;

	for (struct list *l = conns.next; l != &conns; l = next) {
		struct conn *conn = LIST_OF(l, struct conn, link);
		next = l->next;
		conn->draining = true;
		conn->fins = 0;
		for (int i = 0; i < 2; i++) {
			struct side *s = &conn->side[i];
			shutdown(s->fd, SHUT_WR);
			drop_chunks(&s->out);
			conn->fins += s->eof;
			consider(s);
		}
		if (conn->fins == 2)
			conn_close(conn, false);
	}
	forget_queues();
}

static void
side_init(struct conn *conn, int i, int fd)
{
	struct side *s = &conn->side[i];
	int on = 1;

	*s = (struct side){ .source = SIDE, .conn = conn, .fd = fd };
	list_init(&s->ready);
	list_init(&s->out);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &s->source);
}

static void
set_rcvbuf(int fd)
{
	int size = RCVBUF;

	if (rate > 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static void
reset_fd(int fd)
{
	const struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void
take_connections(void)
{
	int fd;

	while ((fd = accept4(
		    listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		int to = -1;
		if (!refusing)
			to = socket(AF_INET,
			    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (to < 0) {
			refused++;
			reset_fd(fd);
			continue;
		}
		set_rcvbuf(to);
		if (connect(to, (struct sockaddr *)&target, sizeof(target)) !=
			0 &&
		    errno != EINPROGRESS) {
			close(to);
			reset_fd(fd);
			continue;
		}
		struct conn *conn = calloc(1, sizeof(*conn));
		if (conn == NULL)
			die("no memory");
		side_init(conn, 0, fd);
		side_init(conn, 1, to);
		list_push(&conns, &conn->link);
		conn_count++;
		accepted++;
	}
}

/* The link ---------------------------------------------------------------- */

/* A direction has ended; the second end closes. */
static void
end_direction(struct conn *conn)
{
	if (++conn->fins == 2)
		conn_close(conn, false);
}

/* Write one chunk to s; false when it takes no more for now. */
static bool
write_chunk(struct side *s, struct chunk *c)
{
	struct side *from = &s->conn->side[other(s)];
	struct way *way = &ways[other(s)];
	size_t n = c->len - c->off;

	if (c->len == 0) {
		shutdown(s->fd, SHUT_WR);
		chunk_free(c);
		end_direction(s->conn);
		return false;
	}
	if (cut_left >= 0 && (uint64_t)n > (uint64_t)cut_left)
		n = (size_t)cut_left;
	ssize_t sent = send(s->fd, c->bytes + c->off, n, MSG_NOSIGNAL);
	if (sent < 0) {
		s->writable = false;
		if (errno != EAGAIN && errno != ENOTCONN)
			conn_close(s->conn, true);
		return false;
	}
	c->off += (size_t)sent;
	way->delivered += (uint64_t)sent;
	from->held -= (size_t)sent;
	consider(from);
	if (c->off == c->len)
		chunk_free(c);
	if (cut_left < 0 || (cut_left -= sent) > 0)
		return true;
	cut_left = -1;
	cut_all();
	return false;
}

static void
flush(struct side *s)
{
	struct conn *conn = s->conn;

	hold(conn);
	while (!conn->dead && s->writable && !list_empty(&s->out))
		if (!write_chunk(s, LIST_OF(s->out.next, struct chunk, link)))
			break;
	release(conn);
}

/* When the packet at the head of the line will have left. */
static int64_t
leaves(const struct way *way, const struct chunk *c)
{
	int64_t start = c->at > way->busy ? c->at : way->busy;

	return rate == 0 ? start : start + (int64_t)c->len * 8 * second / rate;
}

/* Move packets off the line into the air; when the next one leaves. */
static int64_t
move_line(struct way *way, int64_t now)
{
	while (!list_empty(&way->line)) {
		struct chunk *c = LIST_OF(way->line.next, struct chunk, link);
		int64_t left = leaves(way, c);
		if (left > now)
			return left;
		way->busy = left;
		way->line_bytes -= c->len;
		c->at = left + delay_ns;
		list_remove(&c->link);
		list_push(&way->air, &c->link);
	}
	return INT64_MAX;
}

/* Land what has arrived; when the next does. */
static int64_t
move_air(struct way *way, int64_t now)
{
	while (!list_empty(&way->air)) {
		struct chunk *c = LIST_OF(way->air.next, struct chunk, link);
		if (c->at > now)
			return c->at;
		list_remove(&c->link);
		if (c->conn->dead || c->conn->draining) {
			chunk_free(c);
			continue;
		}
		struct side *to = &c->conn->side[way == &ways[0]];
		list_push(&to->out, &c->link);
		flush(to);
	}
	return INT64_MAX;
}

/* A millisecond's worth, so that small packets need not wait for large, and
 * no more than the queue has room for. */
static size_t
chunk_size(const struct way *way)
{
	size_t room = queue_max - way->line_bytes;
	size_t n = rate == 0 ? CHUNK_MAX : (size_t)rate / 8000;

	if (n < CHUNK_MIN)
		n = CHUNK_MIN;
	if (n > CHUNK_MAX)
		n = CHUNK_MAX;
	return n < room ? n : room;
}

/* Read a packet off s into the line. */
static void
read_side(struct way *way, struct side *s, int64_t now)
{
	static uint8_t bytes[CHUNK_MAX];
	ssize_t n = recv(s->fd, bytes, chunk_size(way), 0);

	list_remove(&s->ready);
	if (n < 0) {
		s->readable = false;
		if (errno != EAGAIN)
			conn_close(s->conn, true);
		return;
	}
	s->eof = n == 0;
	if (s->conn->draining) {
		if (s->eof)
			end_direction(s->conn);
		else
			consider(s);
		return;
	}
	struct chunk *c = malloc(sizeof(*c) + (size_t)n);
	if (c == NULL)
		die("no memory");
	*c = (struct chunk){ .conn = s->conn, .at = now, .len = (size_t)n };
	memcpy(c->bytes, bytes, c->len);
	hold(s->conn);
	s->held += c->len;
	list_push(&way->line, &c->link);
	way->line_bytes += c->len;
	consider(s);
}

/* Move all that can move; when to come back. */
static int64_t
work(void)
{
	int64_t next = INT64_MAX;

	for (int i = 0; i < 2 && !paused; i++) {
		struct way *way = &ways[i];
		for (int n = 0; n < TURN && !list_empty(&way->ready) &&
		     way->line_bytes < queue_max;
		     n++)
			read_side(way,
			    LIST_OF(way->ready.next, struct side, ready),
			    clock_now());
		int64_t now = clock_now();
		int64_t line = move_line(way, now);
		int64_t air = move_air(way, now);
		bool more =
		    !list_empty(&way->ready) && way->line_bytes < queue_max;
		int64_t soon = more ? 0 : line < air ? line : air;
		if (soon < next)
			next = soon;
	}
	return next;
}

/* Control ----------------------------------------------------------------- */

static bool
number(const char *text, int64_t *out)
{
	char *end;

	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n < 0)
		return false;
	*out = n;
	return true;
}

static void
stats(char *out, size_t size)
{
	snprintf(out, size,
	    "{\"connections\":%zu,\"accepted\":%" PRIu64 ",\"refused\":%" PRIu64
	    ",\"up\":%" PRIu64 ",\"down\":%" PRIu64
	    ",\"queued_up\":%zu,\"queued_down\":%zu"
	    ",\"rate\":%" PRId64 ",\"delay\":%" PRId64 ",\"paused\":%s}",
	    conn_count, accepted, refused, ways[0].delivered, ways[1].delivered,
	    ways[0].line_bytes, ways[1].line_bytes, rate, delay_ns / 1000000,
	    paused ? "true" : "false");
}

static bool
simple_command(const char *line)
{
	if (strcmp(line, "cut") == 0)
		cut_all();
	else if (strcmp(line, "fin") == 0)
		fin_all();
	else if (strcmp(line, "pause") == 0)
		paused = true;
	else if (strcmp(line, "resume") == 0)
		paused = false;
	else if (strcmp(line, "refuse on") == 0)
		refusing = true;
	else if (strcmp(line, "refuse off") == 0)
		refusing = false;
	else
		return false;
	return true;
}

static bool
number_command(const char *line)
{
	int64_t n;

	if (strncmp(line, "rate ", 5) == 0 && number(line + 5, &n))
		rate = n;
	else if (strncmp(line, "delay ", 6) == 0 && number(line + 6, &n))
		delay_ns = n * 1000000;
	else if (strncmp(line, "cut-after ", 10) == 0 &&
	    number(line + 10, &n) && n > 0)
		cut_left = n;
	else
		return false;
	return true;
}

static void
answer(struct control *ctl, const char *line)
{
	char out[512];
	bool ok = strcmp(line, "stats") == 0;

	if (ok)
		stats(out, sizeof(out) - 1);
	else
		snprintf(out, sizeof(out) - 1, "%s",
		    simple_command(line) || number_command(line) ? "ok"
								 : "error");
	size_t len = strlen(out);
	out[len] = '\n';
	if (send(ctl->fd, out, len + 1, MSG_NOSIGNAL) < 0)
		shutdown(ctl->fd, SHUT_RDWR);
}

static void
control_close(struct control *ctl)
{
	list_remove(&ctl->link);
	close(ctl->fd);
	free(ctl);
}

static void
control_read(struct control *ctl)
{
	ssize_t n = recv(
	    ctl->fd, ctl->line + ctl->len, sizeof(ctl->line) - ctl->len, 0);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		control_close(ctl);
		return;
	}
	ctl->len += (size_t)n;
	while ((end = memchr(ctl->line, '\n', ctl->len)) != NULL) {
		*end = '\0';
		answer(ctl, ctl->line);
		ctl->len -= (size_t)(end + 1 - ctl->line);
		memmove(ctl->line, end + 1, ctl->len);
	}
	if (ctl->len == sizeof(ctl->line))
		control_close(ctl);
}

static void
control_accept(int fd)
{
	int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (got < 0)
		return;
	struct control *ctl = calloc(1, sizeof(*ctl));
	if (ctl == NULL)
		die("no memory");
	ctl->source = CONTROL;
	ctl->fd = got;
	list_push(&controls, &ctl->link);
	watch(got, EPOLLIN, &ctl->source);
}

static int
control_listen(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(at.sun_path))
		die("%s: too long", path);
	memcpy(at.sun_path, path, strlen(path));
	unlink(path);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    listen(fd, 16) != 0)
		die("%s: %s", path, strerror(errno));
	watch(fd, EPOLLIN, &control_source);
	return fd;
}

/* The loop ---------------------------------------------------------------- */

static void
on_side(struct side *s, uint32_t events)
{
	if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
		s->readable = true;
	if ((events & EPOLLOUT) != 0)
		s->writable = true;
	consider(s);
	if (!paused)
		flush(s);
}

static void
arm(int64_t next)
{
	struct itimerspec at = { .it_value = { next / second, next % second } };

	if (next == INT64_MAX)
		at = (struct itimerspec){ 0 };
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/*
 * Closing a connection in the middle of a batch of events would free what a
 * later event of the batch points to; so all are held until its end.
 */
static void
handle(struct epoll_event *ev, int n, int control_fd)
{
	for (int i = 0; i < n; i++)
		if (*(enum source *)ev[i].data.ptr == SIDE)
			hold(((struct side *)ev[i].data.ptr)->conn);
	for (int i = 0; i < n; i++) {
		enum source *source = ev[i].data.ptr;
		uint64_t ticks;
		if (*source == STOP)
			stopping = true;
		else if (*source == LISTENER && !paused)
			take_connections();
		else if (*source == TIMER)
			(void)!read(timer, &ticks, sizeof(ticks));
		else if (*source == CONTROL_LISTENER)
			control_accept(control_fd);
		else if (*source == CONTROL)
			control_read(ev[i].data.ptr);
		else if (*source == SIDE) {
			struct side *s = ev[i].data.ptr;
			if (!s->conn->dead)
				on_side(s, ev[i].events);
			release(s->conn);
		}
	}
}

/* Take up what edges told while nothing might move. */
static void
resume(void)
{
	struct list *next;

	take_connections();
	for (struct list *l = conns.next; l != &conns; l = next) {
		struct conn *conn = LIST_OF(l, struct conn, link);
		next = l->next;
		hold(conn);
		flush(&conn->side[0]);
		if (!conn->dead)
			flush(&conn->side[1]);
		release(conn);
		/* A cut in the middle leaves no list to walk. */
		if (list_empty(&conns))
			return;
	}
}

static void
run(int control_fd)
{
	static struct epoll_event ev[EVENTS];
	bool was_paused = false;

	while (!stopping) {
		int64_t next = work();
		if (next > 0)
			arm(next);
		int n = epoll_wait(poller, ev, EVENTS, next == 0 ? 0 : -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait: %s", strerror(errno));
		handle(ev, n < 0 ? 0 : n, control_fd);
		if (was_paused && !paused)
			resume();
		was_paused = paused;
	}
}

static struct sockaddr_in
address(char *text)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	char *colon = strrchr(text, ':');
	int64_t port;

	if (colon == NULL || !number(colon + 1, &port) || port > 65535)
		die("%s: want ADDR:PORT", text);
	*colon = '\0';
	if (inet_pton(AF_INET, text, &at.sin_addr) != 1)
		die("%s: not an IPv4 address", text);
	at.sin_port = htons((uint16_t)port);
	return at;
}

static void
listen_on(struct sockaddr_in at)
{
	socklen_t len = sizeof(at);
	int on = 1;

	listener =
	    socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	set_rcvbuf(listener);
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    listen(listener, 4096) != 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) != 0)
		die("listen: %s", strerror(errno));
	/* Edges, because a paused relay must not spin on it. */
	watch(listener, EPOLLIN | EPOLLET, &listener_source);
	printf("ready %d\n", ntohs(at.sin_port));
	fflush(stdout);
}

static void
prepare(void)
{
	struct rlimit files;
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	list_init(&conns);
	list_init(&controls);
	for (int i = 0; i < 2; i++) {
		list_init(&ways[i].line);
		list_init(&ways[i].air);
		list_init(&ways[i].ready);
	}
	poller = epoll_create1(EPOLL_CLOEXEC);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	watch(timer, EPOLLIN, &timer_source);
	/* A signal between two waits must not be missed. */
	watch(signalfd(-1, &stop, SFD_CLOEXEC), EPOLLIN, &stop_source);
}

static bool
option(const char *name, const char *value, const char **control)
{
	int64_t n = 0;

	if (strcmp(name, "--control") == 0) {
		*control = value;
		return true;
	}
	if (!number(value, &n))
		return false;
	if (strcmp(name, "--rate") == 0)
		rate = n;
	else if (strcmp(name, "--delay") == 0)
		delay_ns = n * 1000000;
	else if (strcmp(name, "--queue") == 0 && n > 0)
		queue_max = (size_t)n;
	else
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	const char *control = NULL;
	int control_fd = -1;
	bool ok = argc >= 3 && argc % 2 == 1;

	for (int i = 3; ok && i < argc; i += 2)
		ok = option(argv[i], argv[i + 1], &control);
	if (!ok) {
		fputs("usage: relay ADDR:PORT TARGET:PORT [--rate BITS_PER_S] "
		      "[--delay MS] [--queue BYTES] [--control SOCKET]\n",
		    stderr);
		return 2;
	}
	prepare();
	target = address(argv[2]);
	if (control != NULL)
		control_fd = control_listen(control);
	listen_on(address(argv[1]));
	run(control_fd);
	if (control != NULL)
		unlink(control);
	cut_all();
	while (!list_empty(&controls))
		control_close(LIST_OF(controls.next, struct control, link));
	return 0;
}
