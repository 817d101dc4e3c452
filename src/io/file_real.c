#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "io/sys.h"

#include "io/file_ops.h"

/* What a call that returns -1 on failure said. */
static int
result(int r)
{
	return r < 0 ? sys_err(errno) : 0;
}

static bool
has(unsigned flags, unsigned want)
{
	return (flags & want) == want;
}

static int
os_flags(unsigned flags)
{
	static const struct {
		unsigned flag;
		int os;
	} table[] = {
		{ FILE_APPEND, O_APPEND },
		{ FILE_CREATE, O_CREAT },
		{ FILE_EXCL, O_EXCL },
		{ FILE_TRUNCATE, O_TRUNC },
		{ FILE_NOFOLLOW, O_NOFOLLOW },
	};
	bool reads = has(flags, FILE_READ), writes = has(flags, FILE_WRITE);
	int os = reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (has(flags, table[i].flag))
			os |= table[i].os;
	}
	return os;
}

static int
real_open(struct file_layer *fs, const char *path, unsigned flags,
    unsigned mode, int *out)
{
	struct stat st;

	(void)fs;
	/* A fifo put in a file's place must not hang us (O_NONBLOCK). */
	int fd = open(
	    path, os_flags(flags) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode);
	if (fd < 0)
		return sys_err(errno);
	if (fstat(fd, &st) < 0 ||
	    (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
		close(fd);
		return ERR_TYPE;
	}
	*out = fd;
	return 0;
}

static void
real_close(struct file_layer *fs, int fd)
{
	(void)fs;
	close(fd);
}

/* Hand a read or write's result over; *again when it was interrupted. */
static int
transferred(ssize_t n, size_t *done, bool *again)
{
	*again = n < 0 && errno == EINTR;
	if (n < 0)
		return sys_err(errno);
	*done = (size_t)n;
	return 0;
}

static int
real_read(struct file_layer *fs, int fd, uint64_t at, void *out, size_t n,
    size_t *done)
{
	bool again;
	int err;

	(void)fs;
	do
		err = transferred(pread(fd, out, n, (off_t)at), done, &again);
	while (again);
	return err;
}

static int
real_cached(struct file_layer *fs, int fd, uint64_t at, void *out, size_t n,
    size_t *done)
{
	struct iovec v = { out, n };
	bool again;
	int err;

	(void)fs;
	do
		err = transferred(
		    preadv2(fd, &v, 1, (off_t)at, RWF_NOWAIT), done, &again);
	while (again);
	return err;
}

static int
real_write(
    struct file_layer *fs, int fd, uint64_t at, struct slice s, size_t *done)
{
	bool again;
	int err;

	(void)fs;
	do
		err = transferred(
		    pwrite(fd, s.ptr, s.len, (off_t)at), done, &again);
	while (again);
	return err;
}

static int
real_append(struct file_layer *fs, int fd, struct slice s, size_t *done)
{
	bool again;
	int err;

	(void)fs;
	do
		err = transferred(write(fd, s.ptr, s.len), done, &again);
	while (again);
	return err;
}

/* fdatasync keeps what reading needs, the length included. */
static int
real_sync(struct file_layer *fs, int fd)
{
	int r;

	(void)fs;
	do
		r = fdatasync(fd);
	while (r < 0 && errno == EINTR);
	return result(r);
}

static int
real_data(
    struct file_layer *fs, int fd, uint64_t at, uint64_t *from, uint64_t *to)
{
	(void)fs;
	if (at > INT64_MAX)
		return ERR_NOT_FOUND;
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);
	off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return errno == ENXIO ? ERR_NOT_FOUND : sys_err(errno);
	*from = (uint64_t)data;
	*to = (uint64_t)hole;
	return 0;
}

static int
real_size(struct file_layer *fs, int fd, uint64_t *out)
{
	struct stat st;

	(void)fs;
	if (fstat(fd, &st) < 0)
		return sys_err(errno);
	*out = (uint64_t)st.st_size;
	return 0;
}

static int
real_truncate(struct file_layer *fs, int fd, uint64_t size)
{
	int r;

	(void)fs;
	do
		r = ftruncate(fd, (off_t)size);
	while (r < 0 && errno == EINTR);
	return result(r);
}

static int
real_lock(struct file_layer *fs, int fd, bool shared)
{
	int r;

	(void)fs;
	do
		r = flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
	while (r < 0 && errno == EINTR);
	return r < 0 && errno == EWOULDBLOCK ? ERR_BUSY : result(r);
}

static int
real_rename(struct file_layer *fs, const char *from, const char *to)
{
	(void)fs;
	return result(rename(from, to));
}

static int
real_unlink(struct file_layer *fs, const char *path)
{
	(void)fs;
	return result(unlink(path));
}

static int
real_rmdir(struct file_layer *fs, const char *path)
{
	(void)fs;
	return result(rmdir(path));
}

static int
real_mkdir(struct file_layer *fs, const char *path, unsigned mode)
{
	(void)fs;
	return result(mkdir(path, mode));
}

static bool
entry_is_dir(DIR *d, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISDIR(st.st_mode);
}

static int
visit_all(DIR *d, file_visit_fn visit, void *arg)
{
	struct dirent *e;
	int err = 0;

	while (err == 0) {
		errno = 0;
		e = readdir(d);
		if (e == NULL)
			return errno == 0 ? 0 : sys_err(errno);
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			err = visit(arg, e->d_name, entry_is_dir(d, e));
	}
	return err;
}

static int
real_list(
    struct file_layer *fs, const char *dir, file_visit_fn visit, void *arg)
{
	(void)fs;
	DIR *d = opendir(dir);
	if (d == NULL)
		return sys_err(errno);
	int err = visit_all(d, visit, arg);
	closedir(d);
	return err;
}

static int
real_space(struct file_layer *fs, const char *path, struct file_space *out)
{
	struct statvfs v;

	(void)fs;
	if (statvfs(path, &v) < 0)
		return sys_err(errno);
	out->free = (uint64_t)v.f_bavail * v.f_frsize;
	out->total = (uint64_t)v.f_blocks * v.f_frsize;
	return 0;
}

static const struct file_ops real_ops = {
	.open = real_open,
	.close = real_close,
	.read = real_read,
	.cached = real_cached,
	.write = real_write,
	.append = real_append,
	.sync = real_sync,
	.size = real_size,
	.data = real_data,
	.truncate = real_truncate,
	.lock = real_lock,
	.rename = real_rename,
	.unlink = real_unlink,
	.rmdir = real_rmdir,
	.mkdir = real_mkdir,
	.list = real_list,
	.space = real_space,
};

struct file_layer file_real = { &real_ops };
