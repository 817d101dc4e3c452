#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/login.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"

/* One line on stderr by one write, safe for any terminal. */
__attribute__((format(printf, 2, 0))) static void
say(const struct cli *c, const char *fmt, va_list ap)
{
	char text[CLI_LINE];
	struct buf b;
	int n = vsnprintf(text, sizeof(text), fmt, ap);

	if (n < 0)
		return;
	buf_init(&b, 4 * CLI_LINE + 256);
	buf_put(&b, SL("muster"));
	if (c->verb != NULL) {
		buf_put_byte(&b, ' ');
		buf_put(&b, slice_from(c->verb->name));
	}
	if (c->verb != NULL && c->verb->sub != NULL) {
		buf_put_byte(&b, ' ');
		buf_put(&b, slice_from(c->verb->sub));
	}
	buf_put(&b, SL(": "));
	safe_line(&b, slice_from(text));
	buf_put_byte(&b, '\n');
	term_write(2, buf_peek(&b));
	buf_fini(&b);
}

int
cli_fail(const struct cli *c, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(c, fmt, ap);
	va_end(ap);
	return code;
}

void
cli_note(const struct cli *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(c, fmt, ap);
	va_end(ap);
}

int
cli_usage(const struct cli *c, const char *fmt, ...)
{
	char text[CLI_LINE / 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->verb == NULL)
		return cli_fail(c, EXIT_USAGE, "%s; see 'muster help'", text);
	return cli_fail(c, EXIT_USAGE, "%s; see 'muster help %s%s%s'", text,
	    c->verb->name, c->verb->sub == NULL ? "" : " ",
	    c->verb->sub == NULL ? "" : c->verb->sub);
}

int
cli_nomem(const struct cli *c)
{
	return cli_fail(
	    c, EXIT_FAILED, "out of memory, or a limit was reached");
}

int
cli_print(const struct cli *c, struct buf *out)
{
	int err = out->err;

	if (err == 0)
		err = term_write(1, buf_peek(out));
	buf_fini(out);
	if (err == 0 || err == ERR_CLOSED)
		return EXIT_OK;
	return cli_fail(
	    c, EXIT_FAILED, "cannot write to stdout: %s", err_name(err));
}

int
cli_span(const struct cli *c, const struct args *a, const char *flag,
    msec fallback, msec *out)
{
	const char *text = args_get(a, flag);

	*out = fallback;
	if (text == NULL || safe_read_span(slice_from(text), out) == 0)
		return EXIT_OK;
	return cli_usage(c,
	    "--%s %s is not a duration; write 90s, 5m, 24h or 7d", flag, text);
}

/* One verb ----------------------------------------------------------------- */

static int
wrong_option(const struct cli *c, int err, const char *culprit)
{
	switch (err) {
	case ERR_NOT_FOUND:
		return cli_usage(c, "there is no option %s", culprit);
	case ERR_MISSING:
		return cli_usage(c, "%s needs a value", culprit);
	case ERR_TYPE:
		return cli_usage(c, "%s takes no value", culprit);
	default:
		return cli_nomem(c);
	}
}

static int
check_words(const struct cli *c, const struct args *a)
{
	const struct verb *v = c->verb;

	if (a->count < v->min)
		return cli_usage(c, "it needs %s", v->operands);
	if (a->count > v->max)
		return cli_usage(c, "'%s' is too much", a->words[v->max]);
	if (a->tail != NULL && !v->tail)
		return cli_usage(c, "it takes nothing behind --");
	return EXIT_OK;
}

static int
load_context(struct cli *c, const struct args *a)
{
	struct context_flags flags = {
		.url = args_get(a, "url"),
		.token_file = args_get(a, "token-file"),
		.name = args_get(a, "context"),
		.insecure = args_has(a, "insecure"),
	};
	char why[CONTEXT_WHY] = "out of memory";
	int err = context_load(c->config, &flags, &c->arena, &c->at, why);

	if (err == 0)
		return c->verb->run == verb_user_setup ? EXIT_OK
						       : login_renew(c);
	return cli_fail(
	    c, err == ERR_NOMEM ? EXIT_FAILED : EXIT_USAGE, "%s", why);
}

/* These work without a context, and some mend a broken one. */
static bool
needs_context(const struct verb *v)
{
	return v->run != verb_login && v->run != verb_logout &&
	    v->run != verb_help && v->run != verb_version &&
	    v->run != verb_completion && v->run != verb_doctor;
}

static int
show_help(const struct cli *c)
{
	struct buf out;

	buf_init(&out, CLI_OUTPUT);
	help_verb(&out, c->verb);
	return cli_print(c, &out);
}

static int
run_verb(struct cli *c, int argc, char **argv)
{
	const struct flag_list lists[2] = { c->verb->flags, global_flags };
	const char *culprit = NULL;
	struct args a;
	int exit, err = args_parse(argc, argv, lists, &c->arena, &a, &culprit);

	if (err == 0 && args_has(&a, "help"))
		return show_help(c);
	if (err != 0)
		return wrong_option(c, err, culprit);
	c->json = args_has(&a, "json");
	exit = check_words(c, &a);
	if (exit == EXIT_OK && needs_context(c->verb))
		exit = load_context(c, &a);
	return exit == EXIT_OK ? c->verb->run(c, &a) : exit;
}

static int
unknown_verb(struct cli *c, int argc, char **argv, bool family)
{
	struct buf out;

	if (argc > 0 && strcmp(argv[0], "--version") == 0)
		return verb_version(c, NULL);
	if (argc == 0 || argv[0][0] != '-') {
		if (!family)
			return argc == 0
			    ? cli_usage(c, "a verb is needed")
			    : cli_usage(c, "there is no verb '%s'", argv[0]);
		if (argc < 2)
			return cli_usage(c,
			    "'%s' needs one more word; 'muster help %s' lists "
			    "them",
			    argv[0], argv[0]);
	}
	if (family && strcmp(argv[1], "--help") != 0 &&
	    strcmp(argv[1], "-h") != 0)
		return cli_usage(
		    c, "there is no verb '%s %s'", argv[0], argv[1]);
	buf_init(&out, CLI_OUTPUT);
	if (family) {
		help_family(&out, argv[0]);
	} else if (strcmp(argv[0], "--help") == 0 ||
	    strcmp(argv[0], "-h") == 0) {
		help_all(&out);
	} else {
		buf_fini(&out);
		return cli_usage(
		    c, "options follow the verb; %s came first", argv[0]);
	}
	return cli_print(c, &out);
}

static void
on_interrupt(int number)
{
	(void)number;
	_exit(EXIT_INTERRUPTED);
}

int
cli_main(int argc, char **argv)
{
	struct cli c = { 0 };
	bool family = false;
	int used = 0, exit;

	/* Ctrl-C ends every verb but exec at once; writing to a reader that
	 * has gone is an error that is looked at. */
	signal(SIGINT, on_interrupt);
	signal(SIGPIPE, SIG_IGN);
	setlocale(LC_CTYPE, "C.UTF-8");
	arena_init(&c.arena, CLI_MEMORY);
	term_init(&c.term);
	c.config = context_path(&c.arena);
	c.verb = verb_find(argc - 1, argv + 1, &used, &family);
	exit = c.verb == NULL ? unknown_verb(&c, argc - 1, argv + 1, family)
			      : run_verb(&c, argc - 1 - used, argv + 1 + used);
	rest_fini(&c);
	arena_fini(&c.arena);
	return exit;
}
