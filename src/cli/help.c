#include <stdio.h>
#include <string.h>

#include "cli/verbs.h"

static const char footer[] =
    "\n"
    "environment: MUSTER_URL MUSTER_TOKEN MUSTER_TOKEN_FILE MUSTER_CA_FILE "
    "NO_COLOR\n"
    "exit codes:  0 ok, 1 failure, 2 usage, 4 not permitted, 5 not found,\n"
    "             6 agent offline, 7 rate limited, 8 stopped, 124 timeout,\n"
    "             125 never ran, 130 Ctrl-C; exec, job wait: the program's\n"
    "\n"
    "'muster help VERB' says more; so does man muster.\n";

enum { WIDTH = 78, SUMMARY_AT = 22, OPTION_AT = 24 };

static void
put(struct buf *out, const char *text)
{
	buf_put(out, slice_from(text));
}

static void
pad_to(struct buf *out, size_t from, size_t column)
{
	size_t used = buf_peek(out).len - from;

	if (used + 1 > column)
		put(out, " ");
	for (; used < column; used++)
		put(out, " ");
}

/* Words of text in lines of WIDTH, indented. */
static void
put_wrapped(struct buf *out, const char *text, size_t indent)
{
	struct slice rest = slice_from(text), word;
	size_t column = 0;

	while (slice_split(&rest, ' ', &word)) {
		if (word.len == 0)
			continue;
		if (column > 0 && column + 1 + word.len > WIDTH) {
			put(out, "\n");
			column = 0;
		}
		if (column == 0) {
			pad_to(out, buf_peek(out).len, indent);
			column = indent;
		} else {
			put(out, " ");
			column++;
		}
		buf_put(out, word);
		column += word.len;
	}
	put(out, "\n");
}

static void
put_name(struct buf *out, const struct verb *v)
{
	put(out, v->name);
	if (v->sub != NULL) {
		put(out, " ");
		put(out, v->sub);
	}
}

static void
put_line(struct buf *out, const struct verb *v)
{
	size_t from = buf_peek(out).len;

	put(out, "  ");
	put_name(out, v);
	pad_to(out, from, SUMMARY_AT);
	put(out, v->summary);
	put(out, "\n");
}

static void
put_flag(struct buf *out, const struct flag *f)
{
	size_t from = buf_peek(out).len;
	char letter[] = "  -x";

	letter[3] = f->letter;
	put(out, f->letter != 0 ? letter : "  ");
	if (f->name != NULL) {
		put(out, f->letter != 0 ? ", --" : "--");
		put(out, f->name);
	}
	if (f->meta != NULL) {
		put(out, f->name != NULL ? "=" : " ");
		put(out, f->meta);
	}
	pad_to(out, from, OPTION_AT);
	put(out, f->help);
	put(out, "\n");
}

static void
put_flags(struct buf *out, const char *title, const struct flag_list *l)
{
	if (l->count == 0)
		return;
	put(out, "\n");
	put(out, title);
	put(out, "\n");
	for (size_t i = 0; i < l->count; i++)
		put_flag(out, &l->at[i]);
}

void
help_all(struct buf *out)
{
	put(out, "usage: muster VERB [OPTIONS] [OPERANDS]\n\n");
	for (size_t i = 0; i < verb_count; i++)
		put_line(out, &verbs[i]);
	put_flags(out, "options of every verb:", &global_flags);
	put(out, footer);
}

bool
help_family(struct buf *out, const char *name)
{
	bool any = false;

	for (size_t i = 0; i < verb_count; i++) {
		if (strcmp(verbs[i].name, name) != 0)
			continue;
		put_line(out, &verbs[i]);
		any = true;
	}
	return any;
}

void
help_verb(struct buf *out, const struct verb *v)
{
	put(out, "usage: muster ");
	put_name(out, v);
	if (v->flags.count > 0)
		put(out, " [OPTIONS]");
	if (*v->operands != '\0') {
		put(out, " ");
		put(out, v->operands);
	}
	put(out, "\n\n");
	put_wrapped(out, v->summary, 2);
	if (v->more != NULL) {
		put(out, "\n");
		put_wrapped(out, v->more, 2);
	}
	put_flags(out, "options:", &v->flags);
	put_flags(out, "options of every verb:", &global_flags);
}

int
verb_help(struct cli *c, const struct args *a)
{
	char *words[2] = { NULL, NULL };
	const struct verb *v;
	struct buf out;
	bool family;
	int used;

	buf_init(&out, CLI_OUTPUT);
	for (size_t i = 0; i < a->count; i++)
		words[i] = arena_cstr(&c->arena, slice_from(a->words[i]));
	if (a->count == 0) {
		help_all(&out);
		return cli_print(c, &out);
	}
	v = verb_find((int)a->count, words, &used, &family);
	if (v != NULL && (size_t)used == a->count)
		help_verb(&out, v);
	else if (!family || a->count > 1 || !help_family(&out, words[0])) {
		buf_fini(&out);
		return cli_usage(c, "there is no verb '%s%s%s'", words[0],
		    a->count > 1 ? " " : "", a->count > 1 ? words[1] : "");
	}
	return cli_print(c, &out);
}

int
verb_version(struct cli *c, const struct args *a)
{
	struct buf out;

	(void)a;
	buf_init(&out, CLI_LINE);
	put(&out,
	    c->json ? "{\"schema\":\"muster.version/1\",\"version\":\""
		    : "muster ");
	put(&out, MUSTER_VERSION);
	put(&out, c->json ? "\"}\n" : "\n");
	return cli_print(c, &out);
}
