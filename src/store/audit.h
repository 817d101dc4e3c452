/*
 * audit: the journal's hash chain (floor: store; private to it).
 *
 * hash = SHA-256 over the line's canonical form:
 *
 *   prev_hash   32 bytes; of a node's first line all zero
 *   node        u32
 *   number      u64, from 1, without holes
 *   at          i64
 *   workspace   i64
 *   actor, action, object, result, request_id, remote, detail_json, each
 *               u32 length and its bytes; absent: length 0xffffffff alone
 *
 * all big-endian.  Lines that retention removed leave the number and hash of
 * the last one in audit_pruned, where the check goes on.  A chain proves
 * that no line within it was changed, taken out or put in; who can write the
 * database can still cut its end off or forge it whole, so keep exports.
 */
#ifndef STORE_AUDIT_H
#define STORE_AUDIT_H

#include "base/buf.h"

#include "model/record.h"

/* 0 or ERR_TOO_BIG, ERR_NOMEM; scratch is overwritten. */
int audit_hash(const struct audit_record *line, int64_t workspace_id,
    struct buf *scratch, uint8_t out[HASH_LEN]);

struct store;

/* The end of this node's chain, from the database. */
int audit_load_head(struct store *s);

/* Append a line in the open transaction and move s->head on. */
int audit_append(struct store *s, wall_msec at, int64_t workspace_id,
    const struct audit_note *note);

#endif
