/* Coming back to a command: whose streams they are from now on. */
#include "base/err.h"

#include "model/hub_state.h"

void
hub_set_viewer(struct hub *h, struct command *c, struct peer_id viewer,
    const struct access *who)
{
	const struct slice none = { 0 };
	const struct slice by[VIEWER_BY] = {
		[VIEWER_USER] = who->user != NULL ? who->user->id : none,
		[VIEWER_TOKEN] =
		    who->token != NULL ? who->token->record->id : none,
		[VIEWER_LOGIN] = who->login_id,
	};

	c->viewer = viewer;
	for (int i = 0; i < VIEWER_BY; i++) {
		if (hub_keep(&c->viewer_by[i], by[i]) != 0)
			h->out->err = ERR_NOMEM;
	}
}

void
hub_expel_viewers(struct hub *h, enum viewer_by by, struct slice id)
{
	size_t pos = 0;

	for (struct command *c; (c = map_next(&h->commands, &pos)) != NULL;) {
		if (peer_some(c->viewer) && slice_eq(c->viewer_by[by], id))
			hub_expel_viewer(h, c);
	}
}

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
	if (c->agent->told || c->agent->http) {
		hub_reply_error(h, ev, ERR_UNSUPPORTED, 403,
		    SL("NOT_PERMITTED"), (struct slice){ 0 },
		    SL("this agent's protocol has no streams to attach to"));
		return;
	}
	hub_reply_command(h, ev, who, c, true, 0);
	hub_set_viewer(h, c, ev->peer, who);
	hub_view_command(h, c, ev->peer);
}
