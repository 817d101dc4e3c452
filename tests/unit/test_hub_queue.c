/*
 * The queue of an agent: places, waits, news, purges, cordons.  Answers and
 * news are written down in short lines: "201 #3 queued 1/5000" is the answer
 * to a command that waits in the first place for an estimated 5 s.
 */
#include <stdio.h>

#include "base/err.h"

#include "model/command.h"

#include "support/rig.h"
#include "support/unit.h"

enum { IDS = 2048, OP = 900, WATCHER = 901, AGENT = 1 };
enum { TOKEN_AGENT = 1, TOKEN_ROOT, TOKEN_VIEWER, TOKEN_OPERATOR };

static struct world {
	struct rig rig;
	char log[1 << 16];
	size_t len;
	char ids[IDS][32];
	size_t id_count;
	int fail_verb; /* 0: none */
	int store_err;
	size_t news;
	size_t ops;
} w;

static const char *
short_id(struct slice id)
{
	static char text[16];
	size_t i = 0;

	if (id.ptr == NULL)
		return "-";
	while (i < w.id_count && !slice_eq(slice_from(w.ids[i]), id))
		i++;
	if (i == w.id_count) {
		assert_true(i < IDS && id.len < sizeof(w.ids[i]));
		memcpy(w.ids[w.id_count++], id.ptr, id.len);
	}
	snprintf(text, sizeof(text), "#%zu", i + 1);
	return text;
}

static struct slice
id_of(int n)
{
	return slice_from(w.ids[n - 1]);
}

static void __attribute__((format(printf, 1, 2))) note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	w.len += (size_t)vsnprintf(
	    w.log + w.len, sizeof(w.log) - w.len, format, args);
	va_end(args);
	assert_true(w.len < sizeof(w.log));
}

static void
note_queue(const struct queue_view *q)
{
	note("queue %.*s %u waiting %u running %s%s:", SLICE_FMT(q->agent_id),
	    q->size, q->running, short_id(q->executing),
	    q->cordoned_at != 0 ? " cordoned" : "");
	for (size_t i = 0; i < q->count && i < 6; i++)
		note(" %s=%u/%d", short_id(q->places[i].command_id),
		    q->places[i].position, (int)q->places[i].wait);
	note(q->count > 6 ? " and %zu more\n" : "\n", q->count - 6);
}

static void
note_reply(const struct reply *r)
{
	note("%u", r->status);
	if (r->err != 0)
		note(" %.*s", SLICE_FMT(r->code));
	if (r->command != NULL)
		note(" %s %.*s", short_id(r->command->id),
		    SLICE_FMT(command_state_name(r->command->state)));
	if (r->position > 0)
		note(" %u/%d", r->position, (int)r->wait);
	if (r->op == OP_QUEUE_PURGE && r->err == 0)
		note(" purged %d", (int)r->total);
	for (size_t i = 0; i < r->agent_count; i++)
		note(" %.*s%s", SLICE_FMT(r->agents[i].record->id),
		    r->agents[i].record->cordoned_at != 0 ? " cordoned" : "");
	if (r->queue == NULL) {
		note("\n");
		return;
	}
	note(" ");
	note_queue(r->queue);
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	if (e->kind == EFFECT_SEND && e->event->kind == EVENT_REPLY &&
	    e->event->reply->op != OP_EVENTS)
		note_reply(e->event->reply);
	if (e->kind == EFFECT_STREAM && e->stream.verb == STREAM_OPEN)
		note("open %s\n", short_id(e->stream.command_id));
	if (e->kind == EFFECT_PUBLISH &&
	    e->event->notice.kind == NOTICE_QUEUE) {
		w.news++;
		note("news ");
		note_queue(e->event->notice.queue);
	}
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	w.ops++;
	return w.fail_verb == (int)op->verb ? w.store_err : 0;
}

static void
forget(void)
{
	w.len = 0;
	w.log[0] = '\0';
}

#define expect(text) expect_(text, __LINE__)
static void
expect_(const char *text, int line)
{
	if (strcmp(w.log, text) != 0)
		fail_msg("line %d: wanted\n%s\ngot\n%s", line, text, w.log);
	forget();
}

/* The world ---------------------------------------------------------------- */

static void
load_people(void)
{
	const struct user_record users[] = {
		{ .id = SL("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1 },
		{ .id = SL("usr_view"),
		    .role = ROLE_VIEWER,
		    .workspace_id = 1 },
		{ .id = SL("usr_op"),
		    .role = ROLE_OPERATOR,
		    .selector = SL("env=prod"),
		    .workspace_id = 1 },
	};
	struct token_record tokens[] = {
		{ .id = SL("tok_a"), .scopes = SCOPES_CLUSTER },
		{ .id = SL("tok_r"), .user_id = SL("usr_root") },
		{ .id = SL("tok_v"), .user_id = SL("usr_view") },
		{ .id = SL("tok_o"), .user_id = SL("usr_op") },
	};
	const struct hub_snapshot snapshot = { .users = users,
		.user_count = 3,
		.tokens = tokens,
		.token_count = 4 };

	for (uint32_t i = 0; i < 4; i++) {
		tokens[i].name = tokens[i].id;
		tokens[i].workspace_id = 1;
		rig_hash(tokens[i].hash, i + 1);
		if (i > 0)
			tokens[i].scopes = SCOPES_ALL;
	}
	assert_int_equal(hub_load(w.rig.hub, &snapshot, 0), 0);
}

static int
begin(void **state)
{
	const struct hub_config config = { .seed = { 7, 8, 9, 10 },
		.incarnation = SL("db-1"),
		.concurrency = 2,
		.max_commands = 4000 };

	(void)state;
	memset(&w, 0, sizeof(w));
	rig_init(&w.rig, &config);
	assert_non_null(w.rig.hub);
	w.rig.perform = perform;
	w.rig.store = store;
	load_people();
	return 0;
}

static int
end(void **state)
{
	(void)state;
	assert_int_equal(w.rig.err, 0);
	rig_fini(&w.rig);
	return 0;
}

static void
arrive(const char *id, const char *verbs)
{
	struct event ev =
	    rig_hello(AGENT, TOKEN_AGENT, "192.0.2.1", ENTRANCE_CLUSTER_LINK);

	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, AGENT);
	ev.registration.agent_id = ev.registration.name = slice_from(id);
	ev.registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true,
		.policy_verbs = slice_from(verbs) };
	rig_input(&w.rig, &ev);
	forget();
}

static struct event
request(enum request_op op, uint32_t token, uint32_t peer, struct slice id)
{
	struct event ev = rig_event(EVENT_REQUEST, peer);
	struct event hello =
	    rig_hello(peer, token, "192.0.2.9", ENTRANCE_CLUSTER_HTTP);

	ev.request.op = op;
	ev.request.id = id;
	ev.request.credential = hello.hello.credential;
	return ev;
}

static void
ask(enum request_op op, uint32_t token, struct slice id)
{
	struct event ev = request(op, token, OP, id);

	rig_input(&w.rig, &ev);
}

static void
watch(void)
{
	struct event ev =
	    request(OP_EVENTS, TOKEN_ROOT, WATCHER, (struct slice){ 0 });

	rig_input(&w.rig, &ev);
	forget();
}

struct wish {
	const char *argv;
	int priority; /* -1 low, 1 high */
	bool foreground;
	bool or_fail;
	bool force;
	msec deadline;
	uint32_t token;
};

static void
run(const char *agent, struct wish wish)
{
	const struct command_record r = {
		.argv_json = wish.argv == NULL ? SL("[\"true\"]")
					       : slice_from(wish.argv),
		.priority = (uint8_t)(1 + wish.priority),
		.foreground = wish.foreground,
		.deadline_at =
		    wish.deadline == 0 ? 0 : w.rig.wall + wish.deadline,
	};
	struct event ev = request(OP_COMMAND_CREATE,
	    wish.token == 0 ? TOKEN_ROOT : wish.token, OP, slice_from(agent));

	ev.request.command = &r;
	ev.request.attach = wish.foreground;
	ev.request.or_fail = wish.or_fail;
	ev.request.force = wish.force;
	rig_input(&w.rig, &ev);
}

#define PLAIN ((struct wish){ 0 })

/* It ran so long, by the agent's own clock. */
static void
ends_after(int command, msec took, int code)
{
	struct event ev = rig_event(EVENT_COMMAND_EXIT, AGENT);

	ev.outcome.command_id = id_of(command);
	ev.outcome.started_at = 1000000;
	ev.outcome.finished_at = 1000000 + took;
	ev.outcome.exit_code = code;
	rig_input(&w.rig, &ev);
}

static void
later(msec by)
{
	rig_advance(&w.rig, w.rig.now + by);
}

/* Places and waits --------------------------------------------------------- */

static void
test_places(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	run("a", PLAIN);
	expect("201 #1 sent\nopen #1\n201 #2 sent\nopen #2\n");
	/* Two run and nothing is known: 5 s each, two at a time. */
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", (struct wish){ .priority = -1 });
	expect("201 #3 queued 1/5000\n201 #4 queued 2/7500\n"
	       "201 #5 queued 3/10000\n");
	/* Who is more urgent goes before all of these. */
	run("a", (struct wish){ .priority = 1 });
	expect("201 #6 queued 1/5000\n");
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 queue a 4 waiting 2 running #1:"
	       " #6=1/5000 #3=2/7500 #4=3/10000 #5=4/12500\n");
}

static void
test_waits_follow_what_is_learnt(void **state)
{
	(void)state;
	arrive("a", "exec");
	for (int i = 0; i < 2; i++)
		run("a", (struct wish){ .argv = "[\"slow\"]" });
	for (int i = 0; i < 2; i++)
		run("a", (struct wish){ .argv = "[\"quick\"]" });
	run("a", (struct wish){ .argv = "[\"slow\"]" });
	forget();
	/* One slow took a minute: of quick ones nothing is known but that. */
	ends_after(1, 60000, 0);
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(5));
	expect("open #3\n200 2/90000\n");
	ends_after(3, 1000, 1);
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(5));
	/* slow #2 and quick #4 run: (60 + 1) / 2 s. */
	expect("open #4\n200 1/30500\n");
	/* Those that are cut short teach nothing. */
	struct event ev = rig_event(EVENT_COMMAND_EXIT, AGENT);
	ev.outcome.command_id = id_of(4);
	ev.outcome.interrupted = true;
	ev.outcome.started_at = 1;
	ev.outcome.finished_at = 900000;
	rig_input(&w.rig, &ev);
	run("a", (struct wish){ .argv = "[\"quick\"]" });
	expect("open #5\n201 #6 queued 1/60000\n");
}

/* More kinds of commands than there are means: those that wait keep theirs,
 * what is left over is counted with all. */
static void
test_more_kinds_than_means(void **state)
{
	char argv[32];

	(void)state;
	arrive("a", "exec");
	for (int i = 0; i < 100; i++) {
		snprintf(argv, sizeof(argv), "[\"job-%d\"]", i);
		run("a", (struct wish){ .argv = argv });
	}
	forget();
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(100));
	expect("200 98/247500\n");
	for (int i = 1; i <= 98; i++)
		ends_after(i, 1000, 0);
	forget();
	run("a", PLAIN);
	expect("201 #101 queued 1/1000\n");
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	expect("200 purged 1\n");
}

static void
test_what_takes_no_place(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	/* Attached ones run beside the queue, and add no wait. */
	run("a", (struct wish){ .foreground = true });
	expect("201 #4 sent\nopen #4\n");
	run("a", PLAIN);
	expect("201 #5 queued 2/7500\n");
	ask(OP_COMMAND_CANCEL, TOKEN_ROOT, id_of(3));
	expect("200 #3 cancelled\n");
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(5));
	expect("200 1/5000\n");
	/* One that has begun, and one that is over. */
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(1));
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(3));
	expect("200\n200\n");
}

/* News --------------------------------------------------------------------- */

static void
test_news_are_gathered(void **state)
{
	(void)state;
	arrive("a", "exec");
	watch();
	later(1000);
	forget();
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	later(49);
	expect("");
	later(1);
	expect("news queue a 1 waiting 2 running #1: #3=1/5000\n");
	later(10000);
	expect("");
	/* What runs now is news, too. */
	struct event ev = rig_event(EVENT_COMMAND_STARTED, AGENT);
	ev.outcome.command_id = id_of(2);
	ev.outcome.started_at = w.rig.wall;
	rig_input(&w.rig, &ev);
	later(50);
	expect("news queue a 1 waiting 2 running #2: #3=1/5000\n");
}

static void
test_news_of_many(void **state)
{
	(void)state;
	arrive("a", "exec");
	watch();
	for (int i = 0; i < 1002; i++) {
		run("a", PLAIN);
		/* No user may ask more often than 600 times a minute. */
		later(120);
		forget();
	}
	run("a", PLAIN);
	expect("429 QUEUE_FULL\n");
	run("a", (struct wish){ .foreground = true });
	forget();
	later(50);
	expect("news queue a 1000 waiting 3 running #1: #3=1/5000 #4=2/7500"
	       " #5=3/10000 #6=4/12500 #7=5/15000 #8=6/17500 and 94 more\n");
	w.news = 0;
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	expect("200 purged 1000\n");
	later(50);
	expect("news queue a 0 waiting 3 running #1:\n");
	assert_int_equal(w.news, 1);
}

static void
test_nobody_watches(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	later(1000);
	assert_int_equal(w.news, 0);
	/* Who comes later hears of what changes then. */
	watch();
	run("a", PLAIN);
	later(50);
	assert_int_equal(w.news, 1);
}

/* Purging ------------------------------------------------------------------ */

static void
test_purge_rights(void **state)
{
	(void)state;
	arrive("a", "exec");
	for (int i = 0; i < 4; i++)
		run("a", PLAIN);
	forget();
	ask(OP_QUEUE_PURGE, TOKEN_VIEWER, SL("a"));
	ask(OP_QUEUE_PURGE, TOKEN_OPERATOR, SL("a"));
	ask(OP_QUEUE_PURGE, TOKEN_AGENT, SL("a"));
	ask(OP_QUEUE_SHOW, TOKEN_OPERATOR, SL("a"));
	expect("403 NOT_PERMITTED\n404 AGENT_NOT_FOUND\n403 NOT_PERMITTED\n"
	       "404 AGENT_NOT_FOUND\n");
	/* What runs goes on. */
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	expect("200 purged 2\n200 purged 0\n");
	ends_after(1, 1, 0);
	expect("");
}

/* Cordons ------------------------------------------------------------------ */

static void
test_cordon(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	ask(OP_AGENT_CORDON, TOKEN_VIEWER, SL("a"));
	ask(OP_AGENT_CORDON, TOKEN_OPERATOR, SL("a"));
	expect("403 NOT_PERMITTED\n404 AGENT_NOT_FOUND\n");
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	expect("200 a cordoned\n");
	/* What runs ends, what waits stays, what is new waits or is
	 * refused. */
	ends_after(1, 1000, 0);
	run("a", PLAIN);
	run("a", (struct wish){ .foreground = true });
	run("a", (struct wish){ .or_fail = true });
	expect("201 #4 queued 2/1000\n409 CORDONED\n409 CORDONED\n");
	run("a", (struct wish){ .foreground = true, .force = true });
	expect("201 #5 sent\nopen #5\n");
	/* Twice is no change; it is stored, so a new link changes nothing. */
	size_t ops = w.ops;
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	assert_int_equal(w.ops, ops);
	expect("200 a cordoned\n");
	ask(OP_AGENT_UNCORDON, TOKEN_ROOT, SL("a"));
	expect("200 a\nopen #3\n");
}

static void
test_cordon_not_stored(void **state)
{
	(void)state;
	arrive("a", "exec");
	w.fail_verb = OP_PUT_AGENT;
	w.store_err = ERR_IO;
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	expect("503 STORE_FAILED\n");
	run("a", PLAIN);
	expect("201 #1 sent\nopen #1\n");
	w.fail_verb = 0;
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	run("a", PLAIN);
	expect("200 a cordoned\n201 #2 queued 1/2500\n");
	w.fail_verb = OP_PUT_AGENT;
	ask(OP_AGENT_UNCORDON, TOKEN_ROOT, SL("a"));
	expect("503 STORE_FAILED\n");
	ask(OP_AGENT_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 a cordoned\n");
}

/* What waits past its deadline is over, cordoned or not. */
static void
test_cordoned_expire(void **state)
{
	(void)state;
	arrive("a", "exec");
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	run("a", (struct wish){ .deadline = 5000 });
	forget();
	later(6000);
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 queue a 0 waiting 0 running - cordoned:\n");
}

int
main(void)
{
#define QUEUE_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(test_places),
		QUEUE_TEST(test_waits_follow_what_is_learnt),
		QUEUE_TEST(test_more_kinds_than_means),
		QUEUE_TEST(test_what_takes_no_place),
		QUEUE_TEST(test_news_are_gathered),
		QUEUE_TEST(test_news_of_many),
		QUEUE_TEST(test_nobody_watches),
		QUEUE_TEST(test_purge_rights),
		QUEUE_TEST(test_cordon),
		QUEUE_TEST(test_cordon_not_stored),
		QUEUE_TEST(test_cordoned_expire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
