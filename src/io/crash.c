#include "io/crash.h"

#ifdef MUSTER_TEST_CRASH

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT = 64 };

/* The file's first word; false without one.  Points are on many threads. */
static bool
look(const char *file, char path[4096], char text[TEXT])
{
	const char *dir = getenv("MUSTER_CRASH");

	if (dir == NULL || snprintf(path, 4096, "%s/%s", dir, file) >= 4096)
		return false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, TEXT - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return n > 0;
}

void
crash_point(const char *name)
{
	char path[4096], text[TEXT];

	if (!look("at", path, text) || strcmp(text, name) != 0 ||
	    unlink(path) != 0)
		return;
	(void)kill(getpid(), SIGKILL);
	for (;;)
		(void)pause();
}

int64_t
crash_clock(void)
{
	char path[4096], text[TEXT];

	return look("clock", path, text) ? strtoll(text, NULL, 10) : 0;
}

char **
crash_env(void)
{
	static char pair[4096], *env[2];
	const char *dir = getenv("MUSTER_CRASH");

	if (dir == NULL)
		return env + 1;
	(void)snprintf(pair, sizeof(pair), "MUSTER_CRASH=%s", dir);
	env[0] = pair;
	return env;
}

#endif
