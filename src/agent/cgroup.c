#include <mntent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#include "agent/cgroup.h"

/* Where the one hierarchy of version 2 is mounted. */
static int
find_mount(char out[CGROUP_PATH])
{
	char line[CGROUP_PATH];
	struct mntent m, *got;
	int err = ERR_NOT_FOUND;
	FILE *f = setmntent("/proc/self/mounts", "re");

	if (f == NULL)
		return err;
	while (
	    err != 0 && (got = getmntent_r(f, &m, line, sizeof(line))) != NULL)
		if (strcmp(got->mnt_type, "cgroup2") == 0 &&
		    strlen(got->mnt_dir) < CGROUP_PATH / 2) {
			(void)snprintf(out, CGROUP_PATH, "%s", got->mnt_dir);
			err = 0;
		}
	(void)endmntent(f);
	return err;
}

/* Our path in it: the line "0::<path>". */
static int
find_path(char out[CGROUP_PATH / 2])
{
	char line[CGROUP_PATH / 2];
	int err = ERR_NOT_FOUND;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (f == NULL)
		return err;
	while (err != 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "0::/", 4) == 0) {
			line[strcspn(line, "\n")] = '\0';
			(void)snprintf(out, CGROUP_PATH / 2, "%s", line + 3);
			err = 0;
		}
	(void)fclose(f);
	return err;
}

/* Only a group that is made shows whether it can be killed: the hierarchy's
 * root has no cgroup.kill. */
static bool
may_make(const char *dir)
{
	char path[CGROUP_PATH + 64];

	(void)snprintf(
	    path, sizeof(path), "%s/muster-probe-%d", dir, (int)getpid());
	if (mkdir(path, 0755) != 0)
		return false;
	size_t n = strlen(path);
	(void)snprintf(path + n, sizeof(path) - n, "/cgroup.kill");
	bool may = access(path, W_OK) == 0;
	path[n] = '\0';
	(void)rmdir(path);
	return may;
}

int
cgroup_find(char out[CGROUP_PATH])
{
	char path[CGROUP_PATH / 2];
	int err = find_mount(out);

	if (err == 0)
		err = find_path(path);
	if (err != 0)
		return err;
	size_t n = strlen(out);
	if (strcmp(path, "/") != 0)
		(void)snprintf(out + n, CGROUP_PATH - n, "%s", path);
	return may_make(out) ? 0 : ERR_NOT_FOUND;
}
