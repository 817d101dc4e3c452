/*
 * forward_spec: what a word of `muster forward` means (floor: cli).
 *
 *	[ADDR:]PORT:HOST:PORT       from where is listened, to a service
 *	[ADDR:]PORT:NS/SERVICE:PORT to one of a Kubernetes namespace
 *
 * IPv6 addresses in brackets; ADDR is 127.0.0.1 unless said, "*" is every
 * one; the first PORT may be 0, any that is free.
 */
#ifndef CLI_FORWARD_SPEC_H
#define CLI_FORWARD_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { FORWARD_HOST = 254, FORWARD_WHERE = FORWARD_HOST + 8 };

struct forward_spec {
	bool udp;
	bool reverse; /* the agent listens, and we have the target */
	uint16_t at_port, port;
	char at[FORWARD_HOST];
	char host[FORWARD_HOST];      /* or the service's name */
	char namespace[FORWARD_HOST]; /* "": host is a host */
};

/* target is a "NS/SERVICE:PORT" of its own, then text is [ADDR:]PORT alone;
 * absent: text has all.  0 or ERR_INVALID. */
int forward_spec_parse(
    struct slice text, struct slice target, struct forward_spec *out);

/* "127.0.0.1:8080" and "db.local:5432", brackets where they are needed. */
void forward_spec_at(const struct forward_spec *s, char out[FORWARD_WHERE]);
void forward_spec_target(
    const struct forward_spec *s, char out[2 * FORWARD_WHERE]);

#endif
