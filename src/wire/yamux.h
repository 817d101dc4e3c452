/*
 * yamux: many streams on one connection (floor: wire).
 *
 * The HashiCorp yamux specification, version 0, both roles.  A pure machine:
 * bytes in, events out, control bytes out, time as an argument.
 *
 *   yamux_init
 *   each time bytes came:  yamux_feed, then yamux_next until false
 *   each time it may write: yamux_out / yamux_sent, then for each stream
 *       in the writer's own order of priority yamux_put_head and payload
 *   each time a timer fires: yamux_expire, then yamux_next until false
 *   yamux_fini
 *
 * Payload is never copied.  Received: DATA events borrow from the fed bytes;
 * what cannot be passed on at once the owner keeps in a queue of its own,
 * which the stream's window bounds, and calls yamux_consume when it has been
 * passed on.  Sent: the machine only writes the 12-byte heads.
 *
 * Life of a stream.  Opened here: yamux_open; peer's ACKED or RST follows.
 * Opened there: OPENED, to be answered by yamux_accept or yamux_reset.  Each
 * side ends its own direction (yamux_finish; event FIN).  The record goes when
 * both directions have ended and all that was delivered has been consumed, or
 * at once by RST.  An id that is gone gives ERR_GONE, which is no bug: the peer
 * may reset at any time.
 *
 * Hostile peers: streams, unaccepted streams, held bytes and queued control
 * output are capped; beyond the caps streams are reset or the session fails.
 * A session that failed says ERROR once, swallows all further input, and
 * still has the go-away frame in yamux_out.
 *
 * Not in the specification, decided here: receive windows start at the
 * fixed 256 KiB and double while a stream drains half of one within two
 * round trips.  FIN never goes with data, because HashiCorp's own reader may
 * then see the end before the data.  A second FIN is ignored, data after FIN
 * resets the stream, ids need not rise (concurrent openers of other programs do
 * not sort them).
 */
#ifndef WIRE_YAMUX_H
#define WIRE_YAMUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/slice.h"
#include "wire/idtable.h"

enum {
	YAMUX_HEAD = 12,            /* bytes of a frame's head */
	YAMUX_WINDOW = 256 * 1024,  /* initial window, fixed by the spec */
	YAMUX_FRAME_MAX = 16 * 1024 /* longest payload we put in a frame */
};

/* The client's streams have odd ids, the server's even ones. */
enum yamux_role { YAMUX_CLIENT, YAMUX_SERVER };

/* Codes of a go-away frame. */
enum yamux_code { YAMUX_NORMAL, YAMUX_PROTOCOL_ERROR, YAMUX_INTERNAL_ERROR };

struct yamux_config {
	uint32_t streams_max; /* open streams, each way */
	uint32_t backlog;     /* not yet acknowledged, each way */
	uint32_t window_max;  /* a receive window grows up to this */
	/* Growth of all windows beyond their initial size. */
	uint32_t growth_max;
	/* Delivered and not consumed, all streams: beyond it a stream that
	 * holds more than its share (held_max / streams_max / 2) is reset, so
	 * twice held_max is never exceeded. */
	uint32_t held_max;
	msec keepalive; /* between pings; 0 = no pings, no timeout */
	msec timeout;   /* silence after a ping that means dead */
	uint64_t seed;  /* random: the peer chooses ids, they are hashed */
};

/* 4,096 streams, backlog 256, 4 MiB, 16 MiB, 64 MiB, 30 s, 30 s. */
extern const struct yamux_config yamux_defaults;

enum yamux_event_kind {
	YAMUX_OPENED,   /* the peer opened id: accept or reset it */
	YAMUX_ACKED,    /* the peer accepted what we opened */
	YAMUX_WRITABLE, /* the window of id was 0 and is not any more */
	YAMUX_DATA,     /* data: borrowed from the fed bytes */
	YAMUX_FIN,      /* the peer sends no more on id */
	YAMUX_RST,      /* id is gone; err says by whom */
	YAMUX_PONG,     /* rtt */
	YAMUX_GOAWAY,   /* the peer takes no more streams; code */
	YAMUX_ERROR     /* the session failed; err: write out, then close */
};

struct yamux_event {
	enum yamux_event_kind kind;
	uint32_t id;
	void *user; /* of the stream, borrowed */
	struct slice data;
	msec rtt;
	uint32_t code;
	/*
	 * RST: 0 by the peer, ERR_LIMITED by us over held_max, ERR_PROTOCOL
	 * by us for data after FIN.  ERROR: ERR_PROTOCOL, ERR_TIMEOUT,
	 * ERR_LIMITED (control output not drained), ERR_NOMEM, ERR_CLOSED
	 * (go-away with a code other than 0, either way).
	 */
	int err;
};

struct yamux {
	struct yamux_config config;
	enum yamux_role role;
	struct idtable streams; /* owned records */
	uint32_t ours, theirs;  /* open streams by opener */
	uint32_t unacked;       /* ours, not yet acknowledged */
	uint32_t unaccepted;    /* theirs, not yet accepted */
	uint32_t next_id;       /* the next that we open */
	uint32_t last_id;       /* highest that the peer opened */
	uint64_t held;          /* delivered, not consumed */
	uint64_t growth;        /* of windows beyond the initial size */
	struct list pending;    /* streams with control to say */
	struct buf out;         /* control frames, whole or cut by sent */
	size_t shown;           /* bytes of out handed out, not yet sent */
	struct slice in;        /* borrowed; rest of what was fed */
	uint8_t head[YAMUX_HEAD];
	uint8_t head_len;
	bool discard; /* this frame's payload is for nobody */
	bool goaway_sent;
	bool goaway_got;
	bool pinging;
	uint16_t todo;  /* events due before more input */
	uint16_t after; /* events due after this frame's payload */
	uint32_t id;    /* stream of the current frame */
	uint32_t left;  /* payload bytes of it to come */
	uint32_t value; /* length field of a ping or go-away */
	uint32_t ping_id;
	int err;
	msec now;
	msec heard;  /* last time bytes came */
	msec pinged; /* last time a ping was queued */
	msec rtt;    /* smoothed; -1 before the first pong */
};

/* Allocates nothing.  config is copied; s must not move afterwards. */
void yamux_init(struct yamux *s, enum yamux_role role,
    const struct yamux_config *config, msec now);
void yamux_fini(struct yamux *s);

/* Borrow in until yamux_next has returned false. */
void yamux_feed(struct yamux *s, struct slice in, msec now);
bool yamux_next(struct yamux *s, struct yamux_event *ev);

/* 0, or why the session failed. */
int yamux_error(const struct yamux *s);

/*
 * Open a stream; its SYN leaves with the next yamux_out or its first data.
 * ERR_CLOSED after a go-away either way, ERR_BUSY when backlog opens are not
 * yet acknowledged, ERR_FULL, ERR_RANGE (ids used up), ERR_NOMEM.
 */
int yamux_open(struct yamux *s, void *user, uint32_t *id);

/* Take an OPENED stream.  0 or ERR_GONE. */
int yamux_accept(struct yamux *s, uint32_t id, void *user);

/* The stream's user pointer; NULL when it is gone. */
void *yamux_user(const struct yamux *s, uint32_t id);

/* Change it; nothing when the stream is gone. */
void yamux_set_user(struct yamux *s, uint32_t id, void *user);

/* End our direction.  0, ERR_GONE, ERR_WRONG_STATE (ended before). */
int yamux_finish(struct yamux *s, uint32_t id);

/* End both directions now; there will be no more events for id. */
void yamux_reset(struct yamux *s, uint32_t id);

/* n delivered bytes have been passed on: the window may be opened again. */
void yamux_consume(struct yamux *s, uint32_t id, size_t n, msec now);

/* How much may be sent now; 0 when blocked, ended or gone. */
uint32_t yamux_window(const struct yamux *s, uint32_t id);

/*
 * The head of a data frame of len payload bytes, at most yamux_window.  Head
 * and payload must be written whole, after all that yamux_out has shown.
 * 0, ERR_GONE, ERR_WRONG_STATE (ended before), ERR_FULL (window).
 */
int yamux_put_head(
    struct yamux *s, uint32_t id, uint32_t len, uint8_t out[YAMUX_HEAD]);

/* Control bytes to be written, a few KiB at most a call; valid until the
 * next call that takes s.  Tell by yamux_sent what was taken. */
struct slice yamux_out(struct yamux *s);
void yamux_sent(struct yamux *s, size_t n);

/* Whether yamux_out would give anything. */
bool yamux_has_out(const struct yamux *s);

/* ERR_BUSY while another ping is unanswered, ERR_CLOSED. */
int yamux_ping(struct yamux *s, msec now);

/* Take no more streams; a code other than YAMUX_NORMAL ends the session. */
void yamux_goaway(struct yamux *s, enum yamux_code code);

/* When yamux_expire must be called next; INT64_MAX = never. */
msec yamux_deadline(const struct yamux *s);
void yamux_expire(struct yamux *s, msec now);

/* Walk all streams from *pos = 0; false at the end.  None may come or go
 * meanwhile. */
bool yamux_walk(const struct yamux *s, size_t *pos, uint32_t *id, void **user);

#endif
