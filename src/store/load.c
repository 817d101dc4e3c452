/*
 * What the hub starts from.
 */
#include "base/err.h"

#include "store/core.h"

struct load {
	size_t count; /* statement that counts the rows */
	size_t rows;
	const struct table *table;
};

/* All rows of one table as an array in the arena. */
static int
load_rows(struct store *s, const struct load *l, struct arena *a,
    const void **out, size_t *out_count)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, l->count, &err);
	size_t n, i = 0;

	if (st == NULL || (err = db_step(&s->db, st)) < 0)
		return err;
	n = (size_t)sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	uint8_t *rows = arena_array(a, n, l->table->size);
	if (rows == NULL && n > 0)
		return ERR_NOMEM;
	st = db_statement(&s->db, l->rows, &err);
	if (st == NULL)
		return err;
	while (i < n && (err = db_step(&s->db, st)) == 1) {
		err = column_read(st, l->table, a, rows + i * l->table->size);
		if (err != 0)
			break;
		i++;
	}
	sqlite3_reset(st);
	if (err < 0)
		return err;
	*out = rows;
	*out_count = i;
	return 0;
}

static int
load_number(struct store *s, size_t which, int64_t *out)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, which, &err);

	if (st == NULL || (err = db_step(&s->db, st)) < 0)
		return err;
	*out = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	return 0;
}

static int
load_all(struct store *s, struct arena *a, struct hub_snapshot *out)
{
	static const struct load loads[] = {
		{ ST_COUNT_USERS, ST_LOAD_USERS, &table_user },
		{ ST_COUNT_TOKENS, ST_LOAD_TOKENS, &table_token },
		{ ST_COUNT_AGENTS, ST_LOAD_AGENTS, &table_agent },
		{ ST_COUNT_COMMANDS, ST_LOAD_COMMANDS, &table_command },
		{ ST_COUNT_LAST_LINKS, ST_LOAD_LAST_LINKS, &table_link },
		{ ST_COUNT_LOGINS, ST_LOAD_LOGINS, &table_login },
		{ ST_COUNT_STOPS, ST_LOAD_STOPS, &table_stop },
		{ ST_COUNT_RECEIPTS, ST_LOAD_RECEIPTS, &table_receipt },
		{ ST_COUNT_SECRETS, ST_LOAD_SECRETS, &table_secret },
		{ ST_COUNT_ROUTES, ST_LOAD_ROUTES, &table_route },
	};
	enum { LOADS = sizeof(loads) / sizeof(loads[0]) };
	const void *rows[LOADS] = { NULL };
	size_t counts[LOADS] = { 0 };
	int err = 0;

	for (size_t i = 0; err == 0 && i < LOADS; i++)
		err = load_rows(s, &loads[i], a, &rows[i], &counts[i]);
	int64_t last_link = 0, last_stop = 0;
	if (err == 0)
		err = load_number(s, ST_LAST_LINK, &last_link);
	if (err == 0)
		err = load_number(s, ST_LAST_STOP, &last_stop);
	if (err != 0)
		return err;
	*out = (struct hub_snapshot){
		.users = rows[0],
		.user_count = counts[0],
		.tokens = rows[1],
		.token_count = counts[1],
		.agents = rows[2],
		.agent_count = counts[2],
		.commands = rows[3],
		.command_count = counts[3],
		.links = rows[4],
		.link_count = counts[4],
		.logins = rows[5],
		.login_count = counts[5],
		.stops = rows[6],
		.stop_count = counts[6],
		.receipts = rows[7],
		.receipt_count = counts[7],
		.secrets = rows[8],
		.secret_count = counts[8],
		.routes = rows[9],
		.route_count = counts[9],
		.last_link = (uint64_t)last_link,
		.stop_epoch = (uint64_t)last_stop,
	};
	return 0;
}

int
store_load(struct store *s, struct arena *a, struct hub_snapshot *out)
{
	/* One read transaction: one instant. */
	int err = store_begin(s);

	if (err == 0)
		err = load_all(s, a, out);
	store_rollback(s);
	return err;
}

int
store_meta(
    struct store *s, struct slice key, struct arena *a, struct slice *value)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_META_GET, &err);

	if (st == NULL || (err = column_bind_text(st, 1, key)) != 0)
		return err;
	err = db_step(&s->db, st);
	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : err;
	const struct slice blob = { sqlite3_column_blob(st, 0),
		(size_t)sqlite3_column_bytes(st, 0) };
	err = arena_copy(a, blob, value);
	sqlite3_reset(st);
	return err;
}
