/*
 * op: what the hub asks of the store (floor: model).
 *
 * Verbs, not SQL.  Operations run in the order of their numbers, in batches
 * of one transaction with a savepoint each; the audit line of an operation
 * is written in the same transaction.  One that fails is undone alone and
 * reported; those after it go on.
 */
#ifndef MODEL_OP_H
#define MODEL_OP_H

#include "model/record.h"
#include "model/stop.h"
#include "model/tunnel.h"

enum op_verb {
	OP_PUT_USER,
	OP_PUT_TOKEN,     /* insert, or replace the row of this id */
	OP_TOKEN_USED,    /* lazy: id, used_at */
	OP_PUT_AGENT,     /* insert, or replace the row of this id */
	OP_AGENT_SEEN,    /* lazy: id, seen_at */
	OP_LINK_OPENED,   /* a connection_record begins */
	OP_LINK_CLOSED,   /* and ends: id, closed_at, why */
	OP_PUT_COMMAND,   /* a new row: ERR_EXISTS when id or key is there,
			   * ERR_LIMITED when all the output is kept that may
			   * be */
	OP_COMMAND_SENT,  /* queued -> sent, compare-and-set on the lease:
			   * ERR_WRONG_STATE when it is not queued any more,
			   * ERR_DENIED when the lease is another's */
	OP_COMMAND_BACK,  /* sent -> queued: its agent refused it for now;
			   * ERR_WRONG_STATE when it is not sent */
	OP_COMMAND_RUNS,  /* sent -> running */
	OP_COMMAND_ENDED, /* to its final state with outcome and offsets, after
			   * the output before them is durable; ERR_WRONG_STATE
			   * when it is final already */
	OP_COMMAND_AGAIN, /* changes nothing: 0 when the row has this outcome,
			   * ERR_WRONG_STATE when it has another,
			   * ERR_NOT_FOUND when it is no such agent's,
			   * ERR_AGAIN when it is not final */
	OP_PUT_LOGIN,     /* insert, or replace the row of this id */
	OP_DROP_LOGIN,    /* it is over: its row goes */
	OP_PUT_SECRET,    /* insert, or replace the row of this id */
	OP_DROP_SECRET,   /* it is good no more: its row goes */
	OP_PUT_LOG,       /* lazy: a line that an agent logged */
	OP_PUT_META,      /* key and value */
	OP_PUT_STOP,      /* insert, or replace the row of this epoch */
	OP_PUT_RECEIPT,   /* the same, of this epoch and agent */
	OP_PUT_ROUTE,     /* insert, or replace the row of this id; one that
			   * was removed keeps its row */
	OP_AUDIT,         /* the audit line alone */
	OP_VERBS
};

struct op {
	enum op_verb verb;
	/* Given by the hub, rising from 1; 0 for what is not the hub's. */
	uint64_t number;
	/* May wait up to a second for a batch that is written anyway. */
	bool lazy;
	wall_msec at;
	struct audit_note audit; /* absent action: none */
	union {
		const struct user_record *user;
		const struct login_record *login;
		const struct token_record *token;
		const struct agent_record *agent;
		const struct connection_record *link;
		const struct command_record *command;
		const struct secret_record *secret;
		const struct log_record *log;
		const struct stop_record *stop;
		const struct receipt_record *receipt;
		const struct route_record *route;
		struct {
			struct slice key;
			struct slice value;
		} meta;
	};
};

#endif
