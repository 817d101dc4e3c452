#include "base/err.h"

#include "server/credential.h"

#include "server/wsrole.h"

enum {
	BEHIND_HIGH = 4096, /* events that wait for the hub */
	BEHIND_LOW = 1024,
};

bool
wsrole_flush(struct conn *c, struct wsconn *ws)
{
	struct slice own = wsconn_out(ws);

	if (c->ending)
		return false;
	if (own.len > 0) {
		if (!conn_write(c, own))
			return false;
		wsconn_sent(ws, own.len);
	}
	return true;
}

bool
wsrole_pace(struct conn *c, bool paused)
{
	const struct mailbox *m = &c->dock->lane.to_hub;
	size_t behind =
	    m->config.caps[MAIL_NORMAL] - mailbox_room(m, MAIL_NORMAL);

	if (!paused && behind > BEHIND_HIGH)
		stream_read_stop(c->stream);
	else if (paused && behind <= BEHIND_LOW)
		stream_read_start(c->stream);
	else
		return paused;
	return !paused;
}

bool
wsrole_broke(uint16_t code)
{
	return code != WS_CODE_NORMAL && code != WS_CODE_AWAY &&
	    code != WS_CODE_NONE;
}

bool
wsrole_stale(const struct conn *c, const struct wsconn *ws)
{
	return ws->state == WSCONN_OPEN &&
	    loop_now(c->dock->lane.loop) - ws->heard >= ws->config->dead_after;
}

void
wsrole_give_up(struct conn *c)
{
	if (c->ending)
		return;
	c->why = ERR_TIMEOUT;
	dock_farewell(c->dock, c);
	conn_end(c);
}

void
wsrole_knock(
    struct conn *c, struct call *call, enum entrance entrance, bool native)
{
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_HELLO, &a);

	if (ev == NULL) {
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	ev->hello.entrance = entrance;
	ev->hello.native = native;
	c->greeted = true;
	if (credential_copy(a, &call->credential, &ev->hello.credential) != 0 ||
	    dock_post(c->dock, ev) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
}
