/*
 * server: what all of musterd shares (floor: server).
 *
 * Filled by main before the first lane starts and read-only from then on,
 * but for the atomics and the parts that say whose thread they belong to.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/slice.h"
#include "base/stamp.h"

#include "model/rate.h"

#include "store/writer.h"

#include "server/settings.h"

struct core;
struct dock;
struct keyring;
struct noncebook;
struct sources;
struct tally;
struct tls_server;

enum { FLOW_CODES = 10 }; /* why agents refuse streams; see flow.h */

/* Counted by lanes and read by /metrics and /health. */
struct server_counts {
	atomic_uint_fast64_t connections;
	atomic_uint_fast64_t accepted;
	atomic_uint_fast64_t refused;
	atomic_uint_fast64_t requests;
	atomic_uint_fast64_t messages_in;
	atomic_uint_fast64_t messages_out;
	atomic_uint_fast64_t bytes_in;
	atomic_uint_fast64_t bytes_out;
	atomic_uint_fast64_t links;
	atomic_uint_fast64_t followers;
	atomic_uint_fast64_t dashboards; /* that watch */
	atomic_uint_fast64_t monitors;
	atomic_uint_fast64_t deliveries; /* messages to either */
	atomic_uint_fast64_t slow; /* given up because they did not read */
	atomic_uint_fast64_t batched;
	atomic_uint_fast64_t compressed;
	atomic_uint_fast64_t limited;
	atomic_uint_fast64_t ignored;           /* what boards say */
	atomic_uint_fast64_t proxy_ignored;     /* answers for nobody */
	atomic_uint_fast64_t unsigned_messages; /* refused at /agent */
	atomic_uint_fast64_t pipes;
	atomic_uint_fast64_t tunnel_requests;
	atomic_uint_fast64_t tunnel_failures[4]; /* by enum exchange_hop */
	atomic_uint_fast64_t tunnel_cut; /* answers that could not be ended */
	atomic_uint_fast64_t tunnel_body_bytes[2]; /* to service, visitor */
	atomic_uint_fast64_t tunnel_websockets;    /* open now */
	atomic_uint_fast64_t tunnel_messages[2];   /* to service, visitor */
	atomic_uint_fast64_t tunnel_ws_bytes[2];
	/* Their durations, by upper bound (gateway_log.h), and the sum. */
	atomic_uint_fast64_t tunnel_ws_ended[9];
	atomic_uint_fast64_t tunnel_ws_ms;
	atomic_uint_fast64_t output_bytes;
	atomic_uint_fast64_t forwards; /* connections of operators' tools */
	atomic_uint_fast64_t flows[2]; /* by enum tunnel_proto; open */
	atomic_uint_fast64_t flows_opened[2];
	atomic_uint_fast64_t flows_refused[FLOW_CODES]; /* by flow_code */
	atomic_uint_fast64_t ports[PORTS_MAX]; /* connections to each */
	atomic_uint_fast64_t flow_bytes_in;    /* from services */
	atomic_uint_fast64_t flow_bytes_out;
};

struct handovers;

enum { SERVER_BLAMED = 1024 };

struct server {
	struct settings settings;
	struct store_config store_config; /* for readers */
	struct writer *writer;
	struct stopfile *stopfile; /* NULL until the core runs */
	struct core *core;
	struct dock *docks; /* one a lane; all there before any starts */
	size_t dock_count;
	int inherited; /* listening sockets from the service manager */
	struct sources *sources;
	struct tally *forwards;       /* connections, by user */
	struct keyring *keyring;      /* its own locks */
	atomic_uint_fast32_t hashing; /* passwords at work; see accounts.c */
	struct tls_server *tls;       /* NULL without TLS */
	struct slice public_url;      /* as in settings */
	struct slice public_host;     /* its host, lower case */
	struct slice incarnation;
	uint8_t nonce_key[32];   /* of links' challenges; random */
	uint8_t stop_key[32];    /* see stopkey.h */
	uint8_t wall_key[32];    /* see wall_token.h */
	uint8_t secrets_key[32]; /* see vault.h */
	struct noncebook *noncebook;
	struct handovers *handovers; /* see wall.h */
	uint8_t pin[32];             /* of the TLS key */
	bool has_pin;
	wall_msec started_at;
	atomic_uint_fast64_t tickets; /* see mail.h */
	/* Monotonic: until then what happens is told to the lanes, although
	 * nobody follows, for who comes back (see recent.h). */
	atomic_int_fast64_t follow_until;
	/* Services that could not be reached just now; see pass.c. */
	atomic_uint_fast64_t blamed[SERVER_BLAMED];
	atomic_bool draining;
	atomic_bool store_failing;
	atomic_bool short_of_memory; /* see pressure.h */
	struct server_counts counts;
	pthread_mutex_t rates_lock;
	struct rate_all rates; /* of all dashboards; under the lock */
};

#endif
