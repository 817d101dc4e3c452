#include <assert.h>
#include <time.h>

#include "io/crash.h"

#include "io/clock.h"

static int64_t
read_ns(clockid_t id)
{
	struct timespec t;

	/* Fails only for a clock that Linux does not have. */
	int failed = clock_gettime(id, &t);
	assert(failed == 0);
	(void)failed;
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

msec
clock_mono(void)
{
	return read_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t
clock_mono_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

wall_msec
clock_wall(void)
{
	return read_ns(CLOCK_REALTIME) / 1000000;
}
