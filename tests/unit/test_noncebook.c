/* Used nonces: by many lanes at once, and over a restart. */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"

#include "wire/token.h"

#include "server/noncebook.h"

#include "support/unit.h"

enum { THREADS = 4, NONCES = 3000 };

static char dir[64];

static int
set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_noncebook.XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static size_t
files(bool gone)
{
	char path[400], where[100];
	size_t n = 0;

	snprintf(where, sizeof(where), "%s/nonces", dir);
	DIR *d = opendir(where);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		snprintf(path, sizeof(path), "%s/%s", where, e->d_name);
		if (gone)
			unlink(path);
	}
	closedir(d);
	if (gone)
		rmdir(where);
	return n;
}

static int
tear_down(void **state)
{
	(void)state;
	files(true);
	rmdir(dir);
	return 0;
}

static int
take(struct noncebook *b, struct token_hasher *h, int n, msec now)
{
	uint64_t owner;
	struct nonce x;
	char text[32];

	snprintf(text, sizeof(text), "%d", n);
	assert_int_equal(nonce_owner(h, SL("a"), &owner), 0);
	assert_int_equal(nonce_of(h, owner, slice_from(text), &x), 0);
	return noncebook_take(b, &x, now);
}

static void *
take_all(void *arg)
{
	struct token_hasher h;
	uintptr_t good = 0;

	if (token_hasher_init(&h) != 0)
		return NULL;
	for (int i = 0; i < NONCES; i++)
		good += take(arg, &h, i, i) == 0;
	token_hasher_fini(&h);
	return (void *)good;
}

/* Each has one who may use it. */
static void
many_take_the_same(void **state)
{
	pthread_t threads[THREADS];
	struct noncebook *b;
	uintptr_t sum = 0;
	void *good;

	(void)state;
	assert_int_equal(noncebook_open(&b, dir, 0), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, take_all, b), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &good), 0);
		sum += (uintptr_t)good;
	}
	assert_int_equal(sum, NONCES);
	noncebook_close(b);
}

/* As if it had been killed: nothing is closed in order but by the end. */
static void
a_restart_forgets_nothing(void **state)
{
	struct token_hasher h;
	struct noncebook *b, *again;

	(void)state;
	assert_int_equal(token_hasher_init(&h), 0);
	assert_int_equal(noncebook_open(&b, dir, 0), 0);
	for (int i = 0; i < 400; i++)
		assert_int_equal(take(b, &h, i, i * 1000), 0);
	/* Four generations, each with a file. */
	assert_in_range(files(false), 3, 5);
	assert_int_equal(noncebook_open(&again, dir, 77), 0);
	assert_int_equal(files(false), 1);
	for (int i = 100; i < 400; i++)
		assert_int_equal(take(again, &h, i, 77 + i), ERR_EXISTS);
	assert_int_equal(take(again, &h, 400, 477), 0);
	noncebook_close(again);
	noncebook_close(b);
	/* Ten minutes of silence, and files are gone with what was in them. */
	assert_int_equal(noncebook_open(&b, dir, 0), 0);
	assert_int_equal(take(b, &h, 399, 400000), ERR_EXISTS);
	assert_int_equal(take(b, &h, 1000, 400000), 0);
	assert_int_equal(take(b, &h, 1001, 600000), 0);
	assert_int_equal(take(b, &h, 1002, 1000000), 0);
	assert_in_range(files(false), 1, 3);
	assert_int_equal(take(b, &h, 399, 1000001), 0);
	noncebook_close(b);
	token_hasher_fini(&h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    many_take_the_same, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    a_restart_forgets_nothing, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
