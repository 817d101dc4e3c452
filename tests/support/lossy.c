#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"

#include "support/lossy.h"

enum { SECTOR = 512, NAME_SIZE = 256 };

/* A file's bytes in one of its two states. */
struct image {
	uint8_t *mem; /* owned */
	size_t len;
	size_t room;
};

struct lossy_node {
	bool is_dir;
	unsigned refs; /* names, safe names and open files */
	int locked_by; /* open file plus one; 0 = nobody */
	struct image now;
	struct image safe;
	bool *dirty; /* owned; per sector of room, written since a sync */
	size_t sectors;
	struct list names; /* of a directory */
};

/* A name in a directory: what it leads to now, and after a crash. */
struct name {
	struct list link;
	struct lossy_node *now; /* counted; NULL = not there */
	struct lossy_node *safe;
	char text[NAME_SIZE];
};

static struct lossy *
of(struct file_layer *fs)
{
	return (struct lossy *)(void *)fs;
}

/* Nodes and names --------------------------------------------------------- */

static struct lossy_node *
node_new(bool is_dir)
{
	struct lossy_node *n = alloc_new(sizeof(*n));

	if (n == NULL)
		return NULL;
	n->is_dir = is_dir;
	list_init(&n->names);
	return n;
}

static struct lossy_node *
hold(struct lossy_node *n)
{
	if (n != NULL)
		n->refs++;
	return n;
}

static void release(struct lossy *l, struct lossy_node *n);

static void
name_free(struct lossy *l, struct name *e)
{
	list_remove(&e->link);
	release(l, e->now);
	release(l, e->safe);
	alloc_free(e);
}

static void
release(struct lossy *l, struct lossy_node *n)
{
	if (n == NULL || --n->refs > 0)
		return;
	while (!list_empty(&n->names))
		name_free(l, LIST_OF(n->names.next, struct name, link));
	l->used -= n->now.len;
	alloc_free(n->now.mem);
	alloc_free(n->safe.mem);
	alloc_free(n->dirty);
	alloc_free(n);
}

static void
set(struct lossy *l, struct lossy_node **place, struct lossy_node *n)
{
	struct lossy_node *old = *place;

	*place = hold(n);
	release(l, old);
}

static struct name *
find_name(struct lossy_node *dir, struct slice text)
{
	for (struct list *i = dir->names.next; i != &dir->names; i = i->next) {
		struct name *e = LIST_OF(i, struct name, link);
		if (slice_eq(slice_from(e->text), text))
			return e;
	}
	return NULL;
}

/* The name in dir, made when it is not there; NULL without memory. */
static struct name *
make_name(struct lossy_node *dir, struct slice text)
{
	struct name *e = find_name(dir, text);

	if (e != NULL)
		return e;
	e = alloc_new(sizeof(*e));
	if (e == NULL)
		return NULL;
	if (slice_cstr(text, e->text, sizeof(e->text)) != 0) {
		alloc_free(e);
		return NULL;
	}
	list_push(&dir->names, &e->link);
	return e;
}

/* The next part of a path that is not "" or "."; false at its end. */
static bool
next_part(struct slice *rest, struct slice *part)
{
	while (slice_split(rest, '/', part)) {
		if (part->len > 0 && !slice_eq(*part, SL(".")))
			return true;
	}
	return false;
}

/*
 * The directory of path's last part; *last is that part, empty for the
 * root itself.
 */
static int
walk(struct lossy *l, const char *path, struct lossy_node **dir,
    struct slice *last)
{
	struct slice rest = slice_from(path), part;
	struct lossy_node *at = l->root;

	*last = SL("");
	while (next_part(&rest, &part)) {
		if (last->len > 0) {
			struct name *e = find_name(at, *last);
			if (e == NULL || e->now == NULL || !e->now->is_dir)
				return ERR_NOT_FOUND;
			at = e->now;
		}
		*last = part;
	}
	*dir = at;
	return 0;
}

static int
find_node(struct lossy *l, const char *path, struct lossy_node **out)
{
	struct lossy_node *dir;
	struct slice last;

	int err = walk(l, path, &dir, &last);
	if (err != 0)
		return err;
	if (last.len == 0) {
		*out = dir;
		return 0;
	}
	struct name *e = find_name(dir, last);
	if (e == NULL || e->now == NULL)
		return ERR_NOT_FOUND;
	*out = e->now;
	return 0;
}

/* Where a name may be made or taken away: never the root's own. */
static int
find_place(struct lossy *l, const char *path, struct name **out)
{
	struct lossy_node *dir;
	struct slice last;

	int err = walk(l, path, &dir, &last);
	if (err != 0)
		return err;
	if (last.len == 0)
		return ERR_EXISTS;
	*out = make_name(dir, last);
	return *out == NULL ? ERR_NOMEM : 0;
}

/* Faults ------------------------------------------------------------------ */

static int
fault(struct lossy *l, enum lossy_op op)
{
	if ((op & LOSSY_CHANGES) != 0)
		l->ops++;
	if (l->fault.left == 0)
		return 0;
	if (l->fault.left == 1 && l->fault.for_ever &&
	    l->fault.ops == LOSSY_ANY)
		return l->fault.err;
	if ((l->fault.ops & op) == 0 || --l->fault.left > 0)
		return 0;
	if (l->fault.for_ever) {
		l->fault.left = 1;
		l->fault.ops = LOSSY_ANY;
	}
	return l->fault.err;
}

/* The open file's node; NULL after a crash. */
static struct lossy_node *
node_of(struct lossy *l, int fd)
{
	assert(fd >= 0 && fd < LOSSY_FILES && l->open[fd].node != NULL);
	return l->open[fd].dead ? NULL : l->open[fd].node;
}

/* Bytes ------------------------------------------------------------------- */

static int
image_resize(struct image *m, size_t len)
{
	if (len > m->room) {
		size_t room = (len * 2 + SECTOR - 1) / SECTOR * SECTOR;
		uint8_t *mem = alloc_resize(m->mem, room);
		if (mem == NULL)
			return ERR_NOMEM;
		memset(mem + m->room, 0, room - m->room);
		m->mem = mem;
		m->room = room;
	}
	if (len < m->len)
		memset(m->mem + len, 0, m->len - len);
	m->len = len;
	return 0;
}

/* Change the length that is seen, within the size of the disk. */
static int
node_resize(struct lossy *l, struct lossy_node *n, size_t len)
{
	size_t old = n->now.len;

	if (len > old && len - old > l->total - l->used)
		return ERR_NO_SPACE;
	int err = image_resize(&n->now, len);
	if (err != 0)
		return err;
	size_t sectors = n->now.room / SECTOR;
	if (sectors > n->sectors) {
		bool *dirty = alloc_resize(n->dirty, sectors);
		if (dirty == NULL)
			return image_resize(&n->now, old), ERR_NOMEM;
		memset(dirty + n->sectors, 0, sectors - n->sectors);
		n->dirty = dirty;
		n->sectors = sectors;
	}
	l->used = l->used - old + len;
	return 0;
}

static void
mark(struct lossy_node *n, size_t from, size_t to)
{
	for (size_t i = from / SECTOR; i * SECTOR < to; i++)
		n->dirty[i] = true;
}

/* Cut or grow; what lies between the two ends is changed either way. */
static int
set_length(struct lossy *l, struct lossy_node *n, size_t len)
{
	size_t old = n->now.len;

	int err = node_resize(l, n, len);
	if (err == 0)
		mark(n, len < old ? len : old, len < old ? old : len);
	return err;
}

/* Move one sector of what is seen to the safe side, within its length. */
static void
keep_sector(struct lossy_node *n, size_t i)
{
	size_t from = i * SECTOR, to = from + SECTOR;

	if (to > n->now.len)
		to = n->now.len;
	if (to > n->safe.len)
		to = n->safe.len;
	if (from < to)
		memcpy(n->safe.mem + from, n->now.mem + from, to - from);
}

static int
sync_file(struct lossy_node *n)
{
	int err = image_resize(&n->safe, n->now.len);

	if (err != 0)
		return err;
	for (size_t i = 0; i < n->sectors; i++) {
		if (n->dirty[i])
			keep_sector(n, i);
		n->dirty[i] = false;
	}
	return 0;
}

static void
sync_names(struct lossy *l, struct lossy_node *dir)
{
	struct list *i, *next;

	for (i = dir->names.next; i != &dir->names; i = next) {
		struct name *e = LIST_OF(i, struct name, link);
		next = i->next;
		set(l, &e->safe, e->now);
		if (e->now == NULL)
			name_free(l, e);
	}
}

/* The calls --------------------------------------------------------------- */

static int
slot_free(const struct lossy *l)
{
	for (int fd = 0; fd < LOSSY_FILES; fd++) {
		if (l->open[fd].node == NULL)
			return fd;
	}
	return ERR_FULL;
}

static int
make_file(struct lossy *l, struct name *e)
{
	int err = fault(l, LOSSY_OPEN);

	if (err != 0)
		return err;
	struct lossy_node *n = node_new(false);
	if (n == NULL)
		return ERR_NOMEM;
	set(l, &e->now, n);
	return 0;
}

static int
empty_file(struct lossy *l, struct lossy_node *n)
{
	int err = fault(l, LOSSY_OPEN);

	return err != 0 ? err : set_length(l, n, 0);
}

/* The node to open, made or emptied as the flags say. */
static int
open_node(
    struct lossy *l, const char *path, unsigned flags, struct lossy_node **out)
{
	struct name *e;

	int err = find_node(l, path, out);
	if (err == ERR_NOT_FOUND && (flags & FILE_CREATE) != 0) {
		err = find_place(l, path, &e);
		if (err == 0)
			err = make_file(l, e);
		if (err == 0)
			*out = e->now;
		return err;
	}
	if (err != 0)
		return err;
	if ((flags & FILE_EXCL) == FILE_EXCL)
		return ERR_EXISTS;
	if ((*out)->is_dir)
		return (flags & FILE_WRITE) != 0 ? ERR_TYPE : 0;
	return (flags & FILE_TRUNCATE) != 0 ? empty_file(l, *out) : 0;
}

static int
lossy_open(struct file_layer *fs, const char *path, unsigned flags,
    unsigned mode, int *fd)
{
	struct lossy *l = of(fs);
	struct lossy_node *n;

	(void)mode;
	int slot = slot_free(l);
	if (slot < 0)
		return slot;
	int err = open_node(l, path, flags, &n);
	if (err != 0)
		return err;
	l->open[slot].node = hold(n);
	l->open[slot].flags = flags;
	l->open[slot].dead = false;
	*fd = slot;
	return 0;
}

static void
lossy_close(struct file_layer *fs, int fd)
{
	struct lossy *l = of(fs);
	struct lossy_node *n = l->open[fd].node;

	if (n->locked_by == fd + 1)
		n->locked_by = 0;
	set(l, &l->open[fd].node, NULL);
}

static int
lossy_read(struct file_layer *fs, int fd, uint64_t at, void *out, size_t n,
    size_t *done)
{
	struct lossy *l = of(fs);
	struct lossy_node *node = node_of(l, fd);

	if (node == NULL)
		return ERR_IO;
	if ((l->open[fd].flags & FILE_READ) == 0 || node->is_dir)
		return ERR_TYPE;
	int err = fault(l, LOSSY_READ);
	if (err != 0)
		return err;
	if (at >= node->now.len)
		n = 0;
	else if (n > node->now.len - at)
		n = (size_t)(node->now.len - at);
	if (n > 0)
		memcpy(out, node->now.mem + at, n);
	*done = n;
	return 0;
}

/* What fits: a write that meets the end of the disk is short first. */
static size_t
room_for(
    const struct lossy *l, const struct lossy_node *n, size_t at, size_t len)
{
	uint64_t most = n->now.len + (l->total - l->used);

	if (at >= most)
		return 0;
	return len > most - at ? (size_t)(most - at) : len;
}

static int
write_at(struct lossy *l, int fd, size_t at, struct slice s, size_t *done)
{
	struct lossy_node *n = node_of(l, fd);

	int err = fault(l, LOSSY_WRITE);
	if (err != 0)
		return err;
	s.len = room_for(l, n, at, s.len);
	if (s.len == 0)
		return ERR_NO_SPACE;
	if (at + s.len > n->now.len) {
		err = node_resize(l, n, at + s.len);
		if (err != 0)
			return err;
	}
	memcpy(n->now.mem + at, s.ptr, s.len);
	mark(n, at, at + s.len);
	*done = s.len;
	return 0;
}

static int
lossy_write(
    struct file_layer *fs, int fd, uint64_t at, struct slice s, size_t *done)
{
	struct lossy *l = of(fs);

	if (node_of(l, fd) == NULL)
		return ERR_IO;
	if ((l->open[fd].flags & FILE_APPEND) != FILE_WRITE)
		return ERR_INVALID;
	return write_at(l, fd, (size_t)at, s, done);
}

static int
lossy_append(struct file_layer *fs, int fd, struct slice s, size_t *done)
{
	struct lossy *l = of(fs);
	struct lossy_node *n = node_of(l, fd);

	if (n == NULL)
		return ERR_IO;
	if ((l->open[fd].flags & FILE_APPEND) != FILE_APPEND)
		return ERR_INVALID;
	return write_at(l, fd, n->now.len, s, done);
}

static int
lossy_sync(struct file_layer *fs, int fd)
{
	struct lossy *l = of(fs);
	struct lossy_node *n = node_of(l, fd);

	if (n == NULL)
		return ERR_IO;
	int err = fault(l, LOSSY_SYNC);
	if (err != 0) {
		/* The kernel calls such pages clean. */
		for (size_t i = 0; i < n->sectors; i++)
			n->dirty[i] = false;
		return err;
	}
	if (n->is_dir) {
		sync_names(l, n);
		l->dir_syncs++;
		return 0;
	}
	l->syncs++;
	return sync_file(n);
}

/* It has no holes. */
static int
lossy_data(
    struct file_layer *fs, int fd, uint64_t at, uint64_t *from, uint64_t *to)
{
	int err = fs->ops->size(fs, fd, to);

	if (err == 0 && at >= *to)
		err = ERR_NOT_FOUND;
	if (err == 0)
		*from = at;
	return err;
}

static int
lossy_size(struct file_layer *fs, int fd, uint64_t *out)
{
	struct lossy_node *n = node_of(of(fs), fd);

	if (n == NULL)
		return ERR_IO;
	*out = n->now.len;
	return 0;
}

static int
lossy_truncate(struct file_layer *fs, int fd, uint64_t size)
{
	struct lossy *l = of(fs);
	struct lossy_node *n = node_of(l, fd);

	if (n == NULL)
		return ERR_IO;
	int err = fault(l, LOSSY_TRUNCATE);
	if (err != 0)
		return err;
	return set_length(l, n, (size_t)size);
}

static int
lossy_lock(struct file_layer *fs, int fd, bool shared)
{
	struct lossy_node *n = node_of(of(fs), fd);

	if (n == NULL)
		return ERR_IO;
	if (n->locked_by != 0 && n->locked_by != fd + 1)
		return ERR_BUSY;
	/* A shared lock is only ever held inside file_probe. */
	if (!shared)
		n->locked_by = fd + 1;
	return 0;
}

static bool
dir_empty(const struct lossy_node *dir)
{
	for (struct list *i = dir->names.next; i != &dir->names; i = i->next) {
		if (LIST_OF(i, struct name, link)->now != NULL)
			return false;
	}
	return true;
}

static int
lossy_rename(struct file_layer *fs, const char *from, const char *to)
{
	struct lossy *l = of(fs);
	struct lossy_node *moved, *old;
	struct name *a, *b;

	int err = find_node(l, from, &moved);
	if (err == 0)
		err = find_place(l, from, &a);
	if (err == 0)
		err = find_place(l, to, &b);
	if (err == 0)
		err = fault(l, LOSSY_NAME);
	if (err != 0 || a == b)
		return err;
	old = b->now;
	if (old != NULL && old->is_dir != moved->is_dir)
		return ERR_TYPE;
	if (old != NULL && old->is_dir && !dir_empty(old))
		return ERR_EXISTS;
	set(l, &b->now, moved);
	set(l, &a->now, NULL);
	return 0;
}

static int
take_away(struct lossy *l, const char *path, bool is_dir)
{
	struct lossy_node *n;
	struct name *e;

	int err = find_node(l, path, &n);
	if (err == 0)
		err = find_place(l, path, &e);
	if (err == 0)
		err = fault(l, LOSSY_NAME);
	if (err != 0)
		return err;
	if (n->is_dir != is_dir)
		return ERR_TYPE;
	if (is_dir && !dir_empty(n))
		return ERR_EXISTS;
	set(l, &e->now, NULL);
	return 0;
}

static int
lossy_unlink(struct file_layer *fs, const char *path)
{
	return take_away(of(fs), path, false);
}

static int
lossy_rmdir(struct file_layer *fs, const char *path)
{
	return take_away(of(fs), path, true);
}

static int
lossy_mkdir(struct file_layer *fs, const char *path, unsigned mode)
{
	struct lossy *l = of(fs);
	struct name *e;

	(void)mode;
	int err = find_place(l, path, &e);
	if (err == 0 && e->now != NULL)
		err = ERR_EXISTS;
	if (err == 0)
		err = fault(l, LOSSY_NAME);
	if (err != 0)
		return err;
	struct lossy_node *n = node_new(true);
	if (n == NULL)
		return ERR_NOMEM;
	set(l, &e->now, n);
	return 0;
}

static int
lossy_list(
    struct file_layer *fs, const char *dir, file_visit_fn visit, void *arg)
{
	struct lossy_node *n;

	int err = find_node(of(fs), dir, &n);
	if (err != 0)
		return err;
	if (!n->is_dir)
		return ERR_NOT_FOUND;
	for (struct list *i = n->names.next; err == 0 && i != &n->names;
	     i = i->next) {
		struct name *e = LIST_OF(i, struct name, link);
		if (e->now != NULL)
			err = visit(arg, e->text, e->now->is_dir);
	}
	return err;
}

static int
lossy_space(struct file_layer *fs, const char *path, struct file_space *out)
{
	struct lossy *l = of(fs);
	struct lossy_node *n;

	int err = find_node(l, path, &n);
	if (err == 0)
		*out = (struct file_space){ l->total - l->used, l->total };
	return err;
}

static const struct file_ops lossy_ops = {
	.open = lossy_open,
	.close = lossy_close,
	.read = lossy_read,
	.write = lossy_write,
	.append = lossy_append,
	.sync = lossy_sync,
	.size = lossy_size,
	.data = lossy_data,
	.truncate = lossy_truncate,
	.lock = lossy_lock,
	.rename = lossy_rename,
	.unlink = lossy_unlink,
	.rmdir = lossy_rmdir,
	.mkdir = lossy_mkdir,
	.list = lossy_list,
	.space = lossy_space,
};

/* Life and death ---------------------------------------------------------- */

void
lossy_init(struct lossy *l)
{
	*l = (struct lossy){ .layer = { &lossy_ops }, .total = 1u << 30 };
	l->root = hold(node_new(true));
	assert(l->root != NULL);
}

void
lossy_fini(struct lossy *l)
{
	for (int fd = 0; fd < LOSSY_FILES; fd++)
		assert(l->open[fd].node == NULL);
	set(l, &l->root, NULL);
}

void
lossy_fail(
    struct lossy *l, unsigned ops, unsigned long n, int err, bool for_ever)
{
	l->fault.ops = ops;
	l->fault.left = n;
	l->fault.err = err;
	l->fault.for_ever = for_ever;
}

static bool
coin(uint32_t *seed)
{
	if (*seed == 0)
		return false;
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return (*seed & 0x10000) != 0;
}

/* A file after the crash: its safe bytes, and by chance some others. */
static void
crash_file(struct lossy *l, struct lossy_node *n, uint32_t *seed)
{
	int err = 0;

	if (n->now.len != n->safe.len && coin(seed))
		err = image_resize(&n->safe, n->now.len);
	for (size_t i = 0; i < n->sectors; i++) {
		if (n->dirty[i] && coin(seed))
			keep_sector(n, i);
		n->dirty[i] = false;
	}
	l->used = l->used - n->now.len + n->safe.len;
	if (err == 0)
		err = image_resize(&n->now, n->safe.len);
	assert(err == 0);
	if (n->safe.len > 0)
		memcpy(n->now.mem, n->safe.mem, n->safe.len);
	n->locked_by = 0;
}

static void
crash_node(struct lossy *l, struct lossy_node *n, uint32_t *seed)
{
	struct list *i, *next;

	if (!n->is_dir) {
		crash_file(l, n, seed);
		return;
	}
	if (coin(seed))
		sync_names(l, n);
	for (i = n->names.next; i != &n->names; i = next) {
		struct name *e = LIST_OF(i, struct name, link);
		next = i->next;
		set(l, &e->now, e->safe);
		if (e->now == NULL)
			name_free(l, e);
		else
			crash_node(l, e->now, seed);
	}
}

void
lossy_crash(struct lossy *l, uint32_t seed)
{
	for (int fd = 0; fd < LOSSY_FILES; fd++)
		l->open[fd].dead = true;
	lossy_fail(l, 0, 0, 0, false);
	crash_node(l, l->root, &seed);
}

struct slice
lossy_safe(struct lossy *l, const char *path)
{
	struct slice rest = slice_from(path), part;
	struct lossy_node *n = l->root;

	while (next_part(&rest, &part)) {
		struct name *e = n->is_dir ? find_name(n, part) : NULL;
		if (e == NULL || e->safe == NULL)
			return (struct slice){ 0 };
		n = e->safe;
	}
	if (n->safe.len == 0)
		return SL("");
	return (struct slice){ n->safe.mem, n->safe.len };
}
