#include "base/err.h"

#include "base/conf.h"

int
conf_bool(struct slice s, bool *out)
{
	static const struct {
		struct slice word;
		bool value;
	} words[] = {
		{ SL_INIT("true"), true },
		{ SL_INIT("yes"), true },
		{ SL_INIT("on"), true },
		{ SL_INIT("1"), true },
		{ SL_INIT("false"), false },
		{ SL_INIT("no"), false },
		{ SL_INIT("off"), false },
		{ SL_INIT("0"), false },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (slice_eq_nocase(s, words[i].word)) {
			*out = words[i].value;
			return 0;
		}
	}
	return ERR_INVALID;
}

int
conf_u64(struct slice s, uint64_t *out)
{
	return slice_u64(s, UINT64_MAX, out);
}

/* Cut the leading digits off s. */
static int
take_number(struct slice *s, uint64_t *out)
{
	size_t n = 0;

	while (n < s->len && s->ptr[n] >= '0' && s->ptr[n] <= '9')
		n++;
	int err = slice_u64(slice_first(*s, n), UINT64_MAX, out);
	if (err == 0)
		*s = slice_from_at(*s, n);
	return err;
}

struct unit {
	struct slice name;
	uint64_t factor;
};

/* Longer names before those they begin with. */
static const struct unit times[] = {
	{ SL_INIT("ms"), 1 },
	{ SL_INIT("s"), 1000 },
	{ SL_INIT("m"), 60 * 1000 },
	{ SL_INIT("h"), 60 * 60 * 1000 },
	{ SL_INIT("d"), 24 * 60 * 60 * 1000 },
};
static const struct unit sizes[] = {
	{ SL_INIT("B"), 1 },
	{ SL_INIT("KiB"), 1 << 10 },
	{ SL_INIT("K"), 1 << 10 },
	{ SL_INIT("MiB"), 1 << 20 },
	{ SL_INIT("M"), 1 << 20 },
	{ SL_INIT("GiB"), 1 << 30 },
	{ SL_INIT("G"), 1 << 30 },
	{ SL_INIT("TiB"), UINT64_C(1) << 40 },
	{ SL_INIT("T"), UINT64_C(1) << 40 },
};
enum {
	TIMES = sizeof(times) / sizeof(times[0]),
	SIZES = sizeof(sizes) / sizeof(sizes[0])
};

static const struct unit *
take_unit(struct slice *s, const struct unit *units, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (slice_starts(*s, units[i].name)) {
			*s = slice_from_at(*s, units[i].name.len);
			return &units[i];
		}
	}
	return NULL;
}

int
conf_duration(struct slice s, msec *out)
{
	uint64_t total = 0, n, before = UINT64_MAX;

	if (slice_eq(s, SL("0"))) {
		*out = 0;
		return 0;
	}
	if (s.len == 0)
		return ERR_INVALID;
	while (s.len > 0) {
		int err = take_number(&s, &n);
		if (err != 0)
			return err;
		const struct unit *u = take_unit(&s, times, TIMES);
		/* Parts come in order, so that "30m1h" is a slip. */
		if (u == NULL || u->factor >= before)
			return ERR_INVALID;
		before = u->factor;
		if (n > (INT64_MAX - total) / u->factor)
			return ERR_RANGE;
		total += n * u->factor;
	}
	*out = (msec)total;
	return 0;
}

int
conf_size(struct slice s, uint64_t *out)
{
	uint64_t n, factor = 1;
	int err = take_number(&s, &n);

	if (err != 0)
		return err;
	if (s.len > 0) {
		const struct unit *u = take_unit(&s, sizes, SIZES);
		if (u == NULL || s.len > 0)
			return ERR_INVALID;
		factor = u->factor;
	}
	if (n > UINT64_MAX / factor)
		return ERR_RANGE;
	*out = n * factor;
	return 0;
}
