/*
 * A fleet on virtual time.  Agents connect, break, come back in storms,
 * register twice, restart; links are slow; operators run commands; the store
 * answers late, fails, or the controller starts anew from what it holds;
 * the wall clock jumps.  Then everything calms down, and what the hub, the
 * store and the agents believe must be the same, and nothing ran twice.
 *
 * MUSTER_SIM_SEED and MUSTER_SIM_AGENTS choose another run.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/map.h"

#include "model/clone.h"
#include "model/command.h"

#include "support/rig.h"
#include "support/unit.h"

enum {
	OPERATOR = 0, /* peer slots of agents begin above */
	TOKEN_AGENTS = 1,
	TOKEN_ROOT = 2,
	HELD_MAX = 64,
	CHAOS = 15 * 60000,
	CALM = 5 * 60000,
	COMMANDS_MAX = 20000,
};

/* A command as its agent knows it. */
struct held {
	char id[32];
	bool exited;
	bool attached; /* on the present link */
};

struct agent {
	uint32_t index;
	bool foreign;
	uint32_t peer;   /* of its link; 0 = none */
	bool registered; /* was told so on that link */
	uint64_t mark;   /* highest number it ever took */
	struct held held[HELD_MAX];
	size_t held_count;
	msec in_last, out_last; /* of the link: what is sent arrives in order */
};

/* What an operator asked for, as the store and the agents saw it. */
struct row {
	struct command_record *record; /* owned */
	uint32_t runs;
};

enum happening {
	CONNECT,     /* an agent's handshake arrives */
	AGENT_SAYS,  /* an event arrives from an agent */
	AGENT_HEARS, /* an effect arrives at an agent */
	BROKEN,      /* the controller notices */
	BEAT,
	ENDS,  /* a program ends */
	MEDDLE /* chance does something */
};

struct happens {
	struct heap_node node;
	enum happening what;
	uint32_t agent;
	uint32_t peer; /* of which link */
	enum event_kind kind;
	enum stream_verb verb;
	uint64_t sequence;
	bool goodbye;
	char id[32];
};

static struct sim {
	struct rig rig;
	struct heap queue;
	uint64_t order; /* equal instants happen in the order of their making */
	uint64_t seed;
	bool calm;
	struct agent *agents;
	uint32_t count;
	struct agent_record **stored; /* rows of agents, by index */
	struct row *rows;
	size_t row_count;
	struct map by_id;
	uint32_t *owners; /* of peers: agent index + 1 */
	uint32_t peer_room, next_peer;
	enum { STORE_OK, STORE_LATE, STORE_FAILS } store;
	uint64_t twice, told, refused;
} m;

static uint32_t
chance(uint32_t below)
{
	m.seed ^= m.seed << 13;
	m.seed ^= m.seed >> 7;
	m.seed ^= m.seed << 17;
	return (uint32_t)((m.seed >> 16) % below);
}

/* The queue ---------------------------------------------------------------- */

static struct happens *
plan(msec at, enum happening what, uint32_t agent)
{
	struct happens *h = alloc_new(sizeof(*h));

	assert_non_null(h);
	h->what = what;
	h->agent = agent;
	h->peer = m.agents == NULL ? 0 : m.agents[agent].peer;
	assert_int_equal(heap_set(&m.queue, &h->node,
			     (at << 24) + (msec)(m.order++ & 0xffffff)),
	    0);
	return h;
}

static msec
delay(void)
{
	return m.calm ? 5 : 1 + chance(chance(10) == 0 ? 3000 : 80);
}

static struct happens *
plan_in_order(msec *last, enum happening what, uint32_t agent)
{
	msec at = m.rig.now + delay();

	*last = at > *last ? at : *last;
	return plan(*last, what, agent);
}

/* The store: rows, and the rules of op.h -------------------------------------
 */

static struct row *
find_row(struct slice id)
{
	return map_get(&m.by_id, id);
}

static int
put_command(const struct command_record *c)
{
	if (find_row(c->id) != NULL)
		return ERR_EXISTS;
	assert_true(m.row_count < COMMANDS_MAX);
	struct row *row = &m.rows[m.row_count++];
	row->record = clone_new(CLONE_COMMAND, c);
	assert_non_null(row->record);
	assert_int_equal(map_put(&m.by_id, row->record->id, row), 0);
	return 0;
}

static int
change_command(const struct op *op)
{
	struct row *row = find_row(op->command->id);
	enum command_state from, to = op->command->state;

	if (row == NULL)
		return ERR_NOT_FOUND;
	from = row->record->state;
	if (op->verb == OP_COMMAND_SENT ? from != COMMAND_QUEUED
					: command_is_final(from))
		return ERR_WRONG_STATE;
	row->record->state = to;
	if (op->verb == OP_COMMAND_SENT)
		row->record->sequence = op->command->sequence;
	return 0;
}

static uint32_t
index_of(struct slice agent_id)
{
	uint64_t n = 0;

	assert_int_equal(
	    slice_u64(slice_from_at(agent_id, 1), UINT32_MAX, &n), 0);
	return (uint32_t)n;
}

static int
put_agent(const struct agent_record *a)
{
	uint32_t i = index_of(a->id);

	alloc_free(m.stored[i]);
	m.stored[i] = clone_new(CLONE_AGENT, a);
	assert_non_null(m.stored[i]);
	return 0;
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	if (m.store == STORE_LATE)
		return RIG_HOLD;
	if (m.store == STORE_FAILS && chance(3) > 0)
		return chance(2) > 0 ? ERR_IO : ERR_BUSY;
	if (op->verb == OP_PUT_COMMAND)
		return put_command(op->command);
	if (op->verb == OP_PUT_AGENT)
		return put_agent(op->agent);
	if (op->verb == OP_COMMAND_SENT || op->verb == OP_COMMAND_RUNS ||
	    op->verb == OP_COMMAND_ENDED)
		return change_command(op);
	return 0;
}

/* What the controller does to the world ---------------------------------------
 */

static void
perform(void *arg, const struct effect *e)
{
	uint32_t owner =
	    e->peer.slot < m.peer_room ? m.owners[e->peer.slot] : 0;
	struct happens *h;

	(void)arg;
	if (owner == 0 || m.agents[owner - 1].peer != e->peer.slot)
		return;
	struct agent *a = &m.agents[owner - 1];
	if (e->kind == EFFECT_SEND) {
		h = plan_in_order(&a->in_last, AGENT_HEARS, a->index);
		h->kind = e->event->kind;
	} else if (e->kind == EFFECT_STREAM) {
		h = plan_in_order(&a->in_last, AGENT_HEARS, a->index);
		h->kind = EVENT_KINDS;
		h->verb = e->stream.verb;
		memcpy(
		    h->id, e->stream.command_id.ptr, e->stream.command_id.len);
		if (e->stream.verb == STREAM_OPEN)
			h->sequence = e->stream.command->sequence;
	} else if (e->kind == EFFECT_CLOSE) {
		h = plan_in_order(&a->in_last, AGENT_HEARS, a->index);
		h->kind = EVENT_GONE;
	}
}

/* Agents --------------------------------------------------------------------
 */

static void
say(struct agent *a, enum event_kind kind, const char *id)
{
	struct happens *h;

	if (a->peer == 0)
		return;
	h = plan_in_order(&a->out_last, AGENT_SAYS, a->index);
	h->kind = kind;
	if (id != NULL)
		memcpy(h->id, id, sizeof(h->id));
}

static void
connect_agent(struct agent *a, msec after)
{
	a->peer = 0;
	a->registered = false;
	plan(m.rig.now + after, CONNECT, a->index);
}

/* Its link ends here; the controller learns of it sooner or later. */
static void
cut(struct agent *a, bool goodbye)
{
	uint32_t peer = a->peer;

	if (peer == 0)
		return;
	for (size_t i = 0; i < a->held_count; i++)
		a->held[i].attached = false;
	struct happens *h =
	    plan(goodbye ? a->out_last + 1 : m.rig.now + chance(60000), BROKEN,
		a->index);
	h->peer = peer;
	h->goodbye = goodbye;
	connect_agent(a, m.calm ? 500 : 100 + chance(20000));
}

static struct held *
find_held(struct agent *a, const char *id)
{
	for (size_t i = 0; i < a->held_count; i++) {
		if (strcmp(a->held[i].id, id) == 0)
			return &a->held[i];
	}
	return NULL;
}

static void
report(struct agent *a, struct held *held)
{
	say(a, held->exited ? EVENT_COMMAND_EXIT : EVENT_COMMAND_STARTED,
	    held->id);
}

/* docs/protocol/muster.md 4: what makes a command run exactly once. */
static void
on_open(struct agent *a, const struct happens *h)
{
	struct held *held = find_held(a, h->id);
	struct row *row = find_row(slice_from(h->id));

	assert_non_null(row); /* disk before words */
	if (held != NULL) {
		held->attached = true;
		report(a, held);
		return;
	}
	if (h->sequence <= a->mark || a->held_count == HELD_MAX) {
		say(a, EVENT_COMMAND_REFUSED, h->id);
		m.refused++;
		return;
	}
	a->mark = h->sequence;
	held = &a->held[a->held_count++];
	*held = (struct held){ .attached = true };
	memcpy(held->id, h->id, sizeof(held->id));
	if (row->runs++ > 0)
		m.twice++;
	report(a, held);
	struct happens *end =
	    plan(m.rig.now + 5 + chance(20000), ENDS, a->index);
	memcpy(end->id, h->id, sizeof(end->id));
}

static void
on_done(struct agent *a, const struct happens *h)
{
	struct held *held = find_held(a, h->id);

	if (held != NULL)
		*held = a->held[--a->held_count];
}

static void
hears(const struct happens *h)
{
	struct agent *a = &m.agents[h->agent];

	/* It was for a link that is no more. */
	if (h->peer != a->peer)
		return;
	if (h->kind == EVENT_WELCOME) {
		say(a, EVENT_REGISTER, NULL);
		if (chance(20) == 0)
			say(a, EVENT_REGISTER, NULL);
	} else if (h->kind == EVENT_DENIED || h->kind == EVENT_GONE) {
		cut(a, false);
	} else if (h->kind == EVENT_REGISTERED) {
		a->registered = true;
		m.told++;
	} else if (h->kind == EVENT_KINDS && h->verb == STREAM_OPEN) {
		on_open(a, h);
	} else if (h->kind == EVENT_KINDS && h->verb == STREAM_DONE) {
		on_done(a, h);
	}
}

static void
ends(const struct happens *h)
{
	struct agent *a = &m.agents[h->agent];
	struct held *held = find_held(a, h->id);

	if (held == NULL)
		return;
	held->exited = true;
	if (held->attached)
		report(a, held);
}

/* What arrives at the controller --------------------------------------------
 */

static void
arrive_register(const struct happens *h, struct event *ev)
{
	static struct held_command held[HELD_MAX];
	static char id[16];
	struct agent *a = &m.agents[h->agent];

	snprintf(id, sizeof(id), "a%u", a->index);
	ev->registration.agent_id = slice_from(id);
	ev->registration.name = slice_from(id);
	if (a->foreign)
		return;
	for (size_t i = 0; i < a->held_count; i++)
		held[i] = (struct held_command){ slice_from(a->held[i].id),
			a->held[i].exited ? HELD_EXITED : HELD_RUNNING };
	ev->registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.has_yamux = true,
		.has_exec = true,
		.sequence = a->mark,
		.held = held,
		.held_count = a->held_count };
}

/* A registration holds what was true when it was sent.  Between sending and
 * arriving only programs can end here, which its rules must bear anyway. */
static void
arrives(const struct happens *h)
{
	struct event ev = rig_event(h->kind, h->peer);

	if (h->kind == EVENT_REGISTER)
		arrive_register(h, &ev);
	if (h->kind == EVENT_COMMAND_STARTED || h->kind == EVENT_COMMAND_EXIT)
		ev.outcome.command_id = slice_from(h->id);
	if (h->kind == EVENT_COMMAND_REFUSED) {
		ev.outcome.command_id = slice_from(h->id);
		ev.outcome.code = SL("UNKNOWN_OUTCOME");
	}
	rig_input(&m.rig, &ev);
}

static void
connects(const struct happens *h)
{
	struct agent *a = &m.agents[h->agent];
	struct event ev;

	if (a->peer != 0)
		return;
	assert_true(m.next_peer < m.peer_room);
	a->peer = m.next_peer++;
	m.owners[a->peer] = a->index + 1;
	a->in_last = a->out_last = m.rig.now;
	ev = rig_hello(
	    a->peer, TOKEN_AGENTS, "192.0.2.1", ENTRANCE_CLUSTER_LINK);
	rig_input(&m.rig, &ev);
}

static void
beats(const struct happens *h)
{
	struct agent *a = &m.agents[h->agent];

	if (a->registered)
		say(a, EVENT_HEARTBEAT, NULL);
	plan(m.rig.now + 30000, BEAT, a->index);
}

/* Chance ---------------------------------------------------------------------
 */

static void
ask(enum request_op op, struct slice id, const struct command_record *c)
{
	struct event hello =
	    rig_hello(OPERATOR, TOKEN_ROOT, "192.0.2.9", ENTRANCE_CLUSTER_HTTP);
	struct event ev = rig_event(EVENT_REQUEST, OPERATOR);
	char key[16];

	ev.request.op = op;
	ev.request.id = id;
	ev.request.command = c;
	ev.request.credential = hello.hello.credential;
	if (c != NULL && chance(4) == 0) {
		snprintf(key, sizeof(key), "k%u", chance(50));
		ev.request.request_key = slice_from(key);
	}
	rig_input(&m.rig, &ev);
}

static void
run_something(void)
{
	const struct command_record c = { .argv_json = SL("[\"true\"]"),
		.foreground = chance(5) == 0,
		.priority = (uint8_t)chance(3),
		.deadline_at =
		    chance(6) == 0 ? m.rig.wall + 1 + chance(30000) : 0 };
	char id[16];

	/* A few agents are busy, so that queues form. */
	snprintf(id, sizeof(id), "a%u",
	    chance(chance(2) == 0 ? m.count
		    : m.count < 8 ? m.count
				  : 8));
	ask(OP_COMMAND_CREATE, slice_from(id), &c);
}

static void
stop_something(void)
{
	if (m.row_count == 0)
		return;
	const struct row *row = &m.rows[chance((uint32_t)m.row_count)];
	ask(chance(2) == 0 ? OP_COMMAND_CANCEL : OP_COMMAND_INTERRUPT,
	    row->record->id, NULL);
}

static void
storm(void)
{
	for (uint32_t i = 0; i < m.count; i++) {
		if (chance(2) == 0)
			cut(&m.agents[i], false);
	}
}

static void
change_store(void)
{
	const unsigned states[] = { STORE_OK, STORE_OK, STORE_LATE,
		STORE_FAILS };

	m.store = states[chance(4)];
	rig_settle(&m.rig);
}

static void load_hub(void);

/* Killed and started again: what the store did not answer is lost or not,
 * but never half there. */
static void
restart(void)
{
	msec now = m.rig.now;
	wall_msec wall = m.rig.wall;

	m.store = STORE_OK;
	rig_fini(&m.rig);
	load_hub();
	m.rig.now = now;
	m.rig.wall = wall;
	for (uint32_t i = 0; i < m.count; i++)
		cut(&m.agents[i], false);
}

static void
meddle(void)
{
	uint32_t what = chance(1000);

	if (m.calm)
		return;
	plan(m.rig.now + 1 + chance(200), MEDDLE, 0);
	if (what < 500)
		run_something();
	else if (what < 600)
		stop_something();
	else if (what < 900)
		cut(&m.agents[chance(m.count)], chance(8) == 0);
	else if (what < 980)
		change_store();
	else if (what < 990)
		m.rig.wall += (wall_msec)chance(7200000) - 3600000;
	else if (what < 996)
		storm();
	else if (what < 998)
		restart();
}

static void (*const happenings[])(const struct happens *h) = {
	[CONNECT] = connects,
	[AGENT_SAYS] = arrives,
	[AGENT_HEARS] = hears,
	[BEAT] = beats,
	[ENDS] = ends,
};

static void
happen(const struct happens *h)
{
	if (h->what == MEDDLE) {
		meddle();
	} else if (h->what == BROKEN) {
		struct event ev = rig_event(EVENT_GONE, h->peer);
		ev.gone.why = h->goodbye ? 0 : ERR_TIMEOUT;
		rig_input(&m.rig, &ev);
	} else {
		happenings[h->what](h);
	}
}

static void
pass(msec until)
{
	struct heap_node *n;

	while ((n = heap_first(&m.queue)) != NULL && n->due >> 24 <= until) {
		struct happens *h = LIST_OF(n, struct happens, node);
		heap_drop(&m.queue, n);
		if (n->due >> 24 > m.rig.now)
			rig_advance(&m.rig, n->due >> 24);
		happen(h);
		alloc_free(h);
	}
	rig_advance(&m.rig, until);
}

/* Beginning and end ---------------------------------------------------------
 */

static void
load_hub(void)
{
	const struct hub_config config = { .seed = { m.seed, m.row_count + 1,
					       77, 99 },
		.incarnation = SL("db-1"),
		.concurrency = 4,
		.request_rate = UINT32_MAX,
		.queue_limit = 50 };
	const struct user_record root = {
		.id = SL("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1
	};
	struct token_record tokens[] = {
		{ .id = SL("tok_a"),
		    .scopes = SCOPES_CLUSTER,
		    .max_connections = UINT32_MAX },
		{ .id = SL("tok_r"),
		    .scopes = SCOPES_ALL,
		    .user_id = SL("usr_root") },
	};
	struct agent_record *agents = alloc_array(m.count, sizeof(*agents));
	struct command_record *commands =
	    alloc_array(COMMANDS_MAX, sizeof(*commands));
	struct hub_snapshot snapshot = { .users = &root,
		.user_count = 1,
		.tokens = tokens,
		.token_count = 2,
		.agents = agents,
		.commands = commands };

	for (uint32_t i = 0; i < 2; i++) {
		tokens[i].workspace_id = 1;
		rig_hash(tokens[i].hash, i + 1);
	}
	for (uint32_t i = 0; i < m.count; i++) {
		if (m.stored[i] != NULL)
			agents[snapshot.agent_count++] = *m.stored[i];
	}
	for (size_t i = 0; i < m.row_count; i++) {
		if (!command_is_final(m.rows[i].record->state))
			commands[snapshot.command_count++] = *m.rows[i].record;
	}
	rig_init(&m.rig, &config);
	m.rig.perform = perform;
	m.rig.store = store;
	assert_int_equal(hub_load(m.rig.hub, &snapshot, m.rig.now), 0);
	alloc_free(agents);
	alloc_free(commands);
}

static void
begin(uint64_t seed, uint32_t count)
{
	memset(&m, 0, sizeof(m));
	m.seed = seed * 2654435761u + 88172645463325252u;
	m.count = count;
	m.peer_room = count * 400 + 100;
	m.next_peer = 1;
	m.agents = alloc_array(count, sizeof(*m.agents));
	m.stored = alloc_array(count, sizeof(struct agent_record *));
	m.rows = alloc_array(COMMANDS_MAX, sizeof(*m.rows));
	m.owners = alloc_array(m.peer_room, sizeof(*m.owners));
	heap_init(&m.queue, SIZE_MAX / 64);
	map_init(&m.by_id, COMMANDS_MAX, (const uint64_t[2]){ 1, 2 });
	load_hub();
	for (uint32_t i = 0; i < count; i++) {
		m.agents[i].index = i;
		m.agents[i].foreign = i % 5 == 4;
		connect_agent(&m.agents[i], chance(10000));
		plan(chance(30000), BEAT, i);
	}
	plan(10000, MEDDLE, 0);
}

static void
finish(void)
{
	struct heap_node *n;

	rig_fini(&m.rig);
	while ((n = heap_first(&m.queue)) != NULL) {
		heap_drop(&m.queue, n);
		alloc_free(LIST_OF(n, struct happens, node));
	}
	for (size_t i = 0; i < m.row_count; i++)
		alloc_free(m.rows[i].record);
	for (uint32_t i = 0; i < m.count; i++)
		alloc_free(m.stored[i]);
	heap_fini(&m.queue);
	map_fini(&m.by_id);
	alloc_free(m.agents);
	alloc_free(m.stored);
	alloc_free(m.rows);
	alloc_free(m.owners);
}

static void
check_commands(void)
{
	size_t by_state[COMMAND_STATES] = { 0 };

	for (size_t i = 0; i < m.row_count; i++) {
		const struct command_record *c = m.rows[i].record;
		uint32_t runs = m.rows[i].runs;
		by_state[c->state]++;
		/* One for an agent that cannot be commanded waits its day. */
		if (m.agents[index_of(c->agent_id)].foreign)
			assert_int_equal(runs, 0);
		else if (!command_is_final(c->state))
			fail_msg("%.*s is %.*s for ever", SLICE_FMT(c->id),
			    SLICE_FMT(command_state_name(c->state)));
		if (c->state == COMMAND_COMPLETED)
			assert_int_equal(runs, 1);
		if (c->state == COMMAND_CANCELLED ||
		    c->state == COMMAND_EXPIRED)
			assert_int_equal(runs, 0);
		assert_true(runs <= 1);
	}
	print_message("%zu commands: %zu completed, %zu cancelled, "
		      "%zu expired, %zu unknown; %u registrations\n",
	    m.row_count, by_state[COMMAND_COMPLETED],
	    by_state[COMMAND_CANCELLED], by_state[COMMAND_EXPIRED],
	    by_state[COMMAND_UNKNOWN], (unsigned)m.told);
	assert_int_equal(m.twice, 0);
	/* These agents lose nothing, so nobody may be in doubt. */
	assert_int_equal(by_state[COMMAND_UNKNOWN], 0);
	assert_true(by_state[COMMAND_COMPLETED] > m.row_count / 2);
}

static size_t
count_waiting(void)
{
	size_t n = 0;

	for (size_t i = 0; i < m.row_count; i++)
		n += m.rows[i].record->state == COMMAND_QUEUED;
	return n;
}

static void
check_fleet(void)
{
	struct hub_stats stats;

	hub_stats_get(m.rig.hub, &stats);
	assert_int_equal(stats.agents, m.count);
	assert_int_equal(stats.links, m.count);
	assert_int_equal(stats.by_presence[PRESENCE_ONLINE], m.count);
	assert_int_equal(stats.commands_live, count_waiting());
	for (uint32_t i = 0; i < m.count; i++) {
		assert_true(m.agents[i].registered);
		assert_int_equal(m.agents[i].held_count, 0);
	}
}

static void
check_removal(void)
{
	struct hub_stats stats;
	char id[16];

	for (uint32_t i = 0; i < m.count; i++) {
		snprintf(id, sizeof(id), "a%u", i);
		ask(OP_AGENT_REMOVE, slice_from(id), NULL);
	}
	for (uint32_t i = 0; i < m.count; i++) {
		struct event ev = rig_event(EVENT_GONE, m.agents[i].peer);
		rig_input(&m.rig, &ev);
	}
	hub_stats_get(m.rig.hub, &stats);
	assert_int_equal(stats.agents, 0);
	assert_int_equal(stats.links, 0);
	assert_int_equal(stats.bytes, 0);
	assert_true(hub_deadline(m.rig.hub) == INT64_MAX);
}

static uint64_t
setting(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);
	uint64_t n = fallback;

	if (text != NULL)
		assert_int_equal(
		    slice_u64(slice_from(text), UINT32_MAX, &n), 0);
	return n;
}

static void
simulate(uint64_t seed, uint32_t count)
{
	print_message("seed %u, %u agents\n", (unsigned)seed, count);
	begin(seed, count);
	pass(CHAOS);
	m.calm = true;
	m.store = STORE_OK;
	rig_settle(&m.rig);
	pass(CHAOS + CALM);
	/* Words about the end may have been lost with a link; the next
	 * registration makes up for it. */
	for (uint32_t i = 0; i < count; i++)
		cut(&m.agents[i], false);
	pass(CHAOS + CALM + 120000);
	assert_int_equal(m.rig.err, 0);
	check_commands();
	check_fleet();
	check_removal();
	finish();
}

static void
test_fleet(void **state)
{
	(void)state;
	simulate(setting("MUSTER_SIM_SEED", 1),
	    (uint32_t)setting("MUSTER_SIM_AGENTS", 1000));
}

/* Few agents see more of each other's troubles. */
static void
test_small_fleets(void **state)
{
	(void)state;
	for (uint64_t seed = 2; seed < 10; seed++)
		simulate(seed, 7);
}

/* Batches -------------------------------------------------------------------
 */

enum { SCRIPT = 4000, PEERS = 40 };

static struct event script[SCRIPT];
static char names[PEERS][16];

static void
count_only(void *arg, const struct effect *e)
{
	(void)arg;
	(void)e;
}

/* Without reactions: whatever arrives, arrives in this order. */
static void
write_script(void)
{
	static const struct command_record run = {
		.argv_json = SL_INIT("[\"true\"]"), .priority = 1
	};
	struct event hello =
	    rig_hello(OPERATOR, TOKEN_ROOT, "192.0.2.9", ENTRANCE_CLUSTER_HTTP);

	for (uint32_t i = 0; i < PEERS; i++)
		snprintf(names[i], sizeof(names[i]), "a%u", i % 10);
	for (size_t i = 0; i < SCRIPT; i++) {
		uint32_t peer = chance(PEERS), what = chance(8);
		struct slice name = slice_from(names[peer]);
		struct event *ev = &script[i];
		if (what < 2) {
			*ev = rig_hello(peer + 1, TOKEN_AGENTS, "192.0.2.1",
			    ENTRANCE_CLUSTER_LINK);
		} else if (what < 4) {
			*ev = rig_event(EVENT_REGISTER, peer + 1);
			ev->registration.agent_id = name;
			ev->registration.name = name;
			ev->registration.native =
			    (struct native_hello){ .present = chance(3) > 0,
				    .has_yamux = true,
				    .has_exec = true };
		} else if (what < 5) {
			*ev = rig_event(EVENT_HEARTBEAT, peer + 1);
			ev->heartbeat.status =
			    chance(3) == 0 ? SL("error") : SL("healthy");
		} else if (what < 6) {
			*ev = rig_event(EVENT_GONE, peer + 1);
			ev->gone.why = chance(2) == 0 ? 0 : ERR_RESET;
		} else {
			*ev = rig_event(EVENT_REQUEST, OPERATOR);
			ev->request.op = OP_COMMAND_CREATE;
			ev->request.id = name;
			ev->request.command = &run;
			ev->request.credential = hello.hello.credential;
		}
	}
}

/* A number for everything that is kept: presence, rows, their states. */
static uint64_t
play_script(size_t batch)
{
	struct hub_stats stats;
	uint64_t digest = 0;

	begin(5, 10);
	m.rig.perform = count_only;
	for (size_t i = 0; i < SCRIPT; i += batch) {
		rig_open(&m.rig);
		for (size_t k = i; k < i + batch && k < SCRIPT; k++)
			rig_add(&m.rig, &script[k]);
		rig_close(&m.rig);
	}
	hub_stats_get(m.rig.hub, &stats);
	for (size_t i = 0; i < PRESENCES; i++)
		digest = digest * 31 + stats.by_presence[i];
	for (size_t i = 0; i < m.row_count; i++)
		digest = digest * 31 +
		    map_hash(m.by_id.seed, m.rows[i].record->id) +
		    m.rows[i].record->state * 1000 + m.rows[i].record->sequence;
	digest = digest * 31 + stats.links;
	assert_true(m.row_count > 100);
	assert_int_equal(m.rig.err, 0);
	finish();
	return digest;
}

static void
test_batches_change_nothing(void **state)
{
	const size_t sizes[] = { 2, 3, 16, 256, SCRIPT };

	(void)state;
	m.seed = 4711;
	write_script();
	uint64_t want = play_script(1);
	for (size_t i = 0; i < 5; i++)
		assert_true(play_script(sizes[i]) == want);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches_change_nothing),
		cmocka_unit_test(test_small_fleets),
		cmocka_unit_test(test_fleet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
