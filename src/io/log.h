/*
 * log: one line per event, logfmt, on stderr (floor: io).
 *
 *	log_info("agent_online", kv_s("agent", id), kv_u("conn", n));
 *	event=agent_online level=info ts=2025-10-16T12:00:00.000Z agent=...
 *conn=3
 *
 * error: someone must act; warn: we coped; info: life cycle; debug: per
 * message.  Event names and keys are string literals of [a-z0-9_]; values
 * may be hostile: anything that is not plain text is quoted and escaped,
 * control bytes of every kind (ESC, C1, bidi overrides) and bytes that are
 * not UTF-8 included, so that a log can be shown on any terminal.
 *
 * A line is at most LOG_LINE bytes, written by one write(2), so lines of
 * several threads never mix; a longer one is cut and ends "truncated=true".
 * At most so many lines a second pass per event name; the rest are counted
 * and reported as "event=log_suppressed of=NAME suppressed=N".
 *
 * A value has a type, and a secret's type (struct secret) has no kv_
 * function: it cannot be logged by mistake.  Safe from any thread; allocates
 * nothing; keeps errno.
 */
#ifndef IO_LOG_H
#define IO_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/stamp.h"

enum { LOG_LINE = 4096 }; /* PIPE_BUF: what a pipe takes whole or not */

enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARN, LEVEL_ERROR };

struct log_config {
	int fd; /* borrowed; 2 in a program */
	enum log_level level;
	unsigned per_second; /* lines per event name; 0 = no limit */
	/* Clocks for tests; NULL = the real ones. */
	msec (*mono)(void);
	wall_msec (*wall)(void);
};

/*
 * Before any other thread logs.  Without it: stderr, info, 50 a second.
 * A file descriptor that refuses a line (a full non-blocking pipe) loses it;
 * the loss is reported as "event=log_lost lines=N" when it takes one again.
 */
void log_init(const struct log_config *c);

/* At any time, from any thread (a reload). */
void log_set_level(enum log_level level);
bool log_on(enum log_level level);

/* "debug", "info", "warn", "error": 0 or ERR_INVALID. */
int log_level_parse(struct slice s, enum log_level *out);

/* Report what is suppressed so far; before exit. */
void log_flush(void);

enum kv_type { KV_END, KV_SLICE, KV_UINT, KV_INT, KV_ERR, KV_MSEC, KV_BOOL };

struct log_kv {
	const char *key;
	enum kv_type type;
	union {
		struct slice s;
		uint64_t u;
		int64_t i;
	} as;
};

static inline struct log_kv
kv_s(const char *key, struct slice s)
{
	return (struct log_kv){ key, KV_SLICE, { .s = s } };
}

/* A NUL-terminated string; NULL prints as nothing. */
static inline struct log_kv
kv_c(const char *key, const char *s)
{
	return (struct log_kv){ key, KV_SLICE, { .s = slice_from(s) } };
}

static inline struct log_kv
kv_u(const char *key, uint64_t u)
{
	return (struct log_kv){ key, KV_UINT, { .u = u } };
}

static inline struct log_kv
kv_i(const char *key, int64_t i)
{
	return (struct log_kv){ key, KV_INT, { .i = i } };
}

/* An ERR_*, printed by its stable name. */
static inline struct log_kv
kv_e(const char *key, int err)
{
	return (struct log_kv){ key, KV_ERR, { .i = err } };
}

/* A duration: 1500 prints as 1500ms. */
static inline struct log_kv
kv_ms(const char *key, msec ms)
{
	return (struct log_kv){ key, KV_MSEC, { .i = ms } };
}

static inline struct log_kv
kv_b(const char *key, bool b)
{
	return (struct log_kv){ key, KV_BOOL, { .u = b } };
}

/* Use the macros: they add the end of the list. */
void log_write(
    enum log_level level, const char *event, const struct log_kv *pairs);

#define LOG_AT(level, event, ...)                                    \
	(log_on(level) ? log_write((level), (event),                 \
			     (const struct log_kv[]){ __VA_ARGS__ }) \
		       : (void)0)
#define LOG_STOP ((struct log_kv){ 0 })
#define log_debug(...) LOG_AT(LEVEL_DEBUG, __VA_ARGS__, LOG_STOP)
#define log_info(...) LOG_AT(LEVEL_INFO, __VA_ARGS__, LOG_STOP)
#define log_warn(...) LOG_AT(LEVEL_WARN, __VA_ARGS__, LOG_STOP)
#define log_error(...) LOG_AT(LEVEL_ERROR, __VA_ARGS__, LOG_STOP)

#endif
