#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/proctree.h"

/* Add the decimal numbers in /proc/<pid>/task/<task>/children. */
static size_t
add_task(pid_t *pids, size_t count, size_t room, pid_t pid, const char *task)
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
			if (n > 0 && count < room)
				pids[count++] = n;
			n = 0;
		}
	}
	close(fd);
	return count;
}

/* Children hang on the thread that forked them. */
size_t
proctree_add(pid_t *pids, size_t count, size_t room, pid_t pid)
{
	char path[64];
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *d = opendir(path);
	if (d == NULL)
		return count;
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			count = add_task(pids, count, room, pid, e->d_name);
	closedir(d);
	return count;
}

bool
proctree_dead(pid_t pid)
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
