/*
 * resolve: names to addresses, off the loop's thread (floor: io).
 *
 * By the system's resolver, on libuv's threads, of which slow look-ups may
 * take half.  The order is the resolver's, its families in turn (RFC 8305 4).
 */
#ifndef IO_RESOLVE_H
#define IO_RESOLVE_H

#include "io/addr.h"

struct loop;
struct resolve;

enum { RESOLVE_ADDRESSES = 16 }; /* more are left out */

/* Addresses, for as long as the call lasts, ports as asked for; or ERR_DNS
 * (there is no such name), ERR_UNREACHABLE (nobody could say), ERR_NOMEM, and
 * a clause that says so. */
typedef void resolve_fn(void *owner, int err, const char *why,
    const union addr *addresses, size_t count);

/*
 * Calls done once, from the loop, and not after resolve_cancel.  host is
 * copied.  0, ERR_INVALID or ERR_NOMEM.
 */
int resolve_start(struct loop *l, const char *host, uint16_t port,
    resolve_fn *done, void *owner, struct resolve **out);
void resolve_cancel(struct resolve *r);

#endif
