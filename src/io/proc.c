#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "io/sys.h"

#include "io/proc.h"

/*
 * Design notes.  fork, not posix_spawn: that can neither change the user nor
 * take a directory after it.  Between fork and exec the child only makes
 * system calls, and reports a failed step through a pipe that exec closes;
 * so proc_start knows whether the program runs before it returns.
 */

/* In the child ------------------------------------------------------------- */

/* By the kernel's own call: the C library keeps two signals to itself, and
 * whoever started us may have left them ignored. */
static void
reset_signals(void)
{
	const struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		uint64_t mask;
	} dfl = { .handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++) /* fails for KILL and STOP */
		syscall(SYS_rt_sigaction, i, &dfl, NULL, sizeof(dfl.mask));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* One past the highest number that the child is to see; at least 3. */
static int
first_free(const struct proc_config *c)
{
	int n = 3;

	for (size_t i = 0; i < c->fd_count; i++) {
		if (c->fds[i].child >= n)
			n = c->fds[i].child + 1;
	}
	return n;
}

static bool
is_given(const struct proc_config *c, int fd)
{
	for (size_t i = 0; i < c->fd_count; i++) {
		if (c->fds[i].child == fd)
			return true;
	}
	return false;
}

/* Leave exactly the given descriptors, and report until exec. */
static bool
arrange_fds(const struct proc_config *c, int *report)
{
	int at[PROC_FDS], base = first_free(c);

	/* All out of the way first, so that none is overwritten. */
	*report = fcntl(*report, F_DUPFD_CLOEXEC, base);
	if (*report < 0)
		return false;
	for (size_t i = 0; i < c->fd_count; i++) {
		at[i] = fcntl(c->fds[i].parent, F_DUPFD_CLOEXEC, base);
		if (at[i] < 0)
			return false;
	}
	for (int fd = 0; fd < base; fd++) {
		if (!is_given(c, fd))
			close(fd);
	}
	for (size_t i = 0; i < c->fd_count; i++) {
		if (dup2(at[i], c->fds[i].child) < 0)
			return false;
	}
	for (int fd = 0; fd < 3; fd++) {
		/* The lowest free number is the one wanted. */
		if (!is_given(c, fd) && open("/dev/null", O_RDWR) != fd)
			return false;
	}
	return syscall(SYS_close_range, base, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

static bool
become_user(const struct proc_config *c)
{
	return !c->set_user ||
	    (setgroups(c->group_count, c->groups) == 0 &&
		setresgid(c->gid, c->gid, c->gid) == 0 &&
		setresuid(c->uid, c->uid, c->uid) == 0);
}

/* execve takes what it does not change as changeable. */
static char *const *
vector(const char *const *v)
{
	static const char *const empty[] = { NULL };
	union {
		const char *const *in;
		char *const *out;
	} u = { v == NULL ? empty : v };

	return u.out;
}

static _Noreturn void
child(const struct proc_config *c, int report)
{
	int number;

	if (arrange_fds(c, &report) && (!c->setsid || setsid() >= 0) &&
	    become_user(c) && (c->cwd == NULL || chdir(c->cwd) == 0)) {
		if (c->umask != 0)
			umask(c->umask);
		reset_signals();
		execve(c->path, vector(c->argv), vector(c->env));
	}
	number = errno;
	while (write(report, &number, sizeof(number)) < 0 && errno == EINTR)
		continue;
	_exit(127);
}

/* In the parent ------------------------------------------------------------ */

static int
reap(pid_t pid, struct proc_exit *out)
{
	int status;
	pid_t r;

	do
		r = waitpid(pid, &status, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return sys_err(errno);
	bool killed = WIFSIGNALED(status);
	*out = (struct proc_exit){
		.code = killed ? -1 : WEXITSTATUS(status),
		.signal = killed ? WTERMSIG(status) : 0,
	};
	return 0;
}

/* The child's errno, or 0 when exec closed the pipe. */
static int
read_report(int fd)
{
	int number = 0;
	ssize_t n;

	do
		n = read(fd, &number, sizeof(number));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(number) ? number : 0;
}

/* Whether the program runs; otherwise the child is reaped. */
static int
confirm(int report, struct proc *p)
{
	struct proc_exit how;

	int err = read_report(report);
	if (err == 0) {
		p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
		if (p->pidfd >= 0)
			return 0;
		err = errno;
		kill(p->pid, SIGKILL);
	}
	reap(p->pid, &how);
	return sys_err(err);
}

/*
 * All signals are blocked across the fork: none of our handlers may run in
 * the child.
 */
static pid_t
fork_child(const struct proc_config *c, int report)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid_t pid = fork();
	if (pid == 0)
		child(c, report);
	int number = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = number;
	return pid;
}

int
proc_start(const struct proc_config *c, struct proc *p)
{
	int report[2], err;

	if (c->fd_count > PROC_FDS)
		return ERR_INVALID;
	if (pipe2(report, O_CLOEXEC) < 0)
		return sys_err(errno);
	struct proc new = { .pidfd = -1 };
	new.pid = fork_child(c, report[1]);
	err = new.pid < 0 ? sys_err(errno) : 0;
	close(report[1]);
	if (err == 0)
		err = confirm(report[0], &new);
	close(report[0]);
	if (err == 0)
		*p = new;
	return err;
}

static void
drop_pidfd(struct proc *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
}

static void
on_poll_closed(uv_handle_t *h)
{
	struct proc *p = LIST_OF(h, struct proc, poll);

	p->watched = false;
	if (p->exited != NULL)
		p->exited(p, p->how);
	else if (p->forgotten != NULL)
		p->forgotten(p);
}

static void
on_readable(uv_poll_t *poll, int status, int events)
{
	struct proc *p = LIST_OF(poll, struct proc, poll);

	(void)status, (void)events;
	/* A pidfd is readable when the process has ended. */
	int err = reap(p->pid, &p->how);
	assert(err == 0);
	(void)err;
	uv_close((uv_handle_t *)poll, on_poll_closed);
	drop_pidfd(p);
}

int
proc_watch(struct proc *p, struct loop *l,
    void (*exited)(struct proc *p, struct proc_exit how))
{
	assert(!p->watched && p->pidfd >= 0);
	int err = uv_poll_init(&l->uv, &p->poll, p->pidfd);
	if (err != 0)
		return sys_err(-err);
	p->exited = exited;
	p->watched = true;
	err = uv_poll_start(&p->poll, UV_READABLE, on_readable);
	assert(err == 0); /* fails only on a closing handle */
	(void)err;
	return 0;
}

int
proc_wait(struct proc *p, struct proc_exit *out)
{
	assert(!p->watched);
	int err = reap(p->pid, out);
	drop_pidfd(p);
	return err;
}

int
proc_kill(struct proc *p, int number)
{
	if (p->pidfd < 0)
		return ERR_GONE;
	if (syscall(SYS_pidfd_send_signal, p->pidfd, number, NULL, 0) < 0)
		return sys_err(errno);
	return 0;
}

int
proc_kill_group(struct proc *p, int number)
{
	/* Not reaped yet, so its number, and the group's, is still its own. */
	if (p->pidfd < 0)
		return ERR_GONE;
	return kill(-p->pid, number) < 0 ? sys_err(errno) : 0;
}

void
proc_forget(struct proc *p, void (*closed)(struct proc *p))
{
	uv_handle_t *h = (uv_handle_t *)&p->poll;

	assert(p->watched);
	p->exited = NULL;
	p->forgotten = closed;
	if (!uv_is_closing(h))
		uv_close(h, on_poll_closed);
	drop_pidfd(p);
}
