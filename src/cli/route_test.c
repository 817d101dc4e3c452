#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "io/addr.h"
#include "io/clock.h"

#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/table.h"
#include "cli/verbs.h"

enum { HOST_MAX = 256 };

static const struct table_column columns[] = { { "HOP", false, true },
	{ "TIME", true, true }, { "RESULT", false, false } };

static void
put_row(struct cli *c, struct table *t, struct slice hop, int64_t spent,
    bool ok, struct slice result)
{
	char time[32] = "";
	struct slice text = { 0 };

	if (spent >= 0)
		snprintf(time, sizeof(time), "%lld ms", (long long)spent);
	(void)arena_copy(&c->arena, slice_from(time), &text);
	table_cell(t, hop, TABLE_PLAIN);
	table_cell(t, text, TABLE_PLAIN);
	table_cell(t, result, ok ? TABLE_GOOD : TABLE_BAD);
}

/* Whether visitors on this machine find the route's host at all. */
static void
put_name(struct cli *c, struct table *t, struct slice host)
{
	const struct addrinfo want = { .ai_socktype = SOCK_STREAM };
	msec begun = clock_mono();
	struct addrinfo *found;
	char name[HOST_MAX], address[NI_MAXHOST];
	struct slice text = { 0 };

	if (host.len == 0 || host.ptr[0] == '*' ||
	    slice_cstr(host, name, sizeof(name)) != 0)
		return;
	int err = getaddrinfo(name, NULL, &want, &found);
	const char *result = err != 0 ? gai_strerror(err) : address;
	if (err == 0) {
		err = getnameinfo(found->ai_addr, found->ai_addrlen, address,
		    sizeof(address), NULL, 0, NI_NUMERICHOST);
		freeaddrinfo(found);
		result = err != 0 ? gai_strerror(err) : address;
	}
	(void)arena_copy(&c->arena, slice_from(result), &text);
	put_row(c, t, SL("name"), clock_mono() - begun, err == 0, text);
}

static struct slice
result_of(struct cli *c, struct js_value hop)
{
	struct slice code = render_text(hop, "code"), text = { 0 };
	struct buf b;

	buf_init(&b, CLI_LINE * 4);
	buf_put(&b, code);
	if (code.len > 0)
		buf_put(&b, SL(": "));
	buf_put(&b, render_text(hop, "text"));
	if (arena_copy(&c->arena, buf_peek(&b), &text) != 0)
		text = (struct slice){ 0 };
	buf_fini(&b);
	return text;
}

static void
put_hops(struct cli *c, struct table *t, struct js_value root)
{
	struct js_walk w = js_walk(js_get(root, "hops"));
	struct js_value hop;

	while (js_next(&w, NULL, &hop)) {
		int64_t spent = -1;
		bool ok = false;
		(void)js_i64(js_get(hop, "ms"), &spent);
		(void)js_bool(js_get(hop, "ok"), &ok);
		put_row(c, t, render_text(hop, "hop"), spent, ok,
		    result_of(c, hop));
	}
}

int
verb_route_test(struct cli *c, const struct args *a)
{
	struct slice name = slice_from(a->words[0]);
	struct answer route, tried;
	struct table t;
	bool ok = false;

	int exit =
	    rest_get(c, find_path(c, "/api/v1/routes/", name, ""), &route);
	if (exit != EXIT_OK)
		return exit;
	const struct rest_ask ask = { .method = "POST",
		.path = find_path(c, "/api/v1/routes/", name, "/test"),
		.body = SL("{}") };
	exit = rest_call(c, &ask, &tried);
	if (exit != EXIT_OK)
		return exit;
	(void)js_bool(js_get(tried.root, "ok"), &ok);
	if (c->json) {
		exit = rest_print(c, tried.root);
	} else {
		table_init(&t, columns, 3, &c->arena);
		put_name(c, &t, render_text(route.root, "host"));
		put_hops(c, &t, tried.root);
		exit = render_table(c, &t);
	}
	return exit != EXIT_OK || ok ? exit : EXIT_FAILED;
}
