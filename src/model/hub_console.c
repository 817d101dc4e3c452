/*
 * What consoles do beside commands: views are cleared, coding agents are
 * paused and restarted, and tell of their work.
 */
#include "base/err.h"

#include "model/hub_state.h"

static const struct slice none;

static struct slice
keep(struct hub *h, struct slice s)
{
	struct slice copy = none;

	if (arena_copy(&h->out->arena, s, &copy) != 0)
		h->out->err = ERR_NOMEM;
	return copy;
}

/* Of all who see the agent; what is stored stays. */
void
hub_clear_terminal(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);

	if (a == NULL)
		return;
	struct notice *n =
	    hub_publish(h, NOTICE_CLEAR, SL("terminal.cleared"), a, 0);
	if (n != NULL)
		n->actor = keep(h, who->user->id);
	hub_reply(h, ev, who, 0);
}

/* Under a stop nothing is set going again by the side door. */
static bool
sets_going(struct slice action)
{
	return slice_eq(action, SL("restart")) ||
	    slice_eq(action, SL("resume"));
}

void
hub_control_agent(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);

	if (a == NULL)
		return;
	if (a->link == NULL || !a->console) {
		bool gone = a->link == NULL;
		hub_reply_error(h, ev, gone ? ERR_UNREACHABLE : ERR_UNSUPPORTED,
		    gone ? 409 : 403,
		    gone ? SL("AGENT_OFFLINE") : SL("NOT_PERMITTED"), none,
		    gone ? SL("the agent is not connected")
			 : SL("this agent's protocol has no verb for it"));
		return;
	}
	if (hub_is_stopped(a) && sets_going(ev->request.action)) {
		hub_reply_error(h, ev, ERR_STOPPED, 409, SL("AGENT_STOPPED"),
		    none, SL("the agent is under a stop"));
		return;
	}
	struct op *op = hub_store(h, OP_AUDIT);
	struct event *order =
	    hub_send(h, a->link->peer, EVENT_CONTROL, none, 0);
	if (op == NULL || order == NULL)
		return;
	op->lazy = true;
	op->audit = hub_audit(keep(h, who->user->id), SL("agent.control"),
	    keep(h, a->id), ev, keep(h, ev->request.credential.remote));
	op->audit.detail_json = keep(h, ev->request.data_json);
	order->control.agent_id = keep(h, a->id);
	order->control.action = keep(h, ev->request.action);
	order->control.data_json = keep(h, ev->request.data_json);
	hub_reply(h, ev, who, 0);
}

/* A coding agent's word on its own command; not kept. */
void
hub_on_trace(struct hub *h, struct link *l, const struct event *ev)
{
	struct command *c = map_get(&h->commands, ev->trace.command_id);

	if (c == NULL || l->agent == NULL || c->agent != l->agent ||
	    !c->opened) {
		hub_send_error(h, ev, ERR_NOT_FOUND, SL("COMMAND_NOT_FOUND"),
		    SL("commandId"),
		    SL("this agent was given no such command"));
		return;
	}
	struct notice *n =
	    hub_publish(h, NOTICE_TRACE, SL("command.trace"), c->agent, 0);
	if (n != NULL) {
		n->command_id = keep(h, ev->trace.command_id);
		n->data_json = keep(h, ev->trace.data_json);
		n->command = hub_command_copy(h, c);
		n->asked_by = c->asker;
	}
	hub_send(h, ev->peer, EVENT_ACCEPTED, ev->request_id, 0);
}
