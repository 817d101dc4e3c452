/*
 * be: big-endian integers in byte strings (floor: wire).
 */
#ifndef WIRE_BE_H
#define WIRE_BE_H

#include <stdint.h>

static inline uint16_t
be_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
be_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t
be_get64(const uint8_t *p)
{
	return (uint64_t)be_get32(p) << 32 | be_get32(p + 4);
}

static inline void
be_put16(uint8_t *p, uint16_t n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

static inline void
be_put32(uint8_t *p, uint32_t n)
{
	be_put16(p, (uint16_t)(n >> 16));
	be_put16(p + 2, (uint16_t)n);
}

static inline void
be_put64(uint8_t *p, uint64_t n)
{
	be_put32(p, (uint32_t)(n >> 32));
	be_put32(p + 4, (uint32_t)n);
}

#endif
