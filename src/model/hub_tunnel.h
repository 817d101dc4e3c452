/*
 * hub_tunnel: routes, pools and who may visit (model; private to the hub).
 *
 * Design notes.  Lanes keep what the hub granted, so the hub says whenever a
 * grant may be wrong: it keeps no list of grants, but a mark on each agent,
 * user and pool that some grant was about, and speaks of those alone.  A mark
 * stays: who travels by a grant that was withdrawn must still be found when
 * something is cut.  A withdrawal that is lost, for want of memory, becomes
 * one of everything.
 *
 * The agents that a selector chooses are found once, by a walk over all, and
 * kept up to date from then on: a pool.  Routes with the same selector share
 * one.
 */
#ifndef MODEL_HUB_TUNNEL_H
#define MODEL_HUB_TUNNEL_H

#include "model/hub_state.h"
#include "model/route.h"

enum { POOLS = 256 };

struct roster {
	struct agent **agents; /* owned array, by id */
	size_t count;
	size_t room;
};

struct pool {
	struct list use;  /* of tunnels.pool_use */
	struct slice key; /* owned: workspace, NUL, selector */
	struct selector selector;
	int64_t workspace_id;
	struct list routes; /* of struct route.by_pool */
	struct roster all;
	struct roster there; /* those of them that have a link */
	bool scarce; /* some grant named fewer than could be of use to it */
};

struct route {
	struct route_record *record; /* owned */
	struct pool *pool;           /* NULL until it is asked for */
	struct list by_pool;
	bool stored;                     /* has a row: lanes know it */
	bool visited;                    /* some grant was for it */
	const struct route_record *told; /* while the list is written */
};

/* hub_route.c -------------------------------------------------------------- */

void hub_tunnel_init(struct hub *h);
void hub_tunnel_fini(struct hub *h);
/* After users and agents. */
int hub_load_routes(struct hub *h, const struct hub_snapshot *s);
/* One that is there, NULL without. */
struct route *hub_find_route(struct hub *h, struct slice id);
bool hub_sees_route(
    struct hub *h, const struct access *who, const struct route *r);
void hub_tell_routes(struct hub *h);
void hub_route_done(struct hub *h, struct pending *p);
void hub_route_undo(struct hub *h, struct pending *p);

void hub_add_route(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_list_routes(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_show_route(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_remove_route(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_link_route(
    struct hub *h, const struct event *ev, const struct access *who);

/* hub_pool.c --------------------------------------------------------------- */

/* The agents of a route with a selector; NULL without memory. */
struct pool *hub_pool_of(struct hub *h, struct route *r);
/* The route goes. */
void hub_leave_pool(struct hub *h, struct route *r);
void hub_free_pools(struct hub *h);
/* The agent is new, has other labels, or was removed: all grants that this
 * makes wrong are withdrawn. */
void hub_judge_pools(struct hub *h, struct agent *a);
/* Its link has come, or gone. */
void hub_track_link(struct hub *h, struct agent *a);
/* It is freed. */
void hub_drop_from_pools(struct hub *h, struct agent *a);

/* hub_visit.c -------------------------------------------------------------- */

void hub_visit(struct hub *h, const struct event *ev, const struct access *who);
/* Whom a route goes by, in the outbox's arena: those first who are there,
 * TUNNEL_MEMBERS at most, by id.  NULL without memory. */
struct tunnel_member *hub_route_members(
    struct hub *h, const struct access *who, struct route *r, size_t *count);

/* hub_receipt.c: stopped, so that its tunnels are, too. */
bool hub_tunnels_stopped(const struct agent *a);

/* hub_withdraw.c ----------------------------------------------------------- */

void hub_withdraw(struct hub *h, const struct tunnel_withdrawal *w);
/* Its link came or went, or it may be asked in another way. */
void hub_forget_agent(struct hub *h, struct agent *a);
/* It was removed, or (unless tunnels are kept) stopped. */
void hub_cut_agent(struct hub *h, const struct agent *a, struct slice why);
void hub_cut_stopped(struct hub *h, const struct agent *a);
/* Other labels. */
void hub_agent_relabelled(struct hub *h, struct agent *a);
void hub_cut_user(struct hub *h, const struct user *u);
/* A login, or an API token, of this user. */
void hub_cut_login(struct hub *h, const struct user *u, struct slice id);
/* An effect of an event that ran out of memory. */
void hub_tunnel_taken_back(struct hub *h, const struct effect *e);
msec hub_tunnel_deadline(const struct hub *h);
void hub_tunnel_timer(struct hub *h);

#endif
