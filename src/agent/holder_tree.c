#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/holder_tree.h"

void
tree_init(struct tree *t, const char *path, const char *id)
{
	t->leader = 0;
	t->killed = t->named.count = 0;
	t->cgroup = t->parent = -1;
	if (path == NULL)
		return;
	(void)snprintf(t->name, sizeof(t->name), "muster-%s", id);
	t->parent = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (t->parent < 0 || mkdirat(t->parent, t->name, 0755) != 0)
		return;
	t->cgroup =
	    openat(t->parent, t->name, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	/* cgroup.kill is the point of it (Linux 5.14). */
	if (t->cgroup >= 0 && faccessat(t->cgroup, "cgroup.kill", W_OK, 0) != 0)
		tree_fini(t);
}

static bool
poke(int dir, const char *file, const char *text)
{
	int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	bool ok = write(fd, text, strlen(text)) > 0;
	close(fd);
	return ok;
}

void
tree_enter(const struct tree *t)
{
	if (t->cgroup >= 0)
		(void)poke(t->cgroup, "cgroup.procs", "0");
}

/* Add the decimal numbers in /proc/<pid>/task/<task>/children. */
static size_t
add_task(struct tree *t, size_t count, pid_t pid, const char *task)
{
	char path[64], text[4096];
	ssize_t len;
	pid_t n = 0;

	(void)snprintf(
	    path, sizeof(path), "/proc/%d/task/%.16s/children", pid, task);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return count;
	while ((len = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < len; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				n = n * 10 + (text[i] - '0');
				continue;
			}
			if (n > 0 && count < TREE_PIDS)
				t->pids[count++] = n;
			n = 0;
		}
	}
	close(fd);
	return count;
}

/* Children hang on the thread that forked them. */
static size_t
add_children(struct tree *t, size_t count, pid_t pid)
{
	char path[64];
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *d = opendir(path);
	if (d == NULL)
		return count;
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			count = add_task(t, count, pid, e->d_name);
	closedir(d);
	return count;
}

static bool
dead(pid_t pid)
{
	char path[32], text[512];

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return true;
	text[n] = '\0';
	/* The name may hold anything; the state follows its last bracket. */
	const char *state = strrchr(text, ')');
	return state == NULL || state[1] == '\0' || state[2] == 'Z' ||
	    state[2] == 'X';
}

size_t
tree_count(struct tree *t)
{
	size_t count = add_children(t, 0, getpid()), live = 0;

	for (size_t i = 0; i < count; i++)
		count = add_children(t, count, t->pids[i]);
	for (size_t i = 0; i < count; i++)
		if (!dead(t->pids[i]))
			t->pids[live++] = t->pids[i];
	return live;
}

void
tree_signal(struct tree *t, int sig)
{
	size_t count = tree_count(t);
	bool grouped = false;

	/* A group's number is not used again while one member lives. */
	for (size_t i = 0; i < count; i++) {
		if (getpgid(t->pids[i]) == t->leader)
			grouped = true;
		else
			(void)kill(t->pids[i], sig);
	}
	if (grouped)
		(void)kill(-t->leader, sig);
}

static void
add_name(struct tree_names *n, pid_t pid)
{
	if (n->count < HOLDER_NAMES)
		n->pid[n->count++] = pid;
}

void
tree_name(struct tree *t, struct tree_names *out)
{
	size_t count = tree_count(t);

	out->count = 0;
	for (size_t i = 0; i < count; i++)
		add_name(out, t->pids[i]);
}

/* Count who is killed once, however many passes it takes. */
static void
note(struct tree *t, pid_t pid)
{
	uint64_t bit = UINT64_C(1) << ((unsigned)pid % 64);
	uint64_t *word = &t->seen[(unsigned)pid % TREE_PID_LIMIT / 64];

	if ((*word & bit) != 0)
		return;
	*word |= bit;
	t->killed++;
	add_name(&t->named, pid);
}

/* SIGKILL to t->pids[from] up to t->pids[to]. */
static void
kill_some(struct tree *t, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		(void)kill(t->pids[i], SIGKILL);
	for (size_t i = from; i < to; i++)
		note(t, t->pids[i]);
}

bool
tree_kill(struct tree *t)
{
	if (t->cgroup >= 0)
		(void)poke(t->cgroup, "cgroup.kill", "1");
	/* Each dies as it is found: what a fork bomb makes meanwhile comes to
	 * us, its subreaper, and is found at the top by the next pass. */
	size_t count = add_children(t, 0, getpid());
	kill_some(t, 0, count);
	for (size_t i = 0; i < count; i++) {
		size_t more = add_children(t, count, t->pids[i]);
		kill_some(t, count, more);
		count = more;
	}
	return count == 0;
}

void
tree_fini(struct tree *t)
{
	if (t->cgroup >= 0) {
		close(t->cgroup);
		(void)unlinkat(t->parent, t->name, AT_REMOVEDIR);
	}
	if (t->parent >= 0)
		close(t->parent);
	t->cgroup = t->parent = -1;
}
