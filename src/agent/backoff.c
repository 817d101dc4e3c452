#include "agent/backoff.h"

static const struct {
	msec least, most;
} waits[BACKOFF_KINDS] = {
	[BACKOFF_LOST] = { 1000, 60 * 1000 },
	[BACKOFF_REFUSED] = { 5 * 60 * 1000, 60 * 60 * 1000 },
};

/* part of it, between none and all, as random says. */
static msec
share(msec part, uint32_t random)
{
	return (msec)((uint64_t)part * random >> 32);
}

void
backoff_reset(struct backoff *b)
{
	*b = (struct backoff){ 0 };
}

msec
backoff_next(struct backoff *b, enum backoff_kind kind, uint32_t random)
{
	msec wait = waits[kind].least << b->tries[kind];

	if (wait >= waits[kind].most)
		wait = waits[kind].most;
	else
		b->tries[kind]++;
	return wait / 2 + share(wait - wait / 2 + 1, random);
}

msec
backoff_asked(msec retry_after, uint32_t random)
{
	msec most = waits[BACKOFF_REFUSED].most;
	msec wait = retry_after > most ? most : retry_after;

	if (wait < waits[BACKOFF_LOST].least)
		wait = waits[BACKOFF_LOST].least;
	return wait + share(wait / 4, random);
}
