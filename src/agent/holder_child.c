#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/holder_child.h"

struct ends {
	int in[2], out[2], err[2], fault[2];
};

const char *
child_stage_name(int32_t stage)
{
	static const char *const names[] = { "groups", "user", "cwd", "exec" };

	return stage < 0 || stage > CHILD_EXEC ? "start" : names[stage];
}

static void
reset_signals(void)
{
	struct sigaction act = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &act, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Irrevocably: real, effective and saved ids, groups first. */
static int
become(const struct order *o, int32_t *stage)
{
	if (o->uid == UINT64_MAX)
		return 0;
	*stage = CHILD_GROUPS;
	if (geteuid() == 0 && setgroups(o->groups, o->group) != 0)
		return -1;
	*stage = CHILD_USER;
	if (o->uid > UINT32_MAX - 1 || o->gid > UINT32_MAX - 1) {
		errno = EINVAL;
		return -1;
	}
	gid_t gid = (gid_t)o->gid;
	uid_t uid = (uid_t)o->uid;
	return setresgid(gid, gid, gid) != 0 ? -1 : setresuid(uid, uid, uid);
}

static int
prepare(const struct order *o, const struct ends *e, int32_t *stage)
{
	int null = o->input ? -1 : open("/dev/null", O_RDONLY);

	*stage = CHILD_EXEC;
	if (dup2(o->input ? e->in[0] : null, 0) < 0 || dup2(e->out[1], 1) < 0 ||
	    dup2(e->err[1], 2) < 0)
		return -1;
	if (become(o, stage) != 0)
		return -1;
	*stage = CHILD_CWD;
	if (chdir(o->cwd == NULL ? "/" : o->cwd) != 0)
		return -1;
	/* Nothing but 0 to 2 gets through exec, whoever opened it. */
	*stage = CHILD_EXEC;
	return close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

static _Noreturn void
run(const struct order *o, const struct ends *e)
{
	struct child_fault fault = { 0 };

	(void)setsid();
	reset_signals();
	(void)umask(022);
	if (prepare(o, e, &fault.stage) == 0) {
		/* execvp looks for a bare name along the new PATH. */
		environ = (char **)(uintptr_t)o->env;
		execvp(o->arg[0], o->arg);
	}
	fault.error = errno;
	(void)!write(e->fault[1], &fault, sizeof(fault));
	_exit(fault.error == ENOENT ? 127 : 126);
}

static void
close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
	pair[0] = pair[1] = -1;
}

static int
keep(int pair[2], int which)
{
	int fd = pair[which];

	pair[which] = -1;
	if (fd >= 0)
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/*
 * Born in its cgroup: to move there afterwards waits milliseconds for the
 * kernel to agree with all CPUs.  There is one thread yet, so that the child
 * of a bare clone may use libc.
 */
static pid_t
fork_into(const struct tree *t)
{
	struct clone_args a = { .flags = CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (unsigned)t->cgroup };
	pid_t pid = -1;

	if (t->cgroup >= 0)
		pid = (pid_t)syscall(SYS_clone3, &a, sizeof(a));
	if (pid >= 0)
		return pid;
	pid = fork();
	if (pid == 0)
		tree_enter(t);
	return pid;
}

int
child_start(struct child *c, const struct order *o, const struct tree *t)
{
	struct ends e = { { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };

	c->pid = -1;
	if ((!o->input || pipe2(e.in, O_CLOEXEC) == 0) &&
	    pipe2(e.out, O_CLOEXEC) == 0 && pipe2(e.err, O_CLOEXEC) == 0 &&
	    pipe2(e.fault, O_CLOEXEC) == 0)
		c->pid = fork_into(t);
	if (c->pid == 0)
		run(o, &e);
	if (c->pid > 0) {
		c->in = keep(e.in, 1);
		c->out = keep(e.out, 0);
		c->err = keep(e.err, 0);
		c->fault = keep(e.fault, 0);
	}
	int err = errno;
	close_pair(e.in);
	close_pair(e.out);
	close_pair(e.err);
	close_pair(e.fault);
	errno = err;
	return c->pid > 0 ? 0 : -1;
}
