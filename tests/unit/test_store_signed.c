/* What the store keeps of agents that sign: secrets, and lines they logged. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#include "io/file.h"

#include "store/store.h"

#include "support/store_kit.h"
#include "support/unit.h"

enum { HOUR = 3600000, BATCH = 5000 };

static char folder[256];
static struct store_config config;
static struct store *s;
static struct arena arena;

static void
open_store(void)
{
	char why[512] = "";

	config = (struct store_config){
		.dir = folder, .files = &file_real, .node = 1
	};
	if (store_open(&s, &config, why, sizeof(why)) != 0)
		fail_msg("%s", why);
}

static int
setup(void **state)
{
	(void)state;
	arena_init(&arena, 256 << 20);
	kit_folder(folder, sizeof(folder));
	open_store();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	store_close(s);
	kit_folder_remove(folder);
	arena_fini(&arena);
	return 0;
}

static int
apply(const struct op *op)
{
	int err = 0;

	assert_int_equal(store_apply(s, &op, 1, &err), 0);
	return err;
}

/* Secrets ------------------------------------------------------------------ */

static int
put_secret(enum op_verb verb, const struct secret_record *r)
{
	const struct op op = { .verb = verb, .at = 1, .secret = r };

	return apply(&op);
}

static void
secrets_come_back(void **state)
{
	struct secret_record r = { .id = SL("sgn_1"),
		.agent_id = SL("prod-"),
		.prefix = true,
		.sealed = SL("c2VhbGVk"),
		.workspace_id = 1,
		.created_at = 5 };
	const struct secret_record other = { .id = SL("sgn_2"),
		.agent_id = SL("prod-"),
		.prefix = true,
		.sealed = SL("x"),
		.workspace_id = 1 };
	struct hub_snapshot all;

	(void)state;
	assert_int_equal(put_secret(OP_PUT_SECRET, &r), 0);
	r.old_sealed = r.sealed;
	r.sealed = SL("bmV3");
	r.old_until = 77;
	r.rotated_at = 6;
	assert_int_equal(put_secret(OP_PUT_SECRET, &r), 0);
	/* One for each agent or prefix. */
	assert_int_equal(put_secret(OP_PUT_SECRET, &other), ERR_EXISTS);
	store_close(s);
	open_store();
	assert_int_equal(store_load(s, &arena, &all), 0);
	assert_int_equal(all.secret_count, 1);
	assert_slice(all.secrets[0].sealed, SL("bmV3"));
	assert_slice(all.secrets[0].old_sealed, SL("c2VhbGVk"));
	assert_true(all.secrets[0].prefix);
	assert_int_equal(all.secrets[0].old_until, 77);
	assert_int_equal(put_secret(OP_DROP_SECRET, &r), 0);
	assert_int_equal(store_load(s, &arena, &all), 0);
	assert_int_equal(all.secret_count, 0);
}

/* Logs --------------------------------------------------------------------- */

/* So many lines of an agent, the first at `at`, a second apart. */
static void
put_lines(struct slice agent, int count, wall_msec at)
{
	static struct log_record records[BATCH];
	static struct op ops[BATCH];
	static const struct op *list[BATCH];
	static int errs[BATCH];

	for (int done = 0; done < count;) {
		int n = count - done < BATCH ? count - done : BATCH;
		for (int i = 0; i < n; i++) {
			records[i] = (struct log_record){ .agent_id = agent,
				.at = at + (done + i) * 1000,
				.level = SL("info"),
				.message = SL("a line"),
				.workspace_id = 1 };
			ops[i] = (struct op){ .verb = OP_PUT_LOG,
				.lazy = true,
				.log = &records[i] };
			list[i] = &ops[i];
		}
		assert_int_equal(store_apply(s, list, (size_t)n, errs), 0);
		for (int i = 0; i < n; i++)
			assert_int_equal(errs[i], 0);
		done += n;
	}
}

static size_t
count_lines(struct slice agent, const struct row_filter *filter)
{
	const struct log_record *rows;
	struct slice cursor = { 0 };
	struct store_reader *r;
	size_t n = 0, count;

	assert_int_equal(store_reader_open(&r, &config), 0);
	do {
		arena_reset(&arena);
		struct slice at = cursor;
		assert_int_equal(store_read_logs(r, agent, at, 1000, filter,
				     &arena, &rows, &count, &cursor),
		    0);
		for (size_t i = 1; i < count; i++)
			assert_true(rows[i - 1].at >= rows[i].at);
		n += count;
		/* The arena is emptied before it is used again. */
		static uint8_t kept[32];
		if (cursor.len > 0) {
			memcpy(kept, cursor.ptr, cursor.len);
			cursor.ptr = kept;
		}
	} while (cursor.len > 0);
	store_reader_close(r);
	return n;
}

static bool
keeps_odd(void *arg, const void *record)
{
	const struct log_record *l = record;

	(void)arg;
	return l->at / 1000 % 2 == 1;
}

static void
prune(wall_msec before, int rounds)
{
	bool more = true;
	int n = 0;

	while (more) {
		assert_int_equal(store_prune_logs(s, before, 1, &more), 0);
		n++;
	}
	assert_int_equal(n, rounds);
}

static void
lines_are_read_in_pages(void **state)
{
	const struct row_filter odd = { keeps_odd, NULL };

	(void)state;
	put_lines(SL("a"), 2500, 1000);
	put_lines(SL("b"), 10, 1000);
	assert_int_equal(count_lines(SL("a"), NULL), 2500);
	assert_int_equal(count_lines(SL("b"), NULL), 10);
	assert_int_equal(count_lines(SL("c"), NULL), 0);
	assert_int_equal(count_lines(SL("a"), &odd), 1250);
}

static void
old_lines_go(void **state)
{
	struct store_reader *r;
	const struct audit_record *rows;
	struct slice next;
	size_t n;

	(void)state;
	put_lines(SL("a"), 100, HOUR);
	put_lines(SL("a"), 50, 2 * HOUR);
	prune(2 * HOUR, 1);
	assert_int_equal(count_lines(SL("a"), NULL), 50);
	/* The journal says so, once. */
	prune(2 * HOUR, 1);
	assert_int_equal(store_reader_open(&r, &config), 0);
	assert_int_equal(store_read_audit(r, (struct slice){ 0 }, 10, NULL,
			     &arena, &rows, &n, &next),
	    0);
	assert_int_equal(n, 1);
	assert_slice(rows[0].note.action, SL("logs.prune"));
	assert_slice(
	    rows[0].note.detail_json, SL("{\"lines\":100,\"bytes\":0}"));
	store_reader_close(r);
}

/* Whoever logs most makes room itself. */
static void
an_agent_has_its_share(void **state)
{
	(void)state;
	put_lines(SL("quiet"), 10, HOUR);
	put_lines(SL("loud"), STORE_AGENT_LOGS + 7000, HOUR);
	put_lines(SL("other"), 10, HOUR);
	prune(1, 2);
	assert_int_equal(count_lines(SL("quiet"), NULL), 10);
	assert_int_equal(count_lines(SL("other"), NULL), 10);
	assert_int_equal(count_lines(SL("loud"), NULL), STORE_AGENT_LOGS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    secrets_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    lines_are_read_in_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(old_lines_go, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    an_agent_has_its_share, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
