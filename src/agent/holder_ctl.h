/*
 * holder_ctl: the control socket's connections (muster-holder; libc only).
 *
 * Framing and pacing alone; what frames mean is holder.c's.  Words for an
 * agent are never queued: each connection remembers what it is owed, and a
 * frame is made of the state as it is when the socket takes it.  So a slow
 * agent costs nothing and one that went away costs nothing at all.
 */
#ifndef AGENT_HOLDER_CTL_H
#define AGENT_HOLDER_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/holder_proto.h"

enum ctl_owes {
	CTL_STATUS = 1,
	CTL_CONSUMED = 2,
	CTL_GREW = 4,
	CTL_EXIT = 8,
	CTL_REFUSED = 16,
};

struct ctl_conn {
	int fd;        /* owned; -1 = free */
	unsigned owes; /* enum ctl_owes */
	unsigned serial;
	bool armed;       /* a GREW was asked for */
	uint8_t flags;    /* of the last one */
	uint64_t seen[2]; /* and what the agent had by then */
	size_t in_len;
	size_t out_at, out_len;
	uint8_t out[HOLDER_HEAD + HOLDER_TEXT_MAX];
	uint8_t in[HOLDER_HEAD + HOLDER_FRAME_MAX];
};

struct ctl {
	int listener; /* owned */
	unsigned serial;
	struct ctl_conn conns[HOLDER_CONNS];
};

/* Wait at fd 0 for an order's body: its length, 0 when none will come. */
size_t ctl_read_order(char *text, size_t room);

/* Whether a stop waits at fd 0, behind the order. */
bool ctl_stop_waits(void);

/* Say at fd 0 why nothing will run; 1, the exit status. */
int ctl_refuse(const char *reason, const char *error);

void ctl_init(struct ctl *c);

/* Bind and listen at "ctl" in the working directory: 0 or -1 (errno). */
int ctl_listen(struct ctl *c);

/* Take fd over as a connection; the oldest gives way.  NULL when refused. */
struct ctl_conn *ctl_add(struct ctl *c, int fd);

/* Take who waits at the listener, if it is our user or root. */
struct ctl_conn *ctl_accept(struct ctl *c);

/* Read what is there; -1 when the connection ended (and is closed). */
int ctl_read(struct ctl_conn *c);

/*
 * The next whole frame: 1 and body (borrowed until ctl_eat), 0 none yet, -1
 * when it cannot be one.
 */
int ctl_next(
    const struct ctl_conn *c, uint8_t *type, const uint8_t **body, size_t *len);
void ctl_eat(struct ctl_conn *c);

/* Make a frame; the connection's last one must have left (ctl_idle). */
void ctl_put(struct ctl_conn *c, uint8_t type, const void *body, size_t len);
bool ctl_idle(const struct ctl_conn *c);

/* Write what the socket takes; -1 when the connection ended. */
int ctl_write(struct ctl_conn *c);

void ctl_close(struct ctl_conn *c);

#endif
