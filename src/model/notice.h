/*
 * notice: news for whoever watches (floor: model).
 *
 * One stream for dashboards of every dialect and for followers of the REST
 * event stream.  kind says which of the pointers is there; name, ids and
 * data_json are what the event stream shows.
 */
#ifndef MODEL_NOTICE_H
#define MODEL_NOTICE_H

#include "model/peer.h"
#include "model/presence.h"
#include "model/record.h"
#include "model/stop.h"

enum notice_kind {
	NOTICE_OTHER,    /* nothing but its name and data_json */
	NOTICE_PRESENCE, /* agent: its presence changed */
	NOTICE_METRICS,  /* agent: it reported new figures */
	NOTICE_COMMAND, /* command: its state changed; also queue when queued */
	NOTICE_QUEUE,   /* queue: of one agent */
	NOTICE_STOP,    /* stop: raised or lifted */
	NOTICE_RECEIPT, /* receipt: of one agent */
	NOTICE_CLEAR,   /* agent_id: views of its terminal are to be cleared */
	NOTICE_TRACE,   /* command_id, command, data_json: what a coding agent
			 * traces */
	NOTICE_ACTIVITY, /* of another back end: agent_id, command_id is its
			  * session, text the last message */
	NOTICE_KINDS
};

/* What dashboards are told of an agent. */
struct agent_news {
	struct slice id;
	struct slice name;
	struct slice type; /* "claude"...; absent when it said none */
	struct slice version;
	enum presence presence;
	enum presence shown; /* the same, but while it reconnects what it was
			      * before: what console and monitor show */
	enum presence was_shown; /* PRESENCE: before this change */
	struct slice why;
	wall_msec since;
	wall_msec connected_at;     /* 0: not connected */
	struct slice metadata_json; /* of its last report; may be absent */
	uint32_t running;
	uint32_t queued;
};

struct queue_place {
	struct slice command_id;
	uint32_t position; /* from 1 */
	uint8_t priority;
	msec wait; /* estimate */
};

struct queue_view {
	struct slice agent_id;
	uint32_t size;
	uint32_t running;
	wall_msec cordoned_at;  /* nothing is sent since; 0: no */
	struct slice executing; /* one that runs; absent for none */
	wall_msec executing_at; /* since when */
	const struct queue_place *places;
	size_t count; /* of places: the first ones */
};

struct notice {
	enum notice_kind kind;
	struct slice name; /* "agent.online", "command.completed"... */
	struct slice agent_id;
	struct slice command_id;
	struct slice actor;
	struct slice text;
	struct slice data_json; /* an object, absent for none */
	uint64_t number;        /* rising, per controller */
	const struct agent_news *agent;
	const struct command_record *command;
	struct peer_id asked_by; /* COMMAND: the dashboard it came from */
	const struct queue_view *queue;
	const struct stop_record *stop;
	struct stop_reach stop_reach; /* STOP: of what its hearers see */
	const struct receipt_record *receipt;
};

#endif
