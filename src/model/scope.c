#include "base/err.h"

#include "model/scope.h"

struct row {
	scope_set bit;
	struct slice name;
};

/* clang-format off */
static const struct row rows[] = {
#define X(name, bit, text) \
	{ SCOPE_##name, { (const uint8_t *)(text), sizeof(text) - 1 } },
	SCOPE_LIST(X)
#undef X
};
/* clang-format on */

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

scope_set
scope_find(struct slice name)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (slice_eq(rows[i].name, name))
			return rows[i].bit;
	}
	return 0;
}

int
scope_parse(struct slice list, scope_set *out, struct slice *bad)
{
	struct slice part;
	scope_set set = 0;

	while (slice_split(&list, ',', &part)) {
		scope_set bit = scope_find(slice_trim(part));
		if (bit == 0) {
			*bad = slice_trim(part);
			return ERR_INVALID;
		}
		set |= bit;
	}
	*out = set;
	return 0;
}

struct slice
scope_next(scope_set set, unsigned *pos)
{
	while (*pos < ROWS) {
		const struct row *r = &rows[(*pos)++];
		if (set & r->bit)
			return r->name;
	}
	return (struct slice){ 0 };
}
