/*
 * js: the JSON reader (floor: base).  RFC 8259; the writer is js_write.h.
 *
 * js_parse checks a whole text at once and lays it out on a tape in an arena;
 * everything else is a look at that tape and cannot fail for want of memory.
 * Strings without escapes and all raw spans borrow the text; decoded strings
 * live in the arena.  The text, the arena and the document must outlive every
 * value taken from it, and the document must not move.
 *
 * The reader accepts what RFC 8259 accepts, in strict UTF-8, without a byte
 * order mark.  Nothing recurses: depth costs tape, never stack.
 */
#ifndef BASE_JS_H
#define BASE_JS_H

#include "base/arena.h"
#include "base/slice.h"

enum js_kind {
	JS_NONE, /* no such member or element */
	JS_NULL,
	JS_BOOL,
	JS_NUMBER,
	JS_STRING,
	JS_ARRAY,
	JS_OBJECT
};

struct js_limits {
	size_t bytes;   /* longest text; never above JS_BYTES_MAX */
	uint32_t depth; /* containers within one another; 1 admits [] */
};

enum { JS_BYTES_MAX = 1 << 30 };

union js_slot;

struct js_doc {
	struct slice text;     /* borrowed */
	union js_slot *tape;   /* in the arena */
	struct slice repeated; /* first repeated member name, else absent */
	size_t error_at;       /* where a refused text went wrong */
	bool lone_surrogate;   /* some \uD800..\uDFFF had no partner */
};

struct js_value {
	const struct js_doc *doc; /* borrowed */
	uint32_t at;
	enum js_kind kind;
};

/*
 * Read text.  0, or ERR_TOO_BIG, ERR_DEPTH, ERR_UTF8, ERR_INVALID (anything
 * else that is no JSON, bytes after the value included) or ERR_NOMEM; then
 * only error_at is of use.  The tape takes at most about 16 times the
 * text's bytes from the arena, typically 4.
 *
 * A member name that occurs twice in one object is not refused but reported
 * in repeated, compared after decoding; a caller that cares answers
 * ERR_DUPLICATE.  Lookups find the first.
 */
int js_parse(struct js_doc *doc, struct slice text,
    const struct js_limits *limits, struct arena *a);

struct js_value js_root(const struct js_doc *doc);

/* A member; kind is JS_NONE when absent or when obj is not an object. */
struct js_value js_get(struct js_value obj, const char *name);

/* Members or elements; 0 for anything but a container. */
size_t js_count(struct js_value v);

/* The bytes of a value as received; absent for JS_NONE. */
struct slice js_raw(struct js_value v);

/* The bytes of a member as received, from the name's quote to the value's
 * end; absent when there is none. */
struct slice js_raw_member(struct js_value obj, const char *name);

/*
 * Steps through a container in order.  name is absent in arrays; both may
 * be NULL.  Anything but a container gives nothing.
 */
struct js_walk {
	const struct js_doc *doc;
	uint32_t at, end;
	bool named;
};
struct js_walk js_walk(struct js_value container);
bool js_next(struct js_walk *w, struct slice *name, struct js_value *value);
/* The name that js_next gives next, as received with its quotes; absent in
 * arrays and at the end. */
struct slice js_raw_name(const struct js_walk *w);

/*
 * Typed getters: 0, ERR_MISSING (JS_NONE), ERR_TYPE, or ERR_RANGE.
 * A string is decoded and may hold NUL; a lone surrogate reads as U+FFFD.
 * Integers are exact: 1.0 and 1e3 are integers, 0.5 is ERR_TYPE.
 */
int js_string(struct js_value v, struct slice *out);
int js_bool(struct js_value v, bool *out);
int js_i64(struct js_value v, int64_t *out);
int js_u64(struct js_value v, uint64_t *out);
int js_double(struct js_value v, double *out);

/*
 * Reading the fields of one object with one check at the end: the first
 * failure stays in err with the field's name, and later calls do nothing.
 * A member that is null counts as absent.  need: ERR_MISSING when absent;
 * opt: the fallback (kind JS_NONE, an absent slice) when absent.
 * Asking in the order of the text is fastest.
 */
struct js_fields {
	struct js_value obj;
	uint32_t cursor;    /* where the next lookup begins */
	int err;            /* 0, ERR_MISSING, ERR_TYPE or ERR_RANGE */
	struct slice field; /* the name that failed; absent: obj itself */
};

void js_fields_init(struct js_fields *f, struct js_value obj);

/* Any kind; null is a value here. */
struct js_value js_field(struct js_fields *f, const char *name);

void js_need_string(struct js_fields *f, const char *name, struct slice *out);
void js_opt_string(struct js_fields *f, const char *name, struct slice *out);
void js_need_i64(struct js_fields *f, const char *name, int64_t min,
    int64_t max, int64_t *out);
void js_opt_i64(struct js_fields *f, const char *name, int64_t min, int64_t max,
    int64_t fallback, int64_t *out);
void js_need_double(struct js_fields *f, const char *name, double *out);
void js_opt_double(
    struct js_fields *f, const char *name, double fallback, double *out);
void js_need_bool(struct js_fields *f, const char *name, bool *out);
void js_opt_bool(
    struct js_fields *f, const char *name, bool fallback, bool *out);
void js_need_kind(struct js_fields *f, const char *name, enum js_kind kind,
    struct js_value *out);
void js_opt_kind(struct js_fields *f, const char *name, enum js_kind kind,
    struct js_value *out);

#endif
