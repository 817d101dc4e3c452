/*
 * pass: a visitor's leave to go to a service, kept on its lane (floor:
 * server).
 *
 * The hub gives a grant for a visit and a credential; the lane keeps it, so
 * that the next request of the same visitor costs no question.  The hub
 * withdraws it (EFFECT_WITHDRAW) when a route, an agent's link, a user or a
 * login changes: it is asked for anew then, and where it says so, those who
 * travel by it are cut.
 *
 * Life: pass_find; when that is NULL pass_ask, and give the reply's grant to
 * pass_keep; pass_drop at last.
 */
#ifndef SERVER_PASS_H
#define SERVER_PASS_H

#include "base/list.h"

#include "model/event.h"
#include "model/tunnel.h"

#include "server/dock.h"

struct pass {
	struct tunnel_grant grant; /* owned copy, with all it points to */
	uint32_t refs;
	bool withdrawn; /* good for who has it, not to be found any more */
	struct list holders;
};

/* Who travels by it: told once to go, from the loop. */
struct pass_holder {
	struct list link;
	struct pass *pass; /* one reference; NULL: none */
	void (*cut)(struct pass_holder *h, struct slice why);
};

/* A kept one, with a reference for the caller, or NULL: ask the hub.  The
 * credential is part of the question.  Those for forwards are found for a
 * minute, for the hub writes down who asks. */
struct pass *pass_find(struct dock *d, const struct tunnel_visit *visit,
    const struct credential *who);

/*
 * Ask the hub for one, which answers c by a REPLY.  Everything is copied;
 * request_id may be absent.  0, ERR_FULL (the hub has too much to do) or
 * ERR_NOMEM.
 */
int pass_ask(struct conn *c, const struct tunnel_visit *what,
    const struct credential *who, struct slice request_id);

/* Keep what the hub has granted, with a reference for the caller; NULL
 * without memory.  At most PASSES are kept: the longest unused goes. */
enum { PASSES = 20000 };
struct pass *pass_keep(struct dock *d, const struct tunnel_grant *grant,
    const struct credential *who);
void pass_drop(struct pass *p);

/* EFFECT_WITHDRAW. */
void pass_withdraw(struct dock *d, const struct tunnel_withdrawal *w);

/* Of the dock's life. */
void pass_setup(struct dock *d, const uint64_t seed[2]);
void pass_end(struct dock *d);

/* Go by it, and no longer.  Idempotent. */
void pass_enter(struct pass *p, struct pass_holder *h);
void pass_leave(struct pass_holder *h);

/*
 * The member that a visitor goes to: always the same for the same key, as
 * long as it is there (rendezvous hashing); members that are away, or that
 * failed within the last seconds (pass_blame), only when no other is left.
 * NULL when all are away.
 */
const struct tunnel_member *pass_choose(
    struct dock *d, const struct pass *p, struct slice visitor_key);
/* This member could not reach the service just now. */
void pass_blame(
    struct dock *d, struct slice agent_id, const struct tunnel_target *target);

#endif
