/*
 * streams: both ends of real sockets on one loop (tests of io).
 *
 * Everything waits for a condition, never for time: until() takes loop turns
 * until the condition holds, and an alarm ends a test that hangs.
 */
#ifndef SUPPORT_STREAMS_H
#define SUPPORT_STREAMS_H

#include "base/buf.h"

#include "io/loop.h"
#include "io/stream.h"

/* An owner of a stream that remembers everything. */
struct probe {
	struct stream *s; /* NULL once closed */
	struct buf got;
	size_t reads, pulls, drains;
	bool eof;
	bool closed;
	int why;
	bool echo; /* write back what comes */
	void (*on_read)(struct probe *p);
	void (*on_pull)(struct probe *p, size_t room);
};

void probe_init(struct probe *p);
void probe_fini(struct probe *p);
/* Own s from now on. */
void probe_start(struct probe *p, struct stream *s);
/* As accept_fn: the owner is the probe. */
void probe_accept(void *owner, struct stream *s);

/* A pair of connected, non-blocking TCP sockets on 127.0.0.1. */
void tcp_pair(int fd[2]);

#define until(l, condition)                 \
	do {                                \
		alarm(20);                  \
		while (!(condition))        \
			loop_turn(l, true); \
		alarm(0);                   \
	} while (0)

#endif
