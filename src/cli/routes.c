#include <stdio.h>
#include <string.h>

#include "base/js_write.h"

#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"

enum { BODY_MAX = 1 << 16, LINK_TTL = 3600000 };

/* What is added ------------------------------------------------------------ */

/* HOST[/PREFIX] */
static void
put_site(struct js_writer *w, struct slice site)
{
	size_t cut = slice_find(site, '/');

	js_kv_string(w, "host", slice_first(site, cut));
	if (cut < site.len)
		js_kv_string(w, "prefix", slice_from_at(site, cut));
}

/* "a=b,c=d" of all -l options. */
static void
put_selector(struct js_writer *w, const struct args *a)
{
	const char *part;
	struct buf text;
	size_t at = 0;

	buf_init(&text, BODY_MAX);
	while ((part = args_each(a, "l", &at)) != NULL) {
		if (buf_peek(&text).len > 0)
			buf_put_byte(&text, ',');
		buf_put(&text, slice_from(part));
	}
	js_kv_string(w, "selector", buf_peek(&text));
	buf_fini(&text);
}

/* The last colon parts them; an address of version 6 is in brackets. */
static bool
split_port(struct slice text, struct slice *before, uint64_t *port)
{
	size_t at = text.len;

	while (at > 0 && text.ptr[at - 1] != ':')
		at--;
	if (at < 2 ||
	    slice_u64(slice_from_at(text, at), UINT16_MAX, port) != 0 ||
	    *port == 0)
		return false;
	*before = slice_first(text, at - 1);
	if (before->ptr[0] == '[' && before->ptr[before->len - 1] == ']')
		*before =
		    slice_first(slice_from_at(*before, 1), before->len - 2);
	return before->len > 0;
}

static int
put_target(struct cli *c, const struct args *a, struct js_writer *w)
{
	const char *to = args_get(a, "to");
	const char *service = args_get(a, "to-service");
	struct slice name;
	uint64_t port;

	if ((to == NULL) == (service == NULL))
		return cli_usage(c, "say where it leads: --to or --to-service");
	if (!split_port(slice_from(to != NULL ? to : service), &name, &port))
		return to != NULL
		    ? cli_usage(c, "--to %s is not HOST:PORT", to)
		    : cli_usage(c,
			  "--to-service %s is not NAMESPACE/SERVICE:"
			  "PORT",
			  service);
	js_kv_object(w, "to");
	js_kv_u64(w, "port", port);
	size_t cut = slice_find(name, '/');
	if (to != NULL) {
		js_kv_string(w, "host", name);
	} else {
		js_kv_string(w, "namespace", slice_first(name, cut));
		js_kv_string(w, "service", slice_from_at(name, cut + 1));
	}
	js_end(w);
	return service != NULL && cut >= name.len
	    ? cli_usage(c, "--to-service %s has no namespace", service)
	    : EXIT_OK;
}

static void
put_tls(const struct args *a, struct js_writer *w)
{
	const char *name = args_get(a, "tls-name");

	if (!args_has(a, "tls") && !args_has(a, "tls-insecure") && name == NULL)
		return;
	js_kv_object(w, "tls");
	js_kv_bool(w, "insecure", args_has(a, "tls-insecure"));
	if (name != NULL)
		js_kv_string(w, "name", slice_from(name));
	js_end(w);
}

static int
put_times(struct cli *c, const struct args *a, struct js_writer *w)
{
	static const struct {
		const char *flag, *member;
	} times[] = { { "connect-timeout", "connect_ms" },
		{ "timeout", "answer_ms" }, { "idle-timeout", "idle_ms" } };

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		msec span;
		int exit = cli_span(c, a, times[i].flag, 0, &span);
		if (exit != EXIT_OK)
			return exit;
		if (span > 0)
			js_kv_i64(w, times[i].member, span);
	}
	return EXIT_OK;
}

static int
put_rates(struct cli *c, const struct args *a, struct js_writer *w)
{
	uint64_t messages = 0, bytes = 0;
	int exit = find_count(c, a, "ws-messages", 1000000, &messages);

	if (exit == EXIT_OK)
		exit = find_count(c, a, "ws-bytes", UINT64_C(1) << 40, &bytes);
	js_kv_u64(w, "messages_per_second", messages);
	js_kv_u64(w, "bytes_per_second", bytes);
	return exit;
}

static void
put_parts(struct js_writer *w, const char *list)
{
	struct slice rest = slice_from(list), part;

	while (slice_split(&rest, ',', &part)) {
		if (slice_trim(part).len > 0)
			js_put_string(w, slice_trim(part));
	}
}

static void
put_lists(struct js_writer *w, const char *key, const struct args *a,
    const char *flag)
{
	const char *list;
	size_t at = 0;

	if (!args_has(a, flag))
		return;
	js_kv_array(w, key);
	while ((list = args_each(a, flag, &at)) != NULL)
		put_parts(w, list);
	js_end(w);
}

/* "NAME: VALUE" */
static int
put_sets(
    struct cli *c, const struct args *a, struct js_writer *w, const char *flag)
{
	const char *text;
	size_t at = 0;

	if (!args_has(a, flag))
		return EXIT_OK;
	js_kv_object(w, "set");
	while ((text = args_each(a, flag, &at)) != NULL) {
		struct slice all = slice_from(text);
		size_t cut = slice_find(all, ':');
		if (cut == 0 || cut == all.len)
			return cli_usage(
			    c, "--%s %s is not NAME: VALUE", flag, text);
		js_key(w, slice_trim(slice_first(all, cut)));
		js_put_string(w, slice_trim(slice_from_at(all, cut + 1)));
	}
	js_end(w);
	return EXIT_OK;
}

static int
put_headers(struct cli *c, const struct args *a, struct js_writer *w)
{
	static const struct {
		const char *way, *set, *remove;
	} ways[] = { { "request", "set-header", "remove-header" },
		{ "response", "set-response-header",
		    "remove-response-header" } };

	js_kv_object(w, "headers");
	for (size_t i = 0; i < 2; i++) {
		if (!args_has(a, ways[i].set) && !args_has(a, ways[i].remove))
			continue;
		js_kv_object(w, ways[i].way);
		int exit = put_sets(c, a, w, ways[i].set);
		if (exit != EXIT_OK)
			return exit;
		put_lists(w, "remove", a, ways[i].remove);
		js_end(w);
	}
	js_end(w);
	return EXIT_OK;
}

static int
put_members(struct cli *c, const struct args *a, struct js_writer *w)
{
	const char *agent = args_get(a, "agent");
	const char *name = args_get(a, "name");

	if ((agent == NULL) == !args_has(a, "l"))
		return cli_usage(
		    c, "say by which agents: --agent, or -l for several");
	put_site(w, slice_from(a->words[0]));
	if (agent != NULL)
		js_kv_string(w, "agent", slice_from(agent));
	else
		put_selector(w, a);
	if (name != NULL)
		js_kv_string(w, "name", slice_from(name));
	js_kv_bool(w, "public", args_has(a, "public"));
	js_kv_bool(w, "strip_prefix", args_has(a, "strip-prefix"));
	put_tls(a, w);
	put_lists(w, "origins", a, "origins");
	int exit = put_target(c, a, w);
	if (exit == EXIT_OK)
		exit = put_times(c, a, w);
	if (exit == EXIT_OK)
		exit = put_rates(c, a, w);
	return exit == EXIT_OK ? put_headers(c, a, w) : exit;
}

/* Where to point a browser; the name of one that has many hosts. */
static int
print_added(struct cli *c, struct js_value root)
{
	struct slice url = render_text(root, "url");
	struct buf out;

	if (c->json)
		return rest_print(c, root);
	buf_init(&out, CLI_LINE * 2);
	safe_text(&out, url.len > 0 ? url : render_text(root, "name"));
	buf_put_byte(&out, '\n');
	return cli_print(c, &out);
}

int
verb_route_add(struct cli *c, const struct args *a)
{
	struct answer made;
	struct js_writer w;
	struct buf body;

	buf_init(&body, BODY_MAX);
	js_write(&w, &body);
	js_begin_object(&w);
	int exit = put_members(c, a, &w);
	if (exit == EXIT_OK) {
		js_end(&w);
		const struct rest_ask ask = { .method = "POST",
			.path = SL("/api/v1/routes"),
			.body = buf_peek(&body) };
		exit = js_finish(&w) == 0 ? rest_call(c, &ask, &made)
					  : cli_nomem(c);
	}
	buf_fini(&body);
	return exit == EXIT_OK ? print_added(c, made.root) : exit;
}

/* Showing ------------------------------------------------------------------ */

/* "127.0.0.1:80", "web/shop:80", with https:// before it where TLS is spoken
 * to it. */
static struct slice
target_text(struct cli *c, struct js_value route)
{
	struct js_value to = js_get(route, "to");
	struct slice host = render_text(to, "host"), text = { 0 };
	struct buf b;

	buf_init(&b, CLI_LINE);
	if (js_get(route, "tls").kind == JS_OBJECT)
		buf_put(&b, SL("https://"));
	if (host.len > 0) {
		bool six = slice_find(host, ':') < host.len;
		buf_put(&b, six ? SL("[") : SL(""));
		buf_put(&b, host);
		buf_put(&b, six ? SL("]") : SL(""));
	} else {
		buf_put(&b, render_text(to, "namespace"));
		buf_put_byte(&b, '/');
		buf_put(&b, render_text(to, "service"));
	}
	buf_put_byte(&b, ':');
	buf_put(&b, render_text(to, "port"));
	if (arena_copy(&c->arena, buf_peek(&b), &text) != 0)
		text = (struct slice){ 0 };
	buf_fini(&b);
	return text;
}

static struct slice
site_text(struct cli *c, struct js_value route)
{
	struct slice prefix = render_text(route, "prefix"), text = { 0 };
	struct buf b;

	buf_init(&b, CLI_LINE);
	buf_put(&b, render_text(route, "host"));
	if (prefix.len > 1)
		buf_put(&b, prefix);
	if (arena_copy(&c->arena, buf_peek(&b), &text) != 0)
		text = (struct slice){ 0 };
	buf_fini(&b);
	return text;
}

static int
route_row(struct cli *c, void *arg, struct js_value route)
{
	struct table *t = arg;
	struct slice agent = render_text(route, "agent_id");
	bool open = false;

	js_bool(js_get(route, "public"), &open);
	table_cell(t, render_text(route, "name"), TABLE_PLAIN);
	table_cell(t, site_text(c, route), TABLE_PLAIN);
	table_cell(t, agent.len > 0 ? agent : render_text(route, "selector"),
	    TABLE_PLAIN);
	table_cell(t, target_text(c, route), TABLE_PLAIN);
	table_cell(t, open ? SL("public") : SL("session"),
	    open ? TABLE_WARN : TABLE_GOOD);
	table_cell(t, render_age(c, route, "created_at"), TABLE_PLAIN);
	return EXIT_OK;
}

int
verb_route_ls(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = { { "NAME", false, true },
		{ "HOST", false, false }, { "BY", false, false },
		{ "TO", false, false }, { "WALL", false, true },
		{ "AGE", true, true } };
	static const struct slice path = SL_INIT("/api/v1/routes?limit=1000");
	struct table t;

	(void)a;
	if (c->json)
		return rest_list_json(c, path, 0);
	table_init(&t, columns, 6, &c->arena);
	int exit = rest_list(c, path, 0, route_row, &t);
	return exit == EXIT_OK ? render_table(c, &t) : exit;
}

static struct slice
route_path(struct cli *c, const struct args *a, const char *after)
{
	return find_path(c, "/api/v1/routes/", slice_from(a->words[0]), after);
}

int
verb_route_show(struct cli *c, const struct args *a)
{
	struct answer route;
	int exit = rest_get(c, route_path(c, a, ""), &route);

	return exit == EXIT_OK ? render_object(c, route.root) : exit;
}

int
verb_route_rm(struct cli *c, const struct args *a)
{
	const struct rest_ask ask = { .method = "DELETE",
		.path = route_path(c, a, "") };
	struct answer gone;

	return rest_call(c, &ask, &gone);
}

/* Links -------------------------------------------------------------------- */

static int
revoke_links(struct cli *c, const struct args *a)
{
	const struct rest_ask ask = { .method = "DELETE",
		.path = route_path(c, a, "/links") };
	struct answer gone;

	return rest_call(c, &ask, &gone);
}

static int
print_link(struct cli *c, struct js_value root)
{
	struct buf out;

	if (c->json)
		return rest_print(c, root);
	buf_init(&out, CLI_LINE * 4);
	safe_text(&out, render_text(root, "url"));
	buf_put_byte(&out, '\n');
	return cli_print(c, &out);
}

int
verb_route_link(struct cli *c, const struct args *a)
{
	const char *host = args_get(a, "host");
	struct answer made;
	struct js_writer w;
	struct buf body;
	msec ttl;

	if (args_has(a, "revoke"))
		return revoke_links(c, a);
	int exit = cli_span(c, a, "ttl", LINK_TTL, &ttl);
	if (exit != EXIT_OK)
		return exit;
	buf_init(&body, BODY_MAX);
	js_write(&w, &body);
	js_begin_object(&w);
	js_kv_i64(&w, "ttl_ms", ttl);
	if (host != NULL)
		js_kv_string(&w, "host", slice_from(host));
	js_end(&w);
	const struct rest_ask ask = { .method = "POST",
		.path = route_path(c, a, "/links"),
		.body = buf_peek(&body) };
	exit = js_finish(&w) == 0 ? rest_call(c, &ask, &made) : cli_nomem(c);
	buf_fini(&body);
	return exit == EXIT_OK ? print_link(c, made.root) : exit;
}
