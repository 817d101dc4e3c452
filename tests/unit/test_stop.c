/* The stop of one link, on a disk that forgets what was not synced. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "agent/stop.h"
#include "base/err.h"
#include "io/log.h"

#include "support/lossy.h"
#include "support/unit.h"

struct world {
	struct loop loop;
	struct lossy disk;
	struct stop stop;
	struct stop_local local;
	bool halted;
	int halts, receipts;
	uint64_t told; /* epoch on the disk when the receipt was given */
};

static void
on_halt(void *arg, bool halt)
{
	struct world *w = arg;

	assert_true(halt != w->halted);
	w->halted = halt;
	w->halts++;
}

static uint64_t
on_disk(struct world *w, bool *stopped)
{
	struct record_stop r = { 0 };
	struct slice text = lossy_safe(&w->disk, "d/stop");

	if (text.ptr != NULL)
		assert_int_equal(record_read_stop(text, &r), 0);
	if (stopped != NULL)
		*stopped = r.stopped;
	return r.epoch;
}

static void
on_receipt(void *arg)
{
	struct world *w = arg;

	w->receipts++;
	w->told = on_disk(w, NULL);
	/* What it says is so. */
	assert_true(w->told == w->stop.now.epoch);
	assert_true(stop_halted(&w->stop) == w->halted);
}

static const struct stop_ops ops = { on_halt, on_receipt };

static int
open_stop(struct world *w)
{
	const struct stop_config c = { .loop = &w->loop,
		.fs = &w->disk.layer,
		.dir = "d",
		.ops = &ops,
		.arg = w };
	int err = stop_open(&w->stop, &c, &w->local);

	w->halted = stop_halted(&w->stop);
	w->halts = w->receipts = 0;
	return err;
}

static void
settle(struct world *w)
{
	while (!stop_idle(&w->stop))
		loop_turn(&w->loop, true);
}

static void
close_stop(struct world *w)
{
	stop_close(&w->stop);
	settle(w);
}

static int
setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	lossy_init(&w->disk);
	assert_int_equal(file_mkdir(&w->disk.layer, "d", 0700), 0);
	assert_int_equal(file_sync_dir(&w->disk.layer, "."), 0);
	assert_int_equal(loop_init(&w->loop, 16), 0);
	assert_int_equal(open_stop(w), 0);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	close_stop(w);
	loop_fini(&w->loop);
	lossy_fini(&w->disk);
	free(w);
	return 0;
}

static void
order(struct world *w, uint64_t epoch, bool stopped)
{
	const struct record_stop r = { .epoch = epoch,
		.stopped = stopped,
		.scope = SL("all"),
		.mac = SL("ab"),
		.reason = SL("why") };

	stop_order(&w->stop, &r);
}

static void
test_in_order(void **state)
{
	struct world *w = *state;

	/* Killing is first, and waits for nothing: the disk is another
	 * thread's, and may be quicker than this one. */
	order(w, 5, true);
	assert_true(w->halted);
	assert_int_equal(w->receipts, 0);
	settle(w);
	assert_int_equal(on_disk(w, NULL), 5);
	/* Durable, and something still runs. */
	assert_int_equal(w->receipts, 0);
	stop_quiet(&w->stop);
	assert_int_equal(w->receipts, 1);
	assert_true(w->stop.began != 0 && w->stop.done >= w->stop.began);

	/* The other way round. */
	order(w, 6, true);
	assert_int_equal(w->halts, 1);
	assert_int_equal(w->receipts, 1);
	settle(w);
	assert_int_equal(w->receipts, 2);

	/* What is lifted is lifted when the disk says so. */
	order(w, 7, false);
	assert_true(w->halted);
	assert_true(stop_halted(&w->stop));
	settle(w);
	assert_false(w->halted);
	assert_int_equal(w->receipts, 3);
	assert_int_equal(w->told, 7);
	assert_int_equal(w->stop.began, 0);

	/* Nothing new: how it stands, and no more. */
	for (uint64_t epoch = 0; epoch <= 7; epoch++) {
		order(w, epoch, true);
		assert_false(w->halted);
	}
	assert_int_equal(w->receipts, 11);
	assert_true(stop_idle(&w->stop));
}

static void
test_faster_than_the_disk(void **state)
{
	struct world *w = *state;
	bool stopped;

	order(w, 1, true);
	order(w, 2, false);
	assert_true(w->halted);
	order(w, 3, true);
	assert_int_equal(w->halts, 1);
	stop_quiet(&w->stop);
	assert_int_equal(w->receipts, 0);
	settle(w);
	assert_int_equal(on_disk(w, &stopped), 3);
	assert_true(stopped && w->halted);
	assert_int_equal(w->receipts, 1);
	/* A stop that comes while its lifting is written. */
	order(w, 4, false);
	order(w, 5, true);
	settle(w);
	assert_int_equal(on_disk(w, &stopped), 5);
	assert_true(stopped && w->halted);
	assert_int_equal(w->halts, 1);
	order(w, 6, true);
	order(w, 7, false);
	settle(w);
	assert_false(w->halted);
	assert_int_equal(on_disk(w, &stopped), 7);
}

static void
test_local(void **state)
{
	struct world *w = *state;
	struct stop_local on = { .stopped = true, .reason = "mine" };
	struct stop_local off = { 0 };
	char text[200];

	stop_set_local(&w->stop, &on);
	assert_true(w->halted);
	stop_sentence(&w->stop, text, sizeof(text));
	assert_string_equal(
	    text, "this agent is stopped by its host's owner: mine");
	order(w, 1, true);
	order(w, 2, false);
	settle(w);
	assert_true(w->halted);
	assert_int_equal(w->halts, 1);
	order(w, 3, true);
	settle(w);
	stop_set_local(&w->stop, &off);
	assert_true(w->halted);
	stop_sentence(&w->stop, text, sizeof(text));
	assert_string_equal(text, "this agent is under emergency stop 3: why");
	order(w, 4, false);
	settle(w);
	assert_false(w->halted);
}

static void
test_survives(void **state)
{
	struct world *w = *state;
	const struct stop_word *now = &w->stop.now;

	order(w, 5, true);
	settle(w);
	close_stop(w);
	lossy_crash(&w->disk, 0);
	assert_int_equal(open_stop(w), 0);
	assert_true(stop_halted(&w->stop));
	assert_true(now->epoch == 5 && now->stopped);
	assert_string_equal(now->scope, "all");
	assert_string_equal(now->mac, "ab");
	assert_string_equal(now->reason, "why");
	stop_quiet(&w->stop);
	assert_int_equal(w->receipts, 1);
}

/* The power fails at each step of each writing: the old state or the new. */
static void
test_every_crash(void **state)
{
	struct world *w = *state;
	bool both[2] = { false, false };

	for (uint32_t seed = 0; seed < 4; seed++) {
		unsigned long n = 1;
		for (bool failed = true; failed && n < 50; n++) {
			uint64_t old = w->stop.now.epoch, epoch = old + 2;
			bool stopped = old % 4 == 0;
			lossy_fail(&w->disk, LOSSY_CHANGES, n, ERR_IO, true);
			order(w, epoch, stopped);
			settle(w);
			failed = w->stop.saved != epoch;
			/* A stop holds whatever the disk does, and is not
			 * lifted before it is on it. */
			if (stopped || failed)
				assert_true(w->halted || !w->stop.now.stopped);
			assert_true(!failed || w->told != epoch);
			close_stop(w);
			lossy_fail(&w->disk, 0, 0, 0, false);
			lossy_crash(&w->disk, seed);
			assert_int_equal(open_stop(w), 0);
			uint64_t found = w->stop.now.epoch;
			assert_true(found == old || found == epoch);
			assert_true(failed || found == epoch);
			both[found == epoch] = true;
		}
		assert_true(n > 3);
	}
	assert_true(both[0] && both[1]);
}

static void
test_bad_disk(void **state)
{
	struct world *w = *state;

	lossy_fail(&w->disk, LOSSY_CHANGES, 1, ERR_NO_SPACE, false);
	order(w, 5, true);
	stop_quiet(&w->stop);
	settle(w);
	assert_true(w->halted);
	assert_int_equal(w->receipts, 0);
	assert_int_equal(on_disk(w, NULL), 0);
	/* Tried again by itself. */
	while (w->receipts == 0)
		loop_turn(&w->loop, true);
	assert_int_equal(w->told, 5);
}

static void
put_file(struct world *w, const char *text)
{
	assert_int_equal(
	    file_write_atomic(&w->disk.layer, "d/stop", slice_from(text), 0600),
	    0);
}

static void
test_not_guessed(void **state)
{
	struct world *w = *state;

	close_stop(w);
	put_file(w, "muster-stop 1\nepoch=1\nstopped=0\n");
	assert_int_equal(open_stop(w), ERR_CORRUPT);
	put_file(w, "muster-stop 2\nepoch=1\ncheck=0000000000000000\n");
	assert_int_equal(open_stop(w), ERR_NEWER);
}

/* What cannot be kept as it came proves nothing, and is obeyed. */
static void
test_odd_words(void **state)
{
	struct world *w = *state;
	char scope[STOP_SCOPE + 2];
	struct record_stop r = { .epoch = 1, .stopped = true };

	memset(scope, 'a', sizeof(scope) - 1);
	scope[sizeof(scope) - 1] = '\0';
	r.scope = slice_from(scope);
	r.mac = SL("ab");
	r.reason = SL("a\nb\x7f\xc3\xa9");
	stop_order(&w->stop, &r);
	assert_true(w->halted);
	assert_string_equal(w->stop.now.scope, "");
	assert_string_equal(w->stop.now.mac, "");
	assert_string_equal(w->stop.now.reason, "a b \xc3\xa9");
	r = (struct record_stop){ .epoch = 2,
		.stopped = true,
		.scope = SL("a\ncheck=0"),
		.mac = SL("ab") };
	stop_order(&w->stop, &r);
	assert_string_equal(w->stop.now.scope, "");
	r = (struct record_stop){ .epoch = 3,
		.stopped = true,
		.scope = slice_first(slice_from(scope), STOP_SCOPE),
		.mac = SL("ab") };
	stop_order(&w->stop, &r);
	assert_int_equal(strlen(w->stop.now.scope), STOP_SCOPE);
	settle(w);
	close_stop(w);
	assert_int_equal(open_stop(w), 0);
	assert_int_equal(strlen(w->stop.now.scope), STOP_SCOPE);

	/* Cut between characters. */
	char text[4];
	stop_keep_text(text, sizeof(text), SL("ab\xc3\xa9"));
	assert_string_equal(text, "ab");
	stop_keep_text(text, sizeof(text), SL(""));
	assert_string_equal(text, "");
}

int
main(void)
{
#define RUN(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		RUN(test_in_order),
		RUN(test_faster_than_the_disk),
		RUN(test_local),
		RUN(test_survives),
		RUN(test_every_crash),
		RUN(test_bad_disk),
		RUN(test_not_guessed),
		RUN(test_odd_words),
	};

	/* Which stops there were is not what is tested. */
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_true(null >= 0);
	log_init(&(struct log_config){ .fd = null, .level = LEVEL_ERROR });
	return cmocka_run_group_tests(tests, NULL, NULL);
}
