/*
 * forward: tunnel streams of one link, on this side (agent;
 * docs/protocol/muster.md "Tunnel streams").
 *
 * A stream of the controller's names a target; policy and target_sift judge
 * it, and what passed is dialled and joined with the stream: what the service
 * sends stays in the kernel until the link may send, and what it is sent
 * counts as consumed when its socket has it, so the window is the only
 * throttle.  Listeners go the other way and open streams themselves.
 *
 * Everything belongs to the loop's thread; nothing here blocks it.
 */
#ifndef AGENT_FORWARD_H
#define AGENT_FORWARD_H

#include "base/js_write.h"
#include "io/loop.h"

#include "agent/policy.h"
#include "agent/strand.h"
#include "agent/target.h"
#include "agent/words.h"

struct tls_client;

struct forwards_config {
	struct strand_home *link; /* borrowed, as all that follows */
	struct loop *loop;
	const struct policy *policy;
	const char *domain; /* of the cluster; "" outside of one */
	size_t *alive;      /* counts what outlives the link for a moment */
};

struct forwards {
	struct forwards_config c;
	struct list open;  /* streams, listeners too */
	struct list owing; /* those with bytes to be called consumed */
	struct loop_task settle;
	struct loop_timer tick; /* of the idle */
	bool ticking;
	const char *stopped;       /* a sentence; NULL: openings are taken */
	struct tls_client *tls[2]; /* owned; by insecure; when needed */
	struct words_tunnels counts;
};

void forwards_init(struct forwards *all, const struct forwards_config *c);
/* No stream is left, and the link opens no more. */
void forwards_fini(struct forwards *all);

/* A stream's end, to be fed the opening; NULL without memory. */
struct strand *forwards_strand(struct forwards *all, uint32_t id);

/* Refuse openings, with this sentence, and cut what is open; how many were
 * cut, listeners too.  NULL: take them again. */
size_t forwards_stop(struct forwards *all, const char *why);

/* The policy has changed: cut what it does not allow any more. */
void forwards_policy(struct forwards *all);

/* An array of the oldest that are open, at most `most`. */
void forwards_put_list(
    const struct forwards *all, size_t most, struct js_writer *w);

/* Where this process runs: what a pod's services end in, or "". */
void forward_domain(char out[TARGET_HOST]);

#endif
