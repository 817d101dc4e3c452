/*
 * file_ops: what a file layer is made of (floor: io).
 *
 * One entry per system call, for io/file.c and the double in tests only.
 * Each returns 0 or a negative ERR_*; a count comes back in *done and may
 * be short.  EINTR never shows.
 */
#ifndef IO_FILE_OPS_H
#define IO_FILE_OPS_H

#include "io/file.h"

/* A non-zero return ends the listing and is handed on. */
typedef int (*file_visit_fn)(void *arg, const char *name, bool is_dir);

struct file_ops {
	int (*open)(struct file_layer *fs, const char *path, unsigned flags,
	    unsigned mode, int *fd);
	void (*close)(struct file_layer *fs, int fd);
	int (*read)(struct file_layer *fs, int fd, uint64_t at, void *out,
	    size_t n, size_t *done);
	/* As read, of what is in memory: else ERR_AGAIN.  NULL, and
	 * ERR_UNSUPPORTED: nobody can tell. */
	int (*cached)(struct file_layer *fs, int fd, uint64_t at, void *out,
	    size_t n, size_t *done);
	int (*write)(struct file_layer *fs, int fd, uint64_t at, struct slice s,
	    size_t *done);
	int (*append)(
	    struct file_layer *fs, int fd, struct slice s, size_t *done);
	int (*sync)(struct file_layer *fs, int fd); /* directories too */
	int (*size)(struct file_layer *fs, int fd, uint64_t *out);
	int (*data)(struct file_layer *fs, int fd, uint64_t at, uint64_t *from,
	    uint64_t *to);
	int (*truncate)(struct file_layer *fs, int fd, uint64_t size);
	int (*lock)(struct file_layer *fs, int fd, bool shared);
	int (*rename)(struct file_layer *fs, const char *from, const char *to);
	int (*unlink)(struct file_layer *fs, const char *path);
	int (*rmdir)(struct file_layer *fs, const char *path);
	int (*mkdir)(struct file_layer *fs, const char *path, unsigned mode);
	int (*list)(struct file_layer *fs, const char *dir, file_visit_fn visit,
	    void *arg);
	int (*space)(
	    struct file_layer *fs, const char *path, struct file_space *out);
};

#endif
