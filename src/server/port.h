/*
 * port: gateway ports bound by configuration (floor: server).
 *
 * Whoever connects reaches the service behind the agent, unasked: the port
 * is the host's own word, and who may use it is a matter of where it
 * listens.  Connections are taken on every lane and move to that of the
 * agent's link.
 */
#ifndef SERVER_PORT_H
#define SERVER_PORT_H

#include "server/conn.h"
#include "server/pass.h"
#include "server/port_conf.h"

struct listener;
union addr;

/* One port on one lane. */
struct port {
	struct dock *dock;
	const struct port_conf *conf; /* borrowed: of the settings */
	size_t index;                 /* among them */
	struct listener *listener;    /* NULL: of UDP */
};

/* 0, or ERR_* and a sentence in d->why. */
int ports_open(struct dock *d);
/* Take connections, from the start of the lanes on. */
void ports_start(struct dock *d);
/* Take no more. */
void ports_stop(struct dock *d);
void ports_end(struct dock *d);

/* Bind one of UDP, on the first lane: *at becomes where it is.  It moves to
 * the lane of the agent's link by itself.  0 or ERR_*. */
int port_open_udp(struct port *p, union addr *at);

/* As accept_fn of a port of TCP: the owner is a struct port. */
void port_accept(void *owner, struct stream *s);

#endif
