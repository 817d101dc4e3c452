/*
 * echo: GET /dev/echo of `musterd --dev` (floor: server).
 *
 * Every message comes back as it is, with permessage-deflate when offered:
 * what conformance suites and benches talk to.
 */
#ifndef SERVER_ECHO_H
#define SERVER_ECHO_H

#include "server/web.h"

/* Once for each dock. */
void echo_setup(struct dock *d);

void echo_open(struct conn *c, struct call *call);

#endif
