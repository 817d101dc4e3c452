/*
 * agent: what all links of one running agent share (agent).
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "io/loop.h"
#include "wire/http1.h"
#include "wire/wsconn.h"

#include "agent/account.h"
#include "agent/cgroup.h"
#include "agent/policy.h"
#include "agent/probe.h"
#include "agent/state.h"
#include "agent/stop.h"
#include "agent/target.h"

struct agent {
	struct loop loop;
	struct state state;
	struct policy policy;
	char policy_error[POLICY_WHY]; /* of the last reload; "" */
	struct account account;
	bool has_account;
	struct probe_facts facts;
	char holder[STATE_PATH];  /* the program */
	char cgroup[CGROUP_PATH]; /* where commands may have their own */
	bool has_cgroup;
	char stop_path[STATE_PATH]; /* of the file STOP */
	struct stop_local local_stop;
	struct wsconn_lane ws;
	struct wsconn_config ws_config;
	struct http1_head head;   /* scratch of handshakes */
	size_t connections;       /* not yet closed, of all links and tunnels */
	char domain[TARGET_HOST]; /* of the cluster it runs in; "" */
};

#endif
