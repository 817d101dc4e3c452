#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"
#include "io/proc.h"

#include "support/unit.h"

static char text[4096];
static struct proc_exit how;

/* Run a shell script with its output into text; how it ended into how. */
static void
run(const char *script, struct proc_config c)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	struct proc_fd out[3] = { { 0, 1 }, { 0, 2 } };
	struct proc p;
	int ends[2];
	size_t len = 0;
	ssize_t n;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	out[0].parent = out[1].parent = ends[1];
	c.path = "/bin/sh";
	c.argv = argv;
	if (c.fd_count == 0) {
		c.fds = out;
		c.fd_count = 2;
	}
	assert_int_equal(proc_start(&c, &p), 0);
	close(ends[1]);
	while ((n = read(ends[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(ends[0]);
	assert_int_equal(proc_wait(&p, &how), 0);
	assert_int_equal(proc_kill(&p, 0), ERR_GONE);
}

#define RUN(script, ...) run(script, (struct proc_config){ __VA_ARGS__ })

static void
test_ends(void **state)
{
	(void)state;
	RUN("exit 7", .cwd = NULL);
	assert_int_equal(how.code, 7);
	assert_int_equal(how.signal, 0);
	RUN("kill -KILL $$", .cwd = NULL);
	assert_int_equal(how.code, -1);
	assert_int_equal(how.signal, SIGKILL);
}

static void
test_surroundings(void **state)
{
	const char *env[] = { "A=1", "B=two words", NULL };

	(void)state;
	RUN("echo \"$A $B\"; pwd; umask", .env = env, .cwd = "/proc",
	    .umask = 027);
	assert_string_equal(text, "1 two words\n/proc\n0027\n");
	RUN("echo \"[$HOME]\"", .cwd = NULL);
	assert_string_equal(text, "[]\n");
}

/* Exactly the given descriptors: no accidental ones, none missing. */
static void
test_descriptors(void **state)
{
	(void)state;
	int stray = open("/dev/null", O_RDONLY); /* not close-on-exec */
	int high = fcntl(stray, F_DUPFD, 100);

	assert_true(stray >= 0 && high >= 100);
	RUN("cd /proc/$$/fd; for f in *; do [ -e $f ] && echo $f; done;"
	    "readlink 0",
	    .cwd = NULL);
	assert_non_null(strstr(text, "0\n1\n2\n"));
	assert_non_null(strstr(text, "/dev/null\n"));
	char number[16];
	snprintf(number, sizeof(number), "\n%d\n", high);
	assert_null(strstr(text, number));
	snprintf(number, sizeof(number), "\n%d\n", stray);
	assert_null(strstr(text, number));
	close(stray);
	close(high);
}

/* Two descriptors change places, and one is handed down twice. */
static void
test_swapped(void **state)
{
	int a[2], b[2];
	char got[8] = { 0 };

	(void)state;
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
	const struct proc_fd fds[] = { { a[1], b[1] }, { b[1], a[1] },
		{ a[1], 1 } };
	char script[64];
	snprintf(script, sizeof(script), "echo to_a; echo >&%d to_b", a[1]);
	if (a[1] > 9) /* dash knows one digit */
		skip();
	RUN(script, .fds = fds, .fd_count = 3);
	assert_int_equal(how.code, 0);
	assert_int_equal(read(a[0], got, sizeof(got)), 5);
	assert_memory_equal(got, "to_a\n", 5);
	assert_int_equal(read(b[0], got, sizeof(got)), 5);
	assert_memory_equal(got, "to_b\n", 5);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

/* A program starts with default signals, none blocked. */
static void
test_signals(void **state)
{
	sigset_t set, old;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	signal(SIGPIPE, SIG_IGN);
	RUN("grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t'",
	    .cwd = NULL);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_string_equal(
	    text, "SigBlk:0000000000000000\nSigIgn:0000000000000000\n");
}

static void
test_cannot_start(void **state)
{
	const char *argv[] = { "x", NULL };
	struct proc_config c = { .path = "/no/such", .argv = argv };
	struct proc p = { .pid = 77 };
	struct proc_fd bad = { 999, 0 };

	(void)state;
	assert_int_equal(proc_start(&c, &p), ERR_NOT_FOUND);
	c.path = "/etc/passwd";
	assert_int_equal(proc_start(&c, &p), ERR_DENIED);
	c.path = "/bin/true";
	c.cwd = "/no/such";
	assert_int_equal(proc_start(&c, &p), ERR_NOT_FOUND);
	c.cwd = NULL;
	c.fds = &bad;
	c.fd_count = 1;
	assert_true(proc_start(&c, &p) < 0);
	c.fd_count = PROC_FDS + 1;
	assert_int_equal(proc_start(&c, &p), ERR_INVALID);
	assert_int_equal(p.pid, 77);
	/* Nothing is left to wait for. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void
test_user(void **state)
{
	const gid_t groups[] = { 7, 9 };

	(void)state;
	if (geteuid() != 0) {
		RUN("id -u", .set_user = false);
		return;
	}
	RUN("grep -E '^(Uid|Gid|Groups)' /proc/self/status | tr '\\t' ' '",
	    .set_user = true, .uid = 54321, .gid = 54322, .groups = groups,
	    .group_count = 2);
	assert_string_equal(text,
	    "Uid: 54321 54321 54321 54321\n"
	    "Gid: 54322 54322 54322 54322\n"
	    "Groups: 7 9 \n");
}

/* On a loop ------------------------------------------------------------------
 */

static struct loop loop;
static int ended, forgotten;

static void
on_exited(struct proc *p, struct proc_exit e)
{
	how = e;
	ended++;
	alloc_free(p);
	loop_stop(&loop);
}

static struct proc *
start(const char *script, bool setsid)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	const struct proc_config c = {
		.path = "/bin/sh", .argv = argv, .setsid = setsid
	};
	struct proc *p = alloc_new(sizeof(*p));

	assert_non_null(p);
	assert_int_equal(proc_start(&c, p), 0);
	return p;
}

static void
test_watch(void **state)
{
	(void)state;
	ended = 0;
	assert_int_equal(loop_init(&loop, 8), 0);
	struct proc *p = start("exit 3", false);
	assert_int_equal(proc_watch(p, &loop, on_exited), 0);
	loop_run(&loop);
	assert_int_equal(ended, 1);
	assert_int_equal(how.code, 3);

	/* It ended long before it is watched. */
	p = start("exit 4", false);
	siginfo_t info;
	assert_int_equal(
	    waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(proc_watch(p, &loop, on_exited), 0);
	loop_run(&loop);
	assert_int_equal(how.code, 4);
	loop_fini(&loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* The whole group hears it: the grandchild holds the pipe until it dies. */
static void
test_kill_group(void **state)
{
	const char *argv[] = { "sh", "-c", "sleep 600 & echo up; wait", NULL };
	int ends[2];
	char got[4];

	(void)state;
	assert_int_equal(loop_init(&loop, 8), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	const struct proc_fd out = { ends[1], 1 };
	struct proc *p = alloc_new(sizeof(*p));
	assert_non_null(p);
	assert_int_equal(proc_start(&(struct proc_config){ .path = "/bin/sh",
					.argv = argv,
					.fds = &out,
					.fd_count = 1,
					.setsid = true },
			     p),
	    0);
	close(ends[1]);
	assert_int_equal(read(ends[0], got, 3), 3);
	assert_int_equal(getsid(p->pid), p->pid);
	assert_int_equal(proc_watch(p, &loop, on_exited), 0);
	assert_int_equal(proc_kill_group(p, SIGTERM), 0);
	loop_run(&loop);
	assert_int_equal(how.signal, SIGTERM);
	assert_int_equal(read(ends[0], got, 1), 0);
	close(ends[0]);
	loop_fini(&loop);
}

static void
on_forgotten(struct proc *p)
{
	forgotten++;
	alloc_free(p);
}

static void
test_forget(void **state)
{
	(void)state;
	ended = forgotten = 0;
	assert_int_equal(loop_init(&loop, 8), 0);
	struct proc *p = start("exec sleep 600", false);
	pid_t pid = p->pid;
	assert_int_equal(proc_watch(p, &loop, on_exited), 0);
	proc_forget(p, on_forgotten);
	loop_fini(&loop);
	assert_int_equal(forgotten, 1);
	assert_int_equal(ended, 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_surroundings),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_swapped),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_cannot_start),
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_kill_group),
		cmocka_unit_test(test_forget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
