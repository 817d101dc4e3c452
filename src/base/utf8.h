/*
 * utf8: strict UTF-8 (floor: base).
 *
 * Well-formed is what Unicode table 3-7 and RFC 3629 say: no overlong forms,
 * no surrogates, nothing above U+10FFFF.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"
#include "base/slice.h"

/* Where a stream stands between two feeds; zero at the start. */
struct utf8 {
	uint32_t state;
};

/*
 * Check the next piece of the stream.  False as soon as no continuation
 * could make it well-formed, and for every later piece (RFC 6455 8.1 wants
 * a bad message failed without waiting for its end).
 */
bool utf8_feed(struct utf8 *u, struct slice piece);

/* Everything fed so far is well-formed and no character is half read. */
bool utf8_whole(const struct utf8 *u);

/* s is well-formed and ends at a character's border. */
bool utf8_valid(struct slice s);

/* The length of the leading run of ASCII. */
size_t utf8_ascii(struct slice s);

/*
 * The first character of s.  >0 its length, *code its code point; 0 when s
 * is empty or ends inside a character; <0 when ill-formed: minus the number
 * of bytes that one U+FFFD stands for (the maximal subpart of Unicode 3.9).
 */
int utf8_decode(struct slice s, uint32_t *code);

/* The bytes of one code point, 1 to 4; U+FFFD for what is none. */
size_t utf8_encode(uint32_t code, uint8_t out[4]);

/* The length of s without a character begun but not ended in its last bytes. */
size_t utf8_floor(struct slice s);

/*
 * Copies a stream and puts U+FFFD for what is ill-formed, so that any output
 * can be shown as text.  A character cut by a piece's end waits for the next
 * piece.  Zero at the start.
 */
struct utf8_mender {
	uint8_t held[4];
	uint8_t count; /* bytes in held, 0 to 3 */
};

void utf8_mend(struct utf8_mender *m, struct slice piece, struct buf *out);

/* The stream is over: a character that is still cut becomes U+FFFD. */
void utf8_mend_end(struct utf8_mender *m, struct buf *out);

#endif
