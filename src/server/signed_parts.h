/*
 * signed_parts: what the files of the role of agents that sign share, and
 * nobody else (floor: server).
 */
#ifndef SERVER_SIGNED_PARTS_H
#define SERVER_SIGNED_PARTS_H

#include "dialect/signed.h"

#include "server/live.h"
#include "server/signed.h"

enum signer_stage {
	SIGNER_GUEST, /* has said nothing */
	SIGNER_ASKED, /* the hub is asked for its secret */
	SIGNER_KNOWN, /* that is here, and nothing was verified yet */
	SIGNER_LIVE,
	SIGNER_OVER,
};

/* A command it was given. */
struct given {
	struct live live;
	struct command_record *command; /* owned */
	struct peer_id viewer;
};

struct signer {
	struct conn *conn;
	struct wsconn ws;
	enum signer_stage stage;
	struct signed_peer peer;
	struct buf held;    /* ASKED: lengths and texts */
	struct buf secrets; /* opened, one behind the other */
	size_t lengths[SIGNED_KEYS];
	size_t count;
	wall_msec old_until; /* the second is good until then */
	size_t key;          /* that its last message was signed with */
	bool registered;     /* the hub says so */
	bool counted;        /* among the links */
	bool paused;
	msec prove_due;
	int why;
	struct given *given;   /* owned; the last command, or NULL */
	struct slice remote;   /* owned */
	struct slice address;  /* owned */
	struct slice agent_id; /* owned */
	uint64_t owner;        /* of its nonces */
};

static inline struct signer *
signer_of(struct conn *c)
{
	return c->state;
}

/* signed_keys.c ------------------------------------------------------------ */

/* Open what the hub says it signs with.  0, or ERR_*: logged. */
int signer_take_secrets(struct conn *c, const struct secret_record *r);
void signer_forget_secrets(struct signer *s);
/* Those that are good now. */
size_t signer_good_keys(const struct signer *s, struct slice keys[SIGNED_KEYS]);

#endif
