/*
 * file: the one small layer under segments, journal and spool (floor: io).
 *
 * Everything that promises to survive a crash writes through a struct
 * file_layer: the real one (file_real), or in tests a double that forgets
 * what was not synced (spec/decisions.md 13).  What the double enforces is
 * the contract:
 *
 * - Bytes are durable after file_sync, and a new file's or directory's name
 *   only after file_sync_dir of the directory that holds it.  file_rename
 *   and file_unlink do that by themselves.
 * - When file_sync fails, what was written since the last one may be gone,
 *   although it can still be read; a later success says nothing about it.
 *   Write it again elsewhere or give the file up.
 *
 * Failures are ERR_*: ERR_NO_SPACE (disk or quota full; a write may have
 * left a part), ERR_IO, ERR_NOT_FOUND, ERR_EXISTS, ERR_DENIED, ERR_BUSY
 * (locked by another), ERR_FULL (out of descriptors)...  Paths are
 * NUL-terminated.  Calls block; nothing here may run on a lane's loop but
 * at start.  A layer and its files belong to one thread at a time.
 */
#ifndef IO_FILE_H
#define IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/slice.h"

struct file_layer {
	const struct file_ops *ops; /* see io/file_ops.h */
};

/* The kernel's files.  Has no state: any thread, at any time. */
extern struct file_layer file_real;

enum {
	FILE_READ = 1,
	FILE_WRITE = 2,
	FILE_APPEND = 4 | FILE_WRITE, /* for file_append */
	FILE_CREATE = 8,              /* make it when it is not there */
	FILE_EXCL = 16 | FILE_CREATE, /* ERR_EXISTS when it is there */
	FILE_TRUNCATE = 32,
	FILE_NOFOLLOW = 64, /* ERR_DENIED when the last part is a link */
};

/* An open file; embed it.  Closed is { 0 }. */
struct file {
	struct file_layer *layer; /* borrowed; NULL = closed */
	int fd;                   /* the layer's own number */
};

/*
 * mode: permission bits of a file that is made, less the umask.  Only
 * regular files and, for FILE_READ alone, directories; nothing is inherited
 * by programs that are started.
 */
int file_open(struct file_layer *fs, const char *path, unsigned flags,
    unsigned mode, struct file *out);

/* Closed again is nothing.  Syncs nothing, drops the lock. */
void file_close(struct file *f);

/* Read until n bytes or the end of the file; *got says how many came. */
int file_read(struct file *f, uint64_t at, void *out, size_t n, size_t *got);

/*
 * What of that is in memory, for threads that must not wait for a disk.
 * ERR_AGAIN: nothing is; a file_read elsewhere brings it.  Where the system
 * cannot tell it is file_read.
 */
int file_read_cached(
    struct file *f, uint64_t at, void *out, size_t n, size_t *got);

/* All of s at the given offset. */
int file_write(struct file *f, uint64_t at, struct slice s);

/* All of s at the end; the file was opened with FILE_APPEND. */
int file_append(struct file *f, struct slice s);

/* Bytes and length are durable.  See above for failure. */
int file_sync(struct file *f);

int file_size(struct file *f, uint64_t *out);

/*
 * The first bytes at or behind an offset that were ever written and are not
 * punched out: [*from, *to).  ERR_NOT_FOUND when there are none.  A file
 * system that does not know holes says that all is there.
 */
int file_data(struct file *f, uint64_t at, uint64_t *from, uint64_t *to);

int file_truncate(struct file *f, uint64_t size);

/*
 * Lock for this struct file alone (flock), until file_close or the death of
 * the process, children that inherited it included.  0 or ERR_BUSY.
 */
int file_lock(struct file *f);

/*
 * Whether somebody holds path's lock; ERR_NOT_FOUND when there is no such
 * file.  Holds a shared lock for an instant: who takes the lock itself must
 * either wait for it or hold it before others know the path.
 */
int file_probe(struct file_layer *fs, const char *path, bool *held);

/* Takes the place of to, durably when it returns 0. */
int file_rename(struct file_layer *fs, const char *from, const char *to);

/* Durably gone when it returns 0; a directory must be empty. */
int file_unlink(struct file_layer *fs, const char *path);
int file_rmdir(struct file_layer *fs, const char *path);

/* The name is durable after file_sync_dir of the parent. */
int file_mkdir(struct file_layer *fs, const char *path, unsigned mode);

/* The names in dir as they are now survive. */
int file_sync_dir(struct file_layer *fs, const char *dir);

/* The same for the directory that holds path. */
int file_sync_parent(struct file_layer *fs, const char *path);

struct file_name {
	const char *name; /* in the arena */
	bool is_dir;
};

struct file_names {
	struct file_name *at; /* in the arena, sorted by bytes */
	size_t count;
};

/* What dir holds, without "." and "..".  ERR_TOO_BIG above cap names. */
int file_list(struct file_layer *fs, const char *dir, size_t cap,
    struct arena *a, struct file_names *out);

struct file_space {
	uint64_t free; /* bytes that this user may still write */
	uint64_t total;
};

int file_space(struct file_layer *fs, const char *path, struct file_space *out);

/*
 * The whole file into the arena.  ERR_TOO_BIG when it is longer than cap;
 * an empty file is an empty, present slice.
 */
int file_read_all(struct file_layer *fs, const char *path, size_t cap,
    struct arena *a, struct slice *out);

/*
 * path holds s, durably, or what it held before: written beside it to
 * "path.tmp", synced, renamed.  One writer per path.
 */
int file_write_atomic(
    struct file_layer *fs, const char *path, struct slice s, unsigned mode);

#endif
