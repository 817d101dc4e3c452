/*
 * post: one HTTP request from a program without a loop of its own (agent).
 */
#ifndef AGENT_POST_H
#define AGENT_POST_H

#include "base/buf.h"
#include "wire/url.h"

enum { POST_WHY = 512, POST_ANSWER = 256 * 1024 };

struct post {
	const struct url *url; /* of the server; the path is target's */
	struct slice target;
	struct slice bearer; /* a token */
	struct slice json;
	const char *ca_file; /* NULL: the system's roots */
	const uint8_t *pin;  /* NULL: none */
};

/* POST it and wait for the answer, 30 s for all: 0, *status and the body
 * appended to out; or ERR_* and a sentence. */
int post_json(
    const struct post *p, struct buf *out, int *status, char why[POST_WHY]);

#endif
