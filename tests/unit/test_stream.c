#include <pthread.h>
#include <unistd.h>

#include "base/err.h"

#include "support/oom.h"
#include "support/streams.h"
#include "support/unit.h"

/* Two streams that talk to each other on one loop. */
struct pair {
	struct loop loop;
	struct probe a, b;
};

static struct stream *
wrap(struct loop *l, int fd)
{
	struct stream *s;

	assert_int_equal(stream_new(l, fd, NULL, &s), 0);
	return s;
}

static void
pair_open(struct pair *p)
{
	int fd[2];

	assert_int_equal(loop_init(&p->loop, 100), 0);
	tcp_pair(fd);
	probe_init(&p->a);
	probe_init(&p->b);
	probe_start(&p->a, wrap(&p->loop, fd[0]));
	probe_start(&p->b, wrap(&p->loop, fd[1]));
}

static void
pair_close(struct pair *p)
{
	if (p->a.s != NULL)
		stream_abort(p->a.s, false);
	if (p->b.s != NULL)
		stream_abort(p->b.s, false);
	until(&p->loop, p->a.closed && p->b.closed);
	probe_fini(&p->a);
	probe_fini(&p->b);
	stream_loop_fini(&p->loop);
	loop_fini(&p->loop);
}

static size_t
got(const struct probe *p)
{
	return buf_peek(&p->got).len;
}

/* A pattern in which any shift shows. */
static void
pattern(uint8_t *out, size_t n, size_t from)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)((from + i) * 2654435761u >> 13);
}

static void
assert_pattern(struct slice s)
{
	static uint8_t want[4096];

	for (size_t at = 0; at < s.len; at += sizeof(want)) {
		struct slice part =
		    slice_first(slice_from_at(s, at), sizeof(want));
		pattern(want, part.len, at);
		assert_memory_equal(part.ptr, want, part.len);
	}
}

static void
test_echo(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	p.b.echo = true;
	assert_int_equal(stream_write(p.a.s, SL("hello ")), 0);
	assert_int_equal(stream_write2(p.a.s, SL("wor"), SL("ld")), 0);
	assert_int_equal(stream_write(p.a.s, SL("")), 0);
	assert_int_equal(stream_queued(p.a.s), 11);
	until(&p.loop, got(&p.a) == 11);
	assert_slice(buf_peek(&p.a.got), SL("hello world"));
	assert_int_equal(p.b.reads, 1); /* one turn, one send */
	assert_int_equal(stream_queued(p.a.s), 0);
	assert_int_equal(stream_memory(p.a.s), 0);
	assert_int_equal(stream_remote(p.a.s)->sa_family, AF_INET);
	pair_close(&p);
}

/* Writes of all sizes, copied, in place and by chunk, in order. */
static void
test_sizes(void **state)
{
	static uint8_t bytes[300 * 1024];
	size_t sizes[] = { 1, 255, 256, 257, 4096, STREAM_COPY_MAX,
		STREAM_COPY_MAX + 1, 100000, 3, 65000, 300 * 1024, 17 };
	struct pair p;
	size_t at = 0;

	(void)state;
	pair_open(&p);
	stream_set_cap(p.a.s, 64 * 1024 * 1024);
	for (int round = 0; round < 8; round++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			size_t n = sizes[i], half = n / 2;
			pattern(bytes, n, at);
			if ((i + (size_t)round) % 2 == 0) {
				struct chunk *c = chunk_new(n);
				memcpy(c->bytes, bytes, n);
				assert_int_equal(stream_write_chunk(p.a.s,
						     (struct slice){ bytes,
							 half < 9 ? half : 9 },
						     c, half < 9 ? half : 9,
						     n - (half < 9 ? half : 9)),
				    0);
				chunk_drop(c);
			} else {
				assert_int_equal(
				    stream_write2(p.a.s,
					(struct slice){ bytes, half },
					(struct slice){
					    bytes + half, n - half }),
				    0);
			}
			at += n;
			if (round % 3 == 0)
				loop_turn(&p.loop, false);
		}
	}
	until(&p.loop, got(&p.b) == at);
	assert_pattern(buf_peek(&p.b.got));
	until(&p.loop, stream_queued(p.a.s) == 0);
	assert_int_equal(stream_memory(p.a.s), 0);
	pair_close(&p);
}

/* Many streams take turns writing: each still sends once a turn. */
static void
test_interleaved(void **state)
{
	enum { STREAMS = 20, MESSAGES = 2000 };
	static struct pair p;
	static struct probe near[STREAMS], far[STREAMS];
	uint8_t m[100];
	int fd[2];

	(void)state;
	pair_open(&p);
	for (int i = 0; i < STREAMS; i++) {
		tcp_pair(fd);
		probe_init(&near[i]);
		probe_init(&far[i]);
		probe_start(&near[i], wrap(&p.loop, fd[0]));
		probe_start(&far[i], wrap(&p.loop, fd[1]));
	}
	/* 4 MB in one turn: the cork overflows several times. */
	for (size_t k = 0; k < MESSAGES; k++) {
		pattern(m, sizeof(m), k * sizeof(m));
		for (int i = 0; i < STREAMS; i++)
			assert_int_equal(stream_write(near[i].s,
					     (struct slice){ m, sizeof(m) }),
			    0);
	}
	for (int i = 0; i < STREAMS; i++) {
		until(&p.loop, got(&far[i]) == MESSAGES * sizeof(m));
		assert_pattern(buf_peek(&far[i].got));
		stream_abort(near[i].s, false);
		until(&p.loop, near[i].closed && far[i].eof);
		stream_abort(far[i].s, false);
		until(&p.loop, far[i].closed);
		probe_fini(&near[i]);
		probe_fini(&far[i]);
	}
	pair_close(&p);
}

static void
test_pressure(void **state)
{
	static uint8_t bytes[64 * 1024];
	struct pair p;
	size_t total = 0;
	int err;

	(void)state;
	pair_open(&p);
	stream_read_stop(p.b.s);
	stream_set_cap(p.a.s, 4 * 1024 * 1024);
	while ((err = stream_write(
		    p.a.s, (struct slice){ bytes, sizeof(bytes) })) == 0) {
		pattern(bytes, sizeof(bytes), 0);
		total += sizeof(bytes);
		loop_turn(&p.loop, false);
		assert_true(total < 256 * 1024 * 1024);
	}
	assert_int_equal(err, ERR_FULL);
	assert_true(stream_above_high(p.a.s));
	assert_true(stream_queued(p.a.s) > 3 * 1024 * 1024);
	assert_true(stream_memory(p.a.s) >= stream_queued(p.a.s));
	assert_true(stream_memory(p.a.s) < 2 * stream_queued(p.a.s));
	assert_int_equal(p.a.drains, 0);
	stream_read_start(p.b.s);
	until(&p.loop, p.a.drains == 1);
	assert_true(stream_queued(p.a.s) <= 64 * 1024);
	until(&p.loop, got(&p.b) == total);
	assert_int_equal(stream_memory(p.a.s), 0);
	pair_close(&p);
}

/* Pulled bulk: an urgent word waits for one pull at most. */
static size_t bulk_left;

static void
pull_bulk(struct probe *p, size_t room)
{
	static uint8_t bytes[STREAM_PULL_MAX];
	size_t n = room < bulk_left ? room : bulk_left;

	assert_true(room <= STREAM_PULL_MAX);
	assert_int_equal(stream_queued(p->s), 0);
	memset(bytes, 'b', sizeof(bytes));
	if (n > 0)
		assert_int_equal(
		    stream_write(p->s, (struct slice){ bytes, n }), 0);
	bulk_left -= n;
}

static void
test_pull(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	p.a.on_pull = pull_bulk;
	bulk_left = 64 * 1024 * 1024;
	stream_read_stop(p.b.s);
	stream_want(p.a.s, true);
	/* Until the socket is full: then no more is pulled. */
	for (int still = 0; still < 50;) {
		size_t before = p.a.pulls;
		loop_turn(&p.loop, false);
		still = p.a.pulls == before ? still + 1 : 0;
	}
	assert_true(p.a.pulls > 0 && bulk_left > 0);
	assert_true(stream_queued(p.a.s) <= STREAM_PULL_MAX);
	assert_int_equal(stream_write(p.a.s, SL("STOP")), 0);
	size_t ahead = 64 * 1024 * 1024 - bulk_left;
	stream_read_start(p.b.s);
	until(&p.loop, got(&p.b) > ahead + 4);
	assert_memory_equal(buf_peek(&p.b.got).ptr + ahead, "STOP", 4);
	until(&p.loop, got(&p.b) == 64 * 1024 * 1024 + 4);
	/* A pull that writes nothing ends the want: the loop is idle. */
	size_t pulls = p.a.pulls;
	for (int i = 0; i < 10; i++)
		loop_turn(&p.loop, false);
	assert_true(p.a.pulls <= pulls + 1);
	pair_close(&p);
}

static void
test_half_close(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(stream_write(p.a.s, SL("question")), 0);
	stream_shutdown(p.a.s);
	assert_int_equal(stream_write(p.a.s, SL("more")), ERR_CLOSED);
	until(&p.loop, p.b.eof);
	assert_slice(buf_peek(&p.b.got), SL("question"));
	assert_int_equal(stream_write(p.b.s, SL("answer")), 0);
	stream_close(p.b.s);
	until(&p.loop, p.a.eof && got(&p.a) == 6);
	until(&p.loop, p.b.closed); /* the FIN was there: no lingering */
	assert_int_equal(p.b.why, 0);
	assert_false(p.a.closed);
	pair_close(&p);
}

/* An answer given while the question is still coming must not be lost to
 * the RST that unread bytes cause. */
static void
test_lingering_close(void **state)
{
	static uint8_t bytes[1024 * 1024];
	struct pair p;

	(void)state;
	pair_open(&p);
	stream_read_stop(p.b.s);
	assert_int_equal(
	    stream_write(p.a.s, (struct slice){ bytes, sizeof(bytes) }), 0);
	for (int i = 0; i < 5; i++)
		loop_turn(&p.loop, false);
	assert_int_equal(stream_write(p.b.s, SL("413 too large")), 0);
	stream_close(p.b.s);
	stream_close(p.b.s);
	until(&p.loop, p.a.eof);
	assert_slice(buf_peek(&p.a.got), SL("413 too large"));
	assert_false(p.b.closed);
	stream_close(p.a.s);
	until(&p.loop, p.a.closed && p.b.closed);
	assert_int_equal(p.a.why, 0);
	assert_int_equal(p.b.why, 0);
	assert_int_equal(got(&p.b), 0);
	pair_close(&p);
}

static void
test_linger_ends(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	stream_close(p.b.s); /* and a never answers */
	until(&p.loop, p.b.closed);
	assert_int_equal(p.b.why, 0);
	assert_true(p.a.eof && !p.a.closed);
	pair_close(&p);
}

static void
test_flush_ends(void **state)
{
	static uint8_t bytes[8 * 1024 * 1024];
	struct pair p;

	(void)state;
	pair_open(&p);
	stream_read_stop(p.b.s);
	assert_int_equal(
	    stream_write(p.a.s, (struct slice){ bytes, sizeof(bytes) }), 0);
	stream_close(p.a.s);
	until(&p.loop, p.a.closed);
	assert_int_equal(p.a.why, ERR_TIMEOUT);
	pair_close(&p);
}

static void
test_reset(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	stream_abort(p.a.s, true);
	stream_abort(p.a.s, true);
	until(&p.loop, p.a.closed && p.b.closed);
	assert_int_equal(p.a.why, 0);
	assert_int_equal(p.b.why, ERR_RESET);
	pair_close(&p);
}

/* A reset is noticed even when nothing is read. */
static void
test_reset_unread(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	stream_read_stop(p.b.s);
	loop_turn(&p.loop, false);
	stream_abort(p.a.s, true);
	until(&p.loop, p.b.closed);
	assert_int_equal(p.b.why, ERR_RESET);
	pair_close(&p);
}

static void
close_in_read(struct probe *p)
{
	stream_write(p->s, SL("bye"));
	stream_close(p->s);
	assert_int_equal(stream_write(p->s, SL("x")), ERR_CLOSED);
	assert_false(p->closed);
}

static void
abort_in_read(struct probe *p)
{
	stream_write(p->s, SL("lost"));
	stream_abort(p->s, false);
	assert_false(p->closed);
}

static void
test_end_in_callback(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	p.b.on_read = close_in_read;
	assert_int_equal(stream_write(p.a.s, SL("go")), 0);
	until(&p.loop, p.a.eof);
	assert_slice(buf_peek(&p.a.got), SL("bye"));
	pair_close(&p);
	pair_open(&p);
	p.b.on_read = abort_in_read;
	assert_int_equal(stream_write(p.a.s, SL("go")), 0);
	until(&p.loop, p.b.closed && p.a.eof);
	assert_int_equal(got(&p.a), 0);
	pair_close(&p);
}

/* Moving to another loop ----------------------------------------------------
 */

struct move {
	struct stream *s;
	struct probe probe;
};

static void *
other_thread(void *arg)
{
	struct move *m = arg;
	struct loop l;

	if (loop_init(&l, 10) != 0 || stream_attach(m->s, &l) != 0)
		return NULL;
	m->probe.echo = true;
	probe_start(&m->probe, m->s);
	while (!m->probe.eof)
		loop_turn(&l, true);
	stream_close(m->probe.s);
	while (!m->probe.closed)
		loop_turn(&l, true);
	stream_loop_fini(&l);
	loop_fini(&l);
	return m;
}

static void
test_move(void **state)
{
	static uint8_t bytes[8 * 1024 * 1024];
	struct pair p;
	struct move m;
	pthread_t t;
	void *ok;

	(void)state;
	pair_open(&p);
	probe_init(&m.probe);
	stream_read_stop(p.a.s);
	pattern(bytes, sizeof(bytes), 0);
	assert_int_equal(
	    stream_write(p.b.s, (struct slice){ bytes, sizeof(bytes) }), 0);
	assert_true(stream_queued(p.b.s) > 0);
	m.s = stream_detach(p.b.s);
	assert_non_null(m.s);
	assert_null(stream_loop(m.s));
	p.b.s = NULL;
	p.b.closed = true;
	assert_int_equal(pthread_create(&t, NULL, other_thread, &m), 0);
	stream_read_start(p.a.s);
	assert_int_equal(stream_write(p.a.s, SL("after the move")), 0);
	until(&p.loop, got(&p.a) == sizeof(bytes) + 14);
	assert_pattern(slice_first(buf_peek(&p.a.got), sizeof(bytes)));
	stream_shutdown(p.a.s);
	until(&p.loop, p.a.eof);
	assert_int_equal(pthread_join(t, &ok), 0);
	assert_ptr_equal(ok, &m);
	probe_fini(&m.probe);
	pair_close(&p);
}

static void
test_abort_detached(void **state)
{
	struct pair p;
	struct stream *s;

	(void)state;
	pair_open(&p);
	s = stream_detach(p.b.s);
	p.b.s = NULL;
	p.b.closed = true;
	stream_abort(s, true);
	until(&p.loop, p.a.closed);
	assert_int_equal(p.a.why, ERR_RESET);
	pair_close(&p);
}

/* Memory ------------------------------------------------------------------- */

/* Each allocation of a blocked stream's queue fails once: the write is refused
 * whole, or the stream ends. */
static void
test_oom(void **state)
{
	struct pair p;
	static uint8_t bytes[8 * 1024 * 1024];

	(void)state;
	for (long n = 1; n < 40; n++) {
		struct chunk *c = chunk_new(20000);
		pair_open(&p);
		stream_read_stop(p.b.s);
		loop_turn(&p.loop, false);
		oom_fail_at(n);
		int err =
		    stream_write(p.a.s, (struct slice){ bytes, sizeof(bytes) });
		if (err == 0)
			err =
			    stream_write_chunk(p.a.s, SL("head"), c, 10, 19000);
		loop_turn(&p.loop, false);
		bool hit = oom_happened();
		assert_true(err == 0 || err == ERR_NOMEM);
		if (err == ERR_NOMEM && !p.a.closed)
			assert_true(hit);
		chunk_drop(c);
		pair_close(&p);
		if (!hit)
			return;
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_interleaved),
		cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_pull),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_lingering_close),
		cmocka_unit_test(test_linger_ends),
		cmocka_unit_test(test_flush_ends),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reset_unread),
		cmocka_unit_test(test_end_in_callback),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_abort_detached),
		cmocka_unit_test(test_oom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
