/*
 * yamux_peer: our end of the interoperability test (tests).
 *
 * usage: yamux_peer client|server PORT STREAMS BYTES
 *
 * Connects to 127.0.0.1:PORT and runs STREAMS streams of about BYTES each
 * against tests/system/yamux/main.go, which does the same the other way
 * round.  The first byte of a stream says what it is for:
 *
 *   E  echo all until FIN, then FIN       S  hash all, answer the hash, FIN
 *   T  u32 length and so many bytes: answer their hash, FIN
 *   X  the opener resets it half-way      R  the acceptor resets it
 *   D  the opener's streams are all done
 *   G  the opener said go-away; the answer is "k", then go-away back
 *
 * Exit code 0 when all was as it should be; else a line says what was not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "wire/be.h"
#include "wire/yamux.h"

enum { READ = 256 * 1024, TX_MARK = 256 * 1024, TX_MAX = 1024 * 1024 };

struct job {
	struct list link;
	uint32_t id;
	bool ours;
	bool acked;
	char op; /* 0: not yet known */
	bool op_sent;
	uint64_t left; /* ours: bytes still to be made */
	uint64_t sent, got;
	uint64_t hash_out, hash_in;
	uint32_t random;
	struct buf queue;  /* theirs: to be sent back */
	uint8_t answer[8]; /* S: of the other end; T: the length */
	bool fin_in, fin_out;
	bool last; /* theirs: what is in the queue is all */
};

struct peer {
	int fd;
	struct yamux y;
	struct list jobs;
	struct buf tx;
	uint32_t wanted, opened, acked, finished; /* own streams */
	uint64_t bytes;
	bool ponged, told, they_done, over;
};

static const uint64_t hash_start = UINT64_C(0xcbf29ce484222325);

__attribute__((noreturn, format(printf, 1, 2))) static void
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("yamux_peer: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static msec
clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (msec)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* FNV-1a, 64 bits. */
static uint64_t
hash(uint64_t h, struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		h = (h ^ s.ptr[i]) * UINT64_C(0x100000001b3);
	return h;
}

static struct job *
job_new(struct peer *p, uint32_t id, bool ours)
{
	struct job *j = alloc_new(sizeof(*j));

	if (j == NULL)
		die("no memory");
	j->id = id;
	j->ours = ours;
	j->random = id * 2654435761U + 1;
	j->hash_in = j->hash_out = hash_start;
	buf_init(&j->queue, 8 << 20);
	list_push(&p->jobs, &j->link);
	return j;
}

static void
job_free(struct job *j)
{
	list_remove(&j->link);
	buf_fini(&j->queue);
	alloc_free(j);
}

/* Both directions have ended: was it right? */
static void
job_end(struct peer *p, struct job *j)
{
	if (!j->fin_in || !j->fin_out)
		return;
	if (j->ours && j->op == 'E' &&
	    (j->got != j->sent || j->hash_in != j->hash_out))
		die("stream %u: echo of %llu bytes came as %llu, %s", j->id,
		    (unsigned long long)j->sent, (unsigned long long)j->got,
		    j->hash_in == j->hash_out ? "equal" : "different");
	if (j->ours && j->op == 'S' &&
	    (j->got != 8 || be_get64(j->answer) != j->hash_out))
		die("stream %u: wrong hash", j->id);
	p->finished += j->ours && j->op != 'D';
	job_free(j);
}

static void
open_more(struct peer *p)
{
	static const char ops[] = "ESEX";

	while (p->opened < p->wanted) {
		uint32_t id;
		int rc = yamux_open(&p->y, NULL, &id);
		if (rc == ERR_BUSY)
			return;
		if (rc != 0)
			die("open: %s", err_name(rc));
		struct job *j = job_new(p, id, true);
		yamux_set_user(&p->y, id, j);
		j->op = ops[p->opened % 4];
		j->left = p->bytes / 2 + j->random % (p->bytes + 1);
		/* One is far larger than any window. */
		if (p->opened == 0)
			j->left += 24 << 20;
		p->opened++;
	}
}

/* All own streams are done: say so, once. */
static void
tell_done(struct peer *p)
{
	uint32_t id;

	if (p->told || p->finished < p->wanted)
		return;
	p->told = true;
	if (yamux_open(&p->y, NULL, &id) != 0)
		die("no stream for D");
	struct job *j = job_new(p, id, true);
	yamux_set_user(&p->y, id, j);
	j->op = 'D';
}

static void
on_goaway_stream(struct peer *p, struct job *j)
{
	uint32_t id;

	if (yamux_open(&p->y, NULL, &id) != ERR_CLOSED)
		die("opened a stream after go-away");
	if (!p->told || !p->they_done || !p->ponged)
		die("go-away too early");
	buf_put(&j->queue, SL("k"));
	p->over = true;
}

static void
on_op(struct peer *p, struct job *j, char op)
{
	j->op = op;
	if (op == 'D')
		p->they_done = true;
	else if (op == 'G')
		on_goaway_stream(p, j);
	else if (op == 'R') {
		yamux_reset(&p->y, j->id);
		job_free(j);
	} else if (strchr("ESTX", op) == NULL)
		die("stream %u: unknown op %d", j->id, op);
}

static void
answer_hash(struct job *j)
{
	uint8_t answer[8];

	be_put64(answer, j->hash_in);
	buf_put(&j->queue, (struct slice){ answer, sizeof(answer) });
	j->last = true;
}

/* T: take the length off the front, answer at the end. */
static void
on_counted(struct job *j, struct slice data)
{
	while (j->got < 4 && data.len > 0) {
		j->answer[j->got++] = data.ptr[0];
		data = slice_from_at(data, 1);
	}
	j->hash_in = hash(j->hash_in, data);
	j->got += data.len;
	if (j->got == 4 + (uint64_t)be_get32(j->answer))
		answer_hash(j);
}

static void
on_data(struct peer *p, struct job *j, struct slice data)
{
	uint32_t id = j->id;
	size_t at = 0;

	if (!j->ours && j->op == 0) {
		at = 1;
		on_op(p, j, (char)data.ptr[0]);
		yamux_consume(&p->y, id, 1, p->y.now);
		if (yamux_user(&p->y, id) == NULL)
			return;
	}
	data = slice_from_at(data, at);
	if (j->op == 'T') {
		yamux_consume(&p->y, id, data.len, p->y.now);
		on_counted(j, data);
		return;
	}
	j->hash_in = hash(j->hash_in, data);
	if (j->ours && j->op == 'S')
		for (size_t i = 0; i < data.len && j->got + i < 8; i++)
			j->answer[j->got + i] = data.ptr[i];
	j->got += data.len;
	if (!j->ours && (j->op == 'E' || j->op == 'X'))
		buf_put(&j->queue, data); /* consumed when sent back */
	else
		yamux_consume(&p->y, id, data.len, p->y.now);
	if (j->queue.err != 0)
		die("stream %u: held more than its window", id);
}

static void
on_fin(struct peer *p, struct job *j)
{
	j->fin_in = j->last = true;
	if (!j->ours && j->op == 'S')
		answer_hash(j);
	job_end(p, j);
}

static void
on_event(struct peer *p, const struct yamux_event *ev)
{
	struct job *j = ev->user;

	switch (ev->kind) {
	case YAMUX_OPENED:
		yamux_accept(&p->y, ev->id, job_new(p, ev->id, false));
		break;
	case YAMUX_ACKED:
		j->acked = true;
		p->acked++;
		break;
	case YAMUX_DATA:
		on_data(p, j, ev->data);
		break;
	case YAMUX_FIN:
		on_fin(p, j);
		break;
	case YAMUX_RST:
		if (j->ours || j->op != 'X')
			die("stream %u: unexpected reset", ev->id);
		job_free(j);
		break;
	case YAMUX_PONG:
		p->ponged = true;
		break;
	case YAMUX_ERROR:
		die("session: %s", err_name(ev->err));
	case YAMUX_GOAWAY:
		if (ev->code != YAMUX_NORMAL)
			die("go-away %u", ev->code);
		break;
	case YAMUX_WRITABLE:
		break;
	}
}

/* One data frame of n bytes, from src or, when that is NULL, made up. */
static void
send_frame(
    struct peer *p, struct job *j, const uint8_t *src, uint32_t n, bool fin)
{
	uint8_t frame[YAMUX_HEAD + YAMUX_FRAME_MAX];
	uint8_t *body = frame + YAMUX_HEAD;

	int rc = yamux_put_head(&p->y, j->id, n, frame);
	if (rc != 0)
		die("stream %u: head: %s", j->id, err_name(rc));
	for (uint32_t i = 0; i < n; i++) {
		if (src == NULL)
			j->random = j->random * 1664525 + 1013904223;
		body[i] = src == NULL ? (uint8_t)(j->random >> 24) : src[i];
	}
	if (j->ours && j->op_sent)
		j->hash_out = hash(j->hash_out, (struct slice){ body, n });
	buf_put(&p->tx, (struct slice){ frame, YAMUX_HEAD + n });
	if (fin)
		yamux_finish(&p->y, j->id);
	j->fin_out = fin;
}

static uint32_t
room(const struct peer *p, const struct job *j, uint64_t want)
{
	uint32_t n = yamux_window(&p->y, j->id);

	if (n > YAMUX_FRAME_MAX)
		n = YAMUX_FRAME_MAX;
	return want < n ? (uint32_t)want : n;
}

/* Send what our own stream has to say; nothing more before all are open, so
 * that all are open at once. */
static void
send_ours(struct peer *p, struct job *j)
{
	uint8_t op = (uint8_t)j->op;
	uint32_t n = room(p, j, j->left);

	if (!j->op_sent) {
		send_frame(p, j, &op, 1, j->op == 'D');
		j->op_sent = true;
	} else if (p->acked >= p->wanted && (n > 0 || j->left == 0)) {
		j->left -= n;
		j->sent += n;
		send_frame(p, j, NULL, n, j->left == 0);
		if (j->op == 'X') {
			yamux_reset(&p->y, j->id);
			p->finished++;
			job_free(j);
			return;
		}
	}
	job_end(p, j);
}

/* Send back what theirs gave us to. */
static void
send_theirs(struct peer *p, struct job *j)
{
	struct slice back = buf_peek(&j->queue);
	uint32_t n = room(p, j, back.len);
	bool echo = j->op == 'E' || j->op == 'X';
	bool fin = j->last && n == back.len;

	if (n == 0 && !fin)
		return;
	send_frame(p, j, back.ptr, n, fin);
	buf_eat(&j->queue, n);
	if (echo)
		yamux_consume(&p->y, j->id, n, p->y.now);
	job_end(p, j);
}

/* Control first, then a frame of each stream in turn. */
static void
fill(struct peer *p)
{
	size_t before;

	do {
		struct slice out = yamux_out(&p->y);
		buf_put(&p->tx, out);
		yamux_sent(&p->y, out.len);
		before = buf_peek(&p->tx).len;
		struct list *next;
		for (struct list *l = p->jobs.next; l != &p->jobs; l = next) {
			struct job *j = LIST_OF(l, struct job, link);
			next = l->next;
			if (buf_peek(&p->tx).len >= TX_MARK || j->fin_out)
				continue;
			if (j->ours)
				send_ours(p, j);
			else
				send_theirs(p, j);
		}
		if (p->tx.err != 0)
			die("out buffer: %s", err_name(p->tx.err));
	} while (
	    buf_peek(&p->tx).len > before && buf_peek(&p->tx).len < TX_MARK);
}

/* False at the end of the connection. */
static bool
receive(struct peer *p)
{
	static uint8_t bytes[READ];
	struct yamux_event ev;
	ssize_t n = recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	yamux_feed(&p->y, (struct slice){ bytes, (size_t)n }, clock_now());
	while (yamux_next(&p->y, &ev))
		on_event(p, &ev);
	return true;
}

static void
transmit(struct peer *p)
{
	struct slice out = buf_peek(&p->tx);
	ssize_t n = send(p->fd, out.ptr, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && !p->over)
		die("send: %s", strerror(errno));
	if (n > 0)
		buf_eat(&p->tx, (size_t)n);
}

static void
run(struct peer *p)
{
	struct yamux_event ev;

	for (;;) {
		open_more(p);
		tell_done(p);
		if (p->over)
			yamux_goaway(&p->y, YAMUX_NORMAL);
		fill(p);
		msec wait = yamux_deadline(&p->y) - clock_now();
		struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
		if (buf_peek(&p->tx).len > 0)
			pfd.events |= POLLOUT;
		if (poll(&pfd, 1, wait < 0 ? 0 : (int)wait) < 0)
			die("poll: %s", strerror(errno));
		if ((pfd.revents & ~POLLOUT) != 0 && !receive(p))
			return;
		if ((pfd.revents & POLLOUT) != 0)
			transmit(p);
		yamux_expire(&p->y, clock_now());
		while (yamux_next(&p->y, &ev))
			on_event(p, &ev);
	}
}

static int
dial(const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		die("connect: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

int
main(int argc, char **argv)
{
	static struct peer p;

	if (argc != 5) {
		fputs("usage: yamux_peer client|server PORT STREAMS BYTES\n",
		    stderr);
		return 2;
	}
	p.fd = dial(argv[2]);
	p.wanted = (uint32_t)strtoul(argv[3], NULL, 10);
	p.bytes = strtoul(argv[4], NULL, 10);
	list_init(&p.jobs);
	buf_init(&p.tx, TX_MAX);
	yamux_init(&p.y,
	    strcmp(argv[1], "client") == 0 ? YAMUX_CLIENT : YAMUX_SERVER,
	    &yamux_defaults, clock_now());
	run(&p);
	if (!p.over || !list_empty(&p.jobs) || p.y.streams.count != 0)
		die("closed with %u streams open", p.y.streams.count);
	yamux_fini(&p.y);
	buf_fini(&p.tx);
	close(p.fd);
	return 0;
}
