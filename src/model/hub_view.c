/* Coming back to a command: whose streams they are from now on. */
#include "base/err.h"

#include "model/hub_state.h"

/* What has ended is not here any more: that, and from where on there is
 * output, the store knows.  The answer goes first, as to a new command. */
void
hub_attach_command(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct command *c = map_get(&h->commands, ev->request.id);

	if (c == NULL) {
		hub_reply(h, ev, who, 0);
		return;
	}
	if (!hub_may_see(h, who, c->agent)) {
		hub_reply_error(h, ev, ERR_NOT_FOUND, 404,
		    SL("COMMAND_NOT_FOUND"), (struct slice){ 0 },
		    SL("no such command"));
		return;
	}
	if (c->agent->console || c->agent->http) {
		hub_reply_error(h, ev, ERR_UNSUPPORTED, 403,
		    SL("NOT_PERMITTED"), (struct slice){ 0 },
		    SL("this agent's protocol has no streams to attach to"));
		return;
	}
	hub_reply_command(h, ev, who, c, true, 0);
	hub_view_command(h, c, ev->peer);
}
