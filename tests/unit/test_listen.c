#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#include "io/addr.h"
#include "io/listen.h"
#include "io/log.h"
#include "io/proxy2.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/streams.h"
#include "support/unit.h"

/* Addresses ---------------------------------------------------------------- */

static void
test_addr(void **state)
{
	static const struct {
		const char *in, *out;
	} good[] = {
		{ "192.0.2.1:80", "192.0.2.1:80" },
		{ "[2001:db8::1]:443", "[2001:db8::1]:443" },
		{ "[::ffff:192.0.2.7]:1", "192.0.2.7:1" },
		{ "*:0", "[::]:0" },
		{ "LocalHost:65535", "127.0.0.1:65535" },
		{ "/run/x.sock", "unix" },
	};
	static const char *const bad[] = { "", "80", "1.2.3.4",
		"1.2.3.4:", "1.2.3.4:65536", "1.2.3:4", "::1:80", "[::1]",
		"[::1:80", "[1.2.3.4]x:80", "name:80", ":80" };
	char text[ADDR_TEXT];
	union addr a;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(addr_parse(slice_from(good[i].in), &a), 0);
		addr_unmap(&a);
		addr_format(&a.sa, text);
		assert_string_equal(text, good[i].out);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    addr_parse(slice_from(bad[i]), &a), ERR_INVALID);
	assert_int_equal(addr_parse(SL("127.9.9.9:1"), &a), 0);
	assert_true(addr_is_loopback(&a.sa));
	assert_int_equal(addr_parse(SL("[::ffff:127.0.0.1]:1"), &a), 0);
	assert_true(addr_is_loopback(&a.sa));
	assert_int_equal(addr_parse(SL("128.0.0.1:1"), &a), 0);
	assert_false(addr_is_loopback(&a.sa));
}

/* PROXY headers ------------------------------------------------------------ */

#define SIGN "\r\n\r\n\0\r\nQUIT\n"
#define TCP4                  \
	SIGN "\x21\x11\0\x0c" \
	     "\xc0\0\2\1"     \
	     "\xc6\x33\x64\1" \
	     "\xea\x60"       \
	     "\1\xbb"
#define TCP6                                          \
	SIGN "\x21\x21\0\x24"                         \
	     "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1" \
	     "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2" \
	     "\x30\x39\0\x50"

static void
test_proxy2_good(void **state)
{
	static const struct {
		struct slice s;
		const char *from; /* NULL: local */
	} good[] = {
		{ SL_INIT(TCP4), "192.0.2.1:60000" },
		{ SL_INIT(TCP6), "[2001:db8::1]:12345" },
		/* An extension: PP2_TYPE_AUTHORITY "x". */
		{ SL_INIT(SIGN "\x21\x11\0\x10"
			       "\1\2\3\4\5\6\7\x08\0\1\0\2\2\0\1x"),
		    "1.2.3.4:1" },
		{ SL_INIT(SIGN "\x20\0\0\0"), NULL },
		{ SL_INIT(SIGN "\x20\x11\0\3abc"), NULL },
		{ SL_INIT(SIGN "\x21\0\0\2xy"), NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char text[ADDR_TEXT];
		struct proxy2 p;
		/* Every prefix wants more, and none reads beyond itself. */
		for (size_t n = 0; n < good[i].s.len; n++) {
			struct slice g = guard_copy(slice_first(good[i].s, n));
			assert_int_equal(proxy2_parse(g, &p), 0);
			assert_true(proxy2_length(g) > n);
			guard_free(g);
		}
		struct slice g = guard_copy(good[i].s);
		assert_int_equal(proxy2_parse(g, &p), (int)g.len);
		assert_int_equal(proxy2_length(g), g.len);
		guard_free(g);
		assert_int_equal(p.local, good[i].from == NULL);
		if (p.local)
			continue;
		addr_format(&p.from.sa, text);
		assert_string_equal(text, good[i].from);
	}
}

static void
test_proxy2_bad(void **state)
{
	static const struct {
		struct slice s;
		int err;
	} bad[] = {
		{ SL_INIT("G"), ERR_PROTOCOL },
		{ SL_INIT("PROXY TCP4 1.2.3.4"), ERR_PROTOCOL },
		{ SL_INIT(SIGN "\x11"), ERR_PROTOCOL },         /* version 1 */
		{ SL_INIT(SIGN "\x22"), ERR_PROTOCOL },         /* command 2 */
		{ SL_INIT(SIGN "\x21\x12\0\0"), ERR_PROTOCOL }, /* UDP */
		{ SL_INIT(SIGN "\x21\x41\0\0"), ERR_PROTOCOL },
		{ SL_INIT(SIGN "\x21\x11\0\x0b"
			       "01234567890"),
		    ERR_PROTOCOL },
		{ SL_INIT(SIGN "\x21\x21\0\x0c"
			       "012345678901"),
		    ERR_PROTOCOL },
		{ SL_INIT(SIGN "\x21\x31\0\1x"), ERR_PROTOCOL },
		{ SL_INIT(SIGN "\x21\x11\x10\0"), ERR_TOO_BIG },
		{ SL_INIT(SIGN "\x20\x11\xff\xff"), ERR_TOO_BIG },
	};
	struct proxy2 p;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(proxy2_parse(bad[i].s, &p), bad[i].err);
}

/* Listeners ---------------------------------------------------------------- */

enum { GUESTS = 64 };

struct house {
	struct loop loop;
	struct listener *listener;
	struct probe guests[GUESTS];
	size_t count;
};

static void
on_accept(void *owner, struct stream *s)
{
	struct house *h = owner;

	assert_true(h->count < GUESTS);
	struct probe *p = &h->guests[h->count++];
	probe_init(p);
	p->echo = true;
	probe_start(p, s);
}

static void
house_open(struct house *h, struct listen_config c)
{
	char why[LISTEN_WHY];

	memset(h, 0, sizeof(*h));
	assert_int_equal(loop_init(&h->loop, 100), 0);
	if (c.address.sa.sa_family == AF_UNSPEC)
		assert_int_equal(addr_parse(SL("127.0.0.1:0"), &c.address), 0);
	assert_int_equal(
	    listener_open(&h->loop, &c, on_accept, h, &h->listener, why), 0);
}

static void
house_close(struct house *h)
{
	listener_close(h->listener);
	for (size_t i = 0; i < h->count; i++) {
		struct probe *p = &h->guests[i];
		if (p->s != NULL)
			stream_abort(p->s, false);
		until(&h->loop, p->closed);
		probe_fini(p);
	}
	stream_loop_fini(&h->loop);
	loop_fini(&h->loop);
}

static int
visit(const union addr *a)
{
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &a->sa, addr_len(&a->sa)), 0);
	return fd;
}

static void
put(int fd, struct slice s)
{
	assert_int_equal(send(fd, s.ptr, s.len, MSG_NOSIGNAL), s.len);
}

/* Whether the other side has ended it. */
static bool
ended(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static void
test_accept(void **state)
{
	struct house h;
	struct sockaddr_in me;
	socklen_t len = sizeof(me);
	char reply[8] = { 0 };
	int nodelay = 0, idle = 0;

	(void)state;
	house_open(&h, (struct listen_config){ 0 });
	assert_true(addr_port(&listener_address(h.listener)->sa) != 0);
	int fd = visit(listener_address(h.listener));
	put(fd, SL("hello"));
	until(&h.loop, h.count == 1 && buf_peek(&h.guests[0].got).len == 5);
	loop_turn(&h.loop, false);
	assert_int_equal(recv(fd, reply, 8, 0), 5);
	assert_string_equal(reply, "hello");
	assert_int_equal(getsockname(fd, (struct sockaddr *)&me, &len), 0);
	assert_int_equal(
	    addr_port(stream_remote(h.guests[0].s)), ntohs(me.sin_port));
	/* Options come with the listener. */
	int server = stream_fd(h.guests[0].s);
	len = sizeof(int);
	getsockopt(server, IPPROTO_TCP, 1 /* TCP_NODELAY */, &nodelay, &len);
	getsockopt(server, IPPROTO_TCP, 4 /* TCP_KEEPIDLE */, &idle, &len);
	assert_int_equal(nodelay, 1);
	assert_int_equal(idle, 30);
	listener_pause(h.listener, true);
	int late = visit(listener_address(h.listener));
	for (int i = 0; i < 5; i++)
		loop_turn(&h.loop, false);
	assert_int_equal(h.count, 1);
	listener_pause(h.listener, false);
	until(&h.loop, h.count == 2);
	close(fd);
	close(late);
	house_close(&h);
}

static void
test_busy(void **state)
{
	struct house h;
	struct listener *second;
	char why[LISTEN_WHY] = "";

	(void)state;
	house_open(&h, (struct listen_config){ 0 });
	struct listen_config c = { .address = *listener_address(h.listener) };
	assert_int_equal(
	    listener_open(&h.loop, &c, on_accept, &h, &second, why), ERR_BUSY);
	assert_non_null(strstr(why, "127.0.0.1:"));
	assert_non_null(strstr(why, "in use"));
	house_close(&h);
	/* Two that agree share the port. */
	house_open(&h, (struct listen_config){ .reuse_port = true });
	c.address = *listener_address(h.listener);
	c.reuse_port = true;
	assert_int_equal(
	    listener_open(&h.loop, &c, on_accept, &h, &second, why), 0);
	listener_close(second);
	house_close(&h);
}

static void
test_unix(void **state)
{
	char dir[] = "/tmp/muster-listen-XXXXXX", path[64], why[LISTEN_WHY];
	struct listen_config c = { 0 };
	struct listener *second;
	struct house h;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	assert_int_equal(addr_parse(slice_from(path), &c.address), 0);
	/* One left by a process that died. */
	int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(dead, &c.address.sa, sizeof(c.address.un)), 0);
	close(dead);
	house_open(&h, c);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* One that lives is left alone. */
	assert_int_equal(
	    listener_open(&h.loop, &c, on_accept, &h, &second, why), ERR_BUSY);
	int fd = visit(&c.address);
	put(fd, SL("x"));
	/* Finding out whether it lives was a visit, too. */
	until(&h.loop, h.count == 2 && buf_peek(&h.guests[1].got).len == 1);
	assert_int_equal(stream_remote(h.guests[1].s)->sa_family, AF_UNIX);
	close(fd);
	house_close(&h);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(rmdir(dir), 0);
}

static void
test_proxy(void **state)
{
	struct house h;
	char text[ADDR_TEXT];

	(void)state;
	house_open(&h, (struct listen_config){ .proxy = true });
	/* Byte by byte, and the first bytes of the talk in the same segment. */
	int fd = visit(listener_address(h.listener));
	struct slice s = SL(TCP4 "talk");
	for (size_t i = 0; i < 20; i++) {
		put(fd, slice_first(slice_from_at(s, i), 1));
		loop_turn(&h.loop, false);
	}
	assert_int_equal(h.count, 0);
	put(fd, slice_from_at(s, 20));
	until(&h.loop, h.count == 1 && buf_peek(&h.guests[0].got).len == 4);
	assert_slice(buf_peek(&h.guests[0].got), SL("talk"));
	addr_format(stream_remote(h.guests[0].s), text);
	assert_string_equal(text, "192.0.2.1:60000");
	assert_int_equal(listener_pending(h.listener), 0);
	/* LOCAL keeps the socket's own peer. */
	int local = visit(listener_address(h.listener));
	put(local, SL(SIGN "\x20\0\0\0"));
	until(&h.loop, h.count == 2);
	addr_format_ip(stream_remote(h.guests[1].s), text);
	assert_string_equal(text, "127.0.0.1");
	/* Anything else is closed without a word. */
	int bad = visit(listener_address(h.listener));
	put(bad, SL("GET / HTTP/1.1\r\n"));
	char c;
	until(&h.loop,
	    recv(bad, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0 || errno != EAGAIN);
	assert_int_equal(h.count, 2);
	close(fd);
	close(local);
	close(bad);
	house_close(&h);
}

static void
test_proxy_timeout(void **state)
{
	struct house h;

	(void)state;
	house_open(
	    &h, (struct listen_config){ .proxy = true, .handshake_ms = 30 });
	int a = visit(listener_address(h.listener));
	int b = visit(listener_address(h.listener));
	put(b, SL("\r\n\r\n"));
	until(&h.loop, listener_pending(h.listener) == 2);
	until(&h.loop, ended(a) && ended(b));
	assert_int_equal(h.count, 0);
	assert_int_equal(listener_pending(h.listener), 0);
	close(a);
	close(b);
	house_close(&h);
}

/* Pending ones at the cap leave the rest in the backlog. */
static void
test_pending_cap(void **state)
{
	struct house h;
	int fd[4];

	(void)state;
	house_open(
	    &h, (struct listen_config){ .proxy = true, .pending_cap = 2 });
	for (int i = 0; i < 4; i++)
		fd[i] = visit(listener_address(h.listener));
	until(&h.loop, listener_pending(h.listener) == 2);
	for (int i = 0; i < 10; i++)
		loop_turn(&h.loop, false);
	assert_int_equal(listener_pending(h.listener), 2);
	for (int i = 0; i < 4; i++)
		put(fd[i], SL(TCP4));
	until(&h.loop, h.count == 4);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	house_close(&h);
}

static void
test_no_descriptors(void **state)
{
	struct house h;
	struct rlimit old, tight;
	int fd[3], sink[2];

	(void)state;
	assert_int_equal(pipe2(sink, O_CLOEXEC | O_NONBLOCK), 0);
	log_init(&(struct log_config){ .fd = sink[1], .level = LEVEL_INFO });
	house_open(&h, (struct listen_config){ 0 });
	for (int i = 0; i < 3; i++)
		fd[i] = visit(listener_address(h.listener));
	/* The lowest free number is where the limit goes. */
	int next = dup(0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	until(&h.loop, ended(fd[0]) && ended(fd[1]) && ended(fd[2]));
	assert_int_equal(h.count, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	int late = visit(listener_address(h.listener));
	until(&h.loop, h.count == 1);
	char log[4096] = { 0 };
	assert_true(read(sink[0], log, sizeof(log) - 1) > 0);
	char *first = strstr(log, "out_of_descriptors");
	assert_non_null(first);
	assert_null(strstr(first + 1, "out_of_descriptors"));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	close(late);
	house_close(&h);
	log_init(&(struct log_config){ .fd = 2, .level = LEVEL_INFO });
	close(sink[0]);
	close(sink[1]);
}

static void
test_inherited(void **state)
{
	char pid[16];
	struct house h;
	struct listen_config c = { .inherited = true };
	union addr a;

	(void)state;
	snprintf(pid, sizeof(pid), "%d", getpid() + 1);
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	assert_int_equal(listen_inherited(), 0); /* another's */
	assert_null(getenv("LISTEN_FDS"));
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	setenv("LISTEN_FDNAMES", "x", 1);
	assert_int_equal(listen_inherited(), 1);
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDNAMES"));
	c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(addr_parse(SL("127.0.0.1:0"), &a), 0);
	assert_int_equal(bind(c.fd, &a.sa, sizeof(a.in)), 0);
	assert_int_equal(listen(c.fd, 5), 0);
	house_open(&h, c);
	int fd = visit(listener_address(h.listener));
	until(&h.loop, h.count == 1);
	close(fd);
	house_close(&h);
}

/* Connections are lost to lack of memory, the listener never. */
static void
test_oom(void **state)
{
	struct house h;
	bool hit = true;

	(void)state;
	house_open(&h, (struct listen_config){ .proxy = true });
	for (long n = 1; hit; n++) {
		int fd = visit(listener_address(h.listener));
		put(fd, SL(TCP4));
		oom_fail_at(n);
		size_t before = h.count;
		char c;
		until(&h.loop,
		    h.count > before ||
			recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0 ||
			errno != EAGAIN);
		hit = oom_happened();
		assert_true(hit || h.count == before + 1);
		close(fd);
	}
	house_close(&h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr),
		cmocka_unit_test(test_proxy2_good),
		cmocka_unit_test(test_proxy2_bad),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_unix),
		cmocka_unit_test(test_proxy),
		cmocka_unit_test(test_proxy_timeout),
		cmocka_unit_test(test_pending_cap),
		cmocka_unit_test(test_no_descriptors),
		cmocka_unit_test(test_inherited),
		cmocka_unit_test(test_oom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
