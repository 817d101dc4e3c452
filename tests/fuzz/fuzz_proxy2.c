#include <assert.h>
#include <stdint.h>

#include "io/proxy2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A prefix never decides otherwise than the whole: it wants more, or refuses
 * what the whole refuses. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy2 p, q;
	int whole = proxy2_parse((struct slice){ data, size }, &p);

	assert(whole <= (int)size);
	assert(whole <= 0 || whole <= PROXY2_MAX);
	for (size_t n = 0; n < size && n < 64; n++) {
		int part = proxy2_parse((struct slice){ data, n }, &q);
		assert(part == 0 || (part < 0 && whole < 0) ||
		    (part > 0 && part == whole));
	}
	return 0;
}
