#include <assert.h>
#include <stdio.h>

#include "base/err.h"

#include "store/pack.h"
#include "store/segments.h"

static const uint8_t magic[8] = { 'M', 'U', 'S', 'T', 'E', 'R', 'B', 'K' };

enum state {
	AT_HEAD,
	AT_KIND,  /* 'F' or 'E' */
	AT_ENTRY, /* length of name, size */
	AT_NAME,
	AT_BYTES,
	AT_SUM,
	AT_TAIL,
	AT_WHOLE_SUM,
	AT_END,
};

static void
put_be(uint8_t *out, uint64_t n, unsigned bytes)
{
	while (bytes-- > 0)
		*out++ = (uint8_t)(n >> (8 * bytes));
}

static uint64_t
get_be(const uint8_t *p, unsigned bytes)
{
	uint64_t n = 0;

	while (bytes-- > 0)
		n = n << 8 | *p++;
	return n;
}

size_t
pack_head(uint8_t out[PACK_HEAD])
{
	memcpy(out, magic, sizeof(magic));
	put_be(out + sizeof(magic), 1, 4);
	return PACK_HEAD;
}

size_t
pack_entry(
    struct slice name, uint64_t size, uint8_t out[PACK_ENTRY + PACK_NAME_MAX])
{
	assert(name.len <= PACK_NAME_MAX);
	out[0] = 'F';
	put_be(out + 1, name.len, 2);
	put_be(out + 3, size, 8);
	memcpy(out + PACK_ENTRY, name.ptr, name.len);
	return PACK_ENTRY + name.len;
}

size_t
pack_tail(uint64_t count, uint8_t out[PACK_TAIL])
{
	out[0] = 'E';
	put_be(out + 1, count, 8);
	return PACK_TAIL;
}

/* Take the name apart and see whether it comes together the same. */
static bool
is_segment(struct slice name)
{
	char last[PACK_NAME_MAX + 1], want[SEGMENT_PATH];
	struct slice rest = name, part, id;
	enum output_stream stream;
	uint64_t start;

	if (!slice_split(&rest, '/', &part) ||
	    !slice_split(&rest, '/', &part) || !slice_split(&rest, '/', &id) ||
	    slice_cstr(rest, last, sizeof(last)) != 0 ||
	    !segment_name_parse(last, &stream, &start) ||
	    segment_path("", id, stream, start, want) != 0)
		return false;
	return slice_eq(name, slice_from(want + 1));
}

bool
pack_name_ok(struct slice name)
{
	return slice_eq(name, SL("muster.db")) || is_segment(name);
}

int
unpack_init(struct unpack *u)
{
	*u = (struct unpack){ .state = AT_HEAD, .need = PACK_HEAD };
	u->whole = digest_new();
	u->one = digest_new();
	return u->whole == NULL || u->one == NULL ? ERR_NOMEM : 0;
}

void
unpack_fini(struct unpack *u)
{
	digest_free(u->whole);
	digest_free(u->one);
}

bool
unpack_done(const struct unpack *u)
{
	return u->state == AT_END;
}

static void
expect(struct unpack *u, enum state state, size_t need)
{
	u->state = (int)state;
	u->need = need;
	u->have = 0;
}

/* What was held is accounted for; sums are not part of themselves. */
static bool
add_held(struct unpack *u, bool to_one)
{
	struct slice held = { u->held, u->have };

	return digest_add(u->whole, held) &&
	    (!to_one || digest_add(u->one, held));
}

static int
on_head(struct unpack *u)
{
	if (memcmp(u->held, magic, sizeof(magic)) != 0)
		return ERR_INVALID;
	if (get_be(u->held + sizeof(magic), 4) != 1)
		return ERR_NEWER;
	if (!add_held(u, false))
		return ERR_NOMEM;
	expect(u, AT_KIND, 1);
	return 0;
}

static int
on_kind(struct unpack *u)
{
	bool file = u->held[0] == 'F';

	if (!file && (u->held[0] != 'E' || u->count == 0))
		return ERR_CORRUPT;
	if (!add_held(u, file))
		return ERR_NOMEM;
	expect(u, file ? AT_ENTRY : AT_TAIL, file ? 10 : 8);
	return 0;
}

static int
on_entry(struct unpack *u)
{
	u->name_len = (size_t)get_be(u->held, 2);
	u->size = u->left = get_be(u->held + 2, 8);
	if (u->name_len == 0 || u->name_len > PACK_NAME_MAX ||
	    u->size > INT64_MAX)
		return ERR_CORRUPT;
	if (!add_held(u, true))
		return ERR_NOMEM;
	expect(u, AT_NAME, u->name_len);
	return 0;
}

static int
on_name(struct unpack *u, struct unpack_event *ev)
{
	struct slice name = { u->name, u->name_len };

	memcpy(u->name, u->held, u->name_len);
	/* The database is first, and once. */
	if (slice_eq(name, SL("muster.db")) != (u->count == 0) ||
	    !pack_name_ok(name))
		return ERR_INVALID;
	if (!add_held(u, true))
		return ERR_NOMEM;
	u->count++;
	*ev = (struct unpack_event){
		.kind = UNPACK_FILE, .name = name, .size = u->size
	};
	if (u->left > 0)
		expect(u, AT_BYTES, 0);
	else
		expect(u, AT_SUM, DIGEST_LEN);
	return 1;
}

static int
on_sum(struct unpack *u, struct unpack_event *ev)
{
	uint8_t sum[DIGEST_LEN];

	if (!digest_end(u->one, sum) || !add_held(u, false))
		return ERR_NOMEM;
	if (memcmp(sum, u->held, DIGEST_LEN) != 0)
		return ERR_CORRUPT;
	*ev = (struct unpack_event){ .kind = UNPACK_DONE };
	expect(u, AT_KIND, 1);
	return 1;
}

static int
on_tail(struct unpack *u)
{
	if (get_be(u->held, 8) != u->count)
		return ERR_CORRUPT;
	if (!add_held(u, false))
		return ERR_NOMEM;
	expect(u, AT_WHOLE_SUM, DIGEST_LEN);
	return 0;
}

static int
on_whole_sum(struct unpack *u, struct unpack_event *ev)
{
	uint8_t sum[DIGEST_LEN];

	if (!digest_end(u->whole, sum))
		return ERR_NOMEM;
	if (memcmp(sum, u->held, DIGEST_LEN) != 0)
		return ERR_CORRUPT;
	*ev = (struct unpack_event){ .kind = UNPACK_END };
	expect(u, AT_END, 0);
	return 1;
}

/* What was waited for is in held. */
static int
on_held(struct unpack *u, struct unpack_event *ev)
{
	switch ((enum state)u->state) {
	case AT_HEAD:
		return on_head(u);
	case AT_KIND:
		return on_kind(u);
	case AT_ENTRY:
		return on_entry(u);
	case AT_NAME:
		return on_name(u, ev);
	case AT_SUM:
		return on_sum(u, ev);
	case AT_TAIL:
		return on_tail(u);
	case AT_WHOLE_SUM:
		return on_whole_sum(u, ev);
	case AT_BYTES:
	case AT_END:
		break;
	}
	assert(false); /* nothing is held there */
	return ERR_CORRUPT;
}

static int
take_bytes(struct unpack *u, struct slice *input, struct unpack_event *ev)
{
	struct slice part = slice_first(
	    *input, u->left < input->len ? (size_t)u->left : input->len);

	if (!digest_add(u->whole, part) || !digest_add(u->one, part))
		return ERR_NOMEM;
	*input = slice_from_at(*input, part.len);
	u->left -= part.len;
	if (u->left == 0)
		expect(u, AT_SUM, DIGEST_LEN);
	*ev = (struct unpack_event){ .kind = UNPACK_BYTES, .bytes = part };
	return 1;
}

int
unpack_next(struct unpack *u, struct slice *input, struct unpack_event *ev)
{
	int err = 0;

	while (err == 0 && input->len > 0) {
		if (u->state == AT_END)
			return ERR_CORRUPT;
		if (u->state == AT_BYTES)
			return take_bytes(u, input, ev);
		struct slice part = slice_first(*input, u->need - u->have);
		memcpy(u->held + u->have, part.ptr, part.len);
		u->have += part.len;
		*input = slice_from_at(*input, part.len);
		if (u->have == u->need)
			err = on_held(u, ev);
	}
	return err;
}
