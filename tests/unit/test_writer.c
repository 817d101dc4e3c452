#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "io/clock.h"
#include "store/writer.h"

#include "support/lossy.h"
#include "support/lossy_vfs.h"
#include "support/oom.h"
#include "support/store_kit.h"
#include "support/unit.h"

#define AGENT SL("agt_one")
enum { RESULTS = 40000 };

static struct lossy disk;
static struct store_config config;
static struct store *s;
static struct writer *w;
static int fault;

/* Woken by the writer; counts how often. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t rung;
	unsigned long count;
} bell = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

/* Results in the order they came. */
static struct writer_done *results[RESULTS];
static size_t result_count;

static void
ring(void *owner)
{
	(void)owner;
	pthread_mutex_lock(&bell.lock);
	bell.count++;
	pthread_cond_signal(&bell.rung);
	pthread_mutex_unlock(&bell.lock);
}

static void
take(void)
{
	struct list head;

	writer_take(w, &head);
	for (struct list *l; (l = list_pop(&head)) != NULL;)
		results[result_count++] = LIST_OF(l, struct writer_done, link);
}

static void
forget_results(void)
{
	while (result_count > 0)
		writer_done_free(results[--result_count]);
}

/* Wait until n results have come; no time limit but the runner's. */
static void
await(size_t n)
{
	pthread_mutex_lock(&bell.lock);
	for (;;) {
		unsigned long before = bell.count;
		pthread_mutex_unlock(&bell.lock);
		take();
		if (result_count >= n)
			return;
		pthread_mutex_lock(&bell.lock);
		while (bell.count == before)
			pthread_cond_wait(&bell.rung, &bell.lock);
	}
}

static void
start(void)
{
	char why[512];
	struct writer_config c = { .wake = ring, .output_max = 1 << 20 };

	if (store_open(&s, &config, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	c.store = s;
	assert_int_equal(writer_start(&w, &c), 0);
}

static void
stop(void)
{
	forget_results();
	writer_stop(w);
	store_close(s);
}

static int
setup(void **state)
{
	(void)state;
	lossy_init(&disk);
	lossy_vfs_use(&disk.layer);
	fault = 0;
	config = (struct store_config){
		.dir = "data", .files = &disk.layer, .vfs = LOSSY_VFS, .node = 1
	};
	start();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	stop();
	lossy_fini(&disk);
	return 0;
}

static uint64_t numbers;

static void
hand_in(struct op op)
{
	const struct op *ops[1] = { &op };

	op.number = ++numbers;
	assert_int_equal(writer_ops(w, ops, 1), 0);
}

/* And wait for what came of it. */
static int
perform(struct op op)
{
	size_t before = result_count;

	hand_in(op);
	await(before + 1);
	assert_int_equal(results[before]->number, numbers);
	return results[before]->err;
}

static void
put_agent(void)
{
	struct agent_record a = kit_agent(AGENT);

	assert_int_equal(
	    perform((struct op){ .verb = OP_PUT_AGENT, .agent = &a }), 0);
}

static struct writer_stats
stats(void)
{
	struct writer_stats out;

	writer_stats_get(w, &out);
	return out;
}

/* The controller's half of the budget: `true` on an idle agent. */
static void
test_true_costs_two_syncs(void **state)
{
	char id[KIT_ID_SIZE];

	(void)state;
	put_agent();
	for (uint32_t i = 0; i < 20; i++) {
		unsigned long before = disk.syncs + disk.dir_syncs;
		struct writer_stats was = stats();
		kit_id(id, i);
		struct command_record c = kit_command(slice_from(id), AGENT);
		c.state = COMMAND_SENT;
		c.sequence = i + 1;
		c.lease_fence = store_fence(s);
		c.lease_node = 1;
		assert_int_equal(perform((struct op){ .verb = OP_PUT_COMMAND,
				     .command = &c,
				     .audit = kit_note("command.run", c.id) }),
		    0);
		/* Together, as after one turn of the hub. */
		struct command_record end = c;
		end.state = COMMAND_COMPLETED;
		struct op last[2] = { { .verb = OP_COMMAND_RUNS,
					  .command = &c,
					  .lazy = true },
			{ .verb = OP_COMMAND_ENDED,
			    .command = &end,
			    .audit = kit_note("command.end", c.id) } };
		const struct op *both[2] = { &last[0], &last[1] };
		assert_int_equal(writer_ops(w, both, 2), 0);
		await(result_count + 2);
		assert_int_equal(results[result_count - 1]->err, 0);
		assert_int_equal(results[result_count - 2]->err, 0);
		assert_int_equal(stats().commits - was.commits, 2);
		assert_int_equal(stats().fsyncs - was.fsyncs, 2);
		assert_int_equal(disk.syncs + disk.dir_syncs - before, 2);
	}
}

/* What is counted is what was done, through checkpoints too. */
static void
test_counts_are_true(void **state)
{
	struct user_record u = kit_user(SL("usr_a"));
	static char big[20000];

	(void)state;
	u.selector = (struct slice){ (const uint8_t *)big, sizeof(big) };
	assert_int_equal(
	    perform((struct op){ .verb = OP_PUT_USER, .user = &u }), 0);
	writer_stop(w);
	forget_results();
	struct store_counts was, is;
	store_counts(s, &was);
	unsigned long before = disk.syncs + disk.dir_syncs;
	for (int i = 0; i < 900; i++) {
		struct op op = { .verb = OP_PUT_USER, .user = &u };
		const struct op *ops[1] = { &op };
		int err;
		memset(big, 'a' + i % 26, sizeof(big));
		assert_int_equal(store_apply(s, ops, 1, &err), 0);
		assert_int_equal(store_checkpoint(s), 0);
	}
	store_counts(s, &is);
	assert_int_equal(is.commits - was.commits, 900);
	assert_int_equal(
	    is.syncs - was.syncs, disk.syncs + disk.dir_syncs - before);
	assert_true(is.syncs - was.syncs > 900); /* it did checkpoint */
	struct writer_config c = { .store = s, .wake = ring };
	assert_int_equal(writer_start(&w, &c), 0);
}

static void
test_order_and_errors(void **state)
{
	struct user_record u = kit_user(SL("usr_a"));
	struct token_record t = kit_token(SL("tok_a"), 1),
			    t2 = kit_token(SL("tok_b"), 1);
	struct op ops[] = {
		{ .verb = OP_PUT_USER, .number = 11, .user = &u },
		{ .verb = OP_PUT_TOKEN, .number = 12, .token = &t },
		{ .verb = OP_PUT_TOKEN, .number = 13, .token = &t2 },
		{ .verb = OP_PUT_META,
		    .number = 14,
		    .meta = { SL("k"), SL("v") } },
	};
	const struct op *list[] = { &ops[0], &ops[1], &ops[2], &ops[3] };

	(void)state;
	assert_int_equal(writer_ops(w, list, 4), 0);
	/* Ours no more: what was handed in is a copy. */
	memset(ops, 0x55, sizeof(ops));
	memset(&u, 0x55, sizeof(u));
	await(4);
	const int want[] = { 0, 0, ERR_EXISTS, 0 };
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(results[i]->number, 11 + i);
		assert_int_equal(results[i]->err, want[i]);
	}
	assert_int_equal(stats().commits, 2); /* the start's, and this */
}

static void
test_lazy_waits_for_company(void **state)
{
	struct agent_record a = kit_agent(AGENT);
	struct op seen = { .verb = OP_AGENT_SEEN, .agent = &a, .lazy = true };

	(void)state;
	put_agent();
	uint64_t commits = stats().commits;
	const struct op *many[100];
	for (int i = 0; i < 100; i++)
		many[i] = &seen;
	assert_int_equal(writer_ops(w, many, 100), 0);
	struct user_record u = kit_user(SL("usr_a"));
	hand_in((struct op){ .verb = OP_PUT_USER, .user = &u });
	await(1 + 101);
	assert_int_equal(stats().commits, commits + 1);
	/* Alone, it goes when its second is over. */
	msec from = clock_mono();
	assert_int_equal(perform(seen), 0);
	assert_true(clock_mono() - from >= 900);
}

static int
output(const char *id, uint64_t from, size_t n, void *tag)
{
	static uint8_t bytes[1 << 20];

	memset(bytes, 'x', n);
	return writer_output(w, slice_from(id), OUTPUT_OUT, from,
	    (struct slice){ bytes, n }, tag);
}

static void
test_output_is_durable(void **state)
{
	char id[KIT_ID_SIZE];
	int tag = 0;

	(void)state;
	kit_id(id, 1);
	assert_int_equal(output(id, 0, 1000, &tag), 0);
	assert_int_equal(output(id, 1000, 500, &tag), 0);
	assert_int_equal(output(id, 9000, 10, &tag), 0); /* a hole */
	assert_int_equal(
	    writer_output_end(w, slice_from(id), OUTPUT_OUT, &tag), 0);
	assert_int_equal(
	    writer_output_gap(w, slice_from(id), OUTPUT_OUT, 1500, 2000, &tag),
	    0);
	await(5);
	const int want[] = { 0, 0, ERR_RANGE, 0, 0 };
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(results[i]->err, want[i]);
		assert_slice(results[i]->command_id, slice_from(id));
		assert_int_equal(results[i]->stream, OUTPUT_OUT);
		assert_ptr_equal(results[i]->tag, &tag);
		assert_int_equal(results[i]->number, 0);
		assert_true(results[i]->durable >= 1000);
	}
	assert_int_equal(results[4]->durable, 2000);
	/* The power fails: what was reported is there. */
	forget_results();
	writer_stop(w);
	store_abandon(s);
	lossy_crash(&disk, 0);
	start();
	assert_int_equal(
	    writer_output_end(w, slice_from(id), OUTPUT_OUT, NULL), 0);
	await(1);
	assert_int_equal(results[0]->durable, 2000);
}

static void
test_failed_sync_is_told(void **state)
{
	char id[KIT_ID_SIZE];

	(void)state;
	kit_id(id, 1);
	assert_int_equal(output(id, 0, 1000, NULL), 0);
	await(1);
	lossy_fail(&disk, LOSSY_SYNC, 1, ERR_IO, false);
	assert_int_equal(output(id, 1000, 1000, NULL), 0);
	await(2);
	assert_int_equal(results[1]->err, ERR_IO);
	assert_int_equal(results[1]->durable, 1000);
	assert_int_equal(output(id, 1000, 1000, NULL), 0);
	await(3);
	assert_int_equal(results[2]->err, 0);
	assert_int_equal(results[2]->durable, 2000);
}

/* The end of a command takes its output along, whatever else waits. */
static void
test_end_follows_its_output(void **state)
{
	char id[KIT_ID_SIZE], other[KIT_ID_SIZE];

	(void)state;
	put_agent();
	for (uint32_t round = 0; round < 20; round++) {
		forget_results();
		kit_id(id, round);
		kit_id(other, 1000 + round);
		struct command_record c = kit_command(slice_from(id), AGENT);
		assert_int_equal(perform((struct op){
				     .verb = OP_PUT_COMMAND, .command = &c }),
		    0);
		assert_int_equal(output(other, 0, 600000, NULL), 0);
		for (uint64_t i = 0; i < 300; i++)
			assert_int_equal(output(id, i * 1000, 1000, NULL), 0);
		c.state = COMMAND_COMPLETED;
		c.out_bytes = 300000;
		hand_in((struct op){ .verb = OP_COMMAND_ENDED, .command = &c });
		await(1 + 1 + 300 + 1);
		for (size_t i = 0; i < result_count; i++)
			assert_int_equal(results[i]->err, 0);
	}
}

static void
test_ops_pass_bulk(void **state)
{
	enum { FLOWS = 16, PIECES = 60, SIZE = 64 * 1024 };
	struct user_record u = kit_user(SL("usr_a"));
	char id[KIT_ID_SIZE];
	uint64_t bytes = 0;

	(void)state;
	writer_stop(w);
	struct writer_config c = {
		.store = s, .wake = ring, .output_max = 64 << 20
	};
	assert_int_equal(writer_start(&w, &c), 0);
	for (uint64_t p = 0; p < PIECES; p++) {
		for (uint32_t f = 0; f < FLOWS; f++) {
			kit_id(id, f);
			assert_int_equal(output(id, p * SIZE, SIZE, NULL), 0);
		}
	}
	uint64_t waiting = stats().waiting_bytes;
	hand_in((struct op){ .verb = OP_PUT_USER, .user = &u });
	await(FLOWS * PIECES + 1);
	size_t at = 0;
	while (results[at]->number == 0)
		at++;
	for (size_t i = at + 1; i < result_count; i++)
		bytes += SIZE;
	/* At most one turn under way and one more were before it. */
	assert_true(bytes + (12 << 20) >= waiting);
	/* And of one command everything came in its order. */
	uint64_t last = 0;
	for (size_t i = 0; i < result_count; i++) {
		assert_int_equal(results[i]->err, 0);
		if (results[i]->number == 0 &&
		    slice_eq(results[i]->command_id, slice_from(id))) {
			assert_true(results[i]->durable >= last);
			last = results[i]->durable;
		}
	}
	assert_int_equal(last, PIECES * SIZE);
}

static void
test_full(void **state)
{
	char id[KIT_ID_SIZE];
	uint64_t at = 0;
	size_t n = 0;

	(void)state;
	kit_id(id, 1);
	/* 1 MiB may wait; the writer takes some meanwhile. */
	while (n < RESULTS && output(id, at, 300000, NULL) == 0) {
		at += 300000;
		n++;
	}
	await(n);
	assert_int_equal(stats().waiting_bytes, 0);
	assert_int_equal(output(id, at, 300000, NULL), 0);
	await(n + 1);
	assert_int_equal(results[n]->durable, at + 300000);
}

static void
test_failing_commits(void **state)
{
	struct user_record u = kit_user(SL("usr_a"));
	struct op op = { .verb = OP_PUT_USER, .user = &u };

	(void)state;
	lossy_fail(&disk, LOSSY_WRITE, 1, ERR_NO_SPACE, false);
	assert_int_equal(perform(op), ERR_NO_SPACE);
	assert_int_equal(stats().failed, 1);
	assert_int_equal(perform(op), 0);
}

static void
test_stop_writes_all(void **state)
{
	struct arena arena;
	struct hub_snapshot snap;
	char name[16];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "usr_%d", i);
		struct user_record u = kit_user(slice_from(name));
		hand_in((struct op){
		    .verb = OP_PUT_USER, .user = &u, .lazy = i % 2 == 0 });
	}
	writer_stop(w);
	arena_init(&arena, 64 << 20);
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.user_count, 5000);
	arena_fini(&arena);
	struct writer_config c = { .store = s, .wake = ring };
	assert_int_equal(writer_start(&w, &c), 0);
}

/* Several threads at once: lanes hand in output, the hub operations. */
static void *
hammer(void *arg)
{
	uint32_t n = *(uint32_t *)arg;
	char id[KIT_ID_SIZE], name[16];

	kit_id(id, n);
	snprintf(name, sizeof(name), "usr_%u", n);
	struct user_record u = kit_user(slice_from(name));
	struct op op = { .verb = OP_PUT_USER, .user = &u };
	const struct op *ops[1] = { &op };
	for (uint64_t i = 0; i < 500; i++) {
		while (writer_output(w, slice_from(id), OUTPUT_ERR, i * 10,
			   SL("0123456789"), NULL) == ERR_FULL)
			;
		op.number = n * 1000 + i + 1;
		writer_ops(w, ops, 1);
	}
	return NULL;
}

static void
test_threads(void **state)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	uint32_t n[THREADS];
	uint64_t last[THREADS] = { 0 };

	(void)state;
	for (uint32_t i = 0; i < THREADS; i++) {
		n[i] = i;
		assert_int_equal(
		    pthread_create(&threads[i], NULL, hammer, &n[i]), 0);
	}
	await(THREADS * 1000);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < result_count; i++) {
		assert_int_equal(results[i]->err, 0);
		if (results[i]->number == 0)
			continue;
		/* Each thread's in its order. */
		uint64_t thread = (results[i]->number - 1) / 1000;
		assert_true(results[i]->number > last[thread]);
		last[thread] = results[i]->number;
	}
	assert_true(bell.count > 0);
}

static void
hand_in_without_memory(void *arg)
{
	struct command_record c = kit_command(SL("cmd_x"), AGENT);
	struct op op = { .verb = OP_PUT_COMMAND,
		.command = &c,
		.audit = kit_note("command.run", c.id) };
	struct op meta = { .verb = OP_PUT_META, .meta = { SL("k"), SL("v") } };
	const struct op *ops[] = { &op, &meta };
	size_t *handed = arg;

	int err = writer_ops(w, ops, 2);
	assert_true(err == 0 || err == ERR_NOMEM);
	*handed += err == 0 ? 2 : 0;
	err = writer_output(
	    w, SL("cmd_aaaaaaaaaaaaaaaaaaaa"), OUTPUT_OUT, 0, SL("x"), NULL);
	assert_true(err == 0 || err == ERR_NOMEM);
	*handed += err == 0;
}

static void
test_no_memory(void **state)
{
	size_t handed = 0;

	(void)state;
	put_agent();
	forget_results();
	oom_torture(hand_in_without_memory, &handed);
	await(handed);
	assert_int_equal(result_count, handed);
}

int
main(void)
{
#define WRITER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WRITER_TEST(test_true_costs_two_syncs),
		WRITER_TEST(test_counts_are_true),
		WRITER_TEST(test_order_and_errors),
		WRITER_TEST(test_lazy_waits_for_company),
		WRITER_TEST(test_output_is_durable),
		WRITER_TEST(test_failed_sync_is_told),
		WRITER_TEST(test_end_follows_its_output),
		WRITER_TEST(test_ops_pass_bulk),
		WRITER_TEST(test_full),
		WRITER_TEST(test_failing_commits),
		WRITER_TEST(test_stop_writes_all),
		WRITER_TEST(test_threads),
		WRITER_TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
