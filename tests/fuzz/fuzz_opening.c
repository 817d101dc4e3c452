/* What decodes encodes to the same bytes, and no part of it decodes. */
#include <stdlib.h>

#include "wire/opening.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = { data, size };
	struct opening o, part;
	struct buf b;
	int n = opening_decode(in, &o);

	if (n <= 0)
		return 0;
	buf_init(&b, OPENING_MAX);
	if (opening_encode(&o, &b) != 0 ||
	    !slice_eq(buf_peek(&b), slice_first(in, (size_t)n)))
		abort();
	buf_fini(&b);
	for (size_t i = 0; i < (size_t)n && i < 64; i++)
		if (opening_decode(slice_first(in, i), &part) != 0)
			abort();
	return 0;
}
