/* ws: a head that decodes encodes to the same bytes; masking is its own
 * inverse, wherever it is cut. */
#include <stdlib.h>
#include <string.h>

#include "wire/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ws_head h;
	uint8_t again[WS_HEAD_MAX], body[512], copy[512];
	int n = ws_decode_head((struct slice){ data, size }, &h);

	if (n <= 0)
		return 0;
	check(ws_encode_head(again, &h) == (size_t)n);
	check(memcmp(again, data, (size_t)n) == 0);

	size_t len = size - (size_t)n, cut = (size_t)(h.len % 64);
	if (len > sizeof(body))
		len = sizeof(body);
	if (cut > len)
		cut = len;
	memcpy(body, data + n, len);
	memcpy(copy, body, len);
	bool ascii = ws_mask(body, len, h.mask, h.len);
	for (size_t i = 0; i < len; i++)
		ascii = ascii && body[i] < 0x80;
	check(ws_mask(copy, cut, h.mask, h.len) || !ascii);
	ws_mask(copy + cut, len - cut, h.mask, h.len + cut);
	check(memcmp(body, copy, len) == 0);
	ws_mask(body, len, h.mask, h.len);
	check(memcmp(body, data + n, len) == 0);
	return 0;
}
