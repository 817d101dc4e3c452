/*
 * clock: the only place that reads one (floor: io).
 *
 * Deadlines use the monotonic clock, stamps the wall clock; neither is ever
 * computed from the other.  The monotonic clock is CLOCK_MONOTONIC: it is
 * the one that libuv, epoll and futexes wait on, and it stands still while
 * the machine sleeps, so that a laptop that wakes up first reads what its
 * peers sent and only then decides that they are silent (CLOCK_BOOTTIME
 * would expire every deadline in the first loop turn).
 *
 * Inside a loop use loop_now, which is read once per turn.
 */
#ifndef IO_CLOCK_H
#define IO_CLOCK_H

#include <stdint.h>

#include "base/heap.h"
#include "base/stamp.h"

/* Milliseconds since an arbitrary start; never goes back. */
msec clock_mono(void);

/* The same clock in nanoseconds, for measuring. */
int64_t clock_mono_ns(void);

/* Milliseconds since 1970; may jump either way. */
wall_msec clock_wall(void);

#endif
