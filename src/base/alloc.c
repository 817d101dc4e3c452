#include <stdlib.h>

#include "base/alloc.h"

void *
alloc_new(size_t size)
{
	return calloc(1, size);
}

void *
alloc_array(size_t count, size_t size)
{
	return calloc(count, size);
}

void *
alloc_resize(void *old, size_t size)
{
	return realloc(old, size);
}

void
alloc_free(void *p)
{
	free(p);
}
