/*
 * proc: start a program and learn how it ended (floor: io).
 *
 * A child is held by a pidfd, so no signal ever reaches a stranger who got
 * the same number later, and nothing here touches SIGCHLD.  The child starts
 * with exactly the descriptors it is given, default signals, none blocked.
 *
 * Life: proc_start -> proc_watch -> exited, once, from the loop; or
 * proc_start -> proc_wait.  proc_forget ends a watch early.
 */
#ifndef IO_PROC_H
#define IO_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

#include "io/loop.h"

struct proc_fd {
	int parent; /* a descriptor here, borrowed */
	int child;  /* its number there */
};

struct proc_config {
	const char *path;        /* the program itself; PATH is not searched */
	const char *const *argv; /* NULL-terminated, like env */
	const char *const *env;  /* NULL = nothing at all */
	const char *cwd;         /* NULL = the same; entered as the user */
	const struct proc_fd *fds; /* what is not listed is closed; 0, 1, 2 */
	size_t fd_count;           /*   that are not listed are /dev/null */
	bool set_user;             /* become uid, gid and groups */
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* supplementary */
	size_t group_count;
	bool setsid;    /* a session of its own, so a process group too */
	unsigned umask; /* 0 = the same */
};

enum { PROC_FDS = 16 };

struct proc_exit {
	int code;   /* 0 to 255; -1 when a signal ended it */
	int signal; /* 0 when it exited */
};

struct proc {
	pid_t pid;
	int pidfd; /* owned; -1 = ended or forgotten */
	uv_poll_t poll;
	struct proc_exit how;
	void (*exited)(struct proc *p, struct proc_exit how);
	void (*forgotten)(struct proc *p);
	bool watched;
};

/*
 * 0, or why the program could not be started: ERR_NOT_FOUND, ERR_DENIED,
 * ERR_TYPE (not a program), ERR_INVALID (too many fds), ERR_AGAIN (too many
 * processes), ...; then nothing runs and nothing is open.
 */
int proc_start(const struct proc_config *c, struct proc *p);

/*
 * Call exited in the loop when the process has ended; it is then reaped and
 * p may be freed, from inside exited too.  0 or ERR_*.
 */
int proc_watch(struct proc *p, struct loop *l,
    void (*exited)(struct proc *p, struct proc_exit how));

/* Block until it ends; for programs without a loop.  0 or ERR_*. */
int proc_wait(struct proc *p, struct proc_exit *out);

/* 0, or ERR_GONE when it has ended. */
int proc_kill(struct proc *p, int number);

/* The same for its process group (setsid was set), while it lives. */
int proc_kill_group(struct proc *p, int number);

/*
 * Stop watching a child that is to outlive us (when we end: it becomes a
 * zombie if it ends first).  closed, when not NULL, says that p may be freed.
 */
void proc_forget(struct proc *p, void (*closed)(struct proc *p));

#endif
