/*
 * policy: what this host lets a controller do (agent; DESIGN 6).
 *
 * A file of the host's owner; nothing remote can widen it.  What it does not
 * allow is refused.  Deciding is pure: no clock, no files, no memory.
 *
 *	version = 1
 *	allow = observe        # observe exec shell files logs tunnel
 *	allow = exec
 *	exec_user = muster-run # absent: the agent's own user
 *	[exec]
 *	allow = systemctl restart nginx*  # a glob a word, ** for the rest
 *	deny = rm **                      # wins over every allow
 *	[environment]
 *	allow = LC_*
 *	[cwd]
 *	allow = /srv/site                 # ending in /, *, *: all below it too
 *	[tunnel]
 *	allow = *.db.example:5432         # host:port or host:*; none: nothing
 *	allow = 127.0.0.1:8080            # loopback must be spelled
 *	listen = 127.0.0.1:8022           # for the controller's clients; or :*
 *	ca = /etc/ssl/own.pem             # whom TLS to services trusts
 *	[limits]
 *	commands = 256                    # at a time
 *	commands_per_minute = 600         # 0 = no limit
 *	streams = 2048                    # of all kinds, at a time
 *	tunnels = 1024                    # and listeners, at a time
 *	tunnel_idle = 0                   # ms s m h; 0 = TCP may be silent
 *	udp_idle = 5m
 *	spool = 256MiB                    # output of a command, not yet sent
 *	spool_total = 2GiB                # of all; 0 = no limit
 *
 * In globs, but of listen, * is any run of characters (in paths: but "/") and ?
 *any one; "\" takes the next character as it is, a blank too.  Denials help
 *against slips; only what is allowed limits, since a program can be reached by
 *many names.
 */
#ifndef AGENT_POLICY_H
#define AGENT_POLICY_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"

enum policy_verb {
	POLICY_OBSERVE,
	POLICY_EXEC,
	POLICY_SHELL,
	POLICY_FILES,
	POLICY_LOGS,
	POLICY_TUNNEL,
	POLICY_VERBS,
};

enum {
	POLICY_VERSION = 1,
	POLICY_BYTES = 256 * 1024,
	POLICY_HASH = 64, /* hex digits */
	POLICY_WHY = 256,
};

enum policy_list {
	POLICY_ARGV,
	POLICY_ENV,
	POLICY_CWD,
	POLICY_TARGET,
	POLICY_LISTEN,
};

struct policy_rule {
	struct slice text; /* as it stands in the file */
	uint32_t line;
	uint8_t list; /* enum policy_list */
	bool deny;
};

struct policy {
	struct arena arena;     /* the text and the rules */
	unsigned verbs;         /* 1 << enum policy_verb */
	struct slice exec_user; /* absent: the agent's own */
	uint64_t commands, commands_per_minute, streams;
	uint64_t spool, spool_total; /* bytes */
	uint64_t tunnels;
	msec tunnel_idle, udp_idle; /* 0: for ever */
	struct slice tunnel_ca;     /* a file; absent: the system's roots */
	struct policy_rule *rules;
	size_t rule_count;
	uint8_t hash[POLICY_HASH]; /* SHA-256 of the file, hex */
};

/* Why a file is refused. */
struct policy_fault {
	uint32_t line; /* 0: the file as a whole */
	char why[POLICY_WHY];
};

/* The answer to a question; why is for people, line 0 when none speaks. */
struct policy_verdict {
	bool allowed;
	uint32_t line;
	char why[POLICY_WHY];
};

/* Observe only.  Pair with policy_fini. */
void policy_init(struct policy *p);
void policy_fini(struct policy *p);

/*
 * Replace p, which was initialised, by what text says; untouched on failure.
 * 0, ERR_INVALID, ERR_NEWER, ERR_TOO_BIG, ERR_NOMEM...; *fault says why.
 */
int policy_parse(struct policy *p, struct slice text, struct policy_fault *f);

/*
 * The same from a file.  ERR_DENIED when group or others may write it or
 * its owner is neither root nor this user; ERR_NOT_FOUND.
 */
int policy_load(struct policy *p, const char *path, struct policy_fault *f);

bool policy_allows(const struct policy *p, enum policy_verb verb);

/* The names as in files and on the join line.  0 or ERR_INVALID. */
int policy_verb_parse(struct slice name, enum policy_verb *out);
const char *policy_verb_name(enum policy_verb verb);

struct policy_exec {
	const struct slice *argv;
	size_t argc;
	const struct slice *env; /* "NAME=value" */
	size_t envc;
	struct slice user; /* absent or empty: as the policy says */
	struct slice cwd;  /* the same: the user's home */
};

struct policy_verdict policy_check_exec(
    const struct policy *p, const struct policy_exec *e);

/* host as asked for: a name or an address, without brackets. */
struct policy_verdict policy_check_target(
    const struct policy *p, struct slice host, uint16_t port);

/* Whether an allowance spells this host, without any glob. */
bool policy_names_target(
    const struct policy *p, struct slice host, uint16_t port);

/* Whether the agent may listen there; port 0: on any that is free. */
struct policy_verdict policy_check_listen(
    const struct policy *p, struct slice host, uint16_t port);

/* What `join` asks for; the text of a new file is appended to out. */
struct policy_wish {
	unsigned verbs;
	struct slice exec_user;
	const struct slice *targets; /* "host:port", "host:*" */
	size_t target_count;
};

void policy_write(const struct policy_wish *w, struct buf *out);

#endif
