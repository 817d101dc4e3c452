/*
 * tunnel: ways to services behind agents (floor: model).
 *
 * A route says which requests of the gateway go to which service; a grant is
 * the hub's word that one visitor may go there, by which agents.  Lanes know
 * all routes (EFFECT_ROUTES) and keep grants until the hub withdraws them
 * (EFFECT_WITHDRAW), so that a request in flight costs the hub nothing.
 * Slices are borrowed from whoever holds the value.
 */
#ifndef MODEL_TUNNEL_H
#define MODEL_TUNNEL_H

#include <stdbool.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/stamp.h"

#include "model/peer.h"

enum {
	TUNNEL_ROUTES = 10000, /* at most */
	TUNNEL_MEMBERS = 64,   /* of one grant */
};

/* Who may pass. */
enum tunnel_wall {
	TUNNEL_SESSION, /* users who may see the agent, logged in */
	TUNNEL_PUBLIC,  /* everybody */
};

enum tunnel_proto { TUNNEL_TCP, TUNNEL_UDP };

/* Where a stream ends: host and port, or service, namespace and port. */
struct tunnel_target {
	struct slice host;
	struct slice service;
	struct slice namespace;
	uint16_t port;
	bool tls;              /* the agent speaks TLS to it */
	bool insecure;         /* whatever certificate it shows */
	struct slice tls_name; /* instead of the host's; absent: that */
};

struct route_record {
	struct slice id;   /* rte_... */
	struct slice name; /* unique among those that are there */
	/* What comes in by it: host in lower case, "*.suffix" for one or more
	 * labels before it; prefix begins with "/" and ends without, "/" for
	 * all.  Longest prefix of the most exact host wins. */
	struct slice host;
	struct slice prefix;
	bool strip; /* the prefix is cut off on the way */
	/* By which agents: an id or name, or a selector (a pool). */
	struct slice agent;
	struct slice selector;
	struct tunnel_target target;
	enum tunnel_wall wall;
	msec connect_within;   /* 0: 10 s */
	msec answer_within;    /* first byte of an answer; 0: 60 s */
	msec idle_within;      /* nothing either way; 0: 1 h */
	uint32_t message_rate; /* WebSocket messages a second of one visitor's
				* connection; 0: no limit */
	uint64_t byte_rate;    /* the same, bytes */
	/* Whose pages may open WebSockets: scheme://host[:port], joined by
	 * commas, the host may be "*.suffix"; absent: the route's own. */
	struct slice origins;
	/* {"request": {"set": {..}, "remove": [..]}, "response": {..}} */
	struct slice rules_json;
	wall_msec links_from; /* expiring links from before are no good */
	struct slice user_id; /* who made it */
	int64_t workspace_id;
	wall_msec created_at;
	wall_msec removed_at;
};

/* All that there are; what lanes are told (EFFECT_ROUTES). */
struct route_list {
	const struct route_record *const *sites; /* by host, then prefix: see
						  * route_cmp */
	const struct route_record *const *ids;   /* by id */
	size_t count;
};

/* How an agent is asked. */
enum tunnel_speech {
	TUNNEL_MUTE,       /* it cannot be */
	TUNNEL_STREAMS,    /* ours: openings of version 2 */
	TUNNEL_STREAMS_V1, /* other programs' yamux: openings of version 1 */
	TUNNEL_JSON,       /* proxy_request and its kin */
};

struct tunnel_member {
	struct slice agent_id;
	struct slice name;
	struct peer_id link; /* none: it is away */
	enum tunnel_speech speech;
};

/* What a visitor asks for: a route; or an agent and a target of its own
 * (paths under /clusters, forwards, and ports that the configuration has). */
enum tunnel_way {
	TUNNEL_BY_ROUTE,
	TUNNEL_BY_PATH,
	TUNNEL_BY_FORWARD,
	TUNNEL_BY_PORT
};

struct tunnel_visit {
	enum tunnel_way way;
	struct slice route_id;       /* BY_ROUTE */
	struct slice agent;          /* else: id, name or prefix of an id */
	struct tunnel_target target; /* BY_PATH: host and service both absent:
				      * the agent's own web port; with tls
				      * its Kubernetes API */
	enum tunnel_proto proto;
	bool reverse; /* BY_FORWARD: the agent listens at target */
};

struct tunnel_grant {
	uint64_t number; /* never 0, never given twice */
	const struct tunnel_visit *visit;
	struct tunnel_target target;
	const struct tunnel_member *members; /* at least one; by agent_id */
	size_t member_count;
	struct slice user_id;  /* who visits; absent: anybody */
	struct slice login_id; /* by which login or API token (tok_...), or
				* "link"; may be absent */
	wall_msec expires_at;  /* 0: never by itself */
};

/* What lanes must forget, and which visitors they must cut: those of all
 * that is named and fits.  All absent: everything. */
struct tunnel_withdrawal {
	struct slice route_id;
	struct slice agent_id;
	struct slice user_id;
	struct slice login_id;
	bool cut; /* open connections too, not only what was remembered */
	struct slice why; /* a stable reason, for logs and close frames */
};

#endif
