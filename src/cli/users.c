#include <stdio.h>
#include <string.h>

#include "base/js_write.h"
#include "cli/find.h"
#include "cli/login.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"

static struct slice
user_path(struct cli *c, const struct args *a, const char *after)
{
	return find_path(c, "/api/v1/users/", slice_from(a->words[0]), after);
}

/* Send an object of strings; those that are NULL are left out. */
static int
send_strings(struct cli *c, const char *method, struct slice path,
    const char *const members[][2], bool anonymous)
{
	struct js_writer w;
	struct answer got;
	struct buf body;

	buf_init(&body, 1 << 16);
	js_write(&w, &body);
	js_begin_object(&w);
	for (size_t i = 0; members[i][0] != NULL; i++) {
		if (members[i][1] != NULL)
			js_kv_string(
			    &w, members[i][0], slice_from(members[i][1]));
	}
	js_end(&w);
	const struct rest_ask ask = { .method = method,
		.path = path,
		.body = buf_peek(&body),
		.anonymous = anonymous };
	int exit = js_finish(&w) == 0 ? rest_call(c, &ask, &got) : cli_nomem(c);
	buf_fini(&body);
	return exit == EXIT_OK && c->json ? rest_print(c, got.root) : exit;
}

int
verb_user_add(struct cli *c, const struct args *a)
{
	const char *role = args_get(a, "role"), *password = NULL;
	int exit = EXIT_OK;

	if (role == NULL)
		return cli_usage(c, "--role is viewer, operator or admin");
	if (!args_has(a, "no-password"))
		exit = login_password(c, a, true, &password);
	if (exit != EXIT_OK)
		return exit;
	const char *const members[][2] = { { "name", a->words[0] },
		{ "role", role }, { "selector", args_get(a, "selector") },
		{ "password", password }, { NULL, NULL } };
	return send_strings(c, "POST", SL("/api/v1/users"), members, false);
}

static int
user_row(struct cli *c, void *arg, struct js_value user)
{
	struct table *t = arg;
	bool has = false;

	js_bool(js_get(user, "has_password"), &has);
	table_cell(t, render_text(user, "name"), TABLE_PLAIN);
	table_cell(t, render_text(user, "id"), TABLE_DIM);
	table_cell(t, render_text(user, "role"), TABLE_PLAIN);
	table_cell(t, render_text(user, "selector"), TABLE_PLAIN);
	table_cell(t, has ? SL("yes") : SL("no"), TABLE_DIM);
	table_cell(t, render_age(c, user, "created_at"), TABLE_PLAIN);
	return EXIT_OK;
}

int
verb_user_ls(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = { { "NAME", false, false },
		{ "ID", false, true }, { "ROLE", false, true },
		{ "SELECTOR", false, false }, { "PASSWORD", false, true },
		{ "AGE", true, true } };
	static const struct slice path = SL_INIT("/api/v1/users?limit=1000");
	struct table t;
	int exit;

	(void)a;
	if (c->json)
		return rest_list_json(c, path, 0);
	table_init(&t, columns, 6, &c->arena);
	exit = rest_list(c, path, 0, user_row, &t);
	return exit == EXIT_OK ? render_table(c, &t) : exit;
}

int
verb_user_show(struct cli *c, const struct args *a)
{
	struct answer user;
	int exit = rest_get(c, user_path(c, a, ""), &user);

	return exit == EXIT_OK ? render_object(c, user.root) : exit;
}

int
verb_user_role(struct cli *c, const struct args *a)
{
	const char *const members[][2] = { { "role", a->words[1] },
		{ NULL, NULL } };

	return send_strings(c, "PATCH", user_path(c, a, ""), members, false);
}

int
verb_user_selector(struct cli *c, const struct args *a)
{
	bool none = strcmp(a->words[1], "-") == 0;
	const char *const members[][2] = {
		{ "selector", none ? "" : a->words[1] }, { NULL, NULL }
	};

	return send_strings(c, "PATCH", user_path(c, a, ""), members, false);
}

static int
need_password(struct cli *c, const struct args *a, const char **out)
{
	int exit = login_password(c, a, true, out);

	return exit == EXIT_OK && *out == NULL
	    ? cli_usage(c, "a password is needed: --password-file")
	    : exit;
}

/* The old one first, as everywhere; the login goes on with a new token. */
static int
change_own(struct cli *c, const struct args *a)
{
	const char *old, *password;
	int exit = login_old_password(c, a, &old);

	if (exit == EXIT_OK)
		exit = need_password(c, a, &password);
	if (exit != EXIT_OK)
		return exit;
	const char *const members[][2] = { { "old_password", old },
		{ "password", password }, { NULL, NULL } };
	exit = send_strings(
	    c, "POST", SL("/api/v1/auth/password"), members, false);
	return exit == EXIT_OK ? login_renew_spent(c) : exit;
}

int
verb_user_passwd(struct cli *c, const struct args *a)
{
	const char *password;
	int exit;

	if (a->count == 0)
		return change_own(c, a);
	exit = need_password(c, a, &password);
	if (exit != EXIT_OK)
		return exit;
	const char *const members[][2] = { { "password", password },
		{ NULL, NULL } };
	return send_strings(c, "PATCH", user_path(c, a, ""), members, false);
}

int
verb_user_rm(struct cli *c, const struct args *a)
{
	struct rest_ask ask = { .method = "DELETE",
		.path = user_path(c, a, "") };
	struct answer user;
	int exit = rest_call(c, &ask, &user);

	return exit == EXIT_OK && c->json ? rest_print(c, user.root) : exit;
}

static int
print_jwt(struct cli *c, struct js_value root)
{
	struct buf out;

	if (c->json)
		return rest_print(c, root);
	buf_init(&out, CLI_LINE * 4);
	safe_text(&out, render_text(root, "token"));
	buf_put_byte(&out, '\n');
	return cli_print(c, &out);
}

static void
put_scopes(struct js_writer *w, const struct args *a)
{
	const char *list;
	size_t at = 0;

	js_kv_array(w, "scopes");
	while ((list = args_each(a, "scope", &at)) != NULL) {
		struct slice rest = slice_from(list), part;
		while (slice_split(&rest, ',', &part))
			if (slice_trim(part).len > 0)
				js_put_string(w, slice_trim(part));
	}
	js_end(w);
}

int
verb_user_token(struct cli *c, const struct args *a)
{
	struct answer got;
	struct js_writer w;
	struct buf body;
	msec ttl;
	int exit = cli_span(c, a, "ttl", 3600000, &ttl);

	if (exit != EXIT_OK)
		return exit;
	buf_init(&body, 1 << 16);
	js_write(&w, &body);
	js_begin_object(&w);
	js_kv_i64(&w, "ttl_ms", ttl);
	if (args_has(a, "scope"))
		put_scopes(&w, a);
	js_end(&w);
	const struct rest_ask ask = { .method = "POST",
		.path = user_path(c, a, "/token"),
		.body = buf_peek(&body) };
	exit = js_finish(&w) == 0 ? rest_call(c, &ask, &got) : cli_nomem(c);
	buf_fini(&body);
	return exit == EXIT_OK ? print_jwt(c, got.root) : exit;
}

/* LINK is "URL/setup#TOKEN", as the first start prints it. */
int
verb_user_setup(struct cli *c, const struct args *a)
{
	const char *link = a->words[0], *hash = strchr(link, '#');
	struct slice url = slice_first(
	    slice_from(link), hash == NULL ? 0 : (size_t)(hash - link));
	const char *password;

	if (slice_ends(url, SL("/setup")))
		url = slice_first(url, url.len - 6);
	const char *plain = arena_cstr(&c->arena, url);
	if (hash == NULL || plain == NULL ||
	    context_url(plain, &c->arena, &c->at.url) != 0)
		return cli_usage(
		    c, "the link looks like https://HOST/setup#TOKEN");
	c->at.token = NULL;
	int exit = need_password(c, a, &password);
	if (exit != EXIT_OK)
		return exit;
	const char *const members[][2] = { { "token", hash + 1 },
		{ "password", password }, { NULL, NULL } };
	exit = send_strings(c, "POST", SL("/api/v1/auth/setup"), members, true);
	if (exit == EXIT_OK && !c->json)
		cli_note(c,
		    "the password is set; log in by: muster login %s --user "
		    "admin",
		    c->at.url);
	return exit;
}
