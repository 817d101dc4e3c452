#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "io/rand.h"

enum { STOCK = 128 }; /* words a thread keeps in hand */

static _Thread_local uint32_t stock[STOCK];
static _Thread_local size_t stock_left;

void
rand_fill(void *out, size_t n)
{
	uint8_t *p = out;

	while (n > 0) {
		ssize_t got = getrandom(p, n, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			abort();
		p += got;
		n -= (size_t)got;
	}
}

uint64_t
rand_u64(void)
{
	uint64_t n;

	rand_fill(&n, sizeof(n));
	return n;
}

uint32_t
rand_u32(void)
{
	if (stock_left == 0) {
		rand_fill(stock, sizeof(stock));
		stock_left = STOCK;
	}
	uint32_t n = stock[--stock_left];
	/* What was given out cannot be read back from memory later. */
	stock[stock_left] = 0;
	return n;
}

uint32_t
rand_below(uint32_t below)
{
	assert(below > 0);
	/* Values under 2^32 mod below would favour the small remainders. */
	uint32_t skip = (0 - below) % below;
	uint32_t n;

	do
		n = rand_u32();
	while (n < skip);
	return n % below;
}

/* prefix, then n characters of five random bits each, then NUL. */
static void
make_name(const char *prefix, size_t n, char *out)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint8_t bytes[32];
	size_t at = strlen(prefix);

	assert(at <= RAND_PREFIX_MAX && n <= sizeof(bytes));
	memcpy(out, prefix, at);
	rand_fill(bytes, n);
	for (size_t i = 0; i < n; i++)
		out[at++] = digits[bytes[i] % 32];
	out[at] = '\0';
	explicit_bzero(bytes, sizeof(bytes));
}

void
rand_id(const char *prefix, char out[RAND_ID_SIZE])
{
	make_name(prefix, 20, out);
}

void
rand_token(const char *prefix, char out[RAND_TOKEN_SIZE])
{
	make_name(prefix, 32, out);
}

void
rand_uuid(char out[RAND_UUID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t b[16];
	size_t at = 0;

	rand_fill(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < sizeof(b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[at++] = '-';
		out[at++] = digits[b[i] >> 4];
		out[at++] = digits[b[i] & 15];
	}
	out[at] = '\0';
}
