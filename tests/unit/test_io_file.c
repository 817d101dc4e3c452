#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "io/file.h"

#include "support/lossy.h"
#include "support/oom.h"
#include "support/unit.h"

static struct lossy disk;
static struct file_layer *fs;
static struct arena arena;

/* Both layers must tell the same story ------------------------------------- */

static char home[] = "/tmp/test_io_file.XXXXXX";

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

static int
start_real(void **state)
{
	(void)state;
	memcpy(home + sizeof(home) - 7, "XXXXXX", 6);
	arena_init(&arena, 1 << 20);
	fs = &file_real;
	return mkdtemp(home) == NULL || chdir(home) < 0;
}

static int
end_real(void **state)
{
	(void)state;
	arena_fini(&arena);
	return chdir("/") < 0 ||
	    nftw(home, remove_one, 8, FTW_DEPTH | FTW_PHYS) < 0;
}

static int
start_lossy(void **state)
{
	(void)state;
	arena_init(&arena, 1 << 20);
	lossy_init(&disk);
	fs = &disk.layer;
	return 0;
}

static int
end_lossy(void **state)
{
	(void)state;
	lossy_fini(&disk);
	arena_fini(&arena);
	return 0;
}

static void
check_content(const char *path, struct slice want)
{
	struct slice all = { 0 };

	assert_int_equal(file_read_all(fs, path, 1 << 16, &arena, &all), 0);
	assert_non_null(all.ptr);
	assert_slice(all, want);
}

static void
make(const char *path, struct slice content)
{
	struct file f;

	assert_int_equal(
	    file_open(
		fs, path, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &f),
	    0);
	assert_int_equal(file_write(&f, 0, content), 0);
	assert_int_equal(file_sync(&f), 0);
	file_close(&f);
}

static void
test_open_flags(void **state)
{
	struct file f = { 0 };

	(void)state;
	assert_int_equal(file_open(fs, "a", FILE_READ, 0, &f), ERR_NOT_FOUND);
	assert_null(f.layer);
	assert_int_equal(
	    file_open(fs, "no/a", FILE_WRITE | FILE_CREATE, 0600, &f),
	    ERR_NOT_FOUND);
	make("a", SL("hello"));
	assert_int_equal(
	    file_open(fs, "a", FILE_WRITE | FILE_EXCL, 0600, &f), ERR_EXISTS);
	check_content("a", SL("hello"));
	check_content("./a", SL("hello"));
	assert_int_equal(file_open(fs, "a/b", FILE_READ, 0, &f), ERR_NOT_FOUND);
	assert_int_equal(
	    file_open(fs, "a", FILE_WRITE | FILE_TRUNCATE, 0, &f), 0);
	file_close(&f);
	file_close(&f);
	check_content("a", SL(""));
	assert_int_equal(file_open(fs, ".", FILE_WRITE, 0, &f), ERR_TYPE);
}

static void
test_bytes(void **state)
{
	struct file f;
	uint64_t size;
	char text[16];
	size_t got;

	(void)state;
	assert_int_equal(
	    file_open(fs, "a", FILE_READ | FILE_WRITE | FILE_CREATE, 0600, &f),
	    0);
	assert_int_equal(file_write(&f, 3, SL("def")), 0);
	assert_int_equal(file_write(&f, 1, SL("BC")), 0);
	assert_int_equal(file_size(&f, &size), 0);
	assert_int_equal(size, 6);
	assert_int_equal(file_read(&f, 2, text, sizeof(text), &got), 0);
	assert_int_equal(got, 4);
	assert_memory_equal(text, "Cdef", 4);
	assert_int_equal(file_read(&f, 6, text, sizeof(text), &got), 0);
	assert_int_equal(got, 0);
	check_content("a", SL("\0BCdef"));
	assert_int_equal(file_truncate(&f, 2), 0);
	assert_int_equal(file_truncate(&f, 4), 0);
	check_content("a", SL("\0B\0\0"));
	assert_int_equal(file_sync(&f), 0);
	file_close(&f);

	assert_int_equal(file_open(fs, "a", FILE_APPEND, 0, &f), 0);
	assert_int_equal(file_append(&f, SL("xy")), 0);
	assert_int_equal(file_append(&f, SL("z")), 0);
	file_close(&f);
	check_content("a", SL("\0B\0\0xyz"));
}

/* What is not in memory is refused or read, but never something else. */
static void
test_cached(void **state)
{
	char text[16] = { 0 };
	struct file f;
	size_t got;
	int err;

	(void)state;
	make("a", SL("abcdef"));
	assert_int_equal(file_open(fs, "a", FILE_READ, 0, &f), 0);
	int fd = open("a", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);
	while ((err = file_read_cached(&f, 2, text, sizeof(text), &got)) ==
	    ERR_AGAIN) {
		assert_int_equal(file_read(&f, 2, text, sizeof(text), &got), 0);
		memset(text, 0, sizeof(text));
	}
	assert_int_equal(err, 0);
	assert_int_equal(got, 4);
	assert_memory_equal(text, "cdef", 4);
	file_close(&f);
}

static void
test_names(void **state)
{
	struct file_names names;

	(void)state;
	assert_int_equal(file_mkdir(fs, "d", 0700), 0);
	assert_int_equal(file_mkdir(fs, "d", 0700), ERR_EXISTS);
	assert_int_equal(file_mkdir(fs, "no/d", 0700), ERR_NOT_FOUND);
	make("d/b", SL("1"));
	make("d/a", SL("2"));
	assert_int_equal(file_mkdir(fs, "d/c", 0700), 0);
	assert_int_equal(file_list(fs, "d", 3, &arena, &names), 0);
	assert_int_equal(names.count, 3);
	assert_string_equal(names.at[0].name, "a");
	assert_string_equal(names.at[2].name, "c");
	assert_false(names.at[0].is_dir);
	assert_true(names.at[2].is_dir);
	assert_int_equal(file_list(fs, "d", 2, &arena, &names), ERR_TOO_BIG);
	assert_int_equal(file_list(fs, "x", 9, &arena, &names), ERR_NOT_FOUND);
	assert_int_equal(
	    file_list(fs, "d/a", 9, &arena, &names), ERR_NOT_FOUND);

	assert_int_equal(file_rename(fs, "d/a", "d/b"), 0);
	check_content("d/b", SL("2"));
	assert_int_equal(file_rename(fs, "d/a", "d/b"), ERR_NOT_FOUND);
	assert_int_equal(file_rename(fs, "d/b", "top"), 0);
	check_content("top", SL("2"));
	assert_int_equal(file_rename(fs, "d", "e"), 0);
	assert_int_equal(file_rmdir(fs, "e"), ERR_EXISTS);
	assert_int_equal(file_rmdir(fs, "e/c"), 0);
	assert_int_equal(file_list(fs, "e", 9, &arena, &names), 0);
	assert_int_equal(names.count, 0);
	assert_int_equal(file_rmdir(fs, "e"), 0);
	assert_int_equal(file_unlink(fs, "top"), 0);
	assert_int_equal(file_unlink(fs, "top"), ERR_NOT_FOUND);
}

static void
test_unlinked_but_open(void **state)
{
	struct file f;
	char text[4];
	size_t got;

	(void)state;
	make("a", SL("abcd"));
	assert_int_equal(file_open(fs, "a", FILE_READ, 0, &f), 0);
	assert_int_equal(file_unlink(fs, "a"), 0);
	make("a", SL("new"));
	assert_int_equal(file_read(&f, 0, text, 4, &got), 0);
	assert_int_equal(got, 4);
	assert_memory_equal(text, "abcd", 4);
	file_close(&f);
	check_content("a", SL("new"));
}

static void
test_lock(void **state)
{
	struct file f, g;
	bool held = true;

	(void)state;
	assert_int_equal(file_probe(fs, "l", &held), ERR_NOT_FOUND);
	make("l", SL(""));
	assert_int_equal(file_open(fs, "l", FILE_WRITE, 0, &f), 0);
	assert_int_equal(file_open(fs, "l", FILE_WRITE, 0, &g), 0);
	assert_int_equal(file_probe(fs, "l", &held), 0);
	assert_false(held);
	assert_int_equal(file_lock(&f), 0);
	assert_int_equal(file_lock(&f), 0);
	assert_int_equal(file_lock(&g), ERR_BUSY);
	assert_int_equal(file_probe(fs, "l", &held), 0);
	assert_true(held);
	file_close(&f);
	assert_int_equal(file_lock(&g), 0);
	file_close(&g);
}

static void
test_whole_files(void **state)
{
	struct slice all, big;
	static uint8_t bytes[20000];
	struct file_names names;
	struct file_space space;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	big = (struct slice){ bytes, sizeof(bytes) };
	assert_int_equal(file_write_atomic(fs, "w", SL("one"), 0600), 0);
	check_content("w", SL("one"));
	/* What a crash left behind is no obstacle. */
	make("w.tmp", SL("rubbish that is longer"));
	assert_int_equal(file_write_atomic(fs, "w", SL("two"), 0600), 0);
	check_content("w", SL("two"));
	assert_int_equal(file_write_atomic(fs, "w", big, 0600), 0);
	check_content("w", big);
	assert_int_equal(
	    file_read_all(fs, "w", sizeof(bytes) - 1, &arena, &all),
	    ERR_TOO_BIG);
	assert_int_equal(
	    file_read_all(fs, "w", sizeof(bytes), &arena, &all), 0);
	assert_slice(all, big);
	assert_int_equal(
	    file_write_atomic(fs, "no/w", big, 0600), ERR_NOT_FOUND);
	assert_int_equal(file_list(fs, ".", 9, &arena, &names), 0);
	assert_int_equal(names.count, 1);
	assert_int_equal(file_space(fs, ".", &space), 0);
	assert_true(space.total > 0 && space.free <= space.total);
}

/* Every allocation of the helpers may fail, and nothing leaks. */
static void
list_without_memory(void *arg)
{
	struct file_names names;
	struct slice all;
	struct arena a;

	(void)arg;
	arena_init(&a, 1 << 20);
	int err = file_list(&disk.layer, "/", 99, &a, &names);
	assert_true(err == ERR_NOMEM || (err == 0 && names.count == 40));
	err = file_read_all(&disk.layer, "f7", 99, &a, &all);
	assert_true(err == ERR_NOMEM || (err == 0 && slice_eq(all, SL("x"))));
	arena_fini(&a);
}

static void
test_memory(void **state)
{
	char path[8];

	(void)state;
	for (int i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "f%d", i);
		make(path, SL("x"));
	}
	oom_torture(list_without_memory, NULL);
}

/* What only the kernel has --------------------------------------------------
 */

static void
test_real_kinds(void **state)
{
	struct file f;
	struct slice all;

	(void)state;
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(file_open(fs, "fifo", FILE_READ, 0, &f), ERR_TYPE);
	make("a", SL("x"));
	assert_int_equal(symlink("a", "link"), 0);
	check_content("link", SL("x"));
	assert_int_equal(
	    file_open(fs, "link", FILE_READ | FILE_NOFOLLOW, 0, &f),
	    ERR_DENIED);
	/* /proc says that its files are empty. */
	assert_int_equal(
	    file_read_all(fs, "/proc/self/stat", 4096, &arena, &all), 0);
	assert_true(all.len > 10);
	assert_int_equal(file_read_all(fs, "/proc/self/stat", 10, &arena, &all),
	    ERR_TOO_BIG);
	assert_int_equal(file_open(fs, "a", FILE_READ, 0, &f), 0);
	assert_true((fcntl(f.fd, F_GETFD) & FD_CLOEXEC) != 0);
	file_close(&f);
	assert_int_equal(
	    file_open(fs, "/dev/full", FILE_WRITE, 0, &f), ERR_TYPE);
}

static void
test_real_mode(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(file_write_atomic(fs, "key", SL("k"), 0600), 0);
	assert_int_equal(stat("key", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

/* The lock dies with its process, however it dies. */
static void
test_real_lock_of_the_dead(void **state)
{
	struct file f;
	bool held = false;
	int ready[2], status;
	char c;

	(void)state;
	make("l", SL(""));
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (file_open(fs, "l", FILE_WRITE, 0, &f) == 0 &&
		    file_lock(&f) == 0 && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(file_probe(fs, "l", &held), 0);
	assert_true(held);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(file_probe(fs, "l", &held), 0);
	assert_false(held);
	close(ready[0]);
	close(ready[1]);
}

/* What only the double does -------------------------------------------------
 */

static void
test_forgets_names(void **state)
{
	struct file f;

	(void)state;
	make("a", SL("synced, but its name is not"));
	lossy_crash(&disk, 0);
	assert_int_equal(file_open(fs, "a", FILE_READ, 0, &f), ERR_NOT_FOUND);

	assert_int_equal(file_mkdir(fs, "d", 0700), 0);
	make("d/a", SL("1"));
	assert_int_equal(file_sync_parent(fs, "d/a"), 0);
	lossy_crash(&disk, 0);
	assert_int_equal(file_open(fs, "d/a", FILE_READ, 0, &f), ERR_NOT_FOUND);

	assert_int_equal(file_mkdir(fs, "d", 0700), 0);
	make("d/a", SL("1"));
	assert_int_equal(file_sync_dir(fs, "d"), 0);
	assert_int_equal(file_sync_parent(fs, "d"), 0);
	lossy_crash(&disk, 0);
	check_content("d/a", SL("1"));

	/* A removal that was not synced comes back, with its bytes. */
	assert_int_equal(disk.layer.ops->unlink(fs, "d/a"), 0);
	lossy_crash(&disk, 0);
	check_content("d/a", SL("1"));
	assert_int_equal(file_unlink(fs, "d/a"), 0);
	lossy_crash(&disk, 0);
	assert_int_equal(file_open(fs, "d/a", FILE_READ, 0, &f), ERR_NOT_FOUND);
}

static void
test_forgets_bytes(void **state)
{
	struct file f;
	size_t got;
	char c;

	(void)state;
	make("a", SL("safe"));
	assert_int_equal(file_sync_dir(fs, "."), 0);
	assert_int_equal(file_open(fs, "a", FILE_WRITE, 0, &f), 0);
	assert_int_equal(file_lock(&f), 0);
	assert_int_equal(file_write(&f, 0, SL("lost bytes")), 0);
	check_content("a", SL("lost bytes"));
	assert_slice(lossy_safe(&disk, "a"), SL("safe"));
	lossy_crash(&disk, 0);
	check_content("a", SL("safe"));
	/* A file that was open is of the time before. */
	assert_int_equal(file_write(&f, 0, SL("x")), ERR_IO);
	assert_int_equal(file_read(&f, 0, &c, 1, &got), ERR_IO);
	assert_int_equal(file_sync(&f), ERR_IO);
	file_close(&f);

	assert_int_equal(file_open(fs, "a", FILE_WRITE, 0, &f), 0);
	assert_int_equal(file_lock(&f), 0);
	assert_int_equal(file_truncate(&f, 2), 0);
	assert_int_equal(file_truncate(&f, 4), 0);
	assert_int_equal(file_sync(&f), 0);
	file_close(&f);
	lossy_crash(&disk, 0);
	check_content("a", SL("sa\0\0"));
}

static void
test_failed_sync(void **state)
{
	struct file f;

	(void)state;
	make("a", SL("old"));
	assert_int_equal(file_sync_dir(fs, "."), 0);
	assert_int_equal(file_open(fs, "a", FILE_WRITE, 0, &f), 0);
	assert_int_equal(file_write(&f, 0, SL("new")), 0);
	lossy_fail(&disk, LOSSY_SYNC, 1, ERR_IO, false);
	assert_int_equal(file_sync(&f), ERR_IO);
	/* The second says yes, and the bytes are gone all the same. */
	assert_int_equal(file_sync(&f), 0);
	check_content("a", SL("new"));
	file_close(&f);
	lossy_crash(&disk, 0);
	check_content("a", SL("old"));
}

static void
test_full_disk(void **state)
{
	struct file_space space;
	struct file f;
	uint64_t size;

	(void)state;
	disk.total = 10;
	assert_int_equal(
	    file_open(fs, "a", FILE_APPEND | FILE_CREATE, 0600, &f), 0);
	assert_int_equal(file_append(&f, SL("12345678")), 0);
	assert_int_equal(file_append(&f, SL("abcd")), ERR_NO_SPACE);
	assert_int_equal(file_size(&f, &size), 0);
	assert_int_equal(size, 10);
	assert_int_equal(file_truncate(&f, 8), 0);
	assert_int_equal(file_space(fs, "/", &space), 0);
	assert_int_equal(space.free, 2);
	assert_int_equal(file_append(&f, SL("ab")), 0);
	file_close(&f);
	/* The old content survives a rewrite that does not fit. */
	assert_int_equal(
	    file_write_atomic(fs, "a", SL("x"), 0600), ERR_NO_SPACE);
	check_content("a", SL("12345678ab"));
	assert_int_equal(file_unlink(fs, "a"), 0);
	assert_int_equal(file_write_atomic(fs, "a", SL("x"), 0600), 0);
}

/*
 * The power fails at each operation in turn, and any part of what was not
 * synced is kept: the file is the old one or the new one, never a mixture.
 */
static void
test_atomic_at_every_cut(void **state)
{
	static uint8_t old[1500], new[2500];
	struct slice a = { old, sizeof(old) }, b = { new, sizeof(new) };
	unsigned olds = 0, news = 0;
	int err = ERR_IO;

	(void)state;
	memset(old, 'o', sizeof(old));
	memset(new, 'n', sizeof(new));
	for (unsigned long n = 1; err != 0; n++) {
		for (uint32_t seed = 0; seed < 20; seed++) {
			struct slice all;
			assert_int_equal(
			    file_write_atomic(fs, "a", a, 0600), 0);
			lossy_fail(&disk, LOSSY_CHANGES, n, ERR_IO, true);
			err = file_write_atomic(fs, "a", b, 0600);
			lossy_crash(&disk, seed);
			assert_int_equal(
			    file_read_all(fs, "a", 9999, &arena, &all), 0);
			assert_true(
			    slice_eq(all, b) || (err != 0 && slice_eq(all, a)));
			olds += slice_eq(all, a);
			news += slice_eq(all, b);
			arena_reset(&arena);
		}
		assert_in_range(n, 1, 20);
	}
	assert_true(olds > 0 && news > 20);
}

/* Without the sync, the double shows the torn file: it can fail. */
static void
test_torn_writes_show(void **state)
{
	static uint8_t bytes[8 * 512];
	unsigned torn = 0;
	struct file f;

	(void)state;
	memset(bytes, 'n', sizeof(bytes));
	for (uint32_t seed = 1; seed <= 20; seed++) {
		struct slice all;
		assert_int_equal(
		    file_write_atomic(fs, "a", SL("old"), 0600), 0);
		assert_int_equal(file_open(fs, "a", FILE_WRITE, 0, &f), 0);
		assert_int_equal(
		    file_write(&f, 0, (struct slice){ bytes, sizeof(bytes) }),
		    0);
		file_close(&f);
		lossy_crash(&disk, seed);
		assert_int_equal(file_read_all(fs, "a", 9999, &arena, &all), 0);
		torn += !slice_eq(all, SL("old")) &&
		    !slice_eq(all, (struct slice){ bytes, sizeof(bytes) });
		arena_reset(&arena);
	}
	assert_in_range(torn, 5, 20);
}

static void
test_counts(void **state)
{
	(void)state;
	assert_int_equal(file_write_atomic(fs, "a", SL("x"), 0600), 0);
	assert_int_equal(disk.syncs, 1);
	assert_int_equal(disk.dir_syncs, 1);
}

int
main(void)
{
#define REAL(f) cmocka_unit_test_setup_teardown(f, start_real, end_real)
#define LOSSY(f) cmocka_unit_test_setup_teardown(f, start_lossy, end_lossy)
	const struct CMUnitTest tests[] = {
		REAL(test_open_flags),
		LOSSY(test_open_flags),
		REAL(test_bytes),
		LOSSY(test_bytes),
		REAL(test_cached),
		REAL(test_names),
		LOSSY(test_names),
		REAL(test_unlinked_but_open),
		LOSSY(test_unlinked_but_open),
		REAL(test_lock),
		LOSSY(test_lock),
		REAL(test_whole_files),
		LOSSY(test_whole_files),
		LOSSY(test_memory),
		REAL(test_real_kinds),
		REAL(test_real_mode),
		REAL(test_real_lock_of_the_dead),
		LOSSY(test_forgets_names),
		LOSSY(test_forgets_bytes),
		LOSSY(test_failed_sync),
		LOSSY(test_full_disk),
		LOSSY(test_atomic_at_every_cut),
		LOSSY(test_torn_writes_show),
		LOSSY(test_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
