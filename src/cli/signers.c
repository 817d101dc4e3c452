#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/js_write.h"

#include "io/file.h"

#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"

enum { SECRET_FILE = 8192, OVERLAP = 3600000 };

/* The file's text without the line end; absent when there is no --secret-file.
 */
static int
read_secret(struct cli *c, const struct args *a, struct slice *out)
{
	const char *file = args_get(a, "secret-file");
	struct slice text;

	*out = (struct slice){ 0 };
	if (file == NULL)
		return EXIT_OK;
	int err =
	    file_read_all(&file_real, file, SECRET_FILE, &c->arena, &text);
	if (err != 0)
		return cli_usage(c, "cannot read %s: %s", file, err_name(err));
	while (text.len > 0 &&
	    (text.ptr[text.len - 1] == '\n' || text.ptr[text.len - 1] == '\r'))
		text.len--;
	if (text.len == 0)
		return cli_usage(c, "there is no secret in %s", file);
	*out = text;
	return EXIT_OK;
}

/* The secret alone where a program reads. */
static int
print_secret(struct cli *c, struct js_value root, bool given)
{
	struct slice secret = render_text(root, "secret");
	struct buf out;

	if (c->json)
		return rest_print(c, root);
	/* Whoever gave it has it. */
	if (given)
		return EXIT_OK;
	if (secret.len == 0)
		return cli_fail(
		    c, EXIT_FAILED, "the controller sent no secret");
	buf_init(&out, CLI_LINE * 8);
	safe_text(&out, secret);
	buf_put_byte(&out, '\n');
	return cli_print(c, &out);
}

int
verb_signed_add(struct cli *c, const struct args *a)
{
	const char *tenant = args_get(a, "tenant");
	struct slice secret;
	struct answer made;
	struct js_writer w;
	struct buf body;

	if ((tenant != NULL) == (a->count > 0))
		return cli_usage(
		    c, "name one agent, or --tenant and how ids begin");
	int exit = read_secret(c, a, &secret);
	if (exit != EXIT_OK)
		return exit;
	buf_init(&body, 1 << 16);
	js_write(&w, &body);
	js_begin_object(&w);
	js_kv_string(
	    &w, "agent_id", slice_from(tenant != NULL ? tenant : a->words[0]));
	js_kv_bool(&w, "prefix", tenant != NULL);
	if (secret.len > 0)
		js_kv_string(&w, "secret", secret);
	js_end(&w);
	const struct rest_ask ask = { .method = "POST",
		.path = SL("/api/v1/signed"),
		.body = buf_peek(&body) };
	exit = js_finish(&w) == 0 ? rest_call(c, &ask, &made) : cli_nomem(c);
	buf_fini(&body);
	return exit == EXIT_OK ? print_secret(c, made.root, secret.len > 0)
			       : exit;
}

static int
signed_row(struct cli *c, void *arg, struct js_value secret)
{
	struct table *t = arg;
	struct slice id = render_text(secret, "agent_id"), all = id;
	bool prefix = false;

	js_bool(js_get(secret, "prefix"), &prefix);
	if (prefix) {
		uint8_t *text = arena_alloc(&c->arena, id.len + 1);
		if (text == NULL)
			return cli_nomem(c);
		memcpy(text, id.ptr, id.len);
		text[id.len] = '*';
		all = (struct slice){ text, id.len + 1 };
	}
	table_cell(t, all, TABLE_PLAIN);
	table_cell(t, render_text(secret, "id"), TABLE_DIM);
	table_cell(t, render_age(c, secret, "created_at"), TABLE_PLAIN);
	table_cell(t, render_age(c, secret, "rotated_at"), TABLE_PLAIN);
	table_cell(t, render_age(c, secret, "old_until"), TABLE_PLAIN);
	return EXIT_OK;
}

int
verb_signed_ls(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = { { "AGENT", false,
							   false },
		{ "ID", false, true }, { "AGE", true, true },
		{ "ROTATED", true, true }, { "OLD UNTIL", true, true } };
	static const struct slice path = SL_INIT("/api/v1/signed?limit=1000");
	struct table t;

	(void)a;
	if (c->json)
		return rest_list_json(c, path, 0);
	table_init(&t, columns, 5, &c->arena);
	int exit = rest_list(c, path, 0, signed_row, &t);
	return exit == EXIT_OK ? render_table(c, &t) : exit;
}

int
verb_signed_rotate(struct cli *c, const struct args *a)
{
	struct rest_ask ask = { .method = "POST",
		.path = find_path(
		    c, "/api/v1/signed/", slice_from(a->words[0]), "/rotate") };
	struct slice secret;
	struct answer made;
	struct js_writer w;
	struct buf body;
	msec overlap;
	int exit = cli_span(c, a, "overlap", OVERLAP, &overlap);

	if (exit == EXIT_OK)
		exit = read_secret(c, a, &secret);
	if (exit != EXIT_OK)
		return exit;
	buf_init(&body, 1 << 16);
	js_write(&w, &body);
	js_begin_object(&w);
	js_kv_i64(&w, "overlap_ms", overlap);
	if (secret.len > 0)
		js_kv_string(&w, "secret", secret);
	js_end(&w);
	ask.body = buf_peek(&body);
	exit = js_finish(&w) == 0 ? rest_call(c, &ask, &made) : cli_nomem(c);
	buf_fini(&body);
	return exit == EXIT_OK ? print_secret(c, made.root, secret.len > 0)
			       : exit;
}

int
verb_signed_rm(struct cli *c, const struct args *a)
{
	struct rest_ask ask = { .method = "DELETE",
		.path = find_path(
		    c, "/api/v1/signed/", slice_from(a->words[0]), "") };
	struct answer gone;
	int exit = rest_call(c, &ask, &gone);

	if (exit == EXIT_OK && c->json && gone.root.kind != JS_NONE)
		return rest_print(c, gone.root);
	return exit;
}
