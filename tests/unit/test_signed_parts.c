/* What the signed dialect stands on: sealed secrets, nonces, figures. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"

#include "model/figures.h"

#include "wire/nonces.h"
#include "wire/seal.h"

#include "io/mapfile.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

/* Sealed secrets ----------------------------------------------------------- */

static const uint8_t key[SEAL_KEY] = { 1, 2, 3 };
static const uint8_t other_key[SEAL_KEY] = { 1, 2, 4 };
static const uint8_t nonce[SEAL_NONCE] = { 9, 8, 7 };

static void
a_seal_opens_for_its_owner_alone(void **state)
{
	struct buf sealed, out;

	(void)state;
	buf_init(&sealed, 1 << 16);
	buf_init(&out, 1 << 16);
	assert_int_equal(
	    seal_put(key, nonce, SL("a-1"), SL("secret"), &sealed), 0);
	struct slice text = guard_copy(buf_peek(&sealed));
	assert_int_equal(seal_open(key, SL("a-1"), text, &out), 0);
	assert_slice(buf_peek(&out), SL("secret"));
	buf_clear(&out);
	assert_int_equal(seal_open(key, SL("a-2"), text, &out), ERR_DENIED);
	assert_int_equal(
	    seal_open(other_key, SL("a-1"), text, &out), ERR_DENIED);
	for (size_t n = 0; n < text.len; n++)
		assert_int_equal(
		    seal_open(key, SL("a-1"), slice_first(text, n), &out),
		    ERR_DENIED);
	assert_int_equal(buf_peek(&out).len, 0);
	guard_free(text);
	buf_fini(&out);
	buf_fini(&sealed);
}

/* NIST's own: test case 13 of the GCM specification, no text, no owner. */
static void
a_seal_is_aes_256_gcm(void **state)
{
	static const uint8_t zero_key[SEAL_KEY], zero[SEAL_NONCE];
	struct buf sealed;

	(void)state;
	buf_init(&sealed, 1 << 16);
	assert_int_equal(seal_put(zero_key, zero, SL(""), SL(""), &sealed), 0);
	/* Twelve zeros, then 530f8afbc74536b9a963b4f1c4cb738b. */
	assert_slice(
	    buf_peek(&sealed), SL("AAAAAAAAAAAAAAAAUw+K+8dFNrmpY7TxxMtziw=="));
	buf_fini(&sealed);
}

static void
seal_without_memory(void *arg)
{
	struct buf sealed, out;

	(void)arg;
	buf_init(&sealed, 1 << 16);
	buf_init(&out, 1 << 16);
	int err = seal_put(key, nonce, SL("a"), SL("secret"), &sealed);
	assert_true(err == 0 || err == ERR_NOMEM);
	if (err == 0) {
		err = seal_open(key, SL("a"), buf_peek(&sealed), &out);
		assert_true(
		    err == ERR_NOMEM || slice_eq(buf_peek(&out), SL("secret")));
	}
	buf_fini(&out);
	buf_fini(&sealed);
}

/* Nonces ------------------------------------------------------------------- */

static struct nonce
some_nonce(const char *owner, int n)
{
	struct nonce x;
	char text[32];

	snprintf(text, sizeof(text), "%d", n);
	/* Without what is used up when memory is made to run out. */
	while (nonce_make(slice_from(owner), slice_from(text), &x) != 0)
		;
	return x;
}

static int
take(struct nonces *n, const char *owner, int number, msec now)
{
	const struct nonce x = some_nonce(owner, number);

	return nonces_take(n, &x, now);
}

static void
a_nonce_is_good_once(void **state)
{
	struct nonces n;

	(void)state;
	nonces_init(&n, 360000, 1000, 100000, 5000);
	assert_int_equal(take(&n, "a", 1, 5000), 0);
	assert_int_equal(take(&n, "a", 1, 5000), ERR_EXISTS);
	assert_int_equal(take(&n, "b", 1, 5000), 0);
	assert_int_equal(take(&n, "a", 2, 5000), 0);
	nonces_fini(&n);
}

/* However its neighbours come, each is known for as long as it must be, and
 * none for ever. */
static void
a_nonce_is_kept_for_its_time(void **state)
{
	const msec hold = 360000;
	struct nonces n;

	(void)state;
	for (msec step = 1000; step <= 2 * hold; step = step * 3 / 2) {
		msec now = 0;
		int number = 0;
		nonces_init(&n, hold, 1 << 20, 1 << 20, now);
		for (; now < 5 * hold; now += step) {
			int back = (int)(hold / step);
			if (number >= back && back > 0)
				assert_int_equal(
				    take(&n, "a", number - back, now),
				    ERR_EXISTS);
			assert_int_equal(take(&n, "a", number++, now), 0);
		}
		assert_true(n.count <= (uint32_t)(3 * hold / step + 3));
		nonces_fini(&n);
	}
}

static void
an_owner_has_its_share(void **state)
{
	struct nonces n;

	(void)state;
	nonces_init(&n, 360000, 100, 150, 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(take(&n, "a", i, i * 3000), 0);
	assert_int_equal(take(&n, "a", 100, 300000), ERR_FULL);
	/* Nothing was forgotten for it. */
	assert_int_equal(take(&n, "a", 0, 300000), ERR_EXISTS);
	for (int i = 0; i < 50; i++)
		assert_int_equal(take(&n, "b", i, 300000), 0);
	assert_int_equal(take(&n, "c", 0, 300000), ERR_FULL);
	assert_int_equal(take(&n, "a", 100, 2000000), 0);
	nonces_fini(&n);
}

static void
nonces_without_memory(void *arg)
{
	struct nonces n;

	(void)arg;
	nonces_init(&n, 1000, 1000, 1000, 0);
	for (int i = 0; i < 200; i++) {
		int err = take(&n, "a", i, i);
		assert_true(err == 0 || err == ERR_NOMEM);
		/* What was refused for want of memory was not used. */
		if (err == ERR_NOMEM)
			assert_int_equal(take(&n, "a", i, i), 0);
		assert_int_equal(take(&n, "a", i, i), ERR_EXISTS);
	}
	nonces_fini(&n);
}

/* Files -------------------------------------------------------------------- */

static void
a_mapped_file_remembers(void **state)
{
	char dir[] = "/tmp/test_mapfile.XXXXXX", path[64];
	struct mapfile f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	assert_int_equal(mapfile_open(&f, path, 32), 0);
	assert_int_equal(f.used, 0);
	uint8_t row[32] = { 0 };
	for (uint32_t i = 1; i <= 5000; i++) {
		memcpy(row, &i, sizeof(i));
		assert_int_equal(mapfile_add(&f, row), 0);
	}
	mapfile_close(&f);
	mapfile_close(&f);
	assert_int_equal(mapfile_open(&f, path, 32), 0);
	assert_int_equal(f.used, 5000);
	for (uint32_t i = 1, n; i <= 5000; i++) {
		memcpy(&n, mapfile_at(&f, i - 1), sizeof(n));
		assert_int_equal(n, i);
	}
	mapfile_close(&f);
	unlink(path);
	rmdir(dir);
	assert_int_equal(mapfile_open(&f, path, 32), ERR_NOT_FOUND);
}

/* Figures ------------------------------------------------------------------ */

static void
figures_are_read_by_their_names(void **state)
{
	struct figures f = { .at = 0 };
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	assert_true(figures_read(SL("{\"cpuPercent\":25.5,\"memPercent\":45.2,"
				    "\"diskUsage\":60.1,\"x\":\"y\"}"),
	    &a, &f));
	assert_float_equal(f.value[FIGURE_CPU], 25.5, 0.01);
	assert_float_equal(f.value[FIGURE_MEMORY], 45.2, 0.01);
	assert_float_equal(f.value[FIGURE_DISK], 60.1, 0.01);
	assert_true(figures_read(SL("{\"cpuUsage\":1}"), &a, &f));
	assert_true(f.value[FIGURE_DISK] < 0);
	assert_false(figures_read(SL("{\"cpuUsage\":-1}"), &a, &f));
	assert_false(figures_read(SL("{\"a\":1}"), &a, &f));
	assert_false(figures_read(SL("[]"), &a, &f));
	arena_fini(&a);
}

static void
an_hour_is_kept_and_a_day(void **state)
{
	const wall_msec begin = INT64_C(1700000040000); /* a whole minute */
	const struct figures *list;
	struct figure_ring r = { .last = 0 };
	size_t bytes = 0, n;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 24);
	for (int i = 0; i < 2 * 17280; i++) {
		const struct figures f = { .at = begin + i * 5000,
			.value = { (float)(i % 12), 50, -1 } };
		assert_int_equal(figure_ring_put(&r, &f, 1 << 20, &bytes), 0);
	}
	assert_int_equal(bytes + sizeof(r), figure_ring_bytes(&r));
	assert_int_equal(figure_ring_list(&r, true, 0, &a, &list, &n), 0);
	assert_int_equal(n, FIGURES_FINE);
	assert_int_equal(list[n - 1].at, begin + (2 * 17280 - 1) * 5000);
	assert_true(list[0].value[FIGURE_DISK] < 0);
	assert_int_equal(figure_ring_list(&r, false, 0, &a, &list, &n), 0);
	assert_int_equal(n, FIGURES_DAY);
	assert_float_equal(list[7].value[FIGURE_CPU], 5.5, 0.01);
	assert_int_equal(list[1].at - list[0].at, 60000);
	assert_int_equal(
	    figure_ring_list(&r, true, list[n - 1].at, &a, &list, &n), 0);
	assert_true(n < 40);
	figure_ring_fini(&r);
	arena_fini(&a);
}

/* Out of its share it keeps what it has room for. */
static void
figures_keep_to_their_share(void **state)
{
	struct figure_ring r = { .last = 0 };
	const struct figures *list;
	size_t bytes = 0, n;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	for (int i = 0; i < 1000; i++) {
		const struct figures f = { .at = INT64_C(1700000000000) +
			    i * 5000,
			.value = { 1, 2, 3 } };
		assert_int_equal(figure_ring_put(&r, &f, 1000, &bytes), 0);
		assert_true(bytes <= 1000);
	}
	assert_int_equal(figure_ring_list(&r, true, 0, &a, &list, &n), 0);
	assert_true(n >= 16 && n < 100);
	figure_ring_fini(&r);
	arena_fini(&a);
}

static void
memory_may_run_out(void **state)
{
	(void)state;
	oom_torture(seal_without_memory, NULL);
	oom_torture(nonces_without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_seal_opens_for_its_owner_alone),
		cmocka_unit_test(a_seal_is_aes_256_gcm),
		cmocka_unit_test(a_nonce_is_good_once),
		cmocka_unit_test(a_nonce_is_kept_for_its_time),
		cmocka_unit_test(an_owner_has_its_share),
		cmocka_unit_test(a_mapped_file_remembers),
		cmocka_unit_test(figures_are_read_by_their_names),
		cmocka_unit_test(an_hour_is_kept_and_a_day),
		cmocka_unit_test(figures_keep_to_their_share),
		cmocka_unit_test(memory_may_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
