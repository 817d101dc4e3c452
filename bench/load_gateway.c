/*
 * load_gateway: visitors of a service behind a gateway (bench/gateway).
 *
 * usage: load_gateway [--tls] [--host H] ADDR:PORT WHAT...
 *
 *   down MIB | up MIB | both MIB   prints MB/s; both is a connection each
 *   get SECONDS CONNS              GET /small, one at a time a connection
 *   ws SECONDS CONNS SIZE          messages that are echoed, the same
 *   chat SECONDS CONNS SIZE RATE   the same, so many a second each
 *   connect N                      new connections to their first answer
 *   idle CONNS                     WebSockets, until stdin ends
 *   stall MIB                      a download that is not read, the same
 *
 * get, ws, chat and connect print "RATE P50 P99 COUNT", times in us; idle and
 * stall "ready".  One thread, epoll; all that is received is compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/slice.h"

#include "io/addr.h"

#include "wire/ws.h"

#include "gateway_pattern.h"

enum {
	CONNS_MAX = 2048,
	EVENTS = 256,
	IN_MAX = 20 * 1024,
	SAMPLES = 4 << 20,
	STALL = 20000, /* ms without any progress */
};

struct conn {
	int fd;
	SSL *ssl;
	bool wants_out;
	uint8_t *in;
	size_t got, sent; /* of an answer, of a request */
	bool asked;
	double began, due;
};

/* What is sent each time, and how much comes back. */
static uint8_t ask[IN_MAX];
static size_t ask_len;
static uint8_t expected[IN_MAX]; /* of messages */
static size_t expected_len;

static union addr to;
static const char *host = "app.test";
static SSL_CTX *tls;
static int poll_fd;
static struct conn conns[CONNS_MAX];
static double *took;
static size_t count;

static _Noreturn void __attribute__((format(printf, 1, 2)))
die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("load_gateway: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Connections -------------------------------------------------------------- */

/* Bytes; 0 when none now.  An end is an error here. */
static size_t
get(struct conn *c, void *to_here, size_t n)
{
	ssize_t r;

	if (c->ssl != NULL) {
		r = SSL_read(c->ssl, to_here, (int)n);
		if (r <= 0 &&
		    SSL_get_error(c->ssl, (int)r) != SSL_ERROR_WANT_READ)
			die("cut");
	} else {
		r = recv(c->fd, to_here, n, 0);
		if (r == 0 || (r < 0 && errno != EAGAIN))
			die("cut: %s", r == 0 ? "closed" : strerror(errno));
	}
	return r < 0 ? 0 : (size_t)r;
}

static size_t
put(struct conn *c, const void *bytes, size_t n)
{
	ssize_t r;

	if (c->ssl != NULL) {
		r = SSL_write(c->ssl, bytes, (int)n);
		if (r <= 0 &&
		    SSL_get_error(c->ssl, (int)r) != SSL_ERROR_WANT_WRITE)
			die("TLS write failed");
	} else {
		r = send(c->fd, bytes, n, MSG_NOSIGNAL);
		if (r < 0 && errno != EAGAIN)
			die("send: %s", strerror(errno));
	}
	return r < 0 ? 0 : (size_t)r;
}

static void
open_conn(struct conn *c)
{
	int on = 1;

	memset(c, 0, sizeof(*c));
	c->fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, &to.sa, addr_len(&to.sa)) != 0)
		die("connect: %s", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (tls == NULL)
		return;
	c->ssl = SSL_new(tls);
	if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1 ||
	    SSL_connect(c->ssl) != 1)
		die("TLS handshake failed");
}

static void
close_conn(struct conn *c)
{
	SSL_free(c->ssl);
	close(c->fd);
	free(c->in);
}

/* The length of a head and its status and body, or 0 when it is not whole. */
static size_t
head_of(const uint8_t *in, size_t n, int *status, uint64_t *body)
{
	char text[4096];
	const uint8_t *end = memmem(in, n, "\r\n\r\n", 4);
	size_t len = end == NULL ? 0 : (size_t)(end - in) + 4;

	if (len >= sizeof(text) || (len == 0 && n >= sizeof(text)))
		die("a head too long");
	if (len == 0)
		return 0;
	memcpy(text, in, len);
	text[len] = 0;
	const char *field = strcasestr(text, "\r\ncontent-length:");
	*status = (int)strtol(text + 9, NULL, 10);
	*body = field == NULL ? 0 : strtoull(field + 17, NULL, 10);
	if (*status != 101 && (*status != 200 || field == NULL))
		die("an answer: %s", text);
	return len;
}

/* Blocking: a request, its head, and what came of the body. */
static size_t
request(struct conn *c, const char *line, const char *fields, uint8_t *in,
    size_t size, uint64_t *body)
{
	char text[1024];
	int n = snprintf(text, sizeof(text),
	    "%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", line, host, fields);
	int status;
	size_t got = 0, head = 0;

	if (put(c, text, (size_t)n) != (size_t)n)
		die("send");
	if (in == NULL)
		return 0;
	while (head == 0) {
		got += get(c, in + got, size - got);
		head = head_of(in, got, &status, body);
	}
	memmove(in, in + head, got - head);
	return got - head;
}

static void
set_watch(struct conn *c, bool out)
{
	struct epoll_event e = { .events = out ? EPOLLIN | EPOLLOUT : EPOLLIN,
		.data.ptr = c };

	c->wants_out = out;
	if (epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e) != 0)
		die("epoll_ctl");
}

/* From now on by epoll. */
static void
start_watch(struct conn *c, bool out)
{
	struct epoll_event e = { .events = out ? EPOLLIN | EPOLLOUT : EPOLLIN,
		.data.ptr = c };

	c->wants_out = out;
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &e) != 0)
		die("epoll_ctl");
}

static void
upgrade(struct conn *c)
{
	uint8_t in[4096];
	uint64_t body;

	if (request(c, "GET /ws",
		"Connection: Upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		in, sizeof(in), &body) != 0)
		die("bytes behind a handshake");
}

/* Bulk --------------------------------------------------------------------- */

static double
bulk(bool down, bool up, size_t mib)
{
	static uint8_t in[256 * 1024];
	uint64_t size = (uint64_t)mib << 20, got = 0, sent = 0, body = size;
	struct conn *d = &conns[0], *u = &conns[1];
	char line[64], fields[64];
	bool over = !up;
	double began;

	if (down)
		open_conn(d);
	if (up)
		open_conn(u);
	began = now();
	if (down) {
		snprintf(line, sizeof(line), "GET /down/%llu",
		    (unsigned long long)size);
		got = request(d, line, "", in, 4096, &body);
		if (body != size || !pattern_is(in, (size_t)got, 0))
			die("a download is not what was asked for");
		start_watch(d, false);
	}
	if (up) {
		snprintf(fields, sizeof(fields), "Content-Length: %llu\r\n",
		    (unsigned long long)size);
		request(u, "POST /up", fields, NULL, 0, NULL);
		start_watch(u, true);
	}
	while ((down && got < size) || !over) {
		struct epoll_event ev[2];
		int n = epoll_wait(poll_fd, ev, 2, STALL);
		if (n <= 0)
			die("stalled");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			size_t r;
			if (c == d && (r = get(d, in, sizeof(in))) > 0) {
				if (!pattern_is(in, r, got))
					die("a download is not what it should "
					    "be");
				got += r;
			} else if (c == u && sent < size) {
				size_t at = (size_t)(sent % PATTERN);
				size_t left = PATTERN - at;
				if (left > size - sent)
					left = (size_t)(size - sent);
				sent += put(u, pattern + at, left);
				if (sent == size)
					set_watch(u, false);
			} else if (c == u &&
			    (r = get(u, in, sizeof(in) - 1)) > 0) {
				in[r] = 0;
				if (strncmp((char *)in, "HTTP/1.1 200", 12) !=
				    0)
					die("an upload: %s", (char *)in);
				over = true;
			}
		}
	}
	return (double)(got + sent) / 1e6 / (now() - began);
}

/* One at a time -------------------------------------------------------------
 */

static void
make_get(void)
{
	ask_len = (size_t)snprintf((char *)ask, sizeof(ask),
	    "GET /small HTTP/1.1\r\nHost: %s\r\n\r\n", host);
}

static void
make_message(size_t size)
{
	struct ws_head h = { .len = size,
		.mask = 0x5aa51234,
		.masked = true,
		.opcode = WS_BINARY,
		.fin = true };
	size_t n = ws_encode_head(ask, &h);

	if (size + WS_HEAD_MAX > sizeof(ask))
		die("a message too long");
	memcpy(ask + n, pattern, size);
	ws_mask(ask + n, size, h.mask, 0);
	ask_len = n + size;
	h.masked = false;
	n = ws_encode_head(expected, &h);
	memcpy(expected + n, pattern, size);
	expected_len = n + size;
}

/* Whether the whole answer is there; it is checked then. */
static bool
answered(const struct conn *c)
{
	static const char text[] = "hello, world\n";
	int status;
	uint64_t body;
	size_t head;

	if (expected_len > 0) {
		if (c->got == expected_len &&
		    memcmp(c->in, expected, c->got) != 0)
			die("a message is not what was sent");
		return c->got == expected_len;
	}
	head = head_of(c->in, c->got, &status, &body);
	if (head == 0 || c->got - head < body)
		return false;
	if (body != sizeof(text) - 1 || c->got != head + body ||
	    memcmp(c->in + head, text, (size_t)body) != 0)
		die("an answer is not what it should be");
	return true;
}

static void
send_on(struct conn *c)
{
	c->sent += put(c, ask + c->sent, ask_len - c->sent);
	if (c->wants_out != (c->sent < ask_len))
		set_watch(c, c->sent < ask_len);
}

static void
send_one(struct conn *c, double t)
{
	c->began = t;
	c->asked = true;
	c->got = c->sent = 0;
	send_on(c);
}

/* True when an answer has come. */
static bool
on_event(struct conn *c, uint32_t events)
{
	size_t max = expected_len > 0 ? expected_len : IN_MAX;
	size_t r;

	if (events & EPOLLOUT)
		send_on(c);
	while (c->asked && c->got < max &&
	    (r = get(c, c->in + c->got, max - c->got)) > 0) {
		c->got += r;
		if (!answered(c))
			continue;
		if (count < SAMPLES)
			took[count++] = now() - c->began;
		c->asked = false;
		return true;
	}
	return false;
}

static int
by_time(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void
report(double seconds)
{
	if (count == 0)
		die("no answers");
	qsort(took, count, sizeof(*took), by_time);
	printf("%.1f %.1f %.1f %zu\n", (double)count / seconds,
	    took[count / 2] * 1e6, took[count * 99 / 100] * 1e6, count);
}

static void
open_all(size_t n, bool ws)
{
	if (n > CONNS_MAX)
		die("too many connections");
	for (size_t i = 0; i < n; i++) {
		open_conn(&conns[i]);
		if (ws)
			upgrade(&conns[i]);
		if ((conns[i].in = malloc(IN_MAX)) == NULL)
			die("out of memory");
		start_watch(&conns[i], false);
	}
}

/* The next message is sent when the answer is there, or at its time. */
static void
exchange(double seconds, size_t n, double rate)
{
	struct epoll_event ev[EVENTS];
	double start = now(), t = start;

	for (size_t i = 0; i < n; i++) {
		conns[i].due =
		    rate > 0 ? start + (double)i / (double)n / rate : start;
		if (rate <= 0)
			send_one(&conns[i], now());
	}
	while (t - start < seconds && count < SAMPLES) {
		int k = epoll_wait(poll_fd, ev, EVENTS, rate > 0 ? 1 : STALL);
		if (k < 0 || (k == 0 && rate <= 0))
			die("stalled");
		for (int i = 0; i < k; i++) {
			struct conn *c = ev[i].data.ptr;
			if (on_event(c, ev[i].events) && rate <= 0)
				send_one(c, now());
		}
		t = now();
		for (size_t i = 0; rate > 0 && i < n; i++) {
			struct conn *c = &conns[i];
			if (c->asked && t - c->began > STALL / 1000.0)
				die("stalled");
			if (c->asked || c->due > t)
				continue;
			send_one(c, t);
			c->due += 1 / rate;
		}
	}
	report(t - start);
}

static void
connects(size_t n)
{
	uint8_t in[4096];
	double start = now();

	for (size_t i = 0; i < n; i++) {
		struct conn c;
		uint64_t body;
		double t = now();
		open_conn(&c);
		request(&c, "GET /small", "", in, sizeof(in), &body);
		took[count++] = now() - t;
		close_conn(&c);
	}
	report(now() - start);
}

static void
hold(void)
{
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
}

static void
stall(const char *mib)
{
	uint8_t in[4096];
	uint64_t body;
	char line[64];
	int small = 64 * 1024;

	open_conn(&conns[0]);
	setsockopt(conns[0].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	snprintf(line, sizeof(line), "GET /down/%llu",
	    strtoull(mib, NULL, 10) << 20);
	request(&conns[0], line, "", in, sizeof(in), &body);
	hold();
}

static void
run(int argc, char **argv)
{
	const char *what = argv[0];
	double first = strtod(argv[1], NULL);
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	bool ws = strcmp(what, "ws") == 0 || strcmp(what, "chat") == 0;

	if (strcmp(what, "down") == 0 || strcmp(what, "up") == 0 ||
	    strcmp(what, "both") == 0) {
		printf("%.1f\n",
		    bulk(what[0] != 'u', what[0] != 'd', (size_t)first));
	} else if (strcmp(what, "connect") == 0) {
		connects((size_t)first);
	} else if (strcmp(what, "idle") == 0) {
		open_all((size_t)first, true);
		hold();
	} else if (strcmp(what, "stall") == 0) {
		stall(argv[1]);
	} else {
		if (ws && argc > 3)
			make_message(strtoul(argv[3], NULL, 10));
		else
			make_get();
		open_all(n, ws);
		exchange(first, n, argc > 4 ? strtod(argv[4], NULL) : 0);
	}
}

int
main(int argc, char **argv)
{
	struct rlimit files;
	int at = 1;

	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (; at < argc && argv[at][0] == '-'; at++) {
		if (strcmp(argv[at], "--tls") == 0) {
			tls = SSL_CTX_new(TLS_client_method());
			SSL_CTX_set_mode(tls,
			    SSL_MODE_ENABLE_PARTIAL_WRITE |
				SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
		} else if (strcmp(argv[at], "--host") == 0 && at + 1 < argc) {
			host = argv[++at];
		}
	}
	if (argc - at < 3 || addr_parse(slice_from(argv[at]), &to) != 0) {
		fprintf(stderr, "load_gateway: see its first lines\n");
		return 2;
	}
	pattern_make();
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	took = malloc(SAMPLES * sizeof(*took));
	if (took == NULL)
		die("out of memory");
	run(argc - at - 1, argv + at + 1);
	return 0;
}
