/*
 * gateway_pattern: what bodies and messages of bench/gateway consist of, the
 * same for the service and its client.  Byte p of a body is byte p % PATTERN.
 */
#ifndef BENCH_GATEWAY_PATTERN_H
#define BENCH_GATEWAY_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PATTERN = 64 * 1024 };

static uint8_t pattern[PATTERN];

static inline void
pattern_make(void)
{
	uint32_t x = 2463534242U;

	for (size_t i = 0; i < PATTERN; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		pattern[i] = (uint8_t)x;
	}
}

/* Whether n bytes are those of a body from its byte number at on. */
static inline bool
pattern_is(const uint8_t *bytes, size_t n, uint64_t at)
{
	while (n > 0) {
		size_t from = (size_t)(at % PATTERN);
		size_t part = PATTERN - from < n ? PATTERN - from : n;
		if (memcmp(bytes, pattern + from, part) != 0)
			return false;
		bytes += part;
		n -= part;
		at += part;
	}
	return true;
}

#endif
