#include <string.h>

#include "model/rate.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };

/* Document 2, "Rate Limiting"; heartbeats by the hour are ours. */
static const struct rate_limit second = { SECOND, 10 };
static const struct rate_limit minutes[RATE_EXEMPT] = {
	[RATE_GENERAL] = { MINUTE, 100 },
	[RATE_COMMAND] = { MINUTE, 10 },
	[RATE_HEARTBEAT] = { MINUTE, 60 },
};
static const struct rate_limit hours[RATE_EXEMPT] = {
	[RATE_GENERAL] = { HOUR, 1000 },
	[RATE_COMMAND] = { HOUR, 100 },
	[RATE_HEARTBEAT] = { HOUR, 3600 },
};
static const struct rate_limit all_minute = { MINUTE, 10000 };
static const struct rate_limit all_hour = { HOUR, 100000 };

/* One window --------------------------------------------------------------- */

/* A slot is a little longer than a sixtieth, so that 60 span the window. */
static msec
slot_of(const struct rate_limit *l)
{
	return (l->span + RATE_SLOTS - 1) / RATE_SLOTS;
}

/* Forget what has left the window. */
static void
slide(struct rate_window *w, const struct rate_limit *l, msec now)
{
	int64_t slot = now / slot_of(l);

	if (slot - w->newest >= RATE_SLOTS) {
		memset(w->counts, 0, sizeof(w->counts));
		w->total = 0;
		w->newest = slot;
	}
	while (w->newest < slot) {
		w->newest++;
		uint16_t *n = &w->counts[w->newest % RATE_SLOTS];
		w->total -= *n;
		*n = 0;
	}
}

/* Until the oldest that counts has left. */
static msec
until_room(const struct rate_window *w, const struct rate_limit *l, msec now)
{
	for (int64_t s = w->newest - RATE_SLOTS + 1; s <= w->newest; s++) {
		if (s >= 0 && w->counts[s % RATE_SLOTS] > 0)
			return (s + RATE_SLOTS) * slot_of(l) - now;
	}
	return 0;
}

bool
rate_fits(
    struct rate_window *w, const struct rate_limit *l, msec now, msec *wait)
{
	slide(w, l, now);
	if (w->total < l->limit)
		return true;
	msec more = until_room(w, l, now);
	if (more > *wait)
		*wait = more;
	return false;
}

void
rate_count(struct rate_window *w, const struct rate_limit *l, msec now)
{
	slide(w, l, now);
	w->counts[w->newest % RATE_SLOTS]++;
	w->total++;
}

/* A connection ------------------------------------------------------------- */

static bool
fits(struct rate *r, struct rate_all *all, enum rate_class class, msec now,
    msec *wait)
{
	bool ok = rate_fits(&r->minute[class], &minutes[class], now, wait);

	ok = rate_fits(&r->hour[class], &hours[class], now, wait) && ok;
	ok = rate_fits(&all->minute, &all_minute, now, wait) && ok;
	ok = rate_fits(&all->hour, &all_hour, now, wait) && ok;
	if (class == RATE_GENERAL)
		ok = rate_fits(&r->second, &second, now, wait) && ok;
	return ok;
}

static void
count(struct rate *r, struct rate_all *all, enum rate_class class, msec now)
{
	rate_count(&r->minute[class], &minutes[class], now);
	rate_count(&r->hour[class], &hours[class], now);
	rate_count(&all->minute, &all_minute, now);
	rate_count(&all->hour, &all_hour, now);
	if (class == RATE_GENERAL)
		rate_count(&r->second, &second, now);
}

/* Whether this refusal makes RATE_REFUSALS within a minute. */
static bool
refuse(struct rate *r, msec now)
{
	r->refused[r->refusals++ % RATE_REFUSALS] = now;
	return r->refusals >= RATE_REFUSALS &&
	    now - r->refused[r->refusals % RATE_REFUSALS] < MINUTE;
}

void
rate_ask(struct rate *r, struct rate_all *all, enum rate_class class, msec now,
    struct rate_verdict *out)
{
	msec wait = 0;

	*out = (struct rate_verdict){ .ok = true };
	if (class == RATE_EXEMPT)
		return;
	out->ok = fits(r, all, class, now, &wait);
	if (out->ok) {
		count(r, all, class, now);
	} else {
		out->close = refuse(r, now);
		out->retry_after = (uint32_t)((wait + SECOND - 1) / SECOND);
		if (out->retry_after == 0)
			out->retry_after = 1;
	}
	out->second = (struct rate_use){ r->second.total, second.limit };
	out->minute =
	    (struct rate_use){ r->minute[class].total, minutes[class].limit };
	out->hour =
	    (struct rate_use){ r->hour[class].total, hours[class].limit };
}
