#include <string.h>

#include "base/err.h"
#include "cli/args.h"

struct parsing {
	int argc, at;
	char **argv;
	const struct flag_list *lists;
	struct args *out;
};

static const struct flag *
find_long(const struct flag_list lists[2], const char *name, size_t len)
{
	for (size_t l = 0; l < 2; l++) {
		for (size_t i = 0; i < lists[l].count; i++) {
			const struct flag *f = &lists[l].at[i];

			if (f->name != NULL && strlen(f->name) == len &&
			    memcmp(f->name, name, len) == 0)
				return f;
		}
	}
	return NULL;
}

static const struct flag *
find_short(const struct flag_list lists[2], char letter)
{
	for (size_t l = 0; l < 2; l++)
		for (size_t i = 0; i < lists[l].count; i++)
			if (lists[l].at[i].letter == letter)
				return &lists[l].at[i];
	return NULL;
}

static void
give(struct parsing *p, const struct flag *f, const char *value)
{
	p->out->given[p->out->given_count].flag = f;
	p->out->given[p->out->given_count++].value = value;
}

static int
parse_long(struct parsing *p, const char *text)
{
	const char *equals = strchr(text, '=');
	size_t len = equals == NULL ? strlen(text) : (size_t)(equals - text);
	const struct flag *f = find_long(p->lists, text, len);

	if (f == NULL)
		return ERR_NOT_FOUND;
	if (f->meta == NULL) {
		give(p, f, NULL);
		return equals == NULL ? 0 : ERR_TYPE;
	}
	if (equals != NULL) {
		give(p, f, equals + 1);
		return 0;
	}
	if (p->at >= p->argc)
		return ERR_MISSING;
	give(p, f, p->argv[p->at++]);
	return 0;
}

static int
parse_short(struct parsing *p, const char *text)
{
	for (; *text != '\0'; text++) {
		const struct flag *f = find_short(p->lists, *text);

		if (f == NULL)
			return ERR_NOT_FOUND;
		if (f->meta == NULL) {
			give(p, f, NULL);
			continue;
		}
		if (text[1] != '\0') {
			give(p, f, text + 1);
			return 0;
		}
		if (p->at >= p->argc)
			return ERR_MISSING;
		give(p, f, p->argv[p->at++]);
		return 0;
	}
	return 0;
}

static size_t
letters(int argc, char **argv)
{
	size_t n = 0;

	for (int i = 0; i < argc; i++)
		n += strlen(argv[i]) + 1;
	return n;
}

int
args_parse(int argc, char **argv, const struct flag_list lists[2],
    struct arena *a, struct args *out, const char **culprit)
{
	struct parsing p = { argc, 0, argv, lists, out };

	memset(out, 0, sizeof(*out));
	/* Bundled letters are one option each. */
	out->words = arena_array(a, (size_t)argc + 1, sizeof(*out->words));
	out->given =
	    arena_array(a, letters(argc, argv) + 1, sizeof(*out->given));
	if (out->words == NULL || out->given == NULL)
		return ERR_NOMEM;
	while (p.at < argc) {
		const char *word = argv[p.at++];
		int err = 0;

		if (strcmp(word, "--") == 0) {
			out->tail = argv + p.at;
			out->tail_count = (size_t)(argc - p.at);
			break;
		}
		if (word[0] == '-' && word[1] == '-')
			err = parse_long(&p, word + 2);
		else if (word[0] == '-' && word[1] != '\0')
			err = parse_short(&p, word + 1);
		else
			out->words[out->count++] = word;
		if (err != 0) {
			*culprit = word;
			return err;
		}
	}
	return 0;
}

static bool
is_named(const struct flag *f, const char *name)
{
	if (name[1] == '\0')
		return f->letter == name[0];
	return f->name != NULL && strcmp(f->name, name) == 0;
}

const char *
args_each(const struct args *a, const char *name, size_t *at)
{
	while (*at < a->given_count) {
		const struct args_given *g = &a->given[(*at)++];

		if (is_named(g->flag, name))
			return g->value;
	}
	return NULL;
}

bool
args_has(const struct args *a, const char *name)
{
	for (size_t i = 0; i < a->given_count; i++)
		if (is_named(a->given[i].flag, name))
			return true;
	return false;
}

const char *
args_get(const struct args *a, const char *name)
{
	const char *last = NULL, *value;
	size_t at = 0;

	while ((value = args_each(a, name, &at)) != NULL)
		last = value;
	return last;
}
