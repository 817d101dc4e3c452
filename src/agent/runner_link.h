/*
 * runner_link: a socket to one holder, idle or busy (agent).
 *
 * Frames of holder_proto.h over a libuv pipe.  A link is freed by itself
 * some turns after link_close, or after its end was told.
 */
#ifndef AGENT_RUNNER_LINK_H
#define AGENT_RUNNER_LINK_H

#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "io/loop.h"

enum { LINK_QUEUE = 4 * 1024 * 1024 }; /* most bytes waiting to be sent */

struct link;
struct link_home;

struct link_ops {
	void (*opened)(struct link *l, int err); /* after link_connect */
	void (*frame)(struct link *l, uint8_t type, struct slice body);
	void (*ended)(struct link *l);         /* not after link_close */
	void (*empty)(struct link_home *home); /* its last handle is gone */
};

/* Where links belong; embed it. */
struct link_home {
	struct loop *loop; /* borrowed, as ops */
	const struct link_ops *ops;
	struct list kids; /* holders we started and must reap */
	size_t handles;   /* not yet closed */
};

struct link {
	uv_pipe_t pipe;
	uv_connect_t connect;
	struct list idle;       /* in the pool */
	struct link_home *home; /* borrowed */
	void *run;              /* the owner's own */
	pid_t pid;              /* of the holder; 0 = not known */
	struct buf in;
	bool closing;
};

void link_home_init(
    struct link_home *h, struct loop *loop, const struct link_ops *ops);

/* Stop waiting for holders; empty follows when all links are closed too. */
void link_home_leave(struct link_home *h);

/* Start an idle holder; 0 or ERR_*. */
int link_spawn(struct link_home *h, const char *holder, struct link **out);

/* Connect to dir/ctl; opened is called later.  0 or ERR_*. */
int link_connect(struct link_home *h, const char *dir, struct link **out);

/* Queue a frame of up to two parts: 0, ERR_FULL, ERR_NOMEM, ERR_CLOSED. */
int link_send(struct link *l, uint8_t type, struct slice a, struct slice b);

void link_close(struct link *l);

#endif
