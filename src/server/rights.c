#include <stdio.h>

#include "base/js_write.h"

#include "model/hub.h"
#include "model/role.h"

#include "dialect/console.h"

#include "server/accounts.h"
#include "server/api.h"
#include "server/attach.h"
#include "server/broadcast.h"
#include "server/figures.h"
#include "server/health.h"
#include "server/show.h"
#include "server/signed.h"
#include "server/stops.h"
#include "server/tunnel_api.h"
#include "server/wall.h"

#include "server/rights.h"

enum { LINE = 4096 };

/* Whether the hub is asked for the route's op; the others say themselves who
 * may come, by their dialect, or are open. */
static bool
asks_hub(const struct route *r)
{
	return r->handle == api_ask || r->handle == accounts_ask ||
	    r->handle == attach_open || r->handle == metrics_ask ||
	    r->handle == stops_ask || r->handle == tunnel_api_ask ||
	    r->handle == broadcast_ask || r->handle == figures_ask ||
	    r->handle == signed_api_ask || r->handle == wall_ask;
}

static void
put_roles(struct js_writer *w, const struct hub_right *right)
{
	js_kv_array(w, "roles");
	for (enum role r = ROLE_VIEWER; r <= ROLE_ADMIN; r++) {
		if ((right->need & ~hub_role_scopes(r)) == 0)
			js_put_string(w, role_name(r));
	}
	js_end(w);
}

static void
put_route(struct js_writer *w, const struct route *r)
{
	struct hub_right right = hub_right(r->op);

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.route/1"));
	js_kv_string(w, "method", slice_from(r->method));
	js_kv_string(w, "path", slice_from(r->path));
	js_kv_bool(w, "websocket", r->websocket);
	js_kv_bool(w, "dev", r->dev);
	js_kv_bool(w, "hub", asks_hub(r));
	if (asks_hub(r)) {
		js_kv_bool(w, "open", right.open);
		js_kv_bool(w, "agents", right.agents);
		show_scopes(w, "need", right.need);
		put_roles(w, &right);
	}
	js_end(w);
}

/* Who may say it: an agent's answer to a stop needs nothing beside. */
static void
put_type(struct js_writer *w, const struct console_type *t)
{
	static const char *const sides[] = { "guest", "dashboard", "agent" };
	bool introduces =
	    !t->asks && t->sides == (1U << CONSOLE_GUEST | 1U << CONSOLE_AGENT);

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.message/1"));
	js_kv_string(w, "type", t->name);
	js_kv_string(w, "spelling",
	    t->spelling == CONSOLE_UPPER ? SL("upper") : SL("flat"));
	js_kv_array(w, "sides");
	for (unsigned i = 0; i < 3; i++) {
		if ((t->sides & 1U << i) != 0)
			js_put_string(w, slice_from(sides[i]));
	}
	js_end(w);
	js_kv_bool(w, "hub", t->asks);
	if (t->asks) {
		struct hub_right right = hub_right(t->op);
		js_kv_bool(w, "agents", right.agents);
		show_scopes(w, "need", right.need);
		put_roles(w, &right);
	} else if (introduces) {
		show_scopes(w, "any", hub_agent_scopes());
	}
	js_end(w);
}

static int
print_line(const struct route *r, const struct console_type *t)
{
	struct js_writer w;
	struct buf line;

	buf_init(&line, LINE);
	js_write(&w, &line);
	if (r != NULL)
		put_route(&w, r);
	else
		put_type(&w, t);
	int err = js_finish(&w);
	if (err == 0)
		printf("%.*s\n", SLICE_FMT(buf_peek(&line)));
	buf_fini(&line);
	return err;
}

int
rights_print(void)
{
	for (const struct route *r = route_table(); r->path != NULL; r++) {
		if (print_line(r, NULL) != 0)
			return 1;
	}
	return print_line(route_anywhere(), NULL) != 0;
}

int
rights_print_messages(void)
{
	struct console_type t;

	for (size_t n = 0; console_type_at(n, &t); n++) {
		if (print_line(NULL, &t) != 0)
			return 1;
	}
	return 0;
}
