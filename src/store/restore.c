/*
 * Putting a backup in place of nothing.
 *
 * Everything is unpacked into DIR/restore.tmp, checked and opened there; then
 * output and at last the database are moved into place.  Until that last
 * move there is no database, so a restore that was cut can be run again; the
 * leftover restore.tmp is what tells it that DIR/output is its own.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/clock.h"

#include "store/audit.h"
#include "store/core.h"
#include "store/pack.h"

enum { CHUNK = 256 * 1024, LIST_ROOM = 64 << 20, NAMES = 1 << 20, DEPTH = 6 };

struct restore {
	struct file_layer *files; /* borrowed */
	const struct store_config *config;
	struct file lock;
	struct file in;
	struct file out; /* the file being unpacked */
	uint64_t at;     /* written to it */
	struct unpack unpack;
	uint8_t *chunk; /* owned */
	char tmp[STORE_PATH + 16];
	char path[STORE_PATH + 256];
};

static const char *
in_dir(struct restore *r, const char *name)
{
	snprintf(r->path, sizeof(r->path), "%s/%s", r->config->dir, name);
	return r->path;
}

static const char *
in_tmp(struct restore *r, const char *name)
{
	snprintf(r->path, sizeof(r->path), "%s/%s", r->tmp, name);
	return r->path;
}

static int
there(struct restore *r, const char *path, bool *out)
{
	struct file f = { 0 };
	int err = file_open(r->files, path, FILE_READ, 0, &f);

	*out = err == 0;
	file_close(&f);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Remove path and all in it; nothing there is fine. */
static int
remove_tree(struct restore *r, const char *path, int depth)
{
	struct file_names names;
	struct arena a;

	if (depth == 0)
		return ERR_DEPTH;
	arena_init(&a, LIST_ROOM);
	int err = file_list(r->files, path, NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		size_t n = strlen(path) + strlen(names.at[i].name) + 2;
		char *inner = arena_alloc(&a, n);
		if (inner == NULL) {
			err = ERR_NOMEM;
			break;
		}
		snprintf(inner, n, "%s/%s", path, names.at[i].name);
		err = names.at[i].is_dir ? remove_tree(r, inner, depth - 1)
					 : file_unlink(r->files, inner);
	}
	arena_fini(&a);
	if (err == 0)
		err = file_rmdir(r->files, path);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Is there nothing that a restore would touch? */
static int
check_place(struct restore *r, char *why, size_t size)
{
	bool database = false, output = false, leftover = false;
	int err = there(r, in_dir(r, "muster.db"), &database);

	if (err == 0)
		err = there(r, in_dir(r, "output"), &output);
	if (err == 0)
		err = there(r, r->tmp, &leftover);
	if (err == 0 && (database || (output && !leftover))) {
		why_say(why, size,
		    "%s holds a database already: move it away, or name "
		    "another data directory",
		    r->config->dir);
		return ERR_EXISTS;
	}
	if (err == 0 && leftover && output)
		err = remove_tree(r, in_dir(r, "output"), DEPTH);
	return err != 0 ? err : remove_tree(r, r->tmp, DEPTH);
}

static int
lock_place(struct restore *r, char *why, size_t size)
{
	int err = file_mkdir(r->files, r->config->dir, 0700);

	if (err == 0)
		err = file_sync_parent(r->files, r->config->dir);
	if (err == 0 || err == ERR_EXISTS)
		err = file_open(r->files, in_dir(r, "lock"),
		    FILE_READ | FILE_WRITE | FILE_CREATE | FILE_NOFOLLOW, 0600,
		    &r->lock);
	if (err == 0)
		err = file_lock(&r->lock);
	if (err == ERR_BUSY)
		why_say(why, size, "a musterd is running on %s: stop it first",
		    r->config->dir);
	return err;
}

/* Unpacking --------------------------------------------------------------- */

/* Make the folders above r->path, from tmp on. */
static int
make_dirs(struct restore *r)
{
	int err = 0;

	for (char *p = r->path + strlen(r->tmp) + 1;
	     err == 0 && (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		err = file_mkdir(r->files, r->path, 0700);
		if (err == 0)
			err = file_sync_parent(r->files, r->path);
		else if (err == ERR_EXISTS)
			err = 0;
		*p = '/';
	}
	return err;
}

static int
on_event(struct restore *r, const struct unpack_event *ev)
{
	int err;

	switch (ev->kind) {
	case UNPACK_FILE:
		snprintf(r->path, sizeof(r->path), "%s/%.*s", r->tmp,
		    SLICE_FMT(ev->name));
		r->at = 0;
		err = make_dirs(r);
		return err != 0 ? err
				: file_open(r->files, r->path,
				      FILE_WRITE | FILE_EXCL | FILE_NOFOLLOW,
				      0600, &r->out);
	case UNPACK_BYTES:
		err = file_write(&r->out, r->at, ev->bytes);
		r->at += ev->bytes.len;
		return err;
	case UNPACK_DONE:
		err = file_sync(&r->out);
		file_close(&r->out);
		return err != 0 ? err : file_sync_parent(r->files, r->path);
	case UNPACK_END:
		break;
	}
	return 0;
}

static int
unpack_file(struct restore *r)
{
	uint64_t at = 0;
	size_t got = 1;
	int err = 0;

	while (err == 0 && got > 0) {
		err = file_read(&r->in, at, r->chunk, CHUNK, &got);
		at += got;
		struct slice input = { r->chunk, got };
		struct unpack_event ev;
		while (err == 0 &&
		    (err = unpack_next(&r->unpack, &input, &ev)) == 1)
			err = on_event(r, &ev);
	}
	return err == 0 && !unpack_done(&r->unpack) ? ERR_CORRUPT : err;
}

/* A new life -----------------------------------------------------------------
 */

static int
renew(struct store *s)
{
	char was[sizeof(s->incarnation)], detail[160];
	struct audit_note note = { .actor = SL("system"),
		.action = SL("store.restore"),
		.result = SL("ok") };

	memcpy(was, s->incarnation, sizeof(was));
	int err = store_begin(s);
	if (err == 0)
		err = store_renew(s);
	/* What was queued may have been sent since the backup, as any number
	 * from here on (hub_state.h, floor). */
	if (err == 0)
		err = db_run(&s->db,
		    "UPDATE commands SET sequence = 1 + (SELECT sequence FROM "
		    "agents WHERE id = commands.agent_id) WHERE state = 0");
	snprintf(detail, sizeof(detail), "{\"from\":\"%s\",\"to\":\"%s\"}", was,
	    s->incarnation);
	note.object = slice_from(s->incarnation);
	note.detail_json = slice_from(detail);
	if (err == 0)
		err = audit_append(s, clock_wall(), 1, &note);
	if (err == 0)
		err = store_commit(s);
	if (err != 0)
		store_rollback(s);
	return err;
}

/* Open what was unpacked as a store: migrated, checked, renewed, closed. */
static int
revive(struct restore *r, char *why, size_t size)
{
	struct store_config config = *r->config;
	struct store *s = NULL;
	bool log = false;

	config.dir = r->tmp;
	int err = store_open(&s, &config, why, size);
	if (err != 0)
		return err;
	err = renew(s);
	if (err != 0) {
		store_abandon(s);
		return err;
	}
	store_close(s);
	/* All must be in the one file that is moved. */
	err = there(r, in_tmp(r, "muster.db-wal"), &log);
	return err != 0 ? err : log ? ERR_IO : 0;
}

static int
move_in(struct restore *r)
{
	char to[STORE_PATH + 16];

	snprintf(to, sizeof(to), "%s/output", r->config->dir);
	int err = file_rename(r->files, in_tmp(r, "output"), to);
	snprintf(to, sizeof(to), "%s/muster.db", r->config->dir);
	if (err == 0)
		err = file_rename(r->files, in_tmp(r, "muster.db"), to);
	return err;
}

static int
restore_all(struct restore *r, const char *file, char *why, size_t size)
{
	int err = lock_place(r, why, size);

	if (err == 0)
		err = check_place(r, why, size);
	if (err != 0)
		return err;
	err = file_open(r->files, file, FILE_READ, 0, &r->in);
	if (err == 0)
		err = file_mkdir(r->files, r->tmp, 0700);
	if (err == 0)
		err = file_sync_parent(r->files, r->tmp);
	if (err != 0)
		return err;
	err = unpack_file(r);
	file_close(&r->out);
	if (err == 0)
		err = revive(r, why, size);
	if (err == 0)
		err = move_in(r);
	if (err != 0) {
		/* All of it is ours; restore.tmp goes last: it says so. */
		(void)file_unlink(r->files, in_dir(r, "muster.db"));
		(void)remove_tree(r, in_dir(r, "output"), DEPTH);
	}
	/* Once the database is in place a leftover does no harm. */
	(void)remove_tree(r, r->tmp, DEPTH);
	return err;
}

static void
say(int err, const struct store_config *config, const char *file, char *why,
    size_t size)
{
	if (why[0] != '\0')
		return;
	if (err == ERR_INVALID)
		why_say(why, size, "%s is no backup of musterd's", file);
	else if (err == ERR_NEWER)
		why_say(why, size,
		    "%s was made by a newer musterd: restore it with that one",
		    file);
	else if (err == ERR_CORRUPT)
		why_say(why, size,
		    "%s is damaged or cut short: nothing was restored", file);
	else if (err == ERR_NO_SPACE)
		why_say(
		    why, size, "no space left for %s in %s", file, config->dir);
	else
		why_say(why, size, "%s could not be restored to %s: %s", file,
		    config->dir, err_name(err));
}

int
store_restore(
    const struct store_config *config, const char *file, char *why, size_t size)
{
	struct restore *r = alloc_new(sizeof(*r));

	why[0] = '\0';
	if (r == NULL)
		return ERR_NOMEM;
	r->config = config;
	r->files = config->files;
	r->chunk = alloc_new(CHUNK);
	int err = unpack_init(&r->unpack);
	if (r->chunk == NULL)
		err = ERR_NOMEM;
	if (strlen(config->dir) >= STORE_PATH - 64)
		err = ERR_TOO_BIG;
	snprintf(r->tmp, sizeof(r->tmp), "%s/restore.tmp", config->dir);
	if (err == 0)
		err = restore_all(r, file, why, size);
	if (err != 0)
		say(err, config, file, why, size);
	file_close(&r->in);
	file_close(&r->lock);
	unpack_fini(&r->unpack);
	alloc_free(r->chunk);
	alloc_free(r);
	return err;
}
