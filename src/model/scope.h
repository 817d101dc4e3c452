/*
 * scope: what a credential permits (floor: model).
 *
 * A scope is a bit and a name; a role is a set of scopes.  Tokens carry
 * scopes, users carry a role; what a token of a user may do is both.
 */
#ifndef MODEL_SCOPE_H
#define MODEL_SCOPE_H

#include <stdint.h>

#include "base/slice.h"

typedef uint32_t scope_set;

/* clang-format off */
#define SCOPE_LIST(X)                                  \
	X(CLUSTER_REGISTER,  0, "cluster:register")    \
	X(CLUSTER_HEARTBEAT, 1, "cluster:heartbeat")   \
	X(AGENT_CONNECT,     2, "agent:connect")       \
	X(AGENT_READ,        3, "agent:read")          \
	X(AGENT_WRITE,       4, "agent:write")         \
	X(COMMAND_READ,      5, "command:read")        \
	X(COMMAND_RUN,       6, "command:run")         \
	X(EVENT_READ,        7, "event:read")          \
	X(EVENT_WRITE,       8, "event:write")         \
	X(METRICS_READ,      9, "metrics:read")        \
	X(AUDIT_READ,       10, "audit:read")          \
	X(TOKEN_READ,       11, "token:read")          \
	X(TOKEN_WRITE,      12, "token:write")         \
	X(ROUTE_WRITE,      13, "route:write")         \
	X(STOP_WRITE,       14, "stop:write")          \
	X(USER_WRITE,       15, "user:write")          \
	X(ROUTE_VISIT,      16, "route:visit")         \
	X(TUNNEL_USE,       17, "tunnel:use")

#define X(name, bit, text) SCOPE_##name = 1U << (bit),
enum scope { SCOPE_LIST(X) };
#undef X

/* What an agent's token holds by default, and all there is. */
#define SCOPES_CLUSTER ((scope_set)0x3)
#define SCOPES_ALL ((scope_set)0x3ffff)
/* clang-format on */

/* One name to its bit; 0 when there is none such. */
scope_set scope_find(struct slice name);

/* "a,b,c" to a set; 0, or ERR_INVALID and *bad names the stranger. */
int scope_parse(struct slice list, scope_set *out, struct slice *bad);

/* Names in bit order: walk with *pos = 0; absent slice at the end. */
struct slice scope_next(scope_set set, unsigned *pos);

#endif
