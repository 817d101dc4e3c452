/*
 * hub: where everything is decided (floor: model).
 *
 * One hub per controller, on one thread.  Events go in with the time they
 * arrived; what is to be done comes out as effects in an outbox.  The hub
 * calls nothing, reads no clock and draws no randomness but from its own
 * seeded generator (for ids, never for secrets), so that a run can be
 * replayed and thousands of agents simulated on virtual time.
 *
 * Life: hub_new, hub_load (what the store held), then hub_input and
 * hub_expire in any order until hub_free.
 */
#ifndef MODEL_HUB_H
#define MODEL_HUB_H

#include "model/outbox.h"

struct hub;

struct hub_config {
	uint32_t node;
	uint64_t fence;           /* of this controller's lease */
	struct slice incarnation; /* id of the database */
	uint64_t seed[4];         /* random: hash seeds and ids */
	/* Caps and times; 0 takes the default in brackets. */
	uint32_t max_agents;   /* [100000] */
	uint32_t max_commands; /* live ones kept in memory [200000] */
	uint32_t queue_limit;  /* detached commands waiting per agent [1000] */
	uint32_t concurrency;  /* detached ones running per agent [16] */
	uint32_t user_connections; /* dashboards, boards, followers [200] */
	uint32_t foreground_max;   /* attached ones per agent [256] */
	msec grace;                /* reconnecting before offline [15000] */
	msec start_grace;          /* the same after a start [120000] */
	msec http_grace;           /* HTTP-only agents [90000] */
	uint32_t attempts;         /* failed credentials a minute [20] */
	uint32_t login_rate;       /* logins of an account a minute [5] */
	uint32_t request_rate;     /* requests of a user a minute [600] */
	uint32_t stranger_rate;    /* those of an address without one [120] */
	bool may_set_up;           /* setup_hash is good until setup_until */
	uint8_t setup_hash[HASH_LEN];
	wall_msec setup_until;
	bool refuse_takeover;
};

/* What the store held at the start; borrowed during the call only. */
struct hub_snapshot {
	const struct user_record *users;
	size_t user_count;
	const struct login_record *logins;
	size_t login_count;
	const struct token_record *tokens;
	size_t token_count;
	const struct agent_record *agents;
	size_t agent_count;
	const struct command_record *commands; /* not final ones */
	size_t command_count;
	const struct connection_record *links; /* the last one of each agent */
	size_t link_count;
	uint64_t last_link;              /* highest connection_record id */
	const struct stop_record *stops; /* by epoch */
	size_t stop_count;
	const struct receipt_record *receipts;
	size_t receipt_count;
	const struct route_record *routes; /* not removed ones */
	size_t route_count;
	uint64_t stop_epoch; /* the highest that the store knows */
	const struct secret_record *secrets;
	size_t secret_count;
	/* What the stop's own file said; NULL: there is none.  Of it and the
	 * store the one with the higher epoch is right. */
	const struct stop_state *kept;
	bool stop_switch;              /* the file STOP is there */
	struct slice stop_switch_text; /* and what it says */
};

struct hub_stats {
	uint64_t events[EVENT_KINDS];
	uint64_t agents;
	uint64_t by_presence[PRESENCES];
	uint64_t links;
	uint64_t watches;        /* dashboards and boards */
	uint64_t watching_users; /* who have some */
	uint64_t commands_live;
	uint64_t commands_ended[COMMAND_STATES];
	uint64_t denied;
	uint64_t stop_epoch;
	uint64_t stops_standing;
	uint64_t stop_receipts[RECEIPT_KINDS]; /* of those */
	uint64_t routes;
	uint64_t tunnel_grants; /* given so far */
	uint64_t bytes;         /* memory of records and tables, about */
};

/* NULL without memory. */
struct hub *hub_new(const struct hub_config *config);
void hub_free(struct hub *h);

/* 0, ERR_NOMEM, or ERR_FULL when a cap is too small for what is there. */
int hub_load(struct hub *h, const struct hub_snapshot *s, msec now);

/*
 * One event.  now is monotonic, ev->at wall time.  Everything the event
 * points to is borrowed for the call.  Failures are effects, not results.
 * When memory or the outbox runs out, out->err is set, nothing of this event
 * is in the outbox, and what it changed is taken back as if the store had
 * refused it; nobody is told.
 */
void hub_input(
    struct hub *h, const struct event *ev, msec now, struct outbox *out);

/* When hub_expire wants to be called; INT64_MAX = never. */
msec hub_deadline(const struct hub *h);
void hub_expire(struct hub *h, msec now, wall_msec wall, struct outbox *out);

/* watches and watching_users alone, which is quick. */
void hub_watch_stats(const struct hub *h, struct hub_stats *out);

/* Who may ask for what: the hub's own table. */
struct hub_right {
	scope_set need;
	bool open;   /* without a credential */
	bool agents; /* also by tokens without a user */
};
struct hub_right hub_right(enum request_op op);
/* Any of these lets one be an agent on a console connection. */
scope_set hub_agent_scopes(void);
/* What a role permits. */
scope_set hub_role_scopes(enum role role);

void hub_stats_get(const struct hub *h, struct hub_stats *out);

#endif
