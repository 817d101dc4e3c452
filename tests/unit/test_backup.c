#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "store/pack.h"
#include "store/store.h"

#include "support/guard.h"
#include "support/lossy.h"
#include "support/lossy_vfs.h"
#include "support/oom.h"
#include "support/store_kit.h"
#include "support/unit.h"

#define AGENT SL("agt_one")

static struct lossy disk;
static struct store_config config, place;
static struct arena arena;
static struct store *s;
static char id[KIT_ID_SIZE], other[KIT_ID_SIZE];
static char why[512];

static void
open_store(const struct store_config *c)
{
	if (store_open(&s, c, why, sizeof(why)) != 0)
		fail_msg("%s", why);
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
	place = config;
	place.dir = "again";
	arena_init(&arena, 16 << 20);
	kit_id(id, 1);
	kit_id(other, 2);
	open_store(&config);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	store_close(s);
	arena_fini(&arena);
	lossy_fini(&disk);
	return 0;
}

static void
apply(struct op op)
{
	const struct op *ops[1] = { &op };
	int err = 0;

	op.at = 1000;
	assert_int_equal(store_apply(s, ops, 1, &err), 0);
	assert_int_equal(err, 0);
}

/* An agent, an ended command with output over segments, and a live one. */
static void
fill(void)
{
	struct agent_record a = kit_agent(AGENT);
	struct command_record c = kit_command(slice_from(id), AGENT),
			      d = kit_command(slice_from(other), AGENT);
	static uint8_t text[10000];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7 >> 3);
	apply((struct op){ .verb = OP_PUT_AGENT,
	    .agent = &a,
	    .audit = kit_note("agent.register", AGENT) });
	apply((struct op){ .verb = OP_PUT_COMMAND,
	    .command = &c,
	    .audit = kit_note("command.run", c.id) });
	apply((struct op){ .verb = OP_PUT_COMMAND, .command = &d });
	assert_int_equal(store_output_append(s, c.id, OUTPUT_OUT, 0,
			     (struct slice){ text, sizeof(text) }),
	    0);
	assert_int_equal(
	    store_output_append(s, d.id, OUTPUT_ERR, 0, SL("half")), 0);
	c.state = COMMAND_COMPLETED;
	c.out_bytes = sizeof(text);
	apply((struct op){ .verb = OP_COMMAND_ENDED, .command = &c });
}

static void
check_restored(const char *incarnation)
{
	struct store_reader *r;
	struct audit_record bad;
	const struct command_record *row;
	const struct audit_record *rows;
	struct slice next;
	uint64_t lines, after;
	uint8_t got[12000];
	size_t count;

	assert_int_equal(store_reader_open(&r, &place), 0);
	assert_int_equal(
	    store_read_command(r, slice_from(id), &arena, &row), 0);
	assert_int_equal(row->state, COMMAND_COMPLETED);
	int64_t n = 0, more;
	while ((more = store_read_output(r, slice_from(id), OUTPUT_OUT,
		    (uint64_t)n, got + n, sizeof(got) - (size_t)n, &after)) > 0)
		n += more;
	assert_int_equal(n, 10000);
	for (int64_t i = 0; i < n; i++)
		assert_int_equal(got[i], (uint8_t)(i * 7 >> 3));
	assert_int_equal(store_read_output(r, slice_from(other), OUTPUT_ERR, 0,
			     got, 100, &after),
	    4);
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 3);
	assert_int_equal(store_read_audit(r, (struct slice){ 0 }, 1, NULL,
			     &arena, &rows, &count, &next),
	    0);
	assert_slice(rows[0].note.action, SL("store.restore"));
	assert_false(slice_eq(store_incarnation(s), slice_from(incarnation)));
	assert_slice(rows[0].note.object, store_incarnation(s));
	store_reader_close(r);
}

static bool
exists(const char *path)
{
	struct file f = { 0 };
	int err = file_open(&disk.layer, path, FILE_READ, 0, &f);

	file_close(&f);
	return err == 0;
}

static void
test_there_and_back(void **state)
{
	char was[32];

	(void)state;
	fill();
	snprintf(was, sizeof(was), "%.*s", SLICE_FMT(store_incarnation(s)));
	/* While the store is open, and over an older backup. */
	for (int i = 0; i < 2; i++) {
		if (store_backup(&config, "b.muster", why, sizeof(why)) != 0)
			fail_msg("%s", why);
		assert_false(exists("b.muster.tmp"));
		assert_false(exists("b.muster.db.tmp"));
	}
	uint64_t fence = store_fence(s);
	store_close(s);
	s = NULL;
	if (store_restore(&place, "b.muster", why, sizeof(why)) != 0)
		fail_msg("%s", why);
	assert_false(exists("again/restore.tmp"));
	lossy_crash(&disk, 0); /* what was reported as done is done */
	open_store(&place);
	assert_true(store_fence(s) > fence);
	check_restored(was);
	assert_int_equal(
	    store_restore(&config, "b.muster", why, sizeof(why)), ERR_EXISTS);
	assert_non_null(strstr(why, "data"));
	assert_int_equal(
	    store_restore(&place, "b.muster", why, sizeof(why)), ERR_BUSY);
}

/* Power fails at every single step; the next try works, or it was done. */
static void
test_cut_restores(void **state)
{
	char was[32];
	int err = -1;

	(void)state;
	fill();
	snprintf(was, sizeof(was), "%.*s", SLICE_FMT(store_incarnation(s)));
	assert_int_equal(
	    store_backup(&config, "b.muster", why, sizeof(why)), 0);
	store_close(s);
	s = NULL;
	place.dir = "d0";
	assert_int_equal(file_mkdir(&disk.layer, place.dir, 0700), 0);
	assert_int_equal(file_sync_dir(&disk.layer, "."), 0);
	for (unsigned long n = 1; err != 0; n++) {
		lossy_fail(&disk, LOSSY_CHANGES, n, ERR_IO, true);
		err = store_restore(&place, "b.muster", why, sizeof(why));
		lossy_crash(&disk, (uint32_t)n);
		if (exists("d0/muster.db"))
			break;
		assert_true(err != 0);
	}
	open_store(&place);
	check_restored(was);
}

/* A single failing call leaves nothing behind. */
static void
test_failures_leave_nothing(void **state)
{
	int err = -1;

	(void)state;
	fill();
	unsigned long n = 1;
	for (; err != 0; n++) {
		lossy_fail(&disk, LOSSY_ANY, n, ERR_NO_SPACE, false);
		err = store_backup(&config, "b.muster", why, sizeof(why));
		lossy_fail(&disk, 0, 0, 0, false);
		assert_false(exists("b.muster.tmp"));
		assert_false(exists("b.muster.db.tmp"));
		if (err != 0)
			assert_true(strlen(why) > 10);
	}
	assert_true(n > 20);
	assert_true(exists("b.muster"));
	err = -1;
	for (n = 1; err != 0; n++) {
		lossy_fail(&disk, LOSSY_ANY, n, ERR_NO_SPACE, false);
		err = store_restore(&place, "b.muster", why, sizeof(why));
		lossy_fail(&disk, 0, 0, 0, false);
		if (err == 0)
			break;
		assert_true(strlen(why) > 10);
		assert_false(exists("again/muster.db"));
		assert_false(exists("again/output"));
	}
	assert_true(n > 40);
	assert_true(exists("again/muster.db"));
}

static void
damage(uint64_t at, const char *byte)
{
	struct file f;

	assert_int_equal(
	    file_open(&disk.layer, "b.muster", FILE_WRITE, 0, &f), 0);
	assert_int_equal(
	    file_write(&f, at, (struct slice){ (const uint8_t *)byte, 1 }), 0);
	file_close(&f);
}

static void
test_damage_is_found(void **state)
{
	struct file f;
	uint64_t size;

	(void)state;
	fill();
	assert_int_equal(
	    store_backup(&config, "b.muster", why, sizeof(why)), 0);
	assert_int_equal(
	    file_open(&disk.layer, "b.muster", FILE_READ, 0, &f), 0);
	assert_int_equal(file_size(&f, &size), 0);
	for (uint64_t at = 12; at < size; at += size / 23) {
		uint8_t byte, flipped;
		size_t got;
		assert_int_equal(file_read(&f, at, &byte, 1, &got), 0);
		flipped = byte ^ 0x10;
		damage(at, (const char *)&flipped);
		int err = store_restore(&place, "b.muster", why, sizeof(why));
		if (err != ERR_CORRUPT && err != ERR_INVALID)
			fail_msg("byte %llu: %s", (unsigned long long)at,
			    err_name(err));
		assert_false(exists("again/muster.db"));
		assert_false(exists("again/restore.tmp"));
		damage(at, (const char *)&byte);
	}
	file_close(&f);
	damage(11, "\7");
	assert_int_equal(
	    store_restore(&place, "b.muster", why, sizeof(why)), ERR_NEWER);
	damage(0, "x");
	assert_int_equal(
	    store_restore(&place, "b.muster", why, sizeof(why)), ERR_INVALID);
	assert_int_equal(
	    store_restore(&place, "none", why, sizeof(why)), ERR_NOT_FOUND);
}

static void
test_names(void **state)
{
	(void)state;
	assert_true(pack_name_ok(SL("muster.db")));
	assert_true(pack_name_ok(
	    SL("output/ab/cmd_abaaaaaaaaaaaaaaaaaa/1.00000000000000ff")));
	static const char *const bad[] = { "", "/etc/passwd", "muster.db-wal",
		"output/ab/cmd_acaaaaaaaaaaaaaaaaaa/1.00000000000000ff",
		"output/ab/cmd_abaaaaaaaaaaaaaaaaaa/3.00000000000000ff",
		"output/ab/cmd_abaaaaaaaaaaaaaaaaaa/1.00000000000000FF",
		"output/ab/cmd_abaaaaaaaaaaaaaaaaaa/1.00000000000000ff/x",
		"output/../cmd_abaaaaaaaaaaaaaaaaaa/1.00000000000000ff",
		"lock/ab/cmd_abaaaaaaaaaaaaaaaaaa/1.00000000000000ff" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(pack_name_ok(slice_from(bad[i])));
}

/* On the real disk: what a path of its own and a mode look like. */
static void
test_real_files(void **state)
{
	char dir[4096], data[4200], file[4200], to[4200];
	struct store *real;
	struct stat st;

	(void)state;
	kit_folder(dir, sizeof(dir));
	snprintf(data, sizeof(data), "%s/data", dir);
	snprintf(file, sizeof(file), "%s/backup", dir);
	snprintf(to, sizeof(to), "%s/to", dir);
	struct store_config c = { .dir = data, .files = &file_real };
	if (store_open(&real, &c, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	if (store_backup(&c, file, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	store_close(real);
	c.dir = to;
	if (store_restore(&c, file, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	if (store_open(&real, &c, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	store_close(real);
	kit_folder_remove(dir);
}

int
main(void)
{
#define BACKUP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		BACKUP_TEST(test_there_and_back),
		BACKUP_TEST(test_cut_restores),
		BACKUP_TEST(test_failures_leave_nothing),
		BACKUP_TEST(test_damage_is_found),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_real_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
