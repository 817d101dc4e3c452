/*
 * cli: what every verb of muster is given (floor: cli).
 *
 * A verb is a function from its arguments to an exit code.  Data goes to
 * stdout, everything else to stderr, one line for each failure: what failed,
 * why, what to do.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/heap.h"
#include "cli/args.h"
#include "cli/context.h"
#include "cli/exit.h"
#include "cli/term.h"

struct verb;

struct cli {
	struct arena arena; /* lives as long as the program */
	struct term term;
	struct context at; /* the controller to talk to */
	const struct verb *verb;
	const char *config; /* path of the file with contexts */
	void *curl;         /* owned by rest.c: connections that are reused */
	bool json;
};

enum {
	CLI_MEMORY = 1 << 30, /* of the arena */
	CLI_OUTPUT = 1 << 30, /* of what is gathered before it is written */
	CLI_LINE = 4096,      /* of a message */
};

/* The whole program. */
int cli_main(int argc, char **argv);

/*
 * "muster VERB: ..." on stderr; foreign text in it is made safe.  The first
 * returns code, so that a verb can return cli_fail(...).
 */
__attribute__((format(printf, 3, 4))) int cli_fail(
    const struct cli *c, int code, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void cli_note(
    const struct cli *c, const char *fmt, ...);

/* A wrong call: the message, and where to read on.  EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage(
    const struct cli *c, const char *fmt, ...);

int cli_nomem(const struct cli *c);

/* Write what was gathered to stdout and free it.  EXIT_OK, also when the
 * reader has gone, as under SIGPIPE; else a message and EXIT_FAILED. */
int cli_print(const struct cli *c, struct buf *out);

/* A duration option in ms; fallback when it was not given.
 * EXIT_OK, or a message and EXIT_USAGE. */
int cli_span(const struct cli *c, const struct args *a, const char *flag,
    msec fallback, msec *out);

#endif
