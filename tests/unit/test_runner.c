/* The agent's side of commands, against real holders and a real disk. */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/runner.h"
#include "base/err.h"
#include "io/file_ops.h"
#include "io/loop.h"

#include "support/unit.h"

struct seen {
	int started, ended, refused, gone, closed, inputs, quiet, fetched;
	int64_t pid;
	char outcome[16], reason[16], refusal[16];
	int code;
	uint64_t size[2], lingering, received, seq;
	struct run *last;
	bool follow; /* ask for more output, acknowledge what came */
	uint64_t wait_pid;
	struct loop *loop;
};

struct world {
	char state[64], holder[512];
	struct loop loop;
	struct file_layer *fs;
	struct runner *rn;
	struct seen seen;
};

static void
copy(char *out, size_t size, struct slice s)
{
	assert_int_equal(slice_cstr(s, out, size), 0);
}

static void
on_started(void *arg, struct run *r, int64_t pid)
{
	struct seen *s = arg;

	s->started++;
	s->pid = pid;
	s->last = r;
	if (s->follow)
		runner_more(r, s->size);
}

static void
on_output(void *arg, struct run *r, const struct run_output *o)
{
	struct seen *s = arg;

	memcpy(s->size, o->size, sizeof(s->size));
	for (int i = 0; i < 2; i++)
		runner_ack(r, i, s->size[i]);
	runner_more(r, s->size);
}

static void
on_input(void *arg, struct run *r, const struct run_input *i)
{
	struct seen *s = arg;

	(void)r;
	s->inputs++;
	s->received = i->received;
}

static void
on_ended(void *arg, struct run *r, const struct record_exit *x)
{
	struct seen *s = arg;

	s->ended++;
	s->last = r;
	copy(s->outcome, sizeof(s->outcome), x->outcome);
	copy(s->reason, sizeof(s->reason), x->reason);
	s->code = x->code;
	s->seq = x->seq;
	s->lingering = x->lingering;
	memcpy(s->size, x->size, sizeof(s->size));
}

static void
on_refused(void *arg, struct run *r, struct slice reason, struct slice error)
{
	struct seen *s = arg;

	(void)error;
	s->refused++;
	s->last = r;
	copy(s->refusal, sizeof(s->refusal), reason);
}

static void
on_gone(void *arg, struct run *r)
{
	(void)r;
	((struct seen *)arg)->gone++;
}

static void
on_fetched(void *arg, struct run *r)
{
	(void)r;
	((struct seen *)arg)->fetched++;
}

static void
on_quiet(void *arg)
{
	struct seen *s = arg;

	s->quiet++;
	/* Told at the end of a turn, which would block then. */
	loop_again(s->loop);
}

static void
on_closed(void *arg)
{
	((struct seen *)arg)->closed++;
}

static const struct runner_ops ops = { on_started, on_output, on_input,
	on_fetched, on_ended, on_refused, on_gone, on_quiet, on_closed };

static struct runner_config
config(struct world *w)
{
	return (struct runner_config){
		.loop = &w->loop,
		.fs = w->fs,
		.state = w->state,
		.holder = w->holder,
		.pool = 2,
		.cap = 100,
		.ops = &ops,
		.arg = &w->seen,
	};
}

static void
open_runner(struct world *w)
{
	struct runner_config c = config(w);

	w->seen = (struct seen){ .loop = &w->loop };
	assert_int_equal(runner_new(&c, &w->rn), 0);
	assert_int_equal(runner_adopt(w->rn), 0);
}

static void
turn_until(struct world *w, const int *what, int count)
{
	while (*what < count)
		loop_turn(&w->loop, true);
}

/* The agent goes away: its holders see no more than a closed socket. */
static void
close_runner(struct world *w)
{
	runner_close(w->rn);
	turn_until(w, &w->seen.closed, 1);
	runner_free(w->rn);
	w->rn = NULL;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static int
setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char *slash;

	(void)snprintf(w->state, sizeof(w->state), "/tmp/muster-runner-XXXXXX");
	assert_non_null(mkdtemp(w->state));
	/* build/VARIANT/tests/test_runner -> build/VARIANT/muster-holder */
	ssize_t n =
	    readlink("/proc/self/exe", w->holder, sizeof(w->holder) - 32);
	assert_true(n > 0);
	for (int i = 0; i < 2; i++)
		if ((slash = strrchr(w->holder, '/')) != NULL)
			*slash = '\0';
	memcpy(w->holder + strlen(w->holder), "/muster-holder",
	    sizeof("/muster-holder"));
	assert_int_equal(loop_init(&w->loop, 100), 0);
	w->fs = &file_real;
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	if (w->rn != NULL) {
		runner_halt(w->rn, true);
		turn_until(w, &w->seen.quiet, w->seen.quiet + 1);
		close_runner(w);
	}
	loop_fini(&w->loop);
	(void)nftw(w->state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(w);
	return 0;
}

static int
start(struct world *w, const char *id, uint64_t seq, const char *script,
    struct run_order more, struct run **out)
{
	struct slice argv[3] = { SL("/bin/sh"), SL("-c"), slice_from(script) };
	struct slice env[1] = { SL("PATH=/usr/bin:/bin") };

	more.id = slice_from(id);
	more.seq = seq;
	more.argv = argv;
	more.argc = 3;
	more.env = env;
	more.envc = 1;
	return runner_start(w->rn, &more, out);
}

static void
path_of(struct world *w, const char *id, const char *file, char out[256])
{
	(void)snprintf(out, 256, "%s/cmd/%s/%s", w->state, id, file);
}

static void
test_runs(void **state)
{
	struct world *w = *state;
	uint8_t text[64];
	struct run *r;
	size_t n;

	open_runner(w);
	assert_int_equal(start(w, "cmd_a", 1, "echo hi; echo no >&2; exit 7",
			     (struct run_order){ 0 }, &r),
	    0);
	assert_int_equal(start(w, "cmd_a", 2, "true", (struct run_order){ 0 },
			     &(struct run *){ NULL }),
	    ERR_EXISTS);
	turn_until(w, &w->seen.ended, 1);
	assert_true(w->seen.started <= 1);
	assert_string_equal(w->seen.outcome, "exited");
	assert_int_equal(w->seen.code, 7);
	assert_int_equal(w->seen.seq, 1);
	assert_int_equal(w->seen.size[0], 3);
	assert_int_equal(runner_read(r, 0, 0, text, sizeof(text), &n), 0);
	assert_slice(((struct slice){ text, n }), SL("hi\n"));
	assert_int_equal(runner_read(r, 1, 1, text, sizeof(text), &n), 0);
	assert_slice(((struct slice){ text, n }), SL("o\n"));
	assert_int_equal(runner_signal(r, HOLDER_STOP), ERR_WRONG_STATE);
}

/* A number at or below the mark that nothing is known of never runs. */
static void
test_never_twice(void **state)
{
	struct world *w = *state;
	char path[256];
	struct run *r;

	open_runner(w);
	assert_int_equal(
	    start(w, "cmd_a", 5, "exit 3", (struct run_order){ 0 }, &r), 0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(
	    start(w, "cmd_b", 5, "true", (struct run_order){ 0 }, &r),
	    ERR_DENIED);
	assert_int_equal(
	    start(w, "cmd_b", 4, "true", (struct run_order){ 0 }, &r),
	    ERR_DENIED);

	/* Known from the claim alone, before the journal was ever written. */
	(void)snprintf(path, sizeof(path), "%s/journal", w->state);
	assert_int_equal(access(path, F_OK), -1);
	close_runner(w);
	open_runner(w);
	assert_int_equal(runner_mark(w->rn), 5);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(w->seen.code, 3);
	assert_int_equal(w->seen.started, 0);

	/* Forgotten: now the journal alone knows. */
	assert_int_equal(runner_forget(w->seen.last), 0);
	assert_null(runner_find(w->rn, SL("cmd_a")));
	close_runner(w);
	path_of(w, "cmd_a", "", path);
	assert_int_equal(access(path, F_OK), -1);
	open_runner(w);
	assert_int_equal(runner_mark(w->rn), 5);
	assert_int_equal(
	    start(w, "cmd_a", 5, "true", (struct run_order){ 0 }, &r),
	    ERR_DENIED);
	assert_int_equal(
	    start(w, "cmd_a", 6, "exit 4", (struct run_order){ 0 }, &r), 0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(w->seen.code, 4);
}

static void
test_torn_journal_stops_the_agent(void **state)
{
	struct world *w = *state;
	struct runner_config c = { .loop = &w->loop,
		.fs = &file_real,
		.state = w->state,
		.holder = w->holder,
		.cap = 1,
		.ops = &ops };
	const char *texts[] = { "muster-journal 1\nmark=5\n",
		"muster-journal 1\nmark=5\ncheck=0000000000000000\n",
		"muster-journal 2\nmark=5\ncheck=0000000000000000\n" };
	int want[] = { ERR_CORRUPT, ERR_CORRUPT, ERR_NEWER };
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/journal", w->state);
	for (int i = 0; i < 3; i++) {
		FILE *f = fopen(path, "w");
		assert_non_null(f);
		(void)fputs(texts[i], f);
		(void)fclose(f);
		assert_int_equal(runner_new(&c, &w->rn), want[i]);
	}
	w->rn = NULL;
}

/* Restart of the agent in the middle: nothing is lost, nothing runs twice. */
static void
test_reattach(void **state)
{
	struct world *w = *state;
	struct run *r;

	open_runner(w);
	assert_int_equal(
	    start(w, "cmd_a", 1, "echo one; read x; echo $x; exit 9",
		(struct run_order){ .input = true }, &r),
	    0);
	turn_until(w, &w->seen.started, 1);
	int64_t pid = w->seen.pid;
	close_runner(w);
	open_runner(w);
	w->seen.follow = true;
	turn_until(w, &w->seen.started, 1);
	assert_int_equal(w->seen.pid, pid);
	r = runner_find(w->rn, SL("cmd_a"));
	assert_non_null(r);
	assert_int_equal(run_seq(r), 1);
	assert_int_equal(runner_input(r, 0, SL("two\n")), 0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(w->seen.code, 9);
	assert_int_equal(w->seen.size[0], 8);
	assert_int_equal(runner_input(r, 4, SL("x")), ERR_WRONG_STATE);
}

static void
test_holder_killed_is_unknown(void **state)
{
	struct world *w = *state;
	char path[256], text[512];
	struct record_claim claim;
	struct run *r;

	open_runner(w);
	assert_int_equal(start(w, "cmd_a", 1, "echo some; exec sleep 60",
			     (struct run_order){ 0 }, &r),
	    0);
	turn_until(w, &w->seen.started, 1);
	path_of(w, "cmd_a", "claim", path);
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	assert_true(n > 0);
	struct slice s = { (const uint8_t *)text, (size_t)n };
	assert_int_equal(record_read_claim(s, &claim), 0);
	assert_int_equal(claim.pid, w->seen.pid);
	uint64_t holder;
	assert_int_equal(
	    slice_u64(record_value(s, '\n', SL("holder")), 1 << 30, &holder),
	    0);
	assert_int_equal(kill((pid_t)holder, SIGKILL), 0);
	turn_until(w, &w->seen.ended, 1);
	(void)kill((pid_t)w->seen.pid, SIGKILL);
	assert_string_equal(w->seen.outcome, "unknown");
	assert_int_equal(w->seen.seq, 1);

	/* The verdict is durable, and the same for the next agent. */
	close_runner(w);
	open_runner(w);
	turn_until(w, &w->seen.ended, 1);
	assert_string_equal(w->seen.outcome, "unknown");
	assert_int_equal(w->seen.started, 0);
}

/* 0 for n is NULs. */
static void
append(FILE *f, int byte, size_t n)
{
	while (n-- > 0)
		assert_int_equal(fputc(byte, f), byte);
}

/* After a power failure the end of a block may read as zeros: nobody wrote
 * them, or nobody can tell. */
static void
test_end_of_a_spool_that_was_lost(void **state)
{
	struct world *w = *state;
	char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/cmd", w->state);
	assert_int_equal(mkdir(path, 0700), 0);
	path_of(w, "cmd_x", "", path);
	assert_int_equal(mkdir(path, 0700), 0);
	/* The first block is not there whole, though the second is. */
	path_of(w, "cmd_x", "out", path);
	f = fopen(path, "we");
	append(f, 'x', 3000);
	append(f, 0, 1096);
	append(f, 'x', 5000);
	assert_int_equal(fclose(f), 0);
	/* Two megabytes are stored and punched out; NULs in a block's middle
	 * are the program's. */
	path_of(w, "cmd_x", "err", path);
	f = fopen(path, "we");
	assert_int_equal(fseek(f, 2 << 20, SEEK_SET), 0);
	append(f, 'x', 1);
	append(f, 0, 100);
	append(f, 'x', 100);
	append(f, 0, 6);
	assert_int_equal(fclose(f), 0);
	open_runner(w);
	turn_until(w, &w->seen.ended, 1);
	assert_string_equal(w->seen.outcome, "unknown");
	assert_int_equal(w->seen.size[0], 3000);
	assert_int_equal(w->seen.size[1], (2 << 20) + 201);
}

/* A directory whose claim never came: taken, so that no holder can. */
static void
test_bare_directory_is_unknown(void **state)
{
	struct world *w = *state;
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/cmd", w->state);
	assert_int_equal(mkdir(path, 0700), 0);
	path_of(w, "cmd_x", "", path);
	assert_int_equal(mkdir(path, 0700), 0);
	path_of(w, ".cmd_y", "", path);
	assert_int_equal(mkdir(path, 0700), 0);
	open_runner(w);
	assert_int_equal(access(path, F_OK), -1);
	turn_until(w, &w->seen.ended, 1);
	assert_string_equal(w->seen.outcome, "unknown");
	path_of(w, "cmd_x", "claim", path);
	assert_int_equal(access(path, F_OK), 0);
}

/* A holder that an earlier agent ordered: "exists" leads to it. */
static void
test_exists_leads_to_attaching(void **state)
{
	struct world *w = *state;
	struct world other = *w;
	struct run *r;

	open_runner(w);
	assert_int_equal(loop_init(&other.loop, 100), 0);
	open_runner(&other);
	assert_int_equal(start(w, "cmd_a", 1, "read x; exit 6",
			     (struct run_order){ .input = true }, &r),
	    0);
	turn_until(w, &w->seen.started, 1);
	assert_int_equal(
	    start(&other, "cmd_a", 1, "exit 1", (struct run_order){ 0 }, &r),
	    0);
	turn_until(&other, &other.seen.started, 1);
	assert_int_equal(other.seen.pid, w->seen.pid);
	assert_int_equal(runner_input(r, 0, SL("\n")), 0);
	turn_until(&other, &other.seen.ended, 1);
	assert_int_equal(other.seen.code, 6);
	turn_until(w, &w->seen.ended, 1);
	close_runner(&other);
	loop_fini(&other.loop);
}

static void
test_backpressure_and_acks(void **state)
{
	struct world *w = *state;
	uint8_t text[16];
	struct run *r;
	size_t n;

	open_runner(w);
	w->seen.follow = true;
	assert_int_equal(
	    start(w, "cmd_a", 1, "head -c 8000000 /dev/zero; echo end >&2",
		(struct run_order){ .cap = 1 << 20 }, &r),
	    0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(w->seen.size[0], 8000000);
	assert_int_equal(w->seen.size[1], 4);
	assert_int_equal(
	    runner_read(r, 0, 0, text, sizeof(text), &n), ERR_GONE);
	assert_int_equal(
	    runner_read(r, 0, 8000000 - 5, text, sizeof(text), &n), 0);
	assert_int_equal(n, 5);

	/* The next agent does not take what was pruned for zeros. */
	close_runner(w);
	open_runner(w);
	turn_until(w, &w->seen.ended, 1);
	r = w->seen.last;
	assert_int_equal(
	    runner_read(r, 0, 0, text, sizeof(text), &n), ERR_GONE);
	assert_true(n >= 1 << 20 && n <= 7 << 20);
	assert_int_equal(runner_read(r, 0, n, text, sizeof(text), &n), 0);
	assert_int_equal(n, sizeof(text));
}

/* What found no room keeps its offsets, and is told from what is there. */
static void
check_gap(struct run *r)
{
	uint8_t text[100000];
	size_t n;

	assert_int_equal(runner_read(r, 0, 0, text, sizeof(text), &n), 0);
	assert_int_equal(n, 65536);
	assert_int_equal(text[0], 'x');
	assert_int_equal(text[65535], 'x');
	assert_int_equal(
	    runner_read(r, 0, 70000, text, sizeof(text), &n), ERR_GONE);
	assert_int_equal(n, 1000000 - 70000);
	assert_int_equal(
	    runner_read(r, 1, 1, text, sizeof(text), &n), ERR_GONE);
	assert_int_equal(n, 3);
}

static void
test_dropped(void **state)
{
	struct world *w = *state;
	struct run *r;

	open_runner(w);
	assert_int_equal(
	    start(w, "cmd_a", 1,
		"head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2",
		(struct run_order){ .cap = 1 << 16, .drop = true }, &r),
	    0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(w->seen.size[0], 1000000);
	assert_int_equal(w->seen.size[1], 4);
	check_gap(r);
	close_runner(w);
	open_runner(w);
	turn_until(w, &w->seen.ended, 1);
	check_gap(w->seen.last);
}

/* A program that takes an order and dies, once or always. */
static void
break_holder(struct world *w, bool always)
{
	char path[256], text[1024];

	(void)snprintf(path, sizeof(path), "%s/holder", w->state);
	int n = snprintf(text, sizeof(text),
	    "#!/bin/sh\n%s mkdir %s/once 2>/dev/null && "
	    "{ head -c 5 >/dev/null; exit 0; }\nexec %s\n",
	    always ? "true ||" : "", w->state, w->holder);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_int_equal(write(fd, text, (size_t)n), n);
	close(fd);
	(void)snprintf(w->holder, sizeof(w->holder), "%s", path);
}

static void
test_order_survives_its_holder(void **state)
{
	struct world *w = *state;
	struct run *r;

	break_holder(w, false);
	open_runner(w);
	for (uint64_t i = 1; i <= 3; i++) {
		char id[] = "cmd_0";
		id[4] += (char)i;
		assert_int_equal(
		    start(w, id, i, "exit 3", (struct run_order){ 0 }, &r), 0);
	}
	turn_until(w, &w->seen.ended, 3);
	assert_string_equal(w->seen.outcome, "exited");
	assert_int_equal(w->seen.code, 3);
}

static void
test_no_holder_lives(void **state)
{
	struct world *w = *state;
	struct run *r;

	break_holder(w, true);
	open_runner(w);
	assert_int_equal(
	    start(w, "cmd_a", 1, "true", (struct run_order){ 0 }, &r), 0);
	turn_until(w, &w->seen.refused, 1);
	assert_string_equal(w->seen.refusal, "holder");
	assert_int_equal(runner_forget(r), 0);
}

static int
nothing_cached(struct file_layer *fs, int fd, uint64_t at, void *out, size_t n,
    size_t *done)
{
	(void)fs;
	(void)fd;
	(void)at;
	(void)out;
	(void)n;
	(void)done;
	return ERR_AGAIN;
}

/* What is not in memory comes by a worker, and the loop turns meanwhile. */
static void
test_cold_spool(void **state)
{
	struct world *w = *state;
	static struct file_ops some;
	static struct file_layer disk = { &some };
	uint8_t text[64];
	struct run *r;
	size_t n;

	some = *file_real.ops;
	w->fs = &disk;
	open_runner(w);
	assert_int_equal(start(w, "cmd_a", 1, "echo one; echo two",
			     (struct run_order){ 0 }, &r),
	    0);
	turn_until(w, &w->seen.ended, 1);
	some.cached = nothing_cached;
	/* Asked for once, however often it is wanted meanwhile. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(
		    runner_read(r, 0, 4, text, sizeof(text), &n), ERR_AGAIN);
	turn_until(w, &w->seen.fetched, 1);
	/* Gone again by now: this time it is waited for, and the next asks. */
	assert_int_equal(runner_read(r, 0, 4, text, sizeof(text), &n), 0);
	assert_slice(((struct slice){ text, n }), SL("two\n"));
	assert_int_equal(
	    runner_read(r, 0, 0, text, sizeof(text), &n), ERR_AGAIN);
	turn_until(w, &w->seen.fetched, 2);
	/* Or still there. */
	some.cached = file_real.ops->cached;
	assert_int_equal(runner_read(r, 0, 0, text, sizeof(text), &n), 0);
	assert_int_equal(n, 8);
	/* A run may go while something is brought for it. */
	some.cached = nothing_cached;
	assert_int_equal(
	    runner_read(r, 0, 0, text, sizeof(text), &n), ERR_AGAIN);
	assert_int_equal(runner_forget(r), 0);
	close_runner(w);
	assert_int_equal(w->seen.fetched, 2);
}

static void
test_input_window(void **state)
{
	static uint8_t zeros[HOLDER_INPUT_WINDOW];
	struct world *w = *state;
	struct slice all = { zeros, sizeof(zeros) };
	struct run *r;

	open_runner(w);
	assert_int_equal(start(w, "cmd_a", 1, "wc -c",
			     (struct run_order){ .input = true }, &r),
	    0);
	turn_until(w, &w->seen.started, 1);
	assert_int_equal(runner_input(r, 1, all), ERR_FULL);
	assert_int_equal(runner_input(r, 0, all), 0);
	while (w->seen.received < sizeof(zeros))
		loop_turn(&w->loop, true);
	assert_int_equal(runner_input_end(r, sizeof(zeros)), 0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(w->seen.size[0], 6);
}

static const struct run_kill *
find_kill(struct world *w, struct slice id)
{
	const struct run_kill *k;
	size_t pos = 0;

	while ((k = runner_next_kill(w->rn, &pos)) != NULL)
		if (slice_eq(k->id, id))
			return k;
	return NULL;
}

/* All processes of a kill are dead by now. */
static void
assert_dead(struct slice pids, uint64_t count)
{
	struct slice word;
	uint64_t pid, n = 0;

	while (pids.len > 0 && slice_split(&pids, ',', &word)) {
		assert_int_equal(slice_u64(word, 1 << 30, &pid), 0);
		assert_int_equal(kill((pid_t)pid, 0), -1);
		n++;
	}
	assert_int_equal(n, count);
}

static void
test_halt(void **state)
{
	struct world *w = *state;
	const struct run_kill *k;
	struct run *r;

	open_runner(w);
	/* With nothing to kill it is quiet at once. */
	runner_halt(w->rn, true);
	turn_until(w, &w->seen.quiet, 1);
	assert_int_equal(
	    start(w, "cmd_x", 1, "true", (struct run_order){ 0 }, &r),
	    ERR_STOPPED);
	runner_halt(w->rn, false);
	for (uint64_t i = 1; i <= 8; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "cmd_%u", (unsigned)i);
		assert_int_equal(start(w, id, i,
				     "setsid sleep 60 & trap '' INT TERM;"
				     "while :; do sleep 1; done",
				     (struct run_order){ 0 }, &r),
		    0);
	}
	turn_until(w, &w->seen.started, 8);
	/* One whose order is still on its way to its holder. */
	assert_int_equal(
	    start(w, "cmd_late", 9, "sleep 60", (struct run_order){ 0 }, &r),
	    0);
	runner_halt(w->rn, true);
	assert_false(runner_quiet(w->rn));
	turn_until(w, &w->seen.quiet, 2);
	for (int i = 1; i <= 8; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "cmd_%d", i);
		k = find_kill(w, slice_from(id));
		assert_non_null(k);
		assert_true(k->count >= 1 && k->took_ms < 5000);
		assert_dead(k->pids, k->count);
		assert_int_equal(k->left.len, 0);
	}
	while (w->seen.ended + w->seen.refused < 9)
		loop_turn(&w->loop, true);
	if (w->seen.refused == 0)
		assert_string_equal(w->seen.reason, "stop");
	assert_int_equal(w->seen.lingering, 0);
	/* What was killed is remembered beyond the run, until the end. */
	assert_int_equal(runner_forget(runner_find(w->rn, SL("cmd_1"))), 0);
	assert_non_null(find_kill(w, SL("cmd_1")));
	runner_halt(w->rn, false);
	assert_null(find_kill(w, SL("cmd_2")));
	assert_int_equal(
	    start(w, "cmd_z", 10, "exit 5", (struct run_order){ 0 }, &r), 0);
	int before = w->seen.ended;
	turn_until(w, &w->seen.ended, before + 1);
	assert_int_equal(w->seen.code, 5);
}

/* The next agent finds itself stopped: what holders still run dies first. */
static void
test_halted_at_birth(void **state)
{
	struct world *w = *state;
	struct run *r;

	open_runner(w);
	assert_int_equal(start(w, "cmd_a", 1, "trap '' TERM; sleep 60",
			     (struct run_order){ 0 }, &r),
	    0);
	assert_int_equal(
	    start(w, "cmd_b", 2, "setsid sleep 60 >/dev/null 2>&1 &",
		(struct run_order){ .keep_lingering = true }, &r),
	    0);
	turn_until(w, &w->seen.ended, 1);
	turn_until(w, &w->seen.started, 1);
	close_runner(w);

	struct runner_config c = config(w);
	w->seen = (struct seen){ .loop = &w->loop };
	assert_int_equal(runner_new(&c, &w->rn), 0);
	runner_halt(w->rn, true);
	assert_int_equal(runner_adopt(w->rn), 0);
	turn_until(w, &w->seen.quiet, 1);
	const struct run_kill *k = find_kill(w, SL("cmd_a"));
	assert_non_null(k);
	assert_dead(k->pids, k->count);
	k = find_kill(w, SL("cmd_b"));
	assert_non_null(k);
	assert_int_equal(k->count, 1);
	assert_dead(k->pids, 1);
	while (w->seen.ended < 2)
		loop_turn(&w->loop, true);

	/* And the one after that knows it from the exit record. */
	close_runner(w);
	w->seen = (struct seen){ .loop = &w->loop };
	assert_int_equal(runner_new(&c, &w->rn), 0);
	runner_halt(w->rn, true);
	assert_int_equal(runner_adopt(w->rn), 0);
	turn_until(w, &w->seen.quiet, 1);
	k = find_kill(w, SL("cmd_a"));
	assert_non_null(k);
	assert_true(k->count >= 1);
}

static void
write_stop(struct world *w, uint64_t epoch, bool stopped)
{
	struct record_stop s = { .epoch = epoch,
		.stopped = stopped,
		.scope = SL("all"),
		.reason = SL("why not") };
	char path[256];
	struct buf b;

	(void)snprintf(path, sizeof(path), "%s/stop", w->state);
	buf_init(&b, 4096);
	record_write_stop(&b, &s);
	assert_int_equal(b.err, 0);
	assert_int_equal(
	    file_write_atomic(&file_real, path, buf_peek(&b), 0600), 0);
	buf_fini(&b);
}

/* The disk alone forbids it, whatever the agent believes. */
static void
test_holder_reads_the_stop(void **state)
{
	struct world *w = *state;
	static const char *const torn[] = { "", "muster-stop 1\n",
		"muster-stop 2\nepoch=1\nstopped=0\ncheck=0000000000000000\n",
		"muster-stop 1\nepoch=1\nstopped=0\ncheck=0000000000000000\n" };
	const struct {
		uint64_t file, order;
		bool stopped, runs;
	} rows[] = {
		{ 9, 8, false, false },
		{ 9, 9, false, true },
		{ 9, 10, false, true },
		{ 9, 9, true, false },
		{ 9, 10, true, false },
	};
	char path[256];
	uint64_t seq = 0;
	struct run *r;
	char id[16];

	open_runner(w);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		write_stop(w, rows[i].file, rows[i].stopped);
		int ended = w->seen.ended, refused = w->seen.refused;
		(void)snprintf(id, sizeof(id), "cmd_%u", (unsigned)++seq);
		assert_int_equal(
		    start(w, id, seq, "true",
			(struct run_order){ .epoch = rows[i].order }, &r),
		    0);
		if (rows[i].runs)
			turn_until(w, &w->seen.ended, ended + 1);
		else
			turn_until(w, &w->seen.refused, refused + 1);
	}
	(void)snprintf(path, sizeof(path), "%s/stop", w->state);
	for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++) {
		int refused = w->seen.refused;
		assert_int_equal(file_write_atomic(&file_real, path,
				     slice_from(torn[i]), 0600),
		    0);
		(void)snprintf(id, sizeof(id), "cmd_%u", (unsigned)++seq);
		assert_int_equal(start(w, id, seq, "true",
				     (struct run_order){ .epoch = 99 }, &r),
		    0);
		turn_until(w, &w->seen.refused, refused + 1);
		assert_string_equal(w->seen.refusal, "stopped");
	}
}

static void
test_lingering(void **state)
{
	struct world *w = *state;
	struct run *r;

	open_runner(w);
	assert_int_equal(
	    start(w, "cmd_a", 1, "sleep 60 >/dev/null 2>&1 </dev/null &",
		(struct run_order){ .keep_lingering = true }, &r),
	    0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(w->seen.lingering, 1);
	assert_int_equal(runner_forget(r), ERR_WRONG_STATE);
	assert_int_equal(w->seen.gone, 0);
	/* An agent that comes back can still reach it. */
	close_runner(w);
	open_runner(w);
	turn_until(w, &w->seen.ended, 1);
	r = w->seen.last;
	assert_int_equal(runner_signal(r, HOLDER_STOP), 0);
	turn_until(w, &w->seen.gone, 1);
	assert_int_equal(runner_forget(r), 0);
}

static void
test_refusals(void **state)
{
	struct world *w = *state;
	struct run *r;
	char path[256];

	open_runner(w);
	(void)snprintf(path, sizeof(path), "%s/STOP", w->state);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	(void)fclose(f);
	assert_int_equal(
	    start(w, "cmd_a", 1, "true", (struct run_order){ .epoch = 8 }, &r),
	    0);
	turn_until(w, &w->seen.refused, 1);
	assert_string_equal(w->seen.refusal, "stopped");
	assert_int_equal(run_state(r), RUN_REFUSED);
	assert_int_equal(runner_forget(r), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(
	    start(w, "cmd_b", 2, "true", (struct run_order){ .epoch = 9 }, &r),
	    0);
	turn_until(w, &w->seen.ended, 1);
	assert_int_equal(
	    start(w, "../x", 3, "true", (struct run_order){ 0 }, &r),
	    ERR_INVALID);
	assert_int_equal(start(w, "cmd_c", 3, "true",
			     (struct run_order){ .user = "no-such-user" }, &r),
	    ERR_NOT_FOUND);
	struct slice argv[1] = { SL("/bin/echo") };
	struct slice env[1] = { SL("A=b\0arg=evil") };
	struct run_order o = { .id = SL("cmd_d"),
		.seq = 3,
		.argv = argv,
		.argc = 1,
		.env = env,
		.envc = 1 };
	assert_int_equal(runner_start(w->rn, &o, &r), ERR_INVALID);
}

/* How often the journal was replaced since the watch began. */
static int
replaced(int watch)
{
	char text[4096]
	    __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(watch, text, sizeof(text));
	int count = 0;

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *e =
		    (const struct inotify_event *)(void *)(text + at);
		count += strcmp(e->name, "journal") == 0;
		at += (ssize_t)(sizeof(*e) + e->len);
	}
	return count;
}

/* Removals wait for one another and share one mark; closing hurries them. */
static void
test_removals_share_a_mark(void **state)
{
	static const char *const ids[] = { "cmd_a", "cmd_b", "cmd_c", "cmd_d" };
	struct world *w = *state;
	char path[512];
	struct run *r;

	open_runner(w);
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	assert_true(watch >= 0);
	assert_true(inotify_add_watch(watch, w->state, IN_MOVED_TO) >= 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(start(w, ids[i], (uint64_t)i + 1, "true",
				     (struct run_order){ 0 }, &r),
		    0);
		turn_until(w, &w->seen.ended, i + 1);
	}
	for (int i = 0; i < 3; i++) {
		r = runner_find(w->rn, slice_from(ids[i]));
		assert_int_equal(runner_forget(r), 0);
	}
	path_of(w, "cmd_a", "", path);
	assert_int_equal(access(path, F_OK), 0);
	path_of(w, "cmd_c", "", path);
	while (access(path, F_OK) == 0)
		loop_turn(&w->loop, true);
	assert_int_equal(replaced(watch), 1);
	/* Its mark is in the journal already. */
	r = runner_find(w->rn, SL("cmd_d"));
	assert_int_equal(runner_forget(r), 0);
	close_runner(w);
	path_of(w, "cmd_d", "", path);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(replaced(watch), 0);
	close(watch);
}

static void
test_records(void **state)
{
	struct record_claim claim = { .id = SL("cmd_a"), .seq = 3 };
	uint64_t size[2] = { 10, 20 }, mark;
	struct record_exit x;
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	record_write_unknown(&b, &claim, size);
	struct slice text = buf_peek(&b);
	assert_int_equal(record_read_exit(text, &x), 0);
	assert_slice(x.outcome, SL("unknown"));
	assert_slice(x.id, SL("cmd_a"));
	assert_int_equal(x.size[1], 20);
	/* Torn anywhere before the last newline, it counts as absent. */
	for (size_t i = 0; i + 1 < text.len; i++)
		assert_int_equal(
		    record_read_exit(slice_first(text, i), &x), ERR_CORRUPT);
	for (size_t i = 0; i + 1 < text.len; i++) {
		b.mem[i] ^= 1;
		assert_int_not_equal(record_read_exit(text, &x), 0);
		b.mem[i] ^= 1;
	}
	/* A value with what ends it would be two. */
	buf_clear(&b);
	record_put(&b, '\0', "key", SL("a\nb"));
	record_put_u64(&b, '\0', "n", 7);
	assert_slice(buf_peek(&b), SL("key=a\nb\0n=7\0"));
	record_put(&b, '\n', "key", SL("a\nb"));
	assert_int_equal(b.err, ERR_INVALID);
	buf_clear(&b);
	const struct record_stop stop = { .epoch = 7,
		.stopped = true,
		.at = 5,
		.scope = SL("selector:a=b"),
		.reason = SL("x=1, check=2") };
	struct record_stop back;
	record_write_stop(&b, &stop);
	text = buf_peek(&b);
	assert_int_equal(record_read_stop(text, &back), 0);
	assert_true(back.epoch == 7 && back.stopped && !back.keep_tunnels);
	assert_slice(back.scope, stop.scope);
	assert_slice(back.reason, stop.reason);
	assert_int_equal(back.mac.len, 0);
	for (size_t i = 0; i + 1 < text.len; i++) {
		b.mem[i] ^= 1;
		assert_int_not_equal(record_read_stop(text, &back), 0);
		b.mem[i] ^= 1;
		assert_int_equal(
		    record_read_stop(slice_first(text, i), &back), ERR_CORRUPT);
	}
	buf_clear(&b);
	record_write_mark(&b, UINT64_C(123456789012));
	assert_int_equal(record_read_mark(buf_peek(&b), &mark), 0);
	assert_true(mark == UINT64_C(123456789012));
	assert_int_equal(record_read_exit(buf_peek(&b), &x), ERR_CORRUPT);
	buf_fini(&b);
}

int
main(void)
{
#define RUN(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		RUN(test_removals_share_a_mark),
		cmocka_unit_test(test_records),
		RUN(test_runs),
		RUN(test_never_twice),
		RUN(test_torn_journal_stops_the_agent),
		RUN(test_reattach),
		RUN(test_holder_killed_is_unknown),
		RUN(test_end_of_a_spool_that_was_lost),
		RUN(test_bare_directory_is_unknown),
		RUN(test_exists_leads_to_attaching),
		RUN(test_backpressure_and_acks),
		RUN(test_dropped),
		RUN(test_order_survives_its_holder),
		RUN(test_no_holder_lives),
		RUN(test_cold_spool),
		RUN(test_input_window),
		RUN(test_halt),
		RUN(test_halted_at_birth),
		RUN(test_holder_reads_the_stop),
		RUN(test_lingering),
		RUN(test_refusals),
	};

	/* As every program here does; a holder may leave at any time. */
	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
