/*
 * netwatch: when the host's network has changed (agent).
 *
 * Addresses, links and routes by the kernel's netlink; told at most once in
 * NETWATCH_CALM ms, after the last change of a burst.
 */
#ifndef AGENT_NETWATCH_H
#define AGENT_NETWATCH_H

#include <uv.h>

#include "io/loop.h"

enum { NETWATCH_CALM = 500 };

struct netwatch {
	struct loop *loop;
	uv_poll_t poll;
	struct loop_timer calm;
	void (*changed)(void *arg);
	void *arg;
	int fd; /* -1 = closed */
};

/* 0 or ERR_*: then nothing will be told (some sandboxes forbid it). */
int netwatch_open(
    struct netwatch *n, struct loop *l, void (*changed)(void *arg), void *arg);
void netwatch_close(struct netwatch *n);

#endif
