/*
 * Tunnel streams of the agent, both ends in this process: the link is played
 * by the test, services are sockets.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "io/clock.h"
#include "io/stream.h"
#include "wire/be.h"
#include "wire/opening.h"

#include "agent/forward.h"

#include "support/oom.h"
#include "support/unit.h"

enum { ENDS = 8, PATIENCE = 20000, WINDOW = 256 * 1024 };

/* The link ------------------------------------------------------------------
 */

struct end {
	struct strand *s; /* NULL: gone */
	struct buf sent;
	size_t consumed, window;
	bool reset;
};

struct world {
	struct strand_home home; /* first */
	struct loop loop;
	struct policy policy;
	struct forwards all;
	struct end ends[ENDS];
	uint32_t count;
	size_t alive;
	int refuse_open;
};

static void
on_wake(struct strand_home *h)
{
	(void)h;
}

static void
on_consume(struct strand_home *h, uint32_t id, size_t n)
{
	((struct world *)h)->ends[id].consumed += n;
}

static int
on_open(struct strand_home *h, struct strand *s)
{
	struct world *w = (struct world *)h;

	if (w->refuse_open != 0)
		return w->refuse_open;
	assert_true(w->count < ENDS);
	s->id = w->count++;
	w->ends[s->id].s = s;
	w->ends[s->id].window = WINDOW;
	return 0;
}

static void
forget(struct world *w, struct strand *s)
{
	w->ends[s->id].s = NULL;
	s->ops->free(s);
}

static void
on_drop(struct strand_home *h, struct strand *s)
{
	struct world *w = (struct world *)h;

	w->ends[s->id].reset = true;
	forget(w, s);
}

/* As uplink_finish. */
static void
finish(struct world *w, struct strand *s)
{
	if (!s->finished) {
		s->finished = true;
		s->ops->look(s);
	}
	if (s->peer_ended && (s->ops->lingers == NULL || !s->ops->lingers(s)))
		forget(w, s);
}

static void
send_one(struct world *w, struct sched_item *item)
{
	struct strand *s = LIST_OF(item, struct strand, turn);
	struct end *e = &w->ends[s->id];
	uint8_t bytes[16384];
	size_t n = 0;
	size_t room = e->window < sizeof(bytes) ? e->window : sizeof(bytes);

	if (s->ops->done(s)) {
		sched_set(&w->home.sched, item, TURN_IDLE);
		finish(w, s);
		return;
	}
	int err = room == 0 ? 0 : s->ops->put(s, bytes, room, &n);
	if (err != 0) {
		e->reset = true;
		forget(w, s);
		return;
	}
	e->window -= n;
	if (n > 0)
		buf_put(&e->sent, (struct slice){ bytes, n });
	if (n > 0)
		sched_spent(&w->home.sched, item, n);
	else if (!s->ops->done(s))
		sched_set(&w->home.sched, item, TURN_IDLE);
}

static void
turn(struct world *w)
{
	struct sched_item *item;

	loop_turn(&w->loop, false);
	while ((item = sched_next(&w->home.sched)) != NULL)
		send_one(w, item);
	(void)poll(NULL, 0, 1);
}

static uint32_t
open_end(struct world *w)
{
	struct strand *s = forwards_strand(&w->all, w->count);

	if (s == NULL)
		return ENDS;
	assert_true(w->count < ENDS);
	w->ends[w->count].s = s;
	w->ends[w->count].window = WINDOW;
	return w->count++;
}

/* As uplink's on_data. */
static void
feed(struct world *w, uint32_t id, struct slice data)
{
	struct end *e = &w->ends[id];

	if (e->s == NULL || e->s->ops->feed(e->s, data) == 0)
		return;
	if (e->s != NULL) {
		e->reset = true;
		forget(w, e->s);
	}
}

static void
fin(struct world *w, uint32_t id)
{
	struct strand *s = w->ends[id].s;

	if (s == NULL)
		return;
	s->peer_ended = true;
	s->ops->ended(s);
	if (s->finished)
		finish(w, s);
}

static void
feed_opening(struct world *w, uint32_t id, uint8_t kind, const char *json)
{
	uint8_t head[4] = { 2, kind };

	be_put16(head + 2, (uint16_t)strlen(json));
	feed(w, id, (struct slice){ head, sizeof(head) });
	feed(w, id, slice_from(json));
}

/* Until so many bytes were sent, or it is over. */
static struct slice
wait_for(struct world *w, uint32_t id, size_t n)
{
	msec end = clock_mono() + PATIENCE;
	struct end *e = &w->ends[id];

	while (buf_peek(&e->sent).len < n && e->s != NULL) {
		assert_true(clock_mono() < end);
		turn(w);
	}
	return buf_peek(&e->sent);
}

/* The answer's JSON, taken off; its code. */
static int
answer(struct world *w, uint32_t id, char *json, size_t size)
{
	struct slice s = wait_for(w, id, 4);

	if (s.len < 4)
		return -1;
	size_t n = be_get16(s.ptr + 2);
	int code = s.ptr[1];
	s = wait_for(w, id, 4 + n);
	if (s.len < 4 + n)
		return -1;
	(void)slice_cstr(slice_first(slice_from_at(s, 4), n), json, size);
	buf_eat(&w->ends[id].sent, 4 + n);
	return code;
}

/* Services ------------------------------------------------------------------
 */

static int
serve(int type, uint16_t *port)
{
	union addr a;
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(addr_parse(SL("127.0.0.1:0"), &a), 0);
	assert_int_equal(bind(fd, &a.sa, addr_len(&a.sa)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, &a.sa, &len), 0);
	*port = addr_port(&a.sa);
	return fd;
}

static int
take(struct world *w, int fd)
{
	msec end = clock_mono() + PATIENCE;
	int s;

	while ((s = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) < 0) {
		assert_true(clock_mono() < end);
		turn(w);
	}
	return s;
}

/* Bytes that the service gets; 0 at its end, -1 when reset. */
static ssize_t
get(struct world *w, int fd, void *to, size_t room)
{
	msec end = clock_mono() + PATIENCE;
	ssize_t n;

	while ((n = recv(fd, to, room, 0)) < 0 && errno == EAGAIN) {
		assert_true(clock_mono() < end);
		turn(w);
	}
	return n;
}

static int
setup(void **state)
{
	static const char text[] = "version = 1\nallow = tunnel\n[tunnel]\n"
				   "allow = 127.0.0.1:*\n"
				   "listen = 127.0.0.1:*\n";
	struct world *w = calloc(1, sizeof(*w));
	struct policy_fault fault;

	assert_int_equal(loop_init(&w->loop, 1024), 0);
	policy_init(&w->policy);
	assert_int_equal(policy_parse(&w->policy, slice_from(text), &fault), 0);
	w->home = (struct strand_home){ .wake = on_wake,
		.consume = on_consume,
		.open = on_open,
		.drop = on_drop };
	sched_init(&w->home.sched);
	/* With room: it is the test's memory that must not fail. */
	for (size_t i = 0; i < ENDS; i++) {
		buf_init(&w->ends[i].sent, 16 << 20);
		assert_non_null(buf_reserve(&w->ends[i].sent, 64 * 1024));
	}
	const struct forwards_config c = { .link = &w->home,
		.loop = &w->loop,
		.policy = &w->policy,
		.domain = "",
		.alive = &w->alive };
	forwards_init(&w->all, &c);
	*state = w;
	return 0;
}

/* The link is lost: nothing may stay. */
static void
lose(struct world *w)
{
	msec end = clock_mono() + PATIENCE;

	for (uint32_t i = 0; i < w->count; i++)
		if (w->ends[i].s != NULL)
			forget(w, w->ends[i].s);
	while (w->alive > 0) {
		assert_true(clock_mono() < end);
		turn(w);
	}
	assert_int_equal(w->all.counts.open + w->all.counts.listeners, 0);
	for (size_t i = 0; i < ENDS; i++) {
		buf_clear(&w->ends[i].sent);
		w->ends[i] = (struct end){ .sent = w->ends[i].sent };
	}
	w->count = 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	lose(w);
	for (size_t i = 0; i < ENDS; i++)
		buf_fini(&w->ends[i].sent);
	forwards_fini(&w->all);
	turn(w);
	stream_loop_fini(&w->loop);
	loop_fini(&w->loop);
	policy_fini(&w->policy);
	free(w);
	return 0;
}

static void
put_json(char out[128], uint16_t port)
{
	(void)snprintf(out, 128,
	    "{\"id\":\"r\",\"host\":\"127.0.0.1\",\"port\":%u}", port);
}

/* Tests ---------------------------------------------------------------------
 */

static void
test_both_ways(void **state)
{
	struct world *w = *state;
	char json[512], bytes[64];
	uint16_t port;
	int fd = serve(SOCK_STREAM, &port);

	put_json(json, port);
	uint32_t id = open_end(w);
	feed_opening(w, id, OPENING_KIND_TCP, json);
	feed(w, id, SL("early"));
	int s = take(w, fd);
	assert_int_equal(answer(w, id, json, sizeof(json)), 0);
	assert_non_null(strstr(json, "\"address\":\"127.0.0.1:"));
	assert_int_equal(get(w, s, bytes, sizeof(bytes)), 5);
	assert_memory_equal(bytes, "early", 5);
	assert_int_equal(send(s, "hello", 5, 0), 5);
	assert_slice(wait_for(w, id, 5), SL("hello"));
	/* Our end, and it goes on talking. */
	fin(w, id);
	assert_int_equal(get(w, s, bytes, sizeof(bytes)), 0);
	assert_int_equal(send(s, "more", 4, 0), 4);
	assert_slice(wait_for(w, id, 9), SL("hellomore"));
	close(s);
	(void)wait_for(w, id, 10);
	assert_null(w->ends[id].s);
	assert_false(w->ends[id].reset);
	assert_int_equal(w->all.counts.bytes_in, 9);
	assert_int_equal(w->all.counts.bytes_out, 5);
	close(fd);
}

/* What a service does not read is not consumed; what the link does not take
 * stays in the kernel. */
static void
test_pressure(void **state)
{
	static uint8_t bytes[16384];
	struct world *w = *state;
	char json[512];
	uint16_t port;
	size_t fed = 0, got = 0;
	int fd = serve(SOCK_STREAM, &port), small = 16384;

	assert_int_equal(
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	put_json(json, port);
	uint32_t id = open_end(w);
	feed_opening(w, id, OPENING_KIND_TCP, json);
	int s = take(w, fd);
	assert_int_equal(answer(w, id, json, sizeof(json)), 0);
	size_t before = w->ends[id].consumed;
	/* As a controller would: never more than a window ahead. */
	for (int i = 0; i < 4000; i++) {
		if (fed - (w->ends[id].consumed - before) + sizeof(bytes) <=
		    WINDOW) {
			feed(w, id, (struct slice){ bytes, sizeof(bytes) });
			fed += sizeof(bytes);
		} else if (i > 1000) {
			break;
		}
		turn(w);
	}
	assert_true(fed - (w->ends[id].consumed - before) > WINDOW / 2);
	while (got < fed) {
		ssize_t n = get(w, s, bytes, sizeof(bytes));
		assert_true(n > 0);
		got += (size_t)n;
	}
	while (w->ends[id].consumed - before < fed)
		turn(w);
	/* The other way: a window and no more. */
	ssize_t pushed = 0, n;
	while ((n = send(s, bytes, sizeof(bytes), MSG_NOSIGNAL)) > 0) {
		pushed += n;
		turn(w);
	}
	for (int i = 0; i < 50; i++)
		turn(w);
	assert_true(buf_peek(&w->ends[id].sent).len <= WINDOW);
	w->ends[id].window = 64 << 20;
	w->ends[id].s->ops->look(w->ends[id].s);
	(void)wait_for(w, id, (size_t)pushed);
	assert_int_equal(buf_peek(&w->ends[id].sent).len, pushed);
	assert_true(pushed > WINDOW);
	close(s);
	close(fd);
}

static void
test_refusals(void **state)
{
	static const struct {
		const char *json, *code;
	} cases[] = {
		{ "{\"host\":\"10.0.0.1\",\"port\":1}", "NOT_PERMITTED" },
		{ "{\"host\":\"127.0.0.1\"}", "INVALID" },
		{ "{\"host\":\"127.1\",\"port\":1}", "TARGET_REFUSED" },
		{ "{\"listen\":{\"host\":\"0.0.0.0\",\"port\":0}}",
		    "NOT_PERMITTED" },
	};
	struct world *w = *state;
	char json[512];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint32_t id = open_end(w);
		feed_opening(w, id, OPENING_KIND_TCP, cases[i].json);
		feed(w, id, SL("for nobody"));
		assert_int_equal(answer(w, id, json, sizeof(json)), 1);
		if (strstr(json, cases[i].code) == NULL)
			fail_msg("%s: %s", cases[i].json, json);
		fin(w, id);
		turn(w);
		assert_null(w->ends[id].s);
		assert_true(w->ends[id].consumed >= 10);
	}
	assert_int_equal(w->all.counts.refused, 4);
	/* Without answers it is a reset. */
	uint32_t id = open_end(w);
	feed(w, id, SL("\1\1\0\7\0\1x\0\0\0\0"));
	assert_true(w->ends[id].reset);
	/* A stop, then the end of it. */
	assert_int_equal(forwards_stop(&w->all, "halt"), 0);
	id = open_end(w);
	feed_opening(
	    w, id, OPENING_KIND_TCP, "{\"host\":\"127.0.0.1\",\"port\":1}");
	assert_int_equal(answer(w, id, json, sizeof(json)), 1);
	assert_non_null(strstr(json, "STOPPED"));
	(void)forwards_stop(&w->all, NULL);
}

static void
test_udp(void **state)
{
	struct world *w = *state;
	char json[512], bytes[64];
	union addr from;
	socklen_t len = sizeof(from);
	uint16_t port;
	int fd = serve(SOCK_DGRAM, &port);
	ssize_t n;

	put_json(json, port);
	uint32_t id = open_end(w);
	feed_opening(w, id, OPENING_KIND_UDP, json);
	assert_int_equal(answer(w, id, json, sizeof(json)), 0);
	feed(w, id, SL("\0\2ab\0\0\0"));
	feed(w, id, SL("\1c"));
	assert_int_equal(get(w, fd, bytes, sizeof(bytes)), 2);
	assert_int_equal(get(w, fd, bytes, sizeof(bytes)), 0);
	while ((n = recvfrom(fd, bytes, sizeof(bytes), 0, &from.sa, &len)) < 0)
		turn(w);
	assert_int_equal(n, 1);
	assert_int_equal(
	    sendto(fd, "back", 4, 0, &from.sa, addr_len(&from.sa)), 4);
	assert_slice(wait_for(w, id, 6), SL("\0\4back"));
	close(fd);
	/* Nobody there. */
	feed(w, id, SL("\0\1x"));
	(void)wait_for(w, id, 1000);
	assert_true(w->ends[id].reset);
}

static void
test_listener(void **state)
{
	struct world *w = *state;
	char json[512], bytes[64];
	union addr to;

	uint32_t id = open_end(w);
	feed_opening(w, id, OPENING_KIND_TCP,
	    "{\"id\":\"l\",\"listen\":{\"host\":\"127.0.0.1\",\"port\":0}}");
	assert_int_equal(answer(w, id, json, sizeof(json)), 0);
	char *at = strstr(json, "127.0.0.1:");
	assert_non_null(at);
	*strchr(at, '"') = '\0';
	assert_int_equal(addr_parse(slice_from(at), &to), 0);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	(void)connect(s, &to.sa, addr_len(&to.sa));
	while (w->count == 1)
		turn(w);
	/* What we would be opened by. */
	struct slice open = wait_for(w, 1, 4);
	assert_memory_equal(open.ptr, "\2\1", 2);
	size_t n = 4 + be_get16(open.ptr + 2);
	(void)wait_for(w, 1, n);
	buf_eat(&w->ends[1].sent, n);
	feed(w, 1, SL("\2\0\0"));
	feed(w, 1, SL("\2{}first"));
	assert_int_equal(get(w, s, bytes, sizeof(bytes)), 5);
	assert_int_equal(send(s, "yes", 3, 0), 3);
	assert_slice(wait_for(w, 1, 3), SL("yes"));
	close(s);
	/* A refusal, and no room. */
	for (int i = 0; i < 2; i++) {
		s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		w->refuse_open = i == 0 ? 0 : ERR_FULL;
		(void)connect(s, &to.sa, addr_len(&to.sa));
		if (i == 0) {
			while (w->count == 2)
				turn(w);
			feed(w, 2, SL("\2\1\0\2{}"));
		}
		assert_true(get(w, s, bytes, sizeof(bytes)) <= 0);
		close(s);
	}
	w->refuse_open = 0;
	assert_int_equal(forwards_stop(&w->all, "halt"), 2);
	assert_true(w->ends[id].reset);
	(void)forwards_stop(&w->all, NULL);
}

/* Whatever allocation fails: an answer, a reset, or it works. */
static void
without_memory(void *arg)
{
	struct world *w = arg;
	char json[512], bytes[64];
	uint16_t port;
	int fd = serve(SOCK_STREAM, &port), s = -1;

	put_json(json, port);
	uint32_t id = open_end(w);
	if (id < ENDS) {
		feed_opening(w, id, OPENING_KIND_TCP, json);
		feed(w, id, SL("early"));
		if (answer(w, id, json, sizeof(json)) == 0) {
			s = take(w, fd);
			feed(w, id, SL("late"));
			fin(w, id);
			while (get(w, s, bytes, sizeof(bytes)) > 0)
				continue;
		} else {
			fin(w, id);
		}
		if (s >= 0)
			close(s);
		(void)wait_for(w, id, w->ends[id].s == NULL ? 0 : 1000);
	}
	close(fd);
	lose(w);
}

static void
test_no_memory(void **state)
{
	without_memory(*state); /* what the loop keeps is there */
	oom_torture(without_memory, *state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ways),
		TEST(test_pressure),
		TEST(test_refusals),
		TEST(test_udp),
		TEST(test_listener),
		TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
