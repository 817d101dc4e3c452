/*
 * Exec streams against a runner that is told what to say: the functions of
 * runner.h are defined here, so the real ones are not linked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/exec.h"
#include "base/err.h"
#include "wire/opening.h"

#include "support/unit.h"

struct run {
	char id[65];
	uint64_t seq;
	enum run_state state;
	struct run_input input;
	const char *out; /* what the spool holds */
	uint64_t pruned, acked, fed, fed_end;
	int signal, more, forgets;
	bool linger, cold;
};

static struct {
	struct run_order order;
	char argv0[64], env[2048];
	struct run runs[4];
	size_t count;
	int start_err;
	void *arg;
	const struct runner_ops *ops;
	int wakes;
	bool halted;
} fake;

/* The runner ----------------------------------------------------------------
 */

int
runner_new(const struct runner_config *c, struct runner **out)
{
	fake.arg = c->arg;
	fake.ops = c->ops;
	*out = (struct runner *)&fake;
	return 0;
}

int
runner_adopt(struct runner *rn)
{
	(void)rn;
	return 0;
}

int
runner_start(struct runner *rn, const struct run_order *o, struct run **out)
{
	struct run *r = &fake.runs[fake.count];

	(void)rn;
	if (fake.start_err != 0)
		return fake.start_err;
	fake.count++;
	fake.order = *o;
	(void)slice_cstr(o->id, r->id, sizeof(r->id));
	(void)slice_cstr(o->argv[0], fake.argv0, sizeof(fake.argv0));
	size_t len = 0;
	for (size_t i = 0; i < o->envc; i++)
		len += (size_t)snprintf(fake.env + len, sizeof(fake.env) - len,
		    "%.*s;", SLICE_FMT(o->env[i]));
	r->seq = o->seq;
	*out = r;
	return 0;
}

void
runner_halt(struct runner *rn, bool halt)
{
	(void)rn;
	fake.halted = halt;
}

struct run *
runner_next(const struct runner *rn, size_t *pos)
{
	(void)rn;
	(void)pos;
	return NULL;
}

struct slice
run_id(const struct run *r)
{
	return slice_from(r->id);
}

enum run_state
run_state(const struct run *r)
{
	return r->state;
}

const struct run_input *
run_input(const struct run *r)
{
	return &r->input;
}

void
runner_more(struct run *r, const uint64_t seen[2])
{
	(void)seen;
	r->more++;
}

int
runner_read(
    struct run *r, int stream, uint64_t at, uint8_t *out, size_t n, size_t *got)
{
	size_t len = strlen(r->out);

	if (at < r->pruned) {
		*got = (size_t)(r->pruned - at);
		return ERR_GONE;
	}
	*got = 0;
	if (r->cold) {
		r->cold = false;
		return ERR_AGAIN;
	}
	if (stream == 0 && at < len) {
		*got = len - at < n ? len - at : n;
		memcpy(out, r->out + at, *got);
	}
	return 0;
}

void
runner_ack(struct run *r, int stream, uint64_t offset)
{
	(void)stream;
	if (offset > r->acked)
		r->acked = offset;
}

int
runner_input(struct run *r, uint64_t at, struct slice data)
{
	if (at + data.len > r->input.consumed + HOLDER_INPUT_WINDOW)
		return ERR_FULL;
	assert_int_equal(at, r->fed);
	r->fed += data.len;
	return 0;
}

int
runner_input_end(struct run *r, uint64_t at)
{
	r->fed_end = at;
	return 0;
}

int
runner_signal(struct run *r, enum holder_signal what)
{
	r->signal = (int)what;
	return 0;
}

int
runner_forget(struct run *r)
{
	if (r->linger)
		return ERR_WRONG_STATE;
	r->forgets++;
	return 0;
}

void
runner_budget(struct runner *rn, uint64_t bytes)
{
	(void)rn;
	(void)bytes;
}

uint64_t
runner_mark(const struct runner *rn)
{
	(void)rn;
	return 40;
}

void
runner_close(struct runner *rn)
{
	(void)rn;
	fake.ops->closed(fake.arg);
}

void
runner_free(struct runner *rn)
{
	(void)rn;
}

/* The world -----------------------------------------------------------------
 */

struct world {
	struct commands commands;
	struct exec_home home;
	struct strand_home link;
	struct policy policy;
	struct account account;
	struct exec e;
	struct execframe_reader reader; /* what the stream says, read back */
	uint8_t said[4096];
	size_t said_len, told;
	bool closed;
};

static void
on_wake(struct strand_home *h)
{
	(void)h;
	fake.wakes++;
}

static void
on_closed(void *arg)
{
	*(bool *)arg = true;
}

static const struct command_ops command_ops = {
	.changed = exec_changed,
	.replaced = exec_replaced,
	.closed = on_closed,
};

static int
setup(void **state)
{
	static const char text[] = "version = 1\nallow = exec\n[exec]\n"
				   "allow = **\ndeny = rm **\n";
	struct world *w = calloc(1, sizeof(*w));
	struct policy_fault fault;
	struct commands_config c = { .ops = &command_ops, .arg = &w->closed };

	memset(&fake, 0, sizeof(fake));
	for (int i = 0; i < 4; i++)
		fake.runs[i].out = "";
	policy_init(&w->policy);
	assert_int_equal(policy_parse(&w->policy, slice_from(text), &fault), 0);
	w->account = (struct account){ .become = true,
		.name = "worker",
		.home = "/srv",
		.shell = "/bin/sh" };
	assert_int_equal(commands_open(&w->commands, &c), 0);
	w->home = (struct exec_home){ .commands = &w->commands,
		.policy = &w->policy,
		.account = &w->account,
		.epoch = 9 };
	w->link.wake = on_wake;
	sched_init(&w->link.sched);
	exec_init(&w->e, &w->home, &w->link, 2);
	execframe_reader_init(&w->reader, EXECFRAME_AGENT);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	exec_fini(&w->e);
	execframe_reader_fini(&w->reader);
	commands_close(&w->commands);
	assert_true(w->closed);
	commands_free(&w->commands);
	policy_fini(&w->policy);
	free(w);
	return 0;
}

/* The opening goes in byte by byte. */
static int
open_with(struct exec *e, const char *json)
{
	struct opening o = { .version = 2,
		.kind = OPENING_KIND_EXEC,
		.json = slice_from(json) };
	struct buf b;
	int err = 0;

	buf_init(&b, OPENING_MAX);
	assert_int_equal(opening_encode(&o, &b), 0);
	struct slice s = buf_peek(&b);
	for (size_t i = 0; i < s.len && err == 0; i++)
		err = exec_feed(e, (struct slice){ s.ptr + i, 1 });
	buf_fini(&b);
	return err;
}

static int
tell(struct exec *e, struct execframe f)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	execframe_put(&b, EXECFRAME_ON_STREAM, &f);
	int err = exec_feed(e, buf_peek(&b));
	buf_fini(&b);
	return err;
}

/* All that it has to say now, taken room bytes at a time. */
static void
drain(struct world *w, struct exec *e, size_t room)
{
	size_t n;

	w->said_len = 0;
	while (e->strand.turn.class != TURN_IDLE && !exec_done(e)) {
		assert_true(w->said_len + room <= sizeof(w->said));
		assert_int_equal(
		    exec_put(e, w->said + w->said_len, room, &n), 0);
		assert_true(n <= room);
		if (n == 0)
			break;
		w->said_len += n;
	}
	execframe_feed(&w->reader, (struct slice){ w->said, w->said_len });
}

static struct execframe
said(struct world *w, enum execframe_type type)
{
	struct execframe f;

	assert_int_equal(execframe_next(&w->reader, &f), 1);
	assert_int_equal(f.type, type);
	return f;
}

static void
said_no_more(struct world *w)
{
	struct execframe f;

	assert_int_equal(execframe_next(&w->reader, &f), 0);
}

static bool
has(struct slice s, const char *part)
{
	return memmem(s.ptr, s.len, part, strlen(part)) != NULL;
}

static void
begin(struct world *w, struct run **r)
{
	assert_int_equal(
	    open_with(&w->e,
		"{\"id\":\"c1\",\"seq\":7,\"argv\":[\"ls\"],\"stdin\":true}"),
	    0);
	*r = &fake.runs[0];
	(*r)->state = RUN_RUNNING;
	fake.ops->started(fake.arg, *r, 4711);
}

static void
grow(struct run *r, const char *out)
{
	struct run_output o = { .size = { strlen(out), 0 } };

	r->out = out;
	fake.ops->output(fake.arg, r, &o);
}

static void
finish(struct run *r, const char *outcome, int code)
{
	struct record_exit x = { .outcome = slice_from(outcome),
		.reason = SL("none"),
		.stage = SL("exec"),
		.error = SL("ENOENT"),
		.code = code,
		.size = { strlen(r->out), 0 } };

	r->state = RUN_ENDED;
	fake.ops->ended(fake.arg, r, &x);
}

/* The tests -----------------------------------------------------------------
 */

static void
test_order(void **state)
{
	struct world *w = *state;

	assert_int_equal(
	    open_with(&w->e,
		"{\"id\":\"c1\",\"seq\":7,\"argv\":[\"echo a\"],"
		"\"shell\":true,\"foreground\":true,\"timeout_ms\":50}"),
	    0);
	assert_string_equal(fake.argv0, "/bin/sh");
	assert_int_equal(fake.order.argc, 3);
	assert_int_equal(fake.order.seq, 7);
	assert_int_equal(fake.order.epoch, 9);
	assert_int_equal(fake.order.timeout, 50);
	assert_false(fake.order.input);
	assert_false(fake.order.keep_lingering);
	assert_string_equal(fake.order.user, "worker");
	assert_non_null(strstr(fake.env, "HOME=/srv;"));
	assert_non_null(strstr(fake.env, "MUSTER_COMMAND_ID=c1;"));
	/* Nothing to say before it runs. */
	drain(w, &w->e, 512);
	said_no_more(w);
}

static void
test_life(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	drain(w, &w->e, 1024);
	assert_true(has(said(w, EXECFRAME_STARTED).data, "\"pid\":4711"));
	struct execframe f = said(w, EXECFRAME_STDIN_ACK);
	assert_int_equal(f.offset, 0);
	assert_int_equal(f.limit, COMMAND_INPUT);
	said_no_more(w);
	assert_int_equal(r->more, 1);
	grow(r, "hello");
	assert_int_equal(w->e.strand.turn.class, TURN_BULK);
	finish(r, "exited", 3);
	drain(w, &w->e, 1024);
	f = said(w, EXECFRAME_STDOUT);
	assert_int_equal(f.offset, 0);
	assert_slice(f.data, SL("hello"));
	f = said(w, EXECFRAME_EXIT);
	assert_true(has(f.data, "\"exit_code\":3"));
	assert_true(has(f.data, "\"out\":5"));
	said_no_more(w);
	assert_false(exec_done(&w->e));
	assert_int_equal(tell(&w->e,
			     (struct execframe){ .type = EXECFRAME_ACK,
				 .stream = EXECFRAME_OUT,
				 .offset = 5 }),
	    0);
	assert_int_equal(r->acked, 5);
	assert_int_equal(
	    tell(&w->e, (struct execframe){ .type = EXECFRAME_DONE }), 0);
	assert_int_equal(r->forgets, 1);
	assert_true(exec_done(&w->e));
	assert_null(commands_find(&w->commands, SL("c1")));
}

/* Any window, however small, lets it through in the same order. */
/* Output that is not in memory: the stream waits until it is. */
static void
test_cold_output(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	drain(w, &w->e, 1000);
	(void)said(w, EXECFRAME_STARTED);
	(void)said(w, EXECFRAME_STDIN_ACK);
	r->cold = true;
	grow(r, "late");
	drain(w, &w->e, 1000);
	assert_int_equal(w->e.strand.turn.class, TURN_IDLE);
	fake.ops->fetched(fake.arg, r);
	assert_int_equal(w->e.strand.turn.class, TURN_BULK);
	drain(w, &w->e, 1000);
	assert_slice(said(w, EXECFRAME_STDOUT).data, SL("late"));
}

static void
test_small_windows(void **state)
{
	struct world *w = *state;
	struct run *r;
	char text[200], got[200];
	size_t n = 0;

	begin(w, &r);
	memset(text, 'x', sizeof(text));
	text[199] = '\0';
	grow(r, text);
	finish(r, "exited", 0);
	drain(w, &w->e, 1);
	(void)said(w, EXECFRAME_STARTED);
	while (n < 199) {
		struct execframe f = said(w, EXECFRAME_STDOUT);
		assert_int_equal(f.offset, n);
		memcpy(got + n, f.data.ptr, f.data.len);
		n += f.data.len;
	}
	assert_memory_equal(got, text, 199);
	(void)said(w, EXECFRAME_EXIT);
}

static void
test_refusals(void **state)
{
	static const struct {
		const char *json, *code;
		int start_err;
	} rows[] = {
		{ "{\"id\":\"c\",\"seq\":1,\"argv\":[\"rm\",\"x\"]}",
		    "\"NOT_PERMITTED\"", 0 },
		{ "{\"id\":\"c\",\"seq\":1,\"argv\":[\"ls\"]}",
		    "\"UNKNOWN_OUTCOME\"", ERR_DENIED },
		{ "{\"id\":\"c\",\"seq\":1,\"argv\":[\"ls\"]}",
		    "\"QUEUE_FULL\"", ERR_FULL },
		{ "{\"id\":\"c\",\"seq\":1,\"argv\":[\"ls\"]}",
		    "\"EXEC_FAILED\"", ERR_NOT_FOUND },
		{ "{\"id\":\"c\",\"seq\":1,\"argv\":[\"ls\"]}",
		    "\"AGENT_STOPPED\"", ERR_STOPPED },
		{ "{\"id\":\"c\",\"argv\":[]}", "\"INVALID_REQUEST\"", 0 },
		{ "{\"id\":\"c\",\"argv\":[\"a\"],\"argv\":[\"b\"]}",
		    "\"INVALID_REQUEST\"", 0 },
		{ "{\"id\":\"c\",\"argv\":[\"a\"],\"env\":{\"A=\":\"\"}}",
		    "\"INVALID_REQUEST\"", 0 },
		{ "nonsense", "\"INVALID_REQUEST\"", 0 },
	};
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct exec e;
		exec_init(&e, &w->home, &w->link, 4);
		fake.start_err = rows[i].start_err;
		assert_int_equal(open_with(&e, rows[i].json), 0);
		drain(w, &e, 512);
		assert_true(has(said(w, EXECFRAME_REFUSED).data, rows[i].code));
		assert_true(exec_done(&e));
		/* What still comes is for nobody. */
		assert_int_equal(
		    tell(&e, (struct execframe){ .type = EXECFRAME_DONE }), 0);
		exec_fini(&e);
	}
	assert_int_equal(fake.count, 0);
}

static void
test_unknown_stream(void **state)
{
	struct world *w = *state;

	assert_int_equal(
	    exec_feed(&w->e, SL("\x02\x05\x00\x02{}")), ERR_UNSUPPORTED);
}

static void
test_attach(void **state)
{
	struct world *w = *state;
	struct exec new;
	struct run *r;

	begin(w, &r);
	grow(r, "0123456789");
	exec_init(&new, &w->home, &w->link, 4);
	assert_int_equal(
	    open_with(
		&new, "{\"id\":\"c1\",\"seq\":7,\"argv\":[\"ls\"],\"out\":6}"),
	    0);
	assert_int_equal(fake.count, 1);
	assert_true(exec_done(&w->e));
	drain(w, &new, 512);
	(void)said(w, EXECFRAME_STARTED);
	struct execframe f = said(w, EXECFRAME_STDOUT);
	assert_int_equal(f.offset, 6);
	assert_slice(f.data, SL("6789"));
	/* The old stream's end is not the new one's. */
	exec_ended(&w->e);
	grow(r, "0123456789a");
	drain(w, &new, 512);
	assert_slice(said(w, EXECFRAME_STDOUT).data, SL("a"));
	exec_fini(&new);
	assert_string_equal(
	    command_state(commands_find(&w->commands, SL("c1"))), "running");
}

static void
test_gap(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	drain(w, &w->e, 512);
	(void)said(w, EXECFRAME_STARTED);
	(void)said(w, EXECFRAME_STDIN_ACK);
	r->pruned = 1;
	grow(r, "0123");
	drain(w, &w->e, 512);
	struct execframe f = said(w, EXECFRAME_GAP);
	assert_int_equal(f.stream, EXECFRAME_OUT);
	assert_int_equal(f.offset, 0);
	assert_int_equal(f.limit, 1);
	f = said(w, EXECFRAME_STDOUT);
	assert_int_equal(f.offset, 1);
	assert_slice(f.data, SL("123"));
}

/* The record promises more than the spool has: power was lost. */
static void
test_torn_spool(void **state)
{
	struct world *w = *state;
	struct run_output o = { .size = { 9, 0 } };
	struct run *r;

	begin(w, &r);
	r->out = "0123";
	fake.ops->output(fake.arg, r, &o);
	drain(w, &w->e, 512);
	(void)said(w, EXECFRAME_STARTED);
	(void)said(w, EXECFRAME_STDIN_ACK);
	assert_slice(said(w, EXECFRAME_STDOUT).data, SL("0123"));
	struct execframe f = said(w, EXECFRAME_GAP);
	assert_int_equal(f.offset, 4);
	assert_int_equal(f.limit, 9);
}

static void
test_expired(void **state)
{
	struct world *w = *state;

	assert_int_equal(open_with(&w->e,
			     "{\"id\":\"c1\",\"seq\":7,\"argv\":[\"ls\"],"
			     "\"remaining_ms\":0}"),
	    0);
	drain(w, &w->e, 512);
	struct slice said_json = said(w, EXECFRAME_REFUSED).data;
	assert_true(slice_starts(said_json, SL("{\"code\":\"EXPIRED\"")));
	assert_int_equal(fake.count, 0);
}

/* Nobody knows it there: DONE comes with the opening, before the end. */
static void
test_disowned(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	exec_fini(&w->e);
	exec_init(&w->e, &w->home, &w->link, 3);
	r->fed_end = 99;
	assert_int_equal(open_with(&w->e, "{\"id\":\"c1\",\"argv\":[]}"), 0);
	assert_int_equal(
	    tell(&w->e, (struct execframe){ .type = EXECFRAME_DONE }), 0);
	assert_true(exec_done(&w->e));
	assert_int_equal(r->forgets, 0);
	/* It waits for no input, and what it still writes is dropped. */
	assert_int_equal(r->fed_end, 0);
	grow(r, "01234");
	assert_int_equal(r->acked, 5);
	finish(r, "exited", 0);
	assert_int_equal(r->forgets, 1);
	assert_null(commands_find(&w->commands, SL("c1")));
}

static int
input(struct world *w, uint64_t at, size_t n)
{
	static uint8_t bytes[EXECFRAME_BULK_MAX];

	return tell(&w->e,
	    (struct execframe){
		.type = EXECFRAME_STDIN, .offset = at, .data = { bytes, n } });
}

static void
test_input(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	drain(w, &w->e, 512);
	for (uint64_t at = 0; at < COMMAND_INPUT; at += EXECFRAME_BULK_MAX)
		assert_int_equal(input(w, at, EXECFRAME_BULK_MAX), 0);
	/* The holder has its window full, the rest waits here. */
	assert_int_equal(r->fed, HOLDER_INPUT_WINDOW);
	assert_int_equal(input(w, COMMAND_INPUT, 1), ERR_FULL);
	assert_int_equal(input(w, COMMAND_INPUT + 5, 1), ERR_RANGE);
	/* Said twice is skipped. */
	assert_int_equal(input(w, 100, 10), 0);
	r->input = (struct run_input){ .received = r->fed, .consumed = r->fed };
	fake.ops->input(fake.arg, r, &r->input);
	assert_int_equal(r->fed, 2 * HOLDER_INPUT_WINDOW);
	execframe_reader_fini(&w->reader);
	execframe_reader_init(&w->reader, EXECFRAME_AGENT);
	drain(w, &w->e, 512);
	struct execframe f = said(w, EXECFRAME_STDIN_ACK);
	assert_int_equal(f.offset, HOLDER_INPUT_WINDOW);
	assert_int_equal(f.limit, HOLDER_INPUT_WINDOW + COMMAND_INPUT);
	/* The end is passed on when all before it was. */
	assert_int_equal(tell(&w->e,
			     (struct execframe){ .type = EXECFRAME_STDIN_EOF,
				 .offset = COMMAND_INPUT }),
	    0);
	assert_int_equal(r->fed_end, 0);
	r->input.received = r->input.consumed = COMMAND_INPUT;
	fake.ops->input(fake.arg, r, &r->input);
	assert_int_equal(r->fed_end, COMMAND_INPUT);
}

static void
test_signal(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	assert_int_equal(
	    tell(&w->e,
		(struct execframe){ .type = EXECFRAME_SIGNAL, .signal = 2 }),
	    0);
	assert_int_equal(r->signal, HOLDER_TERMINATE);
}

/* Done while a process lingers: forgotten when that is gone. */
static void
test_linger(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	r->linger = true;
	finish(r, "exited", 0);
	drain(w, &w->e, 512);
	assert_int_equal(
	    tell(&w->e, (struct execframe){ .type = EXECFRAME_DONE }), 0);
	assert_int_equal(r->forgets, 0);
	assert_non_null(commands_find(&w->commands, SL("c1")));
	r->linger = false;
	fake.ops->gone(fake.arg, r);
	assert_int_equal(r->forgets, 1);
}

static void
test_never_ran(void **state)
{
	struct world *w = *state;
	struct run *r;

	begin(w, &r);
	finish(r, "failed", 0);
	drain(w, &w->e, 512);
	(void)said(w, EXECFRAME_STARTED);
	struct execframe f = said(w, EXECFRAME_EXIT);
	assert_true(has(f.data, "\"code\":\"EXEC_FAILED\""));
	assert_true(has(f.data, "ENOENT"));
}

static void
test_stopped(void **state)
{
	struct world *w = *state;
	struct run *r = &fake.runs[0];

	assert_int_equal(
	    open_with(&w->e, "{\"id\":\"c1\",\"seq\":7,\"argv\":[\"ls\"]}"), 0);
	r->state = RUN_REFUSED;
	fake.ops->refused(fake.arg, r, SL("stopped"), SL(""));
	drain(w, &w->e, 512);
	assert_true(has(said(w, EXECFRAME_REFUSED).data, "\"AGENT_STOPPED\""));
	assert_true(exec_done(&w->e));
	exec_ended(&w->e);
	assert_int_equal(r->forgets, 1);
}

static void
test_rate(void **state)
{
	struct world *w = *state;
	struct command *c;
	struct slice argv = SL("ls");
	char id[] = "c0";

	for (int i = 0; i < 3; i++) {
		struct run_order o = {
			.id = slice_from(id), .argv = &argv, .argc = 1
		};
		id[1]++;
		assert_int_equal(commands_start(&w->commands, &o, 2, 1000, &c),
		    i < 2 ? 0 : ERR_LIMITED);
	}
	struct run_order o = { .id = SL("late"), .argv = &argv, .argc = 1 };
	assert_int_equal(
	    commands_start(&w->commands, &o, 2, 1000 + 30000, &c), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order),
		TEST(test_life),
		TEST(test_small_windows),
		TEST(test_cold_output),
		TEST(test_refusals),
		TEST(test_unknown_stream),
		TEST(test_attach),
		TEST(test_gap),
		TEST(test_torn_spool),
		TEST(test_expired),
		TEST(test_disowned),
		TEST(test_input),
		TEST(test_signal),
		TEST(test_linger),
		TEST(test_never_ran),
		TEST(test_stopped),
		TEST(test_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
