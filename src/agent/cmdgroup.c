#include <stdio.h>
#include <sys/stat.h>

#include "agent/cmdgroup.h"

int
cmdgroup_name(char out[CMDGROUP_NAME], const char *cmd, const char *id)
{
	struct stat st;

	if (stat(cmd, &st) != 0)
		return -1;
	(void)snprintf(out, CMDGROUP_NAME, "muster-%llx.%llx-%s",
	    (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, id);
	return 0;
}
