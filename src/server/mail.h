/*
 * mail: what crosses between the hub's thread and the lanes (floor: server).
 *
 * Mail lives in its batch's arena unless said otherwise; what it points to
 * belongs to whoever takes it.
 */
#ifndef SERVER_MAIL_H
#define SERVER_MAIL_H

#include <stdatomic.h>

#include "base/list.h"

#include "io/mailbox.h"

#include "model/outbox.h"

struct conn;
struct core;
struct live_parcel;
struct writer_done;

/* An outbox that lives until the last of its effects is performed. */
struct batch {
	struct list link; /* core's: among those that could not be stored */
	struct batch *next;
	struct core *home;
	atomic_uint refs;
	size_t stored; /* operations that the writer took */
	int err;       /* why it took no more */
	struct outbox out;
};

static inline void
batch_hold(struct batch *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

/* Give up a reference; the lane's, when it has performed an effect. */
void batch_drop(struct batch *b);

/*
 * A command's stream goes to another lane, and its viewer with it: made and
 * freed by the router, lent to the lane that has to let go.  conn is
 * detached and owned by this; NULL when there is no viewer.
 */
struct transit {
	struct list link; /* the lane's, while the mailbox is full */
	void *place;      /* the router's */
	struct slice command_id;
	struct peer_id viewer; /* who it was at first */
	struct conn *conn;
	uint64_t shown[3]; /* up to where dashboards have it, by stream */
};

/*
 * To the hub.  Tickets are drawn from one counter, so that the hub can take
 * the mail of all lanes in the order in which it was written: who has seen
 * what one lane did is served by another only after that.
 */
struct hub_mail {
	struct mail mail;
	uint64_t ticket;
	struct transit *transit;    /* NULL: it is */
	struct live_parcel *parcel; /* owned; NULL: it is */
	struct conn *traveller;     /* owned, detached; NULL: it is */
	struct event event;
};

/* To a lane. */
enum lane_word {
	LANE_EFFECT,
	LANE_STORED, /* news about output that the lane handed in */
	LANE_LET_GO, /* give up a command's stream and viewer */
	LANE_ARRIVE, /* here is what the other lane had of a stream */
	LANE_LIVE,   /* output of a command on another lane */
	LANE_TRAVEL, /* a connection of another lane comes here */
	LANE_CUT,    /* connections that the hub could not reach */
	LANE_FORGET, /* all that was granted: words on it were lost; all of
		      * cut: those who travel by it are cut */
	LANE_START,  /* accept connections */
	LANE_DRAIN,  /* accept no more, and send everybody home */
};

enum { CUT_MAX = 64 };

struct lane_mail {
	struct mail mail;
	enum lane_word word;
	union {
		struct {
			struct batch *batch; /* one reference */
			const struct effect *effect;
			bool awaits;     /* an OPEN: ARRIVE follows */
			uint64_t number; /* a PUBLISH: in its order */
		};
		struct writer_done *done;   /* owned */
		struct transit *transit;    /* LET_GO: lent */
		struct live_parcel *parcel; /* LIVE: one reference */
		struct conn *traveller;     /* TRAVEL: owned, detached */
		struct {
			struct conn *conn; /* owned, detached; or NULL */
			struct slice command_id;
			uint64_t shown[3];
		} arrival;
		struct {
			const struct peer_id *peers;
			size_t count;
			bool all;       /* every connection */
			bool followers; /* every follower of events */
		} cut;
		msec spread; /* DRAIN */
	};
};

#endif
