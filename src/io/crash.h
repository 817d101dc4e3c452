/*
 * crash: places where a test may end a program, and a clock that it may set
 * (floor: io).
 *
 * Between every two steps of a command's life stands a crash_point, with the
 * name that docs/protocol/muster.md, section 8, gives it.  What is shipped
 * has none of this: the calls are empty.  Programs built with VARIANT=crash
 * look into the directory that MUSTER_CRASH names:
 *
 *   at     the name of a point.  Who comes to it removes the file and, if it
 *          was there to be removed, dies by SIGKILL: one death a file.
 *   clock  milliseconds by which the wall clock is wrong.
 */
#ifndef IO_CRASH_H
#define IO_CRASH_H

#include <stdint.h>

#ifdef MUSTER_TEST_CRASH

void crash_point(const char *name);

/* To be added to every reading of the wall clock. */
int64_t crash_clock(void);

/* An environment for a child that shall know of this, else of nothing. */
char **crash_env(void);

#else

static inline void
crash_point(const char *name)
{
	(void)name;
}

static inline int64_t
crash_clock(void)
{
	return 0;
}

static inline char **
crash_env(void)
{
	static char *none[1];

	return none;
}

#endif

#endif
