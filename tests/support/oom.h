/*
 * oom: make the n-th allocation fail (tests).
 *
 * Every unit test is linked with malloc, calloc and realloc wrapped.
 */
#ifndef SUPPORT_OOM_H
#define SUPPORT_OOM_H

#include <stdbool.h>

/* Fail the n-th allocation from now on, once; 0 = never. */
void oom_fail_at(long n);

/* Whether the armed failure has happened; disarms. */
bool oom_happened(void);

/*
 * Run body(arg) with the first, second, third... allocation failing, until a
 * run needs fewer.  body must cope with failure and clean up after itself.
 */
void oom_torture(void (*body)(void *arg), void *arg);

#endif
