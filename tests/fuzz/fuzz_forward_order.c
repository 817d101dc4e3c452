/* An opening of a tunnel stream, of either version: what is accepted names a
 * host in the one spelling, and a port. */
#include <stdlib.h>
#include <string.h>

#include "agent/forward_order.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char again[TARGET_HOST];
	struct forward_refusal no = { .code = NULL };
	struct forward_wish w;
	struct opening o;
	bool yes;

	(void)forward_read_answer((struct slice){ data, size }, &yes);
	forward_find_domain((struct slice){ data, size }, again);
	if (opening_decode((struct slice){ data, size }, &o) <= 0)
		return 0;
	int err =
	    forward_read(&o, size % 2 == 0 ? "cluster.local" : "", &w, &no);
	if (err != 0)
		return 0;
	if (w.host[0] == '\0' || (w.port == 0 && !w.listen))
		abort();
	if (strcmp(w.host, "*") != 0 &&
	    (target_spell(slice_from(w.host), again) != 0 ||
		strcmp(again, w.host) != 0))
		abort();
	return 0;
}
