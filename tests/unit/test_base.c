#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/stamp.h"

#include "support/oom.h"
#include "support/unit.h"

static uint32_t seed = 1;

static uint32_t
chance(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

static void
test_slices(void **state)
{
	struct slice rest = SL("a,,b"), part;
	uint64_t n;
	char text[4];

	(void)state;
	assert_true(slice_split(&rest, ',', &part));
	assert_slice(part, SL("a"));
	assert_true(slice_split(&rest, ',', &part));
	assert_slice(part, SL(""));
	assert_true(slice_split(&rest, ',', &part));
	assert_slice(part, SL("b"));
	assert_false(slice_split(&rest, ',', &part));
	assert_slice(slice_trim(SL(" \ta b\t")), SL("a b"));
	assert_true(slice_eq_nocase(SL("WebSocket"), SL("websocket")));
	assert_false(slice_eq_nocase(SL("a["), SL("a{")));
	assert_true(slice_ends(SL("a.example"), SL(".example")));
	assert_int_equal(
	    slice_u64(SL("18446744073709551615"), UINT64_MAX, &n), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(
	    slice_u64(SL("18446744073709551616"), UINT64_MAX, &n), ERR_RANGE);
	assert_int_equal(slice_u64(SL("+1"), 10, &n), ERR_INVALID);
	assert_int_equal(slice_u64(SL(""), 10, &n), ERR_INVALID);
	assert_int_equal(slice_cstr(SL("abc"), text, 4), 0);
	assert_int_equal(slice_cstr(SL("abcd"), text, 4), ERR_TOO_BIG);
	assert_int_equal(slice_cstr(SL("a\0b"), text, 4), ERR_INVALID);
	assert_true(slice_cmp(SL("ab"), SL("b")) < 0);
	assert_true(slice_cmp(SL("ab"), SL("a")) > 0);
}

/* Same bytes out as in, against a plain array as the model. */
static void
test_buf_model(void **state)
{
	static uint8_t want[1 << 16];

	(void)state;
	for (int round = 0; round < 50; round++) {
		size_t head = 0, tail = 0;
		struct buf b;
		buf_init(&b, 4096);
		while (tail < sizeof(want) - 600) {
			uint8_t s[600];
			size_t n = chance(sizeof(s));
			if (chance(3) > 0 && n <= 4096 - (tail - head)) {
				memset(s, (int)chance(256), n);
				buf_put(&b, (struct slice){ s, n });
				memcpy(want + tail, s, n);
				tail += n;
			} else if (tail > head) {
				n = chance((uint32_t)(tail - head)) + 1;
				buf_eat(&b, n);
				head += n;
			}
			assert_int_equal(b.err, 0);
			assert_slice(buf_peek(&b),
			    ((struct slice){ want + head, tail - head }));
			assert_true(b.alloc <= 4096);
		}
		buf_fini(&b);
	}
}

static void
test_buf_cap(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 5);
	buf_put(&b, SL("hello"));
	assert_int_equal(b.err, 0);
	assert_null(buf_reserve(&b, 1));
	assert_int_equal(b.err, ERR_FULL);
	buf_eat(&b, 5);
	buf_put(&b, SL("x"));
	assert_int_equal(b.err, ERR_FULL); /* sticky */
	buf_clear(&b);
	buf_put_u64(&b, 90210);
	assert_slice(buf_peek(&b), SL("90210"));
	buf_fini(&b);
}

static void
fill_buf(void *arg)
{
	struct buf b;

	(void)arg;
	buf_init(&b, 1 << 20);
	for (int i = 0; i < 300; i++)
		buf_put(&b, SL("0123456789"));
	assert_int_equal(buf_peek(&b).len % 10, 0); /* all or nothing */
	buf_fini(&b);
}

static void
fill_arena(void *arg)
{
	struct arena a;
	struct slice copy;

	(void)arg;
	arena_init(&a, 1 << 20);
	for (int i = 0; i < 100; i++) {
		if (arena_copy(&a, SL("0123456789"), &copy) == 0)
			assert_slice(copy, SL("0123456789"));
		arena_array(&a, 100, 7);
	}
	arena_reset(&a);
	arena_fini(&a);
}

static void
test_arena(void **state)
{
	struct arena a;
	struct slice s;

	(void)state;
	arena_init(&a, 64 * 1024);
	assert_null(arena_alloc(&a, 64 * 1024 + 1));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_array(&a, SIZE_MAX / 2, 3));
	size_t got = 0;
	while (arena_alloc(&a, 1000) != NULL)
		got += 1000;
	assert_true(got > 48 * 1024 && got <= 64 * 1024);
	assert_true(a.total <= a.cap);
	arena_reset(&a);
	assert_int_equal(arena_copy(&a, SL(""), &s), 0);
	assert_non_null(s.ptr);
	assert_int_equal(arena_copy(&a, (struct slice){ 0 }, &s), 0);
	assert_null(s.ptr);
	assert_string_equal(arena_cstr(&a, SL("abc")), "abc");
	arena_fini(&a);
}

struct entry {
	char key[12];
	size_t len;
	int in;
};

static void
test_map_model(void **state)
{
	static struct entry all[500];
	struct map m;

	(void)state;
	map_init(&m, 400, (const uint64_t[2]){ 1, 2 });
	for (size_t i = 0; i < 500; i++)
		all[i].len = (size_t)snprintf(all[i].key, 12, "key-%zu", i);
	size_t count = 0;
	for (int step = 0; step < 40000; step++) {
		struct entry *e = &all[chance(500)];
		struct slice key = { (uint8_t *)e->key, e->len };
		if (chance(2) == 0) {
			int want = e->in   ? ERR_EXISTS
			    : count == 400 ? ERR_FULL
					   : 0;
			assert_int_equal(map_put(&m, key, e), want);
			if (want == 0) {
				e->in = 1;
				count++;
			}
		} else {
			assert_ptr_equal(map_del(&m, key), e->in ? e : NULL);
			count -= (size_t)e->in;
			e->in = 0;
		}
		assert_int_equal(m.count, count);
	}
	size_t seen = 0, pos = 0;
	for (struct entry *e; (e = map_next(&m, &pos)) != NULL; seen++)
		assert_int_equal(e->in, 1);
	assert_int_equal(seen, count);
	for (size_t i = 0; i < 500; i++) {
		struct slice key = { (uint8_t *)all[i].key, all[i].len };
		assert_ptr_equal(map_get(&m, key), all[i].in ? &all[i] : NULL);
	}
	map_fini(&m);
}

/* SipHash reference key and message 00 01 02 .., but 1-3 rounds. */
static void
test_map_hash(void **state)
{
	const uint64_t a[2] = { 1, 2 }, b[2] = { 1, 3 };

	(void)state;
	assert_true(map_hash(a, SL("x")) != map_hash(b, SL("x")));
	assert_true(map_hash(a, SL("")) != map_hash(a, SL("\0")));
	assert_true(map_hash(a, SL("12345678")) != map_hash(a, SL("1234567")));
}

static void
test_heap_model(void **state)
{
	static struct heap_node nodes[200];
	struct heap h;

	(void)state;
	heap_init(&h, 150);
	for (int step = 0; step < 50000; step++) {
		struct heap_node *n = &nodes[chance(200)];
		if (chance(3) > 0) {
			int want =
			    !heap_has(n) && h.count == 150 ? ERR_FULL : 0;
			assert_int_equal(
			    heap_set(&h, n, (msec)chance(1000)), want);
		} else {
			heap_drop(&h, n);
			assert_false(heap_has(n));
		}
		msec least = INT64_MAX;
		size_t in = 0;
		for (size_t i = 0; i < 200; i++) {
			if (!heap_has(&nodes[i]))
				continue;
			in++;
			if (nodes[i].due < least)
				least = nodes[i].due;
		}
		assert_int_equal(h.count, in);
		if (in > 0)
			assert_true(heap_first(&h)->due == least);
		else
			assert_null(heap_first(&h));
	}
	heap_fini(&h);
}

static void
test_list(void **state)
{
	struct list head, a, b;

	(void)state;
	list_init(&head);
	list_init(&a);
	list_init(&b);
	assert_null(list_pop(&head));
	list_push(&head, &a);
	list_push_front(&head, &b);
	list_remove(&a);
	list_remove(&a);
	assert_ptr_equal(list_pop(&head), &b);
	assert_true(list_empty(&head));
}

static void
check_stamp(const char *text, wall_msec want)
{
	wall_msec got = -1;

	if (stamp_parse(slice_from(text), &got) != 0 || got != want)
		fail_msg("%s gave %lld", text, (long long)got);
}

static void
test_stamps(void **state)
{
	static const char *bad[] = { "", "2025-10-16", "2025-10-16T12:00:00",
		"2025-13-01T00:00:00Z", "2025-02-29T00:00:00Z",
		"2025-10-16T24:00:00Z", "2025-10-16T12:00:00.Z",
		"2025-10-16T12:00:00Zx", "2025-10-16T12:00:00+2400",
		"2025-10-16T12:00:00.1234567890Z" };
	uint8_t out[STAMP_HTTP_LEN];
	wall_msec at = 42;

	(void)state;
	check_stamp("2025-10-16T12:00:00Z", INT64_C(1760616000000));
	check_stamp(
	    "2025-10-16t14:00:00.123456789+02:00", INT64_C(1760616000123));
	check_stamp("2024-02-29T23:59:60Z", INT64_C(1709251200000));
	check_stamp("1970-01-01T00:00:00.5Z", 500);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
		    stamp_parse(slice_from(bad[i]), &at), ERR_INVALID);
		assert_int_equal(at, 42);
	}
	for (wall_msec ms = 0; ms < INT64_C(4102444800000);
	     ms += INT64_C(86399123)) {
		stamp_format(ms, out);
		assert_int_equal(
		    stamp_parse((struct slice){ out, STAMP_LEN }, &at), 0);
		assert_true(at == ms);
	}
	stamp_format_http(INT64_C(784111777000), out);
	assert_slice(((struct slice){ out, STAMP_HTTP_LEN }),
	    SL("Sun, 06 Nov 1994 08:49:37 GMT"));
	stamp_format(INT64_MAX, out);
	assert_slice(
	    ((struct slice){ out, STAMP_LEN }), SL("9999-12-31T23:59:59.999Z"));
}

static void
test_errors_have_names(void **state)
{
	(void)state;
	assert_string_equal(err_name(0), "ok");
	assert_string_equal(err_name(ERR_TOO_BIG), "too_big");
	assert_string_equal(err_name(-9999), "unknown");
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(fill_buf, NULL);
	oom_torture(fill_arena, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_buf_model),
		cmocka_unit_test(test_buf_cap),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_map_model),
		cmocka_unit_test(test_map_hash),
		cmocka_unit_test(test_heap_model),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_stamps),
		cmocka_unit_test(test_errors_have_names),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
