/*
 * forward_order: from the opening of a tunnel stream to what is wanted, or
 * to the reason why not (agent; docs/protocol/muster.md "Tunnel streams").
 *
 * Pure.  What the controller writes is bounded here.
 */
#ifndef AGENT_FORWARD_ORDER_H
#define AGENT_FORWARD_ORDER_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/heap.h"
#include "wire/opening.h"

#include "agent/policy.h"
#include "agent/target.h"

enum {
	FORWARD_ID = 64,
	FORWARD_TEXT = 320,
	FORWARD_CONNECT = 10 * 1000, /* unless the opening says */
};

struct forward_wish {
	bool udp;
	bool listen;
	bool answers; /* version 2: we say how it went */
	bool tls, insecure;
	uint16_t port;
	msec within;
	char id[FORWARD_ID + 1];    /* printable, cut */
	char host[TARGET_HOST];     /* as target_spell writes it; "*" */
	char tls_name[TARGET_HOST]; /* "": host */
};

struct forward_refusal {
	const char *code; /* stable */
	uint32_t line;    /* of the policy; 0 = none */
	char text[FORWARD_TEXT];
};

/* The refusal, and ERR_DENIED. */
int forward_refuse(struct forward_refusal *no, const char *code,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * What a decoded opening wants.  domain is what names of Kubernetes services
 * end in, "" outside of a cluster.  0, ERR_NOMEM, ERR_UNSUPPORTED (another
 * kind), or ERR_DENIED with the refusal.
 */
int forward_read(const struct opening *o, const char *domain,
    struct forward_wish *out, struct forward_refusal *no);

/* What the policy says to it: 0, or ERR_DENIED with the refusal. */
int forward_permit(const struct policy *p, const struct forward_wish *w,
    struct forward_refusal *no);

/* An answer of the controller to a stream that we opened: bytes consumed and
 * whether it is a yes; 0 for more; ERR_PROTOCOL. */
int forward_read_answer(struct slice in, bool *yes);

/* The domain that a resolv.conf of a pod searches for services, "" if there
 * is none: what follows "svc." in it. */
void forward_find_domain(struct slice resolv, char out[TARGET_HOST]);

#endif
