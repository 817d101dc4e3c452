/*
 * No acknowledged thing may ever be missing: random operations and output on
 * a disk that loses power at a random moment, and what is left afterwards
 * against a model.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "store/store.h"

#include "support/lossy.h"
#include "support/lossy_vfs.h"
#include "support/store_kit.h"
#include "support/unit.h"

enum { COMMANDS = 24, BATCH = 6, ABSENT = -1, LIVES = 400 };

/* What was acknowledged, and what was under way when the power failed. */
struct known {
	int state;       /* ABSENT: no such row */
	int maybe;       /* the state a lost batch may have given it */
	uint64_t end[2]; /* durable output, acknowledged */
	uint64_t row[2]; /* what its final row says */
};

static struct lossy disk;
static struct store_config config;
static struct store *s;
static struct store_reader *r;
static struct arena arena;
static struct known known[COMMANDS];
static char ids[COMMANDS][KIT_ID_SIZE];
static uint64_t lines, lines_maybe; /* of the journal */
static uint64_t fence, sequence;
static uint32_t random_state;

static uint32_t
chance(uint32_t below)
{
	random_state = random_state * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(random_state >> 8) * below >> 24);
}

/* The byte at an offset of a stream is always the same. */
static uint8_t
byte_of(size_t command, size_t stream, uint64_t at)
{
	return (uint8_t)((at + 1) * (command * 2 + stream + 3) * 40503 >> 7);
}

static int
open_store(void)
{
	char why[512];
	int err = store_open(&s, &config, why, sizeof(why));

	if (err != 0 && err != ERR_IO && err != ERR_NO_SPACE &&
	    err != ERR_NOMEM && err != ERR_CORRUPT)
		fail_msg("open: %s: %s", err_name(err), why);
	return err;
}

/* Verbs ------------------------------------------------------------------- */

struct plan {
	struct op op;
	struct command_record record;
	size_t command;
	int to;
};

/* Whatever may happen next to a random command. */
static void
plan_op(struct plan *p)
{
	size_t i = p->command = chance(COMMANDS);
	const struct known *k = &known[i];
	struct command_record *c = &p->record;

	*c = kit_command(slice_from(ids[i]), SL("agt_one"));
	c->lease_node = 1;
	c->lease_fence = store_fence(s);
	p->op = (struct op){
		.command = c, .at = 1000, .audit = kit_note("test", c->id)
	};
	if (k->state == ABSENT) {
		p->op.verb = OP_PUT_COMMAND;
		c->state = chance(2) == 0 ? COMMAND_QUEUED : COMMAND_SENT;
	} else if (k->state == COMMAND_QUEUED) {
		p->op.verb = OP_COMMAND_SENT;
		c->state = COMMAND_SENT;
	} else if (k->state == COMMAND_SENT && chance(2) == 0) {
		p->op.verb = OP_COMMAND_RUNS;
		c->state = COMMAND_RUNNING;
	} else if (k->state < COMMAND_COMPLETED) {
		p->op.verb = OP_COMMAND_ENDED;
		c->state = COMMAND_FAILED;
		c->out_bytes = k->end[0];
		c->err_bytes = k->end[1];
	} else {
		p->op.verb = OP_AUDIT;
	}
	if (c->state == COMMAND_SENT)
		c->sequence = ++sequence;
	p->to = p->op.verb == OP_AUDIT ? k->state : (int)c->state;
}

/* False when the power has failed. */
static bool
run_batch(void)
{
	struct plan plans[BATCH];
	const struct op *ops[BATCH];
	int errs[BATCH];
	bool used[COMMANDS] = { false };
	size_t n = 0;

	for (size_t want = 1 + chance(BATCH); n < want;) {
		plan_op(&plans[n]);
		if (used[plans[n].command])
			break;
		used[plans[n].command] = true;
		known[plans[n].command].maybe = plans[n].to;
		ops[n] = &plans[n].op;
		n++;
	}
	lines_maybe = lines + n;
	int err = store_apply(s, ops, n, errs);
	for (size_t i = 0; err == 0 && i < n; i++) {
		struct known *k = &known[plans[i].command];
		/* A fault may hit the output that an end waits for. */
		if (errs[i] != 0) {
			assert_int_equal(plans[i].op.verb, OP_COMMAND_ENDED);
			k->maybe = k->state;
			continue;
		}
		k->state = k->maybe;
		if (plans[i].op.verb == OP_COMMAND_ENDED)
			memcpy(k->row, k->end, sizeof(k->row));
		lines++;
	}
	if (err == 0)
		lines_maybe = lines;
	return err == 0;
}

static bool
run_output(void)
{
	uint8_t bytes[3000];
	size_t touched[8], streams[8], n = 1 + chance(8);
	bool fine = true;

	for (size_t i = 0; i < n; i++) {
		size_t c = touched[i] = chance(COMMANDS);
		size_t stream = streams[i] = chance(2);
		size_t len = 1 + chance(sizeof(bytes));
		uint64_t end = 0;
		if (known[c].state >= COMMAND_COMPLETED)
			continue;
		if (store_output_end(s, slice_from(ids[c]),
			(enum output_stream)(stream + 1), &end) != 0)
			return false;
		for (size_t b = 0; b < len; b++)
			bytes[b] = byte_of(c, stream, end + b);
		fine = fine &&
		    store_output_append(s, slice_from(ids[c]),
			(enum output_stream)(stream + 1), end,
			(struct slice){ bytes, len }) == 0;
	}
	if (chance(4) == 0)
		return fine; /* left for a later sync */
	if (store_output_sync(s) != 0 || !fine)
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t c = touched[i];
		uint64_t end = 0;
		if (store_output_end(s, slice_from(ids[c]),
			(enum output_stream)(streams[i] + 1), &end) != 0)
			return false;
		if (known[c].state < COMMAND_COMPLETED)
			known[c].end[streams[i]] = end;
	}
	return true;
}

/* Afterwards --------------------------------------------------------------- */

static void
check_stream(size_t c, size_t stream)
{
	enum output_stream which = (enum output_stream)(stream + 1);
	static uint8_t got[1 << 16];
	uint64_t end = 0, next = 0;

	assert_int_equal(
	    store_output_end(s, slice_from(ids[c]), which, &end), 0);
	if (end < known[c].end[stream])
		fail_msg("%s.%zu ends at %llu, not %llu", ids[c], stream,
		    (unsigned long long)end,
		    (unsigned long long)known[c].end[stream]);
	for (uint64_t at = 0; at < end;) {
		int64_t n = store_read_output(
		    r, slice_from(ids[c]), which, at, got, sizeof(got), &next);
		if (n <= 0)
			fail_msg("%s.%zu at %llu of %llu: %s", ids[c], stream,
			    (unsigned long long)at, (unsigned long long)end,
			    err_name((int)n));
		for (int64_t i = 0; i < n; i++)
			assert_int_equal(
			    got[i], byte_of(c, stream, at + (uint64_t)i));
		at += (uint64_t)n;
	}
	known[c].end[stream] = end;
}

static void
check_command(size_t c)
{
	struct known *k = &known[c];
	const struct command_record *row;
	int err = store_read_command(r, slice_from(ids[c]), &arena, &row);
	int state = err == ERR_NOT_FOUND ? ABSENT : (int)row->state;

	if (state != k->state && state != k->maybe)
		fail_msg("%s is %d, was acknowledged as %d (or %d)", ids[c],
		    state, k->state, k->maybe);
	if (state >= COMMAND_COMPLETED && k->state < COMMAND_COMPLETED) {
		k->row[0] = row->out_bytes;
		k->row[1] = row->err_bytes;
	}
	k->state = k->maybe = state;
	check_stream(c, 0);
	check_stream(c, 1);
	if (state >= COMMAND_COMPLETED) {
		assert_int_equal(row->out_bytes, k->row[0]);
		assert_true(row->out_bytes <= k->end[0]);
		assert_true(row->err_bytes <= k->end[1]);
	}
}

static void
check_all(void)
{
	struct hub_snapshot snap;
	struct audit_record bad;
	uint64_t n = 0;

	assert_true(store_fence(s) > fence);
	fence = store_fence(s);
	assert_int_equal(store_reader_open(&r, &config), 0);
	assert_int_equal(store_verify_audit(r, &n, &bad, &arena), 0);
	assert_true(n == lines || n == lines_maybe);
	lines = lines_maybe = n;
	for (size_t c = 0; c < COMMANDS; c++)
		check_command(c);
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.agent_count, 1);
	store_reader_close(r);
	arena_reset(&arena);
}

static void
begin_world(void)
{
	struct agent_record a = kit_agent(SL("agt_one"));
	struct op op = { .verb = OP_PUT_AGENT, .agent = &a };
	const struct op *ops[1] = { &op };
	int err;

	lossy_init(&disk);
	lossy_vfs_use(&disk.layer);
	lines = lines_maybe = fence = sequence = 0;
	for (size_t c = 0; c < COMMANDS; c++) {
		kit_id(ids[c], (uint32_t)c);
		known[c] = (struct known){ .state = ABSENT, .maybe = ABSENT };
	}
	assert_int_equal(open_store(), 0);
	assert_int_equal(store_apply(s, ops, 1, &err), 0);
}

/* One life: work until the power fails, or a clean stop. */
static void
live(uint32_t life)
{
	bool on = true;

	lossy_fail(&disk, LOSSY_CHANGES, 1 + chance(120), ERR_IO, true);
	for (int step = 0; on && step < 30; step++) {
		on = chance(3) == 0 ? run_output() : run_batch();
		if (on && chance(10) == 0)
			(void)store_checkpoint(s);
	}
	if (on && chance(4) == 0)
		store_close(s); /* which the power may interrupt too */
	else
		store_abandon(s);
	lossy_crash(&disk, chance(3) == 0 ? 0 : life * 7 + 1);
	/* It may fail again while it starts. */
	if (chance(3) == 0) {
		lossy_fail(&disk, LOSSY_CHANGES, 1 + chance(12), ERR_IO, true);
		if (open_store() == 0)
			store_abandon(s);
		lossy_crash(&disk, life * 13 + 5);
	}
	int err = open_store();
	if (err != 0)
		fail_msg("does not open again: %s", err_name(err));
	check_all();
}

static void
test_nothing_acknowledged_is_lost(void **state)
{
	(void)state;
	config = (struct store_config){ .dir = "data",
		.files = &disk.layer,
		.vfs = LOSSY_VFS,
		.node = 1,
		.segment_size = 6000 };
	arena_init(&arena, 64 << 20);
	for (uint32_t world = 0; world < 8; world++) {
		random_state = world + 1;
		begin_world();
		for (uint32_t life = 0; life < LIVES / 8; life++)
			live(world * 1000 + life);
		store_close(s);
		lossy_fini(&disk);
	}
	arena_fini(&arena);
}

/* The disk is full at every possible moment, and then it is not. */
static void
test_recovers_from_a_full_disk(void **state)
{
	struct user_record u = kit_user(SL("usr_a"));
	struct op op = { .verb = OP_PUT_USER,
		.user = &u,
		.audit = kit_note("user.add", SL("usr_a")) };
	const struct op *ops[1] = { &op };
	struct audit_record bad;
	uint64_t seen, done = 0;
	int err;

	(void)state;
	arena_init(&arena, 64 << 20);
	begin_world();
	for (unsigned long n = 1; n < 30; n++) {
		lossy_fail(&disk, LOSSY_CHANGES, n, ERR_NO_SPACE, false);
		int all = store_apply(s, ops, 1, &err);
		lossy_fail(&disk, 0, 0, 0, false);
		if (all != 0)
			assert_true(all == ERR_NO_SPACE || all == ERR_IO);
		done += all == 0;
		assert_int_equal(store_apply(s, ops, 1, &err), 0);
		assert_int_equal(err, 0);
		done++;
	}
	assert_int_equal(store_reader_open(&r, &config), 0);
	assert_int_equal(store_verify_audit(r, &seen, &bad, &arena), 0);
	assert_int_equal(seen, done);
	store_reader_close(r);
	store_close(s);
	lossy_fini(&disk);
	arena_fini(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_acknowledged_is_lost),
		cmocka_unit_test(test_recovers_from_a_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
