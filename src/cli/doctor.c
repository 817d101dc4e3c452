/*
 * Design notes.  Each check is one line: what was looked at, what was found
 * and, when that is not well, what to do.  A check that another one makes
 * meaningless is skipped, so that the first bad line is the one to mend.
 */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/js_write.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"
#include "io/clock.h"

enum { CHECKS = 16, DETAIL = 1024, SKEW_MS = 5000, SOON_MS = 3 * 86400000 };

enum health { HEALTH_OK, HEALTH_WARN, HEALTH_BAD };

struct check {
	const char *name;
	enum health health;
	char detail[DETAIL];
};

struct doctor {
	struct cli *cli;
	const struct args *args;
	struct check checks[CHECKS];
	size_t count;
};

__attribute__((format(printf, 4, 5))) static void
found(struct doctor *d, const char *name, enum health health, const char *fmt,
    ...)
{
	struct check *k;
	va_list ap;

	if (d->count == CHECKS)
		return;
	k = &d->checks[d->count++];
	k->name = name;
	k->health = health;
	va_start(ap, fmt);
	vsnprintf(k->detail, sizeof(k->detail), fmt, ap);
	va_end(ap);
}

/* Without a controller ------------------------------------------------------
 */

static void
check_config(struct doctor *d)
{
	const char *path = d->cli->config;
	struct stat st;

	if (path == NULL)
		found(d, "config", HEALTH_WARN,
		    "no home directory; set HOME to save contexts");
	else if (stat(path, &st) != 0 && errno == ENOENT)
		found(d, "config", HEALTH_OK,
		    "no contexts saved; 'muster login URL' makes one");
	else if (stat(path, &st) != 0)
		found(d, "config", HEALTH_BAD, "cannot look at %s: %s", path,
		    strerror(errno));
	else if ((st.st_mode & 077) != 0)
		found(d, "config", HEALTH_WARN,
		    "others may read the tokens in %s; run 'chmod 600' on it",
		    path);
	else
		found(d, "config", HEALTH_OK, "%s", path);
}

static bool
check_context(struct doctor *d)
{
	const struct context_flags flags = {
		.url = args_get(d->args, "url"),
		.token_file = args_get(d->args, "token-file"),
		.name = args_get(d->args, "context"),
		.insecure = args_has(d->args, "insecure"),
	};
	struct cli *c = d->cli;
	char why[CONTEXT_WHY] = "out of memory";

	if (context_load(c->config, &flags, &c->arena, &c->at, why) != 0) {
		found(d, "context", HEALTH_BAD, "%s", why);
		return false;
	}
	found(d, "url", HEALTH_OK, "%s, from %s", c->at.url, c->at.source);
	return true;
}

static void
check_terminal(struct doctor *d)
{
	const struct term *t = &d->cli->term;
	const char *kind = getenv("TERM");
	const char *charset;

	if (!t->out_tty) {
		found(d, "terminal", HEALTH_OK,
		    "stdout is none: tables are written with tabs");
		return;
	}
	setlocale(LC_CTYPE, "");
	charset = nl_langinfo(CODESET);
	if (strcmp(charset, "UTF-8") != 0)
		found(d, "terminal", HEALTH_WARN,
		    "the locale's characters are %s; names beyond ASCII need "
		    "UTF-8: try LC_ALL=C.UTF-8",
		    charset);
	else
		found(d, "terminal", HEALTH_OK, "%s, %zu columns, %s",
		    kind == NULL ? "TERM is not set" : kind, t->width,
		    t->colour ? "colours" : "no colours");
	setlocale(LC_CTYPE, "C.UTF-8");
}

/* With one ------------------------------------------------------------------
 */

static void
check_transport(struct doctor *d)
{
	const struct context *at = &d->cli->at;

	if (strncasecmp(at->url, "https:", 6) == 0)
		found(d, "tls", HEALTH_OK, "the controller's %s",
		    at->pin != NULL           ? "key is the pinned one"
			: at->ca_file != NULL ? "certificate is signed by the "
						"CA file's"
					      : "certificate is trusted");
	else if (context_is_loopback(at->url))
		found(d, "tls", HEALTH_OK, "not needed on this machine");
	else
		found(d, "tls", HEALTH_BAD,
		    "http: everything can be read and changed on the way; "
		    "give musterd --tls-cert or --tls-auto and use https");
}

static void
check_clock(struct doctor *d, wall_msec theirs, wall_msec ours)
{
	msec skew = theirs - ours;

	if (theirs == 0)
		found(d, "clock", HEALTH_WARN,
		    "the controller did not tell its time");
	else if (skew > SKEW_MS || skew < -SKEW_MS)
		found(d, "clock", HEALTH_WARN,
		    "the controller's is %lld s %s ours; synchronise both by "
		    "NTP",
		    (long long)((skew < 0 ? -skew : skew) / 1000),
		    skew < 0 ? "behind" : "ahead of");
	else
		found(d, "clock", HEALTH_OK, "agrees with the controller's");
}

static void
check_version(struct doctor *d, struct js_value health)
{
	struct slice theirs = render_text(health, "version");

	if (slice_eq(theirs, SL(MUSTER_VERSION)))
		found(d, "version", HEALTH_OK, "%s on both sides",
		    MUSTER_VERSION);
	else
		found(d, "version", HEALTH_WARN,
		    "this is %s, the controller is %.*s; install the same",
		    MUSTER_VERSION, SLICE_FMT(slice_first(theirs, 64)));
}

static bool
check_controller(struct doctor *d)
{
	struct rest_ask ask = { .path = SL("/api/v1/health"),
		.anonymous = true };
	struct answer *a = arena_alloc(&d->cli->arena, sizeof(*a));
	char why[REST_WHY];
	msec began = clock_mono();
	struct slice status;

	if (a == NULL || rest_try(d->cli, &ask, a, why) != 0) {
		found(d, "controller", HEALTH_BAD, "%s",
		    a == NULL ? "out of memory" : why);
		return false;
	}
	status = render_text(a->root, "status");
	if (status.len == 0 || a->root.kind != JS_OBJECT) {
		found(d, "controller", HEALTH_BAD,
		    "something answers (%ld), but not as a controller; check "
		    "the URL",
		    a->status);
		return false;
	}
	found(d, "controller", a->status == 200 ? HEALTH_OK : HEALTH_BAD,
	    "answers in %lld ms: %.*s%s", (long long)(clock_mono() - began),
	    SLICE_FMT(slice_first(status, 64)),
	    a->status == 200 ? "" : "; look at musterd's log");
	check_transport(d);
	check_clock(d, a->date, clock_wall());
	check_version(d, a->root);
	return true;
}

static void
check_expiry(struct doctor *d, struct js_value token)
{
	wall_msec at;
	msec left;

	if (stamp_parse(render_text(token, "expires_at"), &at) != 0)
		return;
	left = at - clock_wall();
	if (left < SOON_MS)
		found(d, "expiry", HEALTH_WARN,
		    "the token expires in %lld h; 'muster token rotate' gives "
		    "a new one",
		    (long long)(left / 3600000));
}

static void
check_token(struct doctor *d)
{
	struct rest_ask ask = { .path = SL("/api/v1/whoami") };
	struct cli *c = d->cli;
	struct answer *a = arena_alloc(&c->arena, sizeof(*a));
	char why[REST_WHY];

	if (c->at.token == NULL) {
		found(d, "token", HEALTH_BAD,
		    "none; run 'muster login %s' or set MUSTER_TOKEN_FILE",
		    c->at.url);
	} else if (a == NULL || rest_try(c, &ask, a, why) != 0) {
		found(d, "token", HEALTH_BAD, "%s",
		    a == NULL ? "out of memory" : why);
	} else if (a->status != 200) {
		found(d, "token", HEALTH_BAD,
		    "from %s, refused (%ld): %.*s; run 'muster login' with a "
		    "valid one",
		    c->at.token_source, a->status,
		    SLICE_FMT(slice_first(
			render_text(a->root, "detail"), DETAIL / 2)));
	} else {
		struct js_value token = js_get(a->root, "token");

		found(d, "token", HEALTH_OK, "%.*s, from %s",
		    SLICE_FMT(slice_first(render_text(token, "name"), 255)),
		    c->at.token_source);
		check_expiry(d, token);
	}
}

/* The report ----------------------------------------------------------------
 */

static const char *const health_names[] = { "ok", "warn", "bad" };

static int
print_json(struct doctor *d)
{
	struct js_writer w;
	struct buf raw, out;

	buf_init(&raw, CLI_OUTPUT);
	buf_init(&out, CLI_OUTPUT);
	js_write(&w, &raw);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.doctor/1"));
	js_kv_array(&w, "checks");
	for (size_t i = 0; i < d->count; i++) {
		const struct check *k = &d->checks[i];

		js_begin_object(&w);
		js_kv_string(&w, "name", slice_from(k->name));
		js_kv_string(&w, "status", slice_from(health_names[k->health]));
		js_kv_string(&w, "detail", slice_from(k->detail));
		js_end(&w);
	}
	js_end(&w);
	js_end(&w);
	if (js_finish(&w) != 0)
		out.err = ERR_NOMEM;
	safe_json(&out, buf_peek(&raw));
	buf_put_byte(&out, '\n');
	buf_fini(&raw);
	return cli_print(d->cli, &out);
}

/* Not a table: advice is for reading, so nothing is cut. */
static int
print_lines(struct doctor *d)
{
	static const char *const colours[] = { "\033[32m", "\033[33m",
		"\033[31m" };
	const struct term *t = &d->cli->term;
	struct buf out;
	char text[64];

	buf_init(&out, CLI_OUTPUT);
	for (size_t i = 0; i < d->count; i++) {
		const struct check *k = &d->checks[i];

		snprintf(text, sizeof(text),
		    t->out_tty ? "%s%-4s%s  %-10s  " : "%s%s%s\t%s\t",
		    t->colour ? colours[k->health] : "",
		    health_names[k->health], t->colour ? "\033[0m" : "",
		    k->name);
		buf_put(&out, slice_from(text));
		safe_line(&out, slice_from(k->detail));
		buf_put_byte(&out, '\n');
	}
	return cli_print(d->cli, &out);
}

int
verb_doctor(struct cli *c, const struct args *a)
{
	struct doctor *d = arena_alloc(&c->arena, sizeof(*d));
	enum health worst = HEALTH_OK;
	int exit;

	if (d == NULL)
		return cli_nomem(c);
	d->cli = c;
	d->args = a;
	check_config(d);
	if (check_context(d) && check_controller(d))
		check_token(d);
	check_terminal(d);
	for (size_t i = 0; i < d->count; i++)
		if (d->checks[i].health > worst)
			worst = d->checks[i].health;
	exit = c->json ? print_json(d) : print_lines(d);
	return exit == EXIT_OK && worst == HEALTH_BAD ? EXIT_FAILED : exit;
}
