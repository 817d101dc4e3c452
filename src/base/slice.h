/*
 * slice: a borrowed run of bytes (floor: base).
 *
 * Never owned, never NUL-terminated.  { NULL, 0 } is the empty slice and
 * also means "absent" where a field may be absent; an empty but present
 * value has a non-NULL ptr.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const uint8_t *ptr;
	size_t len;
};

/* clang-format off */
/* A literal, and the same as the initializer of a static table. */
#define SL_INIT(lit) { (const uint8_t *)("" lit), sizeof(lit) - 1 }
#define SL(lit) ((struct slice)SL_INIT(lit))
/* clang-format on */

/* The same where C wants a constant: members of static tables. */
#define SL_INIT(lit)                                       \
	{                                                  \
		(const uint8_t *)("" lit), sizeof(lit) - 1 \
	}

/* For printf("%.*s", SLICE_FMT(s)). */
#define SLICE_FMT(s) (int)(s).len, (const char *)(s).ptr

static inline struct slice
slice_from(const char *text)
{
	return (struct slice){ (const uint8_t *)text,
		text == NULL ? 0 : strlen(text) };
}

static inline bool
slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len &&
	    (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII case is ignored (RFC 9110 field names, tokens, schemes). */
bool slice_eq_nocase(struct slice a, struct slice b);

/* Order by bytes, then by length: <0, 0, >0. */
int slice_cmp(struct slice a, struct slice b);

bool slice_starts(struct slice s, struct slice prefix);
bool slice_ends(struct slice s, struct slice suffix);

/* The part from at (clamped) to the end, and the first n bytes (clamped). */
struct slice slice_from_at(struct slice s, size_t at);
struct slice slice_first(struct slice s, size_t n);

/* Position of the first c, or s.len. */
size_t slice_find(struct slice s, uint8_t c);

/* Without leading and trailing spaces and tabs (RFC 9110 OWS). */
struct slice slice_trim(struct slice s);

/*
 * Cut the next part before sep off *rest; false when *rest was exhausted.
 * "a,,b" gives "a", "", "b"; an absent slice gives nothing.
 */
bool slice_split(struct slice *rest, uint8_t sep, struct slice *part);

/*
 * Decimal digits only, no sign, no leading or trailing bytes.
 * 0, ERR_INVALID or ERR_RANGE (above max).
 */
int slice_u64(struct slice s, uint64_t max, uint64_t *out);

/* Copy into a NUL-terminated array, for a library's door.
 * 0, ERR_TOO_BIG when it does not fit, ERR_INVALID on an inner NUL. */
int slice_cstr(struct slice s, char *out, size_t size);

#endif
