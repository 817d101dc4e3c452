/*
 * event: what happened, in no dialect (floor: model).
 *
 * Dialects translate wire text to events and back; the hub sees nothing
 * else.  An event lives in the arena of its batch with everything it points
 * to.  Absent slices mean "not said".
 */
#ifndef MODEL_EVENT_H
#define MODEL_EVENT_H

#include "model/audience.h"
#include "model/figures.h"
#include "model/notice.h"
#include "model/tunnel.h"

enum event_kind {
	/* A connection asks to come in, goes, or breaks. */
	EVENT_HELLO,
	EVENT_GONE,

	/* From agents; the legacy HTTP endpoints give the same ones. */
	EVENT_REGISTER,
	EVENT_HEARTBEAT, /* also the message `status` */
	EVENT_PING,
	EVENT_POLL,        /* HTTP: anything for me? */
	EVENT_TUNNEL_INFO, /* HTTP */
	EVENT_RESULT,      /* HTTP: the outcome of a polled command */
	EVENT_ACK,         /* HTTP: a polled command arrived */
	EVENT_BAD,         /* a message that the dialect refused */
	EVENT_PONGED,      /* an answer to a ping of ours; nothing to do */
	EVENT_GOODBYE,     /* it is about to leave; also from dashboards */

	/* From agents that are given commands in messages (console, signed):
	 * a word on one of their commands, in outcome; its output went to
	 * the writer before. */
	EVENT_AGENT_STARTED,
	EVENT_AGENT_ENDED,
	EVENT_TRACE,  /* trace */
	EVENT_LOG,    /* log: a line that it logged */
	EVENT_FORGED, /* a message of it was not signed as it should be */

	/* From a link's lane: how the agent can be asked for tunnels, now
	 * that they have agreed on it; before or after REGISTER. */
	EVENT_SPEECH, /* speech */

	/* Of the stop, from agents of ours (stop, report), and of foreign
	 * ones that say they heed it. */
	EVENT_STOP_REPORT,
	EVENT_LOCAL_STOP,
	/* The stop's own file is written, or not: stored, number = epoch. */
	EVENT_STOP_WRITTEN,
	/* The file STOP of the data directory is there, or gone: stop. */
	EVENT_STOP_SWITCH,

	/* From exec streams of Muster's agent; REFUSED also of a console
	 * agent's lane: the order was overtaken by a stop and never left. */
	EVENT_COMMAND_STARTED,
	EVENT_COMMAND_EXIT,
	EVENT_COMMAND_REFUSED,
	EVENT_STREAM_LOST, /* its stream broke before an exit came */

	/* From operators. */
	EVENT_REQUEST,

	/* From the store. */
	EVENT_STORED,

	/* Answers: what the hub sends to a connection. */
	EVENT_WELCOME, /* HELLO is granted */
	EVENT_DENIED,  /* HELLO is refused: see denied */
	EVENT_REGISTERED,
	EVENT_HEARTBEAT_ACK,
	EVENT_PONG,
	EVENT_POLL_REPLY,
	EVENT_TUNNEL_REPLY,
	EVENT_ACCEPTED, /* RESULT, ACK */
	EVENT_ERROR,
	EVENT_REPLY,
	EVENT_NOTICE, /* to all who watch and may see it */

	/* What the hub tells an agent. */
	EVENT_EXECUTE,    /* run this: execute */
	EVENT_AUDIENCE,   /* not for it, for its lane: execute.seen_by */
	EVENT_INTERRUPT,  /* end this: execute.command */
	EVENT_CONTROL,    /* control */
	EVENT_STOP_ORDER, /* stop */
	/* What it tells one watcher. */
	EVENT_TOKEN_ENDS, /* its credential is about to expire */
	EVENT_KINDS
};

/* How whoever knocks proves who they are. */
enum credential_kind {
	CREDENTIAL_NONE,
	CREDENTIAL_TOKEN,  /* hash of a token's text, pin cut off */
	CREDENTIAL_KEY,    /* signature checked: holds this private key */
	CREDENTIAL_LOCAL,  /* loopback and nothing more (metrics) */
	CREDENTIAL_JWT,    /* signature and times checked: see claims */
	CREDENTIAL_WATCH,  /* the peer was let in as a watcher: as that */
	CREDENTIAL_COOKIE, /* of a login: hash, and claims.login_id */
	/* Of the gateway, for OP_VISIT alone; signature and expiry checked,
	 * see server/wall_token.h: */
	CREDENTIAL_WALL,   /* cookie of a route's login wall: route_id, claims
			    * subject (user id), login_id, issued_at,
			    * expires_at */
	CREDENTIAL_LINK,   /* expiring link: route_id, the two times */
	CREDENTIAL_SIGNED, /* claims to be agent_id, and signs what it says:
			    * believed when it registers */
};

/* Of a JSON Web Token. */
struct claims {
	int err; /* 0; ERR_EXPIRED or ERR_AGAIN: signed, but not for now;
		  * ERR_DENIED: not signed by anyone we believe, and nothing
		  * else is filled in */
	struct slice subject;
	struct slice name;     /* of the user, where the issuer says it */
	struct slice issuer;   /* absent: ourselves */
	struct slice login_id; /* of the login that it stems from, if any */
	enum role role;        /* as claimed; of our own users the record's */
	bool has_scopes;       /* it is limited to these */
	scope_set scopes;
	wall_msec issued_at;
	wall_msec expires_at;
};

struct credential {
	enum credential_kind kind;
	uint8_t hash[HASH_LEN];      /* TOKEN */
	uint8_t public_key[KEY_LEN]; /* KEY */
	struct slice agent_id;       /* KEY, SIGNED: whom it claims to be */
	struct claims claims;        /* JWT */
	struct slice route_id;       /* WALL, LINK: good for it alone; of
				      * paths the agent, as there spelled */
	struct slice address;        /* numeric source address, no port */
	struct slice remote;         /* address:port, for people */
};

enum entrance {
	ENTRANCE_CLUSTER_LINK, /* WebSocket of the cluster dialect */
	ENTRANCE_CLUSTER_HTTP, /* one call of the legacy endpoints */
	ENTRANCE_CONSOLE,      /* dashboard or agent: its first message says */
	ENTRANCE_MONITOR,      /* a status board: watches from the start */
	ENTRANCE_SIGNED,       /* an agent that signs its messages */
};

struct hello {
	struct credential credential;
	enum entrance entrance;
	bool native; /* offers subprotocol muster.v1 */
};

struct denied {
	uint16_t status;      /* HTTP status: 401 403 404 409 429 503 */
	int err;              /* ERR_* */
	uint32_t retry_after; /* seconds, 0 = not said */
	struct slice code;    /* stable: TOKEN_EXPIRED ... */
	struct slice text;
};

/* What a returning agent of ours still has of its commands. */
enum held_state { HELD_RUNNING, HELD_EXITED, HELD_UNKNOWN };

struct held_command {
	struct slice id;
	enum held_state state;
};

struct native_hello { /* payload.muster */
	bool present;
	uint32_t proto; /* highest it speaks */
	uint32_t min;   /* lowest it speaks */
	bool has_yamux;
	bool has_exec;
	struct slice install_id;
	struct slice boot_id;
	struct slice session_id;
	struct slice policy_hash;
	struct slice policy_verbs; /* "observe,exec" */
	uint64_t stop_epoch;
	struct stop_order stop;   /* what it keeps of the stop; epoch 0: none */
	uint64_t sequence;        /* highest dispatch number it ever took */
	struct slice incarnation; /* of the database it last took one from */
	const struct held_command *held;
	size_t held_count;
};

struct registration {
	struct slice agent_id; /* required */
	struct slice name;     /* required */
	struct slice cluster_id;
	bool console;             /* speaks the console dialect */
	struct slice type;        /* console: "claude"... */
	struct slice version;     /* console */
	struct slice info_json;   /* every field, secrets replaced */
	struct slice labels_json; /* object of strings */
	bool proxies;             /* features.supports_websocket_proxy */
	bool gateways;            /* supports_gateway */
	bool bodies_stream;       /* supports_streaming */
	bool answers_stream;      /* supports_response_streaming */
	struct native_hello native;
};

struct heartbeat {
	struct slice agent_id;   /* not said by all */
	struct slice cluster_id; /* not said by all; in the URL over HTTP */
	struct slice status;     /* "available", "healthy", "error"... */
	struct slice tunnel_status;
	struct slice metadata_json; /* as reported, "45%" made 45 */
	struct slice ill;           /* ours: why it calls itself degraded */
};

struct registered {
	struct slice cluster_id;
	struct slice agent_id;
	struct slice name;
	int64_t workspace_id;
	wall_msec at;
	bool again; /* it was known before */
	bool native;
	uint64_t stop_epoch;
	const struct stop_order *stop; /* ours: how it stands; may be NULL */
	struct slice incarnation;
};

/* The outcome of one command on its agent. */
struct outcome {
	struct slice cluster_id; /* RESULT: of the URL */
	struct slice command_id;
	wall_msec started_at;
	wall_msec finished_at;
	int exit_code;
	int signal;
	bool timed_out;
	bool interrupted;
	bool stopped;
	struct slice code; /* EXEC_FAILED, NOT_PERMITTED, UNKNOWN_OUTCOME... */
	struct slice why;
	uint32_t lingering;
	uint64_t out_bytes;
	uint64_t err_bytes;
	/* HTTP: output that came with the result. */
	struct slice out;
	struct slice err;
};

struct poll_reply {
	const struct command_record *commands;
	size_t count;
	uint64_t stop_epoch;
	uint32_t next_seconds;
};

/* What a message was refused for. */
struct complaint {
	int err;           /* ERR_* */
	struct slice code; /* stable: INVALID_MESSAGE, NOT_REGISTERED... */
	struct slice field;
	struct slice text;
};

enum request_op {
	OP_WHOAMI,
	OP_AGENT_LIST,
	OP_AGENT_SHOW,
	OP_AGENT_LABEL,
	OP_AGENT_REMOVE,
	OP_AGENT_CORDON, /* nothing new is sent to it */
	OP_AGENT_UNCORDON,
	OP_QUEUE_SHOW,  /* of one agent: limit places */
	OP_QUEUE_PURGE, /* cancel all that waits for one agent */
	OP_JOIN,        /* an agent trades a cluster token for its own key */
	OP_TOKEN_CREATE,
	OP_TOKEN_LIST,
	OP_TOKEN_SHOW,
	OP_TOKEN_REVOKE,
	OP_TOKEN_ROTATE,
	OP_COMMAND_CREATE,
	OP_COMMAND_INTERRUPT,
	OP_COMMAND_CANCEL,
	OP_COMMAND_ATTACH, /* this peer wants its streams from now on */
	OP_STOP_RAISE,
	OP_STOP_LIFT,
	OP_STOP_LIST,
	OP_STOP_SHOW,      /* id: the epoch in decimal */
	OP_AGENT_CONTROL,  /* a coding agent: stop, restart, pause, resume */
	OP_TERMINAL_CLEAR, /* all views of an agent's terminal */
	/* Granted or refused by the hub, answered from the store's readers. */
	OP_COMMAND_SHOW,
	OP_COMMAND_LIST,
	OP_COMMAND_OUTPUT,
	OP_AUDIT_LIST,
	OP_AUDIT_VERIFY,
	OP_AGENT_HISTORY,
	OP_EVENTS,
	OP_METRICS,
	/* Users. */
	OP_USER_ADD,
	OP_USER_LIST,
	OP_USER_SHOW,
	OP_USER_CHANGE,
	OP_USER_REMOVE,
	OP_USER_TOKEN, /* a JWT for them is to be signed */
	/* Logins; asked without a credential, the lane has judged it. */
	OP_LOGIN,      /* may this account be tried? reply.user has the hash */
	OP_LOGIN_DONE, /* the password was right (passed), or not */
	OP_REFRESH,    /* trade request.login->hash for new_hash */
	OP_SETUP,      /* the first administrator's password */
	OP_LOGOUT,
	OP_OWN_PASSWORD, /* ask_first: reply.user has the hash; then passed,
			  * and user->password is the new one */
	/* Of those who watch by a WebSocket. */
	OP_BROADCAST_STATUS,   /* another back end on an agent (id): word */
	OP_BROADCAST_ACTIVITY, /* the same on a session: word was said */
	OP_RENEW, /* it goes on with credential, or with login, which is
		   * traded as by REFRESH; login.expires_at: of what it is
		   * given */
	/* Of tunnels. */
	OP_ROUTE_ADD,
	OP_ROUTE_LIST,
	OP_ROUTE_SHOW,
	OP_ROUTE_REMOVE,
	OP_ROUTE_LINK,   /* an expiring link is to be signed */
	OP_ROUTE_UNLINK, /* all that were signed so far are no good */
	OP_TUNNEL,       /* may this user forward at all? */
	OP_VISIT,        /* may this credential, or nobody, go there? */
	OP_WATCH, /* a console dashboard introduces itself; answered with all
		   * agents it may see */
	/* Secrets of agents that sign: id is a secret's, or an agent_id. */
	OP_SIGNED_ADD,
	OP_SIGNED_LIST,
	OP_SIGNED_SHOW,
	OP_SIGNED_ROTATE,
	OP_SIGNED_REMOVE,
	OP_AGENT_LOGS, /* granted by the hub, read from the store */
	OP_AGENT_METRICS,
	OPS
};

enum user_change {
	USER_ROLE = 1,
	USER_SELECTOR = 2,
	USER_PASSWORD = 4,
};

struct agent_filter {
	struct slice selector; /* "a=b,c!=d,e" over labels */
	struct slice status;   /* name of a presence state */
	struct slice text;     /* part of the id, name or host name */
};

struct request {
	enum request_op op;
	struct credential credential;
	struct slice id; /* of the object: an id; for agents also a name or
			  * an unambiguous prefix of an id */
	struct agent_filter filter;
	struct slice cursor; /* as given out; absent: from the start */
	uint32_t limit;
	struct slice request_key;           /* Idempotency-Key */
	const struct token_record *token;   /* TOKEN_CREATE, ROTATE: new hash */
	msec overlap;                       /* TOKEN_ROTATE, SIGNED_ROTATE */
	const struct secret_record *secret; /* SIGNED_ADD, ROTATE: sealed */
	struct slice labels_json; /* AGENT_LABEL: string sets, null removes */
	const struct command_record *command; /* COMMAND_CREATE */
	bool attach;  /* COMMAND_CREATE: this peer wants its streams */
	bool or_fail; /* COMMAND_CREATE: not to be queued for later */
	bool force;   /* COMMAND_CREATE: also when it is cordoned */
	/* COMMAND_CREATE on many: those of targets, as id is, and those that
	 * fit filter.selector. */
	bool fan;
	const struct slice *targets;
	size_t target_count;
	/* WATCH */
	struct slice watch_id; /* what it calls itself */
	/* USER_ADD, USER_CHANGE, SETUP: what is set */
	const struct user_record *user;
	unsigned changes; /* of enum user_change */
	bool ask_first;   /* only whether it may; no password is there yet */
	/* LOGIN_DONE, REFRESH, RENEW */
	const struct login_record *login;
	bool passed;
	uint8_t new_hash[HASH_LEN];
	/* STOP_RAISE, STOP_LIFT: scope and target, or of LIFT the epoch */
	enum stop_scope scope;
	struct slice target; /* selector; or an agent, named as in id */
	struct slice reason;
	bool keep_tunnels;
	bool dry_run;   /* RAISE: only say whom it would hit */
	uint64_t epoch; /* LIFT: this one; 0: the one of that scope */
	/* AGENT_CONTROL */
	struct slice action;
	struct slice data_json;           /* what else it is told, an object */
	const struct route_record *route; /* ROUTE_ADD */
	const struct tunnel_visit *visit; /* VISIT */
	/* BROADCAST_* */
	struct slice word;
	struct slice session_id;
	/* JOIN */
	struct slice name;
	struct slice install_id;
	uint8_t public_key[KEY_LEN];
};

/* An agent as shown. */
struct agent_view {
	const struct agent_record *record;
	enum presence presence;
	struct slice why; /* stable reason */
	wall_msec since;
	struct slice remote; /* of its link; absent when there is none */
	struct slice dialect;
	struct slice session_id;
	wall_msec connected_at;
	wall_msec heartbeat_at;
	struct slice tunnel_status;
	struct slice metadata_json; /* of the last heartbeat */
	struct slice policy_verbs;
	struct slice policy_hash;
	uint32_t running;
	uint32_t queued;
	uint64_t stop_epoch;    /* of the newest stop over it; 0: none */
	struct slice stop_text; /* its scope: all, selector:TEXT, agent:ID */
	bool stopped_locally;   /* by its own host */
};

/* One agent's part in a command for many. */
struct fan_item {
	struct slice target;   /* as asked; absent: the selector found it */
	struct slice agent_id; /* absent: there is no such agent */
	struct slice name;
	enum presence presence;
	wall_msec cordoned_at;
	const struct command_record *command; /* NULL: see err */
	bool again;
	uint32_t position;
	msec wait;
	int err;
	uint16_t status;
	struct slice code;
	struct slice text;
};

struct reply {
	enum request_op op;
	int err;              /* 0 or ERR_* */
	uint16_t status;      /* HTTP status to answer */
	uint32_t retry_after; /* seconds */
	struct slice code;    /* stable, when err */
	struct slice text;    /* a sentence, when err */
	struct slice field;   /* that is wrong, when err and known */
	/* Who asked: filled when the credential was good. */
	const struct user_record *user;
	scope_set scopes;
	const struct agent_view *agents;
	size_t agent_count;
	const struct token_record *tokens;
	size_t token_count;
	const struct command_record *command;
	uint32_t position; /* of command in its agent's queue, from 1; 0: it
			    * is in none */
	msec wait;         /* until it begins, an estimate; with position */
	const struct queue_view *queue; /* QUEUE_SHOW, QUEUE_PURGE */
	const struct fan_item *items;   /* COMMAND_CREATE on many */
	size_t item_count;
	bool again;          /* an idempotency key or a name made it the same */
	struct slice cursor; /* of the next page; absent: no more */
	uint64_t total;      /* of a list; QUEUE_PURGE: so many cancelled */
	struct slice about;  /* of a watcher's request: its id, as asked */
	const struct registered *joined;     /* JOIN */
	const struct secret_record *secrets; /* SIGNED_* */
	size_t secret_count;
	const struct figures *figures; /* AGENT_METRICS, oldest first */
	size_t figure_count;
	const struct user_record *users; /* USER_*, in order of names */
	size_t user_count;
	/* LOGIN_DONE, REFRESH, LOGOUT, RENEW */
	const struct login_record *login;
	wall_msec expires_at; /* of the credential, RENEW: the new one; 0 =
			       * never */
	struct {
		uint32_t limit; /* requests a minute; 0: not counted */
		uint32_t left;
		uint32_t reset; /* seconds */
	} rate;
	const struct agent_news *news; /* WATCH: what is there now */
	size_t news_count;
	uint64_t news_id;  /* WATCH: the same number, the same list; not 0 */
	bool truncated;    /* WATCH: there are more */
	uint16_t audience; /* of this watcher: WATCH, EVENTS */
	const struct stop_view *stops; /* STOP_*: newest first */
	size_t stop_count;
	const struct receipt_record *receipts; /* STOP_SHOW, dry RAISE */
	size_t receipt_count;
	uint64_t stop_epoch;               /* STOP_*: the epoch now */
	const struct route_record *routes; /* ROUTE_*: by host and prefix */
	size_t route_count;
	const struct tunnel_member *members; /* ROUTE_SHOW: whom it goes by */
	size_t member_count;
	const struct tunnel_grant *grant; /* VISIT */
	/* EVENTS: notices with a higher number were told to that audience,
	 * for the number was another's before. */
	uint64_t audience_since;
};

/* An entrance is granted. */
struct welcome {
	const struct user_record *user; /* NULL: a cluster token */
	scope_set scopes;
	uint16_t audience;             /* of who watches */
	wall_msec expires_at;          /* of the credential; 0 = never */
	const struct agent_news *news; /* MONITOR: what is there now */
	size_t news_count;
	const struct secret_record *secret; /* SIGNED; again when it changes */
};

struct event {
	enum event_kind kind;
	struct peer_id peer;     /* from whom, or to whom */
	struct slice request_id; /* echoed by answers */
	wall_msec at;            /* when it was read or decided */
	wall_msec said_at;       /* by the sender's clock; 0 = not said */
	union {
		struct hello hello;
		struct denied denied;
		struct welcome welcome;
		struct {
			int why;  /* 0 = said goodbye, else ERR_* */
			int code; /* WebSocket close code, 0 = none */
		} gone;
		struct registration registration;
		struct heartbeat heartbeat;
		struct registered registered;
		struct {
			struct slice cluster_id;
			struct slice command_id; /* ACK */
		} call;                          /* POLL, TUNNEL_INFO, ACK */
		struct outcome outcome;          /* RESULT, COMMAND_* */
		struct poll_reply poll;
		struct complaint complaint; /* BAD, ERROR */
		struct request request;
		const struct reply *reply;
		struct notice notice;
		struct stop_order stop;
		struct stop_report report;
		enum tunnel_speech speech;
		struct {
			const struct command_record *command;
			msec remaining;          /* to its deadline; 0 = none */
			struct peer_id asked_by; /* a dashboard, or none */
			struct peer_id viewer;   /* attached, or none */
			struct audience_set seen_by; /* its output */
			uint64_t stop_epoch; /* a newer stop is after it */
		} execute;
		struct {
			struct slice agent_id;
			struct slice action; /* "stop" "restart"... */
			struct slice data_json;
		} control;
		struct {
			struct slice command_id;
			struct slice data_json;
		} trace;
		struct log_record log;
		struct {
			uint64_t number; /* of the STORE effect */
			int err;
		} stored;
	};
};

#endif
