#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/proctree.h"

#include "agent/holder_tree.h"

void
tree_init(struct tree *t, const char *path, const char *cmd, const char *id)
{
	t->leader = 0;
	t->killed = t->named.count = 0;
	t->cgroup = t->parent = -1;
	if (path == NULL || cmdgroup_name(t->name, cmd, id) != 0)
		return;
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

size_t
tree_count(struct tree *t)
{
	size_t count = proctree_add(t->pids, 0, TREE_PIDS, getpid()), live = 0;

	for (size_t i = 0; i < count; i++)
		count = proctree_add(t->pids, count, TREE_PIDS, t->pids[i]);
	for (size_t i = 0; i < count; i++)
		if (!proctree_dead(t->pids[i]))
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

void
tree_note(struct tree *t, pid_t pid)
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
		tree_note(t, t->pids[i]);
}

void
tree_kill(struct tree *t)
{
	if (t->cgroup >= 0)
		(void)poke(t->cgroup, "cgroup.kill", "1");
	/* Each dies as it is found: what a fork bomb makes meanwhile comes to
	 * us, its subreaper, and is found at the top by the next pass. */
	size_t count = proctree_add(t->pids, 0, TREE_PIDS, getpid());
	kill_some(t, 0, count);
	for (size_t i = 0; i < count; i++) {
		size_t more =
		    proctree_add(t->pids, count, TREE_PIDS, t->pids[i]);
		kill_some(t, count, more);
		count = more;
	}
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
