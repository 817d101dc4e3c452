#include "base/err.h"

#include "server/exchange.h"

/* By how the agent is asked. */
static const struct exchange_kind *const kinds[] = {
	[TUNNEL_STREAMS] = &exchange_flow,
	[TUNNEL_STREAMS_V1] = &exchange_flow,
	[TUNNEL_JSON] = &exchange_json,
};

int
exchange_start(struct dock *d, const struct exchange_order *o,
    const struct exchange_ops *ops, void *owner, struct exchange **out)
{
	const struct exchange_kind *kind = kinds[o->speech];

	return kind == NULL ? ERR_UNSUPPORTED
			    : kind->start(d, o, ops, owner, out);
}

int
exchange_write(struct exchange *x, struct slice bytes)
{
	return x->kind->write(x, bytes);
}

int
exchange_end(
    struct exchange *x, const struct http1_pair *trailers, size_t count)
{
	return x->kind->end(x, trailers, count);
}

int
exchange_message(struct exchange *x, const struct exchange_message *m)
{
	return x->kind->message(x, m);
}

bool
exchange_above_high(const struct exchange *x)
{
	return x->kind->above_high(x);
}

void
exchange_consume(struct exchange *x, size_t n)
{
	if (n > 0)
		x->kind->consume(x, n);
}

void
exchange_drop(struct exchange *x)
{
	if (x != NULL)
		x->kind->drop(x);
}
