/*
 * guard: input that ends at an unreadable page (tests).
 *
 * A parser that reads one byte too far dies at once, sanitizer or not.
 */
#ifndef SUPPORT_GUARD_H
#define SUPPORT_GUARD_H

#include "base/slice.h"

/* A copy of s whose last byte is the last readable one; never fails. */
struct slice guard_copy(struct slice s);
void guard_free(struct slice s);

#endif
