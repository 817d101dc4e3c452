/*
 * target: which hosts a tunnel may end at, beside what the policy says
 * (agent; docs/protocol/muster.md "Tunnel streams").
 *
 * Pure.  A host is brought to one spelling before anybody judges it; what
 * it resolves to is judged address by address, and what passed is dialled,
 * so that no name can be one thing when asked and another when dialled.
 */
#ifndef AGENT_TARGET_H
#define AGENT_TARGET_H

#include "base/slice.h"
#include "io/addr.h"

enum { TARGET_HOST = 254 }; /* bytes of a name, NUL counted */

/*
 * The one spelling: lower case, addresses as inet_ntop writes them and
 * without brackets, IPv4-mapped ones as IPv4.  0, ERR_INVALID (no host has
 * such a name), or ERR_DENIED (a number that only old resolvers take for an
 * address: 127.1, 0x7f000001).
 */
int target_spell(struct slice host, char out[TARGET_HOST]);

/* Whether host, spelled as above, says loopback: localhost, 127.0.0.0/8, ::1.
 * Only then, and if the policy spells it too, loopback may be dialled. */
bool target_is_loopback(const char *host);

/* Keep those that may be dialled, in their order; how many. */
size_t target_sift(union addr *addresses, size_t count, bool loopback);

#endif
