#include "base/err.h"
#include "base/js_write.h"

#include "dialect/monitor.h"

static void
begin(struct js_writer *w, struct buf *out, const char *type)
{
	js_write(w, out);
	js_begin_object(w);
	js_kv_string(w, "type", slice_from(type));
	js_kv_object(w, "payload");
}

static int
end(struct js_writer *w, wall_msec at)
{
	js_kv_i64(w, "timestamp", at);
	js_end(w);
	js_end(w);
	int err = js_finish(w);
	return err != 0 ? err : 1;
}

static int
say_status(const struct agent_news *news, wall_msec at, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, "agent:status");
	js_kv_string(&w, "agentId", news->id);
	js_kv_string(&w, "status", presence_monitor_word(news->shown));
	return end(&w, at);
}

/* Who reconnects is shown as it was; and of states with one word here, going
 * from one to the other is no news. */
static bool
shows_news(const struct agent_news *news)
{
	return news->presence == PRESENCE_REMOVED ||
	    !slice_eq(presence_monitor_word(news->shown),
		presence_monitor_word(news->was_shown));
}

static int
say_notice(const struct event *ev, struct buf *out)
{
	const struct notice *n = &ev->notice;

	if (n->kind == NOTICE_ACTIVITY)
		return monitor_encode_activity(
		    n->agent_id, n->command_id, n->text, ev->at, out);
	if (n->kind == NOTICE_PRESENCE && shows_news(n->agent))
		return say_status(n->agent, ev->at, out);
	return 0;
}

int
monitor_encode(const struct event *ev, size_t n, struct buf *out)
{
	if (ev->kind == EVENT_WELCOME && n < ev->welcome.news_count)
		return say_status(&ev->welcome.news[n], ev->at, out);
	if (ev->kind == EVENT_NOTICE && n == 0)
		return say_notice(ev, out);
	return 0;
}

int
monitor_encode_heartbeat(wall_msec now, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, "heartbeat");
	return end(&w, now);
}

/* Up to so many characters, whole. */
static struct slice
first_characters(struct slice text, size_t count)
{
	struct slice rest = text;
	uint32_t code;

	while (count-- > 0 && rest.len > 0) {
		int n = utf8_decode(rest, &code);
		/* What is none counts as the one it is shown as. */
		size_t len = n > 0 ? (size_t)n : n < 0 ? (size_t)-n : rest.len;
		rest = slice_from_at(rest, len);
	}
	return slice_first(text, text.len - rest.len);
}

int
monitor_encode_activity(struct slice agent_id, struct slice session_id,
    struct slice text, wall_msec at, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, "session:activity");
	js_kv_string(&w, "agentId", agent_id);
	js_kv_string(&w, "sessionId", session_id);
	js_kv_string(
	    &w, "lastMessage", first_characters(text, MONITOR_CHARACTERS));
	return end(&w, at);
}
