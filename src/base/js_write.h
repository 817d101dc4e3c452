/*
 * js_write: the JSON writer, the only code that escapes (floor: base).
 *
 * Compact JSON (RFC 8259) into a buf.  Commas and colons are the writer's
 * business.  Errors are sticky: put everything, then ask js_finish once.
 * A value without a key in an object, or a key in an array, is a bug of
 * the caller and asserted.
 */
#ifndef BASE_JS_WRITE_H
#define BASE_JS_WRITE_H

#include "base/buf.h"

enum { JS_WRITE_DEPTH = 64 };

struct js_writer {
	struct buf *out; /* borrowed */
	int err;
	uint32_t depth;
	uint64_t objects; /* bit d: the container at depth d + 1 is one */
	bool comma;       /* a value precedes in this container */
	bool keyed;       /* a key waits for its value */
	bool ascii;       /* everything above U+007E as \u escapes */
};

/* Append one value to out.  ascii: see above, else UTF-8 as it is. */
void js_write(struct js_writer *w, struct buf *out);
void js_write_ascii(struct js_writer *w, struct buf *out);

/* 0, ERR_DEPTH, ERR_FULL or ERR_NOMEM; asserts that all is closed. */
int js_finish(struct js_writer *w);

void js_begin_object(struct js_writer *w);
void js_begin_array(struct js_writer *w);
void js_end(struct js_writer *w);

void js_key(struct js_writer *w, struct slice key);

/* Ill-formed UTF-8 is written as U+FFFD. */
void js_put_string(struct js_writer *w, struct slice s);
void js_put_i64(struct js_writer *w, int64_t n);
void js_put_u64(struct js_writer *w, uint64_t n);

/* The fewest of 15 to 17 digits that read back as d; NaN, infinity: null. */
void js_put_double(struct js_writer *w, double d);
void js_put_bool(struct js_writer *w, bool b);
void js_put_null(struct js_writer *w);

/* raw is one valid JSON value, written as it is. */
void js_put_raw(struct js_writer *w, struct slice raw);

/* A key and its value at once. */
void js_kv_string(struct js_writer *w, const char *key, struct slice s);
void js_kv_i64(struct js_writer *w, const char *key, int64_t n);
void js_kv_u64(struct js_writer *w, const char *key, uint64_t n);
void js_kv_double(struct js_writer *w, const char *key, double d);
void js_kv_bool(struct js_writer *w, const char *key, bool b);
void js_kv_null(struct js_writer *w, const char *key);
void js_kv_raw(struct js_writer *w, const char *key, struct slice raw);
void js_kv_object(struct js_writer *w, const char *key); /* begins it */
void js_kv_array(struct js_writer *w, const char *key);  /* begins it */

#endif
