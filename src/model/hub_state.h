/*
 * hub_state: what the files of the hub share, and nobody else (model).
 *
 * Everything here belongs to the hub's one thread.  h->now, h->wall and
 * h->out are those of the input being handled.
 */
#ifndef MODEL_HUB_STATE_H
#define MODEL_HUB_STATE_H

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"

#include "model/clone.h"
#include "model/command.h"
#include "model/hub.h"
#include "model/hub_rate.h"
#include "model/hub_routes.h"
#include "model/selector.h"

struct token {
	struct token_record *record; /* owned */
	struct list links;           /* of struct link.by_token */
	struct list watches;         /* of struct watch.by_token */
	size_t link_count;
	struct slice hash_key, old_key, id_key; /* what the maps borrow */
};

struct secret; /* hub_signed.h */

struct user {
	struct user_record *record; /* owned; replaced when it changes */
	struct list logins;         /* of struct login.by_user */
	size_t login_count;
	struct list watches; /* of struct watch.by_user */
	bool visiting;       /* some grant was for them */
};

struct login {
	struct login_record *record; /* owned */
	struct user *user;
	struct list by_user;
};

/* All who watch with one selector; see model/audience.h. */
struct audience {
	struct slice text; /* owned */
	struct selector selector;
	int64_t workspace_id;
	size_t refs;       /* 0: idle, kept for who comes back */
	uint64_t since;    /* number of the last notice before it */
	uint64_t idled_at; /* the same, when it fell idle */
};

enum watch_kind {
	WATCH_GUEST, /* a console that has not said yet what it is; or agent */
	WATCH_DASHBOARD,
	WATCH_MONITOR,
	WATCH_EVENTS,
};

/* A connection that watches, or whose messages need no credential of their
 * own.  Of a console agent it is there beside its link. */
struct watch {
	struct peer_id peer;
	enum watch_kind kind;
	struct user_record *user; /* owned; NULL for a cluster token */
	struct user *owner;       /* the same, when it is one of ours */
	struct token *token;      /* NULL for a JWT */
	struct list by_user;
	struct list by_token;
	scope_set scopes;
	int audience;              /* -1: sees nothing */
	struct slice login_id;     /* owned */
	struct slice name;         /* owned: what it calls itself */
	struct slice remote;       /* owned, with address */
	struct slice address;      /* owned */
	wall_msec expires_at;      /* of its credential; 0 = never */
	bool warned;               /* that this is near */
	bool agent;                /* so it does not count for its user */
	bool screen;               /* a dashboard or board */
	struct onlooker *onlooker; /* its user; NULL for a cluster token */
	struct slice closed;       /* a literal: we closed it */
	struct heap_node timer;
};

/* A user with connections, whether ours or another issuer's. */
struct onlooker {
	struct slice id; /* behind the struct */
	size_t refs;     /* struct watch.onlooker */
	size_t counted;  /* of those against the limit */
	size_t screens;  /* dashboards and boards */
};

/* A connection that was let in. */
struct link {
	struct peer_id peer;
	struct token *token; /* NULL for one by key */
	struct agent *agent; /* NULL until it registered */
	struct agent *keyed; /* by key: whom it proved to be */
	struct list by_token;
	struct secret *secret; /* it signs with that; else NULL */
	struct list by_secret;
	bool http;
	bool native;               /* offered muster.v1 */
	bool console;              /* speaks the console dialect */
	enum tunnel_speech speech; /* how it is asked for tunnels; the best
				    * that it agreed on */
	struct watch *watch; /* that it began as; NULL of other dialects */
	/* Set when we closed it, to why: what it still says is not heard, and
	 * its end is no break. */
	struct slice closed; /* a literal */
	scope_set scopes;
	struct slice remote;  /* owned, with address */
	struct slice address; /* a part of remote; owned when it is none */
};

/* What lives only while an agent is there. */
struct session {
	struct slice remote;
	struct slice dialect; /* a literal */
	struct slice session_id;
	struct slice policy_verbs;
	struct slice policy_hash;
	struct slice tunnel_status;
	struct slice metadata_json;
	struct slice type;    /* "claude"...: console agents */
	struct slice version; /* console agents */
};

/* What an agent has to do with stops; see hub_stop.h. */
struct agent_stop {
	struct list receipts; /* of struct receipt, by epoch */
	uint32_t covers;      /* standing stops among them */
	uint64_t want;        /* epoch in which that last changed */
	uint64_t sent;        /* epoch that its link was told */
	bool lifting;         /* told to go on, and has not said that it does */
	bool local;           /* its own host stopped it */
	bool unproven;        /* it shows a stop that is none of ours */
	struct list sweep;    /* its queue is to be emptied */
};

struct agent {
	struct agent_record *record; /* owned; replaced when it changes */
	uint8_t key[KEY_LEN];        /* likewise, when it has one */
	struct slice id;             /* behind the struct: the maps borrow it */
	struct slice cluster_id;     /* likewise */
	struct heap_node timer;
	enum presence presence;
	enum presence shown; /* while it reconnects: what it was before */
	struct slice why;    /* a literal */
	wall_msec since;
	struct link *link;           /* its WebSocket; NULL without one */
	struct session session;      /* slices owned; of the last connection */
	bool native;                 /* the link speaks muster.v1 with exec */
	bool console;                /* a coding agent that speaks console */
	bool told;                   /* is given commands in messages */
	bool verbs;                  /* signs its messages: knows five verbs */
	struct figure_ring *figures; /* owned; NULL until it reports some */
	bool http;                   /* lives by calls instead of a link */
	uint64_t joining;     /* op that makes its registration durable */
	bool unsaved;         /* that op failed: the row is behind */
	enum presence claim;  /* its last word on itself; JOINING: none */
	enum presence blamed; /* another back end's word on it, likewise */
	struct slice ill;     /* a literal: why it is degraded; or absent */
	bool skewed;          /* its clock is off */
	bool late;            /* heartbeats are overdue */
	bool stored;          /* has a row */
	msec heard;           /* last heartbeat or call, monotonic */
	uint64_t link_id;     /* of its connection_record */
	wall_msec connected_at;
	wall_msec heartbeat_at;
	struct list waiting[3]; /* queued commands by priority */
	struct list active;     /* sent and running ones */
	struct list ending;     /* over, not yet durably so */
	bool resuming;          /* dispatch waits until that is done */
	uint32_t queued;
	uint32_t detached; /* active ones that count for concurrency */
	uint32_t attached;
	struct paces *paces;    /* owned; NULL until it has a command */
	bool queue_changed;     /* since that was told */
	struct list queue_news; /* among those to be told of */
	msec queue_news_due;
	struct agent_stop stop;
	uint64_t fan_round; /* the last that it was named in */
	msec pause;         /* between what it is offered: it refused some */
	msec paused_until;
	bool probing;   /* one was offered since */
	bool visited;   /* some grant named it */
	uint16_t pools; /* that have it */
};

/* By what whoever is attached was let in; each may be withdrawn. */
enum viewer_by { VIEWER_USER, VIEWER_TOKEN, VIEWER_LOGIN, VIEWER_BY };

struct command {
	struct command_record *record; /* owned; its strings never change */
	struct agent *agent;
	struct list link; /* in waiting, active or ending of its agent */
	struct heap_node timer;
	struct peer_id viewer;             /* attached: has its streams */
	struct slice viewer_by[VIEWER_BY]; /* ids, owned; absent: none */
	struct peer_id asker;              /* the dashboard that it came from */
	struct outcome *outcome; /* owned: it is over, the store is told */
	enum command_state end;  /* the state that goes with it */
	uint8_t pace;            /* of its agent's paces */
	uint64_t arrival;        /* rises from one to the next */
	uint64_t creating;       /* op that makes its row; 0 = there */
	uint64_t sending;        /* op that says `sent`; 0 = durable */
	bool opened;             /* its stream, on the present link */
	bool tried;              /* it was, on some link: it may run */
	bool interrupt;          /* to be interrupted when it is back */
	bool reopen;             /* the timer is to open its stream again */
	bool untold;             /* that it is over: its agent has come back
				  * while that is being stored */
	struct slice key;        /* owned: hub_make_key; may be absent */
	uint64_t floor;          /* restored while queued: an agent that has
				  * taken this number may have run it */
};

/* A STORE effect whose failure must be undone. */
enum pending_kind {
	PENDING_AGENT,
	PENDING_LABELS,
	PENDING_REMOVAL,
	PENDING_CORDON,
	PENDING_REPEAT, /* the same key while its command is stored */
	PENDING_FAN,    /* the last of those that one request made */
	PENDING_TOKEN,
	PENDING_SECRET,
	PENDING_USER,
	PENDING_LOGIN,
	PENDING_COMMAND,
	PENDING_SENT,
	PENDING_BACK,
	PENDING_ENDED,
	PENDING_CALL, /* an answer to a legacy HTTP call */
	PENDING_POLL, /* of an agent, to be answered either way */
	PENDING_ACK,
	PENDING_AGAIN,
	PENDING_ANSWER,
	PENDING_STOP, /* its row; id is the epoch's eight bytes */
	PENDING_ROUTE,
};

struct pending {
	struct list link;
	uint64_t number;
	enum pending_kind kind;
	enum request_op op; /* of the request to be answered */
	struct peer_id peer;
	struct slice id;         /* owned */
	struct slice request_id; /* owned */
	void *was;               /* owned record before the change, or NULL */
	wall_msec cordoned_at;   /* CORDON: before the change */
	wall_msec links_from;    /* ROUTE: likewise */
};

/* Whom a request comes from and what it may do. */
struct access {
	const struct user_record *user; /* NULL for a cluster token */
	struct token *token;            /* NULL for a JWT */
	struct slice login_id;          /* that the credential stems from */
	scope_set scopes;
	wall_msec expires_at; /* of the credential; 0 = never */
};

/* The emergency stop; see hub_stop.h. */
struct stops {
	uint64_t epoch;
	uint64_t written;  /* the file has it */
	struct list all;   /* of struct stop, by epoch */
	struct list broad; /* standing ones that cover many */
	size_t broad_count;
	size_t lifted; /* of all */
	size_t receipts;
	struct map standing; /* by key */
	struct list asks;    /* of struct stop_ask */
	struct list sweep;   /* of struct agent_stop.sweep */
	bool switched;       /* the file STOP is there */
	bool dirty;          /* the file is behind */
	bool unresolved;     /* somebody may not be covered or told yet */
	bool unsaved;        /* some row is behind */
	msec retry_at;       /* for those three */
	msec sweep_at;
};

struct hub {
	struct hub_config config;
	uint64_t rng[4];
	uint64_t next_op;
	uint64_t next_link;
	uint64_t next_notice;
	struct slice incarnation; /* owned */

	struct map users;  /* by id */
	struct map logins; /* by id */
	struct map tokens; /* by hash, old and new */
	struct map tokens_by_id;
	struct map agents;     /* by agent_id */
	struct agent **sorted; /* the same, by agent_id; owned array */
	size_t sorted_room;
	struct map clusters; /* agents by cluster_id */
	struct map links;    /* by peer */
	struct map watches;  /* by peer */
	/* The list of agents as it was last copied, to be shared by those who
	 * ask in the same turn: while nothing was told since. */
	struct {
		const struct agent_news *news; /* in the outbox of stamp */
		size_t count;
		bool truncated;
		int audience;
		uint64_t stamp;
		uint64_t notice; /* the last one then */
		uint64_t id;
	} list;
	uint64_t stamps;
	struct map onlookers;                  /* struct onlooker by user id */
	uint64_t screens;                      /* dashboards and boards */
	uint64_t screen_users;                 /* who have some */
	struct audience *audiences[AUDIENCES]; /* owned; NULL: free */
	uint64_t audience_version;
	struct map commands;            /* live ones by id */
	struct map keys;                /* the same by idempotency key */
	struct map by_key;              /* agents by public key */
	struct map secrets;             /* struct secret by key */
	size_t figure_bytes;            /* of all agents' figures */
	struct rate_table attempts;     /* failed ones, by address */
	struct rate_table logins_tried; /* by account */
	struct rate_table requests;     /* by user */
	struct rate_table strangers;    /* requests of nobody, by address */
	struct rate_state rate;         /* of the request being handled */
	struct list pending;            /* struct pending, by number */
	struct heap timers;             /* agents' */
	struct heap deadlines;          /* commands' */
	struct heap watch_timers;
	struct list fans; /* requests for many, under way */
	uint64_t fan_round;
	uint64_t arrivals;
	struct list queue_news; /* agents whose queue changed, by due time */
	struct arena scratch;   /* of one look at labels or at what was said */
	struct stops stop;
	struct tunnels tunnels;
	struct hub_stats stats;

	msec now;
	wall_msec wall;
	struct outbox *out;
};

/* hub.c: ids, effects, notices ---------------------------------------- */

/* prefix and 20 base32 characters, in the outbox's arena. */
struct slice hub_make_id(struct hub *h, struct slice prefix);
struct slice hub_make_uuid(struct hub *h);

/* A STORE effect; returns its number, 0 without memory. */
struct op *hub_store(struct hub *h, enum op_verb verb);
/* Remember what to undo if op fails.  NULL without memory. */
struct pending *hub_pend(struct hub *h, uint64_t number, enum pending_kind kind,
    struct slice id, const struct event *asked);

/* A SEND that waits for an op (0: at once). */
struct event *hub_send(struct hub *h, struct peer_id peer, enum event_kind kind,
    struct slice request_id, uint64_t after);
void hub_send_error(struct hub *h, const struct event *to, int err,
    struct slice code, struct slice field, struct slice text);
void hub_close(
    struct hub *h, struct peer_id peer, uint16_t code, struct slice reason);
void hub_notice(struct hub *h, struct slice name, const struct agent *a,
    struct slice command_id, struct slice data_json, uint64_t after);
/* News to all who may see the agent (NULL: to all), to be filled in: the
 * notice in its effect, NULL without memory. */
struct notice *hub_publish(struct hub *h, enum notice_kind kind,
    struct slice name, const struct agent *a, uint64_t after);
/* An audit line for an op, from who asked. */
struct audit_note hub_audit(struct slice actor, struct slice action,
    struct slice object, const struct event *asked, struct slice remote);
/* Text put together in the outbox's arena. */
struct slice hub_text(struct hub *h, const struct slice *parts, size_t n);
/* A copy on the heap; absent stays absent.  0 or ERR_NOMEM; frees the old. */
int hub_keep(struct slice *kept, struct slice s);
void hub_unkeep(struct slice *kept);

/* hub_stored.c ---------------------------------------------------------- */

void hub_on_stored(struct hub *h, const struct event *ev);
void hub_free_pending(struct pending *p);
/* Where one event begins; and back to there when it ran out of memory: its
 * effects are dropped, its operations are undone as if they had failed. */
struct hub_mark {
	size_t effects;
	uint64_t op;
};
struct hub_mark hub_mark(const struct hub *h);
void hub_roll_back(struct hub *h, const struct hub_mark *mark);

/* hub_auth.c ------------------------------------------------------------ */

void hub_on_hello(struct hub *h, const struct event *ev);
struct link *hub_find_link(struct hub *h, struct peer_id peer);
void hub_drop_link(struct hub *h, struct link *l);
struct token *hub_add_token(struct hub *h, const struct token_record *r);
void hub_remove_token(struct hub *h, struct token *t);
int hub_rehash_token(
    struct hub *h, struct token *t, const struct token_record *r);
/* The sender of ev with this credential, or a denial in *no.  0 or ERR_*. */
int hub_resolve(struct hub *h, const struct event *ev,
    const struct credential *c, scope_set need, struct access *who,
    struct denied *no);

/* The answer to a request of whoever was denied. */
void hub_reply_denied(
    struct hub *h, const struct event *ev, const struct denied *no);
/* Of the cookie of a login wall; the same results. */
int hub_resolve_wall(struct hub *h, const struct credential *c, scope_set need,
    struct access *who, struct denied *no);
int hub_resolve_jwt(struct hub *h, const struct credential *c,
    struct access *who, struct denied *no);
/* 0, or ERR_NOT_FOUND. */
int hub_resolve_cookie(
    struct hub *h, const struct credential *c, struct access *who);

/* hub_user.c, hub_login.c --------------------------------------------- */

struct user *hub_add_user(struct hub *h, const struct user_record *r);
void hub_free_user(struct hub *h, struct user *u);
/* By id or name; NULL when there is none (any more). */
struct user *hub_find_user(struct hub *h, struct slice text);
/* Whether who is not more limited than a user with this selector. */
bool hub_is_within(const struct access *who, struct slice selector);
/* Close what lives on what they might do before. */
void hub_sever_user(struct hub *h, struct user *u);
void hub_undo_user(struct hub *h, struct pending *p);
struct login *hub_add_login(struct hub *h, const struct login_record *r);
void hub_free_login(struct hub *h, struct login *g);
/* All of them but one; absent: all. */
void hub_end_logins(struct hub *h, struct user *u, struct slice but);
/* One more try at a password, if it may be tried: else answered. */
bool hub_may_try(struct hub *h, const struct event *ev, struct slice account);
void hub_undo_login(struct hub *h, struct pending *p);

void hub_user_add(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_user_list(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_user_show(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_user_change(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_user_remove(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_user_token(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_own_password(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_set_up(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_login(struct hub *h, const struct event *ev, const struct access *who);
void hub_login_done(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_refresh(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_logout(
    struct hub *h, const struct event *ev, const struct access *who);

/* hub_watch.c ------------------------------------------------------------- */

/* HELLO of consoles and monitors. */
void hub_on_knock(struct hub *h, const struct event *ev);
struct watch *hub_find_watch(struct hub *h, struct peer_id peer);
void hub_drop_watch(struct hub *h, struct watch *w);
/* After the last watch: those that were kept for who comes back. */
void hub_free_audiences(struct hub *h);
/* What it may do; false when it is being closed. */
bool hub_watch_access(const struct watch *w, struct access *who);
void hub_watch_timer(struct hub *h, struct watch *w);
void hub_close_watch(
    struct hub *h, struct watch *w, uint16_t code, struct slice reason);
void hub_watch_dashboard(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_watch_events(
    struct hub *h, const struct event *ev, const struct access *who);
/* Who may see the agent; NULL: what concerns all. */
struct audience_set hub_seen_by(struct hub *h, const struct agent *a);
bool hub_audience_sees(
    struct hub *h, const struct audience *u, const struct agent *a);
/* As dashboards are told of it, in the outbox's arena. */
void hub_agent_news(struct hub *h, const struct agent *a, struct agent_news *n);
/* It leaves: answered by a close. */
void hub_goodbye(struct hub *h, const struct event *ev);

/* hub_agent.c ------------------------------------------------------------ */

struct agent *hub_add_agent(struct hub *h, const struct agent_record *r);
void hub_remove_agent(struct hub *h, struct agent *a);
void hub_on_register(struct hub *h, struct link *l, const struct event *ev);
/* A guest turns out to be an agent: its link, NULL when it may not be one
 * (answered) or without memory. */
struct link *hub_guest_link(
    struct hub *h, struct watch *w, const struct event *ev);
void hub_on_heartbeat(struct hub *h, struct link *l, const struct event *ev);
void hub_on_gone(struct hub *h, const struct event *ev);
void hub_agent_timer(struct hub *h, struct agent *a);
/* It lives by calls from now on. */
void hub_attach_http(struct hub *h, struct link *l, struct agent *a);
void hub_arm_agent(struct hub *h, struct agent *a, msec due);
bool hub_owns(const struct link *l, const struct agent *a);
/* Muster's own agents keep their commands over any break, linked or not. */
bool hub_is_ours(const struct agent *a);
/* hub_presence.c: the one mover, and what it is told. */
void hub_move_agent(
    struct hub *h, struct agent *a, enum presence to, struct slice why);
void hub_heard_from(struct hub *h, struct agent *a);
void hub_look_at_clock(struct agent *a, const struct event *ev);
/* The reason of that name, to be kept: "unknown" when there is none. */
struct slice hub_reason(struct slice name);
/* Another back end's word on it. */
void hub_blame(struct hub *h, struct agent *a, struct slice word);
/* Derive presence anew and move there. */
void hub_settle(struct hub *h, struct agent *a, struct slice why);
bool hub_id_ok(struct slice agent_id);
bool hub_name_ok(struct slice name);
/* The agent of an HTTP call, or an error answer and NULL. */
struct agent *hub_called(struct hub *h, struct link *l, const struct event *ev,
    struct slice cluster_id);

/* Why a request is not granted. */
struct refusal {
	int err; /* 0: it is */
	uint16_t status;
	struct slice code;
	struct slice text;
};

/* hub_create.c ------------------------------------------------------------- */

/* Whether a may be given the command of q now. */
int hub_refuses(const struct hub *h, const struct request *q,
    const struct agent *a, struct refusal *no);
/* A command of ev on a, on its way into the store, with no->status 201; or
 * the one that this key made before, with 200; or NULL and why. */
struct command *hub_make_command(struct hub *h, const struct event *ev,
    const struct access *who, struct agent *a, struct slice key,
    struct refusal *no);

/* hub_fanout.c ------------------------------------------------------------- */

void hub_free_fans(struct hub *h);
void hub_fan_out(
    struct hub *h, const struct event *ev, const struct access *who);
/* One of many could not be stored. */
void hub_fan_failed(
    struct hub *h, struct slice command_id, const struct refusal *no);
/* The last of many is stored, or not. */
void hub_fan_stored(struct hub *h, uint64_t number);

/* hub_command.c ------------------------------------------------------------ */

/* The key of a map: what user and key make together, owned. */
int hub_make_key(
    struct slice *key, struct slice user, struct slice request_key);

/* The live command that the user asked for under this key, or NULL. */
struct command *hub_command_by_key(
    struct hub *h, const struct access *who, struct slice request_key);
struct command *hub_add_command(struct hub *h, const struct command_record *r);
void hub_move_command(struct command *c, enum command_state to);
void hub_arm_command(struct hub *h, struct command *c, msec due);
void hub_arm_deadline(struct hub *h, struct command *c);
void hub_reply_command(struct hub *h, const struct event *ev,
    const struct access *who, const struct command *c, bool again,
    uint64_t after);
/* Say in the store that it is over. */
struct op *hub_store_end(struct hub *h, struct command *c);
/* hub_dispatch.c: the next number of its agent, and our lease. */
void hub_mark_sent(struct hub *h, struct command *c);
/* Whether commands can be sent to it at all, and now. */
bool hub_takes_commands(const struct agent *a);
void hub_drop_command(struct hub *h, struct command *c);
void hub_create_command(
    struct hub *h, const struct event *ev, const struct access *who);
/* Have it interrupted, now or when its agent is back. */
void hub_pass_interrupt(struct hub *h, struct command *c);
void hub_interrupt_command(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_attach_command(
    struct hub *h, const struct event *ev, const struct access *who);
/* Its streams are another peer's from now on. */
void hub_view_command(struct hub *h, struct command *c, struct peer_id viewer);
/* Who has its streams from now on, and by what. */
void hub_set_viewer(struct hub *h, struct command *c, struct peer_id viewer,
    const struct access *who);
/* What let them in is withdrawn: all who are attached by it are sent away. */
void hub_expel_viewers(struct hub *h, enum viewer_by by, struct slice id);
void hub_cancel_command(
    struct hub *h, const struct event *ev, const struct access *who);
/* A native agent is back: what of its commands goes on, what is lost. */
void hub_resume_commands(struct hub *h, struct agent *a,
    const struct native_hello *n, uint64_t after);
/*
 * What was queued in a backup may have been sent since, under a number that
 * the agent (n NULL: one that polls) took from the life that is lost: such
 * are unknown.  Asked once; then a native agent knows of this life, so that
 * the answer which tells it must wait for the same commit: hub_doubts.
 */
void hub_judge_restored(
    struct hub *h, struct agent *a, const struct native_hello *n);
bool hub_doubts(
    const struct hub *h, const struct agent *a, const struct native_hello *n);
/* A linked agent of ours may forget what the controller has no use for. */
void hub_tell_forget(
    struct hub *h, const struct agent *a, struct slice id, uint64_t after);
/* A foreign agent is gone: its sent commands are unknown now. */
void hub_forsake_commands(struct hub *h, struct agent *a);
void hub_dispatch(struct hub *h, struct agent *a);
/* It may be offered all that there is again. */
void hub_unpause(struct agent *a);
/* Open its stream on its agent's link, if there is a registered native one
 * and the row says `sent`.  Never by an effect that waits for the store:
 * numbers must go out in their order, and the link may change meanwhile. */
void hub_open_stream(struct hub *h, struct command *c);
/* Whoever watches its streams may not any more. */
void hub_expel_viewer(struct hub *h, struct command *c);
/* Its stream has another audience now. */
void hub_show_stream(struct hub *h, struct command *c);
/* News of its state, with the record as it is. */
void hub_tell_command(struct hub *h, const struct command *c, struct slice name,
    const struct command_record *r, uint64_t after);
/* The same for all of an agent's that are not open yet. */
void hub_open_streams(struct hub *h, struct agent *a);
/* Its stream could not be opened now: in a moment. */
void hub_open_later(struct hub *h, struct slice command_id);
void hub_refuse_created(
    struct hub *h, const struct pending *p, int err, const struct command *c);
/* The next in the queue, NULL when it is empty. */
struct command *hub_first_waiting(struct agent *a);
/* The next queued command, marked sent; NULL when none may go now. */
struct command *hub_take_waiting(
    struct hub *h, struct agent *a, uint64_t *after);
/* Sent or running. */
bool hub_command_active(const struct command *c);
const struct command_record *hub_command_copy(
    struct hub *h, const struct command *c);
enum command_state hub_final_state(const struct outcome *o);
void hub_command_timer(struct hub *h, struct command *c);
void hub_on_outcome(struct hub *h, const struct event *ev);
void hub_on_stream_lost(struct hub *h, const struct event *ev);
void hub_on_started(struct hub *h, const struct event *ev);
void hub_on_poll(struct hub *h, struct link *l, const struct event *ev);
void hub_on_result(struct hub *h, struct link *l, const struct event *ev);
/* Output that came with the outcome, before whatever ends the command; false
 * without memory. */
bool hub_put_output(struct hub *h, struct command *c, const struct outcome *o);
void hub_on_ack(struct hub *h, struct link *l, const struct event *ev);
/* The store's word on a result that was said again, and on an ack. */
void hub_again_stored(struct hub *h, const struct pending *p, int err);
void hub_ack_stored(struct hub *h, const struct pending *p);
/* From sent to running, as it now is; whoever calls tells the store. */
const struct command_record *hub_begin_command(
    struct hub *h, struct command *c, wall_msec at);
/* A console agent's word on a command of its own. */
void hub_on_agent_word(struct hub *h, struct link *l, const struct event *ev);
/* The store's word on an op that concerns a command. */
void hub_command_stored(struct hub *h, const struct pending *p, int err);
void hub_end_command(struct hub *h, struct command *c, enum command_state state,
    const struct outcome *o);
/* The same without dispatching what may go now; the op that stores it, NULL
 * without memory. */
struct op *hub_finish_command(struct hub *h, struct command *c,
    enum command_state state, const struct outcome *o);
/* All of an agent's commands end because it is removed. */
void hub_abandon_commands(struct hub *h, struct agent *a);
/* The HTTP commands that may be offered now, as an answer. */
void hub_answer_poll(struct hub *h, struct agent *a, struct peer_id peer,
    struct slice request_id);

/* hub_console.c ------------------------------------------------------------ */

void hub_clear_terminal(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_control_agent(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_on_trace(struct hub *h, struct link *l, const struct event *ev);

/* hub_stop.c, hub_receipt.c, hub_stop_ask.c ----------------------------- */

void hub_stop_init(struct hub *h);
void hub_stop_fini(struct hub *h);
/* After the agents. */
int hub_load_stops(struct hub *h, const struct hub_snapshot *s, msec now);
msec hub_stop_deadline(const struct hub *h);
void hub_stop_timer(struct hub *h);
/* Nothing may begin on it: by a stop of ours or its host's. */
bool hub_is_stopped(const struct agent *a);
struct slice hub_stop_why(const struct agent *a);
/* The newest stop over it; NULL for none. */
const struct stop_record *hub_stop_over(const struct agent *a);
/* "all", "selector:TEXT", "agent:ID", in the outbox's arena. */
struct slice hub_stop_text(struct hub *h, const struct stop_record *r);
/* It registers (n: says so of itself) or calls: what covers it, what it
 * knows. */
void hub_stop_meet(
    struct hub *h, struct agent *a, const struct native_hello *n);
/* How things stand for it, for its registration and orders. */
void hub_stop_order(
    struct hub *h, const struct agent *a, struct stop_order *out);
/* Tell it that, when it has not heard. */
void hub_tell_stop(struct hub *h, struct agent *a);
/* Its link is gone. */
void hub_stop_away(struct hub *h, struct agent *a);
/* A foreign agent may have ended all that ran. */
void hub_stop_quiet(struct hub *h, struct agent *a);
/* It was given other labels, by whom; NULL: what it had is taken back. */
void hub_stop_relabelled(
    struct hub *h, struct agent *a, const struct access *who);
void hub_stop_forget(struct hub *h, struct agent *a);
/* An effect of ours was taken back. */
void hub_stop_taken_back(struct hub *h, const struct effect *e);
void hub_stop_unsaved(struct hub *h, struct pending *p);
void hub_on_stop_report(struct hub *h, struct link *l, const struct event *ev);
void hub_on_local_stop(struct hub *h, struct link *l, const struct event *ev);
void hub_on_stop_written(struct hub *h, const struct event *ev);
void hub_on_stop_switch(struct hub *h, const struct event *ev);
void hub_raise_stop(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_lift_stop(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_list_stops(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_show_stop(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_stop_stats(const struct hub *h, struct hub_stats *out);
/* hub_renew.c -------------------------------------------------------------- */

void hub_renew(struct hub *h, const struct event *ev, const struct access *who);
/* Its credential has another end. */
/* It is an agent's: agents have a limit of their own. */
void hub_watch_is_agent(struct watch *w);
void hub_rearm_watch(struct hub *h, struct watch *w);

/* hub_broadcast.c ---------------------------------------------------------- */

void hub_broadcast_status(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_broadcast_activity(
    struct hub *h, const struct event *ev, const struct access *who);

/* hub_request.c ------------------------------------------------------------ */

void hub_on_request(struct hub *h, const struct event *ev);
struct reply *hub_reply(struct hub *h, const struct event *ev,
    const struct access *who, uint64_t after);
/* 429 */
void hub_reply_limited(struct hub *h, const struct event *ev, uint32_t seconds,
    struct slice code, struct slice text);
void hub_reply_error(struct hub *h, const struct event *ev, int err,
    uint16_t status, struct slice code, struct slice field, struct slice text);
/* hub_fleet.c, hub_tokens.c ------------------------------------------- */

/* One agent by id, name or prefix of an id, as far as who may see it; or an
 * error answer and NULL. */
/* Where the agents begin whose id is above the cursor, in h->sorted. */
size_t hub_first_after(const struct hub *h, struct slice cursor);
struct agent *hub_pick_agent(struct hub *h, const struct event *ev,
    const struct access *who, struct slice id);
bool hub_may_see(
    struct hub *h, const struct access *who, const struct agent *a);

void hub_list_agents(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_show_agent(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_label_agent(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_expel_agent(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_cordon_agent(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_join_agent(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_create_token(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_show_token(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_list_tokens(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_revoke_token(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_rotate_token(
    struct hub *h, const struct event *ev, const struct access *who);

#endif
