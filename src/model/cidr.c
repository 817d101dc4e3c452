#include "base/err.h"

#include "model/cidr.h"

static int
parse_v4(struct slice text, uint8_t out[4])
{
	struct slice part;
	size_t n = 0;

	while (slice_split(&text, '.', &part)) {
		uint64_t byte;
		bool padded = part.len > 1 && part.ptr[0] == '0';
		if (n == 4 || padded || part.len > 3 ||
		    slice_u64(part, 255, &byte) != 0)
			return ERR_INVALID;
		out[n++] = (uint8_t)byte;
	}
	return n == 4 ? 0 : ERR_INVALID;
}

static int
hex_group(struct slice s, uint16_t *out)
{
	unsigned n = 0;

	if (s.len == 0 || s.len > 4)
		return ERR_INVALID;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		unsigned d = 16;
		if (c >= '0' && c <= '9')
			d = c - (unsigned)'0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			d = (c | 0x20) - (unsigned)'a' + 10;
		if (d > 15)
			return ERR_INVALID;
		n = n << 4 | d;
	}
	*out = (uint16_t)n;
	return 0;
}

/* Groups of one side of "::"; the last of the whole text may be a dotted
 * quad.  Returns the number of 16-bit groups, or ERR_INVALID. */
static int
parse_groups(struct slice text, bool last, uint16_t out[8])
{
	struct slice part;
	int n = 0;

	if (text.len == 0)
		return 0;
	while (slice_split(&text, ':', &part)) {
		uint8_t quad[4];
		if (n >= 8)
			return ERR_INVALID;
		if (last && text.ptr == NULL && n <= 6 &&
		    parse_v4(part, quad) == 0) {
			out[n++] = (uint16_t)(quad[0] << 8 | quad[1]);
			out[n++] = (uint16_t)(quad[2] << 8 | quad[3]);
		} else if (hex_group(part, &out[n++]) != 0) {
			return ERR_INVALID;
		}
	}
	return n;
}

static int
parse_v6(struct slice text, uint8_t out[16])
{
	uint16_t head[8] = { 0 }, tail[8] = { 0 }, all[8] = { 0 };
	size_t gap = text.len;

	for (size_t i = 0; i + 1 < text.len && gap == text.len; i++) {
		if (text.ptr[i] == ':' && text.ptr[i + 1] == ':')
			gap = i;
	}
	int before =
	    parse_groups(slice_first(text, gap), gap == text.len, head);
	int after = 0;
	if (gap < text.len)
		after = parse_groups(slice_from_at(text, gap + 2), true, tail);
	if (before < 0 || after < 0)
		return ERR_INVALID;
	if (gap == text.len ? before != 8 : before + after > 7)
		return ERR_INVALID;
	memcpy(all, head, (size_t)before * sizeof(*all));
	memcpy(all + 8 - after, tail, (size_t)after * sizeof(*all));
	for (size_t i = 0; i < 8; i++) {
		out[2 * i] = (uint8_t)(all[i] >> 8);
		out[2 * i + 1] = (uint8_t)all[i];
	}
	return 0;
}

int
address_parse(struct slice text, struct address *out)
{
	struct address a = { .bytes = { [10] = 0xff, [11] = 0xff } };

	if (text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
		text = slice_first(slice_from_at(text, 1), text.len - 2);
	if (parse_v4(text, a.bytes + 12) != 0 && parse_v6(text, a.bytes) != 0)
		return ERR_INVALID;
	*out = a;
	return 0;
}

static int
parse_range(struct slice text, struct address *a, unsigned *bits)
{
	size_t at = slice_find(text, '/');
	struct slice host = slice_first(text, at);
	bool v4 = slice_find(host, ':') == host.len;
	uint64_t n = v4 ? 32 : 128;

	if (address_parse(host, a) != 0)
		return ERR_INVALID;
	if (at < text.len && slice_u64(slice_from_at(text, at + 1), n, &n) != 0)
		return ERR_INVALID;
	*bits = (unsigned)n + (v4 ? 96 : 0);
	return 0;
}

int
cidr_check(struct slice text)
{
	struct address a;
	unsigned bits;

	return parse_range(text, &a, &bits);
}

static bool
same_prefix(const struct address *a, const struct address *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a->bytes, b->bytes, whole) != 0)
		return false;
	if (rest == 0)
		return true;
	return (a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest) == 0;
}

bool
cidr_list_has(struct slice list, const struct address *a)
{
	struct slice part;

	while (slice_split(&list, ',', &part)) {
		struct address base;
		unsigned bits;
		if (parse_range(slice_trim(part), &base, &bits) == 0 &&
		    same_prefix(&base, a, bits))
			return true;
	}
	return false;
}

/* Refused addresses and loopback --------------------------------------------
 */

enum { FORMS = 6 };

/* What stands at these places of a, as the IPv4 address it would be. */
static struct address
inner_v4(const struct address *a, const uint8_t at[4])
{
	struct address v4 = { .bytes = { [10] = 0xff, [11] = 0xff } };

	for (size_t i = 0; i < 4; i++)
		v4.bytes[12 + i] = a->bytes[at[i]];
	return v4;
}

/*
 * All that a may mean to some router on the way: itself, and the IPv4
 * address inside.  Of a translator's own prefix (RFC 8215) nobody knows the
 * length, so every place that RFC 6052 2.2 allows counts; an address that
 * begins with 0 there is only what is left of another reading.
 */
static size_t
forms(const struct address *a, struct address out[FORMS])
{
	static const struct {
		struct slice range;
		uint8_t at[4];
		bool sure;
	} table[] = {
		{ SL_INIT("::/96"), { 12, 13, 14, 15 }, true },
		{ SL_INIT("64:ff9b::/96"), { 12, 13, 14, 15 }, true },
		{ SL_INIT("2002::/16"), { 2, 3, 4, 5 }, true },
		{ SL_INIT("64:ff9b:1::/48"), { 6, 7, 9, 10 }, false },
		{ SL_INIT("64:ff9b:1::/48"), { 7, 9, 10, 11 }, false },
		{ SL_INIT("64:ff9b:1::/48"), { 9, 10, 11, 12 }, false },
		{ SL_INIT("64:ff9b:1::/48"), { 12, 13, 14, 15 }, false },
	};
	size_t n = 0;

	out[n++] = *a;
	if (cidr_list_has(SL("::1"), a))
		return n;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (!cidr_list_has(table[i].range, a))
			continue;
		struct address v4 = inner_v4(a, table[i].at);
		if (table[i].sure || v4.bytes[12] != 0)
			out[n++] = v4;
	}
	return n;
}

static bool
any_form_in(struct slice list, const struct address *a)
{
	struct address all[FORMS];
	size_t n = forms(a, all);

	for (size_t i = 0; i < n; i++)
		if (cidr_list_has(list, &all[i]))
			return true;
	return false;
}

bool
address_is_refused(const struct address *a)
{
	return any_form_in(
	    SL("0.0.0.0/8,169.254.0.0/16,100.100.100.200,192.0.0.192,"
	       "224.0.0.0/4,255.255.255.255,::,fe80::/10,fd00:ec2::254,"
	       "ff00::/8"),
	    a);
}

bool
address_is_loopback(const struct address *a)
{
	return any_form_in(SL("127.0.0.0/8,::1"), a);
}
