/*
 * The verbs of model/op.h.
 *
 * Design notes.  A failure is either the operation's own (the row is there
 * already, is in another state, is another's) and then it alone is undone,
 * or the machine's (no space, I/O, memory, corruption), and then the batch
 * ends and nothing of it is kept: s->broken tells them apart.
 */
#include <assert.h>

#include "base/err.h"

#include "store/audit.h"
#include "store/core.h"
#include "store/segments.h"

enum { KEY_LIFE = 24 * 3600 * 1000 }; /* idempotency keys, decisions 5 */

/* An error that came from SQLite or from a file. */
static int
machine(struct store *s, int err)
{
	if (db_is_fatal(err))
		s->broken = true;
	return err;
}

static sqlite3_stmt *
statement(struct store *s, size_t which, int *err)
{
	sqlite3_stmt *st = db_statement(&s->db, which, err);

	if (st == NULL)
		machine(s, *err);
	return st;
}

static int
finish(struct store *s, sqlite3_stmt *st, int *changed)
{
	return machine(s, db_finish(&s->db, st, changed));
}

static int
put_record(
    struct store *s, size_t which, const struct table *t, const void *record)
{
	int err = 0;
	sqlite3_stmt *st = statement(s, which, &err);

	if (st != NULL)
		err = column_bind(st, t, record);
	return err != 0 ? machine(s, err) : finish(s, st, NULL);
}

static int
bind_u64(sqlite3_stmt *st, int at, uint64_t n)
{
	if (n > INT64_MAX)
		return ERR_RANGE;
	return sqlite3_bind_int64(st, at, (int64_t)n) == SQLITE_OK ? 0
								   : ERR_NOMEM;
}

/* An update by id of one number. */
static int
update_number(struct store *s, size_t which, struct slice id, uint64_t n)
{
	int changed = 0, err = 0;
	sqlite3_stmt *st = statement(s, which, &err);

	if (st == NULL || (err = column_bind_text(st, 1, id)) != 0 ||
	    (err = bind_u64(st, 2, n)) != 0)
		return machine(s, err);
	err = finish(s, st, &changed);
	return err == 0 && changed == 0 ? ERR_NOT_FOUND : err;
}

static int
op_put_user(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_USER, &table_user, op->user);
}

static int
op_put_login(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_LOGIN, &table_login, op->login);
}

static int
op_drop_login(struct store *s, const struct op *op)
{
	int err = 0;
	sqlite3_stmt *st = statement(s, ST_DROP_LOGIN, &err);

	if (st == NULL || (err = column_bind_text(st, 1, op->login->id)) != 0)
		return machine(s, err);
	return finish(s, st, NULL);
}

static int
op_put_token(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_TOKEN, &table_token, op->token);
}

static int
op_token_used(struct store *s, const struct op *op)
{
	return update_number(
	    s, ST_TOKEN_USED, op->token->id, (uint64_t)op->token->used_at);
}

static int
op_put_agent(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_AGENT, &table_agent, op->agent);
}

static int
op_agent_seen(struct store *s, const struct op *op)
{
	return update_number(
	    s, ST_AGENT_SEEN, op->agent->id, (uint64_t)op->agent->seen_at);
}

static int
op_link_opened(struct store *s, const struct op *op)
{
	return put_record(s, ST_LINK_OPEN, &table_link, op->link);
}

static int
op_link_closed(struct store *s, const struct op *op)
{
	const struct connection_record *link = op->link;
	int changed = 0, err = 0;
	sqlite3_stmt *st = statement(s, ST_LINK_CLOSE, &err);

	if (st == NULL || (err = bind_u64(st, 1, link->id)) != 0 ||
	    (err = column_bind_text(st, 3, link->why)) != 0)
		return machine(s, err);
	sqlite3_bind_int64(st, 2, link->closed_at);
	err = finish(s, st, &changed);
	if (err != 0 || changed > 0)
		return err;
	st = statement(s, ST_LINK_CLOSED, &err);
	if (st == NULL)
		return err;
	bind_u64(st, 1, link->id);
	err = db_step(&s->db, st);
	sqlite3_reset(st);
	return err == 1 ? ERR_WRONG_STATE
	    : err == 0  ? ERR_NOT_FOUND
			: machine(s, err);
}

/* Commands ------------------------------------------------------------ */

/* A dispatch number was given out: the agent's row remembers. */
static int
note_sequence(struct store *s, const struct command_record *c)
{
	return update_number(s, ST_AGENT_SEQUENCE, c->agent_id, c->sequence);
}

static bool
lease_ok(const struct store *s, const struct command_record *c)
{
	/* An older fence belongs to a controller that is no more. */
	return c->lease_fence >= s->fence;
}

static int
expire_key(struct store *s, const struct op *op)
{
	const struct command_record *c = op->command;
	int err = 0;

	if (c->request_key.ptr == NULL || c->user_id.ptr == NULL)
		return 0;
	sqlite3_stmt *st = statement(s, ST_KEY_EXPIRE, &err);
	if (st == NULL || (err = column_bind_text(st, 2, c->user_id)) != 0 ||
	    (err = column_bind_text(st, 3, c->request_key)) != 0)
		return machine(s, err);
	sqlite3_bind_int64(st, 1, c->workspace_id);
	sqlite3_bind_int64(st, 4, c->created_at - KEY_LIFE);
	return finish(s, st, NULL);
}

static int
op_put_command(struct store *s, const struct op *op)
{
	const struct command_record *c = op->command;
	int err;

	if (s->segments != NULL && segments_full(s->segments))
		return ERR_LIMITED;
	if (c->state == COMMAND_SENT && !lease_ok(s, c))
		return ERR_DENIED;
	err = expire_key(s, op);
	if (err == 0)
		err = put_record(s, ST_COMMAND_NEW, &table_command, c);
	if (err == 0 && c->sequence > 0)
		err = note_sequence(s, c);
	return err;
}

/* Why an update found no row that it may change. */
static int
refusal(struct store *s, struct slice id, enum command_state wanted)
{
	int err = 0;
	sqlite3_stmt *st = statement(s, ST_COMMAND_STATE, &err);

	if (st == NULL || (err = column_bind_text(st, 1, id)) != 0)
		return machine(s, err);
	err = db_step(&s->db, st);
	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : machine(s, err);
	bool right = sqlite3_column_int(st, 0) == (int)wanted;
	sqlite3_reset(st);
	return right ? ERR_DENIED : ERR_WRONG_STATE;
}

static int
op_command_sent(struct store *s, const struct op *op)
{
	const struct command_record *c = op->command;
	int changed = 0, err = 0;

	if (!lease_ok(s, c))
		return ERR_DENIED;
	sqlite3_stmt *st = statement(s, ST_COMMAND_SENT, &err);
	if (st == NULL || (err = column_bind_text(st, 1, c->id)) != 0 ||
	    (err = bind_u64(st, 2, c->sequence)) != 0 ||
	    (err = bind_u64(st, 3, c->lease_node)) != 0 ||
	    (err = bind_u64(st, 4, c->lease_fence)) != 0)
		return machine(s, err);
	sqlite3_bind_int64(st, 5, c->sent_at);
	err = finish(s, st, &changed);
	if (err == 0 && changed == 0)
		return refusal(s, c->id, COMMAND_QUEUED);
	return err != 0 ? err : note_sequence(s, c);
}

static int
op_command_back(struct store *s, const struct op *op)
{
	const struct command_record *c = op->command;
	int err = update_number(s, ST_COMMAND_BACK, c->id, c->sequence);

	return err == ERR_NOT_FOUND ? refusal(s, c->id, COMMAND_STATES) : err;
}

static int
op_command_runs(struct store *s, const struct op *op)
{
	const struct command_record *c = op->command;
	int err =
	    update_number(s, ST_COMMAND_RUNS, c->id, (uint64_t)c->started_at);

	return err == ERR_NOT_FOUND ? refusal(s, c->id, COMMAND_STATES) : err;
}

/* What the row promises must be on disk first (decisions 5).  Of one whose
 * end nobody saw the row promises what came of it: ends are what it says. */
static int
check_output(struct store *s, const struct command_record *c, uint64_t ends[2])
{
	bool blind = c->state == COMMAND_UNKNOWN;

	ends[0] = c->out_bytes;
	ends[1] = c->err_bytes;
	if (s->segments == NULL ||
	    (!blind && c->out_bytes == 0 && c->err_bytes == 0))
		return 0;
	int err = segments_settle(s->segments, c->id, ends);
	if (err == ERR_INVALID && ends[0] == 0 && ends[1] == 0)
		return 0; /* not ours by form: never had output */
	if (err != 0)
		return err;
	if (ends[0] < c->out_bytes || ends[1] < c->err_bytes)
		return ERR_RANGE;
	if (!blind) {
		ends[0] = c->out_bytes;
		ends[1] = c->err_bytes;
	}
	return 0;
}

static int
bind_end(
    sqlite3_stmt *st, const struct command_record *c, const uint64_t ends[2])
{
	int err = column_bind_text(st, 1, c->id);

	if (err == 0)
		err = column_bind_text(st, 5, c->code);
	if (err == 0)
		err = column_bind_text(st, 6, c->why);
	if (err == 0)
		err = bind_u64(st, 8, ends[0]);
	if (err == 0)
		err = bind_u64(st, 9, ends[1]);
	sqlite3_bind_int(st, 2, (int)c->state);
	sqlite3_bind_int(st, 3, c->exit_code);
	sqlite3_bind_int(st, 4, c->signal);
	sqlite3_bind_int64(st, 7, c->lingering);
	sqlite3_bind_int64(st, 10, c->started_at);
	sqlite3_bind_int64(st, 11, c->finished_at);
	return err;
}

static int
op_command_ended(struct store *s, const struct op *op)
{
	const struct command_record *c = op->command;
	uint64_t ends[2];
	int changed = 0, err;

	if (c->state < COMMAND_COMPLETED || c->state >= COMMAND_STATES)
		return ERR_INVALID;
	err = check_output(s, c, ends);
	if (err != 0)
		return err;
	sqlite3_stmt *st = statement(s, ST_COMMAND_ENDED, &err);
	if (st == NULL || (err = bind_end(st, c, ends)) != 0)
		return machine(s, err);
	err = finish(s, st, &changed);
	if (err == 0 && changed == 0)
		return refusal(s, c->id, COMMAND_STATES);
	if (err == 0 && s->segments != NULL)
		segments_forget(s->segments, c->id);
	return err;
}

/* Columns of ST_COMMAND_OUTCOME. */
enum { OUT_AGENT, OUT_STATE, OUT_EXIT, OUT_SIGNAL, OUT_CODE, OUT_OUT, OUT_ERR };

static bool
same_text(sqlite3_stmt *st, int column, struct slice s)
{
	struct slice have = { sqlite3_column_text(st, column),
		(size_t)sqlite3_column_bytes(st, column) };

	return slice_eq(have, s);
}

static int
compare_outcome(sqlite3_stmt *st, const struct command_record *c)
{
	if (!same_text(st, OUT_AGENT, c->agent_id))
		return ERR_NOT_FOUND;
	if (sqlite3_column_int(st, OUT_STATE) < COMMAND_COMPLETED)
		return ERR_AGAIN;
	return sqlite3_column_int(st, OUT_STATE) == (int)c->state &&
		sqlite3_column_int(st, OUT_EXIT) == c->exit_code &&
		sqlite3_column_int(st, OUT_SIGNAL) == c->signal &&
		same_text(st, OUT_CODE, c->code) &&
		sqlite3_column_int64(st, OUT_OUT) == (int64_t)c->out_bytes &&
		sqlite3_column_int64(st, OUT_ERR) == (int64_t)c->err_bytes
	    ? 0
	    : ERR_WRONG_STATE;
}

static int
op_command_again(struct store *s, const struct op *op)
{
	int err = 0;
	sqlite3_stmt *st = statement(s, ST_COMMAND_OUTCOME, &err);

	if (st == NULL || (err = column_bind_text(st, 1, op->command->id)) != 0)
		return machine(s, err);
	err = db_step(&s->db, st);
	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : machine(s, err);
	err = compare_outcome(st, op->command);
	sqlite3_reset(st);
	return err;
}

static int
op_put_secret(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_SECRET, &table_secret, op->secret);
}

static int
op_drop_secret(struct store *s, const struct op *op)
{
	int err = 0;
	sqlite3_stmt *st = statement(s, ST_DROP_SECRET, &err);

	if (st == NULL || (err = column_bind_text(st, 1, op->secret->id)) != 0)
		return machine(s, err);
	return finish(s, st, NULL);
}

static int
op_put_log(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_LOG, &table_log, op->log);
}

static int
op_put_meta(struct store *s, const struct op *op)
{
	int err = 0;

	if (slice_starts(op->meta.key, SL("store.")))
		return ERR_DENIED;
	sqlite3_stmt *st = statement(s, ST_META_PUT, &err);
	if (st == NULL || (err = column_bind_text(st, 1, op->meta.key)) != 0)
		return machine(s, err);
	sqlite3_bind_blob64(
	    st, 2, op->meta.value.ptr, op->meta.value.len, SQLITE_STATIC);
	return finish(s, st, NULL);
}

static int
op_put_stop(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_STOP, &table_stop, op->stop);
}

static int
op_put_receipt(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_RECEIPT, &table_receipt, op->receipt);
}

static int
op_put_route(struct store *s, const struct op *op)
{
	return put_record(s, ST_PUT_ROUTE, &table_route, op->route);
}

static int
op_audit(struct store *s, const struct op *op)
{
	(void)s;
	return op->audit.action.ptr == NULL ? ERR_INVALID : 0;
}

/* In which workspace the journal has it. */
static int64_t
op_workspace(const struct op *op)
{
	int64_t id = 0;

	if (op->verb == OP_PUT_USER)
		id = op->user->workspace_id;
	else if (op->verb == OP_PUT_TOKEN)
		id = op->token->workspace_id;
	else if (op->verb == OP_PUT_AGENT)
		id = op->agent->workspace_id;
	else if (op->verb == OP_PUT_SECRET || op->verb == OP_DROP_SECRET)
		id = op->secret->workspace_id;
	else if (op->verb == OP_PUT_STOP)
		id = op->stop->workspace_id;
	else if (op->verb == OP_PUT_ROUTE)
		id = op->route->workspace_id;
	else if (op->verb >= OP_PUT_COMMAND && op->verb <= OP_COMMAND_ENDED)
		id = op->command->workspace_id;
	return id == 0 ? 1 : id;
}

static int (*const verbs[OP_VERBS])(struct store *, const struct op *) = {
	[OP_PUT_USER] = op_put_user,
	[OP_PUT_TOKEN] = op_put_token,
	[OP_PUT_LOGIN] = op_put_login,
	[OP_DROP_LOGIN] = op_drop_login,
	[OP_TOKEN_USED] = op_token_used,
	[OP_PUT_AGENT] = op_put_agent,
	[OP_AGENT_SEEN] = op_agent_seen,
	[OP_LINK_OPENED] = op_link_opened,
	[OP_LINK_CLOSED] = op_link_closed,
	[OP_PUT_COMMAND] = op_put_command,
	[OP_COMMAND_SENT] = op_command_sent,
	[OP_COMMAND_BACK] = op_command_back,
	[OP_COMMAND_RUNS] = op_command_runs,
	[OP_COMMAND_ENDED] = op_command_ended,
	[OP_COMMAND_AGAIN] = op_command_again,
	[OP_PUT_SECRET] = op_put_secret,
	[OP_DROP_SECRET] = op_drop_secret,
	[OP_PUT_LOG] = op_put_log,
	[OP_PUT_META] = op_put_meta,
	[OP_PUT_STOP] = op_put_stop,
	[OP_PUT_RECEIPT] = op_put_receipt,
	[OP_PUT_ROUTE] = op_put_route,
	[OP_AUDIT] = op_audit,
};

/* One operation in its savepoint; *err is its own result, the return the
 * machine's. */
static int
apply_one(struct store *s, const struct op *op, int *result)
{
	struct audit_head before = s->head;
	int err = store_save(s);

	if (err != 0)
		return err;
	assert(op->verb < OP_VERBS);
	*result = verbs[op->verb](s, op);
	if (*result == 0 && op->audit.action.ptr != NULL)
		*result = machine(
		    s, audit_append(s, op->at, op_workspace(op), &op->audit));
	if (s->broken)
		return *result;
	if (*result != 0)
		s->head = before;
	return store_keep(s, *result == 0);
}

static int
apply_all(struct store *s, const struct op *const *ops, size_t count, int *errs)
{
	int err = store_begin(s);

	for (size_t i = 0; err == 0 && i < count; i++)
		err = apply_one(s, ops[i], &errs[i]);
	return err != 0 ? err : store_commit(s);
}

int
store_apply(
    struct store *s, const struct op *const *ops, size_t count, int *errs)
{
	struct audit_head before = s->head;
	int err;

	if (count == 0)
		return 0;
	s->broken = false;
	err = s->config.fault != NULL && *s->config.fault != 0
	    ? *s->config.fault
	    : apply_all(s, ops, count, errs);
	if (err == 0)
		return 0;
	store_rollback(s);
	s->head = before;
	for (size_t i = 0; i < count; i++)
		errs[i] = err;
	return err;
}
