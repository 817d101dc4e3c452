#include "base/err.h"

#include "model/stop.h"

static const struct slice kinds[RECEIPT_KINDS] = {
	[RECEIPT_WAITING] = SL_INIT("waiting"),
	[RECEIPT_CONFIRMED] = SL_INIT("confirmed"),
	[RECEIPT_ACKNOWLEDGED] = SL_INIT("acknowledged"),
	[RECEIPT_UNABLE] = SL_INIT("unable"),
	[RECEIPT_UNREACHABLE] = SL_INIT("unreachable"),
};

static const struct slice scopes[] = {
	[STOP_ALL] = SL_INIT("all"),
	[STOP_SELECTOR] = SL_INIT("selector"),
	[STOP_AGENT] = SL_INIT("agent"),
};

struct slice
receipt_kind_name(enum receipt_kind k)
{
	return k < RECEIPT_KINDS ? kinds[k] : (struct slice){ 0 };
}

struct slice
stop_scope_name(enum stop_scope s)
{
	return s <= STOP_AGENT ? scopes[s] : (struct slice){ 0 };
}

int
stop_scope_find(struct slice name, enum stop_scope *out)
{
	for (int s = STOP_ALL; s <= STOP_AGENT; s++) {
		if (slice_eq(scopes[s], name)) {
			*out = (enum stop_scope)s;
			return 0;
		}
	}
	return ERR_INVALID;
}
