#include <stdio.h>
#include <string.h>

#include "server/accounts.h"
#include "server/api.h"
#include "server/attach.h"
#include "server/broadcast.h"
#include "server/console.h"
#include "server/echo.h"
#include "server/figures.h"
#include "server/follow.h"
#include "server/forward.h"
#include "server/gateway.h"
#include "server/health.h"
#include "server/legacy.h"
#include "server/link.h"
#include "server/lookup.h"
#include "server/monitor.h"
#include "server/signed.h"
#include "server/stops.h"
#include "server/tunnel_api.h"
#include "server/wall.h"

#include "server/route.h"

enum { KIB = 1024, MIB = 1024 * KIB };

#define HUB .handle = api_ask, .event = api_answer
#define ACCOUNT .handle = accounts_ask, .event = accounts_answer
#define READ .handle = api_ask, .event = lookup_answer
#define TUNNEL .handle = tunnel_api_ask, .event = tunnel_api_answer
#define STOP .handle = stops_ask, .event = stops_answer
#define LEGACY .handle = legacy_ask, .event = legacy_answer
#define CONSOLE .handle = console_open, .event = console_answer
#define SIGNED .handle = signed_api_ask, .event = signed_api_answer
#define SIGNED_HTTP .handle = signed_http_ask, .event = signed_http_answer
#define AGENT "/api/v1/clusters/agent"

/* clang-format off */
static const struct route table[] = {
	{ "GET", "/health", .handle = health_show },
	{ "GET", "/api/v1/health", .handle = health_show,
	  .summary = "State of the controller" },
	{ "GET", "/metrics", .handle = metrics_ask, .event = metrics_answer,
	  .op = OP_METRICS },
	{ "GET", "/api/v1/openapi.json", .handle = api_describe },
	{ "GET", "/dev/echo", .handle = echo_open, .websocket = true,
	  .dev = true },
	{ "GET", "/api/v1/whoami", HUB, .op = OP_WHOAMI,
	  .summary = "Who the credential is" },
	{ "GET", "/api/v1/me", HUB, .op = OP_WHOAMI,
	  .summary = "Who the credential is" },
	{ "POST", "/api/v1/auth/login", ACCOUNT, .op = OP_LOGIN,
	  .body_max = 16 * KIB, .summary = "Log in by name and password" },
	{ "POST", "/api/v1/auth/refresh", ACCOUNT, .op = OP_REFRESH,
	  .body_max = 16 * KIB, .summary = "Renew a login's token" },
	{ "POST", "/api/v1/auth/logout", ACCOUNT, .op = OP_LOGOUT,
	  .body_max = 16 * KIB, .ends = true, .summary = "End a login" },
	{ "POST", "/api/v1/auth/password", ACCOUNT, .op = OP_OWN_PASSWORD,
	  .body_max = 16 * KIB, .summary = "Change your own password" },
	{ "POST", "/api/v1/auth/setup", ACCOUNT, .op = OP_SETUP,
	  .body_max = 16 * KIB,
	  .summary = "Set the first administrator's password" },
	{ "GET", "/api/v1/users", HUB, .op = OP_USER_LIST,
	  .summary = "List users" },
	{ "POST", "/api/v1/users", ACCOUNT, .op = OP_USER_ADD,
	  .body_max = 16 * KIB, .summary = "Add a user" },
	{ "GET", "/api/v1/users/{}", HUB, .op = OP_USER_SHOW,
	  .summary = "Show a user" },
	{ "PATCH", "/api/v1/users/{}", ACCOUNT, .op = OP_USER_CHANGE,
	  .body_max = 16 * KIB,
	  .summary = "Change role, selector or password" },
	{ "DELETE", "/api/v1/users/{}", HUB, .op = OP_USER_REMOVE,
	  .ends = true, .summary = "Remove a user" },
	{ "POST", "/api/v1/users/{}/token", ACCOUNT, .op = OP_USER_TOKEN,
	  .body_max = 16 * KIB, .summary = "Sign a JWT for a user" },
	{ "GET", "/api/v1/agents", HUB, .op = OP_AGENT_LIST,
	  .summary = "List agents" },
	{ "POST", "/api/v1/agents/join", HUB, .op = OP_JOIN,
	  .body_max = 64 * KIB, .summary = "Trade a token for a key" },
	{ "GET", "/api/v1/agents/{}", HUB, .op = OP_AGENT_SHOW,
	  .summary = "Show an agent" },
	{ "DELETE", "/api/v1/agents/{}", HUB, .op = OP_AGENT_REMOVE,
	  .summary = "Remove an agent" },
	{ "PATCH", "/api/v1/agents/{}/labels", HUB, .op = OP_AGENT_LABEL,
	  .body_max = 64 * KIB, .summary = "Change labels" },
	{ "GET", "/api/v1/agents/{}/connections", READ,
	  .op = OP_AGENT_HISTORY, .summary = "Connection history" },
	{ "GET", "/api/v1/agents/{}/queue", HUB, .op = OP_QUEUE_SHOW,
	  .summary = "What waits for an agent" },
	{ "DELETE", "/api/v1/agents/{}/queue", HUB, .op = OP_QUEUE_PURGE,
	  .ends = true, .summary = "Cancel all that waits" },
	{ "POST", "/api/v1/agents/{}/cordon", HUB, .op = OP_AGENT_CORDON,
	  .body_max = 64 * KIB, .summary = "Send an agent nothing new" },
	{ "POST", "/api/v1/agents/{}/uncordon", HUB,
	  .op = OP_AGENT_UNCORDON, .body_max = 64 * KIB,
	  .summary = "Send it work again" },
	{ "GET", "/api/v1/tokens", HUB, .op = OP_TOKEN_LIST,
	  .summary = "List tokens" },
	{ "POST", "/api/v1/tokens", HUB, .op = OP_TOKEN_CREATE,
	  .body_max = 64 * KIB, .summary = "Create a token" },
	{ "GET", "/api/v1/tokens/{}", HUB, .op = OP_TOKEN_SHOW,
	  .summary = "Show a token" },
	{ "DELETE", "/api/v1/tokens/{}", HUB, .op = OP_TOKEN_REVOKE,
	  .summary = "Revoke a token" },
	{ "POST", "/api/v1/tokens/{}/rotate", HUB, .op = OP_TOKEN_ROTATE,
	  .body_max = 64 * KIB, .summary = "Replace a token's text" },
	{ "GET", "/api/v1/commands", READ, .op = OP_COMMAND_LIST,
	  .summary = "List commands" },
	{ "POST", "/api/v1/commands", HUB, .op = OP_COMMAND_CREATE,
	  .body_max = MIB, .summary = "Start a command" },
	{ "GET", "/api/v1/commands/{}", READ, .op = OP_COMMAND_SHOW,
	  .summary = "Show a command" },
	{ "GET", "/api/v1/commands/{}/output", READ,
	  .op = OP_COMMAND_OUTPUT, .summary = "A command's output" },
	{ "POST", "/api/v1/commands/{}/interrupt", HUB,
	  .op = OP_COMMAND_INTERRUPT, .body_max = 64 * KIB, .ends = true,
	  .summary = "Interrupt a command" },
	{ "POST", "/api/v1/commands/{}/cancel", HUB, .op = OP_COMMAND_CANCEL,
	  .body_max = 64 * KIB, .ends = true, .summary = "Cancel a queued command" },
	{ "POST", "/api/v1/stop", STOP, .op = OP_STOP_RAISE,
	  .body_max = 64 * KIB, .ends = true, .summary = "Stop agents" },
	{ "POST", "/api/v1/resume", STOP, .op = OP_STOP_LIFT,
	  .body_max = 64 * KIB, .ends = true, .summary = "Lift a stop" },
	{ "GET", "/api/v1/stops", STOP, .op = OP_STOP_LIST, .ends = true,
	  .summary = "List stops" },
	{ "GET", "/api/v1/stops/{}", STOP, .op = OP_STOP_SHOW, .ends = true,
	  .summary = "A stop and its receipts" },
	{ "GET", "/api/v1/routes", TUNNEL, .op = OP_ROUTE_LIST,
	  .summary = "List the gateway's routes" },
	{ "POST", "/api/v1/routes", TUNNEL, .op = OP_ROUTE_ADD,
	  .body_max = 64 * KIB, .summary = "Add a route" },
	{ "GET", "/api/v1/routes/{}", TUNNEL, .op = OP_ROUTE_SHOW,
	  .summary = "A route and its agents" },
	{ "DELETE", "/api/v1/routes/{}", TUNNEL, .op = OP_ROUTE_REMOVE,
	  .ends = true, .summary = "Remove a route" },
	{ "POST", "/api/v1/routes/{}/test", .handle = tunnel_api_ask,
	  .event = gateway_probe, .op = OP_ROUTE_SHOW, .body_max = 1 * KIB,
	  .summary = "Try a route hop by hop" },
	{ "POST", "/api/v1/routes/{}/links", TUNNEL, .op = OP_ROUTE_LINK,
	  .body_max = 16 * KIB, .summary = "Sign an expiring link" },
	{ "DELETE", "/api/v1/routes/{}/links", TUNNEL, .op = OP_ROUTE_UNLINK,
	  .ends = true, .summary = "Revoke all links" },
	{ "GET", "/tunnel/enter", .handle = wall_page },
	{ "GET", "/tunnel/enter.js", .handle = wall_script },
	{ "POST", "/api/v1/tunnel/enter", .handle = wall_ask,
	  .event = wall_answer, .op = OP_VISIT, .body_max = 32 * KIB,
	  .summary = "Hand a browser over to a walled service" },
	{ "GET", "/api/v1/exec", .handle = attach_open,
	  .op = OP_COMMAND_CREATE, .websocket = true },
	{ "GET", "/api/v1/tunnel", .handle = api_ask, .event = forward_open,
	  .op = OP_TUNNEL, .websocket = true },
	{ "GET", "/api/v1/audit", READ, .op = OP_AUDIT_LIST,
	  .summary = "The audit journal" },
	{ "GET", "/api/v1/audit/verify", READ, .op = OP_AUDIT_VERIFY,
	  .summary = "Check the journal's hash chain" },
	{ "GET", "/api/v1/events", .handle = api_ask, .event = follow_open,
	  .op = OP_EVENTS, .summary = "Follow events" },
	{ "POST", "/api/v1/broadcast/agent-status", .handle = broadcast_ask,
	  .event = api_answer, .op = OP_BROADCAST_STATUS, .body_max = 64 * KIB,
	  .summary = "Tell of an agent's state" },
	{ "POST", "/api/v1/broadcast/session-activity",
	  .handle = broadcast_ask, .event = api_answer,
	  .op = OP_BROADCAST_ACTIVITY, .body_max = 64 * KIB,
	  .summary = "Tell of a session's activity" },
	{ "GET", AGENT "/ws", .handle = link_open, .event = link_answer,
	  .websocket = true },
	{ "GET", "/agent", .handle = signed_open, .websocket = true },
	{ "GET", "/api/v1/signed", SIGNED, .op = OP_SIGNED_LIST,
	  .summary = "List secrets of agents that sign" },
	{ "POST", "/api/v1/signed", SIGNED, .op = OP_SIGNED_ADD,
	  .body_max = 64 * KIB, .summary = "Let an agent in that signs" },
	{ "GET", "/api/v1/signed/{}", SIGNED, .op = OP_SIGNED_SHOW,
	  .summary = "Show a secret, but its text" },
	{ "DELETE", "/api/v1/signed/{}", SIGNED, .op = OP_SIGNED_REMOVE,
	  .ends = true, .summary = "Remove a secret" },
	{ "POST", "/api/v1/signed/{}/rotate", SIGNED, .op = OP_SIGNED_ROTATE,
	  .body_max = 64 * KIB, .summary = "Replace a secret" },
	{ "GET", "/api/v1/agents/{}/logs", READ, .op = OP_AGENT_LOGS,
	  .summary = "Lines that an agent logged" },
	{ "GET", "/api/v1/agents/{}/metrics", .handle = figures_ask,
	  .event = figures_answer, .op = OP_AGENT_METRICS,
	  .summary = "An agent's load, for a while" },
	{ "GET", "/api/websocket/agents", SIGNED_HTTP, .op = OP_AGENT_LIST },
	{ "GET", "/api/websocket/agents/{}", SIGNED_HTTP,
	  .op = OP_AGENT_SHOW },
	{ "POST", "/api/websocket/agents/{}/command", SIGNED_HTTP,
	  .op = OP_COMMAND_CREATE, .body_max = 64 * KIB },
	{ "GET", "/ws", CONSOLE, .websocket = true },
	{ "GET", "/ws/dashboard", CONSOLE, .websocket = true },
	{ "GET", "/ws/agent", CONSOLE, .websocket = true },
	{ "POST", AGENT "/register", LEGACY, .body_max = MIB },
	{ "POST", AGENT "/{}/heartbeat", LEGACY, .body_max = MIB },
	{ "GET", AGENT "/{}/poll", LEGACY },
	{ "GET", AGENT "/{}/tunnel-info", LEGACY },
	{ "POST", AGENT "/{}/commands/{}/result", LEGACY,
	  .body_max = 16 * MIB },
	{ "POST", AGENT "/{}/commands/{}/ack", LEGACY, .body_max = 64 * KIB },
	{ NULL, NULL, .handle = NULL },
};

/* As a WebSocket, wherever there is nothing else. */
static const struct route anywhere[] = {
	{ "GET", "/", .handle = monitor_open, .event = monitor_answer,
	  .websocket = true },
};
/* clang-format on */

const struct route *
route_table(void)
{
	return table;
}

const struct route *
route_anywhere(void)
{
	return anywhere;
}

bool
route_is_vital(const struct route *r)
{
	/* Agents come by all of the console's paths but one. */
	return r->handle == link_open || r->handle == signed_open ||
	    (r->handle == console_open &&
		strcmp(r->path, "/ws/dashboard") != 0) ||
	    r->handle == legacy_ask || r->handle == health_show ||
	    r->handle == metrics_ask;
}

static bool
path_fits(
    const char *pattern, struct slice path, struct slice params[ROUTE_PARAMS])
{
	struct slice want = slice_from(pattern), a, b;
	size_t n = 0;

	for (;;) {
		bool more = slice_split(&want, '/', &a);
		if (slice_split(&path, '/', &b) != more)
			return false;
		if (!more)
			return true;
		if (slice_eq(a, SL("{}"))) {
			if (b.len == 0 || n == ROUTE_PARAMS)
				return false;
			params[n++] = b;
		} else if (!slice_eq(a, b)) {
			return false;
		}
	}
}

static bool
method_fits(const char *method, struct slice given)
{
	return slice_eq(slice_from(method), given) ||
	    (strcmp(method, "GET") == 0 && slice_eq(given, SL("HEAD")));
}

static void
add_method(char *allow, size_t size, const char *method)
{
	size_t len = strlen(allow);
	const char *also = strcmp(method, "GET") == 0 ? ", HEAD" : "";

	snprintf(allow + len, size - len, "%s%s%s", len > 0 ? ", " : "", method,
	    also);
}

enum route_found
route_find(struct slice method, struct slice path, bool dev,
    const struct route **out, struct slice params[ROUTE_PARAMS], char *allow,
    size_t allow_size)
{
	enum route_found found = ROUTE_NO_PATH;

	allow[0] = '\0';
	for (const struct route *r = table; r->path != NULL; r++) {
		if ((r->dev && !dev) || !path_fits(r->path, path, params))
			continue;
		if (method_fits(r->method, method)) {
			*out = r;
			return ROUTE_OK;
		}
		/* "/agents/join" is no agent: the first row that fits the
		 * path decides, but its other methods may be in other rows. */
		found = ROUTE_NO_METHOD;
		add_method(allow, allow_size, r->method);
	}
	if (found == ROUTE_NO_METHOD)
		add_method(allow, allow_size, "OPTIONS");
	return found;
}
