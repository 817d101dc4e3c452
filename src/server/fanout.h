/*
 * fanout: one text for all who listen on a lane (floor: server).
 *
 * News is written once in each voice that somebody here listens in, with its
 * WebSocket frame head, and everybody's queue refers to those bytes.  It is
 * handed out at the end of a turn, to so many listeners and then, after a
 * look at the sockets, to the others; each takes all that it has not seen
 * yet at once, in order.  Whoever has something else to say to a listener
 * lets it catch up first, so that the order is the same for everybody.
 *
 * A listener that does not read loses its connection, not our memory.
 */
#ifndef SERVER_FANOUT_H
#define SERVER_FANOUT_H

#include "model/audience.h"
#include "model/peer.h"

#include "base/buf.h"

#include "io/loop.h"
#include "io/stream.h"

struct conn;
struct dock;
struct wsconn;

enum voice { VOICE_FLAT, VOICE_UPPER, VOICE_MONITOR, VOICES };

/* What it is about, for those who do not want all. */
enum said_kind {
	SAID_AGENT,
	SAID_METRICS,
	SAID_COMMAND,
	SAID_QUEUE,
	SAID_OUTPUT,
	SAID_TRACE,
	SAID_STOP,
	SAID_ACTIVITY,
	SAID_OTHER,
};

/* Ids of commands can read differently to the one who asked. */
enum said_whose { SAID_TO_ALL, SAID_TO_ASKER, SAID_TO_OTHERS };

struct said_about {
	enum voice voice;
	enum said_kind kind;
	enum said_whose whose;
	struct audience_set seen_by;
	struct peer_id asked_by; /* whose command it is; may be none */
	struct slice agent_id;   /* absent: of no agent */
	struct slice command_id;
};

/* One text. */
struct said {
	struct list link;
	uint64_t number;
	struct said_about about; /* its ids are behind this struct */
	struct slice text;       /* in plain */
	struct chunk *plain;     /* a whole frame */
	struct chunk *packed;    /* the same, deflated; NULL: not made */
	struct chunk *wrapped;   /* as a frame with `compressed`; likewise */
	bool unpackable;         /* it would not become shorter */
	bool unwrappable;
};

/* Embedded in the role's own state. */
struct watcher {
	struct list link;
	struct conn *conn;
	struct wsconn *ws;
	uint64_t seen;  /* number of the last said to it */
	size_t allowed; /* queued beyond the mark, by what it asked for */
	uint16_t audience;
	uint8_t voice; /* enum voice */
	/* Whether it wants to hear this; NULL: all. */
	bool (*wants)(const struct watcher *w, const struct said *s);
	/* In place of sending it as it is; NULL. */
	void (*take)(struct watcher *w, struct said *s);
	/* It does not read: close it. */
	void (*slow)(struct watcher *w);
};

struct fanout {
	struct dock *dock;
	struct list ready;       /* watchers that have had their turn */
	struct list behind;      /* those that have not, in this round */
	struct list news;        /* struct said, oldest first */
	uint64_t last;           /* number of the newest */
	uint64_t round;          /* all have that much when `behind` is empty */
	size_t bytes;            /* of news */
	uint32_t voices[VOICES]; /* watchers of each */
	uint32_t audiences[AUDIENCES];
	struct audience_set present; /* audiences with somebody in them */
	struct buf pack;             /* scratch */
	struct loop_task task;
};

/* Once for each dock; before any stream of its loop. */
void fanout_init(struct fanout *f, struct dock *d);
/* After all watchers have left. */
void fanout_fini(struct fanout *f);

/* The caller has filled in all but link and seen.  From now on it hears what
 * is said, and nothing that was said before. */
void fanout_join(struct fanout *f, struct watcher *w);
/* Idempotent, once w has been list_init'ed. */
void fanout_leave(struct fanout *f, struct watcher *w);

/* Whether anybody of these listens here in that voice, so that it is worth
 * writing down. */
bool fanout_heard(
    const struct fanout *f, enum voice v, const struct audience_set *seen_by);

/* Say a text, copied, to all of about->voice who may see and want it. */
void fanout_say(
    struct fanout *f, const struct said_about *about, struct slice text);

/* Give it what it has not seen yet. */
void fanout_catch_up(struct watcher *w);

/* Send it one of the texts now, deflated if both sides can. */
void fanout_send(struct watcher *w, struct said *s);
/* Send it a frame, shared. */
void fanout_send_frame(struct watcher *w, struct chunk *frame);
/* A text that is not news, to be sent to some; NULL without memory. */
struct said *fanout_make(const struct said_about *about, struct slice text);
void fanout_free(struct said *s);
/* A whole text message as a frame; NULL without memory. */
struct chunk *fanout_frame(struct slice text);

/* Whether it has so much waiting that it must be given up; then slow was
 * called. */
bool fanout_check_slow(struct watcher *w);

#endif
