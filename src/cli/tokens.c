#include <stdio.h>

#include "base/js_write.h"
#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"

#define DEFAULT_SCOPES "cluster:register,cluster:heartbeat"

static void
put_parts(struct js_writer *w, const char *list)
{
	struct slice rest = slice_from(list), part;

	while (slice_split(&rest, ',', &part))
		if (slice_trim(part).len > 0)
			js_put_string(w, slice_trim(part));
}

/* Lists of several options with one name are one list. */
static void
put_lists(struct js_writer *w, const char *key, const struct args *a,
    const char *flag, const char *fallback)
{
	const char *list;
	size_t at = 0;

	js_kv_array(w, key);
	while ((list = args_each(a, flag, &at)) != NULL)
		put_parts(w, list);
	if (!args_has(a, flag))
		put_parts(w, fallback);
	js_end(w);
}

static int
put_wish(struct cli *c, const struct args *a, struct buf *body)
{
	const char *most = args_get(a, "max-connections");
	struct js_writer w;
	uint64_t n = 0;
	msec ttl;
	int exit = cli_span(c, a, "ttl", 0, &ttl);

	if (exit != EXIT_OK)
		return exit;
	if (most != NULL && slice_u64(slice_from(most), INT32_MAX, &n) != 0)
		return cli_usage(c, "--max-connections %s is no number", most);
	js_write(&w, body);
	js_begin_object(&w);
	js_kv_string(&w, "name", slice_from(a->words[0]));
	put_lists(&w, "scopes", a, "scope", DEFAULT_SCOPES);
	if (args_has(a, "allow"))
		put_lists(&w, "allow", a, "allow", "");
	if (ttl > 0)
		js_kv_i64(&w, "ttl_ms", ttl);
	if (most != NULL)
		js_kv_u64(&w, "max_connections", n);
	js_end(&w);
	return js_finish(&w) == 0 ? EXIT_OK : cli_nomem(c);
}

/* Lines to be copied, so without our name before them. */
static void
tell_how_to_join(const struct cli *c)
{
	struct buf text;

	buf_init(&text, CLI_LINE * 2);
	buf_put(&text,
	    SL("The token is shown this once.  To join an agent, put it into "
	       "a file on\nits host and run there:\n\n  muster-agent join "));
	safe_text(&text, slice_from(c->at.url));
	buf_put(&text, SL(" --token-file FILE\n\n"));
	term_write(2, buf_peek(&text));
	buf_fini(&text);
}

/* The token alone where a program reads; with what to do with it where a
 * person does. */
static int
print_token(struct cli *c, struct js_value root)
{
	struct slice token = render_text(root, "token");
	struct buf out;

	if (token.len == 0)
		return cli_fail(c, EXIT_FAILED, "the controller sent no token");
	if (c->json)
		return rest_print(c, root);
	if (c->term.out_tty)
		tell_how_to_join(c);
	buf_init(&out, CLI_LINE * 4);
	safe_text(&out, token);
	buf_put_byte(&out, '\n');
	return cli_print(c, &out);
}

int
verb_token_create(struct cli *c, const struct args *a)
{
	struct answer made;
	struct buf body;
	int exit;

	buf_init(&body, (size_t)1 << 20);
	exit = put_wish(c, a, &body);
	if (exit == EXIT_OK) {
		struct rest_ask ask = { .method = "POST",
			.path = SL("/api/v1/tokens"),
			.body = buf_peek(&body) };

		exit = rest_call(c, &ask, &made);
	}
	buf_fini(&body);
	return exit == EXIT_OK ? print_token(c, made.root) : exit;
}

static int
token_row(struct cli *c, void *arg, struct js_value token)
{
	struct table *t = arg;
	bool revoked = render_text(token, "revoked_at").len > 0;

	table_cell(
	    t, render_text(token, "name"), revoked ? TABLE_DIM : TABLE_PLAIN);
	table_cell(t, render_text(token, "id"), TABLE_DIM);
	table_cell(t, render_list(c, js_get(token, "scopes")), TABLE_PLAIN);
	table_cell(t, render_age(c, token, "created_at"), TABLE_PLAIN);
	table_cell(t, render_age(c, token, "expires_at"), TABLE_PLAIN);
	table_cell(t, render_age(c, token, "last_used_at"), TABLE_PLAIN);
	table_cell(t, revoked ? SL("revoked") : SL("valid"),
	    revoked ? TABLE_DIM : TABLE_GOOD);
	return EXIT_OK;
}

int
verb_token_ls(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = { { "NAME", false, false },
		{ "ID", false, true }, { "SCOPES", false, false },
		{ "AGE", true, true }, { "EXPIRES", true, true },
		{ "USED", true, true }, { "STATE", false, true } };
	static const struct slice path = SL_INIT("/api/v1/tokens?limit=1000");
	struct table t;
	int exit;

	(void)a;
	if (c->json)
		return rest_list_json(c, path, 0);
	table_init(&t, columns, 7, &c->arena);
	exit = rest_list(c, path, 0, token_row, &t);
	return exit == EXIT_OK ? render_table(c, &t) : exit;
}

static struct slice
token_path(struct cli *c, const struct args *a, const char *after)
{
	return find_path(c, "/api/v1/tokens/", slice_from(a->words[0]), after);
}

int
verb_token_show(struct cli *c, const struct args *a)
{
	struct answer token;
	int exit = rest_get(c, token_path(c, a, ""), &token);

	return exit == EXIT_OK ? render_object(c, token.root) : exit;
}

int
verb_token_revoke(struct cli *c, const struct args *a)
{
	struct rest_ask ask = { .method = "DELETE",
		.path = token_path(c, a, "") };
	struct answer token;
	int exit = rest_call(c, &ask, &token);

	if (exit == EXIT_OK && c->json && token.root.kind != JS_NONE)
		return rest_print(c, token.root);
	return exit;
}

int
verb_token_rotate(struct cli *c, const struct args *a)
{
	struct rest_ask ask = { .method = "POST",
		.path = token_path(c, a, "/rotate") };
	struct answer token;
	char body[64];
	msec overlap;
	int exit = cli_span(c, a, "overlap", 0, &overlap);

	if (exit != EXIT_OK)
		return exit;
	snprintf(
	    body, sizeof(body), "{\"overlap_ms\":%lld}", (long long)overlap);
	ask.body = slice_from(body);
	exit = rest_call(c, &ask, &token);
	return exit == EXIT_OK ? print_token(c, token.root) : exit;
}
