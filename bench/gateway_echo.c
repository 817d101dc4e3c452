/*
 * gateway_echo: the service behind the gateways that bench/gateway compares.
 *
 * usage: gateway_echo
 *
 * Prints "ready PORT".  One thread, epoll, HTTP/1.1: GET /small has 13 bytes,
 * GET /down/N has N, POST /up takes what Content-Length says, an upgrade to
 * WebSocket is echoed.  Bodies and messages follow one pattern of which every
 * byte is compared, and every frame must be masked and whole; a request that
 * is otherwise ends the program, for a bench of errors is none.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

#include "wire/ws.h"

#include "gateway_pattern.h"

enum { RECEIVE = 256 * 1024, EVENTS = 256, KEPT = 1024 * 1024 };

enum state { HEAD, BODY, FRAMES };

struct conn {
	int fd;
	enum state state;
	bool closing, wants_out;
	uint64_t body, body_at; /* left of a request's, and where in it */
	uint64_t down, down_at; /* the same of an answer's */
	struct buf in, out;
};

static uint8_t receive[RECEIVE];
static int poll_fd;

static _Noreturn void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static _Noreturn void
wrong(const char *what)
{
	fprintf(stderr, "gateway_echo: %s\n", what);
	exit(1);
}

static void
watch(struct conn *c, int op, bool out)
{
	struct epoll_event e = { .events = out ? EPOLLIN | EPOLLOUT : EPOLLIN,
		.data.ptr = c };

	if (epoll_ctl(poll_fd, op, c->fd, &e) != 0)
		fail("epoll_ctl");
	c->wants_out = out;
}

static void
drop(struct conn *c)
{
	close(c->fd);
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

static void
say(struct conn *c, const char *text)
{
	buf_put(&c->out, slice_from(text));
}

/* The value of a field by its lower-case name, or NULL; head is a string. */
static const char *
field(const char *head, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = strstr(head, "\r\n"); at != NULL;
	     at = strstr(at + 2, "\r\n"))
		if (strncasecmp(at + 2, name, n) == 0 && at[2 + n] == ':')
			return at + 3 + n + strspn(at + 3 + n, " ");
	return NULL;
}

static void
upgrade(struct conn *c, const char *key)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[128], accept[64];
	uint8_t digest[SHA_DIGEST_LENGTH];
	size_t n = strcspn(key, "\r ");

	if (n != 24)
		wrong("a handshake without its key");
	snprintf(text, sizeof(text), "%.24s%s", key, guid);
	SHA1((uint8_t *)text, strlen(text), digest);
	EVP_EncodeBlock((uint8_t *)accept, digest, sizeof(digest));
	say(c,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
	say(c, accept);
	say(c, "\r\n\r\n");
	c->state = FRAMES;
}

static void
answer(struct conn *c, const char *head)
{
	const char *value;
	char text[128];

	if ((value = field(head, "sec-websocket-key")) != NULL) {
		upgrade(c, value);
	} else if (strncmp(head, "GET /down/", 10) == 0) {
		c->down = strtoull(head + 10, NULL, 10);
		c->down_at = 0;
		snprintf(text, sizeof(text),
		    "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n",
		    (unsigned long long)c->down);
		say(c, text);
	} else if (strncmp(head, "GET /small ", 11) == 0) {
		say(c,
		    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
		    "Content-Length: 13\r\n\r\nhello, world\n");
	} else if (strncmp(head, "POST /up ", 9) == 0 &&
	    (value = field(head, "content-length")) != NULL) {
		c->body = strtoull(value, NULL, 10);
		c->body_at = 0;
		c->state = BODY;
	} else {
		wrong(head);
	}
}

/* Bytes taken of each, 0 when more are needed. */
static size_t
take_head(struct conn *c, struct slice s)
{
	char head[8192];
	const uint8_t *end = memmem(s.ptr, s.len, "\r\n\r\n", 4);
	size_t n = end == NULL ? 0 : (size_t)(end - s.ptr) + 4;

	if (n >= sizeof(head))
		wrong("a head too long");
	if (n == 0)
		return 0;
	memcpy(head, s.ptr, n);
	head[n] = 0;
	answer(c, head);
	return n;
}

static size_t
take_body(struct conn *c, struct slice s)
{
	size_t n = s.len < c->body ? s.len : (size_t)c->body;

	if (!pattern_is(s.ptr, n, c->body_at))
		wrong("a body is not what was sent");
	c->body -= n;
	c->body_at += n;
	if (c->body == 0) {
		c->state = HEAD;
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
	}
	return n;
}

static size_t
take_frame(struct conn *c, struct slice s)
{
	struct ws_head h;
	int head = ws_decode_head(s, &h);

	if (head < 0 || (head > 0 && (!h.masked || !h.fin || h.rsv1)))
		wrong("a frame is not what was sent");
	if (head == 0 || s.len - (size_t)head < h.len)
		return 0;
	if (h.opcode == WS_PING)
		h.opcode = WS_PONG;
	c->closing = h.opcode == WS_CLOSE;
	h.masked = false;
	uint8_t *out = buf_reserve(&c->out, WS_HEAD_MAX + (size_t)h.len);
	if (out == NULL)
		fail("buf");
	size_t n = ws_encode_head(out, &h), len = (size_t)h.len;
	memcpy(out + n, s.ptr + head, len);
	ws_mask(out + n, len, h.mask, 0);
	if (h.opcode == WS_BINARY && !pattern_is(out + n, len, 0))
		wrong("a message is not what was sent");
	buf_commit(&c->out, n + len);
	return (size_t)head + len;
}

static size_t
take(struct conn *c, struct slice s)
{
	size_t done = 0, n;

	do {
		struct slice rest = { s.ptr + done, s.len - done };
		n = rest.len == 0 || c->closing ? 0
		    : c->state == HEAD          ? take_head(c, rest)
		    : c->state == BODY          ? take_body(c, rest)
						: take_frame(c, rest);
		done += n;
	} while (n > 0);
	return done;
}

/* False when the connection is over. */
static bool
pull(struct conn *c)
{
	ssize_t r = recv(c->fd, receive, sizeof(receive), 0);

	if (r < 0)
		return errno == EAGAIN;
	if (r == 0)
		return false;
	struct slice s = { receive, (size_t)r };
	if (buf_peek(&c->in).len > 0) {
		buf_put(&c->in, s);
		buf_eat(&c->in, take(c, buf_peek(&c->in)));
		return c->in.err == 0;
	}
	size_t n = take(c, s);
	buf_put(&c->in, (struct slice){ s.ptr + n, s.len - n });
	return c->in.err == 0;
}

static bool
push(struct conn *c)
{
	struct slice s = buf_peek(&c->out);
	ssize_t r = 1;

	if (s.len > 0) {
		r = send(c->fd, s.ptr, s.len, MSG_NOSIGNAL);
		if (r > 0)
			buf_eat(&c->out, (size_t)r);
	}
	while (r > 0 && buf_peek(&c->out).len == 0 && c->down > 0) {
		const uint8_t *at = pattern + c->down_at % PATTERN;
		size_t n = PATTERN - (size_t)(c->down_at % PATTERN);
		r = send(
		    c->fd, at, n < c->down ? n : (size_t)c->down, MSG_NOSIGNAL);
		if (r > 0) {
			c->down -= (uint64_t)r;
			c->down_at += (uint64_t)r;
		}
	}
	return r > 0 || errno == EAGAIN;
}

static void
serve(struct conn *c, uint32_t events)
{
	bool more;

	if (((events & ~(uint32_t)EPOLLOUT) && !pull(c)) || !push(c)) {
		drop(c);
		return;
	}
	more = buf_peek(&c->out).len > 0 || c->down > 0;
	if (c->closing && !more)
		drop(c);
	else if (more != c->wants_out)
		watch(c, EPOLL_CTL_MOD, more);
}

static void
accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int on = 1;
	struct conn *c;

	if (fd < 0)
		return;
	if ((c = calloc(1, sizeof(*c))) == NULL)
		fail("calloc");
	c->fd = fd;
	buf_init(&c->in, KEPT);
	buf_init(&c->out, KEPT);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	watch(c, EPOLL_CTL_ADD, false);
}

static int
listen_here(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) != 0)
		fail("listen");
	printf("ready %d\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

int
main(void)
{
	struct rlimit files;
	struct epoll_event events[EVENTS];

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	pattern_make();
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct conn listener = { .fd = listen_here() };
	watch(&listener, EPOLL_CTL_ADD, false);
	for (;;) {
		int n = epoll_wait(poll_fd, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (c == &listener)
				accept_one(c->fd);
			else
				serve(c, events[i].events);
		}
	}
}
