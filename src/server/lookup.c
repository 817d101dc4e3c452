#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "model/clone.h"
#include "model/command.h"

#include "io/log.h"

#include "server/api.h"
#include "server/readers.h"
#include "server/show.h"
#include "server/sight.h"

#include "server/lookup.h"

enum {
	RESULT_MAX = 16 * 1024 * 1024,
	LIMIT_DEFAULT = 100,
	LIMIT_MAX = 1000,
	PIECE = 256 * 1024, /* of output at a time */
	FOLLOW_EVERY = 200, /* ms between looks at growing output */
};

enum work { WORK_JSON, WORK_OUTPUT };

/* One look into the store. */
struct lookup {
	struct loop_work work;
	struct dock *dock;
	struct peer_id peer;
	struct reader *reader;
	enum work kind;
	enum request_op op;
	struct arena arena; /* of what is asked */
	struct arena rows;  /* of one look */
	/* What is asked. */
	struct slice id;
	struct slice cursor;
	struct slice agent;
	struct slice user_id;
	struct slice selector; /* of who asks */
	struct sight sight;
	struct slice level; /* of log lines */
	struct slice text;  /* in their message */
	wall_msec since;
	struct slice request_key;
	const struct command_record *wish; /* what the key is used for now */
	int64_t workspace_id;
	uint32_t position; /* of a command that waits; else 0 */
	msec wait;
	uint32_t limit;
	int state;
	enum output_stream stream;
	uint64_t offset;
	uint64_t end;  /* of a range; UINT64_MAX: all there is */
	uint64_t tail; /* of a range: only so many bytes at the end */
	bool ranged;
	bool follow;
	bool begun; /* the head of the answer is out */
	struct loop_timer timer;
	/* What came of it. */
	int err;
	struct buf result;
	bool final; /* the command has ended */
	uint64_t size;
	uint64_t next; /* where output goes on behind a gap */
	int gap;       /* ERR_GONE, ERR_MISSING: what begins the answer */
};

static void run(struct loop_work *w);
static void done(struct loop_work *w);

static void
give_back(struct lookup *q)
{
	if (q->reader != NULL)
		readers_give(q->dock, q->reader);
	q->reader = NULL;
}

static void
free_lookup(struct lookup *q)
{
	give_back(q);
	loop_timer_stop(q->dock->lane.loop, &q->timer);
	buf_fini(&q->result);
	sight_fini(&q->sight);
	arena_fini(&q->arena);
	arena_fini(&q->rows);
	alloc_free(q);
}

/* On the pool's thread
 * --------------------------------------------------------- */

static void
put_page(struct js_writer *w, const char *schema)
{
	js_begin_object(w);
	js_kv_string(w, "schema", slice_from(schema));
	js_kv_array(w, "items");
}

static void
end_page(struct js_writer *w, struct slice next)
{
	js_end(w);
	show_text(w, "next", next.len > 0 ? next : (struct slice){ 0 });
	js_end(w);
}

/* A row as shown.  A list is of few agents, in runs: last has the name of
 * the row before. */
static int
show_row(struct lookup *q, struct store_reader *r, struct js_writer *w,
    const struct command_record *row, struct slice last[2])
{
	int err = 0;

	if (!slice_eq(row->agent_id, last[0])) {
		last[0] = row->agent_id;
		last[1] = (struct slice){ 0 };
		err = store_read_agent_name(r, last[0], &q->rows, &last[1]);
	}
	show_named(w, row, last[1], q->position, q->wait);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int
read_commands(struct lookup *q, struct store_reader *r, struct js_writer *w)
{
	const struct command_query query = { .agent_id = q->agent,
		.state = q->state,
		.cursor = q->cursor,
		.limit = q->limit,
		.filter = sight_commands(&q->sight, r),
		.workspace_id = q->workspace_id };
	const struct command_record *rows;
	struct slice next = { 0 };
	size_t n;
	int err = store_read_commands(r, &query, &q->rows, &rows, &n, &next);

	if (err != 0)
		return err;
	put_page(w, "muster.commands/1");
	struct slice last[2] = { { 0 } };
	for (size_t i = 0; err == 0 && i < n; i++)
		err = show_row(q, r, w, &rows[i], last);
	end_page(w, next);
	return err;
}

static int
read_command(struct lookup *q, struct store_reader *r, struct js_writer *w)
{
	const struct command_record *row;
	int err = q->request_key.len > 0
	    ? store_read_command_key(r, q->workspace_id, q->user_id,
		  q->request_key, &q->rows, &row)
	    : store_read_command(r, q->id, &q->rows, &row);

	if (err == 0 &&
	    (row->workspace_id != q->workspace_id ||
		!sight_command(&q->sight, r, row)))
		err = ERR_NOT_FOUND;
	if (err == 0 && q->wish != NULL && !command_same(row, q->wish))
		err = ERR_EXISTS;
	struct slice last[2] = { { 0 } };
	return err == 0 ? show_row(q, r, w, row, last) : err;
}

static int
read_links(struct lookup *q, struct store_reader *r, struct js_writer *w)
{
	const struct connection_record *rows;
	struct slice next = { 0 };
	size_t n;
	int err = store_read_links(
	    r, q->id, q->cursor, q->limit, &q->rows, &rows, &n, &next);

	if (err != 0)
		return err;
	put_page(w, "muster.connections/1");
	for (size_t i = 0; i < n; i++)
		show_link(w, &rows[i]);
	end_page(w, next);
	return 0;
}

static int
read_audit(struct lookup *q, struct store_reader *r, struct js_writer *w)
{
	const struct audit_record *rows;
	struct slice next = { 0 };
	size_t n;
	int err = store_read_audit(r, q->cursor, q->limit,
	    sight_lines(&q->sight, r), &q->rows, &rows, &n, &next);

	if (err != 0)
		return err;
	put_page(w, "muster.audit_lines/1");
	for (size_t i = 0; i < n; i++)
		show_audit(w, &rows[i]);
	end_page(w, next);
	return 0;
}

static int
verify_audit(struct lookup *q, struct store_reader *r, struct js_writer *w)
{
	struct audit_record bad = { 0 };
	uint64_t lines = 0;
	int err = store_verify_audit(r, &lines, &bad, &q->rows);

	if (err != 0 && err != ERR_CORRUPT)
		return err;
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.audit_check/1"));
	js_kv_bool(w, "ok", err == 0);
	js_kv_u64(w, "lines", lines);
	js_key(w, SL("bad"));
	if (err == 0)
		js_put_null(w);
	else
		show_audit(w, &bad);
	js_end(w);
	return 0;
}

/* What a range means, now that the size is known (RFC 9110 14.1.2). */
static int
settle_range(struct lookup *q)
{
	if (q->tail > 0)
		q->offset = q->tail < q->size ? q->size - q->tail : 0;
	if (q->end > q->size)
		q->end = q->size;
	return q->offset < q->end ? 0 : ERR_RANGE;
}

static int
read_output(struct lookup *q, struct store_reader *r)
{
	const struct command_record *row;
	int err = store_read_command(r, q->id, &q->rows, &row);

	if (err != 0)
		return err;
	if (row->workspace_id != q->workspace_id ||
	    !sight_command(&q->sight, r, row))
		return ERR_NOT_FOUND;
	q->final = command_is_final(row->state);
	q->size = q->stream == OUTPUT_OUT ? row->out_bytes : row->err_bytes;
	if (q->ranged && !q->begun && settle_range(q) != 0)
		return ERR_RANGE;
	uint64_t want = q->offset < q->end ? q->end - q->offset : 0;
	if (want > PIECE)
		want = PIECE;
	uint8_t *room = want > 0 ? buf_reserve(&q->result, want) : NULL;
	if (want > 0 && room == NULL)
		return ERR_NOMEM;
	int64_t n = want == 0 ? 0
			      : store_read_output(r, q->id, q->stream,
				    q->offset, room, want, &q->next);
	if (n == ERR_NOT_FOUND)
		return 0;
	if (n < 0)
		return (int)n;
	buf_commit(&q->result, (size_t)n);
	return 0;
}

/* level and text say which lines. */
static bool
keeps_line(void *arg, const void *record)
{
	const struct lookup *q = arg;
	const struct log_record *l = record;
	bool found = q->text.len == 0;

	if (q->level.len > 0 && !slice_eq_nocase(q->level, l->level))
		return false;
	if (l->at < q->since)
		return false;
	for (size_t i = 0; !found && i + q->text.len <= l->message.len; i++)
		found = slice_eq_nocase(q->text,
		    slice_first(slice_from_at(l->message, i), q->text.len));
	return found;
}

static int
read_logs(struct lookup *q, struct store_reader *r, struct js_writer *w)
{
	const struct row_filter filter = { keeps_line, q };
	bool all = q->level.len == 0 && q->text.len == 0 && q->since == 0;
	const struct log_record *rows;
	struct slice next = { 0 };
	size_t n;
	int err = store_read_logs(r, q->id, q->cursor, q->limit,
	    all ? NULL : &filter, &q->rows, &rows, &n, &next);

	if (err != 0)
		return err;
	put_page(w, "muster.log_lines/1");
	for (size_t i = 0; i < n; i++)
		show_log(w, &rows[i]);
	end_page(w, next);
	return 0;
}

typedef int look_fn(
    struct lookup *q, struct store_reader *r, struct js_writer *w);

static look_fn *const looks[OPS] = {
	[OP_COMMAND_LIST] = read_commands,
	[OP_COMMAND_SHOW] = read_command,
	[OP_COMMAND_CREATE] = read_command,
	[OP_AGENT_HISTORY] = read_links,
	[OP_AUDIT_LIST] = read_audit,
	[OP_AGENT_LOGS] = read_logs,
	[OP_AUDIT_VERIFY] = verify_audit,
};

static void
run(struct loop_work *work)
{
	struct lookup *q = LIST_OF(work, struct lookup, work);
	struct js_writer w;

	q->err = 0;
	arena_reset(&q->rows);
	struct store_reader *r;
	q->err = readers_open(q->dock, q->reader, &r);
	if (q->err != 0)
		return;
	if (q->kind == WORK_OUTPUT) {
		q->err = read_output(q, r);
		return;
	}
	js_write(&w, &q->result);
	q->err = looks[q->op](q, r, &w);
	if (q->err == 0)
		q->err = js_finish(&w);
}

/* Back on the lane
 * --------------------------------------------------------------- */

static void
start(struct lookup *q)
{
	q->reader = readers_take(q->dock);
	if (q->reader != NULL && loop_work(q->dock->lane.loop, &q->work) == 0)
		return;
	struct conn *c = dock_find(q->dock, q->peer);
	if (c != NULL && !c->ending && !q->begun)
		web_problem(
		    c, &(struct problem){ .status = 503, .retry_after = 1 });
	else if (c != NULL)
		conn_drop(c);
	free_lookup(q);
}

static void
answer_failure(struct conn *c, int err)
{
	bool missing = err == ERR_NOT_FOUND;

	if (err == ERR_EXISTS) {
		web_problem(c,
		    &(struct problem){ .status = 422,
			.code = SL("KEY_REUSED"),
			.text = SL("this idempotency key was used for "
				   "another command") });
		return;
	}

	if (!missing)
		log_error("lookup_failed", kv_e("err", err));
	web_problem(c,
	    &(struct problem){ .status = missing ? 404
		    : err == ERR_INVALID         ? 400
						 : 503,
		.code = missing ? SL("COMMAND_NOT_FOUND") : (struct slice){ 0 },
		.text = missing ? SL("there is no such command")
		    : err == ERR_INVALID
		    ? SL("the cursor is not one of ours")
		    : SL("the store cannot be read now") });
}

static void
answer_no_range(struct conn *c, uint64_t size)
{
	char text[48];

	snprintf(text, sizeof(text), "bytes */%llu", (unsigned long long)size);
	const struct http1_pair field = { SL("Content-Range"),
		slice_from(text) };
	web_answer_with(c, 416, NULL, (struct slice){ 0 }, &field, 1);
}

static void
look_again(struct loop_timer *t)
{
	struct lookup *q = LIST_OF(t, struct lookup, timer);
	struct conn *c = dock_find(q->dock, q->peer);

	if (c == NULL || c->ending)
		free_lookup(q);
	else
		start(q);
}

/* Bytes that are not there, and others after them. */
static bool
is_gap(int err)
{
	return err == ERR_GONE || err == ERR_MISSING;
}

static bool
begin_output(struct conn *c, struct lookup *q)
{
	char size[32], start_at[32], range[96];
	struct http1_pair fields[6];
	size_t n = 0;

	snprintf(size, sizeof(size), "%llu", (unsigned long long)q->size);
	snprintf(
	    start_at, sizeof(start_at), "%llu", (unsigned long long)q->offset);
	fields[n++] =
	    (struct http1_pair){ SL("X-Muster-Offset"), slice_from(start_at) };
	fields[n++] =
	    (struct http1_pair){ SL("X-Muster-Size"), slice_from(size) };
	fields[n++] =
	    (struct http1_pair){ SL("X-Content-Type-Options"), SL("nosniff") };
	fields[n++] =
	    (struct http1_pair){ SL("Cache-Control"), SL("no-store") };
	if (q->gap != 0)
		fields[n++] = (struct http1_pair){ SL("X-Muster-Gap"),
			q->gap == ERR_GONE ? SL("pruned") : SL("lost") };
	if (q->ranged) {
		snprintf(range, sizeof(range), "bytes %llu-%llu/%s",
		    (unsigned long long)q->offset,
		    (unsigned long long)q->end - 1, q->final ? size : "*");
		fields[n++] = (struct http1_pair){ SL("Content-Range"),
			slice_from(range) };
	}
	q->begun = true;
	return web_stream_begin(
	    c, q->ranged ? 206 : 200, "application/octet-stream", fields, n);
}

/* A piece of output is here: send it and look for the next. */
static void
output_done(struct conn *c, struct lookup *q)
{
	struct slice piece = buf_peek(&q->result);

	if (is_gap(q->err) && !q->begun) {
		/* From where there is something: the head tells. */
		q->offset = q->next;
		q->gap = q->err;
	} else if (is_gap(q->err)) {
		/* A gap in the middle cannot be told inside a body. */
		web_stream_abort(c);
		free_lookup(q);
		return;
	}
	if (!q->begun && !begin_output(c, q)) {
		free_lookup(q);
		return;
	}
	if (piece.len > 0 && !web_stream_data(c, piece)) {
		free_lookup(q);
		return;
	}
	q->offset += piece.len;
	buf_clear(&q->result);
	bool more = piece.len > 0 || is_gap(q->err);
	if (!more && (q->final || !q->follow || q->offset >= q->end)) {
		web_stream_end(c);
		free_lookup(q);
		return;
	}
	/* A slow reader is waited for; output that grows is looked at. */
	msec wait = !more                  ? FOLLOW_EVERY
	    : stream_above_high(c->stream) ? 20
					   : 0;
	if (wait == 0)
		start(q);
	else if (loop_timer_set(c->dock->lane.loop, &q->timer,
		     loop_now(c->dock->lane.loop) + wait, look_again) != 0) {
		web_stream_abort(c);
		free_lookup(q);
	}
}

static void
done(struct loop_work *work)
{
	struct lookup *q = LIST_OF(work, struct lookup, work);
	struct conn *c = dock_find(q->dock, q->peer);

	give_back(q);
	if (c == NULL || c->ending) {
		free_lookup(q);
		return;
	}
	if (q->kind == WORK_OUTPUT && (q->err == 0 || is_gap(q->err))) {
		output_done(c, q);
		return;
	}
	if (q->err != 0 && q->begun)
		web_stream_abort(c);
	else if (q->err == ERR_RANGE)
		answer_no_range(c, q->size);
	else if (q->err != 0)
		answer_failure(c, q->err);
	else
		web_answer(c, 200, "application/json", buf_peek(&q->result));
	web_resume(c);
	free_lookup(q);
}

/* Asking
 * ----------------------------------------------------------------------------
 */

static int
read_limit(struct call *call, uint32_t *out)
{
	struct slice text = web_query(call, "limit");
	uint64_t n = LIMIT_DEFAULT;

	if (text.ptr != NULL && (slice_u64(text, LIMIT_MAX, &n) != 0 || n == 0))
		return ERR_RANGE;
	*out = (uint32_t)n;
	return 0;
}

static int
read_state(struct call *call, int *out)
{
	struct slice text = web_query(call, "state");
	enum command_state s;

	*out = -1;
	if (text.len == 0)
		return 0;
	if (command_state_find(text, &s) != 0)
		return ERR_INVALID;
	*out = (int)s;
	return 0;
}

/* "bytes=A-B", "bytes=A-" or "bytes=-N"; anything else is all of it
 * (RFC 9110 14.2). */
static void
read_range(struct slice range, struct lookup *q)
{
	struct slice prefix = SL("bytes=");
	uint64_t from = 0, to = INT64_MAX - 1;

	if (!slice_starts(range, prefix))
		return;
	range = slice_from_at(range, prefix.len);
	size_t at = slice_find(range, '-');
	struct slice first = slice_first(range, at);
	struct slice last = slice_from_at(range, at + 1);
	if (at == range.len || (first.len == 0 && last.len == 0) ||
	    (first.len > 0 && slice_u64(first, INT64_MAX - 1, &from) != 0) ||
	    (last.len > 0 && slice_u64(last, INT64_MAX - 1, &to) != 0) ||
	    (first.len > 0 && to < from))
		return;
	q->ranged = true;
	q->offset = from;
	q->end = first.len > 0 ? to + 1 : UINT64_MAX;
	q->tail = first.len > 0 ? 0 : to;
}

static int
read_output_query(struct call *call, struct lookup *q)
{
	struct slice stream = web_query(call, "stream");
	struct slice offset = web_query(call, "offset");

	q->kind = WORK_OUTPUT;
	q->stream = OUTPUT_OUT;
	q->end = UINT64_MAX;
	if (slice_eq(stream, SL("stderr")))
		q->stream = OUTPUT_ERR;
	else if (stream.len > 0 && !slice_eq(stream, SL("stdout")))
		return ERR_INVALID;
	if (offset.len > 0 && slice_u64(offset, INT64_MAX, &q->offset) != 0)
		return ERR_INVALID;
	struct slice follow = web_query(call, "follow");
	q->follow = slice_eq(follow, SL("1")) || slice_eq(follow, SL("true"));
	if (!q->follow)
		read_range(call->range, q);
	return 0;
}

static int
read_log_query(struct call *call, struct lookup *q)
{
	struct slice since = web_query(call, "since");
	int err = arena_copy(&q->arena, web_query(call, "level"), &q->level);

	if (err == 0)
		err = arena_copy(&q->arena, web_query(call, "text"), &q->text);
	if (err == 0 && since.len > 0)
		err = stamp_parse(since, &q->since);
	return err;
}

static struct lookup *
new_lookup(struct conn *c, struct call *call, const struct reply *re)
{
	/* An agent was found by the hub, under whatever name it was asked. */
	struct slice id =
	    re->agent_count > 0 ? re->agents->record->id : call->params[0];
	struct lookup *q = alloc_new(sizeof(*q));

	if (q == NULL)
		return NULL;
	q->dock = c->dock;
	q->peer = c->id;
	q->op = call->route->op;
	q->position = re->position;
	q->wait = re->wait;
	q->workspace_id = re->user == NULL ? 1 : re->user->workspace_id;
	q->work.work = run;
	q->work.done = done;
	arena_init(&q->arena, RESULT_MAX);
	arena_init(&q->rows, RESULT_MAX);
	buf_init(&q->result, RESULT_MAX);
	int err = arena_copy(&q->arena, id, &q->id);
	if (err == 0)
		err = arena_copy(
		    &q->arena, web_query(call, "cursor"), &q->cursor);
	if (err == 0)
		err =
		    arena_copy(&q->arena, web_query(call, "agent"), &q->agent);
	if (err == 0 && re->user != NULL)
		err = arena_copy(&q->arena, re->user->selector, &q->selector);
	if (err == 0 && re->user != NULL)
		err = arena_copy(&q->arena, re->user->id, &q->user_id);
	sight_init(&q->sight, q->selector, q->user_id, q->workspace_id);
	if (err != 0) {
		free_lookup(q);
		return NULL;
	}
	return q;
}

void
lookup_answer(struct conn *c, struct call *call, const struct event *ev)
{
	if (ev->kind != EVENT_REPLY)
		return;
	if (ev->reply->err != 0) {
		api_refuse(c, ev->reply);
		return;
	}
	struct lookup *q = new_lookup(c, call, ev->reply);
	if (q == NULL) {
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	int err = read_limit(call, &q->limit);
	if (err == 0)
		err = read_state(call, &q->state);
	if (err == 0 && q->op == OP_COMMAND_OUTPUT)
		err = read_output_query(call, q);
	if (err == 0 && q->op == OP_AGENT_LOGS)
		err = read_log_query(call, q);
	if (err != 0) {
		free_lookup(q);
		web_problem(c,
		    &(struct problem){ .status = 400,
			.text = SL("a parameter of the query is invalid") });
		return;
	}
	start(q);
}

void
lookup_by_key(struct conn *c, struct call *call, const struct reply *re)
{
	struct lookup *q = re->user == NULL || re->command == NULL
	    ? NULL
	    : new_lookup(c, call, re);

	if (q != NULL)
		q->wish = clone_in(&q->arena, CLONE_COMMAND, re->command);
	if (q == NULL || q->wish == NULL ||
	    arena_copy(&q->arena, call->request_key, &q->request_key) != 0) {
		if (q != NULL)
			free_lookup(q);
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	start(q);
}
