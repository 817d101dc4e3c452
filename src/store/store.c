/*
 * Opening and closing, and the state that is kept in the table meta.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/clock.h"
#include "io/rand.h"

#include "store/audit.h"
#include "store/core.h"
#include "store/segments.h"

enum { SCRATCH_MAX = 4 << 20, CHECKPOINT_PAGES = 1000 };

#define OUTPUT_DEFAULT (UINT64_C(1) << 30)
#define TOTAL_DEFAULT (UINT64_C(20) << 30)

static void
config_fill(struct store *s, const struct store_config *config)
{
	struct store_config *c = &s->config;

	*c = *config;
	c->dir = s->dir;
	if (c->node == 0)
		c->node = 1;
	if (c->output_max == 0)
		c->output_max = OUTPUT_DEFAULT;
	if (c->total_max == 0)
		c->total_max = TOTAL_DEFAULT;
	if (c->segment_size == 0)
		c->segment_size = 8 << 20;
	if (c->segment_size < 64)
		c->segment_size = 64;
}

/* One sentence for what went wrong with the database itself. */
static void
say_failure(int err, const char *path, struct store *s, char *why, size_t size)
{
	const char *detail =
	    s->db.handle == NULL ? err_name(err) : sqlite3_errmsg(s->db.handle);

	if (why[0] != '\0')
		return;
	switch (err) {
	case ERR_CORRUPT:
		why_say(why, size,
		    "%s is damaged: move it away and put a backup in its "
		    "place with musterd restore (%s)",
		    path, detail);
		break;
	case ERR_NO_SPACE:
		why_say(why, size,
		    "no space left for %s: free some and start again", path);
		break;
	case ERR_BUSY:
		why_say(why, size,
		    "%s is locked by another program: end it first", path);
		break;
	default:
		why_say(why, size, "%s cannot be opened: %s", path, detail);
	}
}

static int
lock_dir(struct store *s, char *why, size_t size)
{
	char path[STORE_PATH + 8];
	struct file_layer *fs = s->config.files;
	int err = file_mkdir(fs, s->dir, 0700);

	snprintf(path, sizeof(path), "%s/lock", s->dir);
	if (err == 0)
		err = file_sync_parent(fs, s->dir);
	if (err == 0 || err == ERR_EXISTS)
		err = file_open(fs, path,
		    FILE_READ | FILE_WRITE | FILE_CREATE | FILE_NOFOLLOW, 0600,
		    &s->lock);
	if (err == 0)
		err = file_lock(&s->lock);
	if (err == ERR_BUSY)
		why_say(why, size,
		    "another musterd is running on %s (it holds %s)", s->dir,
		    path);
	else if (err != 0)
		why_say(why, size, "%s cannot be used as a data directory: %s",
		    s->dir, err_name(err));
	return err;
}

/* After a stop that was not clean: is every page still what it should be? */
static int
check_pages(struct store *s, const char *path, char *why, size_t size)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(
	    s->db.handle, "PRAGMA quick_check(1)", -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	int err = db_err(&s->db, rc);
	if (rc == SQLITE_ROW) {
		const char *said = (const char *)sqlite3_column_text(st, 0);
		if (said == NULL || strcmp(said, "ok") != 0) {
			err = ERR_CORRUPT;
			why_say(why, size,
			    "%s is damaged: move it away and put a backup in "
			    "its place with musterd restore (%s)",
			    path, said == NULL ? "no memory" : said);
		}
	}
	sqlite3_finalize(st);
	return err;
}

/* Whether the last life ended well; ERR_NOT_FOUND in a new database. */
static int
was_clean(struct store *s, bool *clean)
{
	uint64_t n = 0;
	int64_t version = 0;
	int err = db_number(&s->db, "PRAGMA user_version", &version);

	if (err != 0 || version == 0)
		return err != 0 ? err : ERR_NOT_FOUND;
	err = meta_get_u64(s, "store.clean", &n);
	*clean = n == 1;
	return err;
}

static int
go_wal(struct store *s)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(
	    s->db.handle, "PRAGMA journal_mode = WAL", -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	int err = db_err(&s->db, rc);
	if (rc == SQLITE_ROW) {
		const char *mode = (const char *)sqlite3_column_text(st, 0);
		if (mode == NULL || strcmp(mode, "wal") != 0)
			err = ERR_UNSUPPORTED;
	}
	sqlite3_finalize(st);
	return err;
}

static int
find_incarnation(struct store *s)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_META_GET, &err);

	if (st == NULL)
		return err;
	column_bind_text(st, 1, SL("store.incarnation"));
	err = db_step(&s->db, st);
	if (err == 1) {
		struct slice id = { sqlite3_column_blob(st, 0),
			(size_t)sqlite3_column_bytes(st, 0) };
		err = slice_cstr(id, s->incarnation, sizeof(s->incarnation));
		sqlite3_reset(st);
		return err == 0 ? 0 : ERR_CORRUPT;
	}
	return err != 0 ? err : store_renew(s);
}

int
store_renew(struct store *s)
{
	char id[RAND_ID_SIZE];

	rand_id("db_", id);
	_Static_assert(sizeof(s->incarnation) >= sizeof(id), "it fits");
	memcpy(s->incarnation, id, sizeof(id));
	return meta_put_text(s, "store.incarnation", slice_from(id));
}

/* This start's entry in the books: one commit. */
static int
begin_life(struct store *s)
{
	uint64_t fence = 0;
	int err = store_begin(s);

	if (err == 0)
		err = find_incarnation(s);
	if (err == 0) {
		err = meta_get_u64(s, "store.fence", &fence);
		if (err == ERR_NOT_FOUND)
			err = 0;
	}
	if (err == 0)
		err = meta_put_u64(s, "store.fence", fence + 1);
	if (err == 0)
		err = meta_put_u64(s, "store.clean", 0);
	if (err == 0) {
		sqlite3_stmt *st =
		    db_statement(&s->db, ST_LINKS_ORPHANED, &err);
		if (st != NULL)
			err = db_finish(&s->db, st, NULL);
	}
	if (err == 0)
		err = store_commit(s);
	if (err != 0) {
		store_rollback(s);
		return err;
	}
	s->fence = fence + 1;
	return audit_load_head(s);
}

static int
wal_hook(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct store *s = arg;

	(void)handle;
	(void)name;
	s->commits++;
	/* A log that begins anew has its header synced first. */
	s->syncs += pages <= s->log_pages ? 2 : 1;
	s->wal_pages = s->log_pages = pages;
	return SQLITE_OK;
}

static int
open_database(
    struct store *s, const char *path, bool *clean, char *why, size_t size)
{
	int err = db_open(&s->db, path, s->config.vfs, true);

	if (err == 0)
		err = db_prepare_table(&s->db, store_statements, STATEMENTS);
	if (err != 0)
		return err;
	/* Before a byte is written: the log and its index inherit it. */
	if (s->config.dir[0] != '\0' && s->config.vfs == NULL &&
	    chmod(path, 0600) != 0)
		return ERR_DENIED;
	err = was_clean(s, clean);
	if (err == 0 && !*clean)
		err = check_pages(s, path, why, size);
	if (err != 0 && err != ERR_NOT_FOUND)
		return err;
	err = migrate(s, path, why, size);
	if (err == 0 && s->config.dir[0] != '\0')
		err = go_wal(s);
	sqlite3_wal_hook(s->db.handle, wal_hook, s);
	return err != 0 ? err : begin_life(s);
}

static int
open_segments(struct store *s, bool clean, char *why, size_t size)
{
	struct segments_config c = {
		.files = s->config.files,
		.dir = s->dir,
		.output_max = s->config.output_max,
		.total_max = s->config.total_max,
		.segment_size = s->config.segment_size,
		.counted = clean,
	};

	if (clean && meta_get_u64(s, "store.output_bytes", &c.total) != 0)
		c.counted = false;
	int err = segments_open(&s->segments, &c);
	if (err != 0)
		why_say(why, size, "%s/output cannot be used: %s", s->dir,
		    err_name(err));
	return err;
}

static struct store *
store_new(const struct store_config *config)
{
	struct store *s = alloc_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	config_fill(s, config);
	buf_init(&s->scratch, SCRATCH_MAX);
	return s;
}

static void
store_free(struct store *s)
{
	segments_close(s->segments);
	db_close(&s->db);
	file_close(&s->lock);
	buf_fini(&s->scratch);
	alloc_free(s);
}

int
store_open(struct store **out, const struct store_config *config, char *why,
    size_t size)
{
	char path[STORE_PATH + 16];
	bool clean = false;
	struct store *s = store_new(config);

	why[0] = '\0';
	if (s == NULL)
		return ERR_NOMEM;
	if (slice_cstr(slice_from(config->dir), s->dir, sizeof(s->dir)) != 0) {
		store_free(s);
		return ERR_TOO_BIG;
	}
	snprintf(path, sizeof(path), "%s/muster.db", s->dir);
	int err = lock_dir(s, why, size);
	if (err == 0)
		err = open_database(s, path, &clean, why, size);
	if (err == 0)
		err = open_segments(s, clean, why, size);
	if (err != 0) {
		say_failure(err, path, s, why, size);
		store_free(s);
		return err;
	}
	*out = s;
	return 0;
}

int
store_open_memory(struct store **out, const struct store_config *config)
{
	char why[8];
	bool clean = false;
	struct store *s = store_new(config);

	if (s == NULL)
		return ERR_NOMEM;
	int err = open_database(s, ":memory:", &clean, why, sizeof(why));
	if (err != 0) {
		store_free(s);
		return err;
	}
	*out = s;
	return 0;
}

static int
end_life(struct store *s)
{
	int err = store_begin(s);

	if (err == 0 && s->segments != NULL)
		err = meta_put_u64(
		    s, "store.output_bytes", segments_total(s->segments));
	if (err == 0)
		err = meta_put_u64(s, "store.clean", 1);
	if (err == 0)
		err = store_commit(s);
	if (err != 0)
		store_rollback(s);
	return err;
}

void
store_close(struct store *s)
{
	if (s == NULL)
		return;
	int err = s->segments == NULL ? 0 : segments_sync(s->segments);
	if (err == 0)
		err = end_life(s);
	if (err == 0)
		sqlite3_wal_checkpoint_v2(
		    s->db.handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	store_free(s);
}

void
store_abandon(struct store *s)
{
	if (s == NULL)
		return;
	sqlite3_db_config(
	    s->db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	store_free(s);
}

struct slice
store_incarnation(const struct store *s)
{
	return slice_from(s->incarnation);
}

uint64_t
store_fence(const struct store *s)
{
	return s->fence;
}

void
store_counts(const struct store *s, struct store_counts *out)
{
	*out = (struct store_counts){
		.commits = s->commits,
		.syncs = s->syncs,
		.wal_pages = (uint64_t)s->wal_pages,
	};
	if (s->segments != NULL) {
		out->syncs += segments_syncs(s->segments);
		out->output_bytes = segments_total(s->segments);
	}
}

int
store_checkpoint(struct store *s)
{
	int log = 0, done = 0;

	if (s->wal_pages < CHECKPOINT_PAGES)
		return 0;
	int rc = sqlite3_wal_checkpoint_v2(
	    s->db.handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &done);
	s->syncs += 2; /* the log, then the database */
	s->wal_pages = 0;
	return db_err(&s->db, rc);
}

/* Transactions -------------------------------------------------------- */

static int
run(struct store *s, size_t which)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, which, &err);

	return st == NULL ? err : db_finish(&s->db, st, NULL);
}

int
store_begin(struct store *s)
{
	return run(s, ST_BEGIN);
}

int
store_commit(struct store *s)
{
	return run(s, ST_COMMIT);
}

void
store_rollback(struct store *s)
{
	/* After some failures SQLite has rolled back by itself. */
	if (sqlite3_get_autocommit(s->db.handle) == 0)
		(void)run(s, ST_ROLLBACK);
}

int
store_save(struct store *s)
{
	return run(s, ST_SAVE);
}

int
store_keep(struct store *s, bool keep)
{
	int err = keep ? 0 : run(s, ST_UNDO);

	return err != 0 ? err : run(s, ST_KEEP);
}

/* Output -------------------------------------------------------------- */

int
store_output_append(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t offset, struct slice bytes)
{
	return s->segments == NULL
	    ? 0
	    : segments_append(s->segments, command_id, stream, offset, bytes);
}

int
store_output_gap(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t from, uint64_t to)
{
	return s->segments == NULL
	    ? 0
	    : segments_gap(s->segments, command_id, stream, from, to);
}

int
store_output_sync(struct store *s)
{
	return s->segments == NULL ? 0 : segments_sync(s->segments);
}

int
store_output_end(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t *out)
{
	if (s->segments == NULL) {
		*out = 0;
		return 0;
	}
	return segments_end(s->segments, command_id, stream, out);
}
