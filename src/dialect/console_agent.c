/*
 * What agents say.  A command of theirs is over once they say so in any of
 * the two ways there are; the other one after it says nothing new.
 */
#include "base/err.h"

#include "dialect/cluster_parts.h"
#include "dialect/console_parts.h"

static const struct slice none;

enum { INTERRUPTED_CODE = 130, DURATION_MAX = 366 * 24 * 3600 };

/* Who they are --------------------------------------------------------------
 */

static int
lower(struct console_reader *r, struct slice s, struct slice *out)
{
	uint8_t *text = arena_alloc(r->a, s.len + 1);

	if (text == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		text[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
	}
	*out = s.ptr == NULL ? none : (struct slice){ text, s.len };
	return 0;
}

/* Everything it said of itself, and its labels. */
static int
keep_words(
    struct console_reader *r, struct registration *g, struct js_value labels)
{
	static const char *const but[] = { "type", "timestamp", "requestId",
		"id", "payload", NULL };
	struct cluster_keep k;

	cluster_keep_begin(&k, false);
	cluster_keep_members(&k, r->body, but);
	int err = cluster_keep_end(&k, r->a, &g->info_json);
	if (err == 0 && labels.kind == JS_OBJECT)
		err = cluster_keep_labels(labels, r->a, &g->labels_json);
	return err;
}

int
console_read_connect(struct console_reader *r)
{
	struct registration g = { .console = true };
	struct js_value labels;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "agentId", &g.agent_id);
	console_opt_id(&f, "agentType", &g.type);
	console_opt_id(&f, "version", &g.version);
	js_opt_string(&f, "name", &g.name);
	js_opt_kind(&f, "labels", JS_OBJECT, &labels);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	if (g.name.len == 0)
		g.name = g.agent_id;
	int err = lower(r, g.type, &g.type);
	if (err == 0)
		err = keep_words(r, &g, labels);
	if (err != 0)
		return err;
	r->peer->side = CONSOLE_AGENT;
	r->peer->agent_id_len = g.agent_id.len;
	memcpy(r->peer->agent_id, g.agent_id.ptr, g.agent_id.len);
	r->out->event.kind = EVENT_REGISTER;
	r->out->event.registration = g;
	return 0;
}

/* Messages may name the agent; it is to be the one that this connection is. */
static int
read_own_id(struct console_reader *r, struct js_fields *f, bool *refused)
{
	const struct slice own = { r->peer->agent_id, r->peer->agent_id_len };
	struct slice id = none;

	console_opt_id(f, "agentId", &id);
	*refused = true;
	if (f->err != 0)
		return console_refuse_field(r, f, "");
	if (id.ptr != NULL && !slice_eq(id, own))
		return console_refuse(r, ERR_DENIED, SL("AGENT_MISMATCH"),
		    SL("agentId"), SL("agentId is not this connection's"));
	*refused = false;
	return 0;
}

static int
read_claim(struct console_reader *r, struct slice status)
{
	static const char *const nothing[] = { NULL };
	static const char *const groups[] = { "metrics", "healthMetrics" };
	struct heartbeat *b = &r->out->event.heartbeat;
	struct cluster_keep k;

	r->out->event.kind = EVENT_HEARTBEAT;
	*b = (struct heartbeat){ .status = status };
	cluster_keep_begin(&k, true);
	for (size_t i = 0; i < 2; i++)
		cluster_keep_members(&k, js_get(r->body, groups[i]), nothing);
	bool any = k.count > 0 || k.cut;
	int err = cluster_keep_end(&k, r->a, &b->metadata_json);
	if (!any)
		b->metadata_json = none;
	return err;
}

int
console_read_status(struct console_reader *r)
{
	struct js_value metrics;
	struct slice status = none;
	struct js_fields f;
	bool refused;

	js_fields_init(&f, r->body);
	int err = read_own_id(r, &f, &refused);
	if (err != 0 || refused)
		return err;
	console_opt_id(&f, "status", &status);
	js_opt_kind(&f, "metrics", JS_OBJECT, &metrics);
	js_opt_kind(&f, "healthMetrics", JS_OBJECT, &metrics);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	err = lower(r, status, &status);
	return err != 0 ? err : read_claim(r, status);
}

/* agent:error, AGENT_ERROR: until it says otherwise, it is in error. */
int
console_read_trouble(struct console_reader *r)
{
	struct js_fields f;
	bool refused;

	js_fields_init(&f, r->body);
	int err = read_own_id(r, &f, &refused);
	if (err != 0 || refused)
		return err;
	return read_claim(r, SL("error"));
}

/* Their commands ------------------------------------------------------------
 */

uint64_t
console_hash(struct slice id)
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

	for (size_t i = 0; i < id.len; i++)
		h = (h ^ id.ptr[i]) * UINT64_C(1099511628211);
	return h | 1;
}

static bool
is_ended(const struct console_peer *p, uint64_t hash)
{
	for (size_t i = 0; i < CONSOLE_ENDED; i++) {
		if (p->ended[i] == hash)
			return true;
	}
	return false;
}

/* What a message says of a command. */
struct verdict {
	struct slice id;
	struct slice status;
	struct slice error;
	int64_t exit_code; /* INT64_MIN: not said */
	int64_t duration;  /* -1: not said */
};

static int
read_verdict(struct console_reader *r, struct verdict *v, bool *refused)
{
	const char *const duration = r->upper ? "executionTime" : "duration";
	struct js_fields f;
	double ms = -1;

	*v = (struct verdict){ .exit_code = INT64_MIN };
	js_fields_init(&f, r->body);
	int err = read_own_id(r, &f, refused);
	if (err != 0 || *refused)
		return err;
	console_need_id(&f, "commandId", &v->id);
	console_opt_id(&f, "status", &v->status);
	js_opt_i64(
	    &f, "exitCode", INT32_MIN, INT32_MAX, INT64_MIN, &v->exit_code);
	js_opt_double(&f, duration, -1, &ms);
	js_opt_string(&f, "error", &v->error);
	*refused = f.err != 0;
	/* Clocks of foreign programs say what they like. */
	v->duration = ms >= 0 && ms <= DURATION_MAX * 1000.0 ? (int64_t)ms : -1;
	return *refused ? console_refuse_field(r, &f, "") : 0;
}

enum said { SAID_NOTHING, SAID_RUNS, SAID_OVER, SAID_FAILED, SAID_BROKEN };

static int
end_command(struct console_reader *r, const struct verdict *v, enum said said)
{
	uint64_t hash = console_hash(v->id);
	int code = said == SAID_FAILED ? 1
	    : said == SAID_BROKEN      ? INTERRUPTED_CODE
				       : 0;

	if (is_ended(r->peer, hash)) {
		r->out->word = CONSOLE_NOTHING;
		return 0;
	}
	r->peer->ended[r->peer->ended_at++ % CONSOLE_ENDED] = hash;
	if (v->exit_code != INT64_MIN)
		code = (int)v->exit_code;
	struct outcome *o = &r->out->event.outcome;
	r->out->event.kind = EVENT_AGENT_ENDED;
	*o = (struct outcome){ .command_id = v->id,
		.finished_at = r->now,
		.exit_code = code,
		.interrupted = said == SAID_BROKEN,
		.why = slice_first(v->error, 1024) };
	if (v->duration >= 0)
		o->started_at = r->now - v->duration;
	return 0;
}

static int
start_command(struct console_reader *r, const struct verdict *v)
{
	r->out->event.kind = EVENT_AGENT_STARTED;
	r->out->event.outcome =
	    (struct outcome){ .command_id = v->id, .started_at = r->now };
	return 0;
}

static bool
find_said(struct slice status, enum said *said)
{
	static const struct {
		struct slice word;
		enum said said;
	} words[] = {
		{ SL_INIT("running"), SAID_RUNS },
		{ SL_INIT("executing"), SAID_RUNS },
		{ SL_INIT("completed"), SAID_OVER },
		{ SL_INIT("failed"), SAID_FAILED },
		{ SL_INIT("interrupted"), SAID_BROKEN },
		{ SL_INIT("cancelled"), SAID_BROKEN },
		{ SL_INIT("queued"), SAID_NOTHING },
		{ SL_INIT("received"), SAID_NOTHING },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (slice_eq_nocase(status, words[i].word)) {
			*said = words[i].said;
			return true;
		}
	}
	return false;
}

static int
follow(struct console_reader *r, const struct verdict *v, enum said said)
{
	if (said == SAID_RUNS)
		return start_command(r, v);
	if (said != SAID_NOTHING)
		return end_command(r, v, said);
	r->out->word = CONSOLE_NOTHING;
	return 0;
}

static int
refuse_status(struct console_reader *r, int err)
{
	const struct js_fields f = { .err = err, .field = SL("status") };

	return console_refuse_field(r, &f, "");
}

/* Also COMMAND_ACK: it has it, or it runs it already. */
int
console_read_command_status(struct console_reader *r)
{
	enum said said = SAID_NOTHING;
	struct verdict v;
	bool refused;
	int err = read_verdict(r, &v, &refused);

	if (err != 0 || refused)
		return err;
	if (v.status.ptr == NULL)
		return refuse_status(r, ERR_MISSING);
	if (!find_said(v.status, &said))
		return refuse_status(r, ERR_RANGE);
	return follow(r, &v, said);
}

/* With a status in upper; else the exit code says how it ended. */
int
console_read_complete(struct console_reader *r)
{
	enum said said = SAID_OVER;
	struct verdict v;
	bool refused;
	int err = read_verdict(r, &v, &refused);

	if (err != 0 || refused)
		return err;
	if (v.status.ptr != NULL &&
	    (!find_said(v.status, &said) || said < SAID_OVER))
		return refuse_status(r, ERR_RANGE);
	return end_command(r, &v, said);
}

/* Their output ---------------------------------------------------------------
 */

static bool
find_stream(struct slice word, enum console_stream *stream)
{
	static const char *const words[] = { "stdout", "stderr", "system",
		"command" };

	for (unsigned i = 0; i < 4; i++) {
		if (slice_eq_nocase(word, slice_from(words[i]))) {
			*stream = (enum console_stream)i;
			return true;
		}
	}
	return false;
}

static int
take_output(struct console_reader *r, struct js_fields *f, struct slice word,
    const char *name, const char *prefix)
{
	struct console_output *o = &r->out->output;

	if (f->err == 0 && !find_stream(word, &o->stream)) {
		f->err = ERR_RANGE;
		f->field = slice_from(name);
	}
	if (f->err != 0)
		return console_refuse_field(r, f, prefix);
	r->out->word = CONSOLE_OUTPUT;
	return 0;
}

int
console_read_output(struct console_reader *r)
{
	struct console_output o = { 0 };
	struct slice word = none;
	struct js_value output;
	struct js_fields f;
	bool refused;

	js_fields_init(&f, r->body);
	int err = read_own_id(r, &f, &refused);
	if (err != 0 || refused)
		return err;
	console_need_id(&f, "commandId", &o.command_id);
	js_need_kind(&f, "output", JS_OBJECT, &output);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	js_fields_init(&f, output);
	js_need_string(&f, "type", &word);
	js_need_string(&f, "content", &o.content);
	r->out->output = o;
	return take_output(r, &f, word, "type", "output.");
}

int
console_read_upper_output(struct console_reader *r)
{
	struct console_output o = { 0 };
	struct slice word = none;
	int64_t sequence = -1;
	struct js_fields f;
	bool refused;

	js_fields_init(&f, r->body);
	int err = read_own_id(r, &f, &refused);
	if (err != 0 || refused)
		return err;
	console_need_id(&f, "commandId", &o.command_id);
	js_need_string(&f, "streamType", &word);
	js_need_string(&f, "content", &o.content);
	js_opt_i64(&f, "sequence", 0, INT64_MAX, -1, &sequence);
	o.has_sequence = sequence >= 0;
	o.sequence = o.has_sequence ? (uint64_t)sequence : 0;
	r->out->output = o;
	return take_output(r, &f, word, "streamType", "");
}
