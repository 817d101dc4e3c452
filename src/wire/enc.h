/*
 * enc: bytes as text, and one-shot compression (floor: wire).
 *
 * enc_put_* append to a buf and leave failure in its sticky err.  enc_get_*
 * decode strictly: no white space, no stray bits, nothing left over.  They
 * return 0 or ERR_INVALID, ERR_FULL, ERR_NOMEM (and what is said below), and
 * on failure have appended nothing.  in must not lie in out.
 */
#ifndef WIRE_ENC_H
#define WIRE_ENC_H

#include "base/buf.h"
#include "base/slice.h"

/* RFC 4648 sections 4 and 5; BARE is without padding. */
enum enc_base64 {
	ENC_STD = 0,
	ENC_URL = 1,
	ENC_BARE = 2,
	ENC_URL_BARE = ENC_URL | ENC_BARE
};
void enc_put_base64(struct buf *out, struct slice in, enum enc_base64 form);
int enc_get_base64(struct slice in, enum enc_base64 form, struct buf *out);

/* RFC 4648 section 6, lower case, without padding. */
void enc_put_base32(struct buf *out, struct slice in);
int enc_get_base32(struct slice in, struct buf *out);

/* Writes lower case, reads both. */
void enc_put_hex(struct buf *out, struct slice in);
int enc_get_hex(struct slice in, struct buf *out);

/*
 * One component of a URL (RFC 3986 2.1): everything but the unreserved
 * characters is escaped.  Reading, plus also turns '+' into a space as forms
 * in a query do; a '%' without two digits is ERR_INVALID.
 */
void enc_put_percent(struct buf *out, struct slice in);
int enc_get_percent(struct slice in, bool plus, struct buf *out);

enum enc_pack {
	ENC_GZIP, /* RFC 1952; several members in a row are read as one */
	ENC_ZLIB  /* RFC 1950, what HTTP calls deflate */
};

/* level 1 to 9.  0, ERR_FULL or ERR_NOMEM. */
int enc_pack(struct slice in, enum enc_pack form, int level, struct buf *out);

/*
 * max: largest result; ratio: largest multiple of in.len.  ERR_TOO_BIG when
 * either is passed, found before more than that was written.
 */
struct enc_unpack_limits {
	size_t max;
	uint32_t ratio;
};
int enc_unpack(struct slice in, enum enc_pack form,
    const struct enc_unpack_limits *limits, struct buf *out);

#endif
