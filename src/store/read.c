/*
 * Readers: their own read-only connections, one instant a call.
 */
#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "store/audit.h"
#include "store/core.h"
#include "store/reader.h"

enum { SCRATCH_MAX = 4 << 20, PAGE_MAX = 1000, ROWS_MAX = 100000 };

/* clang-format off */
#define COMMANDS "SELECT $COLS, place FROM commands" \
	" WHERE workspace_id = ?1 AND place < ?2"
#define NEWEST " ORDER BY place DESC LIMIT ?3"

static const struct statement texts[READ_STATEMENTS] = {
	/* By which of agent, user and state are asked for, as bits. */
	[READ_COMMANDS + 0] = { COMMANDS NEWEST, &table_command },
	[READ_COMMANDS + 1] = { COMMANDS " AND agent_id = ?4" NEWEST, &table_command },
	[READ_COMMANDS + 2] = { COMMANDS " AND user_id = ?5" NEWEST, &table_command },
	[READ_COMMANDS + 3] = { COMMANDS " AND agent_id = ?4 AND user_id = ?5" NEWEST, &table_command },
	[READ_COMMANDS + 4] = { COMMANDS " AND state = ?6" NEWEST, &table_command },
	[READ_COMMANDS + 5] = { COMMANDS " AND agent_id = ?4 AND state = ?6" NEWEST, &table_command },
	[READ_COMMANDS + 6] = { COMMANDS " AND user_id = ?5 AND state = ?6" NEWEST, &table_command },
	[READ_COMMANDS + 7] = { COMMANDS " AND agent_id = ?4 AND user_id = ?5 AND state = ?6" NEWEST, &table_command },
	[READ_COMMAND] = { "SELECT $COLS FROM commands WHERE id = ?1", &table_command },
	[READ_COMMAND_KEY] = { "SELECT $COLS FROM commands WHERE workspace_id = ?1"
	    " AND user_id = ?2 AND request_key = ?3", &table_command },
	[READ_ENDS] = { "SELECT out_bytes, err_bytes FROM commands WHERE id = ?1", NULL },
	[READ_LINKS] = { "SELECT $COLS, id FROM links WHERE agent_id = ?1"
	    " AND id < ?2 ORDER BY id DESC LIMIT ?3", &table_link },
	[READ_AUDIT] = { "SELECT $COLS, place FROM audit WHERE place < ?2"
	    " ORDER BY place DESC LIMIT ?3", &table_audit },
	[READ_CHAINS] = { "SELECT $COLS, workspace_id FROM audit ORDER BY node, number", &table_audit },
	[READ_CHAIN_START] = { "SELECT number, hash FROM audit_pruned WHERE node = ?1", NULL },
	[READ_AGENT_NAME] = { "SELECT name FROM agents WHERE id = ?1", NULL },
	[READ_AGENT] = { "SELECT $COLS FROM agents WHERE id = ?1", &table_agent },
	[READ_LOGS] = { "SELECT $COLS, place FROM logs WHERE agent_id = ?1"
	    " AND place < ?2 ORDER BY place DESC LIMIT ?3", &table_log },
	[READ_META] = { "SELECT value FROM meta WHERE key = ?1", NULL },
};
/* clang-format on */

int
store_reader_open(struct store_reader **out, const struct store_config *config)
{
	char path[STORE_PATH + 16];
	struct store_reader *r = alloc_new(sizeof(*r));

	if (r == NULL)
		return ERR_NOMEM;
	buf_init(&r->scratch, SCRATCH_MAX);
	r->files = config->files;
	int err = slice_cstr(slice_from(config->dir), r->dir, sizeof(r->dir));
	snprintf(path, sizeof(path), "%s/muster.db", r->dir);
	if (err == 0)
		err = db_open(&r->db, path, config->vfs, false);
	if (err == 0)
		err = db_prepare_table(&r->db, texts, READ_STATEMENTS);
	if (err != 0) {
		store_reader_close(r);
		return err;
	}
	*out = r;
	return 0;
}

void
store_reader_close(struct store_reader *r)
{
	if (r == NULL)
		return;
	reader_close_output(r);
	db_close(&r->db);
	buf_fini(&r->scratch);
	alloc_free(r);
}

/* A page of rows -------------------------------------------------------- */

struct page {
	sqlite3_stmt *st; /* cursor is ?2, limit ?3; the column after the
			   * table's own is what the cursor counts by */
	const struct table *table;
	struct slice cursor;
	uint32_t limit;
	const struct row_filter *filter; /* NULL: all rows */
	struct arena *arena;
};

static int
cursor_bind(const struct page *p)
{
	uint64_t from = INT64_MAX;

	if (p->cursor.ptr != NULL &&
	    slice_u64(p->cursor, INT64_MAX, &from) != 0)
		return ERR_INVALID;
	sqlite3_bind_int64(p->st, 2, (int64_t)from);
	/* How many rows a filter will refuse, nobody knows: no limit. */
	sqlite3_bind_int64(
	    p->st, 3, p->filter != NULL ? -1 : (int64_t)p->limit + 1);
	return 0;
}

static int
cursor_make(struct arena *a, int64_t place, struct slice *out)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%lld", (long long)place);

	return arena_copy(
	    a, (struct slice){ (const uint8_t *)text, (size_t)n }, out);
}

/* The row as a record in its place; 1 when it is one to be shown. */
static int
row_read(const struct page *p, struct arena *scratch, uint8_t *to)
{
	struct arena *a = p->filter != NULL ? scratch : p->arena;
	int err = column_read(p->st, p->table, a, to);

	if (err != 0 || p->filter == NULL)
		return err != 0 ? err : 1;
	if (!p->filter->keep(p->filter->arg, to))
		return 0;
	const void *copy = column_copy(p->arena, p->table, to);
	if (copy == NULL)
		return ERR_NOMEM;
	memcpy(to, copy, p->table->size);
	return 1;
}

/* One row more than asked for is read to know whether there are more. */
static int
page_read(struct db *db, struct page *p, const void **rows, size_t *count,
    struct slice *next)
{
	size_t size = p->table->size, seen = 0, n = 0;
	int64_t place = 0, last = 0;
	struct arena scratch;
	int err;

	if (p->limit == 0 || p->limit > PAGE_MAX)
		p->limit = PAGE_MAX;
	arena_init(&scratch, SCRATCH_MAX);
	uint8_t *all = arena_array(p->arena, (size_t)p->limit + 1, size);
	err = all == NULL ? ERR_NOMEM : cursor_bind(p);
	*next = (struct slice){ 0 };
	while (err == 0 && (err = db_step(db, p->st)) == 1) {
		place = sqlite3_column_int64(p->st, (int)p->table->count);
		arena_reset(&scratch);
		err = row_read(p, &scratch, all + n * size);
		/* A page may end early, but not go on for ever. */
		bool enough = ++seen == ROWS_MAX;
		if ((err == 1 && n == p->limit) || (enough && err == 0)) {
			err = cursor_make(
			    p->arena, n == p->limit ? last : place, next);
			break;
		}
		if (err == 1) {
			last = place;
			n++;
			err = 0;
		}
	}
	sqlite3_reset(p->st);
	arena_fini(&scratch);
	if (err != 0)
		return err;
	*rows = all;
	*count = n;
	return 0;
}

int
store_read_commands(struct store_reader *r, const struct command_query *q,
    struct arena *a, const struct command_record **rows, size_t *count,
    struct slice *cursor)
{
	size_t which = READ_COMMANDS + (q->agent_id.ptr != NULL ? 1U : 0U) +
	    (q->user_id.ptr != NULL ? 2U : 0U) + (q->state >= 0 ? 4U : 0U);
	int err = 0;
	struct page p = {
		.st = db_statement(&r->db, which, &err),
		.table = &table_command,
		.cursor = q->cursor,
		.limit = q->limit,
		.filter = q->filter,
		.arena = a,
	};
	const void *all = NULL;

	if (p.st == NULL)
		return err;
	sqlite3_bind_int64(p.st, 1, q->workspace_id);
	if (q->agent_id.ptr != NULL)
		err = column_bind_text(p.st, 4, q->agent_id);
	if (err == 0 && q->user_id.ptr != NULL)
		err = column_bind_text(p.st, 5, q->user_id);
	if (q->state >= 0)
		sqlite3_bind_int(p.st, 6, q->state);
	if (err == 0)
		err = page_read(&r->db, &p, &all, count, cursor);
	if (err == 0)
		*rows = all;
	return err;
}

int
store_read_links(struct store_reader *r, struct slice agent_id,
    struct slice cursor, uint32_t limit, struct arena *a,
    const struct connection_record **rows, size_t *count, struct slice *next)
{
	int err = 0;
	struct page p = {
		.st = db_statement(&r->db, READ_LINKS, &err),
		.table = &table_link,
		.cursor = cursor,
		.limit = limit,
		.arena = a,
	};
	const void *all = NULL;

	if (p.st == NULL || (err = column_bind_text(p.st, 1, agent_id)) != 0)
		return err;
	err = page_read(&r->db, &p, &all, count, next);
	if (err == 0)
		*rows = all;
	return err;
}

int
store_read_logs(struct store_reader *r, struct slice agent_id,
    struct slice cursor, uint32_t limit, const struct row_filter *filter,
    struct arena *a, const struct log_record **rows, size_t *count,
    struct slice *next)
{
	int err = 0;
	struct page p = {
		.st = db_statement(&r->db, READ_LOGS, &err),
		.table = &table_log,
		.cursor = cursor,
		.limit = limit,
		.filter = filter,
		.arena = a,
	};
	const void *all = NULL;

	if (p.st == NULL || (err = column_bind_text(p.st, 1, agent_id)) != 0)
		return err;
	err = page_read(&r->db, &p, &all, count, next);
	if (err == 0)
		*rows = all;
	return err;
}

int
store_read_audit(struct store_reader *r, struct slice cursor, uint32_t limit,
    const struct row_filter *filter, struct arena *a,
    const struct audit_record **rows, size_t *count, struct slice *next)
{
	int err = 0;
	struct page p = {
		.st = db_statement(&r->db, READ_AUDIT, &err),
		.table = &table_audit,
		.cursor = cursor,
		.limit = limit,
		.filter = filter,
		.arena = a,
	};
	const void *all = NULL;

	if (p.st == NULL)
		return err;
	err = page_read(&r->db, &p, &all, count, next);
	if (err == 0)
		*rows = all;
	return err;
}

/* One row --------------------------------------------------------------- */

/* Read the only row of a bound statement of commands. */
static int
read_command(struct store_reader *r, sqlite3_stmt *st, struct arena *a,
    const struct command_record **row)
{
	int err = db_step(&r->db, st);

	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : err;
	struct command_record *c = arena_alloc(a, sizeof(*c));
	err = c == NULL ? ERR_NOMEM : column_read(st, &table_command, a, c);
	sqlite3_reset(st);
	if (err == 0)
		*row = c;
	return err;
}

int
store_read_command(struct store_reader *r, struct slice id, struct arena *a,
    const struct command_record **row)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&r->db, READ_COMMAND, &err);

	if (st == NULL || (err = column_bind_text(st, 1, id)) != 0)
		return err;
	return read_command(r, st, a, row);
}

int
store_read_agent(struct store_reader *r, struct slice id, struct arena *a,
    const struct agent_record **row)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&r->db, READ_AGENT, &err);

	if (st == NULL || (err = column_bind_text(st, 1, id)) != 0)
		return err;
	err = db_step(&r->db, st);
	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : err;
	struct agent_record *g = arena_alloc(a, sizeof(*g));
	err = g == NULL ? ERR_NOMEM : column_read(st, &table_agent, a, g);
	sqlite3_reset(st);
	if (err == 0)
		*row = g;
	return err;
}

int
store_read_command_key(struct store_reader *r, int64_t workspace_id,
    struct slice user_id, struct slice request_key, struct arena *a,
    const struct command_record **row)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&r->db, READ_COMMAND_KEY, &err);

	if (st == NULL || (err = column_bind_text(st, 2, user_id)) != 0 ||
	    (err = column_bind_text(st, 3, request_key)) != 0)
		return err;
	sqlite3_bind_int64(st, 1, workspace_id);
	return read_command(r, st, a, row);
}

/* The one text that a statement gives for a key. */
static int
read_text(struct store_reader *r, size_t which, struct slice key,
    struct arena *a, struct slice *value)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&r->db, which, &err);

	if (st == NULL || (err = column_bind_text(st, 1, key)) != 0)
		return err;
	err = db_step(&r->db, st);
	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : err;
	struct slice found = { sqlite3_column_blob(st, 0),
		(size_t)sqlite3_column_bytes(st, 0) };
	if (found.ptr == NULL)
		found = SL("");
	err = arena_copy(a, found, value);
	sqlite3_reset(st);
	return err;
}

int
store_read_meta(struct store_reader *r, struct slice key, struct arena *a,
    struct slice *value)
{
	return read_text(r, READ_META, key, a, value);
}

int
store_read_agent_name(struct store_reader *r, struct slice id, struct arena *a,
    struct slice *name)
{
	return read_text(r, READ_AGENT_NAME, id, a, name);
}

/* The journal ----------------------------------------------------------- */

/* What the chain of a node must begin with. */
static int
chain_start(struct store_reader *r, uint32_t node, struct audit_head *head)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&r->db, READ_CHAIN_START, &err);

	*head = (struct audit_head){ 0 };
	if (st == NULL)
		return err;
	sqlite3_bind_int64(st, 1, node);
	err = db_step(&r->db, st);
	if (err <= 0)
		return err;
	head->number = (uint64_t)sqlite3_column_int64(st, 0);
	if (sqlite3_column_bytes(st, 1) == HASH_LEN)
		memcpy(head->hash, sqlite3_column_blob(st, 1), HASH_LEN);
	sqlite3_reset(st);
	return 0;
}

/* Does the line come after head? */
static int
line_fits(struct store_reader *r, const struct audit_record *line,
    int64_t workspace_id, struct audit_head *head)
{
	uint8_t hash[HASH_LEN];
	int err = audit_hash(line, workspace_id, &r->scratch, hash);

	if (err != 0)
		return err;
	if (line->number != head->number + 1 ||
	    memcmp(line->prev_hash, head->hash, HASH_LEN) != 0 ||
	    memcmp(line->hash, hash, HASH_LEN) != 0)
		return ERR_CORRUPT;
	head->number = line->number;
	memcpy(head->hash, line->hash, HASH_LEN);
	return 0;
}

static int
verify_lines(struct store_reader *r, sqlite3_stmt *st, struct arena *a,
    uint64_t *lines, struct audit_record *line)
{
	struct audit_head head = { 0 };
	int64_t node = -1;
	int err;

	while ((err = db_step(&r->db, st)) == 1) {
		arena_reset(a);
		err = column_read(st, &table_audit, a, line);
		if (err == 0 && line->node != node)
			err = chain_start(r, line->node, &head);
		if (err == 0)
			err = line_fits(r, line,
			    sqlite3_column_int64(st, (int)table_audit.count),
			    &head);
		if (err != 0)
			return err;
		node = line->node;
		++*lines;
	}
	return err;
}

int
store_verify_audit(struct store_reader *r, uint64_t *lines,
    struct audit_record *bad, struct arena *a)
{
	struct audit_record line = { 0 };
	struct arena rows;
	uint64_t n = 0;
	int err = 0;
	sqlite3_stmt *st = db_statement(&r->db, READ_CHAINS, &err);

	if (st == NULL)
		return err;
	arena_init(&rows, SCRATCH_MAX);
	err = verify_lines(r, st, &rows, &n, &line);
	sqlite3_reset(st);
	if (err == 0)
		*lines = n;
	if (err == ERR_CORRUPT) {
		struct audit_record *copy = column_copy(a, &table_audit, &line);
		if (copy == NULL)
			err = ERR_NOMEM;
		else
			*bad = *copy;
	}
	arena_fini(&rows);
	return err;
}
