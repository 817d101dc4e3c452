/*
 * replay: a look at stored output for a client that came back (floor:
 * server).
 *
 * One look reads one piece, on a thread of the pool; whoever asked is told
 * on its lane, if it is still there.
 */
#ifndef SERVER_REPLAY_H
#define SERVER_REPLAY_H

#include "model/op.h"

#include "server/conn.h"

enum { REPLAY_PIECE = 256 * 1024 };

/* Borrowed during the call of replay_fn. */
struct replay_found {
	/* 0, also at the present end; ERR_GONE or ERR_MISSING: nothing is
	 * there before next; ERR_NOT_FOUND no such command; or what failed. */
	int err;
	enum output_stream stream;
	uint64_t offset;
	struct slice data;
	uint64_t next;
	const struct command_record *command; /* as stored */
};

typedef void replay_fn(struct conn *c, const struct replay_found *f);

/* Look for output from offset; found is called later, unless c is gone by
 * then or has moved to another lane.  What `who` may not see is not found;
 * NULL: that was judged before.  0, ERR_BUSY (all readers are at work: ask
 * again soon), ERR_NOMEM. */
int replay_look(struct conn *c, struct slice command_id,
    enum output_stream stream, uint64_t offset, const struct user_record *who,
    replay_fn *found);

#endif
