/*
 * cgroup: where commands may have cgroups of their own (agent).
 */
#ifndef AGENT_CGROUP_H
#define AGENT_CGROUP_H

enum { CGROUP_PATH = 4096 };

/*
 * The directory of this process's own cgroup v2, when cgroups may be made
 * in it and the kernel can kill one (Linux 5.14); as systemd gives it with
 * Delegate=yes.  0 or ERR_NOT_FOUND.
 */
int cgroup_find(char out[CGROUP_PATH]);

#endif
