/*
 * console_parts: what the files of the console role share, and nobody else
 * (floor: server).
 */
#ifndef SERVER_CONSOLE_PARTS_H
#define SERVER_CONSOLE_PARTS_H

#include "model/rate.h"

#include "dialect/console_interest.h"
#include "dialect/console_say.h"

#include "server/console.h"

enum console_stage {
	CONSOLE_STAGE_GUEST,  /* has not said what it is */
	CONSOLE_STAGE_ASKED,  /* has, and waits for the hub's word */
	CONSOLE_STAGE_JOINED, /* a dashboard that watches */
	CONSOLE_STAGE_AGENT,  /* a registered agent */
	CONSOLE_STAGE_OVER,
};

struct console_desk; /* of an agent: console_agent.c */

enum { CONSOLE_BATCH_MOST = 100 };

/* What waits to be said as one. */
struct console_bundle {
	struct buf texts; /* one after the other */
	uint32_t ends[CONSOLE_BATCH_MOST];
	size_t count;
	msec due;
};

struct console {
	struct conn *conn;
	struct wsconn ws;
	struct console_peer peer;
	struct watcher watcher;
	struct console_interest interest; /* of a dashboard */
	enum console_stage stage;
	struct rate *rate;            /* owned; dashboards */
	struct console_desk *desk;    /* owned; agents */
	struct console_bundle *batch; /* owned; who asked for batches */
	msec introduce_due;           /* until then it has to say what it is */
	msec ping_due;                /* of upper's own PING; 0: none */
	char *renewal;       /* owned: the refresh token that it is to get */
	bool renewing;       /* the hub's word on a credential is awaited */
	bool paused;         /* not read while the hub is behind */
	int why;             /* of its end, for the hub */
	struct slice remote; /* owned, with the texts of peer */
};

static inline struct console *
console_of(struct conn *c)
{
	return c->state;
}

static inline msec
console_now(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

/* What is said to it next. */
struct console_context console_context(struct conn *c);

/* Send a text, compressed as negotiated or asked for; secret: never. */
void console_say(struct conn *c, struct slice text, bool secret);
/* All messages that an event makes for it. */
void console_tell(struct conn *c, const struct event *ev);
/* Close it; why: of its end, for the hub. */
void console_close(struct conn *c, uint16_t code, struct slice reason, int why);
/* Write what the machine has to say, and set the timer. */
void console_settle(struct conn *c);

/* Hand a message of it to the hub; ev is of dock_event.  What cannot be
 * handed over costs it the connection. */
void console_post(struct conn *c, struct event *ev);
/* Refuse a message, answered in order through the hub. */
void console_complain(struct conn *c, struct slice request_id, int err,
    struct slice code, struct slice field, struct slice text);

/* console_dash.c: dashboards --------------------------------------------- */

/* Whether it may say that now; if not it has been answered. */
bool console_may_say(struct conn *c, const struct console_message *m);
/* The same for what was in a PACKED one, which has paid. */
bool console_may_say_too(struct conn *c, const struct console_message *packed,
    const struct console_message *inner);
/* The hub has let it watch: before the answer is said. */
void console_join(struct conn *c, const struct reply *r);
/* Say the list of agents as others were told it; false when this is not one
 * that is shared. */
bool console_tell_list(struct conn *c, const struct event *ev);
void console_leave(struct conn *c);
/* It wants to hear more or less.  False: it has been refused. */
bool console_filter(struct conn *c, const struct console_message *m);
/* What waits to be said as one goes now. */
void console_flush(struct conn *c);

/* console_again.c: true when the store is asked which command this answer is
 * about; then it comes later. */
bool console_again(struct conn *c, const struct event *ev);

/* console_renew.c: another credential ------------------------------------ */

void console_renew(struct conn *c, const struct console_message *m);
void console_renewed(struct conn *c, const struct event *ev);

/* console_agent.c: agents ------------------------------------------------ */

/* It is registered.  0 or ERR_NOMEM. */
int console_desk_open(struct conn *c);
/* The connection ends: all that it said reaches store and hub. */
void console_desk_close(struct conn *c);
/* What the hub tells it; true: it is to be told so. */
bool console_desk_event(struct conn *c, const struct event *ev);
/* Output of a command of its. */
void console_desk_output(struct conn *c, const struct console_message *m);
/* STARTED or ENDED in ev, of dock_event, to be posted when its output is. */
void console_desk_word(struct conn *c, struct event *ev);
/* When console_desk_expire is due. */
msec console_desk_deadline(const struct conn *c);
void console_desk_expire(struct conn *c);

#endif
