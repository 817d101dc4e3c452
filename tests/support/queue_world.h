/*
 * queue_world: a hub with agents and people that writes down, in short lines,
 * what it answers and tells about queues (tests).
 *
 * "201 #3 queued 1/5000" is the answer to a command that waits in the first
 * place for an estimated 5 s; "open #3" its stream; "news queue a ..." what
 * watchers are told.
 */
#ifndef SUPPORT_QUEUE_WORLD_H
#define SUPPORT_QUEUE_WORLD_H

#include "support/rig.h"

enum { IDS = 2048, OP = 900, WATCHER = 901, AGENT = 1 };
enum {
	TOKEN_AGENT = 1,
	TOKEN_ROOT,
	TOKEN_VIEWER,
	TOKEN_OPERATOR,
	TOKEN_CONSOLE
};

struct world {
	struct rig rig;
	char log[1 << 16];
	size_t len;
	char ids[IDS][32];
	size_t id_count;
	int fail_verb; /* 0: none */
	int store_err;
	const char *fail_agent; /* NULL: all */
	bool ends; /* all of them are written down, not only refusals */
	size_t news;
	size_t ops;
};
extern struct world w;

/* A world at time 0, two commands at once; 0 or ERR_NOMEM. */
int world_begin(const struct hub_config *config);

/* As set-up and tear-down of a test. */
int world_set_up(void **state);
int world_tear_down(void **state);

/* Of the n-th command that was seen, from 1. */
struct slice id_of(int n);

/* Exactly this has happened since the last look. */
#define expect(text) expect_(text, __LINE__)
void expect_(const char *text, int line);
void forget(void);

/* Agents: Muster's own, and one of the console dialect. */
void arrive_at(
    uint32_t peer, const char *id, const char *verbs, const char *labels);
void arrive(const char *id, const char *verbs);
void arrive_foreign(uint32_t peer, const char *id);
void leave(void);

struct event request(
    enum request_op op, uint32_t token, uint32_t peer, struct slice id);
void ask(enum request_op op, uint32_t token, struct slice id);
void watch(void);

struct wish {
	const char *argv;
	int priority; /* -1 low, 1 high */
	bool foreground;
	bool or_fail;
	bool force;
	msec deadline;
	uint32_t token;
	const char *key;
	const char *cwd;
	const char *selector; /* then agent is "a,b" or NULL */
};
#define PLAIN ((struct wish){ 0 })
void run(const char *agent, struct wish wish);

/* It ran so long, by the agent's own clock. */
void ends_after(int command, msec took, int code);
void later(msec by);

#endif
