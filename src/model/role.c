#include "base/err.h"

#include "model/role.h"

static const struct slice names[] = {
	[ROLE_NONE] = SL_INIT("none"),
	[ROLE_VIEWER] = SL_INIT("viewer"),
	[ROLE_OPERATOR] = SL_INIT("operator"),
	[ROLE_ADMIN] = SL_INIT("admin"),
};

struct slice
role_name(enum role role)
{
	return names[role];
}

int
role_find(struct slice name, enum role *out)
{
	for (enum role r = ROLE_VIEWER; r <= ROLE_ADMIN; r++) {
		if (slice_eq(names[r], name)) {
			*out = r;
			return 0;
		}
	}
	return ERR_INVALID;
}
