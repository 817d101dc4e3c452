/*
 * holder_tree: a command's whole process tree (muster-holder; libc only).
 *
 * The holder is a subreaper, so every descendant of the command stays a
 * descendant of the holder, whatever it forks and whatever session it opens.
 * A cgroup v2, where one may be made, kills them in one step; without it the
 * children lists of /proc are walked until none is left.
 */
#ifndef AGENT_HOLDER_TREE_H
#define AGENT_HOLDER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/cmdgroup.h"
#include "agent/holder_proto.h"

enum {
	TREE_PIDS = 32768,
	TREE_PID_LIMIT = 4 * 1024 * 1024, /* the kernel's for pid_max */
};

/* A few of possibly many, for people. */
struct tree_names {
	size_t count;
	pid_t pid[HOLDER_NAMES];
};

struct tree {
	pid_t leader; /* the command, leader of its group; 0 = none yet */
	int cgroup;   /* owned directory; -1 = none */
	int parent;   /* owned directory the cgroup is in; -1 */
	char name[CMDGROUP_NAME]; /* of the cgroup */
	size_t killed; /* processes that were sent SIGKILL, or died of it */
	struct tree_names named;            /* the first of them */
	uint64_t seen[TREE_PID_LIMIT / 64]; /* all of them, a bit each */
	pid_t pids[TREE_PIDS];
};

/* Make the cgroup below path, by cmdgroup_name; without one (path NULL, not
 * writable) go on. */
void tree_init(
    struct tree *t, const char *path, const char *cmd, const char *id);

/* In a new child that is not born there: step into the cgroup, while still
 * privileged. */
void tree_enter(const struct tree *t);

/* Live descendants of this process, at most TREE_PIDS, now in t->pids. */
size_t tree_count(struct tree *t);

/* The first of those that live. */
void tree_name(struct tree *t, struct tree_names *out);

/* sig to the leader's group once, and to every descendant outside it. */
void tree_signal(struct tree *t, int sig);

/* One pass of SIGKILL over all that are found; the caller reaps between
 * passes, and knows by that when nobody is left. */
void tree_kill(struct tree *t);

/* Count this one as killed, once however often it is told: who died between
 * two looks is known from its reaping alone. */
void tree_note(struct tree *t, pid_t pid);

/* Give the cgroup back, if nothing is in it. */
void tree_fini(struct tree *t);

#endif
