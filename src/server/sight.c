#include "server/sight.h"

enum { SCRATCH = 8 << 20 };

static bool
judge(struct sight *s, struct slice agent_id)
{
	const struct agent_record *a;

	arena_reset(&s->scratch);
	return store_read_agent(s->reader, agent_id, &s->scratch, &a) == 0 &&
	    a->workspace_id == s->workspace_id &&
	    selector_match(&s->selector, a->operator_labels_json,
		a->labels_json, &s->scratch) == 1;
}

/* Rows of one agent come in runs. */
static bool
sees_agent(struct sight *s, struct slice agent_id)
{
	if (agent_id.len > 0 && slice_eq(slice_from(s->agent), agent_id))
		return s->sees;
	bool sees = judge(s, agent_id);
	if (slice_cstr(agent_id, s->agent, sizeof(s->agent)) != 0)
		s->agent[0] = '\0';
	s->sees = sees;
	return sees;
}

static bool
keep_command(void *arg, const void *record)
{
	const struct command_record *c = record;

	return sees_agent(arg, c->agent_id);
}

/* What concerns an agent or its command, and what the user did or what was
 * done to them. */
static bool
keep_line(void *arg, const void *record)
{
	const struct audit_record *line = record;
	const struct command_record *c;
	struct sight *s = arg;
	struct slice object = line->note.object;

	if (slice_eq(line->note.actor, s->user_id) ||
	    slice_eq(object, s->user_id))
		return true;
	if (!slice_starts(object, SL("cmd_")))
		return object.len > 0 && sees_agent(s, object);
	arena_reset(&s->scratch);
	if (store_read_command(s->reader, object, &s->scratch, &c) != 0)
		return false;
	char agent[sizeof(s->agent)];
	return slice_cstr(c->agent_id, agent, sizeof(agent)) == 0 &&
	    sees_agent(s, slice_from(agent));
}

void
sight_init(struct sight *s, struct slice text, struct slice user_id,
    int64_t workspace_id)
{
	*s = (struct sight){ .text = text,
		.user_id = user_id,
		.workspace_id = workspace_id,
		.commands = { keep_command, s },
		.lines = { keep_line, s } };
	arena_init(&s->scratch, SCRATCH);
	/* What cannot be read chooses nothing. */
	if (selector_parse(text, &s->selector) != 0)
		s->selector = (struct selector){
			.terms = { { .key = SL(""), .how = TERM_THERE } },
			.count = 1
		};
}

void
sight_fini(struct sight *s)
{
	arena_fini(&s->scratch);
}

const struct row_filter *
sight_commands(struct sight *s, struct store_reader *r)
{
	s->reader = r;
	return s->text.len == 0 ? NULL : &s->commands;
}

const struct row_filter *
sight_lines(struct sight *s, struct store_reader *r)
{
	s->reader = r;
	return s->text.len == 0 ? NULL : &s->lines;
}

bool
sight_command(
    struct sight *s, struct store_reader *r, const struct command_record *c)
{
	s->reader = r;
	return s->text.len == 0 || sees_agent(s, c->agent_id);
}
