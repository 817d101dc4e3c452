/*
 * From any earlier format to this one.
 */
#include <stdio.h>

#include "base/err.h"

#include "io/clock.h"

#include "store/core.h"
#include "store/schema.h"

/* The text after "-- migration N\n" up to the next such line. */
struct slice
schema_migration(int number)
{
	char line[32];
	const char *from, *to;

	snprintf(line, sizeof(line), "-- migration %d\n", number);
	from = strstr(schema_sql, line);
	if (from == NULL)
		return (struct slice){ 0 };
	from += strlen(line);
	to = strstr(from, "-- migration ");
	return (struct slice){ (const uint8_t *)from,
		to == NULL ? strlen(from) : (size_t)(to - from) };
}

int
schema_version(void)
{
	int n = 0;

	while (schema_migration(n + 1).ptr != NULL)
		n++;
	return n;
}

/* Each statement of the text in turn; sqlite3_exec wants a NUL. */
static int
run_slice(struct db *db, struct slice sql)
{
	const char *at = (const char *)sql.ptr, *end = at + sql.len;

	while (at < end) {
		sqlite3_stmt *st = NULL;
		int rc = sqlite3_prepare_v2(
		    db->handle, at, (int)(end - at), &st, &at);
		if (rc == SQLITE_OK && st != NULL)
			rc = sqlite3_step(st);
		int err = db_err(db, rc);
		sqlite3_finalize(st);
		if (err != 0)
			return err;
	}
	return 0;
}

static int
migrate_to(struct store *s, int number)
{
	char sql[160];

	snprintf(sql, sizeof(sql),
	    "INSERT INTO migrations (number, at) VALUES (%d, %lld);"
	    "PRAGMA user_version = %d; PRAGMA application_id = %d;",
	    number, (long long)clock_wall(), number, STORE_APPLICATION);
	int err = store_begin(s);
	if (err == 0)
		err = run_slice(&s->db, schema_migration(number));
	if (err == 0)
		err = db_run(&s->db, sql);
	if (err == 0)
		err = store_commit(s);
	if (err != 0)
		store_rollback(s);
	return err;
}

int
migrate(struct store *s, const char *path, char *why, size_t size)
{
	int64_t version = 0, application = 0, objects = 0;
	int err, newest = schema_version();

	if ((err = db_number(&s->db, "PRAGMA user_version", &version)) != 0 ||
	    (err = db_number(&s->db, "PRAGMA application_id", &application)) !=
		0 ||
	    (err = db_number(
		 &s->db, "SELECT count(*) FROM sqlite_schema", &objects)) != 0)
		return err;
	if (version > newest && application == STORE_APPLICATION) {
		why_say(why, size,
		    "%s has format %lld and this musterd knows formats up to "
		    "%d: start the musterd that wrote it, or a newer one",
		    path, (long long)version, newest);
		return ERR_NEWER;
	}
	if (objects > 0 && (application != STORE_APPLICATION || version < 1)) {
		why_say(why, size,
		    "%s is a database of something else: give musterd a data "
		    "directory of its own",
		    path);
		return ERR_INVALID;
	}
	for (int n = (int)version + 1; err == 0 && n <= newest; n++)
		err = migrate_to(s, n);
	return err;
}
