/*
 * stop: the stop that one link is under (agent; docs/protocol/muster.md 7).
 *
 * Two reasons to be halted: what the controller said last, which is kept on
 * the disk, and the host's own stop, which is a file of the owner's.  A stop
 * takes effect at once and is written meanwhile; that it is lifted takes
 * effect when it is written, because holders believe the disk.
 *
 * Everything belongs to the loop's thread; nothing here blocks it but
 * stop_open.
 */
#ifndef AGENT_STOP_H
#define AGENT_STOP_H

#include "base/stamp.h"
#include "io/file.h"
#include "io/loop.h"

#include "agent/record.h"

enum {
	STOP_SCOPE = 1024, /* bytes that are kept */
	STOP_REASON = 512,
	STOP_MAC = 64,
	STOP_PATH = 4096,
	STOP_RETRY = 1000, /* ms, while the disk is in trouble */
};

/* What a controller has said, in memory of its own. */
struct stop_word {
	uint64_t epoch;
	bool stopped, keep_tunnels;
	wall_msec at;
	char scope[STOP_SCOPE + 1], mac[STOP_MAC + 1], reason[STOP_REASON + 1];
};

/* The host's own stop, the same for all links. */
struct stop_local {
	bool stopped;
	wall_msec at;
	char reason[STOP_REASON + 1];
};

struct stop_ops {
	/* Kill everything and start nothing; or no longer. */
	void (*halt)(void *arg, bool halt);
	/* A receipt of the present state is due. */
	void (*receipt)(void *arg);
};

struct stop_config {
	struct loop *loop; /* borrowed, as all that follows */
	struct file_layer *fs;
	const char *dir; /* of the link: the file is <dir>/stop */
	const struct stop_ops *ops;
	void *arg;
};

struct stop {
	struct stop_config c;
	char path[STOP_PATH];
	struct stop_word now;    /* in force */
	struct stop_word want;   /* the highest epoch heard */
	struct stop_word saving; /* being written */
	uint64_t saved;          /* epoch on the disk */
	int save_err;
	struct loop_work work;
	struct loop_timer again;
	struct stop_local local;
	wall_msec began, done; /* of this halt; 0: none, not yet */
	bool busy;             /* saving */
	bool halted;           /* as told */
	bool quiet;            /* nothing is left running */
	bool due;              /* a receipt, when it can be given */
	bool closed;
};

/*
 * Read the file; absent is epoch 0.  Blocks.  ERR_CORRUPT and ERR_NEWER: it
 * must not be guessed what it said.  Does not call halt: stop_halted tells.
 */
int stop_open(struct stop *s, const struct stop_config *c,
    const struct stop_local *local);

/* No call comes back but work in progress, which s must outlive:
 * stop_idle. */
void stop_close(struct stop *s);
bool stop_idle(const struct stop *s);

/* The controller has said this; w's slices are borrowed.  Has an epoch that
 * is not above the last one: changes nothing. */
void stop_order(struct stop *s, const struct record_stop *w);

/* The host's own stop is this now. */
void stop_set_local(struct stop *s, const struct stop_local *l);

/* Nothing is left running (runner_ops.quiet). */
void stop_quiet(struct stop *s);

/* Somebody should hear how it stands: receipt is called when it can. */
void stop_owe_receipt(struct stop *s);

bool stop_halted(const struct stop *s);

/* A reason for people, in size bytes: without control characters, cut at a
 * character's border. */
void stop_keep_text(char *out, size_t size, struct slice s);

/* Why commands are refused, in a sentence. */
void stop_sentence(const struct stop *s, char *out, size_t size);

#endif
