/*
 * find: from what an operator types to paths and ids (floor: cli).
 */
#ifndef CLI_FIND_H
#define CLI_FIND_H

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/rest.h"

/* before, word percent-encoded as one segment, after; in c's arena. */
struct slice find_path(
    struct cli *c, const char *before, struct slice word, const char *after);

/* "&name=value", encoded; nothing when value is NULL. */
void find_put_query(struct buf *path, const char *name, const char *value);

/* "&selector=a=b,c=d" of all -l options, if there are any. */
void find_put_selector(struct buf *path, const struct args *a);

/* --limit: 0 or the fallback when not given.  An exit code. */
int find_limit(
    const struct cli *c, const struct args *a, size_t fallback, size_t *out);

/* --NAME as a number from 1 to max; *out stays when it was not given.  An
 * exit code. */
int find_count(const struct cli *c, const struct args *a, const char *name,
    uint64_t max, uint64_t *out);

/*
 * The one agent meant by an id, a name or the beginning of an id.  A name
 * that several agents have is refused, listing their ids.  An exit code.
 */
int find_agent(struct cli *c, const char *word, struct answer **out);

/*
 * Waiting for something to become true, by asking again and again, less
 * often the longer it takes.
 */
struct patience {
	struct arena arena; /* of the last answer */
	msec end;           /* INT64_MAX: for ever */
	msec step;
};

/* Wait at most span ms, for ever when negative.  Pair with _fini. */
void patience_init(struct patience *p, msec span);
void patience_fini(struct patience *p);

/* False when the time is over; else, after a while, true. */
bool patience_pause(struct patience *p);

/*
 * GET path.  A controller that cannot be reached just now, or that is not
 * ready, is waited for: then EXIT_OK and status 0.  404 is an answer, too.
 */
int patience_ask(
    struct cli *c, struct patience *p, struct slice path, struct answer *out);

/* Answers in c's arena. */
struct answer *find_answer(struct cli *c);

#endif
