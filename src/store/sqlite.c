/*
 * A connection to SQLite: settings, statements, errors.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "store/core.h"

enum { STATEMENT_SIZE = 4096, BUSY_MS = 5000 };

void
why_say(char *why, size_t size, const char *format, ...)
{
	va_list args;

	if (size == 0)
		return;
	va_start(args, format);
	vsnprintf(why, size, format, args);
	va_end(args);
}

static int
io_err(struct db *db, int extended)
{
	int number = sqlite3_system_errno(db->handle);

	if (extended == SQLITE_IOERR_NOMEM)
		return ERR_NOMEM;
	return number == ENOSPC || number == EDQUOT ? ERR_NO_SPACE : ERR_IO;
}

int
db_err(struct db *db, int rc)
{
	int extended = sqlite3_extended_errcode(db->handle);

	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return ERR_NO_SPACE;
	case SQLITE_NOMEM:
		return ERR_NOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ERR_BUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return ERR_CORRUPT;
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_READONLY:
		return ERR_DENIED;
	case SQLITE_TOOBIG:
		return ERR_TOO_BIG;
	case SQLITE_CONSTRAINT:
		if (extended == SQLITE_CONSTRAINT_PRIMARYKEY ||
		    extended == SQLITE_CONSTRAINT_ROWID ||
		    extended == SQLITE_CONSTRAINT_UNIQUE)
			return ERR_EXISTS;
		return extended == SQLITE_CONSTRAINT_FOREIGNKEY ? ERR_MISSING
								: ERR_INVALID;
	default:
		return io_err(db, extended);
	}
}

bool
db_is_fatal(int err)
{
	return err == ERR_NO_SPACE || err == ERR_NOMEM || err == ERR_BUSY ||
	    err == ERR_CORRUPT || err == ERR_IO;
}

int
db_run(struct db *db, const char *sql)
{
	return db_err(db, sqlite3_exec(db->handle, sql, NULL, NULL, NULL));
}

int
db_number(struct db *db, const char *sql, int64_t *out)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &st, NULL);

	if (rc != SQLITE_OK)
		return db_err(db, rc);
	rc = sqlite3_step(st);
	int err = rc == SQLITE_DONE ? ERR_NOT_FOUND : db_err(db, rc);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return err;
}

/*
 * What every connection has.  secure_delete=FAST zeroes what is deleted
 * where that costs no I/O: command lines may hold what should not linger.
 * Checkpoints are the writer's to time: see store_checkpoint.
 */
static int
db_settle(struct db *db, bool write)
{
	int err = db_run(db,
	    "PRAGMA trusted_schema = OFF;"
	    "PRAGMA cell_size_check = ON;"
	    "PRAGMA foreign_keys = ON;"
	    "PRAGMA secure_delete = FAST;"
	    "PRAGMA synchronous = FULL;"
	    "PRAGMA temp_store = MEMORY;");

	sqlite3_busy_timeout(db->handle, BUSY_MS);
	sqlite3_wal_autocheckpoint(db->handle, 0);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(
	    db->handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
	sqlite3_db_config(
	    db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !write, NULL);
	return err;
}

int
db_open(struct db *db, const char *path, const char *vfs, bool write)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;

	*db = (struct db){ 0 };
	flags |= write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
		       : SQLITE_OPEN_READONLY;
	int rc = sqlite3_open_v2(path, &db->handle, flags, vfs);
	if (db->handle == NULL)
		return ERR_NOMEM;
	return rc != SQLITE_OK ? db_err(db, rc) : db_settle(db, write);
}

int
db_prepare_table(struct db *db, const struct statement *texts, size_t count)
{
	db->prepared = alloc_array(count, sizeof(*db->prepared));
	if (db->prepared == NULL)
		return ERR_NOMEM;
	db->texts = texts;
	db->count = count;
	return 0;
}

void
db_close(struct db *db)
{
	for (size_t i = 0; i < db->count; i++)
		sqlite3_finalize(db->prepared[i]);
	alloc_free(db->prepared);
	if (db->handle != NULL) {
		int rc = sqlite3_close(db->handle);
		assert(rc == SQLITE_OK);
		(void)rc;
	}
	*db = (struct db){ 0 };
}

static int
prepare(struct db *db, size_t which)
{
	const struct statement *text = &db->texts[which];
	char sql[STATEMENT_SIZE];
	int err = column_expand(text->sql, text->table, sql, sizeof(sql));

	assert(err == 0);
	return db_err(db,
	    sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT,
		&db->prepared[which], NULL));
}

sqlite3_stmt *
db_statement(struct db *db, size_t which, int *err)
{
	assert(which < db->count);
	if (db->prepared[which] == NULL) {
		*err = prepare(db, which);
		if (*err != 0)
			return NULL;
	}
	sqlite3_stmt *st = db->prepared[which];
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return st;
}

int
db_step(struct db *db, sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	int err = db_err(db, rc);
	sqlite3_reset(st);
	return err;
}

int
db_finish(struct db *db, sqlite3_stmt *st, int *changed)
{
	int rc = sqlite3_step(st);
	int err = db_err(db, rc);

	if (changed != NULL)
		*changed = rc == SQLITE_DONE ? sqlite3_changes(db->handle) : 0;
	sqlite3_reset(st);
	return err;
}

static int
meta_put(struct store *s, const char *key, const void *value, size_t n)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_META_PUT, &err);

	if (st == NULL)
		return err;
	err = column_bind_text(st, 1, slice_from(key));
	if (err == 0 &&
	    sqlite3_bind_blob64(st, 2, value, n, SQLITE_STATIC) != SQLITE_OK)
		err = ERR_NOMEM;
	return err != 0 ? err : db_finish(&s->db, st, NULL);
}

int
meta_put_text(struct store *s, const char *key, struct slice value)
{
	return meta_put(s, key, value.ptr, value.len);
}

int
meta_put_u64(struct store *s, const char *key, uint64_t n)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)n);

	return meta_put(s, key, text, (size_t)len);
}

int
meta_get_u64(struct store *s, const char *key, uint64_t *out)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_META_GET, &err);

	if (st == NULL || (err = column_bind_text(st, 1, slice_from(key))) != 0)
		return err;
	err = db_step(&s->db, st);
	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : err;
	struct slice text = { sqlite3_column_blob(st, 0),
		(size_t)sqlite3_column_bytes(st, 0) };
	err = slice_u64(text, UINT64_MAX, out) == 0 ? 0 : ERR_CORRUPT;
	sqlite3_reset(st);
	return err;
}
