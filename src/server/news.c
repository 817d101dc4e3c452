#include "dialect/console_say.h"
#include "dialect/monitor.h"

#include "io/clock.h"

#include "server/news.h"

enum { FEED_MAX = 100000, FEED_ARENA = 1024 * 1024 };

static const enum said_kind kinds[NOTICE_KINDS] = {
	[NOTICE_OTHER] = SAID_OTHER,
	[NOTICE_PRESENCE] = SAID_AGENT,
	[NOTICE_METRICS] = SAID_METRICS,
	[NOTICE_COMMAND] = SAID_COMMAND,
	[NOTICE_QUEUE] = SAID_QUEUE,
	[NOTICE_STOP] = SAID_STOP,
	[NOTICE_RECEIPT] = SAID_STOP,
	[NOTICE_CLEAR] = SAID_OUTPUT,
	[NOTICE_TRACE] = SAID_TRACE,
	[NOTICE_ACTIVITY] = SAID_ACTIVITY,
};

static void
say_console(struct dock *d, const struct event *ev, struct said_about *to,
    enum console_spelling spelling)
{
	struct console_context c = { .spelling = spelling,
		.now = ev->at != 0 ? ev->at : clock_wall(),
		.own = to->whose == SAID_TO_ASKER };

	for (size_t n = 0;; n++) {
		c.number = ++d->encoded;
		buf_clear(&d->text);
		if (console_encode(ev, &c, n, &d->text) <= 0)
			return;
		fanout_say(&d->fanout, to, buf_peek(&d->text));
	}
}

/* A dashboard that chose the command's id itself is told of it by that. */
static void
say_upper(struct dock *d, const struct event *ev, struct said_about *to)
{
	if (ev->notice.kind != NOTICE_COMMAND) {
		say_console(d, ev, to, CONSOLE_UPPER);
		return;
	}
	to->whose = SAID_TO_OTHERS;
	say_console(d, ev, to, CONSOLE_UPPER);
	if (dock_find(d, to->asked_by) == NULL)
		return;
	to->whose = SAID_TO_ASKER;
	say_console(d, ev, to, CONSOLE_UPPER);
}

static void
say_monitor(struct dock *d, const struct event *ev, const struct said_about *to)
{
	for (size_t n = 0;; n++) {
		buf_clear(&d->text);
		if (monitor_encode(ev, n, &d->text) <= 0)
			return;
		fanout_say(&d->fanout, to, buf_peek(&d->text));
	}
}

static bool
anybody_hears(const struct dock *d, const struct audience_set *seen_by)
{
	const struct fanout *f = &d->fanout;

	return fanout_heard(f, VOICE_FLAT, seen_by) ||
	    fanout_heard(f, VOICE_UPPER, seen_by) ||
	    fanout_heard(f, VOICE_MONITOR, seen_by);
}

static void
say(struct dock *d, const struct event *ev, const struct audience_set *seen_by)
{
	const struct notice *n = &ev->notice;
	struct said_about to = { .kind = kinds[n->kind],
		.seen_by = *seen_by,
		.asked_by = n->asked_by,
		.agent_id = n->agent_id,
		.command_id = n->command_id };

	to.voice = VOICE_FLAT;
	if (fanout_heard(&d->fanout, VOICE_FLAT, seen_by))
		say_console(d, ev, &to, CONSOLE_FLAT);
	to.voice = VOICE_MONITOR;
	if (fanout_heard(&d->fanout, VOICE_MONITOR, seen_by))
		say_monitor(d, ev, &to);
	to.voice = VOICE_UPPER;
	if (fanout_heard(&d->fanout, VOICE_UPPER, seen_by))
		say_upper(d, ev, &to);
}

/* News of agents ----------------------------------------------------------- */

static void on_due(struct loop_timer *t);

static void
arm(struct dock *d)
{
	msec due = newsfeed_deadline(&d->feed);

	/* Without a timer it goes with the next that comes. */
	if (due != INT64_MAX)
		loop_timer_set(d->lane.loop, &d->feed_timer, due, on_due);
}

static void
say_item(struct dock *d, const struct newsfeed_item *i)
{
	bool moved =
	    i->before != i->news.shown || i->news.presence == PRESENCE_REMOVED;
	struct agent_news news = i->news;
	struct event ev = { .kind = EVENT_NOTICE, .at = i->at };

	news.was_shown = i->before;
	ev.notice =
	    (struct notice){ .kind = moved ? NOTICE_PRESENCE : NOTICE_METRICS,
		    .agent_id = news.id,
		    .agent = &news };
	say(d, &ev, &i->seen_by);
}

static void
on_due(struct loop_timer *t)
{
	struct dock *d = LIST_OF(t, struct dock, feed_timer);
	struct newsfeed_item item;

	while (newsfeed_next(&d->feed, loop_now(d->lane.loop), &d->feed_arena,
		   &item) > 0) {
		say_item(d, &item);
		arena_reset(&d->feed_arena);
	}
	arm(d);
}

void
news_publish(
    struct dock *d, const struct event *ev, const struct audience_set *seen_by)
{
	const struct notice *n = &ev->notice;

	if (!anybody_hears(d, seen_by))
		return;
	if ((n->kind == NOTICE_PRESENCE || n->kind == NOTICE_METRICS) &&
	    newsfeed_feed(
		&d->feed, n, ev->at, seen_by, loop_now(d->lane.loop)) == 0)
		arm(d);
	else
		say(d, ev, seen_by);
}

/* Life --------------------------------------------------------------------- */

void
news_setup(struct dock *d, const uint64_t seed[2])
{
	newsfeed_init(&d->feed, FEED_MAX, seed);
	arena_init(&d->feed_arena, FEED_ARENA);
}

void
news_end(struct dock *d)
{
	loop_timer_stop(d->lane.loop, &d->feed_timer);
	newsfeed_fini(&d->feed);
	arena_fini(&d->feed_arena);
}
