#include "base/err.h"

#include "server/conn.h"
#include "server/credential.h"

#include "server/pass.h"

static int
copy_visit(
    struct arena *a, const struct tunnel_visit *from, struct tunnel_visit *to)
{
	struct tunnel_target *t = &to->target;
	int err;

	*to = *from;
	err = arena_copy(a, from->route_id, &to->route_id);
	if (err == 0)
		err = arena_copy(a, from->agent, &to->agent);
	if (err == 0)
		err = arena_copy(a, from->target.host, &t->host);
	if (err == 0)
		err = arena_copy(a, from->target.service, &t->service);
	if (err == 0)
		err = arena_copy(a, from->target.namespace, &t->namespace);
	return err != 0 ? err
			: arena_copy(a, from->target.tls_name, &t->tls_name);
}

int
pass_ask(struct conn *c, const struct tunnel_visit *what,
    const struct credential *who, struct slice request_id)
{
	struct tunnel_visit *copy;
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_REQUEST, &a);
	int err;

	if (ev == NULL)
		return ERR_NOMEM;
	copy = arena_alloc(a, sizeof(*copy));
	err = copy == NULL ? ERR_NOMEM : copy_visit(a, what, copy);
	ev->request.op = OP_VISIT;
	ev->request.visit = copy;
	if (err == 0)
		err = credential_copy(a, who, &ev->request.credential);
	if (err == 0)
		err = arena_copy(a, request_id, &ev->request_id);
	return err != 0 ? err : dock_post(c->dock, ev);
}
