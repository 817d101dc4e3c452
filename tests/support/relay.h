/*
 * relay: a reverse proxy in memory (tests).
 *
 * Made of http1_server, hop and http1_client as a gateway is; both peers are
 * played by the test.
 */
#ifndef SUPPORT_RELAY_H
#define SUPPORT_RELAY_H

#include "wire/hop.h"

struct relay {
	struct http1_server visitor;
	struct http1_client service;
	struct hop hop;
	struct hop_wish wish;
	struct arena arena;
	struct buf to_service, to_visitor;
	size_t asked; /* requests that were begun */
	size_t ended; /* and those that are complete */
	bool raw;
	bool answered; /* and the answer is over */
	int err;       /* the first that a machine returned */
	int bad;       /* status of a BAD */
};

/* The visitor is 192.0.2.7 and comes by http; its requests are "r". */
void relay_init(struct relay *r);
void relay_fini(struct relay *r);

/* Bytes that a peer has sent, in pieces of a size, each freed at once:
 * nobody may keep anything of it. */
void relay_visitor(struct relay *r, struct slice text, size_t step);
void relay_service(struct relay *r, struct slice text, size_t step);
void relay_service_eof(struct relay *r);

#endif
