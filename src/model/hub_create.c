/*
 * How commands come to be: whether an agent may have one, the key under which
 * the same request is the same command, and the row that makes it so.
 */
#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_signed.h"

enum { KEY_MAX = 255 };

static const struct slice none;

/* Whether ------------------------------------------------------------------ */

static struct refusal
refusal(int err, uint16_t status, struct slice code, struct slice text)
{
	return (struct refusal){ err, status, code, text };
}

int
hub_refuses(const struct hub *h, const struct request *q, const struct agent *a,
    struct refusal *no)
{
	const struct command_record *r = q->command;
	bool there = a->link != NULL || a->http;

	*no = refusal(0, 200, none, none);
	if (hub_is_stopped(a))
		*no = refusal(ERR_STOPPED, 409, SL("AGENT_STOPPED"),
		    a->stop.covers > 0 ? SL("the agent is under a stop")
				       : SL("the agent's own host stopped it"));
	else if (a->link != NULL && !hub_takes_commands(a))
		*no = refusal(ERR_UNSUPPORTED, 403, SL("NOT_PERMITTED"),
		    SL("this agent's protocol has no verb for commands"));
	else if (r->foreground && a->http)
		*no = refusal(ERR_UNSUPPORTED, 403, SL("NOT_PERMITTED"),
		    SL("this agent polls; only detached commands reach it"));
	else if (!there && (r->foreground || q->or_fail))
		*no = refusal(ERR_UNREACHABLE, 409, SL("AGENT_OFFLINE"),
		    SL("the agent is not connected"));
	else if (a->record->cordoned_at != 0 && !q->force &&
	    (r->foreground || q->or_fail))
		*no = refusal(ERR_BUSY, 409, SL("CORDONED"),
		    SL("the agent is cordoned: nothing new is sent to it"));
	else if (r->foreground && a->attached >= h->config.foreground_max)
		*no = refusal(ERR_FULL, 429, SL("QUEUE_FULL"),
		    SL("too many attached commands on this agent"));
	else if ((!r->foreground || hub_is_signed(a)) &&
	    a->queued >= h->config.queue_limit)
		*no = refusal(ERR_FULL, 429, SL("QUEUE_FULL"),
		    SL("the agent's queue is full"));
	return no->err;
}

/* Keys --------------------------------------------------------------------- */

/* The same key by the same user is the same command, while it lives here;
 * the store knows the older ones. */
struct command *
hub_command_by_key(
    struct hub *h, const struct access *who, struct slice request_key)
{
	struct slice key;
	struct command *c;

	if (request_key.len == 0)
		return NULL;
	if (hub_make_key(&key, who->user->id, request_key) != 0) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	c = map_get(&h->keys, key);
	hub_unkeep(&key);
	return c;
}

/* One that was made with this key before: again, or another under the same
 * key, which is a mistake that nobody should have to find by its effects. */
static int
match(const struct command *c, const struct request *q, const struct agent *a,
    struct refusal *no)
{
	struct command_record asked = *q->command;

	asked.agent_id = a->id;
	if (command_same(c->record, &asked))
		return 0;
	*no = refusal(ERR_EXISTS, 422, SL("KEY_REUSED"),
	    SL("this idempotency key was used for another command"));
	return no->err;
}

/* Making ------------------------------------------------------------------- */

static struct command_record
new_record(struct hub *h, const struct request *q, const struct access *who,
    const struct agent *a, struct slice key)
{
	const wall_msec day = INT64_C(86400000);
	struct command_record r = *q->command;

	r.id = hub_make_id(h, SL("cmd_"));
	r.agent_id = a->id;
	r.user_id = who->user->id;
	r.token_id = who->token != NULL ? who->token->record->id : none;
	r.request_key = key.len > 0 ? key : none;
	r.state = COMMAND_QUEUED;
	r.workspace_id = a->record->workspace_id;
	r.created_at = h->wall;
	if (r.deadline_at == 0)
		r.deadline_at = h->wall + day;
	return r;
}

/* Whether it need not wait for its turn. */
static bool
goes_now(
    const struct hub *h, const struct agent *a, const struct command_record *r)
{
	if (!hub_takes_commands(a))
		return false;
	if (hub_is_signed(a) && !hub_has_room(h, a))
		return false;
	return r->foreground ||
	    (a->record->cordoned_at == 0 && h->now >= a->paused_until &&
		hub_has_room(h, a) && a->queued == 0);
}

static struct op *
put(struct hub *h, const struct event *ev, struct command *c)
{
	struct op *op = hub_store(h, OP_PUT_COMMAND);
	const struct command_record *r = hub_command_copy(h, c);

	if (op == NULL || r == NULL)
		return NULL;
	op->command = r;
	op->audit = hub_audit(r->user_id, SL("command.run"), r->id, ev,
	    ev->request.credential.remote);
	op->audit.detail_json = r->argv_json;
	return op;
}

struct command *
hub_make_command(struct hub *h, const struct event *ev,
    const struct access *who, struct agent *a, struct slice key,
    struct refusal *no)
{
	const struct request *q = &ev->request;
	struct command *c = hub_command_by_key(h, who, key);

	*no = refusal(0, 200, none, none);
	if (h->out->err != 0)
		return NULL;
	if (c != NULL)
		return match(c, q, a, no) == 0 ? c : NULL;
	if (hub_refuses(h, q, a, no) != 0)
		return NULL;
	struct slice fault =
	    hub_is_signed(a) ? hub_verb_fault(h, q->command) : none;
	if (fault.ptr != NULL) {
		*no = refusal(ERR_UNSUPPORTED, 403, SL("NOT_PERMITTED"), fault);
		return NULL;
	}
	const struct command_record r = new_record(h, q, who, a, key);
	bool now = goes_now(h, a, &r);
	c = h->out->err != 0 ? NULL : hub_add_command(h, &r);
	if (c == NULL) {
		*no = refusal(ERR_FULL, 503, SL("OVERLOADED"),
		    SL("the controller holds too many commands"));
		return NULL;
	}
	no->status = 201;
	if (q->attach)
		hub_set_viewer(h, c, ev->peer, who);
	if (q->credential.kind == CREDENTIAL_WATCH)
		c->asker = ev->peer;
	if (now) {
		hub_mark_sent(h, c);
		hub_move_command(c, COMMAND_SENT);
	} else {
		hub_arm_deadline(h, c);
	}
	struct op *op = put(h, ev, c);
	if (op == NULL)
		return NULL;
	c->creating = op->number;
	c->sending = now ? op->number : 0;
	hub_pend(
	    h, op->number, PENDING_COMMAND, c->record->id, q->fan ? NULL : ev);
	return c;
}

/* One ---------------------------------------------------------------------- */

/* The same again while the first is not stored yet: it is answered with it. */
static void
answer_again(struct hub *h, const struct event *ev, const struct access *who,
    struct command *c)
{
	if (c->creating == 0)
		hub_reply_command(h, ev, who, c, true, 0);
	else
		hub_pend(h, c->creating, PENDING_REPEAT, c->record->id, ev);
}

void
hub_create_command(
    struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct refusal no;

	if (q->request_key.len > KEY_MAX) {
		hub_reply_error(h, ev, ERR_TOO_BIG, 400, SL("INVALID_REQUEST"),
		    SL("Idempotency-Key"),
		    SL("an idempotency key has 255 bytes at most"));
		return;
	}
	if (q->fan) {
		hub_fan_out(h, ev, who);
		return;
	}
	struct agent *a = hub_pick_agent(h, ev, who, q->id);
	if (a == NULL)
		return;
	struct command *c =
	    hub_make_command(h, ev, who, a, q->request_key, &no);
	if (no.err != 0)
		hub_reply_error(
		    h, ev, no.err, no.status, no.code, none, no.text);
	if (c == NULL)
		return;
	if (no.status != 201) {
		answer_again(h, ev, who, c);
		return;
	}
	/* The answer goes first, so that whoever attached knows its id before
	 * any output. */
	hub_reply_command(h, ev, who, c, false, c->creating);
	hub_tell_command(h, c, SL("command.queued"), c->record, c->creating);
	hub_settle(h, a, SL("command"));
}
