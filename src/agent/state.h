/*
 * state: what an agent keeps in its state directory (agent).
 *
 *	lock join.lock     flock'ed by `run` and by `join`
 *	install_id         random, made by the first join
 *	machine            the machine-id this state was made on
 *	policy.conf        see policy.h
 *	ctl                socket of `status`
 *	STOP               while it is there, nothing runs; see localstop.h
 *	links/<host>_<port>/
 *	  link.conf        where to and as whom
 *	  key              Ed25519 seed in hex; never leaves the host
 *	  incarnation      of the controller's database
 *	  journal cmd/ stop    see journal.h, holder_proto.h
 *
 * Directories are 0700, files 0600.  Everything blocks: for the start of a
 * program or a worker thread.  Failures are ERR_* with a sentence in why.
 */
#ifndef AGENT_STATE_H
#define AGENT_STATE_H

#include "base/arena.h"
#include "base/slice.h"
#include "io/file.h"
#include "wire/token.h"

enum { STATE_PATH = 4096, STATE_WHY = 4096 + 512, STATE_LINKS = 16 };

#define STATE_DEFAULT "/var/lib/muster-agent"

struct state {
	char dir[STATE_PATH];
	struct file lock;
	struct arena arena;
	struct slice install_id; /* in the arena */
	char why[STATE_WHY];
};

/* dir becomes absolute.  make: create what is missing.  Pair with
 * state_close. */
int state_open(struct state *s, const char *dir, bool make);
void state_close(struct state *s);

/* One process at a time: "lock" is held by `run`, "join.lock" by `join`.
 * ERR_BUSY. */
int state_lock(struct state *s, const char *name);

/* Read install_id, made if make; ERR_DENIED when the state was made on
 * another machine: two hosts must not be one agent. */
int state_identify(struct state *s, bool make);

/* <dir>/<name>; ERR_TOO_BIG. */
int state_path(const struct state *s, const char *name, char out[STATE_PATH]);

/* One controller's link.  Strings are in the arena; empty is none. */
struct state_link {
	const char *dir; /* absolute */
	const char *url; /* http(s)://host[:port] */
	const char *agent_id, *cluster_id, *name;
	const char *pin; /* 64 hex digits */
	const char *ca_file;
	const char *incarnation;
	uint8_t seed[ED25519_KEY], key[ED25519_KEY];
};

/* The directory of the link to a controller, made with its key when
 * missing: fills dir, seed and key. */
int state_make_link(
    struct state *s, struct slice host, int port, struct state_link *out);
int state_save_link(struct state *s, const struct state_link *l);

/* All links that a join has completed; *count of at most STATE_LINKS. */
int state_load_links(struct state *s, struct state_link *out, size_t *count);

/* The database id that the last dispatch number belongs to. */
int state_save_incarnation(const char *link_dir, struct slice incarnation);

#endif
