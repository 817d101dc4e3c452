#include <stdio.h>

#include "base/js_write.h"

#include "model/hub.h"
#include "model/role.h"

#include "server/accounts.h"
#include "server/api.h"
#include "server/attach.h"
#include "server/health.h"
#include "server/show.h"

#include "server/rights.h"

enum { LINE = 4096 };

/* Whether the hub is asked for the route's op; the others say themselves who
 * may come, by their dialect, or are open. */
static bool
asks_hub(const struct route *r)
{
	return r->handle == api_ask || r->handle == accounts_ask ||
	    r->handle == attach_open || r->handle == metrics_ask;
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

int
rights_print(void)
{
	for (const struct route *r = route_table(); r->path != NULL; r++) {
		struct js_writer w;
		struct buf line;
		buf_init(&line, LINE);
		js_write(&w, &line);
		put_route(&w, r);
		int err = js_finish(&w);
		if (err == 0)
			printf("%.*s\n", SLICE_FMT(buf_peek(&line)));
		buf_fini(&line);
		if (err != 0)
			return 1;
	}
	return 0;
}
