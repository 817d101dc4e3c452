#include <stdlib.h>

#include "support/oom.h"

/* Names that the linker's --wrap gives. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static _Thread_local long left; /* 0 = not armed */
static _Thread_local bool hit;

static bool
fails(void)
{
	if (left == 0 || --left > 0)
		return false;
	hit = true;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

void
oom_fail_at(long n)
{
	left = n;
	hit = false;
}

bool
oom_happened(void)
{
	left = 0;
	return hit;
}

void
oom_torture(void (*body)(void *arg), void *arg)
{
	for (long n = 1;; n++) {
		oom_fail_at(n);
		body(arg);
		if (!oom_happened())
			return;
	}
}
