/*
 * local: the socket of `muster-agent status` in the state directory (agent).
 *
 * Who connects is told one JSON object and the end; nothing is read.  The
 * socket is for the state directory's owner alone.
 */
#ifndef AGENT_LOCAL_H
#define AGENT_LOCAL_H

#include <uv.h>

#include "base/buf.h"
#include "io/loop.h"

enum { LOCAL_TEXT = 256 * 1024 };

struct local {
	uv_pipe_t pipe;
	void (*tell)(void *arg, struct buf *out);
	void *arg;
	bool open;
};

/* 0 or ERR_*: ERR_TOO_BIG when the path is too long for a socket. */
int local_open(struct local *l, struct loop *loop, const char *path,
    void (*tell)(void *arg, struct buf *out), void *arg);
void local_close(struct local *l);

/* The other end: the object, appended.  ERR_NOT_FOUND, ERR_REFUSED: no agent
 * runs there. */
int local_ask(const char *path, struct buf *out);

#endif
