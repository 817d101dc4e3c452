#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "support/guard.h"

enum { PAGE = 4096 };

static size_t
span(size_t len)
{
	return (len / PAGE + 1) * PAGE;
}

struct slice
guard_copy(struct slice s)
{
	size_t size = span(s.len);
	uint8_t *mem = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED || mprotect(mem + size, PAGE, PROT_NONE) != 0)
		abort();
	uint8_t *at = mem + size - s.len;
	if (s.len > 0)
		memcpy(at, s.ptr, s.len);
	return (struct slice){ at, s.len };
}

void
guard_free(struct slice s)
{
	size_t size = span(s.len);

	munmap((void *)((uintptr_t)s.ptr + s.len - size), size + PAGE);
}
