#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "io/crash.h"
#include "io/sys.h"

#include "agent/cmdgroup.h"
#include "agent/holder_proto.h"
#include "agent/record.h"

#include "agent/runner_dir.h"

enum { RMDIR_TRIES = 50, RMDIR_EVERY = 2000 }; /* us */

enum { GAPS_TEXT = 256 * 1024, BLOCK = 4096 };

char *
dir_path(struct arena *a, const char *x, const char *y, const char *z)
{
	size_t n = strlen(x) + strlen(y) + (z == NULL ? 0 : strlen(z)) + 3;
	char *path = n > RUNNER_PATH ? NULL : arena_alloc(a, n);

	if (path != NULL)
		(void)snprintf(
		    path, n, z == NULL ? "%s/%s" : "%s/%s/%s", x, y, z);
	return path;
}

static int
read_text(struct file_layer *fs, const char *dir, const char *name,
    struct arena *a, struct slice *out)
{
	char *path = dir_path(a, dir, name, NULL);

	return path == NULL
	    ? ERR_NOMEM
	    : file_read_all(fs, path, HOLDER_TEXT_MAX * 2, a, out);
}

/* 0 when there is a valid record; ERR_NOT_FOUND for none or a torn one. */
static int
read_exit(
    struct file_layer *fs, const char *dir, struct arena *a, struct slice *out)
{
	struct record_exit x;
	struct slice text;

	int err = read_text(fs, dir, "exit", a, &text);
	if (err == 0)
		err = record_read_exit(text, &x);
	if (err == 0)
		*out = text;
	return err == ERR_CORRUPT ? ERR_NOT_FOUND : err;
}

/*
 * How much a spool surely has.  Its holder died, and perhaps the machine: then
 * a file system may know of the end of a block and not have the bytes, which
 * read as NULs, also before blocks that it has.  So a block that ends in NULs
 * ends the spool, at the first of them: nobody can tell whether they were
 * written.  What is punched out in front of the data was stored.
 */
static uint64_t
sure_size(const char *dir, const char *name, struct arena *a)
{
	uint8_t block[BLOCK];
	struct stat st;
	char *path = dir_path(a, dir, name, NULL);
	int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	uint64_t size = 0;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0)
		size = (uint64_t)st.st_size;
	off_t at = lseek(fd, 0, SEEK_DATA);
	at = at < 0 ? 0 : at / BLOCK * BLOCK;
	for (; (uint64_t)at < size; at += BLOCK) {
		ssize_t n = pread(fd, block, sizeof(block), at);
		if (n <= 0 || block[n - 1] != 0)
			continue;
		while (n > 0 && block[n - 1] == 0)
			n--;
		size = (uint64_t)(at + n);
	}
	close(fd);
	return size;
}

/* With holes that are shown as gaps nothing else can be told. */
static uint64_t
size_of(const char *dir, const char *name, struct arena *a)
{
	struct stat st;
	char *path = dir_path(a, dir, name, NULL);
	char *gaps = dir_path(a, dir, "gaps", NULL);

	if (path == NULL || gaps == NULL || stat(path, &st) != 0)
		return 0;
	return access(gaps, F_OK) == 0 ? (uint64_t)st.st_size
				       : sure_size(dir, name, a);
}

static int
write_unknown(struct file_layer *fs, const char *dir, struct slice id,
    struct arena *a, struct slice *out)
{
	struct record_claim claim = { 0 };
	struct slice text;
	struct file f;
	struct buf b;

	if (read_text(fs, dir, "claim", a, &text) == 0)
		(void)record_read_claim(text, &claim);
	claim.id = id;
	uint64_t size[2] = { size_of(dir, "out", a), size_of(dir, "err", a) };
	char *path = dir_path(a, dir, "exit", NULL);
	buf_init(&b, HOLDER_TEXT_MAX);
	record_write_unknown(&b, &claim, size);
	int err = path == NULL ? ERR_NOMEM : b.err;
	if (err == 0)
		err = arena_copy(a, buf_peek(&b), out);
	buf_fini(&b);
	if (err == 0)
		err = file_open(fs, path,
		    FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &f);
	if (err != 0)
		return err;
	err = file_write(&f, 0, *out);
	if (err == 0)
		err = file_sync(&f);
	if (err == 0)
		err = file_sync_dir(fs, dir);
	file_close(&f);
	return err;
}

void
dir_kill(const char *cgroup, const char *cmd, const char *id, struct arena *a)
{
	char name[CMDGROUP_NAME];

	if (cmdgroup_name(name, cmd, id) != 0)
		return;
	char *path = dir_path(a, cgroup, name, "cgroup.kill");
	char *dir = dir_path(a, cgroup, name, NULL);
	int fd =
	    path == NULL || dir == NULL ? -1 : open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, "1", 1);
	close(fd);
	/* Busy until the last one is reaped. */
	for (int i = 0; i < RMDIR_TRIES; i++) {
		if (rmdir(dir) == 0 || errno != EBUSY)
			return;
		(void)usleep(RMDIR_EVERY);
	}
}

int
dir_verdict(struct file_layer *fs, const char *cmd, const char *id,
    const char *cgroup, struct arena *a, struct slice *exit)
{
	struct file f;
	char *dir = dir_path(a, cmd, id, NULL);
	char *claim = dir_path(a, cmd, id, "claim");

	if (dir == NULL || claim == NULL)
		return ERR_NOMEM;
	/* Who makes the claim decides: a holder that comes after us finds it
	 * and refuses, so that "unknown" cannot become untrue. */
	int err = file_open(fs, claim, FILE_WRITE | FILE_CREATE, 0600, &f);
	if (err != 0)
		return err;
	err = file_lock(&f);
	if (err == 0) {
		err = read_exit(fs, dir, a, exit);
		if (err == ERR_NOT_FOUND) {
			crash_point("agent.verdict");
			err = write_unknown(fs, dir, slice_from(id), a, exit);
			crash_point("agent.unknown");
		}
		if (cgroup != NULL)
			dir_kill(cgroup, cmd, id, a);
	}
	file_close(&f);
	return err;
}

uint64_t
dir_unsent(
    const char *cmd, const char *id, const uint64_t acked[2], struct arena *a)
{
	static const char *const names[] = { "out", "err" };
	uint64_t sum = 0;

	for (int i = 0; i < 2; i++) {
		struct stat st;
		char *path = dir_path(a, cmd, id, names[i]);
		if (path == NULL || stat(path, &st) != 0 ||
		    (uint64_t)st.st_size <= acked[i])
			continue;
		/* Holes take nothing. */
		uint64_t size = (uint64_t)st.st_size - acked[i];
		uint64_t disk = (uint64_t)st.st_blocks * 512;
		sum += size < disk ? size : disk;
	}
	return sum;
}

/* "out", offset and length in 20 digits each; see holder_gap.c. */
static bool
read_gap(struct slice line, const char *stream, uint64_t *from, uint64_t *to)
{
	struct slice word;

	if (!slice_split(&line, ' ', &word) ||
	    !slice_eq(word, slice_from(stream)) ||
	    !slice_split(&line, ' ', &word) ||
	    slice_u64(word, INT64_MAX, from) != 0 ||
	    slice_u64(line, INT64_MAX - *from, to) != 0)
		return false;
	*to += *from;
	return true;
}

int
dir_gap(struct file_layer *fs, const char *cmd, const char *id,
    const char *stream, uint64_t at, uint64_t *from, uint64_t *to)
{
	struct slice text, line;
	struct arena a;

	arena_init(&a, 2 * RUNNER_PATH + 2 * GAPS_TEXT);
	char *path = dir_path(&a, cmd, id, "gaps");
	int err = path == NULL ? ERR_NOMEM
			       : file_read_all(fs, path, GAPS_TEXT, &a, &text);
	int found = err == 0 ? ERR_NOT_FOUND : err;
	while (err == 0 && found != 0 && slice_split(&text, '\n', &line))
		if (read_gap(line, stream, from, to) && *to > at)
			found = 0;
	arena_fini(&a);
	return found;
}

uint64_t
dir_seq(struct file_layer *fs, const char *cmd, const char *id, struct arena *a)
{
	struct record_claim claim = { 0 };
	struct slice text;
	char *dir = dir_path(a, cmd, id, NULL);

	if (dir != NULL && read_text(fs, dir, "claim", a, &text) == 0 &&
	    record_read_claim(text, &claim) != 0)
		claim.seq = 0;
	return claim.seq;
}

void
dir_sweep(const char *cmd, const char *name, struct arena *a)
{
	static const char *const files[] = { "out", "err", "gaps", "ctl",
		"claim", "exit" };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char *path = dir_path(a, cmd, name, files[i]);
		if (path != NULL)
			(void)unlink(path);
	}
	char *dir = dir_path(a, cmd, name, NULL);
	if (dir != NULL)
		(void)rmdir(dir);
}

int
dir_remove(const char *cmd, const char *id, struct arena *a)
{
	char interim[HOLDER_ID_MAX + 8];

	(void)snprintf(interim, sizeof(interim), ".%s", id);
	char *from = dir_path(a, cmd, id, NULL);
	char *to = dir_path(a, cmd, interim, NULL);
	if (from == NULL || to == NULL)
		return ERR_NOMEM;
	/* Half a directory must never be taken for a command. */
	if (rename(from, to) != 0)
		return errno == ENOENT ? 0 : sys_err(errno);
	crash_point("agent.renamed");
	dir_sweep(cmd, interim, a);
	crash_point("agent.removed");
	return 0;
}
