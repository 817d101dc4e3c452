/*
 * stop: the emergency stop as values (floor: model; docs/protocol/muster.md).
 *
 * A stop is a number, the epoch: one rising sequence for stops and for
 * their lifting.  Whoever knows a higher epoch is right.
 */
#ifndef MODEL_STOP_H
#define MODEL_STOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/stamp.h"

enum { STOP_MAC_LEN = 32 };

/* What a stop comes down on when it is raised. */
struct stop_reach {
	uint32_t agents;   /* that are connected */
	uint32_t commands; /* that wait, and that run where it can be told */
};

/* What an agent of ours is told, keeps, and shows again. */
struct stop_order {
	uint64_t epoch;
	bool stopped;          /* false: work goes on */
	struct slice agent_id; /* whom it is for: the mac covers that, too */
	struct slice scope;    /* "all", "selector:TEXT", "agent:ID" */
	bool keep_tunnels;
	struct slice reason;
	wall_msec at;
	struct stop_reach reach; /* of the one it is for; console agents */
	bool has_mac;
	uint8_t mac[STOP_MAC_LEN];
	bool proved; /* in a registration: the mac is one of ours; said by who
		      * has the key */
	bool local;  /* in a registration: its own owner stopped it, too */
};

/* What an agent says that it did. */
struct stop_report {
	uint64_t epoch;
	bool stopped;
	bool local;
	wall_msec began_at; /* of its clock */
	wall_msec done_at;
	uint32_t commands;        /* ended by it */
	uint32_t killed;          /* processes */
	uint32_t left;            /* that would not die */
	struct slice detail_json; /* commands and pids, bounded */
};

enum stop_scope { STOP_ALL, STOP_SELECTOR, STOP_AGENT };

enum {
	STOP_SELECTOR_MAX = 512, /* bytes */
	STOP_REASON_MAX = 1000,
};

struct stop_record {
	uint64_t epoch;
	enum stop_scope scope;
	struct slice target; /* selector text, over labels set by operators, or
			      * agent id; absent for ALL */
	struct slice bound;  /* SELECTOR: only what this selector lets its
			      * user see; absent: everything */
	bool keep_tunnels;
	struct slice reason;
	struct slice actor;
	wall_msec at;
	uint64_t lifted_epoch; /* 0: it stands */
	struct slice lifted_by;
	wall_msec lifted_at;
	int64_t workspace_id;
	struct slice request_key; /* who raised it may ask again */
};

/* What must survive at any price: the epoch, and what stands. */
struct stop_state {
	uint64_t epoch;
	const struct stop_record *stops; /* by epoch */
	size_t count;
};

enum receipt_kind {
	RECEIPT_WAITING,      /* told, no word yet */
	RECEIPT_CONFIRMED,    /* ours: with pids and times */
	RECEIPT_ACKNOWLEDGED, /* a foreign agent said so */
	RECEIPT_UNABLE,       /* its protocol has no verb for it */
	RECEIPT_UNREACHABLE,  /* not connected: it learns when it is back */
	RECEIPT_KINDS
};

struct receipt_record {
	uint64_t epoch;
	struct slice agent_id;
	struct slice name; /* of the agent, where it is shown; never stored */
	enum receipt_kind kind;
	wall_msec told_at;
	wall_msec at;
	struct stop_report report; /* CONFIRMED */
};

/* A stop as shown: kinds of receipts are counted apart, never as one. */
struct stop_view {
	const struct stop_record *record;
	uint32_t counts[RECEIPT_KINDS];
	uint32_t left; /* of the confirmed: something would not die */
};

/* The name, as in REST and the command line; absent out of range. */
struct slice receipt_kind_name(enum receipt_kind k);
struct slice stop_scope_name(enum stop_scope s);
/* 0, or ERR_INVALID. */
int stop_scope_find(struct slice name, enum stop_scope *out);

#endif
