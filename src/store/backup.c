/*
 * Making a backup while the store is at work.
 *
 * The database is copied by VACUUM INTO: one read transaction, one instant.
 * Output is append-only and written before the rows that promise it, so
 * whatever the copied rows say is in the files when they are read after it;
 * a segment that retention removes meanwhile is left out, and its command
 * shows as pruned.
 */
#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "store/core.h"
#include "store/pack.h"
#include "store/segments.h"

enum { CHUNK = 256 * 1024, LIST_ROOM = 64 << 20, FOLDER_NAMES = 1 << 20 };

struct packer {
	const struct store_config *config;
	struct file out;
	uint64_t at;
	uint64_t count;
	struct digest *whole; /* owned */
	struct digest *one;   /* owned */
	uint8_t *chunk;       /* owned */
	struct db copy;       /* the copied database */
	char tmp[STORE_PATH + 8];
	char db[STORE_PATH + 8];
	char path[SEGMENT_PATH];
};

static int
put(struct packer *p, struct slice s, bool to_one)
{
	int err = file_write(&p->out, p->at, s);

	p->at += s.len;
	if (err == 0 &&
	    (!digest_add(p->whole, s) || (to_one && !digest_add(p->one, s))))
		err = ERR_NOMEM;
	return err;
}

static int
put_sum(struct packer *p, struct digest *d)
{
	uint8_t sum[DIGEST_LEN];

	if (!digest_end(d, sum))
		return ERR_NOMEM;
	return put(p, (struct slice){ sum, sizeof(sum) }, false);
}

/* The first size bytes of a file, under a name. */
static int
put_file(struct packer *p, struct slice name, struct file *f, uint64_t size)
{
	uint8_t head[PACK_ENTRY + PACK_NAME_MAX];
	size_t n = pack_entry(name, size, head);
	int err = put(p, (struct slice){ head, n }, true);

	for (uint64_t at = 0; err == 0 && at < size;) {
		size_t want = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
		err = file_read(f, at, p->chunk, want, &n);
		if (err == 0 && n < want)
			err = ERR_AGAIN; /* it was cut after a failed sync */
		if (err == 0)
			err = put(p, (struct slice){ p->chunk, n }, true);
		at += n;
	}
	p->count++;
	return err != 0 ? err : put_sum(p, p->one);
}

static int
put_path(struct packer *p, struct slice name, const char *path)
{
	struct file f = { 0 };
	uint64_t size = 0;
	int err =
	    file_open(p->config->files, path, FILE_READ | FILE_NOFOLLOW, 0, &f);

	if (err == 0)
		err = file_size(&f, &size);
	if (err == 0)
		err = put_file(p, name, &f, size);
	file_close(&f);
	return err;
}

/* A copy of the database in p->db, with its settings but no log. */
static int
copy_database(struct packer *p)
{
	char path[STORE_PATH + 16];
	struct file f = { 0 };
	struct db db;
	sqlite3_stmt *st = NULL;

	snprintf(path, sizeof(path), "%s/muster.db", p->config->dir);
	/* Made by us for its mode; VACUUM takes an empty file. */
	int err = file_open(p->config->files, p->db,
	    FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &f);
	file_close(&f);
	if (err != 0)
		return err;
	err = db_open(&db, path, p->config->vfs, false);
	if (err == 0)
		err = db_err(&db,
		    sqlite3_prepare_v2(
			db.handle, "VACUUM INTO ?1", -1, &st, NULL));
	if (err == 0)
		err = column_bind_text(st, 1, slice_from(p->db));
	if (err == 0)
		err = db_err(&db, sqlite3_step(st));
	sqlite3_finalize(st);
	db_close(&db);
	return err;
}

enum { COPY_HAS_COMMAND, COPY_STATEMENTS };

static const struct statement copy_texts[COPY_STATEMENTS] = {
	[COPY_HAS_COMMAND] = { "SELECT 1 FROM commands WHERE id = ?1", NULL },
};

/* 1 when the copy has the command, 0 not, <0. */
static int
has_command(struct packer *p, struct slice id)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&p->copy, COPY_HAS_COMMAND, &err);

	if (st == NULL || (err = column_bind_text(st, 1, id)) != 0)
		return err;
	err = db_step(&p->copy, st);
	sqlite3_reset(st);
	return err;
}

/* All segments of the command whose folder is in p->path. */
static int
put_command(struct packer *p, struct slice id)
{
	size_t root = strlen(p->config->dir) + 1;
	struct file_names names;
	struct arena a;
	int err = segment_dir(p->config->dir, id, p->path);
	size_t len = strlen(p->path);

	arena_init(&a, LIST_ROOM);
	if (err == 0)
		err = file_list(
		    p->config->files, p->path, SEGMENT_NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		snprintf(p->path + len, sizeof(p->path) - len, "/%s",
		    names.at[i].name);
		struct slice name = slice_from(p->path + root);
		if (!pack_name_ok(name))
			continue;
		err = put_path(p, name, p->path);
		if (err == ERR_NOT_FOUND)
			err = 0;
	}
	arena_fini(&a);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* One of the folders under output. */
static int
put_pair(struct packer *p, const char *pair)
{
	struct file_names names;
	struct arena a;
	int n = snprintf(
	    p->path, sizeof(p->path), "%s/output/%s", p->config->dir, pair);

	if (n < 0 || (size_t)n >= sizeof(p->path))
		return ERR_TOO_BIG;
	arena_init(&a, LIST_ROOM);
	int err =
	    file_list(p->config->files, p->path, FOLDER_NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		struct slice id = slice_from(names.at[i].name);
		int has = segment_id_ok(id) ? has_command(p, id) : 0;
		if (has != 0)
			err = has < 0 ? has : put_command(p, id);
	}
	arena_fini(&a);
	return err;
}

static int
put_output(struct packer *p)
{
	struct file_names names;
	struct arena a;
	int err = db_open(&p->copy, p->db, p->config->vfs, false);

	if (err == 0)
		err = db_prepare_table(&p->copy, copy_texts, COPY_STATEMENTS);
	if (err != 0)
		return err;
	snprintf(p->path, sizeof(p->path), "%s/output", p->config->dir);
	arena_init(&a, LIST_ROOM);
	err = file_list(p->config->files, p->path, FOLDER_NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++)
		err = put_pair(p, names.at[i].name);
	arena_fini(&a);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int
pack_all(struct packer *p)
{
	uint8_t head[PACK_HEAD], tail[PACK_TAIL];
	int err = copy_database(p);

	if (err == 0)
		err = file_open(p->config->files, p->tmp,
		    FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, 0600, &p->out);
	if (err == 0)
		err = put(p, (struct slice){ head, pack_head(head) }, false);
	if (err == 0)
		err = put_path(p, SL("muster.db"), p->db);
	if (err == 0)
		err = put_output(p);
	if (err == 0)
		err = put(p, (struct slice){ tail, pack_tail(p->count, tail) },
		    false);
	if (err == 0)
		err = put_sum(p, p->whole);
	db_close(&p->copy);
	if (err == 0)
		err = file_unlink(p->config->files, p->db);
	return err != 0 ? err : file_sync(&p->out);
}

static struct packer *
packer_new(const struct store_config *config, const char *file)
{
	struct packer *p = alloc_new(sizeof(*p));

	if (p == NULL)
		return NULL;
	p->config = config;
	p->whole = digest_new();
	p->one = digest_new();
	p->chunk = alloc_new(CHUNK);
	snprintf(p->tmp, sizeof(p->tmp), "%s.tmp", file);
	snprintf(p->db, sizeof(p->db), "%s.db.tmp", file);
	return p;
}

/* Leaves nothing but what is finished. */
static void
packer_free(struct packer *p)
{
	db_close(&p->copy);
	file_close(&p->out);
	(void)file_unlink(p->config->files, p->tmp);
	(void)file_unlink(p->config->files, p->db);
	digest_free(p->whole);
	digest_free(p->one);
	alloc_free(p->chunk);
	alloc_free(p);
}

int
store_backup(
    const struct store_config *config, const char *file, char *why, size_t size)
{
	if (strlen(file) >= STORE_PATH || strlen(config->dir) >= STORE_PATH) {
		why_say(why, size, "the name of the backup is too long");
		return ERR_TOO_BIG;
	}
	struct packer *p = packer_new(config, file);
	if (p == NULL)
		return ERR_NOMEM;
	int err = p->chunk == NULL ? ERR_NOMEM : pack_all(p);
	if (err == 0)
		err = file_rename(config->files, p->tmp, file);
	if (err == ERR_NO_SPACE)
		why_say(why, size,
		    "no space left beside %s: a backup needs room for the "
		    "database twice and the output once",
		    file);
	else if (err != 0)
		why_say(why, size, "%s could not be backed up to %s: %s",
		    config->dir, file, err_name(err));
	packer_free(p);
	return err;
}
