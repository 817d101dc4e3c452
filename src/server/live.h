/*
 * live: output of commands as it comes, for those who watch (floor: server).
 *
 * Between whoever has the bytes (the pipe of one of Muster's agents, a
 * console agent's connection) and the dashboards and boards of every lane.
 * Nothing is done while nobody watches.  Bytes become text once, on the lane
 * that has them; what others need crosses through the hub's thread, one
 * batch a turn, in order with the words on the command's state.
 */
#ifndef SERVER_LIVE_H
#define SERVER_LIVE_H

#include "dialect/console.h"
#include "dialect/console_say.h"
#include "dialect/monitor.h"

#include "store/store.h"

#include "server/dock.h"

/* Of one command, embedded by its owner; zero but for live_init. */
struct live {
	const struct command_record *command; /* borrowed; NULL: not yet */
	struct audience_set seen_by;
	struct peer_id asked_by;
	uint64_t shown[3]; /* up to where, by enum output_stream */
	struct console_carry carry[3];
	struct monitor_line *line; /* owned; NULL: no board watched */
	struct list due;           /* in the dock's, to say its activity */
	msec said_at;              /* the last activity */
};

enum live_kind {
	LIVE_OUTPUT,   /* text, for dashboards */
	LIVE_ACTIVITY, /* the last line, for boards */
	LIVE_FRAME,    /* bytes, for the attached client */
};

/* What crosses from lane to lane. */
struct live_parcel {
	atomic_uint refs;
	unsigned from; /* lane */
	enum live_kind kind;
	enum console_stream stream;
	uint64_t offset;
	wall_msec at;
	struct audience_set seen_by;
	struct peer_id asked_by;
	struct peer_id viewer;
	struct command_record command; /* ids alone */
	struct slice text;
};

void live_init(struct live *l);
void live_fini(struct live *l);

/* Once for each dock. */
void live_setup(struct dock *d);
void live_end(struct dock *d);

/* Bytes of one stream from offset.  What was shown before is not again:
 * after a break an agent sends from where its output is stored. */
void live_output(struct dock *d, struct live *l, enum output_stream stream,
    uint64_t offset, struct slice bytes);
/* Bytes that will never come. */
void live_gap(struct dock *d, struct live *l, enum output_stream stream,
    uint64_t from, uint64_t to);
/* A remark of ours, or what is run. */
void live_remark(struct dock *d, struct live *l, enum console_stream kind,
    struct slice text);
/* What is run, as a line of text. */
void live_command_line(struct dock *d, struct live *l);
/* The output is over: what waited for the rest of a character. */
void live_finish(struct dock *d, struct live *l);

/* EFFECT_OUTPUT: all that a command has written, at once. */
void live_whole(struct dock *d, const struct effect *e);

/* Bytes for an attached client that may be on another lane. */
void live_to_viewer(struct dock *d, struct live *l, struct peer_id viewer,
    enum output_stream stream, uint64_t offset, struct slice bytes);

/* From another lane. */
void live_arrive(struct dock *d, const struct live_parcel *p);
void live_parcel_hold(struct live_parcel *p);
void live_parcel_drop(struct live_parcel *p);

#endif
