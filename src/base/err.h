/*
 * err: the one list of failures (floor: base).
 *
 * Functions return 0 (or a count) for success and a negative ERR_* for
 * failure.  Every error has a stable name, used in logs, in answers on the
 * wire and in tests; a name is never reused for another meaning.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* clang-format off */
#define ERR_LIST(X)                     \
	X(NOMEM,       -1, "no_memory")     \
	X(FULL,        -2, "full")          \
	X(INVALID,     -3, "invalid")       \
	X(TOO_BIG,     -4, "too_big")       \
	X(DEPTH,       -5, "too_deep")      \
	X(DUPLICATE,   -6, "duplicate")     \
	X(TYPE,        -7, "wrong_type")    \
	X(MISSING,     -8, "missing")       \
	X(RANGE,       -9, "out_of_range")  \
	X(PROTOCOL,   -10, "protocol_error") \
	X(UTF8,       -11, "invalid_utf8")  \
	X(CLOSED,     -12, "closed")        \
	X(TIMEOUT,    -13, "timeout")       \
	X(GONE,       -14, "gone")          \
	X(NOT_FOUND,  -15, "not_found")     \
	X(EXISTS,     -16, "exists")        \
	X(DENIED,     -17, "denied")        \
	X(UNSUPPORTED, -18, "unsupported")  \
	X(CORRUPT,    -19, "corrupt")       \
	X(BUSY,       -20, "busy")          \
	X(IO,         -21, "io_error")      \
	X(TLS,        -22, "tls_error")     \
	X(DNS,        -23, "dns_error")     \
	X(REFUSED,    -24, "refused")       \
	X(WRONG_STATE, -25, "wrong_state") \
	X(AGAIN,      -26, "again")         \
	X(NO_SPACE,   -27, "no_space")      \
	X(NEWER,      -28, "newer_format")  \
	X(STOPPED,    -29, "stopped")       \
	X(EXPIRED,    -30, "expired")       \
	X(REVOKED,    -31, "revoked")       \
	X(LIMITED,    -32, "rate_limited")  \
	X(UNREACHABLE, -33, "unreachable")  \
	X(RESET,      -34, "reset")
/* clang-format on */

#define X(name, value, text) ERR_##name = value,
enum err { ERR_OK = 0, ERR_LIST(X) };
#undef X

/* The stable name; "ok" for 0, "unknown" for a number not in the list. */
const char *err_name(int err);

#endif
