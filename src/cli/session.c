#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/js_write.h"
#include "cli/login.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"

/* login -------------------------------------------------------------------- */

static int
ask_token(struct cli *c, const char **out)
{
	char text[CONTEXT_TOKEN_MAX + 2], why[CONTEXT_WHY];
	int err;

	if (!c->term.in_tty) {
		err = context_read_token("/dev/stdin", &c->arena, out, why);
		return err == 0 ? EXIT_OK : cli_usage(c, "%s", why);
	}
	err = term_read_secret("Token (not shown): ", text, sizeof(text));
	if (err != 0 || !context_token_valid(text))
		return cli_usage(c, "a token is needed");
	*out = arena_cstr(&c->arena, slice_from(text));
	return *out == NULL ? cli_nomem(c) : EXIT_OK;
}

static int
find_token(struct cli *c, const struct args *a, const char **out)
{
	const char *file = args_get(a, "token-file");
	const char *env = getenv("MUSTER_TOKEN");
	char why[CONTEXT_WHY];

	if (file == NULL && env != NULL && *env != '\0') {
		if (!context_token_valid(env))
			return cli_usage(c, "MUSTER_TOKEN holds no token");
		*out = env;
		return EXIT_OK;
	}
	if (file == NULL)
		file = getenv("MUSTER_TOKEN_FILE");
	if (file == NULL || *file == '\0')
		return ask_token(c, out);
	return context_read_token(file, &c->arena, out, why) == 0
	    ? EXIT_OK
	    : cli_usage(c, "%s", why);
}

static bool
is_pin(const char *text)
{
	return strlen(text) == 64 &&
	    strspn(text, "0123456789abcdefABCDEF") == 64;
}

/* A CA file is found again from any directory. */
static int
login_trust(struct cli *c, const struct args *a)
{
	const char *ca = args_get(a, "ca-file");
	char *path;

	c->at.pin = args_get(a, "pin");
	if (c->at.pin != NULL && !is_pin(c->at.pin))
		return cli_usage(c, "--pin wants 64 hex digits");
	if (ca == NULL)
		ca = getenv("MUSTER_CA_FILE");
	if (ca == NULL || *ca == '\0')
		return EXIT_OK;
	path = realpath(ca, NULL);
	if (path == NULL)
		return cli_usage(c, "there is no file %s", ca);
	c->at.ca_file = arena_cstr(&c->arena, slice_from(path));
	free(path);
	return c->at.ca_file == NULL ? cli_nomem(c) : EXIT_OK;
}

static bool
is_context_name(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= 64 &&
	    strspn(name,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789._-") == n;
}

static int
login_context(struct cli *c, const struct args *a)
{
	const char *name = args_get(a, "context");

	c->at.name = name == NULL ? "default" : name;
	c->at.source = "the command line";
	c->at.insecure = args_has(a, "insecure");
	if (!is_context_name(c->at.name))
		return cli_usage(c,
		    "a context's name is 1 to 64 letters, digits, dots and "
		    "dashes");
	if (context_url(a->words[0], &c->arena, &c->at.url) != 0)
		return cli_usage(c,
		    "%s is not the URL of a controller; it looks like "
		    "https://muster.example.com",
		    a->words[0]);
	return login_trust(c, a);
}

int
verb_login(struct cli *c, const struct args *a)
{
	char why[CONTEXT_WHY];
	struct answer who;
	int exit = login_context(c, a);

	if (exit == EXIT_OK)
		exit = args_has(a, "user") ? login_as(c, a)
					   : find_token(c, a, &c->at.token);
	if (exit == EXIT_OK && c->config == NULL)
		exit = cli_fail(
		    c, EXIT_FAILED, "there is no home directory: set HOME");
	if (exit == EXIT_OK)
		exit = rest_get(c, SL("/api/v1/whoami"), &who);
	if (exit != EXIT_OK)
		return exit;
	if (context_save(c->config, &c->at, &c->arena, why) != 0)
		return cli_fail(c, EXIT_FAILED, "%s", why);
	if (c->json)
		return rest_print(c, who.root);
	cli_note(c, "%s is context %s now, saved in %s", c->at.url, c->at.name,
	    c->config);
	return EXIT_OK;
}

/* Of a login the controller is told, if it can be. */
static bool
end_login(struct cli *c, const char *name)
{
	const struct context_flags flags = { .name = name };
	const struct rest_ask ask = { .method = "POST",
		.path = SL("/api/v1/auth/logout") };
	char why[REST_WHY];
	struct answer got;

	if (context_load(c->config, &flags, &c->arena, &c->at, why) != 0 ||
	    c->at.refresh == NULL || login_renew(c) != EXIT_OK)
		return false;
	return rest_try(c, &ask, &got, why) == 0 && got.status == 204;
}

int
verb_logout(struct cli *c, const struct args *a)
{
	const char *name = a->count > 0 ? a->words[0] : args_get(a, "context");
	const char *gone;
	char why[CONTEXT_WHY];
	int err;

	if (c->config == NULL)
		return cli_fail(
		    c, EXIT_FAILED, "there is no home directory: set HOME");
	bool over = end_login(c, name);
	err = context_drop(c->config, name, &c->arena, &gone, why);
	if (err != 0)
		return cli_fail(c,
		    err == ERR_NOT_FOUND ? EXIT_NOT_FOUND : EXIT_FAILED, "%s",
		    why);
	cli_note(c,
	    over ? "context %s is forgotten and its login over"
		 : "context %s is forgotten; its token stays valid until it "
		   "is revoked or expires",
	    gone);
	return EXIT_OK;
}

/* whoami, status ----------------------------------------------------------- */

int
verb_whoami(struct cli *c, const struct args *a)
{
	struct answer who;
	int exit = rest_get(c, SL("/api/v1/whoami"), &who);

	(void)a;
	return exit == EXIT_OK ? render_object(c, who.root) : exit;
}

enum { STATUSES = 9 };

struct census {
	uint64_t of[STATUSES];
	uint64_t all;
	uint64_t stops;
};

static const char *const statuses[STATUSES] = { "online", "busy", "joining",
	"degraded", "error", "reconnecting", "offline", "stopped", "other" };

static int
count_agent(struct cli *c, void *arg, struct js_value agent)
{
	struct census *n = arg;
	struct slice status = render_text(agent, "status");
	size_t i = 0;

	(void)c;
	while (i + 1 < STATUSES && !slice_eq(status, slice_from(statuses[i])))
		i++;
	n->of[i]++;
	n->all++;
	return EXIT_OK;
}

static int
status_json(struct cli *c, struct js_value health, const struct census *n)
{
	struct js_writer w;
	struct buf raw, out;

	buf_init(&raw, CLI_OUTPUT);
	buf_init(&out, CLI_OUTPUT);
	js_write(&w, &raw);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.status/1"));
	js_kv_string(&w, "url", slice_from(c->at.url));
	js_kv_raw(&w, "health", js_raw(health));
	js_kv_object(&w, "agents");
	js_kv_u64(&w, "total", n->all);
	for (size_t i = 0; i < STATUSES; i++)
		js_kv_u64(&w, statuses[i], n->of[i]);
	js_end(&w);
	js_kv_u64(&w, "stops_standing", n->stops);
	js_end(&w);
	if (js_finish(&w) != 0)
		out.err = ERR_NOMEM;
	safe_json(&out, buf_peek(&raw));
	buf_put_byte(&out, '\n');
	buf_fini(&raw);
	return cli_print(c, &out);
}

static void
status_row(struct table *t, const char *name, struct slice value)
{
	table_cell(t, slice_from(name), TABLE_DIM);
	table_cell(t, value, render_colour(value));
}

static int
status_table(struct cli *c, struct js_value health, const struct census *n)
{
	static const struct table_column columns[] = { { "", false, true },
		{ "", false, true } };
	struct table t;
	char number[24];

	table_init(&t, columns, 2, &c->arena);
	status_row(&t, "url", slice_from(c->at.url));
	status_row(&t, "controller", render_text(health, "status"));
	status_row(&t, "version", render_text(health, "version"));
	snprintf(number, sizeof(number), "%llu", (unsigned long long)n->all);
	status_row(&t, "agents", slice_from(number));
	for (size_t i = 0; i < STATUSES; i++) {
		if (n->of[i] == 0)
			continue;
		snprintf(number, sizeof(number), "%llu",
		    (unsigned long long)n->of[i]);
		table_cell(&t, slice_from(statuses[i]),
		    render_colour(slice_from(statuses[i])));
		table_cell(&t, slice_from(number), TABLE_PLAIN);
	}
	if (n->stops > 0) {
		snprintf(number, sizeof(number), "%llu",
		    (unsigned long long)n->stops);
		table_cell(&t, SL("stops"), TABLE_BAD);
		table_cell(&t, slice_from(number), TABLE_BAD);
	}
	return render_table(c, &t);
}

/* An older controller has none: no reason to say nothing at all. */
static void
count_stops(struct cli *c, struct census *n)
{
	struct rest_ask ask = { .path = SL("/api/v1/stops?limit=1000") };
	struct answer stops;
	char why[REST_WHY];
	struct js_value one;

	if (rest_try(c, &ask, &stops, why) != 0 || stops.status != 200)
		return;
	struct js_walk w = js_walk(js_get(stops.root, "items"));
	while (js_next(&w, NULL, &one))
		n->stops += slice_eq(render_text(one, "standing"), SL("true"));
}

int
verb_status(struct cli *c, const struct args *a)
{
	struct rest_ask ask = { .path = SL("/api/v1/health"),
		.anonymous = true };
	struct census n = { 0 };
	struct answer health;
	char why[REST_WHY];
	int exit, err = rest_try(c, &ask, &health, why);

	(void)a;
	if (err != 0)
		return cli_fail(c, EXIT_FAILED, "%s", why);
	/* 503 is an answer here: it says what is wrong. */
	if (health.status != 200 && health.status != 503)
		return rest_refused(c, &health);
	exit =
	    rest_list(c, SL("/api/v1/agents?limit=1000"), 0, count_agent, &n);
	if (exit != EXIT_OK)
		return exit;
	count_stops(c, &n);
	exit = c->json ? status_json(c, health.root, &n)
		       : status_table(c, health.root, &n);
	return exit == EXIT_OK && health.status != 200 ? EXIT_FAILED : exit;
}
