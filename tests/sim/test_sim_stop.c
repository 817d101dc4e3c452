/*
 * The emergency stop on a fleet of a thousand.  Links break with orders on
 * them, agents come back and are relabelled, the store and the stop's file
 * fail, and the controller dies and starts from what they hold, sometimes
 * from an older backup.  Nothing ever begins on an agent that a standing
 * stop covers, and when everything calms down every agent is as it should
 * be, and has said so.
 *
 * MUSTER_SIM_SEED chooses another run.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/clone.h"

#include "support/rig.h"
#include "support/unit.h"

enum {
	AGENTS = 1000,
	STEPS = 40000,
	OPERATOR = 0,
	TOKEN_AGENTS = 1,
	TOKEN_ROOT = 2,
	INBOX = 256,
	ROWS = 4096,
};

struct message {
	uint64_t epoch;
	bool stopped;
};

/* An agent: what it keeps on its own disk, and its present link. */
struct agent {
	char id[8];
	uint64_t epoch;
	bool stopped;
	bool prod; /* the label that operators gave it */
	uint32_t peer;
	struct message inbox[INBOX];
	size_t waiting;
};

/* What survives a controller. */
struct disk {
	struct stop_record *rows[ROWS]; /* by epoch; owned */
	uint64_t row_epoch;
	struct stop_record *kept[ROWS]; /* the file's; owned */
	size_t kept_count;
	uint64_t kept_epoch;
	bool has_file;
};

static struct {
	struct rig rig;
	uint64_t seed;
	struct agent agents[AGENTS];
	struct agent_record *records[AGENTS]; /* owned */
	struct disk disk, backup;
	bool has_backup;
	bool restored; /* from a backup: what stands is not known here */
	uint32_t next_peer;
	uint32_t *owners; /* of peers: agent + 1 */
	size_t owner_room;
	int store_err;
	struct slice opened; /* the command whose stream was opened last */
	char opened_text[64];
	uint32_t opened_peer;
	/* What the operator did, as far as it was accepted. */
	bool all, prod, one[AGENTS];
	uint16_t status;
	char code[32];
	uint32_t counts[RECEIPT_KINDS];
	bool shown_stopped;
	size_t stops_sent, restarts, refusals, runs;
} m;

static uint32_t
chance(uint32_t below)
{
	m.seed ^= m.seed << 13;
	m.seed ^= m.seed >> 7;
	m.seed ^= m.seed << 17;
	return (uint32_t)((m.seed >> 16) % below);
}

/* Effects ------------------------------------------------------------------ */

static void
keep_file(const struct stop_state *s)
{
	struct disk *d = &m.disk;

	for (size_t i = 0; i < d->kept_count; i++)
		alloc_free(d->kept[i]);
	assert_true(s->count <= ROWS);
	for (size_t i = 0; i < s->count; i++)
		d->kept[i] = clone_new(CLONE_STOP, &s->stops[i]);
	d->kept_count = s->count;
	assert_true(!d->has_file || s->epoch >= d->kept_epoch);
	d->kept_epoch = s->epoch;
	d->has_file = true;
}

static void
give(uint32_t peer, const struct stop_order *o)
{
	uint32_t owner = peer < m.owner_room ? m.owners[peer] : 0;
	struct agent *a = owner == 0 ? NULL : &m.agents[owner - 1];

	if (a == NULL || a->peer != peer)
		return;
	assert_true(a->waiting < INBOX);
	a->inbox[a->waiting++] = (struct message){ o->epoch, o->stopped };
	m.stops_sent++;
}

static void
take_reply(const struct reply *r)
{
	m.status = r->status;
	snprintf(m.code, sizeof(m.code), "%.*s", SLICE_FMT(r->code));
	if (r->stop_count > 0)
		memcpy(m.counts, r->stops[0].counts, sizeof(m.counts));
	if (r->agent_count > 0)
		m.shown_stopped = r->agents[0].presence == PRESENCE_STOPPED;
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	if (e->kind == EFFECT_STOP && m.rig.stop_err == 0)
		keep_file(e->stop_state);
	if (e->kind == EFFECT_STREAM && e->stream.verb == STREAM_OPEN) {
		snprintf(m.opened_text, sizeof(m.opened_text), "%.*s",
		    SLICE_FMT(e->stream.command_id));
		m.opened = slice_from(m.opened_text);
		m.opened_peer = e->peer.slot;
	}
	if (e->kind != EFFECT_SEND)
		return;
	const struct event *ev = e->event;
	if (ev->kind == EVENT_REPLY)
		take_reply(ev->reply);
	else if (ev->kind == EVENT_STOP_ORDER)
		give(e->peer.slot, &ev->stop);
	else if (ev->kind == EVENT_REGISTERED && ev->registered.stop != NULL)
		give(e->peer.slot, ev->registered.stop);
}

static int
store(void *arg, const struct op *op)
{
	struct disk *d = &m.disk;

	(void)arg;
	if (m.store_err != 0)
		return m.store_err;
	if (op->verb == OP_PUT_STOP) {
		uint64_t epoch = op->stop->epoch;
		assert_true(epoch < ROWS);
		alloc_free(d->rows[epoch]);
		d->rows[epoch] = clone_new(CLONE_STOP, op->stop);
		if (op->stop->lifted_epoch > epoch)
			epoch = op->stop->lifted_epoch;
		if (epoch > d->row_epoch)
			d->row_epoch = epoch;
	} else if (op->verb == OP_PUT_META) {
		uint64_t epoch = 0;
		slice_u64(op->meta.value, INT64_MAX, &epoch);
		if (epoch > d->row_epoch)
			d->row_epoch = epoch;
	} else if (op->verb == OP_PUT_AGENT) {
		uint64_t n = 0;
		assert_int_equal(
		    slice_u64(slice_from_at(op->agent->id, 1), AGENTS - 1, &n),
		    0);
		alloc_free(m.records[n]);
		m.records[n] = clone_new(CLONE_AGENT, op->agent);
	}
	return 0;
}

/* Controllers -------------------------------------------------------------- */

static void
start(void)
{
	const struct hub_config config = { .seed = { m.seed, 2, 3, 4 },
		.incarnation = SL("db-1"),
		.request_rate = 1000000 };
	const struct user_record user = {
		.id = SL("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1
	};
	struct token_record tokens[2] = {
		{ .id = SL("tok_a"), .scopes = SCOPES_CLUSTER },
		{ .id = SL("tok_r"),
		    .scopes = SCOPES_ALL,
		    .user_id = SL("usr_root") },
	};
	static struct agent_record agents[AGENTS];
	static struct stop_record rows[ROWS], kept[ROWS];
	struct disk *d = &m.disk;
	struct stop_state file = { .epoch = d->kept_epoch, .stops = kept };
	struct hub_snapshot s = { .users = &user,
		.user_count = 1,
		.tokens = tokens,
		.token_count = 2,
		.agents = agents,
		.stops = rows,
		.stop_epoch = d->row_epoch,
		.kept = d->has_file ? &file : NULL };

	for (uint32_t i = 0; i < 2; i++) {
		tokens[i].name = tokens[i].id;
		tokens[i].workspace_id = 1;
		rig_hash(tokens[i].hash, i + 1);
	}
	for (size_t i = 0; i < AGENTS; i++) {
		if (m.records[i] != NULL)
			agents[s.agent_count++] = *m.records[i];
		m.agents[i].peer = 0;
		m.agents[i].waiting = 0;
	}
	for (size_t i = 0; i < ROWS; i++) {
		if (d->rows[i] != NULL)
			rows[s.stop_count++] = *d->rows[i];
	}
	for (size_t i = 0; i < d->kept_count; i++)
		kept[file.count++] = *d->kept[i];
	rig_init(&m.rig, &config);
	m.rig.perform = perform;
	m.rig.store = store;
	assert_int_equal(hub_load(m.rig.hub, &s, 0), 0);
	rig_advance(&m.rig, 1);
}

static void
copy_disk(struct disk *to, const struct disk *from)
{
	for (size_t i = 0; i < ROWS; i++) {
		alloc_free(to->rows[i]);
		to->rows[i] = from->rows[i] == NULL
		    ? NULL
		    : clone_new(CLONE_STOP, from->rows[i]);
	}
	to->row_epoch = from->row_epoch;
}

static void
drop_file(struct disk *d)
{
	for (size_t i = 0; i < d->kept_count; i++)
		alloc_free(d->kept[i]);
	d->kept_count = 0;
	d->kept_epoch = 0;
	d->has_file = false;
}

static void
restart(bool from_backup)
{
	m.restarts++;
	rig_fini(&m.rig);
	m.store_err = 0;
	if (from_backup && m.has_backup) {
		copy_disk(&m.disk, &m.backup);
		drop_file(&m.disk);
		m.restored = true;
	}
	start();
}

/* Agents ------------------------------------------------------------------- */

static void
come(struct agent *a)
{
	uint32_t peer = ++m.next_peer;
	struct event ev =
	    rig_hello(peer, TOKEN_AGENTS, "192.0.2.1", ENTRANCE_CLUSTER_LINK);

	if (peer >= m.owner_room) {
		m.owner_room = peer * 2;
		m.owners = realloc(m.owners, m.owner_room * sizeof(*m.owners));
		assert_non_null(m.owners);
	}
	m.owners[peer] = (uint32_t)(a - m.agents) + 1;
	a->peer = peer;
	a->waiting = 0;
	rig_input(&m.rig, &ev);
	ev = rig_event(EVENT_REGISTER, peer);
	ev.registration.agent_id = ev.registration.name = slice_from(a->id);
	ev.registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true,
		.sequence = UINT32_MAX,
		.stop = { .epoch = a->epoch,
		    .stopped = a->stopped,
		    .scope = a->stopped ? SL("all") : (struct slice){ 0 },
		    .has_mac = true,
		    .proved = true } };
	rig_input(&m.rig, &ev);
}

static void
leave(struct agent *a)
{
	struct event ev = rig_event(EVENT_GONE, a->peer);

	if (a->peer == 0)
		return;
	ev.gone.why = ERR_TIMEOUT;
	a->peer = 0;
	a->waiting = 0;
	rig_input(&m.rig, &ev);
}

/* One message arrives; its receipt is on its way at once. */
static void
hear(struct agent *a)
{
	struct event ev = rig_event(EVENT_STOP_REPORT, a->peer);

	if (a->waiting == 0)
		return;
	const struct message got = a->inbox[0];
	memmove(a->inbox, a->inbox + 1, --a->waiting * sizeof(got));
	if (got.epoch > a->epoch) {
		a->epoch = got.epoch;
		a->stopped = got.stopped;
	} else if (got.epoch == a->epoch) {
		/* One number never means two things. */
		assert_true(a->stopped == got.stopped);
	}
	ev.report =
	    (struct stop_report){ .epoch = a->epoch, .stopped = a->stopped };
	rig_input(&m.rig, &ev);
}

/* Operators ---------------------------------------------------------------- */

static struct event
request(enum request_op op)
{
	struct event hello =
	    rig_hello(OPERATOR, TOKEN_ROOT, "192.0.2.2", ENTRANCE_CLUSTER_HTTP);
	struct event ev = rig_event(EVENT_REQUEST, OPERATOR);

	m.status = 0;
	m.code[0] = '\0';
	ev.request.op = op;
	ev.request.credential = hello.hello.credential;
	return ev;
}

static bool
covered(const struct agent *a)
{
	return m.all || (m.prod && a->prod) || m.one[a - m.agents];
}

static void
change_stops(bool raise)
{
	struct event ev = request(raise ? OP_STOP_RAISE : OP_STOP_LIFT);
	struct agent *a = &m.agents[chance(AGENTS)];
	uint32_t which = chance(8);
	bool *what = which == 0 ? &m.all
	    : which == 1        ? &m.prod
				: &m.one[a - m.agents];

	ev.request.scope = which == 0 ? STOP_ALL
	    : which == 1              ? STOP_SELECTOR
				      : STOP_AGENT;
	ev.request.target = which == 0 ? (struct slice){ 0 }
	    : which == 1               ? SL("env=prod")
				       : slice_from(a->id);
	rig_input(&m.rig, &ev);
	/* In force, whatever the disk says of it. */
	if (m.status == 404)
		return;
	if (raise || *what || m.restored)
		*what = raise;
}

static void
relabel(struct agent *a)
{
	struct event ev = request(OP_AGENT_LABEL);

	ev.request.id = slice_from(a->id);
	ev.request.labels_json =
	    a->prod ? SL("{\"env\":null}") : SL("{\"env\":\"prod\"}");
	rig_input(&m.rig, &ev);
	if (m.status == 200)
		a->prod = !a->prod;
}

/* Refused when it is stopped, and begun at most when it is not. */
static void
run(struct agent *a)
{
	const struct command_record r = { .argv_json = SL("[\"true\"]"),
		.priority = 1 };
	struct event ev = request(OP_COMMAND_CREATE);

	ev.request.id = slice_from(a->id);
	ev.request.command = &r;
	ev.request.or_fail = true;
	m.opened = (struct slice){ 0 };
	rig_input(&m.rig, &ev);
	bool refused = strcmp(m.code, "AGENT_STOPPED") == 0;
	if (m.status == 404 || m.status >= 500)
		return;
	if (!m.restored)
		assert_int_equal(refused, covered(a));
	m.refusals += refused;
	if (m.opened.ptr == NULL)
		return;
	assert_false(refused);
	m.runs++;
	ev = rig_event(EVENT_COMMAND_EXIT, m.opened_peer);
	ev.outcome.command_id = m.opened;
	rig_input(&m.rig, &ev);
}

/* The run ------------------------------------------------------------------ */

static void
step(void)
{
	struct agent *a = &m.agents[chance(AGENTS)];

	switch (chance(16)) {
	case 0:
		leave(a);
		break;
	case 1:
	case 2:
	case 3:
		if (a->peer == 0)
			come(a);
		break;
	case 4:
		if (chance(40) == 0)
			change_stops(true);
		break;
	case 5:
		if (chance(30) == 0)
			change_stops(false);
		break;
	case 6:
		if (m.records[a - m.agents] != NULL && m.store_err == 0)
			relabel(a);
		break;
	case 7:
		m.rig.stop_err = chance(10) == 0 ? ERR_NO_SPACE : 0;
		break;
	case 8:
		rig_advance(&m.rig, m.rig.now + chance(2000));
		break;
	case 9:
	case 10:
		run(a);
		break;
	default:
		hear(a);
		break;
	}
}

static void
calm(void)
{
	m.rig.stop_err = 0;
	rig_advance(&m.rig, m.rig.now + 5000);
	for (size_t i = 0; i < AGENTS; i++) {
		if (m.agents[i].peer == 0)
			come(&m.agents[i]);
	}
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < AGENTS; i++) {
			while (m.agents[i].waiting > 0)
				hear(&m.agents[i]);
		}
		rig_advance(&m.rig, m.rig.now + 2000);
	}
}

static void
check(void)
{
	struct hub_stats st;

	for (size_t i = 0; i < AGENTS; i++) {
		const struct agent *a = &m.agents[i];
		struct event ev = request(OP_AGENT_SHOW);
		ev.request.id = slice_from(a->id);
		rig_input(&m.rig, &ev);
		assert_int_equal(m.status, 200);
		assert_int_equal(m.shown_stopped, a->stopped);
		if (!m.restored)
			assert_int_equal(a->stopped, covered(a));
	}
	hub_stats_get(m.rig.hub, &st);
	assert_int_equal(st.stop_receipts[RECEIPT_WAITING], 0);
	assert_int_equal(st.stop_receipts[RECEIPT_UNREACHABLE], 0);
	assert_int_equal(st.stop_receipts[RECEIPT_UNABLE], 0);
	assert_int_equal(m.disk.kept_epoch, st.stop_epoch);
	assert_int_equal(m.disk.row_epoch, st.stop_epoch);
	assert_int_equal(m.rig.err, 0);
}

static void
begin(uint64_t salt)
{
	const char *seed = getenv("MUSTER_SIM_SEED");

	memset(&m, 0, sizeof(m));
	m.seed =
	    (seed != NULL ? strtoull(seed, NULL, 10) : 20251016) * 977 + salt;
	for (size_t i = 0; i < AGENTS; i++)
		snprintf(m.agents[i].id, sizeof(m.agents[i].id), "a%zu", i);
	start();
}

static void
finish(void)
{
	printf("seed %llu: %zu orders, %zu restarts, %zu commands, %zu "
	       "refused\n",
	    (unsigned long long)m.seed, m.stops_sent, m.restarts, m.runs,
	    m.refusals);
	rig_fini(&m.rig);
	drop_file(&m.disk);
	for (size_t i = 0; i < ROWS; i++) {
		alloc_free(m.disk.rows[i]);
		alloc_free(m.backup.rows[i]);
	}
	for (size_t i = 0; i < AGENTS; i++)
		alloc_free(m.records[i]);
	free(m.owners);
}

static void
test_fleet(void **state)
{
	(void)state;
	begin(1);
	for (int i = 0; i < STEPS; i++) {
		step();
		if (chance(STEPS / 10) == 0 && m.rig.stop_err == 0) {
			rig_advance(&m.rig, m.rig.now + 3000);
			restart(false);
		}
	}
	calm();
	check();
	assert_true(m.runs > 100 && m.refusals > 100);
	finish();
}

/* The database comes from a backup and the file is lost: agents prove what
 * they were told. */
static void
test_backups(void **state)
{
	(void)state;
	begin(2);
	for (int i = 0; i < STEPS; i++) {
		step();
		if (chance(STEPS / 6) == 0) {
			copy_disk(&m.backup, &m.disk);
			m.has_backup = true;
		}
		if (chance(STEPS / 10) == 0)
			restart(chance(2) == 0);
	}
	calm();
	check();
	assert_true(m.restarts > 0);
	finish();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fleet),
		cmocka_unit_test(test_backups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
