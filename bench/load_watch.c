/*
 * load_watch: dashboards that listen and one agent that speaks (bench).
 *
 * usage: load_watch ADDR:PORT --path P --agent-path P [--conns N]
 *            [--size S] [--pid PID]
 *
 * Opens N dashboards of the console API, then an agent called "speaker",
 * which waits to be given a command.  Then for each line "MESSAGES BURST" on
 * stdin it sends so many messages of output, BURST at a time, and waits until
 * every dashboard has each of them.  Each phase prints
 *
 *	open|speak COUNT SECONDS CPU_SECONDS BYTES P50_US P99_US
 *
 * where COUNT is of dashboards or of deliveries, CPU that of process PID
 * meanwhile, BYTES what one dashboard was sent for one of them, and the rest
 * how long a delivery took, from before it was sent until it was read here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
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
	IN_MAX = 64 * 1024 * 1024, /* a list of ten thousand agents */
	EVENTS = 512,
	OPENING_MAX = 32,
	STALL = 30, /* seconds without any progress */
	SAMPLES = 1 << 20,
	ID_MAX = 64,
};

enum state { CONNECTING, UPGRADING, GREETING, READY };

struct peer {
	int fd;
	enum state state;
	struct buf in;
	struct buf out;
};

struct load {
	struct sockaddr_in to;
	const char *path, *agent_path;
	size_t conns, size;
	pid_t pid;
	int epoll;
	struct peer *peers; /* the last is the speaker */
	size_t begun;
	uint64_t opened;
	uint64_t got;
	uint64_t bytes;
	uint32_t *samples; /* microseconds */
	size_t sample_count;
	char command[ID_MAX];
	uint8_t *scratch;
};

static _Noreturn void __attribute__((format(printf, 1, 2)))
die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("load_watch: ", stderr);
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

static uint64_t
micros(void)
{
	return (uint64_t)(seconds_of(CLOCK_MONOTONIC) * 1e6);
}

/* Sending ------------------------------------------------------------------ */

static void
flush(struct load *l, struct peer *p)
{
	struct slice s = buf_peek(&p->out);
	ssize_t n = s.len == 0 ? 0 : send(p->fd, s.ptr, s.len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		die("send: %s", strerror(errno));
	if (n > 0)
		buf_eat(&p->out, (size_t)n);
	bool more = buf_peek(&p->out).len > 0;
	struct epoll_event e = { .events = more ? EPOLLIN | EPOLLOUT : EPOLLIN,
		.data.ptr = p };
	if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, p->fd, &e) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
put_frame(struct peer *p, uint8_t opcode, struct slice payload)
{
	const struct ws_head h = { .len = payload.len,
		.opcode = opcode,
		.mask = 1,
		.masked = true,
		.fin = true };
	uint8_t head[WS_HEAD_MAX];
	size_t n = ws_encode_head(head, &h);

	buf_put(&p->out, (struct slice){ head, n });
	uint8_t *at = buf_reserve(&p->out, payload.len);
	if (at == NULL)
		die("out of memory");
	if (payload.len > 0)
		memcpy(at, payload.ptr, payload.len);
	ws_mask(at, payload.len, 1, 0);
	buf_commit(&p->out, payload.len);
}

static bool
is_speaker(const struct load *l, const struct peer *p)
{
	return p == &l->peers[l->conns];
}

static void
ask_upgrade(struct load *l, struct peer *p)
{
	char text[2048];
	int n = snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\n"
	    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	    is_speaker(l, p) ? l->agent_path : l->path, ntohs(l->to.sin_port));

	if (n < 0 || (size_t)n >= sizeof(text))
		die("the path is too long");
	buf_put(&p->out, (struct slice){ (uint8_t *)text, (size_t)n });
	p->state = UPGRADING;
}

static void
greet(struct load *l, struct peer *p)
{
	put_frame(p, WS_TEXT,
	    is_speaker(l, p)
		? SL("{\"type\":\"agent:connect\",\"agentId\":\"speaker\","
		     "\"agentType\":\"mock\",\"version\":\"1.0.0\"}")
		: SL("{\"type\":\"dashboard:connect\","
		     "\"dashboardId\":\"bench\"}"));
	p->state = GREETING;
}

/* Receiving ---------------------------------------------------------------- */

static void
note_command(struct load *l, struct slice text)
{
	const uint8_t *at = memmem(text.ptr, text.len, "\"commandId\":\"", 13);

	if (memmem(text.ptr, text.len, "\"command:execute\"", 17) == NULL ||
	    at == NULL)
		return;
	at += 13;
	size_t n = slice_find(
	    (struct slice){ at, (size_t)(text.ptr + text.len - at) }, '"');
	if (n >= ID_MAX)
		die("the command's id is too long");
	memcpy(l->command, at, n);
}

static void
note_output(struct load *l, struct slice text)
{
	const uint8_t *at = memmem(text.ptr, text.len, "sent@", 5);

	if (at == NULL)
		return;
	uint64_t took = micros() - strtoull((const char *)at + 5, NULL, 10);
	if (l->sample_count < SAMPLES)
		l->samples[l->sample_count++] =
		    took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
	l->got++;
	l->bytes = text.len;
}

static void
on_frame(struct load *l, struct peer *p, uint8_t opcode, struct slice data)
{
	if (opcode == WS_PING)
		put_frame(p, WS_PONG, data);
	else if (opcode != WS_TEXT)
		die("unexpected frame %d: %.*s", opcode, SLICE_FMT(data));
	else if (is_speaker(l, p))
		note_command(l, data);
	else if (p->state == READY)
		note_output(l, data);
	if (opcode == WS_TEXT && p->state == GREETING) {
		p->state = READY;
		l->opened++;
	}
}

static void
on_answer(struct load *l, struct peer *p)
{
	struct slice in = buf_peek(&p->in);
	const uint8_t *end = memmem(in.ptr, in.len, "\r\n\r\n", 4);

	if (end == NULL)
		return;
	if (memmem(in.ptr, in.len, "HTTP/1.1 101", 12) != in.ptr)
		die("no upgrade: %.*s", SLICE_FMT(in));
	buf_eat(&p->in, (size_t)(end + 4 - in.ptr));
	greet(l, p);
}

static void
parse(struct load *l, struct peer *p)
{
	struct ws_head h;

	if (p->state == UPGRADING)
		on_answer(l, p);
	while (p->state >= GREETING) {
		struct slice in = buf_peek(&p->in);
		int n = ws_decode_head(in, &h);
		if (n < 0)
			die("bad frame");
		if (n == 0 || h.len > in.len - (size_t)n)
			break;
		on_frame(l, p, h.opcode,
		    (struct slice){ in.ptr + n, (size_t)h.len });
		buf_eat(&p->in, (size_t)n + (size_t)h.len);
	}
	if (buf_peek(&p->in).len > 0)
		return;
	buf_fini(&p->in);
	buf_init(&p->in, IN_MAX);
}

static void
on_readable(struct load *l, struct peer *p)
{
	ssize_t r = recv(p->fd, l->scratch, READ_MAX, 0);

	if (r == 0 || (r < 0 && errno != EAGAIN))
		die("a connection ended: %s", r == 0 ? "EOF" : strerror(errno));
	if (r < 0)
		return;
	buf_put(&p->in, (struct slice){ l->scratch, (size_t)r });
	if (p->in.err != 0)
		die("too much at once");
	parse(l, p);
}

static void
start(struct load *l, struct peer *p)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = p };
	int on = 1;

	l->begun++;
	buf_init(&p->in, IN_MAX);
	buf_init(&p->out, IN_MAX);
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(p->fd, (struct sockaddr *)&l->to, sizeof(l->to)) != 0 &&
	    errno != EINPROGRESS)
		die("connect: %s", strerror(errno));
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, p->fd, &e) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
turn(struct load *l, size_t most)
{
	struct epoll_event events[EVENTS];

	while (l->begun < most && l->begun - l->opened < OPENING_MAX)
		start(l, &l->peers[l->begun]);
	int n = epoll_wait(l->epoll, events, EVENTS, 1000);
	if (n < 0 && errno != EINTR)
		die("epoll_wait: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		struct peer *p = events[i].data.ptr;
		if (p->state == CONNECTING)
			ask_upgrade(l, p);
		else if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
			on_readable(l, p);
		flush(l, p);
	}
}

/* Phases ------------------------------------------------------------------- */

struct mark {
	double at, cpu;
};

static struct mark
mark(struct load *l)
{
	l->sample_count = 0;
	l->got = 0;
	return (struct mark){ seconds_of(CLOCK_MONOTONIC), cpu_of(l->pid) };
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void
report(struct load *l, const char *what, uint64_t count, struct mark since)
{
	double at = seconds_of(CLOCK_MONOTONIC), cpu = cpu_of(l->pid);
	size_t n = l->sample_count;

	qsort(l->samples, n, sizeof(*l->samples), by_value);
	printf("%s %llu %.6f %.6f %llu %u %u\n", what,
	    (unsigned long long)count, at - since.at, cpu - since.cpu,
	    (unsigned long long)l->bytes, n == 0 ? 0 : l->samples[n / 2],
	    n == 0 ? 0 : l->samples[n * 99 / 100]);
	fflush(stdout);
}

/* Turn until *count has reached goal. */
static void
until(struct load *l, const uint64_t *count, uint64_t goal, size_t most)
{
	double progress = seconds_of(CLOCK_MONOTONIC);
	uint64_t before = *count;

	while (*count < goal) {
		turn(l, most);
		if (*count != before)
			progress = seconds_of(CLOCK_MONOTONIC);
		before = *count;
		if (seconds_of(CLOCK_MONOTONIC) - progress > STALL)
			die("stalled at %llu of %llu",
			    (unsigned long long)before,
			    (unsigned long long)goal);
	}
}

static void
speak(struct load *l)
{
	char text[4096];
	char padding[2048];

	memset(padding, '.', sizeof(padding));
	int n = snprintf(text, sizeof(text),
	    "{\"type\":\"terminal:output\",\"agentId\":\"speaker\","
	    "\"commandId\":\"%s\",\"output\":{\"type\":\"stdout\","
	    "\"content\":\"sent@%llu %.*s\\n\"}}",
	    l->command, (unsigned long long)micros(), (int)l->size, padding);
	put_frame(&l->peers[l->conns], WS_TEXT,
	    (struct slice){ (uint8_t *)text, (size_t)n });
}

static void
speak_all(struct load *l, uint64_t messages, uint64_t burst)
{
	struct mark m = mark(l);

	for (uint64_t said = 0; said < messages; said += burst) {
		for (uint64_t i = 0; i < burst; i++)
			speak(l);
		flush(l, &l->peers[l->conns]);
		until(l, &l->got, (said + burst) * l->conns, l->begun);
	}
	report(l, "speak", l->got, m);
}

static void
wait_for_command(struct load *l)
{
	double end = seconds_of(CLOCK_MONOTONIC) + STALL;

	while (l->command[0] == '\0') {
		turn(l, l->conns + 1);
		if (seconds_of(CLOCK_MONOTONIC) > end)
			die("the speaker was given no command");
	}
}

/* Start -------------------------------------------------------------------- */

static struct sockaddr_in
address(const char *text)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	const char *colon = strrchr(text, ':');
	char host[64];

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		die("%s is not ADDR:PORT", text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
		die("%s is not ADDR:PORT", text);
	return to;
}

static void
options(struct load *l, char **argv)
{
	for (; argv[0] != NULL; argv += 2) {
		if (argv[1] == NULL)
			die("%s needs a value", argv[0]);
		else if (strcmp(argv[0], "--path") == 0)
			l->path = argv[1];
		else if (strcmp(argv[0], "--agent-path") == 0)
			l->agent_path = argv[1];
		else if (strcmp(argv[0], "--conns") == 0)
			l->conns = strtoul(argv[1], NULL, 10);
		else if (strcmp(argv[0], "--size") == 0)
			l->size = strtoul(argv[1], NULL, 10);
		else if (strcmp(argv[0], "--pid") == 0)
			l->pid = (pid_t)strtol(argv[1], NULL, 10);
		else
			die("unknown option %s", argv[0]);
	}
}

int
main(int argc, char **argv)
{
	struct load l = {
		.conns = 10, .size = 100, .path = "/ws", .agent_path = "/ws"
	};
	struct rlimit files;
	char line[64];

	if (argc < 2)
		die("usage: load_watch ADDR:PORT [OPTION VALUE]...");
	l.to = address(argv[1]);
	options(&l, argv + 2);
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	l.epoll = epoll_create1(EPOLL_CLOEXEC);
	l.peers = alloc_array(l.conns + 1, sizeof(*l.peers));
	l.samples = alloc_array(SAMPLES, sizeof(*l.samples));
	l.scratch = alloc_new(READ_MAX);
	if (l.epoll < 0 || l.peers == NULL || l.samples == NULL ||
	    l.scratch == NULL)
		die("out of memory");
	struct mark m = mark(&l);
	until(&l, &l.opened, l.conns, l.conns);
	report(&l, "open", l.opened, m);
	wait_for_command(&l);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		char *rest;
		uint64_t messages = strtoull(line, &rest, 10);
		speak_all(&l, messages, strtoull(rest, NULL, 10));
	}
	return 0;
}
