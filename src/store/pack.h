/*
 * pack: the format of a backup, one file (floor: store; private to it).
 *
 *   "MUSTERBK", u32 version 1
 *   for each file: 'F', u16 length of its name, u64 size, name, bytes,
 *       SHA-256 of all these from 'F' on
 *   'E', u64 number of files, SHA-256 of everything from the start on
 *
 * Numbers are big-endian.  Names are "muster.db", which comes first, and
 * "output/ab/cmd_ab.../1.0000000000000000" (store/segments.h); any other is
 * refused, so that a backup cannot write elsewhere.
 */
#ifndef STORE_PACK_H
#define STORE_PACK_H

#include "store/digest.h"

enum { PACK_NAME_MAX = 96, PACK_HEAD = 12, PACK_ENTRY = 11, PACK_TAIL = 9 };

/* Writing: the pieces around the bytes.  Each returns its length. */
size_t pack_head(uint8_t out[PACK_HEAD]);
size_t pack_entry(
    struct slice name, uint64_t size, uint8_t out[PACK_ENTRY + PACK_NAME_MAX]);
size_t pack_tail(uint64_t count, uint8_t out[PACK_TAIL]);

/* Whether a name may stand in a backup. */
bool pack_name_ok(struct slice name);

/* Reading: a machine that is fed and asked. */
enum unpack_kind {
	UNPACK_FILE,  /* a file begins: name, size */
	UNPACK_BYTES, /* the next of its bytes */
	UNPACK_DONE,  /* it is complete and its sum is right */
	UNPACK_END,   /* so is the whole */
};

struct unpack_event {
	enum unpack_kind kind;
	struct slice name;  /* until the next event */
	struct slice bytes; /* of the input */
	uint64_t size;
};

struct unpack {
	int state;
	struct digest *whole; /* owned */
	struct digest *one;   /* owned */
	uint8_t held[PACK_ENTRY + PACK_NAME_MAX + DIGEST_LEN];
	size_t have; /* bytes in held */
	size_t need; /* and how many there must be */
	uint8_t name[PACK_NAME_MAX];
	size_t name_len;
	uint64_t left; /* bytes of the present file to come */
	uint64_t size;
	uint64_t count;
};

/* 0 or ERR_NOMEM; pair with unpack_fini either way. */
int unpack_init(struct unpack *u);
void unpack_fini(struct unpack *u);

/*
 * Eat from *input until something has come of it: 1 and *ev.  0: more is
 * needed, or all is done.  ERR_CORRUPT (a sum is wrong, cut or changed),
 * ERR_INVALID (not a backup, or a name that may not be), ERR_NEWER,
 * ERR_NOMEM.
 */
int unpack_next(struct unpack *u, struct slice *input, struct unpack_event *ev);

/* The end was seen: what was read is whole. */
bool unpack_done(const struct unpack *u);

#endif
