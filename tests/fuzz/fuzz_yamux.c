/*
 * One machine against a hostile peer, with an owner that does a bit of
 * everything.  Input: u8 role | chunks of (u8 act, u8 length, bytes).
 */
#include <stdlib.h>

#include "base/err.h"
#include "wire/yamux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct yamux *s)
{
	if (s->ours + s->theirs != s->streams.count || s->unacked > s->ours ||
	    s->unaccepted > s->theirs ||
	    s->held > 2 * (uint64_t)s->config.held_max ||
	    s->growth > s->config.growth_max)
		abort();
}

static void
answer(struct yamux *s, const struct yamux_event *ev, uint8_t act)
{
	if (ev->kind == YAMUX_OPENED && (act & 1) != 0)
		yamux_accept(s, ev->id, s);
	if (ev->kind == YAMUX_OPENED && (act & 2) != 0)
		yamux_reset(s, ev->id);
	if (ev->kind == YAMUX_DATA && (act & 4) != 0)
		yamux_consume(s, ev->id, ev->data.len, s->now);
	if (ev->kind == YAMUX_DATA && (act & 8) != 0)
		yamux_reset(s, ev->id);
	if (ev->kind == YAMUX_FIN && (act & 16) != 0)
		yamux_finish(s, ev->id);
}

static void
use(struct yamux *s, uint8_t act, msec now)
{
	uint8_t head[YAMUX_HEAD];
	uint32_t id = act;

	if ((act & 32) != 0)
		yamux_open(s, s, &id);
	if ((act & 64) != 0) {
		yamux_sent(s, yamux_out(s).len);
		yamux_put_head(s, id, yamux_window(s, id) / 2, head);
		if ((act & 1) != 0)
			yamux_finish(s, id);
	}
	if ((act & 128) != 0)
		yamux_expire(s, now);
	check(s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct yamux_config c = yamux_defaults;
	struct yamux s;
	struct yamux_event ev;
	msec now = 0;

	if (size < 1)
		return 0;
	c.streams_max = 8;
	c.backlog = 4;
	c.held_max = 512 * 1024;
	yamux_init(&s, data[0] & 1 ? YAMUX_SERVER : YAMUX_CLIENT, &c, 0);
	for (size_t at = 1; at + 2 <= size;) {
		uint8_t act = data[at];
		struct slice in =
		    slice_first((struct slice){ data + at + 2, size - at - 2 },
			data[at + 1]);
		at += 2 + in.len;
		now += 1 + (act & 128) * 100;
		use(&s, act, now);
		yamux_feed(&s, in, now);
		while (yamux_next(&s, &ev)) {
			answer(&s, &ev, act);
			check(&s);
		}
		if (s.in.len != 0)
			abort();
	}
	yamux_fini(&s);
	return 0;
}
