#include "cli/verbs.h"

static void
put(struct buf *out, const char *text)
{
	buf_put(out, slice_from(text));
}

static bool
first_of_name(const struct verb *v)
{
	return v == verbs || strcmp(v[-1].name, v->name) != 0;
}

static void
put_names(struct buf *out)
{
	for (size_t i = 0; i < verb_count; i++) {
		if (!first_of_name(&verbs[i]))
			continue;
		put(out, verbs[i].name);
		put(out, " ");
	}
}

static void
put_options(struct buf *out, const struct flag_list *l)
{
	for (size_t i = 0; i < l->count; i++) {
		char letter[] = "-x ";

		letter[1] = l->at[i].letter;
		if (l->at[i].letter != 0)
			put(out, letter);
		if (l->at[i].name != NULL) {
			put(out, "--");
			put(out, l->at[i].name);
			put(out, " ");
		}
	}
}

/* "agent ls) words="..." ;;": what may follow these words. */
static void
put_cases(struct buf *out)
{
	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verbs[i];

		if (v->sub != NULL && first_of_name(v)) {
			put(out, "\t'");
			put(out, v->name);
			put(out, " '*) words='");
			for (size_t k = i; k < verb_count &&
			     strcmp(verbs[k].name, v->name) == 0;
			     k++) {
				put(out, verbs[k].sub);
				put(out, " ");
			}
			put(out, "' ;;\n");
		}
	}
}

static void
put_option_cases(struct buf *out)
{
	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verbs[i];

		put(out, "\t'");
		put(out, v->name);
		put(out, " ");
		if (v->sub != NULL)
			put(out, v->sub);
		put(out, v->sub != NULL ? "') words='" : "'*) words='");
		put_options(out, &v->flags);
		put_options(out, &global_flags);
		put(out, "' ;;\n");
	}
}

static const char head[] =
    "# completion of muster; made by `muster completion`\n"
    "_muster_words()\n"
    "{\n"
    "\tlocal words=\n"
    "\tcase \"$1\" in\n"
    "\t' ') words='";

static const char after_names[] = "' ;;\n"
				  "\t*)\n"
				  "\tcase \"$2\" in\n"
				  "\t-*) case \"$1\" in\n";

static const char after_options[] = "\tesac ;;\n"
				    "\t*) [ \"$3\" = 2 ] && case \"$1\" in\n";

static const char tail[] = "\tesac ;;\n"
			   "\tesac ;;\n"
			   "\tesac\n"
			   "\techo \"$words\"\n"
			   "}\n";

static const char for_bash[] =
    "_muster()\n"
    "{\n"
    "\tlocal at=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\"\n"
    "\t[ \"$COMP_CWORD\" -gt 1 ] || at=' '\n"
    "\t[ \"$COMP_CWORD\" -gt 2 ] || at=\"${at%% *} \"\n"
    "\tlocal cur=\"${COMP_WORDS[COMP_CWORD]}\"\n"
    "\tmapfile -t COMPREPLY < <(compgen -W \"$(_muster_words \"$at\" "
    "\"$cur\" \"$COMP_CWORD\")\" -- \"$cur\")\n"
    "}\n"
    "complete -o default -F _muster muster\n";

static const char for_zsh[] =
    "_muster()\n"
    "{\n"
    "\tlocal at=\"${words[2]} ${words[3]}\"\n"
    "\t(( CURRENT > 2 )) || at=' '\n"
    "\t(( CURRENT > 3 )) || at=\"${at%% *} \"\n"
    "\tcompadd -- ${(s: :)\"$(_muster_words \"$at\" \"${words[CURRENT]}\" "
    "$((CURRENT - 1)))\"}\n"
    "}\n"
    "compdef _muster muster\n";

int
verb_completion(struct cli *c, const struct args *a)
{
	bool zsh = strcmp(a->words[0], "zsh") == 0;
	struct buf out;

	if (!zsh && strcmp(a->words[0], "bash") != 0)
		return cli_usage(
		    c, "it knows bash and zsh, not '%s'", a->words[0]);
	buf_init(&out, CLI_OUTPUT);
	put(&out, zsh ? "#compdef muster\n" : "");
	put(&out, head);
	put_names(&out);
	put(&out, after_names);
	put_option_cases(&out);
	put(&out, after_options);
	put_cases(&out);
	put(&out, tail);
	put(&out, zsh ? for_zsh : for_bash);
	return cli_print(c, &out);
}
