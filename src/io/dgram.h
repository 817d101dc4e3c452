/*
 * dgram: a UDP socket on a loop (floor: io).
 *
 * Sending never waits: what the kernel does not take is the caller's loss,
 * as anywhere on a datagram's way.
 *
 * Life: dgram_open -> ops.ready... -> dgram_close -> ops.closed, exactly once
 * and from the loop; only then may the owner's memory go.
 */
#ifndef IO_DGRAM_H
#define IO_DGRAM_H

#include <stdbool.h>

#include "base/slice.h"

#include "io/addr.h"

struct dgram;
struct loop;

/* The longest datagram there can be (IPv6, without jumbograms). */
enum { DGRAM_MAX = 65527 };

struct dgram_ops {
	/* There is something to receive; told each turn until it is. */
	void (*ready)(void *owner);
	void (*closed)(void *owner);
};

/*
 * Bound to local and connected to remote; either may be NULL.  0,
 * ERR_UNREACHABLE, ERR_BUSY, ERR_DENIED, ERR_INVALID, ERR_NOMEM...
 */
int dgram_open(struct loop *l, const union addr *local,
    const union addr *remote, const struct dgram_ops *ops, void *owner,
    struct dgram **out);
void dgram_close(struct dgram *d);

/*
 * Take one datagram into room bytes at to (DGRAM_MAX take any); from may be
 * NULL.  0, ERR_AGAIN when there is none, or what ICMP has told of one that
 * was sent: ERR_REFUSED (nobody is there), ERR_UNREACHABLE...
 */
int dgram_receive(
    struct dgram *d, uint8_t *to, size_t room, size_t *n, union addr *from);

/* Send one; to NULL: to the remote.  0, ERR_AGAIN (dropped), ERR_TOO_BIG,
 * ERR_REFUSED (of an earlier one; this one is dropped)... */
int dgram_send(struct dgram *d, struct slice bytes, const union addr *to);

/* Where it is bound. */
void dgram_address(const struct dgram *d, union addr *out);

#endif
