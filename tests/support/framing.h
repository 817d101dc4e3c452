/*
 * framing: what a transcript says goes through the real framing (tests).
 *
 * Each message is sent by one end of a WebSocket and received by the other
 * (a client's is masked) in every way it can be cut: whole, byte by byte,
 * in two reads at every position of its bytes, as two frames cut at every
 * position of its text with a ping between them, as frames of one byte fed
 * byte by byte, and compressed.  All must bring the same text, once; a
 * difference fails the running test.
 *
 * The text comes back as the ones fed byte by byte had it, its last byte
 * the last readable one, so that what is decoded from it has come the
 * hardest way: guard_free.
 */
#ifndef SUPPORT_FRAMING_H
#define SUPPORT_FRAMING_H

#include "base/slice.h"
#include "wire/wsconn.h"

/* from: who says it.  The text is UTF-8, and below 1 MiB. */
struct slice framing_carry(enum wsconn_role from, struct slice text);

/* The body of a request, in the same ways but one: by its length and
 * chunked.  guard_free. */
struct slice framing_carry_body(struct slice body);

#endif
