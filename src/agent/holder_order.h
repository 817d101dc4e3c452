/*
 * holder_order: what a holder is told to run (muster-holder; libc only).
 *
 * The holder allocates nothing: an order lies in static memory that costs no
 * page until it is read.
 */
#ifndef AGENT_HOLDER_ORDER_H
#define AGENT_HOLDER_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { ORDER_WORDS = 32768, ORDER_GROUPS = 256 };

struct order {
	const char *state, *id; /* all text is borrowed from the order's */
	const char *cwd, *cgroup;
	const char *stop; /* a file that forbids it; NULL = none */
	uint64_t seq, epoch;
	uint64_t uid, gid; /* UINT64_MAX = stay */
	uint64_t timeout_ms, int_ms, term_ms, drain_ms;
	uint64_t cap;
	uint64_t argv_hash;
	bool input, drop, kill_linger;
	size_t args, envs, groups;
	gid_t group[ORDER_GROUPS];
	char *arg[ORDER_WORDS + 1]; /* NULL-terminated, as exec wants them */
	char *env[ORDER_WORDS + 1];
};

/*
 * Read len bytes of NUL-terminated "key=value", which text must outlive.
 * 0, or -1 and *why a sentence; *newer tells that the version is too high.
 */
int order_parse(
    struct order *o, char *text, size_t len, const char **why, bool *newer);

#endif
