/*
 * tunnel_kit: one lane with one agent's link, where the test plays the hub
 * and the agent (tests of what stands on links).
 *
 * Both ends are real: sockets, WebSocket and yamux machines, on one loop.
 * What a peer does is in `agent` and `tool`; their streams are kept, with all
 * that came, in the order in which they were opened.
 */
#ifndef SUPPORT_TUNNEL_KIT_H
#define SUPPORT_TUNNEL_KIT_H

#include "base/buf.h"

#include "wire/wsconn.h"
#include "wire/yamux.h"

#include "io/stream.h"

#include "server/dock.h"
#include "server/link.h"

enum { KIT_STREAMS = 512 };

struct kit_stream {
	uint32_t id;
	struct buf got;
	size_t ate;  /* of got, by the test */
	size_t held; /* delivered and not consumed: agent.hold */
	bool fin, rst;
};

struct kit;

/* Who talks to musterd: the agent, or an operator's tool. */
struct kit_peer {
	struct kit *kit;
	struct stream *s; /* NULL once closed */
	struct wsconn_lane lane;
	struct wsconn_config config;
	struct wsconn ws;
	struct yamux mux;
	struct buf head; /* the answer to the handshake */
	struct kit_stream streams[KIT_STREAMS];
	size_t count;
	uint16_t close_code; /* the controller's */
	int error;           /* of the session */
	bool upgraded;
	bool hold; /* consume nothing */
};

struct kit {
	struct server server;
	struct dock dock;
	struct loop loop;
	struct arena arena;
	struct peer_id link;
	struct kit_peer agent;
	struct kit_peer tool;
	struct kit_peer *who; /* of the two, for what follows; the agent */
	uint64_t grants;
};

/* A link that is registered, with a yamux session; or one that the hub has
 * yet to tell so, by kit_register. */
void kit_init(struct kit *k);
void kit_init_early(struct kit *k);
void kit_register(struct kit *k);
void kit_fini(struct kit *k);

/* Loop turns until nothing comes any more. */
void kit_run(struct kit *k);
/* The link behind k->link, NULL when it is gone. */
struct link_conn *kit_link(struct kit *k);

/* An operator's tool, let in at /api/v1/tunnel as usr_1. */
void kit_tool(struct kit *k);
/* The hub is asked about a visit: it is granted, to what is asked for by
 * the agent's link; or refused.  The visit, until the next turn. */
const struct tunnel_visit *kit_grant(struct kit *k);
void kit_deny(struct kit *k, uint16_t status, const char *code);

/* The doings of k->who. */
struct kit_stream *kit_stream(struct kit *k, size_t i);
/* All that came on it and was not eaten. */
struct slice kit_got(struct kit *k, size_t i);
/* Bytes on its stream, as far as the window allows: how many. */
size_t kit_say(struct kit *k, size_t i, struct slice bytes);
/* u8 2 | u8 status | u16 length | text */
void kit_answer(struct kit *k, size_t i, uint8_t status, const char *json);
void kit_fin(struct kit *k, size_t i);
void kit_rst(struct kit *k, size_t i);
/* Open a stream that begins with these bytes: its index. */
size_t kit_open(struct kit *k, struct slice first);
void kit_consume(struct kit *k, size_t i, size_t n);
/* Bytes of the session as they are. */
void kit_raw(struct kit *k, struct slice bytes);
/* Its connection breaks. */
void kit_cut(struct kit *k);

#endif
