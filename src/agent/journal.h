/*
 * journal: the highest dispatch number this agent ever took (agent).
 *
 * The rule (spec/decisions.md 13): a number at or below the mark is never run
 * unless its claim is here.  A claim carries its number and is itself durable
 * before its command runs, so the mark is the highest of the file and the
 * claims: starting costs no commit here.  The file is written before a claim
 * is removed, by journal_save.
 *
 * A journal that is torn or newer than this program stops the agent: running
 * on without a mark could run a command twice.
 */
#ifndef AGENT_JOURNAL_H
#define AGENT_JOURNAL_H

#include <stdint.h>

#include "io/file.h"

struct journal {
	struct file_layer *fs; /* borrowed */
	char path[4096];
	uint64_t mark;  /* highest number known */
	uint64_t saved; /* what the file says */
};

/* Read <state>/journal; absent is mark 0.  ERR_CORRUPT, ERR_NEWER, ... */
int journal_open(struct journal *j, struct file_layer *fs, const char *state);

/* A claim with this number exists. */
void journal_note(struct journal *j, uint64_t seq);

/* Whether a command of which nothing is known here may be started. */
bool journal_may_run(const struct journal *j, uint64_t seq);

/* Make mark durable.  Blocks; any one thread at a time.  0 or ERR_*. */
int journal_save(struct journal *j, uint64_t mark);

#endif
