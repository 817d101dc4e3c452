/*
 * What retention takes away, and the marks it leaves.
 */
#include <stdio.h>

#include "base/err.h"

#include "store/audit.h"
#include "store/core.h"
#include "store/segments.h"

/* A removal syncs folders, and operations wait for the round. */
enum { ROUND = 16, ROOM = 64 * 1024, LOG_ROUND = 5000 };

/* Ids of commands whose output has its time behind it; the arena has them. */
static int
find_old(struct store *s, wall_msec before, struct arena *a, struct slice *ids,
    size_t *count)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_COMMANDS_OLD, &err);

	*count = 0;
	if (st == NULL)
		return err;
	sqlite3_bind_int64(st, 1, before);
	sqlite3_bind_int(st, 2, ROUND);
	while ((err = db_step(&s->db, st)) == 1) {
		struct slice id = { sqlite3_column_text(st, 0),
			(size_t)sqlite3_column_bytes(st, 0) };
		err = arena_copy(a, id, &ids[*count]);
		if (err != 0)
			break;
		++*count;
	}
	sqlite3_reset(st);
	return err;
}

static int
mark_command(
    struct store *s, struct slice id, wall_msec now, const uint64_t ends[2])
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_COMMAND_PRUNED, &err);

	if (st == NULL || (err = column_bind_text(st, 1, id)) != 0)
		return err;
	sqlite3_bind_int64(st, 2, now);
	sqlite3_bind_int64(st, 3, (int64_t)ends[0]);
	sqlite3_bind_int64(st, 4, (int64_t)ends[1]);
	return db_finish(&s->db, st, NULL);
}

static int
note(struct store *s, wall_msec now, const char *action, const char *what,
    uint64_t count, uint64_t bytes)
{
	char detail[96];

	snprintf(detail, sizeof(detail), "{\"%s\":%llu,\"bytes\":%llu}", what,
	    (unsigned long long)count, (unsigned long long)bytes);
	struct audit_note n = {
		.actor = SL("system"),
		.action = slice_from(action),
		.result = SL("ok"),
		.detail_json = slice_from(detail),
	};
	return audit_append(s, now, 1, &n);
}

/*
 * Files go first, the marks are committed after them.  A crash between
 * leaves rows that say how much there was and no files, which readers show
 * as pruned already; the next round finds and marks them.  The other order
 * could leave files that nobody would look for again.
 */
static int
prune_output(struct store *s, wall_msec before, wall_msec now, bool *more)
{
	struct slice ids[ROUND];
	uint64_t ends[2], bytes = segments_total(s->segments);
	size_t count = 0;
	struct arena a;

	arena_init(&a, ROOM);
	int err = find_old(s, before, &a, ids, &count);
	for (size_t i = 0; err == 0 && i < count; i++) {
		ends[0] = ends[1] = 0;
		err = segments_settle(s->segments, ids[i], ends);
		if (err == ERR_INVALID)
			err = 0; /* not ours by form: never had output */
		if (err == 0)
			err = mark_command(s, ids[i], now, ends);
		if (err == 0) {
			err = segments_remove(s->segments, ids[i]);
			if (err == ERR_INVALID)
				err = 0;
		}
	}
	bytes -= segments_total(s->segments);
	if (err == 0 && bytes > 0)
		err = note(s, now, "output.prune", "commands", count, bytes);
	*more = *more || count == ROUND;
	arena_fini(&a);
	return err;
}

static int
prune_audit(struct store *s, wall_msec before, wall_msec now)
{
	uint8_t hash[HASH_LEN];
	int changed = 0, err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_AUDIT_OLD, &err);

	if (st == NULL)
		return err;
	sqlite3_bind_int64(st, 1, s->config.node);
	sqlite3_bind_int64(st, 2, before);
	err = db_step(&s->db, st);
	if (err <= 0)
		return err;
	int64_t number = sqlite3_column_int64(st, 0);
	if (sqlite3_column_bytes(st, 1) != HASH_LEN) {
		sqlite3_reset(st);
		return ERR_CORRUPT;
	}
	memcpy(hash, sqlite3_column_blob(st, 1), HASH_LEN);
	sqlite3_reset(st);
	if ((st = db_statement(&s->db, ST_AUDIT_MARK, &err)) == NULL)
		return err;
	sqlite3_bind_int64(st, 1, s->config.node);
	sqlite3_bind_int64(st, 2, number);
	sqlite3_bind_blob(st, 3, hash, HASH_LEN, SQLITE_STATIC);
	sqlite3_bind_int64(st, 4, now);
	if ((err = db_finish(&s->db, st, NULL)) != 0)
		return err;
	if ((st = db_statement(&s->db, ST_AUDIT_PRUNE, &err)) == NULL)
		return err;
	sqlite3_bind_int64(st, 1, s->config.node);
	sqlite3_bind_int64(st, 2, number);
	err = db_finish(&s->db, st, &changed);
	return err != 0
	    ? err
	    : note(s, now, "audit.prune", "lines", (uint64_t)changed, 0);
}

int
store_prune(struct store *s, wall_msec output_before, wall_msec audit_before,
    wall_msec now, bool *more)
{
	struct audit_head before = s->head;
	int err = store_begin(s);

	*more = false;
	if (err == 0 && output_before > 0 && s->segments != NULL)
		err = prune_output(s, output_before, now, more);
	if (err == 0 && audit_before > 0)
		err = prune_audit(s, audit_before, now);
	if (err == 0)
		err = store_commit(s);
	if (err != 0) {
		store_rollback(s);
		s->head = before;
	}
	return err;
}

/* One round of a statement that removes; *more when it was a full one. */
static int
remove_logs(struct store *s, sqlite3_stmt *st, uint64_t *count, bool *more)
{
	int changed = 0;
	int err = db_finish(&s->db, st, &changed);

	*count += (uint64_t)changed;
	*more = *more || changed >= LOG_ROUND;
	return err;
}

static int
prune_logs(struct store *s, wall_msec before, wall_msec now, bool *more)
{
	uint64_t count = 0;
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_LOGS_OLD, &err);

	if (st == NULL)
		return err;
	sqlite3_bind_int64(st, 1, before);
	sqlite3_bind_int64(st, 2, STORE_LOGS);
	sqlite3_bind_int(st, 3, LOG_ROUND);
	err = remove_logs(s, st, &count, more);
	if (err != 0 || (st = db_statement(&s->db, ST_LOGS_MANY, &err)) == NULL)
		return err;
	sqlite3_bind_int64(st, 1, STORE_AGENT_LOGS);
	sqlite3_bind_int(st, 2, LOG_ROUND);
	err = remove_logs(s, st, &count, more);
	return err != 0 || count == 0
	    ? err
	    : note(s, now, "logs.prune", "lines", count, 0);
}

int
store_prune_logs(struct store *s, wall_msec before, wall_msec now, bool *more)
{
	struct audit_head was = s->head;
	int err = store_begin(s);

	*more = false;
	if (err == 0)
		err = prune_logs(s, before, now, more);
	if (err == 0)
		err = store_commit(s);
	if (err != 0) {
		store_rollback(s);
		s->head = was;
	}
	return err;
}
