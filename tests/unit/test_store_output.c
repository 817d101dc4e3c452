/* Segments and their readers, on a disk that forgets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "store/segments.h"
#include "store/store.h"

#include "support/lossy.h"
#include "support/lossy_vfs.h"
#include "support/store_kit.h"
#include "support/unit.h"

#define AGENT SL("agt_one")

static struct lossy disk;
static struct store_config config;
static struct store *s;
static struct store_reader *r;
static struct arena arena;
static char id[KIT_ID_SIZE];
static uint8_t text[1 << 20]; /* what the command says */

static void
open_store(void)
{
	char why[512];
	int err = store_open(&s, &config, why, sizeof(why));

	if (err != 0)
		fail_msg("%s: %s", err_name(err), why);
	assert_int_equal(store_reader_open(&r, &config), 0);
}

static void
close_store(void)
{
	store_reader_close(r);
	store_close(s);
}

/* The power fails. */
static void
crash(uint32_t seed)
{
	store_reader_close(r);
	store_abandon(s);
	lossy_crash(&disk, seed);
}

static int
setup(void **state)
{
	(void)state;
	lossy_init(&disk);
	lossy_vfs_use(&disk.layer);
	config = (struct store_config){ .dir = "data",
		.files = &disk.layer,
		.vfs = LOSSY_VFS,
		.node = 1,
		.segment_size = 4096 };
	arena_init(&arena, 16 << 20);
	kit_id(id, 77);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 2654435761U >> 13);
	open_store();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	close_store();
	arena_fini(&arena);
	lossy_fini(&disk);
	return 0;
}

static int
append(uint64_t from, uint64_t to)
{
	return store_output_append(s, slice_from(id), OUTPUT_OUT, from,
	    (struct slice){ text + from, (size_t)(to - from) });
}

static uint64_t
end(void)
{
	uint64_t out = 0;

	assert_int_equal(
	    store_output_end(s, slice_from(id), OUTPUT_OUT, &out), 0);
	return out;
}

/* Everything in [from, to) reads back, in steps. */
static void
expect(uint64_t from, uint64_t to, size_t step)
{
	static uint8_t got[1 << 20];
	uint64_t next;

	for (uint64_t at = from; at < to;) {
		int64_t n = store_read_output(
		    r, slice_from(id), OUTPUT_OUT, at, got, step, &next);
		if (n <= 0)
			fail_msg("at %llu: %s", (unsigned long long)at,
			    err_name((int)n));
		if (n > (int64_t)(to - at))
			n = (int64_t)(to - at);
		assert_memory_equal(got, text + at, (size_t)n);
		at += (uint64_t)n;
	}
}

static int64_t
read_at(uint64_t at, uint64_t *next)
{
	uint8_t got[16];

	return store_read_output(
	    r, slice_from(id), OUTPUT_OUT, at, got, sizeof(got), next);
}

static void
put_command(void)
{
	struct agent_record a = kit_agent(AGENT);
	struct command_record c = kit_command(slice_from(id), AGENT);
	struct op put = { .verb = OP_PUT_AGENT, .agent = &a },
		  new = { .verb = OP_PUT_COMMAND, .command = &c };
	const struct op *ops[2] = { &put, &new };
	int errs[2];

	assert_int_equal(store_apply(s, ops, 2, errs), 0);
	assert_int_equal(errs[0], 0);
	assert_int_equal(errs[1], 0);
}

static int
end_command(uint64_t bytes)
{
	struct command_record c = kit_command(slice_from(id), AGENT);
	struct op op = { .verb = OP_COMMAND_ENDED, .command = &c };
	const struct op *ops[1] = { &op };
	int err = 0;

	c.state = COMMAND_COMPLETED;
	c.out_bytes = bytes;
	c.finished_at = 5000;
	int all = store_apply(s, ops, 1, &err);
	return all != 0 ? all : err;
}

static void
test_appends_and_reads(void **state)
{
	uint64_t next;

	(void)state;
	assert_int_equal(end(), 0);
	assert_int_equal(read_at(0, &next), ERR_NOT_FOUND);
	put_command();
	assert_int_equal(read_at(0, &next), 0);
	assert_int_equal(append(0, 10), 0);
	assert_int_equal(append(0, 10), 0); /* again: nothing new */
	assert_int_equal(append(5, 20), 0); /* overlaps */
	assert_int_equal(append(21, 30), ERR_RANGE);
	assert_int_equal(append(20, 20), 0);
	assert_int_equal(end(), 20);
	expect(0, 20, 3);
	assert_int_equal(read_at(20, &next), 0);
	assert_int_equal(read_at(21, &next), ERR_RANGE);
	assert_int_equal(append(20, 100000), 0); /* over many segments */
	expect(0, 100000, 1000);
	expect(99990, 100000, 100);
	expect(7, 50000, 70000);
	expect(4000, 4100, 1); /* a border, byte by byte, and backwards */
	assert_int_equal(store_output_sync(s), 0);
	/* A reader at the end sees what is added. */
	assert_int_equal(read_at(100000, &next), 0);
	assert_int_equal(append(100000, 100010), 0);
	expect(100000, 100010, 16);
}

static void
test_ids_are_no_paths(void **state)
{
	static const char *const bad[] = { "", "cmd_", "../../etc/passwd",
		"cmd_aaaaaaaaaaaaaaaaaaa/", "cmd_aaaaaaaaaaaaaaaaaaaaa",
		"CMD_aaaaaaaaaaaaaaaaaaaa", "cmd_aaaaaaaaaaaaaaaaaaa1",
		"_aaaaaaaaaaaaaaaaaaaa", "cmd_../aaaaaaaaaaaaaaaaa" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(store_output_append(s, slice_from(bad[i]),
				     OUTPUT_OUT, 0, SL("x")),
		    ERR_INVALID);
	assert_int_equal(disk.used > 0, 1);
}

static void
test_power_cut(void **state)
{
	(void)state;
	put_command();
	for (uint32_t seed = 0; seed < 60; seed++) {
		uint64_t from = end();
		assert_int_equal(append(from, from + 700 + seed), 0);
		assert_int_equal(store_output_sync(s), 0);
		uint64_t safe = end();
		assert_int_equal(append(safe, safe + 5000), 0);
		crash(seed);
		open_store();
		assert_true(end() >= safe);
		expect(0, end(), 4096);
	}
}

/* After a restart, what is there must not be called durable before it is. */
static void
test_restart_then_power_cut(void **state)
{
	(void)state;
	put_command();
	assert_int_equal(append(0, 3000), 0);
	/* The process dies, the machine goes on. */
	store_reader_close(r);
	store_abandon(s);
	open_store();
	assert_int_equal(end(), 3000);
	assert_int_equal(end_command(3000), 0);
	crash(0);
	open_store();
	assert_int_equal(end(), 3000);
	expect(0, 3000, 100);
}

static void
test_end_waits_for_output(void **state)
{
	(void)state;
	put_command();
	assert_int_equal(append(0, 3000), 0);
	assert_int_equal(end_command(3001), ERR_RANGE);
	assert_int_equal(end_command(3000), 0);
	crash(0);
	open_store();
	assert_int_equal(end(), 3000);
}

static void
test_failed_sync(void **state)
{
	(void)state;
	put_command();
	assert_int_equal(append(0, 1000), 0);
	assert_int_equal(store_output_sync(s), 0);
	assert_int_equal(append(1000, 2500), 0);
	lossy_fail(&disk, LOSSY_SYNC, 1, ERR_IO, false);
	assert_int_equal(store_output_sync(s), ERR_IO);
	/* Nothing after the last good sync is believed any more. */
	assert_int_equal(end(), 1000);
	assert_int_equal(append(2500, 2600), ERR_RANGE);
	assert_int_equal(append(1000, 2500), 0);
	assert_int_equal(store_output_sync(s), 0);
	crash(0);
	open_store();
	assert_int_equal(end(), 2500);
	expect(0, 2500, 99);
}

/* Every call fails once; what was synced stays. */
static void
test_every_fault(void **state)
{
	(void)state;
	put_command();
	for (unsigned long n = 1; n < 40; n++) {
		uint64_t safe = end();
		int err = store_output_sync(s);
		assert_int_equal(err, 0);
		lossy_fail(&disk, LOSSY_CHANGES, n,
		    n % 2 ? ERR_IO : ERR_NO_SPACE, false);
		err = append(safe, safe + 9000);
		if (err == 0)
			err = store_output_sync(s);
		uint64_t kept = err == 0 ? safe + 9000 : safe;
		lossy_fail(&disk, 0, 0, 0, false);
		crash((uint32_t)n);
		open_store();
		assert_true(end() >= kept);
		expect(0, end(), 5000);
	}
}

static void
test_disk_full_and_again(void **state)
{
	(void)state;
	put_command();
	assert_int_equal(append(0, 5000), 0);
	assert_int_equal(store_output_sync(s), 0);
	uint64_t total = disk.total;
	disk.total = disk.used + 6000;
	assert_int_equal(append(5000, 50000), ERR_NO_SPACE);
	uint64_t some = end();
	assert_true(some >= 5000 && some < 50000);
	expect(0, some, 512);
	disk.total = total;
	assert_int_equal(append(some, 50000), 0);
	assert_int_equal(store_output_sync(s), 0);
	expect(0, 50000, 512);
}

static void
test_gaps(void **state)
{
	uint64_t next = 0;

	(void)state;
	put_command();
	/* One at the very start, one in the middle, one at the end. */
	assert_int_equal(
	    store_output_gap(s, slice_from(id), OUTPUT_OUT, 0, 100), 0);
	assert_int_equal(end(), 100);
	assert_int_equal(append(100, 5000), 0);
	assert_int_equal(
	    store_output_gap(s, slice_from(id), OUTPUT_OUT, 5001, 6000),
	    ERR_RANGE);
	assert_int_equal(
	    store_output_gap(s, slice_from(id), OUTPUT_OUT, 5000, 6000), 0);
	assert_int_equal(append(6000, 6100), 0);
	assert_int_equal(
	    store_output_gap(s, slice_from(id), OUTPUT_OUT, 6100, 7000), 0);
	assert_int_equal(store_output_sync(s), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(end(), 7000);
		assert_int_equal(read_at(0, &next), ERR_MISSING);
		assert_int_equal(next, 100);
		assert_int_equal(read_at(99, &next), ERR_MISSING);
		expect(100, 5000, 777);
		assert_int_equal(read_at(5000, &next), ERR_MISSING);
		assert_int_equal(next, 6000);
		expect(6000, 6100, 7);
		assert_int_equal(read_at(6100, &next), ERR_MISSING);
		assert_int_equal(next, 7000);
		assert_int_equal(read_at(7000, &next), 0);
		crash(0);
		open_store();
	}
}

static void
test_old_segments_go(void **state)
{
	uint64_t next = 0;
	struct store_counts counts;

	(void)state;
	close_store();
	config.output_max = 20000;
	open_store();
	put_command();
	for (uint64_t at = 0; at < 100000; at += 1000)
		assert_int_equal(append(at, at + 1000), 0);
	assert_int_equal(store_output_sync(s), 0);
	store_counts(s, &counts);
	assert_true(counts.output_bytes <= 20000 + 4096);
	assert_int_equal(read_at(0, &next), ERR_GONE);
	assert_true(next >= 100000 - 20000 && next < 100000);
	expect(next, 100000, 900);
	crash(3);
	open_store();
	assert_int_equal(end(), 100000);
	store_counts(s, &counts);
	assert_true(counts.output_bytes <= 20000 + 4096);
}

/* Append until not one byte more is taken. */
static void
fill(void)
{
	int err = append(end(), 9000);

	while (err == 0)
		err = append(end(), end() + 1);
	assert_int_equal(err, ERR_NO_SPACE);
}

static void
test_total_cap(void **state)
{
	char other[KIT_ID_SIZE];
	struct command_record c;
	struct op op = { .verb = OP_PUT_COMMAND, .command = &c };
	const struct op *ops[1] = { &op };
	bool more;
	int err;

	(void)state;
	close_store();
	config.total_max = 10000;
	open_store();
	put_command();
	assert_int_equal(append(0, 11000), ERR_NO_SPACE);
	fill();
	kit_id(other, 78);
	c = kit_command(slice_from(other), AGENT);
	assert_int_equal(store_apply(s, ops, 1, &err), 0);
	assert_int_equal(err, ERR_LIMITED);
	/* Known again after any stop, and over when retention made room. */
	crash(0);
	open_store();
	fill();
	assert_int_equal(end_command(end()), 0);
	close_store();
	open_store();
	assert_int_equal(store_apply(s, ops, 1, &err), 0);
	assert_int_equal(err, ERR_LIMITED);
	assert_int_equal(store_prune(s, 5001, 0, 9000, &more), 0);
	assert_int_equal(store_apply(s, ops, 1, &err), 0);
	assert_int_equal(err, 0);
}

static void
test_retention(void **state)
{
	uint64_t next = 0, lines;
	struct audit_record bad;
	bool more;

	(void)state;
	put_command();
	assert_int_equal(append(0, 9900), 0);
	assert_int_equal(store_prune(s, INT64_MAX, 0, 9000, &more), 0);
	expect(0, 9900, 1000); /* it still runs */
	assert_int_equal(end_command(9900), 0);
	assert_int_equal(store_prune(s, 5000, 0, 9000, &more), 0);
	expect(0, 9900, 1000); /* too young */
	assert_int_equal(store_prune(s, 5001, 0, 9000, &more), 0);
	assert_int_equal(read_at(0, &next), ERR_GONE);
	assert_int_equal(next, 9900);
	assert_int_equal(read_at(9900, &next), 0);
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 1); /* "output.prune" */
	assert_int_equal(store_prune(s, 5001, 0, 9000, &more), 0);
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 1);
}

static void
test_damage_shows(void **state)
{
	char path[SEGMENT_PATH];
	struct file f;
	uint64_t next = 0;

	(void)state;
	put_command();
	assert_int_equal(append(0, 9900), 0);
	assert_int_equal(end_command(9900), 0);
	assert_int_equal(
	    segment_path("data", slice_from(id), OUTPUT_OUT, 0, path), 0);
	assert_int_equal(file_open(&disk.layer, path, FILE_WRITE, 0, &f), 0);
	assert_int_equal(file_write(&f, 100, SL("~")), 0);
	file_close(&f);
	assert_int_equal(read_at(0, &next), ERR_CORRUPT);
	assert_int_equal(file_open(&disk.layer, path, FILE_WRITE, 0, &f), 0);
	assert_int_equal(file_write(&f, 0, SL("MSEG\0\0\0\2")), 0);
	file_close(&f);
	assert_int_equal(read_at(0, &next), ERR_NEWER);
}

/* More commands at once than may be open. */
static void
test_many_commands(void **state)
{
	enum { MANY = 300 };
	uint64_t out;

	(void)state;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < MANY; i++) {
			kit_id(id, i);
			assert_int_equal(
			    append(round * 50, round * 50 + 50), 0);
		}
		assert_int_equal(store_output_sync(s), 0);
	}
	crash(0);
	open_store();
	for (uint32_t i = 0; i < MANY; i++) {
		kit_id(id, i);
		assert_int_equal(
		    store_output_end(s, slice_from(id), OUTPUT_OUT, &out), 0);
		assert_int_equal(out, 150);
	}
}

int
main(void)
{
#define OUTPUT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		OUTPUT_TEST(test_appends_and_reads),
		OUTPUT_TEST(test_ids_are_no_paths),
		OUTPUT_TEST(test_power_cut),
		OUTPUT_TEST(test_restart_then_power_cut),
		OUTPUT_TEST(test_end_waits_for_output),
		OUTPUT_TEST(test_failed_sync),
		OUTPUT_TEST(test_every_fault),
		OUTPUT_TEST(test_disk_full_and_again),
		OUTPUT_TEST(test_gaps),
		OUTPUT_TEST(test_old_segments_go),
		OUTPUT_TEST(test_total_cap),
		OUTPUT_TEST(test_retention),
		OUTPUT_TEST(test_damage_shows),
		OUTPUT_TEST(test_many_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
