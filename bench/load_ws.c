/*
 * load_ws: WebSocket connections that ask and check what they get (bench).
 *
 * usage: load_ws ADDR:PORT [--path P] [--conns N] [--size S] [--pipe D]
 *            [--seconds T] [--pid PID] [--raw] [--tls] [--agents] [--step]
 *
 * Opens N connections (from several 127.0.0.x when there are many), makes
 * each an agent's by `register` with --agents, then keeps D messages under
 * way on each for T seconds: echoed messages of S bytes, of which every byte
 * is compared, or heartbeats, whose acknowledgements must name the right
 * request.  --raw speaks plain TCP to an echo.  Each phase prints
 *
 *	open|register|messages COUNT SECONDS CPU_SECONDS [BYTES]
 *
 * where CPU is what process PID used meanwhile, user and system, of all its
 * threads.  Times of messages are taken after a fifth of a second of them.
 * With --step each phase but the first waits for a line on stdin, the last is
 * repeated for every further line, and the connections are kept, pings
 * answered, until stdin ends.
 *
 * What is sent is a script of frames made beforehand, repeated for ever, so
 * that a server under load and not this program is the limit.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
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

#include "base/alloc.h"
#include "base/buf.h"

#include "wire/ws.h"

enum {
	READ_MAX = 1024 * 1024,
	EVENTS = 512,
	OPENING_MAX = 128, /* handshakes under way */
	PER_SOURCE = 1000, /* connections from one address */
	IN_MAX = 64 * 1024,
	SCRIPT_MAX = 64, /* frames */
	SCRIPT_BYTES = 2 * 1024 * 1024,
	STALL = 20, /* seconds without any progress */
};

enum state { CONNECTING, SHAKING, UPGRADING, OPEN, REGISTERING, READY };

struct peer {
	int fd;
	enum state state;
	size_t number;
	SSL *ssl;
	bool wants_out;
	struct buf in;  /* what is parsed and not yet whole */
	struct buf own; /* to be sent before the script goes on */
	uint64_t sent;  /* bytes of the script */
	uint64_t got;   /* bytes of echo */
	uint64_t done;  /* messages */
};

/* Frames one after the other, all of one length. */
struct script {
	uint8_t *bytes;
	size_t frame;
	size_t frames;
};

struct load {
	struct sockaddr_in to;
	const char *path;
	size_t conns, size, pipe;
	double seconds;
	pid_t pid;
	bool raw, tls, agents, step;

	int epoll;
	SSL_CTX *tls_context;
	struct peer *peers;
	size_t begun, opened, registered;
	uint64_t messages;
	uint64_t lines; /* read from stdin */
	bool running;   /* the script is being sent */
	struct script ask, answer;
	uint8_t *scratch;
};

static _Noreturn void __attribute__((format(printf, 1, 2)))
die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("load_ws: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static double
seconds_of(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) != 0)
		die("clock: %s", strerror(errno));
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double
cpu_of(pid_t pid)
{
	clockid_t clock;

	if (pid == 0)
		return 0;
	if (clock_getcpuclockid(pid, &clock) != 0)
		die("process %d is not there", (int)pid);
	return seconds_of(clock);
}

/* Scripts ------------------------------------------------------------------ */

static void
frame_put(struct buf *b, uint8_t opcode, struct slice payload, uint32_t mask)
{
	struct ws_head h = { .len = payload.len,
		.mask = mask,
		.opcode = opcode,
		.fin = true,
		.masked = mask != 0 };
	uint8_t head[WS_HEAD_MAX];
	size_t n = ws_encode_head(head, &h);

	buf_put(b, (struct slice){ head, n });
	uint8_t *at = buf_reserve(b, payload.len);
	if (at == NULL)
		die("out of memory");
	if (payload.len > 0)
		memcpy(at, payload.ptr, payload.len);
	if (mask != 0)
		ws_mask(at, payload.len, mask, 0);
	buf_commit(b, payload.len);
}

/* A cheap generator: what it says must only be hard to guess by accident. */
static uint32_t
draw(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16) | 1;
}

static struct slice
heartbeat(char *text, size_t size, size_t i)
{
	int n = snprintf(text, size,
	    "{\"type\":\"heartbeat\",\"request_id\":\"hb-%04zu\",\"payload\":{"
	    "\"tunnel_status\":\"connected\",\"status\":\"available\","
	    "\"metadata\":{\"version\":\"1.0.0\",\"k8s_nodes\":3,"
	    "\"k8s_pods\":25,\"cpu_usage\":\"45%%\",\"memory_usage\":\"60%%\","
	    "\"load\":\"%08x\",\"hostname\":\"bench-host\","
	    "\"region\":\"eu-central-1\",\"uptime_seconds\":123456}},"
	    "\"timestamp\":\"2025-10-16T12:00:00Z\"}",
	    i, draw());

	return (struct slice){ (uint8_t *)text, (size_t)n };
}

static void
make_scripts(struct load *l)
{
	struct buf ask, answer;
	size_t frames = SCRIPT_BYTES / (l->size + 1);
	char *text = alloc_new(l->size + 1024);

	if (text == NULL)
		die("out of memory");
	frames = frames < 4 ? 4 : frames > SCRIPT_MAX ? SCRIPT_MAX : frames;
	buf_init(&ask, 1 << 30);
	buf_init(&answer, 1 << 30);
	for (size_t i = 0; i < frames; i++) {
		struct slice s = { (uint8_t *)text, l->size };
		if (l->agents)
			s = heartbeat(text, 1024, i);
		for (size_t k = 0; !l->agents && k < l->size; k++)
			text[k] = (char)(' ' + draw() % 90);
		if (l->raw) {
			buf_put(&ask, s);
			buf_put(&answer, s);
		} else {
			frame_put(&ask, WS_TEXT, s, draw());
			frame_put(&answer, WS_TEXT, s, 0);
		}
	}
	l->ask = (struct script){ ask.mem, ask.tail / frames, frames };
	l->answer = (struct script){ answer.mem, answer.tail / frames, frames };
	alloc_free(text);
}

/* Sending ------------------------------------------------------------------ */

static void
watch(struct load *l, struct peer *p, bool out)
{
	struct epoll_event e = { .events = out ? EPOLLIN | EPOLLOUT : EPOLLIN,
		.data.ptr = p };

	if (p->wants_out == out)
		return;
	p->wants_out = out;
	if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, p->fd, &e) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

/* Bytes taken, 0 when the socket is full. */
static size_t
put(struct peer *p, const uint8_t *bytes, size_t n)
{
	ssize_t r;

	if (p->ssl != NULL) {
		r = SSL_write(p->ssl, bytes, (int)n);
		if (r > 0)
			return (size_t)r;
		int why = SSL_get_error(p->ssl, (int)r);
		if (why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ)
			return 0;
		die("connection %zu: TLS write failed", p->number);
	}
	r = send(p->fd, bytes, n, MSG_NOSIGNAL);
	if (r < 0 && errno != EAGAIN)
		die("connection %zu: send: %s", p->number, strerror(errno));
	return r < 0 ? 0 : (size_t)r;
}

static bool
put_own(struct peer *p)
{
	struct slice own = buf_peek(&p->own);

	if (own.len == 0)
		return true;
	buf_eat(&p->own, put(p, own.ptr, own.len));
	if (buf_peek(&p->own).len > 0)
		return false;
	buf_fini(&p->own);
	buf_init(&p->own, IN_MAX);
	return true;
}

/* As much of the script as keeps l->pipe messages under way. */
static bool
put_script(struct load *l, struct peer *p)
{
	const struct script *s = &l->ask;
	size_t all = s->frame * s->frames;

	while (p->sent < (p->done + l->pipe) * s->frame) {
		size_t at = p->sent % all;
		size_t n = (size_t)((p->done + l->pipe) * s->frame - p->sent);
		if (n > all - at)
			n = all - at;
		size_t went = put(p, s->bytes + at, n);
		p->sent += went;
		if (went == 0)
			return false;
	}
	return true;
}

static void
flush(struct load *l, struct peer *p)
{
	bool all = true;

	/* Control frames go between frames of the script. */
	if (p->sent % l->ask.frame == 0)
		all = put_own(p);
	if (all && l->running && p->state == READY)
		all = put_script(l, p);
	watch(l, p, !all);
}

static void
say(struct peer *p, const char *text)
{
	frame_put(&p->own, WS_TEXT, slice_from(text), draw());
}

/* Opening ------------------------------------------------------------------ */

static void
start(struct load *l, struct peer *p)
{
	struct sockaddr_in from = { .sin_family = AF_INET };
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = p };
	int on = 1;

	p->number = l->begun++;
	buf_init(&p->in, READ_MAX);
	buf_init(&p->own, IN_MAX);
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		die("socket: %s", strerror(errno));
	if (ntohl(l->to.sin_addr.s_addr) >> 24 == 127) {
		setsockopt(p->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
		    sizeof(on));
		from.sin_addr.s_addr =
		    htonl(0x7f000001 + (uint32_t)(p->number / PER_SOURCE));
		if (bind(p->fd, (struct sockaddr *)&from, sizeof(from)) != 0)
			die("bind: %s", strerror(errno));
	}
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(p->fd, (struct sockaddr *)&l->to, sizeof(l->to)) != 0 &&
	    errno != EINPROGRESS)
		die("connect: %s", strerror(errno));
	p->wants_out = true;
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, p->fd, &e) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
opened(struct load *l, struct peer *p)
{
	l->opened++;
	p->state = l->agents ? OPEN : READY;
}

static void
ask_upgrade(struct load *l, struct peer *p)
{
	char text[2048];
	int n = snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: Upgrade\r\n"
	    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	    l->path, inet_ntoa(l->to.sin_addr), ntohs(l->to.sin_port));

	assert(n > 0 && (size_t)n < sizeof(text));
	buf_put(&p->own, (struct slice){ (uint8_t *)text, (size_t)n });
	p->state = UPGRADING;
}

static void
connected(struct load *l, struct peer *p)
{
	int err = 0;
	socklen_t len = sizeof(err);

	getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err != 0)
		die("connection %zu: %s", p->number, strerror(err));
	if (l->tls) {
		p->ssl = SSL_new(l->tls_context);
		if (p->ssl == NULL || SSL_set_fd(p->ssl, p->fd) != 1)
			die("TLS: no memory");
		SSL_set_connect_state(p->ssl);
		p->state = SHAKING;
	} else if (l->raw) {
		opened(l, p);
	} else {
		ask_upgrade(l, p);
	}
}

static void
shake(struct load *l, struct peer *p)
{
	int r = SSL_do_handshake(p->ssl);

	if (r == 1) {
		ask_upgrade(l, p);
		return;
	}
	r = SSL_get_error(p->ssl, r);
	if (r != SSL_ERROR_WANT_READ && r != SSL_ERROR_WANT_WRITE)
		die("connection %zu: TLS handshake failed", p->number);
	watch(l, p, r == SSL_ERROR_WANT_WRITE);
}

static void
on_answer(struct load *l, struct peer *p)
{
	struct slice in = buf_peek(&p->in);
	const uint8_t *end = memmem(in.ptr, in.len, "\r\n\r\n", 4);

	if (end == NULL)
		return;
	if (memmem(in.ptr, in.len, "HTTP/1.1 101", 12) != in.ptr ||
	    memmem(in.ptr, in.len, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28) == NULL)
		die("connection %zu: no upgrade: %.*s", p->number,
		    SLICE_FMT(in));
	buf_eat(&p->in, (size_t)(end + 4 - in.ptr));
	opened(l, p);
}

/* Receiving ---------------------------------------------------------------- */

static void
check_echo(struct load *l, struct peer *p, const uint8_t *bytes, size_t n)
{
	const struct script *s = &l->answer;
	size_t all = s->frame * s->frames;

	while (n > 0) {
		size_t at = p->got % all;
		size_t part = n < all - at ? n : all - at;
		if (memcmp(s->bytes + at, bytes, part) != 0)
			die("connection %zu: not what was sent, near byte %llu",
			    p->number, (unsigned long long)p->got);
		p->got += part;
		bytes += part;
		n -= part;
	}
	uint64_t done = p->got / s->frame;
	l->messages += done - p->done;
	p->done = done;
}

static void
on_ack(struct load *l, struct peer *p, struct slice text)
{
	char id[32];
	int n = snprintf(id, sizeof(id), "\"request_id\":\"hb-%04zu\"",
	    (size_t)(p->done % l->ask.frames));

	if (memmem(text.ptr, text.len, "\"heartbeat_ack\"", 15) == NULL ||
	    memmem(text.ptr, text.len, id, (size_t)n) == NULL)
		die("connection %zu: wanted %s, got %.*s", p->number, id,
		    SLICE_FMT(text));
	p->done++;
	l->messages++;
}

static void
on_frame(struct load *l, struct peer *p, uint8_t opcode, struct slice data)
{
	if (opcode == WS_PING) {
		frame_put(&p->own, WS_PONG, data, draw());
	} else if (opcode == WS_TEXT && p->state == REGISTERING) {
		if (memmem(data.ptr, data.len, "\"register_success\"", 18) ==
		    NULL)
			die("connection %zu: %.*s", p->number, SLICE_FMT(data));
		p->state = READY;
		l->registered++;
	} else if (opcode == WS_TEXT && p->state == READY) {
		on_ack(l, p, data);
	} else {
		die("connection %zu: unexpected frame %d: %.*s", p->number,
		    opcode, SLICE_FMT(data));
	}
}

static void
parse(struct load *l, struct peer *p)
{
	struct ws_head h;

	if (p->state == UPGRADING)
		on_answer(l, p);
	while (p->state >= OPEN) {
		struct slice in = buf_peek(&p->in);
		int n = ws_decode_head(in, &h);
		if (n < 0 || (n > 0 && h.masked))
			die("connection %zu: bad frame", p->number);
		if (n == 0 || h.len > in.len - (size_t)n)
			break;
		on_frame(l, p, h.opcode,
		    (struct slice){ in.ptr + n, (size_t)h.len });
		buf_eat(&p->in, (size_t)n + (size_t)h.len);
	}
	if (buf_peek(&p->in).len == 0) {
		buf_fini(&p->in);
		buf_init(&p->in, READ_MAX);
	}
}

/* Bytes read; 0 when there are none now. */
static size_t
get(struct load *l, struct peer *p)
{
	ssize_t r;

	if (p->ssl != NULL) {
		r = SSL_read(p->ssl, l->scratch, READ_MAX);
		if (r > 0)
			return (size_t)r;
		int why = SSL_get_error(p->ssl, (int)r);
		if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
			return 0;
		die("connection %zu: TLS ended (%d)", p->number, why);
	}
	r = recv(p->fd, l->scratch, READ_MAX, 0);
	if (r == 0 || (r < 0 && errno != EAGAIN))
		die("connection %zu: ended: %s", p->number,
		    r == 0 ? "EOF" : strerror(errno));
	return r < 0 ? 0 : (size_t)r;
}

static void
on_readable(struct load *l, struct peer *p)
{
	size_t n;

	do {
		n = get(l, p);
		if (n == 0)
			break;
		if (p->state == READY && !l->agents) {
			check_echo(l, p, l->scratch, n);
			continue;
		}
		buf_put(&p->in, (struct slice){ l->scratch, n });
		if (p->in.err != 0)
			die("connection %zu: too much at once", p->number);
		parse(l, p);
	} while (p->ssl != NULL); /* it may hold more than poll knows of */
}

static void
on_stdin(struct load *l)
{
	char text[256];
	ssize_t n = read(0, text, sizeof(text));

	if (n <= 0)
		exit(0);
	for (ssize_t i = 0; i < n; i++)
		l->lines += text[i] == '\n';
}

static void
on_peer(struct load *l, struct peer *p, uint32_t events)
{
	if (p->state == CONNECTING)
		connected(l, p);
	else if (p->state == SHAKING)
		shake(l, p);
	else if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		on_readable(l, p);
	if (p->state != CONNECTING && p->state != SHAKING)
		flush(l, p);
}

static void
turn(struct load *l, int wait)
{
	struct epoll_event events[EVENTS];

	while (l->begun < l->conns && l->begun - l->opened < OPENING_MAX)
		start(l, &l->peers[l->begun]);
	int n = epoll_wait(l->epoll, events, EVENTS, wait);
	if (n < 0 && errno != EINTR)
		die("epoll_wait: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == NULL)
			on_stdin(l);
		else
			on_peer(l, events[i].data.ptr, events[i].events);
	}
}

/* Phases ------------------------------------------------------------------- */

struct mark {
	double at, cpu;
};

static struct mark
mark(struct load *l)
{
	return (struct mark){ seconds_of(CLOCK_MONOTONIC), cpu_of(l->pid) };
}

static void
report(struct load *l, const char *what, uint64_t count, struct mark since)
{
	struct mark m = mark(l);

	printf("%s %llu %.6f %.6f %zu\n", what, (unsigned long long)count,
	    m.at - since.at, m.cpu - since.cpu, l->ask.frame);
	fflush(stdout);
}

/* Turn until *count has reached goal. */
static void
until(struct load *l, const size_t *count, size_t goal)
{
	double progress = seconds_of(CLOCK_MONOTONIC);
	size_t before = *count;

	while (*count < goal) {
		turn(l, 1000);
		double now = seconds_of(CLOCK_MONOTONIC);
		if (*count != before)
			progress = now;
		before = *count;
		if (now - progress > STALL)
			die("stalled at %zu of %zu", before, goal);
	}
}

static void
step(struct load *l)
{
	uint64_t had = l->lines;

	while (l->step && l->lines == had)
		turn(l, 1000);
}

static void
open_all(struct load *l)
{
	struct mark m = mark(l);

	until(l, &l->opened, l->conns);
	report(l, "open", l->opened, m);
}

static void
register_all(struct load *l)
{
	struct mark m = mark(l);
	char text[512];

	for (size_t i = 0; i < l->conns; i++) {
		struct peer *p = &l->peers[i];
		snprintf(text, sizeof(text),
		    "{\"type\":\"register\",\"request_id\":\"reg-%zu\","
		    "\"payload\":{\"agent_id\":\"bench-%05zu\","
		    "\"name\":\"bench-%05zu\",\"hostname\":\"host-%05zu\","
		    "\"agent_version\":\"1.0.0\",\"region\":\"eu-central-1\","
		    "\"server_specs\":{\"cpu_cores\":4,\"memory_gb\":16,"
		    "\"disk_gb\":100,\"os\":\"Debian 12\"},"
		    "\"labels\":{\"env\":\"bench\"}},"
		    "\"timestamp\":\"2025-10-16T12:00:00Z\"}",
		    i, i, i, i);
		p->state = REGISTERING;
		say(p, text);
		flush(l, p);
		if (i % 64 == 63)
			turn(l, 0);
	}
	until(l, &l->registered, l->conns);
	report(l, "register", l->registered, m);
}

static void
run_for(struct load *l, double seconds)
{
	double end = seconds_of(CLOCK_MONOTONIC) + seconds;

	while (seconds_of(CLOCK_MONOTONIC) < end)
		turn(l, 100);
}

static void
run_messages(struct load *l)
{
	l->running = true;
	for (size_t i = 0; i < l->conns; i++)
		flush(l, &l->peers[i]);
	run_for(l, 0.2);
	struct mark m = mark(l);
	uint64_t before = l->messages;
	run_for(l, l->seconds);
	if (l->messages == before)
		die("no message came back in %.1f s", l->seconds);
	report(l, "messages", l->messages - before, m);
	l->running = false;
}

/* Start -------------------------------------------------------------------- */

static struct sockaddr_in
address(const char *text)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	char host[64];
	const char *colon = strrchr(text, ':');

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		die("%s is not ADDR:PORT", text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, host, &to.sin_addr) != 1 || to.sin_port == 0)
		die("%s is not ADDR:PORT", text);
	return to;
}

static const char *
value(char **argv, int *i)
{
	if (argv[*i + 1] == NULL)
		die("%s needs a value", argv[*i]);
	return argv[++*i];
}

static void
option(struct load *l, char **argv, int *i)
{
	const char *name = argv[*i];

	if (strcmp(name, "--path") == 0)
		l->path = value(argv, i);
	else if (strcmp(name, "--conns") == 0)
		l->conns = strtoul(value(argv, i), NULL, 10);
	else if (strcmp(name, "--size") == 0)
		l->size = strtoul(value(argv, i), NULL, 10);
	else if (strcmp(name, "--pipe") == 0)
		l->pipe = strtoul(value(argv, i), NULL, 10);
	else if (strcmp(name, "--seconds") == 0)
		l->seconds = strtod(value(argv, i), NULL);
	else if (strcmp(name, "--pid") == 0)
		l->pid = (pid_t)strtol(value(argv, i), NULL, 10);
	else if (strcmp(name, "--raw") == 0)
		l->raw = true;
	else if (strcmp(name, "--tls") == 0)
		l->tls = true;
	else if (strcmp(name, "--agents") == 0)
		l->agents = true;
	else if (strcmp(name, "--step") == 0)
		l->step = true;
	else
		die("unknown option %s", name);
}

static void
prepare(struct load *l)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->peers = alloc_array(l->conns, sizeof(*l->peers));
	l->scratch = alloc_new(READ_MAX);
	if (l->epoll < 0 || l->peers == NULL || l->scratch == NULL)
		die("out of memory");
	make_scripts(l);
	if (l->tls) {
		l->tls_context = SSL_CTX_new(TLS_client_method());
		if (l->tls_context == NULL)
			die("TLS: no memory");
		/* The figures are the server's: nobody is deceived here. */
		SSL_CTX_set_verify(l->tls_context, SSL_VERIFY_NONE, NULL);
		SSL_CTX_set_mode(l->tls_context,
		    SSL_MODE_RELEASE_BUFFERS |
			SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
			SSL_MODE_ENABLE_PARTIAL_WRITE);
	}
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL };
	if (l->step && epoll_ctl(l->epoll, EPOLL_CTL_ADD, 0, &e) != 0)
		die("stdin: %s", strerror(errno));
}

int
main(int argc, char **argv)
{
	struct load l = {
		.path = "/dev/echo", .conns = 1, .size = 64, .pipe = 1
	};

	if (argc < 2)
		die("usage: load_ws ADDR:PORT [OPTION]...");
	l.to = address(argv[1]);
	for (int i = 2; i < argc; i++)
		option(&l, argv, &i);
	prepare(&l);
	open_all(&l);
	if (l.agents) {
		step(&l);
		register_all(&l);
	}
	do {
		step(&l);
		if (l.seconds > 0)
			run_messages(&l);
	} while (l.step);
	return 0;
}
