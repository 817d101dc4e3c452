/*
 * sink: an output that may be slower than what is written to it (floor:
 * cli).
 *
 * Never blocks, so that a command's connection shows life and Ctrl-C works
 * while a reader is slow; what does not go out at once is kept, and whoever
 * writes stops its source while sink_pending says so.  The descriptor's own
 * flags, which other programs share, are left alone.
 */
#ifndef CLI_SINK_H
#define CLI_SINK_H

#include <stdbool.h>

#include "base/buf.h"

enum sink_way {
	SINK_PLAIN,  /* files and devices: always ready */
	SINK_OWN,    /* a pipe or terminal opened again, non-blocking */
	SINK_SOCKET, /* MSG_DONTWAIT */
	SINK_CAREFUL /* poll, then no more than a pipe takes at once */
};

struct sink {
	int fd;      /* what is written and polled; owned if SINK_OWN */
	int err;     /* sticky: ERR_CLOSED when the reader has gone, ERR_* */
	uint8_t way; /* enum sink_way */
	struct buf kept;
};

void sink_init(struct sink *s, int fd);
void sink_fini(struct sink *s);

/* Write, or keep: 0 or the sticky err, ERR_FULL, ERR_NOMEM included. */
int sink_put(struct sink *s, struct slice bytes);

/* Write what is kept, as far as it goes.  0 or the sticky err. */
int sink_flush(struct sink *s);

/* Something is kept: poll s->fd for POLLOUT, then flush. */
bool sink_pending(const struct sink *s);

#endif
