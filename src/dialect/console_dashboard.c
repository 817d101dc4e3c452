/*
 * What dashboards say.
 */
#include "base/err.h"

#include "model/command.h"

#include "dialect/console_parts.h"

static const struct slice none;

enum { IDS_MAX = 1000 };

int
console_read_goodbye(struct console_reader *r)
{
	r->out->event.kind = EVENT_GOODBYE;
	return 0;
}

/* What they want to see -----------------------------------------------------
 */

/* The ids in an array of strings.  An empty one means all, and so does one
 * that has "*" in it (field-facts 2.3). */
static int
read_ids(struct console_reader *r, struct js_value list,
    enum console_topic topic, const char *field)
{
	struct slice *ids = arena_array(r->a, js_count(list) + 1, sizeof(*ids));
	struct js_walk i = js_walk(list);
	struct js_value v;
	size_t n = 0;
	bool all = js_count(list) == 0;

	if (ids == NULL)
		return ERR_NOMEM;
	if (js_count(list) > IDS_MAX)
		return console_refuse(r, ERR_RANGE, SL("INVALID_MESSAGE"),
		    slice_from(field), SL("there are too many ids"));
	while (js_next(&i, NULL, &v)) {
		if (js_string(v, &ids[n]) != 0 || ids[n].len > CONSOLE_ID_MAX)
			return console_refuse(r, ERR_TYPE,
			    SL("INVALID_MESSAGE"), slice_from(field),
			    SL("ids are strings of at most 128 bytes"));
		all = all || slice_eq(ids[n], SL("*"));
		n++;
	}
	r->out->filter.topics[topic].said = true;
	r->out->filter.topics[topic].all = all;
	r->out->filter.topics[topic].ids = ids;
	r->out->filter.topics[topic].count = all ? 0 : n;
	return 0;
}

/* Of an introduction: what is not said is as it is at first, and that is
 * everything. */
static int
read_subscriptions(struct console_reader *r, struct js_value wants)
{
	struct console_filter *filter = &r->out->filter;
	struct js_value agents, commands;
	struct js_fields f;
	bool traces = true, terminals = true;

	js_fields_init(&f, wants);
	js_opt_kind(&f, "agents", JS_ARRAY, &agents);
	js_opt_kind(&f, "commands", JS_ARRAY, &commands);
	js_opt_bool(&f, "traces", true, &traces);
	js_opt_bool(&f, "terminals", true, &terminals);
	if (f.err != 0)
		return console_refuse_field(r, &f, "subscriptions.");
	int err = 0;
	if (agents.kind == JS_ARRAY)
		err =
		    read_ids(r, agents, CONSOLE_AGENTS, "subscriptions.agents");
	if (err == 0 && commands.kind == JS_ARRAY &&
	    r->out->event.complaint.err == 0)
		err = read_ids(
		    r, commands, CONSOLE_COMMANDS, "subscriptions.commands");
	filter->only = true;
	filter->topics[CONSOLE_TRACES].said = true;
	filter->topics[CONSOLE_TRACES].all = traces;
	filter->topics[CONSOLE_TERMINALS].said = true;
	filter->topics[CONSOLE_TERMINALS].all = terminals;
	r->out->has_filter = true;
	return err;
}

static bool
find_topic(struct slice name, enum console_topic *topic)
{
	static const char *const names[CONSOLE_TOPICS] = { "agent", "command",
		"trace", "terminal", "queue" };

	for (unsigned i = 0; i < CONSOLE_TOPICS; i++) {
		size_t len = strlen(names[i]);
		/* "agents" is taken as well. */
		if (slice_eq_nocase(
			slice_first(name, len), slice_from(names[i])) &&
		    (name.len == len ||
			(name.len == len + 1 && name.ptr[len] == 's'))) {
			*topic = (enum console_topic)i;
			return true;
		}
	}
	return false;
}

/* The word `type` is taken by the envelope in flat. */
static int
read_topic(struct console_reader *r, bool add)
{
	const char *const name = r->upper ? "type" : "topic";
	enum console_topic topic = CONSOLE_AGENTS;
	struct slice word = none, id = none;
	bool all = false;
	struct js_fields f;

	js_fields_init(&f, r->body);
	js_need_string(&f, name, &word);
	console_opt_id(&f, "id", &id);
	js_opt_bool(&f, "all", false, &all);
	if (f.err == 0 && !find_topic(word, &topic)) {
		f.err = ERR_RANGE;
		f.field = slice_from(name);
	}
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	struct slice *ids = arena_alloc(r->a, sizeof(*ids));
	if (ids == NULL)
		return ERR_NOMEM;
	*ids = id;
	r->out->word = CONSOLE_FILTER;
	r->out->has_filter = true;
	r->out->filter.add = add;
	r->out->filter.topics[topic].said = true;
	r->out->filter.topics[topic].all = all || id.ptr == NULL;
	r->out->filter.topics[topic].ids = ids;
	r->out->filter.topics[topic].count = id.ptr != NULL && !all ? 1 : 0;
	return 0;
}

int
console_read_subscribe(struct console_reader *r)
{
	return read_topic(r, true);
}

int
console_read_unsubscribe(struct console_reader *r)
{
	return read_topic(r, false);
}

/* Who they are --------------------------------------------------------------
 */

/* Names of features that are not known here may be of a later time. */
static void
read_features(struct console_reader *r, struct js_value list)
{
	struct js_walk i = js_walk(list);
	struct js_value v;
	struct slice name;

	r->peer->batch = r->peer->compressed = false;
	while (js_next(&i, NULL, &v)) {
		if (js_string(v, &name) != 0)
			continue;
		if (slice_eq(name, SL("batch")))
			r->peer->batch = true;
		else if (slice_eq(name, SL("compressed")))
			r->peer->compressed = true;
	}
}

int
console_read_dashboard(struct console_reader *r)
{
	struct slice id = none;
	struct js_value features, wants;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "dashboardId", &id);
	js_opt_kind(&f, "features", JS_ARRAY, &features);
	js_opt_kind(&f, "subscriptions", JS_OBJECT, &wants);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	if (wants.kind == JS_OBJECT) {
		int err = read_subscriptions(r, wants);
		if (err != 0 || r->out->event.complaint.err != 0)
			return err;
	}
	read_features(r, features);
	r->peer->side = CONSOLE_DASHBOARD;
	console_request(r, none)->watch_id = id;
	return 0;
}

int
console_read_init(struct console_reader *r)
{
	struct slice id = none;
	struct js_value features, wants;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "userId", &id);
	js_opt_kind(&f, "features", JS_ARRAY, &features);
	js_opt_kind(&f, "subscriptions", JS_OBJECT, &wants);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	if (!slice_eq(id, r->peer->user_id) &&
	    !slice_eq(id, r->peer->user_name))
		return console_refuse(r, ERR_DENIED, SL("UNAUTHORIZED"),
		    SL("userId"), SL("userId is not the token's user"));
	if (wants.kind == JS_OBJECT) {
		int err = read_subscriptions(r, wants);
		if (err != 0 || r->out->event.complaint.err != 0)
			return err;
	}
	read_features(r, features);
	r->peer->side = CONSOLE_DASHBOARD;
	console_request(r, none)->watch_id = id;
	return 0;
}

/* Commands ------------------------------------------------------------------
 */

int
console_read_request(struct console_reader *r)
{
	struct command_record *c = arena_alloc(r->a, sizeof(*c));
	struct request *q;

	if (c == NULL)
		return ERR_NOMEM;
	/* What is refused overwrites it again. */
	q = console_request(r, none);
	q->command = c;
	c->priority = 1;
	return console_read_command(r, q, c);
}

/* An interrupt or a cancellation. */
int
console_read_command_word(struct console_reader *r)
{
	struct slice id = none;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "commandId", &id);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	console_request(r, id);
	return 0;
}
