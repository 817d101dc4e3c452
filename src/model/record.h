/*
 * record: what is kept (floor: model).
 *
 * Plain values that the hub decides on, the store writes and the REST
 * surface shows.  Every slice is borrowed from whoever holds the record: an
 * arena, a store row or the hub's own copy.  Fields named *_json are the
 * text of one JSON value, already validated; absent when there is none.
 * Wall-clock instants are milliseconds since the epoch, 0 = never.
 */
#ifndef MODEL_RECORD_H
#define MODEL_RECORD_H

#include <stdbool.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/stamp.h"

#include "model/scope.h"

enum { HASH_LEN = 32, KEY_LEN = 32 };

enum role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };

struct user_record {
	struct slice id; /* usr_... */
	struct slice name;
	enum role role;
	struct slice selector; /* label selector that limits it; absent: all */
	struct slice password; /* as server/password.h writes it; or absent */
	int64_t workspace_id;
	wall_msec created_at;
	wall_msec removed_at;
	wall_msec valid_from; /* logins and JWTs from before are no good */
};

/* Somebody is logged in: one family of refresh tokens, or one cookie. */
struct login_record {
	struct slice id; /* lgn_... */
	struct slice user_id;
	uint8_t hash[HASH_LEN]; /* SHA-256 of the text that is good now */
	bool cookie;            /* the text does not change with use */
	struct slice remote;    /* where from */
	wall_msec created_at;
	wall_msec used_at; /* last renewal */
	wall_msec expires_at;
};

/* A cluster token or an API token; the text itself is never kept. */
struct token_record {
	struct slice id; /* tok_... */
	struct slice name;
	struct slice shown;         /* the first ten characters of the text */
	uint8_t hash[HASH_LEN];     /* SHA-256 of the text without its pin */
	uint8_t old_hash[HASH_LEN]; /* before the last rotation */
	wall_msec old_until;        /* until then old_hash is valid too */
	scope_set scopes;
	struct slice user_id; /* whom it acts for; absent: a cluster token */
	struct slice allow;   /* "CIDR,CIDR,..."; absent: from anywhere */
	uint32_t max_connections;
	int64_t workspace_id;
	wall_msec created_at;
	wall_msec expires_at;
	wall_msec revoked_at;
	wall_msec used_at;
};

struct agent_record {
	struct slice id;         /* agent_id, as claimed or made at join */
	struct slice cluster_id; /* UUID text */
	struct slice name;
	struct slice token_id; /* the token that first registered it */
	bool has_key;          /* Muster's own agent, bound to public_key */
	uint8_t public_key[KEY_LEN]; /* Ed25519 */
	struct slice install_id;
	struct slice info_json;   /* what it said of itself at registration */
	struct slice labels_json; /* labels it reported: object of strings */
	struct slice operator_labels_json; /* set by operators; these win */
	uint64_t sequence; /* highest dispatch number ever given out for it */
	int64_t workspace_id;
	wall_msec created_at;
	wall_msec registered_at; /* last registration */
	wall_msec seen_at;       /* sampled once a minute */
	wall_msec removed_at;
	wall_msec cordoned_at; /* it is sent nothing new; 0: it is */
};

enum command_state {
	COMMAND_QUEUED,
	COMMAND_SENT,
	COMMAND_RUNNING,
	COMMAND_COMPLETED, /* the program ended by itself with status 0 */
	COMMAND_FAILED,    /* it ended otherwise, or never ran: see code */
	COMMAND_INTERRUPTED,
	COMMAND_EXPIRED,
	COMMAND_CANCELLED,
	COMMAND_UNKNOWN, /* nobody can tell any more */
	COMMAND_STATES
};

struct command_record {
	struct slice id; /* cmd_... */
	struct slice agent_id;
	struct slice user_id;
	struct slice token_id;    /* it was asked for with; absent: a login's */
	struct slice request_key; /* idempotency key, absent for none */
	enum command_state state;
	struct slice argv_json; /* array of strings, at least one */
	struct slice env_json;  /* object of strings, absent for none */
	struct slice said_json; /* console: the very words, an object, as
				 * foreign agents are told them */
	struct slice cwd;
	struct slice exec_user;
	bool foreground; /* attached: not queued, lingering children killed */
	bool wants_stdin;
	bool shell;            /* argv is one shell string (--shell) */
	bool drops;            /* output that finds no room, not: it waits */
	uint8_t priority;      /* 0 low, 1 normal, 2 high */
	msec timeout;          /* from its start; 0 = none */
	wall_msec deadline_at; /* not started by then: expired */
	uint64_t sequence;     /* dispatch number on its agent; 0 = none yet */
	uint32_t lease_node;   /* {node, fence}: who may dispatch it */
	uint64_t lease_fence;
	uint32_t attempt;   /* HTTP: how often it was offered; not kept */
	int exit_code;      /* of a final state, unless signal or code */
	int signal;         /* that ended it; 0 = none */
	struct slice code;  /* stable reason: NOT_PERMITTED, EXPIRED... */
	struct slice why;   /* a sentence for people */
	uint32_t lingering; /* processes that outlived the command */
	uint64_t out_bytes; /* durable offsets of its two streams */
	uint64_t err_bytes;
	int64_t workspace_id;
	wall_msec created_at;
	wall_msec sent_at;
	wall_msec started_at;
	wall_msec finished_at;
};

/* One period of an agent being connected. */
struct connection_record {
	uint64_t id;
	struct slice agent_id;
	struct slice session_id;
	struct slice remote; /* address:port */
	struct slice dialect;
	wall_msec opened_at;
	wall_msec closed_at; /* 0 while open */
	struct slice why;    /* stable reason of the end */
};

/* What an agent signs its messages with, or all whose ids begin alike. */
struct secret_record {
	struct slice id;       /* sgn_... */
	struct slice agent_id; /* of the agent; or how theirs begin: */
	bool prefix;
	struct slice sealed;     /* wire/seal.h, of agent_id */
	struct slice old_sealed; /* before the last rotation; or absent */
	wall_msec old_until;     /* until then that is good, too */
	int64_t workspace_id;
	wall_msec created_at;
	wall_msec rotated_at;
};

/* A line that an agent logged. */
struct log_record {
	struct slice agent_id;
	wall_msec at;      /* when it came */
	wall_msec said_at; /* by the agent's clock */
	struct slice level;
	struct slice source;
	struct slice message;
	int64_t workspace_id;
};

/* A line of the audit journal as whoever acts states it; the store adds
 * node, number, time and the hash chain.  No action: no line. */
struct audit_note {
	struct slice actor;  /* usr_..., agent id, "system" */
	struct slice action; /* "token.create", "command.run"... */
	struct slice object;
	struct slice result; /* "ok" or the name of an error */
	struct slice request_id;
	struct slice remote;
	struct slice detail_json; /* never a secret */
};

struct audit_record {
	uint32_t node;
	uint64_t number; /* from 1, per node */
	wall_msec at;
	struct audit_note note;
	uint8_t prev_hash[HASH_LEN];
	uint8_t hash[HASH_LEN];
};

#endif
