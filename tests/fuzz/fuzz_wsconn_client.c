/* wsconn as a client. */
#include "fuzz/wsconn_run.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return run_both(WSCONN_CLIENT, data, size);
}
