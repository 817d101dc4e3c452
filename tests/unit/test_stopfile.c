/*
 * The stop's own file: what is in it, what a crash leaves of it, and the
 * thread that writes it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#include "server/stopfile.h"

#include "support/guard.h"
#include "support/lossy.h"
#include "support/oom.h"
#include "support/unit.h"

static const struct stop_record two[] = {
	{ .epoch = 3,
	    .scope = STOP_SELECTOR,
	    .target = SL_INIT("env=prod"),
	    .bound = SL_INIT("team=a"),
	    .keep_tunnels = true,
	    .reason = SL_INIT("a \"reason\"\n"),
	    .actor = SL_INIT("usr_1"),
	    .at = 1760616000000,
	    .workspace_id = 1,
	    .request_key = SL_INIT("k") },
	{ .epoch = 7, .scope = STOP_ALL, .actor = SL_INIT("system") },
};
static const struct stop_state state_two = { 9, two, 2 };

static struct slice
text_of(const struct stop_state *s, struct arena *a)
{
	struct slice out = { 0 };
	struct buf b;

	buf_init(&b, 1 << 20);
	stopfile_encode(&b, s);
	assert_int_equal(b.err, 0);
	assert_int_equal(arena_copy(a, buf_peek(&b), &out), 0);
	buf_fini(&b);
	return out;
}

static void
test_round(void **state)
{
	struct stop_state s;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	assert_int_equal(stopfile_decode(text_of(&state_two, &a), &a, &s), 0);
	assert_int_equal(s.epoch, 9);
	assert_int_equal(s.count, 2);
	assert_int_equal(s.stops[0].scope, STOP_SELECTOR);
	assert_true(slice_eq(s.stops[0].target, two[0].target));
	assert_true(slice_eq(s.stops[0].bound, two[0].bound));
	assert_true(slice_eq(s.stops[0].reason, two[0].reason));
	assert_true(slice_eq(s.stops[0].request_key, two[0].request_key));
	assert_true(s.stops[0].keep_tunnels);
	assert_int_equal(s.stops[0].at, two[0].at);
	assert_int_equal(s.stops[1].scope, STOP_ALL);
	assert_int_equal(s.stops[1].workspace_id, 0);
	assert_null(s.stops[1].target.ptr);
	arena_fini(&a);
}

/* Whatever was changed or cut is noticed. */
static void
test_damage(void **state)
{
	struct stop_state s;
	struct arena a;

	(void)state;
	arena_init(&a, 16 << 20);
	struct slice text = text_of(&state_two, &a);
	for (size_t n = 0; n < text.len; n++) {
		struct slice cut = guard_copy(slice_first(text, n));
		assert_int_equal(stopfile_decode(cut, &a, &s), ERR_CORRUPT);
		guard_free(cut);
	}
	for (size_t n = 0; n < text.len; n++) {
		uint8_t *copy = malloc(text.len);
		memcpy(copy, text.ptr, text.len);
		copy[n] ^= 1;
		const struct slice bad = { copy, text.len };
		assert_int_equal(stopfile_decode(bad, &a, &s), ERR_CORRUPT);
		free(copy);
	}
	arena_fini(&a);
}

static void
expect_err(const char *line, int err)
{
	struct stop_state s;
	struct arena a;
	struct buf b;

	arena_init(&a, 1 << 20);
	buf_init(&b, 4096);
	stopfile_seal(&b, slice_from(line));
	assert_int_equal(stopfile_decode(buf_peek(&b), &a, &s), err);
	buf_fini(&b);
	arena_fini(&a);
}

static void
test_sense(void **state)
{
	(void)state;
	expect_err("{\"muster_stop\":1,\"epoch\":0,\"stops\":[]}", 0);
	expect_err("{\"muster_stop\":2,\"epoch\":{}}", ERR_NEWER);
	expect_err(
	    "{\"muster_stop\":1,\"epoch\":-1,\"stops\":[]}", ERR_CORRUPT);
	expect_err(
	    "{\"muster_stop\":1,\"epoch\":1,\"stops\":[1]}", ERR_CORRUPT);
	expect_err("{\"muster_stop\":1,\"epoch\":1,\"stops\":[{\"epoch\":1,"
		   "\"scope\":\"some\",\"reason\":\"\",\"actor\":\"\","
		   "\"at\":0,\"workspace_id\":1}]}",
	    ERR_CORRUPT);
	expect_err("[]", ERR_CORRUPT);
}

/* The power fails before, at and after every change of the disk: the file is
 * the old one or the new one, and the new one once it was said to be. */
static void
test_every_crash(void **state)
{
	const struct stop_state old = { 8, two, 1 };
	struct arena a;

	(void)state;
	arena_init(&a, 64 << 20);
	struct slice before = text_of(&old, &a);
	struct slice after = text_of(&state_two, &a);
	size_t olds = 0, news = 0;
	for (unsigned long n = 1; n < 20; n++) {
		for (uint32_t seed = 0; seed < 20; seed++) {
			struct stop_state s;
			struct lossy disk;
			lossy_init(&disk);
			struct file_layer *fs = &disk.layer;
			assert_int_equal(file_mkdir(fs, "d", 0700), 0);
			assert_int_equal(file_sync_dir(fs, "."), 0);
			assert_int_equal(stopfile_write(fs, "d", before), 0);
			lossy_fail(&disk, LOSSY_CHANGES, n, ERR_IO, true);
			int err = stopfile_write(fs, "d", after);
			lossy_crash(&disk, seed);
			assert_int_equal(stopfile_read(fs, "d", &a, &s), 0);
			assert_true(s.epoch == 8 || s.epoch == 9);
			if (err == 0)
				assert_int_equal(s.epoch, 9);
			olds += s.epoch == 8;
			news += s.epoch == 9;
			lossy_fini(&disk);
		}
	}
	assert_true(olds > 0 && news > 0);
	arena_fini(&a);
}

/* The thread ---------------------------------------------------------------
 */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned wakes;
} bell = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

static void
ring(void *owner)
{
	(void)owner;
	pthread_mutex_lock(&bell.lock);
	bell.wakes++;
	pthread_cond_signal(&bell.cond);
	pthread_mutex_unlock(&bell.lock);
}

static void
next_news(struct stopfile *f, struct stopfile_news *n)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	while (!stopfile_take(f, n)) {
		pthread_mutex_lock(&bell.lock);
		while (bell.wakes == 0)
			assert_int_equal(pthread_cond_timedwait(
					     &bell.cond, &bell.lock, &end),
			    0);
		bell.wakes = 0;
		pthread_mutex_unlock(&bell.lock);
	}
}

/* News of writing; what is said of STOP meanwhile is left out. */
static uint64_t
written(struct stopfile *f, int *err)
{
	struct stopfile_news n;

	do
		next_news(f, &n);
	while (n.epoch == 0);
	*err = n.err;
	return n.epoch;
}

static void
test_thread(void **state)
{
	char dir[] = "/tmp/stopfile.XXXXXX", path[64];
	struct stop_state s, many = state_two;
	struct stopfile *f;
	struct arena a;
	int err;

	(void)state;
	arena_init(&a, 1 << 20);
	assert_non_null(mkdtemp(dir));
	const struct stopfile_config c = {
		.dir = dir, .files = &file_real, .wake = ring
	};
	assert_int_equal(stopfile_read(&file_real, dir, &a, &s), ERR_NOT_FOUND);
	assert_int_equal(stopfile_start(&f, &c), 0);
	stopfile_put(f, &state_two);
	assert_int_equal(written(f, &err), 9);
	assert_int_equal(err, 0);
	/* Of many the newest is what remains. */
	for (many.epoch = 10; many.epoch < 200; many.epoch++)
		stopfile_put(f, &many);
	while (written(f, &err) < 199)
		assert_int_equal(err, 0);
	assert_int_equal(stopfile_read(&file_real, dir, &a, &s), 0);
	assert_int_equal(s.epoch, 199);
	/* STOP is seen, and seen to go. */
	struct stopfile_news n;
	snprintf(path, sizeof(path), "%s/STOP", dir);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs("  fire \nand so on", file);
	fclose(file);
	do
		next_news(f, &n);
	while (!n.looked || !n.present || n.word_len == 0);
	assert_int_equal(n.word_len, 4);
	assert_memory_equal(n.word, "fire", 4);
	unlink(path);
	do
		next_news(f, &n);
	while (!n.looked || n.present);
	/* What was put down last is written before the end. */
	many.epoch = 500;
	stopfile_put(f, &many);
	stopfile_stop(f);
	assert_int_equal(stopfile_read(&file_real, dir, &a, &s), 0);
	assert_int_equal(s.epoch, 500);
	snprintf(path, sizeof(path), "%s/stop.epoch", dir);
	unlink(path);
	/* A disk that is not there is said to be. */
	rmdir(dir);
	assert_int_equal(stopfile_start(&f, &c), 0);
	stopfile_put(f, &state_two);
	assert_int_equal(written(f, &err), 9);
	assert_int_equal(err, ERR_NOT_FOUND);
	stopfile_stop(f);
	arena_fini(&a);
}

static void
without_memory(void *arg)
{
	struct stop_state s;
	struct arena a;
	struct buf b;

	(void)arg;
	arena_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	stopfile_encode(&b, &state_two);
	if (b.err == 0) {
		int err = stopfile_decode(buf_peek(&b), &a, &s);
		assert_true(err == 0 || err == ERR_NOMEM);
	}
	buf_fini(&b);
	arena_fini(&a);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_sense),
		cmocka_unit_test(test_every_crash),
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
