/*
 * cmdgroup: what a command's cgroup is called (agent and muster-holder; libc
 * only).
 *
 * An id is one controller's, and several agents of a host may make cgroups in
 * the same place: whose it is, the directory says that its command's is in.
 */
#ifndef AGENT_CMDGROUP_H
#define AGENT_CMDGROUP_H

#include "agent/holder_proto.h"

enum { CMDGROUP_NAME = HOLDER_ID_MAX + 48 };

/* For the command <cmd>/<id>; -1 when cmd is not there. */
int cmdgroup_name(char out[CMDGROUP_NAME], const char *cmd, const char *id);

#endif
