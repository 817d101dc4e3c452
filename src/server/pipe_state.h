/*
 * pipe_state: what the two files of the pipe share, and nobody else (floor:
 * server).  pipe_open.c has the hub's orders and the opening of streams,
 * pipe.c what flows through them.
 */
#ifndef SERVER_PIPE_STATE_H
#define SERVER_PIPE_STATE_H

#include "wire/execframe.h"

#include "server/link.h"
#include "server/live.h"
#include "server/outlet.h"
#include "server/pipe.h"

struct pipe {
	struct dock *dock;
	struct slice id;      /* owned: key of dock->pipes */
	struct outlet outlet; /* on no link while there is no stream */
	struct execframe_reader reader;
	struct buf out; /* frames to the agent, not yet sent */
	struct peer_id viewer;
	struct live live;               /* of who watches its output */
	struct command_record *command; /* owned */
	uint64_t durable[3];            /* by enum output_stream */
	uint64_t acked[3];
	uint64_t received[3];
	uint64_t flying;     /* handed to the writer, not yet durable */
	uint64_t owed;       /* bytes of window to be given back */
	struct list opening; /* in the link's, until there is a stream */
	bool asked_end[3];   /* waits for the store's end of a stream */
	bool awaits;         /* its other half comes from another lane */
	/* Input: what the agent last acknowledged, and up to where the
	 * client's has gone into this stream. */
	uint64_t input_taken, input_limit, input_sent;
	bool input_known;       /* a STDIN_ACK came on this stream */
	uint8_t signal;         /* to be sent as soon as it is open; 0 = none */
	struct peer_id open_on; /* the link it is for, there or not */
	bool again;
	bool over;      /* EXIT or REFUSED came */
	bool done;      /* DONE is said, or on its way out */
	bool finished;  /* our direction has ended */
	bool heard_all; /* theirs has */
};

static inline struct pipe *
pipe_find(struct dock *d, struct slice id)
{
	return map_get(&d->pipes, id);
}

extern const struct outlet_ops pipe_ops;

/* Off its link, if it is on one, for this reason. */
void pipe_lost(struct pipe *p, int why);

/* NULL without memory. */
struct pipe *pipe_new(struct dock *d, struct slice id);
void pipe_free(struct pipe *p);

/* A frame to the agent, if there is a stream; which may be lost over it. */
void pipe_tell(struct pipe *p, const struct execframe *f);

/* The hub is to order it anew. */
void pipe_say_lost(struct pipe *p);

/* The store has said where what it has ends, or that it cannot. */
void pipe_end_known(struct pipe *p, enum output_stream stream, int err);

#endif
