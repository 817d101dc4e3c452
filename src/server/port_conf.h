/*
 * port_conf: gateway ports in the configuration (floor: server;
 * muster.conf(5)).
 *
 *	[port "db"]
 *	listen = 127.0.0.1:5432
 *	agent = web-1
 *	to = db.internal:5432
 */
#ifndef SERVER_PORT_CONF_H
#define SERVER_PORT_CONF_H

#include "base/conf.h"

#include "model/tunnel.h"

enum { PORTS_MAX = 64 };

struct port_conf {
	struct slice name;
	struct slice listen; /* ADDRESS:PORT */
	struct slice protocol;
	struct slice agent; /* id, name or beginning of an id */
	struct slice to;    /* HOST:PORT, as the agent's network knows it */
	uint64_t connections;
	msec idle;
	msec connect;
	uint32_t line;
	/* Of what is said above. */
	enum tunnel_proto proto;
	struct tunnel_target target;
};

/* All sections of the document.  Each problem is a line in *problems, and
 * counted; slices are the document's. */
size_t port_conf_read(const struct conf_doc *doc, struct slice file,
    struct port_conf *ports, size_t *count, struct buf *problems);

#endif
