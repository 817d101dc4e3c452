/*
 * queue_ops DIR: how many commands a second the hub and the store take, one
 * commit a batch of 1, 16 and 256, beside what a synced write of 4 KiB costs
 * in the same place.  No network and no agent's program: what is measured is
 * what decides and what keeps.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "model/hub.h"

#include "io/clock.h"
#include "io/file.h"

#include "store/store.h"

enum { SPAN_NS = 2000000000, BATCH = 256, IDS = 1 << 20, CAP = 256 << 20 };

static const wall_msec begin_wall = 1760616000000;
static const struct peer_id operator_peer = { .lane = 1, .slot = 1 };
static const struct peer_id agent_peer = { .lane = 1, .slot = 2 };

struct bench {
	struct hub *hub;
	struct store *store;
	struct outbox out;
	struct arena ids; /* of the commands of one batch */
	struct slice made[BATCH];
	size_t made_count;
	msec now;
	int64_t hub_ns; /* CPU within the hub */
	uint64_t ops;
};

static void
die(const char *why)
{
	fprintf(stderr, "queue_ops: %s\n", why);
	exit(1);
}

static int64_t
cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void
give(struct bench *b, const struct event *ev)
{
	struct event now = *ev;
	int64_t before = cpu_ns();

	now.at = begin_wall + b->now;
	hub_input(b->hub, &now, b->now, &b->out);
	b->hub_ns += cpu_ns() - before;
	if (b->out.err != 0)
		die("the hub has no memory");
}

static void
note_made(struct bench *b, const struct op *op)
{
	if (op->verb != OP_PUT_COMMAND || b->made_count == BATCH)
		return;
	if (arena_copy(&b->ids, op->command->id, &b->made[b->made_count++]) !=
	    0)
		die("no memory");
}

/* What the hub wants stored, in one commit, and the hub hears of it; then what
 * follows from that. */
static void
commit(struct bench *b)
{
	size_t room = 4 * b->out.count + 64, from = 0, n;
	const struct op **ops = arena_array(&b->out.arena, room, sizeof(*ops));
	int *errs = arena_array(&b->out.arena, room, sizeof(*errs));

	if (ops == NULL || errs == NULL)
		die("no memory");
	do {
		n = 0;
		for (; from < b->out.count && n < room; from++) {
			const struct effect *e = &b->out.effects[from];
			if (e->kind == EFFECT_STORE)
				ops[n++] = e->op;
		}
		if (n > 0 && store_apply(b->store, ops, n, errs) != 0)
			die("the store fails");
		b->ops += n;
		for (size_t i = 0; i < n; i++) {
			struct event ev = { .kind = EVENT_STORED };
			ev.stored.number = ops[i]->number;
			ev.stored.err = errs[i];
			if (errs[i] != 0)
				die("an operation fails");
			note_made(b, ops[i]);
			give(b, &ev);
		}
	} while (n > 0);
}

static void
end_turn(struct bench *b)
{
	outbox_reset(&b->out);
}

/* The world ---------------------------------------------------------------- */

static void
put(struct bench *b, const struct op *op)
{
	int err = 0;

	if (store_apply(b->store, &op, 1, &err) != 0 || err != 0)
		die("the store is not as it should be");
}

static void
load(struct bench *b)
{
	static const struct user_record user = { .id = SL_INIT("usr_root"),
		.name = SL_INIT("root"),
		.role = ROLE_ADMIN,
		.workspace_id = 1 };
	static struct token_record tokens[] = {
		{ .id = SL_INIT("tok_r"),
		    .name = SL_INIT("r"),
		    .scopes = SCOPES_ALL,
		    .user_id = SL_INIT("usr_root"),
		    .workspace_id = 1 },
		{ .id = SL_INIT("tok_a"),
		    .name = SL_INIT("a"),
		    .scopes = SCOPES_CLUSTER,
		    .workspace_id = 1 },
	};
	const struct hub_snapshot s = { .users = &user,
		.user_count = 1,
		.tokens = tokens,
		.token_count = 2 };

	tokens[0].hash[0] = 1;
	tokens[1].hash[0] = 2;
	put(b, &(struct op){ .verb = OP_PUT_USER, .user = &user });
	for (size_t i = 0; i < 2; i++)
		put(b,
		    &(struct op){ .verb = OP_PUT_TOKEN, .token = &tokens[i] });
	if (hub_load(b->hub, &s, 0) != 0)
		die("no memory");
}

static struct credential
token(uint8_t n)
{
	struct credential c = { .kind = CREDENTIAL_TOKEN,
		.address = SL("127.0.0.1"),
		.remote = SL("127.0.0.1:1") };

	c.hash[0] = n;
	return c;
}

static void
arrive(struct bench *b)
{
	struct event ev = { .kind = EVENT_HELLO, .peer = agent_peer };

	ev.hello.credential = token(2);
	ev.hello.native = true;
	give(b, &ev);
	ev = (struct event){ .kind = EVENT_REGISTER, .peer = agent_peer };
	ev.registration.agent_id = ev.registration.name = SL("bench");
	ev.registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true };
	give(b, &ev);
	commit(b);
	end_turn(b);
}

static void
leave(struct bench *b)
{
	struct event ev = { .kind = EVENT_GONE, .peer = agent_peer };

	give(b, &ev);
	commit(b);
	end_turn(b);
}

static void
request(struct bench *b, enum request_op op, struct slice id)
{
	static const struct command_record wish = {
		.argv_json = SL_INIT("[\"sh\",\"-c\",\"echo hello\"]"),
		.priority = 1
	};
	struct event ev = { .kind = EVENT_REQUEST, .peer = operator_peer };

	ev.request.op = op;
	ev.request.id = id;
	ev.request.credential = token(1);
	ev.request.command = &wish;
	give(b, &ev);
}

static void
word(struct bench *b, enum event_kind kind, struct slice id)
{
	struct event ev = { .kind = kind, .peer = agent_peer };

	ev.outcome.command_id = id;
	ev.outcome.started_at = ev.outcome.finished_at = begin_wall + b->now;
	give(b, &ev);
}

/* What is measured --------------------------------------------------------- */

/* Commands that wait for an agent that is away. */
static void
enqueue(struct bench *b, size_t batch)
{
	for (size_t i = 0; i < batch; i++)
		request(b, OP_COMMAND_CREATE, SL("bench"));
	commit(b);
	end_turn(b);
}

/* All that the controller does for a command: made and sent, running, over. */
static void
whole(struct bench *b, size_t batch)
{
	enqueue(b, batch);
	for (size_t i = 0; i < b->made_count; i++)
		word(b, EVENT_COMMAND_STARTED, b->made[i]);
	for (size_t i = 0; i < b->made_count; i++)
		word(b, EVENT_COMMAND_EXIT, b->made[i]);
	commit(b);
	end_turn(b);
}

static void
measure(struct bench *b, const char *name, size_t batch,
    void (*step)(struct bench *b, size_t batch))
{
	int64_t begin = clock_mono_ns(), span;
	size_t commands = 0;

	b->hub_ns = 0;
	b->ops = 0;
	do {
		b->made_count = 0;
		arena_reset(&b->ids);
		step(b, batch);
		commands += batch;
		b->now++;
		span = clock_mono_ns() - begin;
	} while (span < SPAN_NS);
	printf("%s %zu %.0f %.0f %.2f\n", name, batch,
	    (double)commands * 1e9 / (double)span,
	    (double)b->ops * 1e9 / (double)span,
	    (double)b->hub_ns / 1e3 / (double)commands);
	fflush(stdout);
}

/* Synced writes a second. */
static void
floor_of(const char *dir)
{
	static const uint8_t page[4096];
	char path[4096];
	int64_t begin = clock_mono_ns(), span;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/floor", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		die("cannot write there");
	do {
		if (pwrite(fd, page, sizeof(page),
			(off_t)(n++ % 1024 * sizeof(page))) < 0 ||
		    fdatasync(fd) != 0)
			die("cannot write there");
		span = clock_mono_ns() - begin;
	} while (span < SPAN_NS / 2);
	printf("floor 1 %.0f\n", (double)n * 1e9 / (double)span);
	close(fd);
	unlink(path);
}

int
main(int argc, char **argv)
{
	const struct hub_config config = { .seed = { 1, 2, 3, 4 },
		.incarnation = SL("bench"),
		.max_commands = 4000000,
		.queue_limit = 4000000,
		.concurrency = 100000,
		.request_rate = UINT32_MAX };
	static const size_t batches[] = { 1, 16, 256 };
	struct bench b = { .now = 1 };
	char why[512];

	if (argc != 2)
		die("usage: queue_ops DIR");
	const struct store_config store = { .dir = argv[1],
		.files = &file_real };
	if (store_open(&b.store, &store, why, sizeof(why)) != 0)
		die(why);
	struct hub_config mine = config;
	mine.fence = store_fence(b.store);
	b.hub = hub_new(&mine);
	if (b.hub == NULL)
		die("no memory");
	outbox_init(&b.out, CAP);
	arena_init(&b.ids, IDS);
	load(&b);
	arrive(&b);
	floor_of(argv[1]);
	for (size_t i = 0; i < 3; i++)
		measure(&b, "whole", batches[i], whole);
	leave(&b);
	for (size_t i = 0; i < 3; i++)
		measure(&b, "enqueue", batches[i], enqueue);
	hub_free(b.hub);
	outbox_fini(&b.out);
	arena_fini(&b.ids);
	store_close(b.store);
	return 0;
}
