/*
 * safe: foreign text made fit for a terminal (floor: cli).
 *
 * What agents, controllers and their users wrote is data.  Control bytes of
 * every kind (ESC, C1, bidirectional overrides, line separators) and bytes
 * that are not UTF-8 are written as visible escapes: \n, \t, \x1b, \u202e.
 */
#ifndef CLI_SAFE_H
#define CLI_SAFE_H

#include "base/buf.h"
#include "base/heap.h"
#include "base/stamp.h"

/* Backslashes are doubled, so that what is shown has one reading. */
void safe_text(struct buf *out, struct slice s);

/* The same with single backslashes and for a whole line of our own that
 * quotes foreign text. */
void safe_line(struct buf *out, struct slice s);

/* Valid JSON, which may hold such characters raw in its strings, with the
 * same value in safe characters. */
void safe_json(struct buf *out, struct slice json);

/* Terminal columns that s takes, and the longest beginning of s that fits
 * into so many.  s has been through safe_text. */
size_t safe_width(struct slice s);
struct slice safe_fit(struct slice s, size_t columns);

/* "45s", "3m", "5h", "12d". */
void safe_span(struct buf *out, msec span);

/* A duration on the command line: as in configuration files, or a bare
 * number of seconds.  0, ERR_INVALID or ERR_RANGE. */
int safe_read_span(struct slice s, msec *out);

#endif
