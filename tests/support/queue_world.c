#include <stdio.h>

#include "base/err.h"

#include "model/command.h"

#include "support/queue_world.h"
#include "support/unit.h"

struct world w;

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

struct slice
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
note_item(const struct fan_item *i)
{
	note(
	    " [%.*s", SLICE_FMT(i->agent_id.len > 0 ? i->agent_id : i->target));
	if (i->command != NULL)
		note(" %s %.*s%s", short_id(i->command->id),
		    SLICE_FMT(command_state_name(i->command->state)),
		    i->again ? " again" : "");
	if (i->position > 0)
		note(" %u/%d", i->position, (int)i->wait);
	if (i->err != 0)
		note(" %u %.*s", i->status, SLICE_FMT(i->code));
	note("]");
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
	for (size_t i = 0; i < r->item_count; i++)
		note_item(&r->items[i]);
	if (r->queue == NULL || r->op == OP_QUEUE_PURGE) {
		note("\n");
		return;
	}
	note(" ");
	note_queue(r->queue);
}

static void
note_end(const struct command_record *r)
{
	bool refused = r != NULL && slice_eq(r->code, SL("NOT_PERMITTED"));

	if (r == NULL || !(w.ends || refused))
		return;
	note("%s %.*s", short_id(r->id),
	    SLICE_FMT(command_state_name(r->state)));
	if (refused)
		note(": %.*s", SLICE_FMT(r->why));
	note("\n");
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
	if (e->kind == EFFECT_SEND && e->event->kind == EVENT_EXECUTE)
		note("execute %s\n", short_id(e->event->execute.command->id));
	if (e->kind == EFFECT_SEND && e->event->kind == EVENT_INTERRUPT)
		note("interrupt %s\n", short_id(e->event->execute.command->id));
	if (e->kind == EFFECT_STREAM && e->stream.verb == STREAM_SIGNAL)
		note("signal %s\n", short_id(e->stream.command_id));
	if (e->kind == EFFECT_SEND && e->event->kind == EVENT_ERROR)
		note("error %.*s\n", SLICE_FMT(e->event->complaint.code));
	if (e->kind == EFFECT_STREAM && e->stream.verb == STREAM_DONE)
		note_end(e->stream.command);
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
	if (w.fail_verb != (int)op->verb)
		return 0;
	/* fail_agent: only what concerns this one. */
	if (op->verb == OP_PUT_COMMAND && w.fail_agent != NULL &&
	    !slice_eq(op->command->agent_id, slice_from(w.fail_agent)))
		return 0;
	return w.store_err;
}

void
forget(void)
{
	w.len = 0;
	w.log[0] = '\0';
}

void
expect_(const char *text, int line)
{
	if (strcmp(w.log, text) != 0)
		fail_msg("line %d: wanted\n%s\ngot\n%s", line, text, w.log);
	forget();
}

/* The world ---------------------------------------------------------------- */

static int
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
		{ .id = SL("tok_c"), .scopes = SCOPE_AGENT_CONNECT },
	};
	const struct hub_snapshot snapshot = { .users = users,
		.user_count = 3,
		.tokens = tokens,
		.token_count = 5 };

	for (uint32_t i = 0; i < 5; i++) {
		tokens[i].name = tokens[i].id;
		tokens[i].workspace_id = 1;
		rig_hash(tokens[i].hash, i + 1);
		if (tokens[i].scopes == 0)
			tokens[i].scopes = SCOPES_ALL;
	}
	return hub_load(w.rig.hub, &snapshot, 0);
}

int
world_begin(const struct hub_config *config)
{
	memset(&w, 0, sizeof(w));
	rig_init(&w.rig, config);
	w.rig.perform = perform;
	w.rig.store = store;
	return w.rig.hub == NULL ? ERR_NOMEM : load_people();
}

int
world_set_up(void **state)
{
	const struct hub_config config = { .seed = { 7, 8, 9, 10 },
		.incarnation = SL("db-1"),
		.concurrency = 2,
		.max_commands = 4000 };

	(void)state;
	assert_int_equal(world_begin(&config), 0);
	return 0;
}

int
world_tear_down(void **state)
{
	(void)state;
	assert_int_equal(w.rig.err, 0);
	rig_fini(&w.rig);
	return 0;
}

void
arrive_at(uint32_t peer, const char *id, const char *verbs, const char *labels)
{
	struct event ev =
	    rig_hello(peer, TOKEN_AGENT, "192.0.2.1", ENTRANCE_CLUSTER_LINK);

	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, peer);
	ev.registration.agent_id = ev.registration.name = slice_from(id);
	ev.registration.labels_json = slice_from(labels);
	ev.registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true,
		.policy_verbs = slice_from(verbs) };
	rig_input(&w.rig, &ev);
	forget();
}

void
arrive(const char *id, const char *verbs)
{
	arrive_at(AGENT, id, verbs, NULL);
}

void
arrive_foreign(uint32_t peer, const char *id)
{
	struct event ev =
	    rig_hello(peer, TOKEN_CONSOLE, "192.0.2.1", ENTRANCE_CONSOLE);

	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, peer);
	ev.registration.agent_id = ev.registration.name = slice_from(id);
	ev.registration.console = true;
	ev.registration.type = SL("claude");
	rig_input(&w.rig, &ev);
}

void
leave(void)
{
	struct event ev = rig_event(EVENT_GONE, AGENT);

	ev.gone.why = ERR_TIMEOUT;
	rig_input(&w.rig, &ev);
}

struct event
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

void
ask(enum request_op op, uint32_t token, struct slice id)
{
	struct event ev = request(op, token, OP, id);

	rig_input(&w.rig, &ev);
}

void
watch(void)
{
	struct event ev =
	    request(OP_EVENTS, TOKEN_ROOT, WATCHER, (struct slice){ 0 });

	rig_input(&w.rig, &ev);
	forget();
}

void
run(const char *agent, struct wish wish)
{
	const struct command_record r = {
		.argv_json = wish.argv == NULL ? SL("[\"true\"]")
					       : slice_from(wish.argv),
		.priority = (uint8_t)(1 + wish.priority),
		.foreground = wish.foreground,
		.deadline_at =
		    wish.deadline == 0 ? 0 : w.rig.wall + wish.deadline,
		.cwd = slice_from(wish.cwd),
	};
	struct slice targets[8], rest = slice_from(agent);
	struct event ev = request(OP_COMMAND_CREATE,
	    wish.token == 0 ? TOKEN_ROOT : wish.token, OP, slice_from(agent));

	ev.request.command = &r;
	ev.request.attach = wish.foreground;
	ev.request.or_fail = wish.or_fail;
	ev.request.force = wish.force;
	ev.request.request_key = slice_from(wish.key);
	if (wish.selector != NULL) {
		ev.request.fan = true;
		ev.request.filter.selector = slice_from(wish.selector);
		ev.request.targets = targets;
		while (
		    slice_split(&rest, ',', &targets[ev.request.target_count]))
			ev.request.target_count++;
	}
	rig_input(&w.rig, &ev);
}

void
ends_after(int command, msec took, int code)
{
	struct event ev = rig_event(EVENT_COMMAND_EXIT, AGENT);

	if (command == 0)
		return;
	ev.outcome.command_id = id_of(command);
	ev.outcome.started_at = 1000000;
	ev.outcome.finished_at = 1000000 + took;
	ev.outcome.exit_code = code;
	rig_input(&w.rig, &ev);
}

void
later(msec by)
{
	rig_advance(&w.rig, w.rig.now + by);
}
