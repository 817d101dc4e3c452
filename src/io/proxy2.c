#include <arpa/inet.h>

#include "base/err.h"

#include "io/proxy2.h"

enum {
	COMMAND_LOCAL = 0x20, /* version 2 in the upper half */
	COMMAND_PROXY = 0x21,
	FAMILY_NONE = 0x00,
	FAMILY_TCP4 = 0x11,
	FAMILY_TCP6 = 0x21,
	FAMILY_UNIX = 0x31,
	LENGTH_TCP4 = 12,
	LENGTH_TCP6 = 36,
	LENGTH_UNIX = 216,
};

static const uint8_t signature[12] = { 0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A,
	0x51, 0x55, 0x49, 0x54, 0x0A };

size_t
proxy2_length(struct slice s)
{
	if (s.len < PROXY2_HEAD)
		return PROXY2_HEAD;
	return PROXY2_HEAD + ((size_t)s.ptr[14] << 8 | s.ptr[15]);
}

/* The fixed part, as far as it has come. */
static int
check_head(struct slice s)
{
	size_t n = s.len < sizeof(signature) ? s.len : sizeof(signature);

	if (n > 0 && memcmp(s.ptr, signature, n) != 0)
		return ERR_PROTOCOL;
	if (s.len > 12 && s.ptr[12] != COMMAND_LOCAL &&
	    s.ptr[12] != COMMAND_PROXY)
		return ERR_PROTOCOL;
	if (proxy2_length(s) > PROXY2_MAX)
		return ERR_TOO_BIG;
	return 0;
}

/* The address block: source address, destination's, source port, its. */
static int
read_block(uint8_t family, struct slice block, struct proxy2 *p)
{
	switch (family) {
	case FAMILY_NONE:
		p->local = true;
		return 0;
	case FAMILY_UNIX:
		p->local = true;
		return block.len < LENGTH_UNIX ? ERR_PROTOCOL : 0;
	case FAMILY_TCP4:
		if (block.len < LENGTH_TCP4)
			return ERR_PROTOCOL;
		p->from.in.sin_family = AF_INET;
		memcpy(&p->from.in.sin_addr, block.ptr, 4);
		memcpy(&p->from.in.sin_port, block.ptr + 8, 2);
		return 0;
	case FAMILY_TCP6:
		if (block.len < LENGTH_TCP6)
			return ERR_PROTOCOL;
		p->from.in6.sin6_family = AF_INET6;
		memcpy(&p->from.in6.sin6_addr, block.ptr, 16);
		memcpy(&p->from.in6.sin6_port, block.ptr + 32, 2);
		return 0;
	default:
		return ERR_PROTOCOL; /* datagrams among them */
	}
}

int
proxy2_parse(struct slice s, struct proxy2 *out)
{
	struct proxy2 p = { 0 };
	size_t len = proxy2_length(s);
	int err = check_head(s);

	if (err != 0 || s.len < len)
		return err;
	if (s.ptr[12] == COMMAND_LOCAL)
		p.local = true;
	else
		err = read_block(s.ptr[13],
		    slice_first(
			slice_from_at(s, PROXY2_HEAD), len - PROXY2_HEAD),
		    &p);
	if (err != 0)
		return err;
	*out = p;
	return (int)len;
}
