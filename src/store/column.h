/*
 * column: records and rows (floor: store).
 *
 * One table per record says which column is which field.  From it come the
 * SQL, the binding, the reading and the deep copy, so that a field is named
 * once here and once in schema.sql.
 */
#ifndef STORE_COLUMN_H
#define STORE_COLUMN_H

#include <sqlite3.h>

#include "base/arena.h"

enum column_kind {
	COLUMN_TEXT, /* struct slice; NULL when absent */
	COLUMN_HASH, /* uint8_t[32] */
	COLUMN_I64,
	COLUMN_U64, /* up to INT64_MAX: SQLite has no more */
	COLUMN_U32, /* and enums */
	COLUMN_INT,
	COLUMN_U16,
	COLUMN_U8,
	COLUMN_BOOL,
};

struct column {
	const char *name;
	enum column_kind kind;
	size_t at;    /* offset of the field */
	uint32_t max; /* U32, U8: larger is not valid; 0 = what fits */
};

struct table {
	const struct column *columns;
	size_t count;
	size_t size; /* of the record */
};

extern const struct table table_user;
extern const struct table table_login;
extern const struct table table_token;
extern const struct table table_agent;
extern const struct table table_command;
extern const struct table table_link;
extern const struct table table_stop;
extern const struct table table_receipt;
extern const struct table table_secret;
extern const struct table table_log;
extern const struct table table_route;
extern const struct table table_audit; /* struct audit_record */
extern const struct table table_note;  /* struct audit_note: for copies */

/*
 * The text of a statement with $COLS, $ARGS (?1, ?2...) and $SETS (each
 * column = excluded.column) put in.  0 or ERR_TOO_BIG.
 */
int column_expand(
    const char *sql, const struct table *t, char *out, size_t size);

/* Bind the record to ?1...; its text stays borrowed until the statement is
 * reset.  0, ERR_RANGE or ERR_NOMEM. */
int column_bind(sqlite3_stmt *st, const struct table *t, const void *record);

/* The row's columns from 0 on, text copied to the arena.  0, ERR_NOMEM, or
 * ERR_CORRUPT for what no writer of ours put there. */
int column_read(
    sqlite3_stmt *st, const struct table *t, struct arena *a, void *record);

/* A copy whose text is in the arena; NULL without memory. */
void *column_copy(struct arena *a, const struct table *t, const void *record);

/* One text; absent binds NULL. */
int column_bind_text(sqlite3_stmt *st, int at, struct slice s);

#endif
