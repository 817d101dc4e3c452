/*
 * canon: messages that carry their own signature (floor: wire).
 *
 * A message is an object {type, agentId, ts, nonce, payload, signature}; the
 * signature is the HMAC-SHA256, in hexadecimal, of a text of the other five.
 * Which text is not agreed in the field, so three are tried, each an exact
 * string of bytes (docs/protocol/signed.md, section 3):
 *
 *   CANON_RECEIVED  what was received, the member `signature` cut out;
 *   CANON_RAW       the five members in the order above, compact, each value
 *                   in the bytes that were received;
 *   CANON_ECMA      the same, each value as JSON.stringify(JSON.parse(...))
 *                   of ECMAScript writes it.
 *
 * Values are those of base/js.h: the text has been read and is valid, and its
 * depth is limited by whoever read it.  A message with repeated names
 * (js_doc.repeated) is the caller's to refuse before it comes here.
 */
#ifndef WIRE_CANON_H
#define WIRE_CANON_H

#include "base/buf.h"
#include "base/js.h"

#include "wire/token.h"

enum { CANON_HEX = 64 }; /* digits of a signature */

enum canon_form { CANON_RECEIVED, CANON_RAW, CANON_ECMA, CANON_FORMS };

/*
 * Append a value as JSON.stringify writes it (ECMA-262, 25.5.2): names that
 * are array indices first and in their order, numbers as Number::toString
 * has them, lone surrogates as \ud800.  What went wrong stays in out->err:
 * ERR_FULL or ERR_NOMEM.
 */
void canon_put(struct buf *out, struct js_value v);
/* One number; what is none, or infinite, is null. */
void canon_put_number(struct buf *out, double d);

/* Append the text that a signature of this form is of.  A member that is not
 * there is left out.  Errors in out->err. */
void canon_put_signed(
    struct buf *out, struct js_value message, enum canon_form form);

/* What verifying needs, and keeps for the next time; one thread at a time. */
struct canon_work {
	struct buf text;
	struct token_hasher hasher;
};
/* cap: longest text.  0 or ERR_NOMEM. */
int canon_work_init(struct canon_work *w, size_t cap);
void canon_work_fini(struct canon_work *w);

/* What fitted. */
struct canon_match {
	enum canon_form form;
	size_t key; /* which of the keys */
};

/*
 * Whether the member `signature` fits one of the forms under one of the
 * keys.  0 and, unless NULL, how; ERR_DENIED; ERR_NOMEM,
 * and ERR_FULL when the text is too long.  Digits are compared in constant
 * time; how long it takes tells the form and the key that fits.
 */
int canon_verify(struct js_value message, const struct slice *keys,
    size_t count, struct canon_work *w, struct canon_match *how);

/* What is to be sent. */
struct canon_message {
	struct slice type;
	struct slice agent_id;
	int64_t ts; /* wall clock, milliseconds */
	struct slice nonce;
	struct slice payload; /* one JSON value, compact */
};

/*
 * Append the message, signed: compact, in the order above, signature last.
 * All three forms of it are the same bytes as long as its strings are of
 * canon_is_plain and names in its payload are sorted and no numbers.
 * 0, ERR_FULL or ERR_NOMEM, and then nothing was appended.
 */
int canon_sign(
    struct slice key, const struct canon_message *m, struct buf *out);

/* Printable ASCII without the few characters that JSON writers do not agree
 * on (<, > and &). */
bool canon_is_plain(struct slice s);

#endif
