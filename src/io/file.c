#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/file.h"
#include "io/file_ops.h"

enum { READ_GUESS = 4096 };

int
file_open(struct file_layer *fs, const char *path, unsigned flags,
    unsigned mode, struct file *out)
{
	int fd;

	int err = fs->ops->open(fs, path, flags, mode, &fd);
	if (err == 0)
		*out = (struct file){ fs, fd };
	return err;
}

void
file_close(struct file *f)
{
	if (f->layer != NULL)
		f->layer->ops->close(f->layer, f->fd);
	*f = (struct file){ 0 };
}

int
file_read(struct file *f, uint64_t at, void *out, size_t n, size_t *got)
{
	uint8_t *p = out;
	size_t have = 0, done = 1;

	while (have < n && done > 0) {
		int err = f->layer->ops->read(
		    f->layer, f->fd, at + have, p + have, n - have, &done);
		if (err != 0)
			return err;
		have += done;
	}
	*got = have;
	return 0;
}

int
file_read_cached(struct file *f, uint64_t at, void *out, size_t n, size_t *got)
{
	const struct file_ops *ops = f->layer->ops;
	int err = ops->cached == NULL
	    ? ERR_UNSUPPORTED
	    : ops->cached(f->layer, f->fd, at, out, n, got);

	return err == ERR_UNSUPPORTED ? file_read(f, at, out, n, got) : err;
}

int
file_write(struct file *f, uint64_t at, struct slice s)
{
	size_t done;

	while (s.len > 0) {
		int err = f->layer->ops->write(f->layer, f->fd, at, s, &done);
		if (err != 0)
			return err;
		at += done;
		s = slice_from_at(s, done);
	}
	return 0;
}

int
file_append(struct file *f, struct slice s)
{
	size_t done;

	while (s.len > 0) {
		int err = f->layer->ops->append(f->layer, f->fd, s, &done);
		if (err != 0)
			return err;
		s = slice_from_at(s, done);
	}
	return 0;
}

int
file_sync(struct file *f)
{
	return f->layer->ops->sync(f->layer, f->fd);
}

int
file_data(struct file *f, uint64_t at, uint64_t *from, uint64_t *to)
{
	return f->layer->ops->data(f->layer, f->fd, at, from, to);
}

int
file_size(struct file *f, uint64_t *out)
{
	return f->layer->ops->size(f->layer, f->fd, out);
}

int
file_truncate(struct file *f, uint64_t size)
{
	return f->layer->ops->truncate(f->layer, f->fd, size);
}

int
file_lock(struct file *f)
{
	return f->layer->ops->lock(f->layer, f->fd, false);
}

int
file_probe(struct file_layer *fs, const char *path, bool *held)
{
	struct file f;

	int err = file_open(fs, path, FILE_READ, 0, &f);
	if (err != 0)
		return err;
	err = fs->ops->lock(fs, f.fd, true);
	file_close(&f);
	if (err != 0 && err != ERR_BUSY)
		return err;
	*held = err == ERR_BUSY;
	return 0;
}

/* The directory that holds path: "." for a bare name, "/" at the root. */
static int
parent_of(const char *path, char out[PATH_MAX])
{
	size_t len = strlen(path);

	if (len >= PATH_MAX)
		return ERR_TOO_BIG;
	while (len > 1 && path[len - 1] == '/')
		len--;
	while (len > 0 && path[len - 1] != '/')
		len--;
	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len == 0)
		path = ".", len = 1;
	memcpy(out, path, len);
	out[len] = '\0';
	return 0;
}

int
file_sync_dir(struct file_layer *fs, const char *dir)
{
	struct file f;

	int err = file_open(fs, dir, FILE_READ, 0, &f);
	if (err != 0)
		return err;
	err = file_sync(&f);
	file_close(&f);
	return err;
}

int
file_sync_parent(struct file_layer *fs, const char *path)
{
	char dir[PATH_MAX];

	int err = parent_of(path, dir);
	return err != 0 ? err : file_sync_dir(fs, dir);
}

int
file_rename(struct file_layer *fs, const char *from, const char *to)
{
	char old_dir[PATH_MAX], new_dir[PATH_MAX];

	int err = parent_of(from, old_dir);
	if (err == 0)
		err = parent_of(to, new_dir);
	if (err == 0)
		err = fs->ops->rename(fs, from, to);
	/* The new name first: a crash in between may leave both. */
	if (err == 0)
		err = file_sync_dir(fs, new_dir);
	if (err == 0 && strcmp(old_dir, new_dir) != 0)
		err = file_sync_dir(fs, old_dir);
	return err;
}

int
file_unlink(struct file_layer *fs, const char *path)
{
	int err = fs->ops->unlink(fs, path);

	return err != 0 ? err : file_sync_parent(fs, path);
}

int
file_rmdir(struct file_layer *fs, const char *path)
{
	int err = fs->ops->rmdir(fs, path);

	return err != 0 ? err : file_sync_parent(fs, path);
}

int
file_mkdir(struct file_layer *fs, const char *path, unsigned mode)
{
	return fs->ops->mkdir(fs, path, mode);
}

/* Listing ----------------------------------------------------------------- */

struct gather {
	struct arena *arena;  /* borrowed; the names go there */
	struct file_name *at; /* owned, growing */
	size_t count;
	size_t room;
	size_t cap;
};

static int
gather_room(struct gather *g)
{
	if (g->count == g->cap)
		return ERR_TOO_BIG;
	if (g->count < g->room)
		return 0;
	size_t room = g->room == 0 ? 16 : g->room * 2;
	struct file_name *at = alloc_resize(g->at, room * sizeof(*at));
	if (at == NULL)
		return ERR_NOMEM;
	g->at = at;
	g->room = room;
	return 0;
}

static int
gather_one(void *arg, const char *name, bool is_dir)
{
	struct gather *g = arg;

	int err = gather_room(g);
	if (err != 0)
		return err;
	char *copy = arena_cstr(g->arena, slice_from(name));
	if (copy == NULL)
		return ERR_NOMEM;
	g->at[g->count++] = (struct file_name){ copy, is_dir };
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct file_name *)a)->name,
	    ((const struct file_name *)b)->name);
}

static int
gather_end(const struct gather *g, struct file_names *out)
{
	struct file_name *at = NULL;

	if (g->count > 0) {
		qsort(g->at, g->count, sizeof(*g->at), by_name);
		at = arena_array(g->arena, g->count, sizeof(*at));
		if (at == NULL)
			return ERR_NOMEM;
		memcpy(at, g->at, g->count * sizeof(*at));
	}
	*out = (struct file_names){ at, g->count };
	return 0;
}

int
file_list(struct file_layer *fs, const char *dir, size_t cap, struct arena *a,
    struct file_names *out)
{
	struct gather g = { .arena = a, .cap = cap };

	int err = fs->ops->list(fs, dir, gather_one, &g);
	if (err == 0)
		err = gather_end(&g, out);
	alloc_free(g.at);
	return err;
}

int
file_space(struct file_layer *fs, const char *path, struct file_space *out)
{
	return fs->ops->space(fs, path, out);
}

/* Whole files ------------------------------------------------------------- */

/*
 * The size is a hint: files of /proc have none, and others may grow while
 * they are read.  A read that does not fill its room saw the end.
 */
static int
read_all(struct file *f, size_t cap, struct arena *a, struct slice *out)
{
	uint64_t size;
	size_t got;

	int err = file_size(f, &size);
	if (err != 0)
		return err;
	if (size > cap || cap == SIZE_MAX)
		return ERR_TOO_BIG;
	size_t room = size > 0 ? (size_t)size + 1 : READ_GUESS;
	for (;;) {
		if (room > cap + 1)
			room = cap + 1;
		uint8_t *p = arena_alloc(a, room);
		if (p == NULL)
			return ERR_NOMEM;
		err = file_read(f, 0, p, room, &got);
		if (err != 0)
			return err;
		if (got < room) {
			*out = (struct slice){ p, got };
			return 0;
		}
		if (room > cap)
			return ERR_TOO_BIG;
		room *= 2;
	}
}

int
file_read_all(struct file_layer *fs, const char *path, size_t cap,
    struct arena *a, struct slice *out)
{
	struct file f;

	int err = file_open(fs, path, FILE_READ, 0, &f);
	if (err != 0)
		return err;
	err = read_all(&f, cap, a, out);
	file_close(&f);
	return err;
}

/* s as the whole of a new file at path, its bytes synced. */
static int
write_new(
    struct file_layer *fs, const char *path, struct slice s, unsigned mode)
{
	struct file f;

	int err = fs->ops->unlink(fs, path);
	if (err != 0 && err != ERR_NOT_FOUND)
		return err;
	err = file_open(fs, path, FILE_WRITE | FILE_EXCL, mode, &f);
	if (err != 0)
		return err;
	err = file_write(&f, 0, s);
	if (err == 0)
		err = file_sync(&f);
	file_close(&f);
	return err;
}

int
file_write_atomic(
    struct file_layer *fs, const char *path, struct slice s, unsigned mode)
{
	char temp[PATH_MAX];

	int n = snprintf(temp, sizeof(temp), "%s.tmp", path);
	if (n < 0 || (size_t)n >= sizeof(temp))
		return ERR_TOO_BIG;
	int err = write_new(fs, temp, s, mode);
	if (err == 0)
		err = file_rename(fs, temp, path);
	if (err != 0)
		fs->ops->unlink(fs, temp);
	return err;
}
