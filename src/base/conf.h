/*
 * conf: configuration text and typed options (floor: base).
 *
 *   # comment            ; comment
 *   key = value          # after white space, also here
 *   key = "quoted \"value\" # no comment"
 *   [section]
 *   [section "name"]
 *
 * Keys and sections are [A-Za-z0-9_.-]+.  Quoted text knows the escapes
 * \\ \" \n \r \t.  UTF-8 only; CRLF is fine; nothing spans lines.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"

struct conf_entry {
	struct slice section; /* empty before the first header */
	struct slice name;    /* of [section "name"], absent without */
	struct slice key;     /* empty: the header itself, value absent */
	struct slice value;   /* present, maybe empty */
	uint32_t line;        /* from 1 */
};

struct conf_limits {
	size_t bytes;
	size_t entries; /* headers count too */
};

struct conf_doc {
	struct conf_entry *entries; /* in the arena, in the file's order */
	size_t count;
	uint32_t error_line;    /* of a refused text */
	struct slice error_key; /* the key on that line, if it got so far */
};

/*
 * 0, or ERR_TOO_BIG (bytes), ERR_FULL (entries), ERR_INVALID, ERR_UTF8 or
 * ERR_NOMEM.  Entries borrow the text; values with escapes are in the arena.
 */
int conf_parse(struct slice text, struct arena *a,
    const struct conf_limits *limits, struct conf_doc *doc);

/* Values: 0, ERR_INVALID, or ERR_RANGE when too large for the type. */

/* true yes on 1, false no off 0. */
int conf_bool(struct slice s, bool *out);

/* Decimal. */
int conf_u64(struct slice s, uint64_t *out);

/* "250ms", "30s", "5m", "24h", "7d", or several, "1h30m"; 0 needs no unit. */
int conf_duration(struct slice s, msec *out);

/* "512", "64K", "16MiB", "2G", "1T": powers of 1024; B is allowed. */
int conf_size(struct slice s, uint64_t *out);

/* Options -------------------------------------------------------------- */

/* The type of the member that an option fills. */
enum conf_kind {
	CONF_TEXT,     /* struct slice; min and max are its length */
	CONF_BOOL,     /* bool */
	CONF_COUNT,    /* uint64_t */
	CONF_SIZE,     /* uint64_t, bytes */
	CONF_DURATION, /* msec */
	CONF_MANY      /* none: may be repeated, the caller reads the entries */
};

enum conf_reload { CONF_HOT, CONF_NEW_CONNECTIONS, CONF_RESTART };

struct conf_option {
	const char *key;
	enum conf_kind kind;
	enum conf_reload reload;
	uint64_t min, max;    /* max 0 = no bound */
	const char *fallback; /* as one would write it; NULL = leave alone */
	const char *sentence; /* for the man page and `check` */
	size_t at;            /* offsetof the member in the storage */
};

struct conf_table {
	const struct conf_option *options;
	size_t count;
};

/* What is wrong with one entry, or why one option refused a value. */
struct conf_problem {
	int err;             /* ERR_NOT_FOUND: no such key; ERR_DUPLICATE;
			      * ERR_INVALID, ERR_RANGE: the value */
	uint32_t line;       /* 0 when not from a file */
	uint32_t first_line; /* of the entry that is repeated */
	struct slice key, value;
	const struct conf_option *option; /* NULL when not found */
	const char *nearest;              /* a key that may be meant, or NULL */
};

const struct conf_option *conf_find(
    const struct conf_table *table, struct slice key);

/* Fill every option with its fallback, which is asserted to be valid. */
void conf_defaults(const struct conf_table *table, void *storage);

/* One value, from a flag or the environment.  Text is borrowed.
 * 0, ERR_INVALID or ERR_RANGE, and then storage is unchanged. */
int conf_set(
    const struct conf_option *option, struct slice value, void *storage);

/*
 * Set what the unnamed section of the document says.  *at walks the entries,
 * 0 at first.  0 when all are done; else the err of *p, and a further call
 * goes on behind it, so that one run names every problem.
 */
int conf_apply(const struct conf_table *table, const struct conf_doc *doc,
    struct slice section, void *storage, size_t *at, struct conf_problem *p);

/* One line for people, without a file name or a newline. */
void conf_explain(const struct conf_problem *p, struct buf *out);

/* "key (duration, 1s to 1h, default 30s, reload hot): sentence" */
void conf_describe(const struct conf_option *option, struct buf *out);

#endif
