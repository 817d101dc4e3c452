/*
 * core: what the store's files share (floor: store; private to it).
 */
#ifndef STORE_CORE_H
#define STORE_CORE_H

#include <sqlite3.h>

#include "base/buf.h"

#include "io/file.h"

#include "store/column.h"
#include "store/store.h"

enum {
	STORE_APPLICATION = 0x4d535452, /* application_id: "MSTR" */
	STORE_PATH = 4096,
};

/* A statement's text, with $COLS and the like of its table. */
struct statement {
	const char *sql;
	const struct table *table;
};

/* A connection and its statements, prepared when first used. */
struct db {
	sqlite3 *handle; /* owned */
	const struct statement *texts;
	sqlite3_stmt **prepared; /* owned array, and what is in it */
	size_t count;
};

struct audit_head {
	uint64_t number;
	uint8_t hash[HASH_LEN];
};

struct segments;

struct store {
	struct db db;
	struct store_config config; /* dir points into path */
	char dir[STORE_PATH];
	struct file lock;
	struct segments *segments; /* NULL: in memory, nothing is kept */
	uint64_t fence;
	char incarnation[32];
	struct audit_head head; /* of this node's chain, working copy */
	struct buf scratch;     /* canonical form of an audit line */
	bool broken;            /* the batch cannot go on: its error is fatal */
	int wal_pages;          /* in the log and not copied to the file */
	int log_pages;          /* in the log */
	uint64_t syncs;         /* of the database; see store_counts */
	uint64_t commits;
};

/* sqlite.c ------------------------------------------------------------ */

/*
 * The ERR_* of a result code.  Failures of the machine (no space, I/O,
 * corrupt, busy, memory) are told from those of one operation by
 * db_is_fatal.
 */
int db_err(struct db *db, int rc);
bool db_is_fatal(int err);

/* Open with the settings every connection has; the handle may be there even
 * after failure: db_close. */
int db_open(struct db *db, const char *path, const char *vfs, bool write);
void db_close(struct db *db);
/* Statements: texts is a table of count entries that outlives db. */
int db_prepare_table(
    struct db *db, const struct statement *texts, size_t count);

/* Run text without results. */
int db_run(struct db *db, const char *sql);
/* First column of the first row as a number; ERR_NOT_FOUND without one. */
int db_number(struct db *db, const char *sql, int64_t *out);

/* The prepared statement, reset and without bindings; NULL: *err says why. */
sqlite3_stmt *db_statement(struct db *db, size_t which, int *err);
/* Step to the next row: 1 a row, 0 the end (and reset), <0 (and reset). */
int db_step(struct db *db, sqlite3_stmt *st);
/* Run to the end; *changed (may be NULL) counts rows. */
int db_finish(struct db *db, sqlite3_stmt *st, int *changed);

/* A sentence for people, cut to fit. */
__attribute__((format(printf, 3, 4))) void why_say(
    char *why, size_t size, const char *format, ...);

/* The store's own keys begin with "store.". */
int meta_put_u64(struct store *s, const char *key, uint64_t n);
int meta_put_text(struct store *s, const char *key, struct slice value);
/* ERR_NOT_FOUND leaves *out alone. */
int meta_get_u64(struct store *s, const char *key, uint64_t *out);

/* BEGIN IMMEDIATE, COMMIT, ROLLBACK (cannot fail). */
int store_begin(struct store *s);
int store_commit(struct store *s);
void store_rollback(struct store *s);
/* Savepoint of one operation, and its end. */
int store_save(struct store *s);
int store_keep(struct store *s, bool keep);
/* Make up a new incarnation, in the open transaction. */
int store_renew(struct store *s);

/* migrate.c ----------------------------------------------------------- */

/* Check whose database it is and bring it up to date. */
int migrate(struct store *s, const char *path, char *why, size_t size);

/* statements.c -------------------------------------------------------- */

enum {
	ST_BEGIN,
	ST_COMMIT,
	ST_ROLLBACK,
	ST_SAVE,
	ST_KEEP,
	ST_UNDO,
	ST_META_GET,
	ST_META_PUT,
	ST_PUT_USER,
	ST_PUT_LOGIN,
	ST_DROP_LOGIN,
	ST_PUT_TOKEN,
	ST_TOKEN_USED,
	ST_PUT_AGENT,
	ST_AGENT_SEEN,
	ST_AGENT_SEQUENCE,
	ST_LINK_OPEN,
	ST_LINK_CLOSE,
	ST_LINK_CLOSED,
	ST_LINKS_ORPHANED,
	ST_KEY_EXPIRE,
	ST_COMMAND_NEW,
	ST_COMMAND_STATE,
	ST_COMMAND_SENT,
	ST_COMMAND_BACK,
	ST_COMMAND_RUNS,
	ST_COMMAND_ENDED,
	ST_COMMAND_OUTCOME,
	ST_COMMANDS_OLD,
	ST_COMMAND_PRUNED,
	ST_AUDIT_NEW,
	ST_AUDIT_HEAD,
	ST_AUDIT_OLD,
	ST_AUDIT_MARK,
	ST_AUDIT_PRUNE,
	ST_COUNT_USERS,
	ST_LOAD_USERS,
	ST_COUNT_LOGINS,
	ST_LOAD_LOGINS,
	ST_COUNT_TOKENS,
	ST_LOAD_TOKENS,
	ST_COUNT_AGENTS,
	ST_LOAD_AGENTS,
	ST_COUNT_COMMANDS,
	ST_LOAD_COMMANDS,
	ST_COUNT_LAST_LINKS,
	ST_LOAD_LAST_LINKS,
	ST_LAST_LINK,
	ST_PUT_STOP,
	ST_PUT_RECEIPT,
	ST_COUNT_STOPS,
	ST_LOAD_STOPS,
	ST_COUNT_RECEIPTS,
	ST_LOAD_RECEIPTS,
	ST_LAST_STOP,
	ST_PUT_SECRET,
	ST_DROP_SECRET,
	ST_COUNT_SECRETS,
	ST_LOAD_SECRETS,
	ST_PUT_LOG,
	ST_LOGS_OLD,
	ST_LOGS_MANY,
	ST_PUT_ROUTE,
	ST_COUNT_ROUTES,
	ST_LOAD_ROUTES,
	STATEMENTS
};
extern const struct statement store_statements[STATEMENTS];

#endif
