#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/clock.h"
#include "io/crash.h"
#include "io/file.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/rand.h"

#include "agent/command.h"
#include "agent/holder_proto.h"

enum { POOL = 2 }; /* idle holders: the usual command waits for no fork */

static struct command *
of_run(const struct commands *cs, const struct run *r)
{
	return map_get(&cs->map, run_id(r));
}

static void
tell(struct command *c)
{
	if (c->watcher != NULL)
		c->home->config.ops->changed(c->watcher, c);
}

/* A command's memory; the run and the disk are the runner's. */
static void
free_command(struct command *c)
{
	if (c->watcher != NULL)
		c->home->config.ops->replaced(c->watcher, c);
	(void)map_del(&c->home->map, run_id(c->run));
	buf_fini(&c->input);
	alloc_free(c);
}

static int
new_command(struct commands *cs, struct run *r, struct command **out)
{
	struct command *c = alloc_new(sizeof(*c));

	if (c == NULL)
		return ERR_NOMEM;
	c->home = cs;
	c->run = r;
	buf_init(&c->input, COMMAND_INPUT);
	int err = map_put(&cs->map, run_id(r), c);
	if (err != 0) {
		alloc_free(c);
		return err;
	}
	*out = c;
	return 0;
}

/* Input ---------------------------------------------------------------------
 */

/* Give the holder what it has room for. */
static void
feed(struct command *c)
{
	if (run_state(c->run) != RUN_RUNNING)
		return;
	while (buf_peek(&c->input).len > 0 && !c->input_closed) {
		struct slice s = slice_first(buf_peek(&c->input), 16 * 1024);
		if (runner_input(c->run, c->input_at, s) != 0)
			return;
		buf_eat(&c->input, s.len);
		c->input_at += s.len;
	}
	if (c->input_ended && !c->input_told && c->input_at == c->input_end)
		c->input_told = runner_input_end(c->run, c->input_end) == 0;
}

/* Its end of the pipe is shut: what comes is taken and dropped. */
static void
drop_input(struct command *c)
{
	c->input_at += buf_peek(&c->input).len;
	buf_clear(&c->input);
	c->input_taken = c->input_at;
}

int
command_input(struct command *c, uint64_t at, struct slice data)
{
	uint64_t have = c->input_at + buf_peek(&c->input).len;

	if (at > have || c->input_ended)
		return c->input_ended && at + data.len <= have ? 0 : ERR_RANGE;
	data = slice_from_at(data, (size_t)(have - at));
	if (have + data.len > command_input_limit(c))
		return ERR_FULL;
	crash_point("agent.input");
	buf_put(&c->input, data);
	if (c->input.err != 0)
		return c->input.err;
	if (c->input_closed || run_state(c->run) >= RUN_ENDED)
		drop_input(c);
	else
		feed(c);
	return 0;
}

int
command_input_end(struct command *c, uint64_t at)
{
	if (c->input_ended)
		return at == c->input_end ? 0 : ERR_RANGE;
	if (at != c->input_at + buf_peek(&c->input).len)
		return ERR_RANGE;
	c->input_ended = true;
	c->input_end = at;
	feed(c);
	return 0;
}

uint64_t
command_input_limit(const struct command *c)
{
	return c->input_taken + COMMAND_INPUT;
}

/* What the runner tells -----------------------------------------------------
 */

/* After a restart the holder knows what it has; we begin from there. */
static void
sync_input(struct command *c)
{
	const struct run_input *in = run_input(c->run);

	c->input_closed = in->closed;
	if (in->received > c->input_taken)
		c->input_taken = in->received;
	if (c->input_at < c->input_taken && buf_peek(&c->input).len == 0)
		c->input_at = c->input_taken;
}

/* Nobody wants it: it must not fill the disk or block the command. */
static void
drop_output(struct command *c)
{
	for (int i = 0; i < 2; i++)
		runner_ack(c->run, i, c->size[i]);
	runner_more(c->run, c->size);
}

/* Nobody will write to it or read from it: it must not wait for either. */
static void
disown(struct command *c)
{
	c->input_ended = true;
	c->input_told = false;
	c->input_end = c->input_at + buf_peek(&c->input).len;
	feed(c);
	drop_output(c);
}

static void
on_started(void *arg, struct run *r, int64_t pid)
{
	struct command *c = of_run(arg, r);

	crash_point("agent.started");
	if (c == NULL)
		return;
	c->pid = pid;
	if (c->started_at == 0)
		c->started_at = clock_wall();
	sync_input(c);
	if (c->forgetting)
		disown(c);
	else
		feed(c);
	tell(c);
}

static void
on_output(void *arg, struct run *r, const struct run_output *o)
{
	struct command *c = of_run(arg, r);

	if (c == NULL)
		return;
	c->asked = false;
	memcpy(c->size, o->size, sizeof(c->size));
	c->waits = (o->flags & (HOLDER_OUT_WAITS | HOLDER_ERR_WAITS)) != 0;
	if (c->forgetting)
		drop_output(c);
	tell(c);
}

static void
on_input(void *arg, struct run *r, const struct run_input *in)
{
	struct command *c = of_run(arg, r);

	if (c == NULL)
		return;
	sync_input(c);
	if (in->closed)
		drop_input(c);
	feed(c);
	tell(c);
}

static void
on_ended(void *arg, struct run *r, const struct record_exit *x)
{
	struct command *c = of_run(arg, r);

	crash_point("agent.ended");
	if (c == NULL)
		return;
	c->exit = *x;
	memcpy(c->size, x->size, sizeof(c->size));
	if (c->started_at == 0)
		c->started_at = x->start;
	drop_input(c);
	log_info("command_ended", kv_s("id", run_id(r)),
	    kv_s("outcome", x->outcome), kv_i("code", x->code),
	    kv_i("signal", x->signal));
	if (c->forgetting)
		command_forget(c);
	else
		tell(c);
}

static void
keep_word(char *out, size_t size, struct slice s)
{
	if (slice_cstr(slice_first(s, size - 1), out, size) != 0)
		out[0] = '\0';
}

static void
on_refused(void *arg, struct run *r, struct slice reason, struct slice error)
{
	struct command *c = of_run(arg, r);

	if (c == NULL)
		return;
	keep_word(c->reason, sizeof(c->reason), reason);
	keep_word(c->error, sizeof(c->error), error);
	drop_input(c);
	log_warn("command_refused", kv_s("id", run_id(r)),
	    kv_s("reason", reason), kv_s("error", error));
	if (c->forgetting)
		command_forget(c);
	else
		tell(c);
}

static void
on_fetched(void *arg, struct run *r)
{
	struct command *c = of_run(arg, r);

	if (c != NULL)
		tell(c);
}

static void
on_gone(void *arg, struct run *r)
{
	struct command *c = of_run(arg, r);

	if (c != NULL && c->forgetting)
		command_forget(c);
}

static void
on_quiet(void *arg)
{
	struct commands *cs = arg;

	cs->config.ops->quiet(cs->config.arg);
}

static void
on_closed(void *arg)
{
	struct commands *cs = arg;

	cs->config.ops->closed(cs->config.arg);
}

static const struct runner_ops ops = {
	.started = on_started,
	.output = on_output,
	.input = on_input,
	.ended = on_ended,
	.refused = on_refused,
	.fetched = on_fetched,
	.gone = on_gone,
	.quiet = on_quiet,
	.closed = on_closed,
};

/* Life ----------------------------------------------------------------------
 */

static int
adopt(struct commands *cs)
{
	struct command *c;
	struct run *r;
	size_t pos = 0;

	int err = runner_adopt(cs->runner);
	while (err == 0 && (r = runner_next(cs->runner, &pos)) != NULL)
		err = new_command(cs, r, &c);
	return err;
}

int
commands_open(struct commands *cs, const struct commands_config *c)
{
	const struct runner_config rc = {
		.loop = c->loop,
		.fs = &file_real,
		.state = c->dir,
		.holder = c->holder,
		.cgroup = c->cgroup,
		.stop = c->stop,
		.pool = POOL,
		.cap = COMMAND_CAP,
		.ops = &ops,
		.arg = cs,
	};
	uint64_t seed[2];

	*cs = (struct commands){ .config = *c };
	rand_fill(seed, sizeof(seed));
	map_init(&cs->map, COMMAND_CAP, seed);
	int err = runner_new(&rc, &cs->runner);
	if (err != 0) {
		map_fini(&cs->map);
		return err;
	}
	if (c->halted)
		runner_halt(cs->runner, true);
	return adopt(cs);
}

void
commands_close(struct commands *cs)
{
	struct command *c;
	size_t pos;

	while (pos = 0, (c = map_next(&cs->map, &pos)) != NULL)
		free_command(c);
	runner_close(cs->runner);
}

void
commands_free(struct commands *cs)
{
	map_fini(&cs->map);
	runner_free(cs->runner);
}

struct command *
commands_find(const struct commands *cs, struct slice id)
{
	return map_get(&cs->map, id);
}

struct command *
commands_next(const struct commands *cs, size_t *pos)
{
	return map_next(&cs->map, pos);
}

size_t
commands_running(const struct commands *cs)
{
	size_t pos = 0, n = 0;
	struct command *c;

	while ((c = map_next(&cs->map, &pos)) != NULL)
		n += run_state(c->run) < RUN_ENDED;
	return n;
}

bool
commands_waiting(const struct commands *cs)
{
	size_t pos = 0;
	struct command *c;

	while ((c = map_next(&cs->map, &pos)) != NULL) {
		if (c->waits && run_state(c->run) < RUN_ENDED)
			return true;
	}
	return false;
}

/* A bucket that holds a minute's starts. */
static bool
within_rate(struct commands *cs, uint64_t rate, msec now)
{
	double most = (double)rate;

	if (rate == 0)
		return true;
	if (cs->refilled == 0)
		cs->tokens = most;
	else
		cs->tokens += (double)(now - cs->refilled) * most / 60000;
	cs->refilled = now;
	if (cs->tokens > most)
		cs->tokens = most;
	if (cs->tokens < 1)
		return false;
	cs->tokens -= 1;
	return true;
}

int
commands_start(struct commands *cs, const struct run_order *o, uint64_t rate,
    msec now, struct command **out)
{
	struct run *r;

	if (!within_rate(cs, rate, now))
		return ERR_LIMITED;
	int err = runner_start(cs->runner, o, &r);
	if (err != 0)
		return err;
	err = new_command(cs, r, out);
	if (err != 0) {
		/* It runs and nobody could be told: end it. */
		(void)runner_signal(r, HOLDER_KILL);
		return err;
	}
	(*out)->started_at = clock_wall();
	return 0;
}

void
command_watch(struct command *c, void *watcher)
{
	void *old = c->watcher;

	c->watcher = watcher;
	if (old != NULL && old != watcher)
		c->home->config.ops->replaced(old, c);
}

void
command_unwatch(struct command *c, void *watcher)
{
	if (c->watcher == watcher)
		c->watcher = NULL;
}

const char *
command_state(const struct command *c)
{
	if (run_state(c->run) < RUN_ENDED)
		return "running";
	if (run_state(c->run) == RUN_ENDED &&
	    slice_eq(c->exit.outcome, SL("unknown")))
		return "unknown";
	return "exited";
}

void
command_ack(struct command *c, int stream, uint64_t offset)
{
	if (offset > c->size[stream])
		offset = c->size[stream];
	if (offset <= c->acked[stream])
		return;
	crash_point("agent.ack");
	c->acked[stream] = offset;
	runner_ack(c->run, stream, offset);
}

void
command_forget(struct command *c)
{
	struct run *r = c->run;

	c->forgetting = true;
	c->watcher = NULL;
	if (run_state(r) < RUN_ENDED) {
		log_warn("command_disowned", kv_s("id", run_id(r)));
		disown(c);
		return;
	}
	struct commands *cs = c->home;
	/* The id in the map is the run's own: it goes first. */
	(void)map_del(&cs->map, run_id(r));
	int err = runner_forget(r);
	if (err == 0) {
		buf_fini(&c->input);
		alloc_free(c);
		return;
	}
	if (map_put(&cs->map, run_id(r), c) != 0) {
		buf_fini(&c->input);
		alloc_free(c);
	}
}
