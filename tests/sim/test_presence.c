/*
 * What status boards and dashboards see of a fleet whose links flap, on
 * virtual time.  Links break and come back within the grace or after it,
 * agents say goodbye, restart, claim to be ill, fall silent; the controller
 * starts anew.  Every change that a client would be told is held against what
 * the links really did.
 *
 * MUSTER_SIM_SEED chooses another run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/err.h"

#include "model/newsfeed.h"

#include "dialect/console_say.h"
#include "dialect/monitor.h"

#include "support/rig.h"
#include "support/unit.h"

enum {
	AGENTS = 60,
	HOUR = 3600000,
	GRACE = 15000,
	TOLD_WITHIN = 1100, /* news may be held for a second */
	BOARD = 900,
	TOKEN_AGENTS = 1,
	TOKEN_ROOT = 2,
};

enum view { FLAT, UPPER, MONITOR, VIEWS };

/* Why an agent is to be seen as it is. */
enum link { NEVER, UP, BROKEN, GONE };

struct agent {
	char id[16];
	enum link link;
	uint32_t peer;
	msec since; /* of link */
	msec turn;  /* when it does something next */
	msec beat;
	enum presence claim;
	struct slice seen[VIEWS]; /* the last word; absent: none yet */
	msec seen_at[VIEWS];
	size_t told;
};

static struct fleet {
	struct rig rig;
	struct newsfeed feed;
	struct agent agents[AGENTS];
	uint64_t seed;
	uint32_t next_peer;
	unsigned audience;
	bool watching;
	uint64_t flaps, deaths, goodbyes, told;
} f;

static uint32_t
chance(uint32_t below)
{
	f.seed ^= f.seed << 13;
	f.seed ^= f.seed >> 7;
	f.seed ^= f.seed << 17;
	return (uint32_t)((f.seed >> 16) % below);
}

static struct agent *
find(struct slice id)
{
	for (size_t i = 0; i < AGENTS; i++) {
		if (slice_eq(slice_from(f.agents[i].id), id))
			return &f.agents[i];
	}
	fail_msg("news of nobody: %.*s", SLICE_FMT(id));
	return NULL;
}

static struct slice
word(enum view v, enum presence p)
{
	return v == MONITOR ? presence_monitor_word(p)
			    : presence_console_word(p);
}

/* What a client of this dialect reads; absent when it is sent nothing. */
static struct slice
said(enum view v, const struct event *ev, struct buf *text)
{
	const struct console_context c = { .now = f.rig.wall,
		.spelling = v == UPPER ? CONSOLE_UPPER : CONSOLE_FLAT };
	const char *key = "\"status\":\"", *at = NULL;
	int got = 1;

	buf_clear(text);
	for (size_t n = 0; got > 0; n++)
		got = v == MONITOR ? monitor_encode(ev, n, text)
				   : console_encode(ev, &c, n, text);
	assert_int_equal(got, 0);
	buf_put(text, (struct slice){ (const uint8_t *)"", 1 });
	at = strstr((const char *)buf_peek(text).ptr, key);
	if (at == NULL)
		return (struct slice){ 0 };
	at += strlen(key);
	for (int p = 0; p < PRESENCES; p++) {
		struct slice w = word(v, (enum presence)p);
		if (w.ptr != NULL &&
		    strncasecmp(at, (const char *)w.ptr, w.len) == 0 &&
		    at[w.len] == '"')
			return w;
	}
	fail_msg("no word: %s", at);
	return (struct slice){ 0 };
}

/* Nobody is called offline who may be about to come back. */
static void
judge(const struct agent *a, enum view v, struct slice now)
{
	bool offline = slice_eq(now, SL("offline"));

	/* A board has nothing but the word; the others are told the reason,
	 * too. */
	if (v == MONITOR && slice_eq(a->seen[v], now))
		fail_msg("%s: told twice to be %.*s", a->id, SLICE_FMT(now));
	if (offline && a->link == BROKEN && f.rig.now - a->since < GRACE)
		fail_msg("%s: offline %lld ms after its link broke", a->id,
		    (long long)(f.rig.now - a->since));
	if (offline && a->link == UP && f.rig.now - a->since > TOLD_WITHIN)
		fail_msg("%s: offline, and it is there", a->id);
	if (!offline && (a->link == NEVER || a->link == GONE) &&
	    f.rig.now - a->since > TOLD_WITHIN)
		fail_msg(
		    "%s: %.*s, and it is not there", a->id, SLICE_FMT(now));
}

static void
show(const struct newsfeed_item *it)
{
	struct agent *a = find(it->news.id);
	struct agent_news news = it->news;
	struct event ev = { .kind = EVENT_NOTICE, .at = it->at };
	struct buf text;

	assert_true(audience_has(&it->seen_by, f.audience));
	news.was_shown = it->before;
	ev.notice = (struct notice){
		.kind = NOTICE_PRESENCE, .agent_id = news.id, .agent = &news
	};
	buf_init(&text, 1 << 16);
	for (int v = 0; v < VIEWS; v++) {
		struct slice now = said((enum view)v, &ev, &text);
		if (now.ptr == NULL)
			continue;
		judge(a, (enum view)v, now);
		a->seen[v] = now;
		a->seen_at[v] = f.rig.now;
		f.told++;
	}
	buf_fini(&text);
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	if (e->kind == EFFECT_SEND && e->event->kind == EVENT_WELCOME &&
	    e->event->welcome.news != NULL) {
		f.audience = e->event->welcome.audience;
		f.watching = true;
		for (size_t i = 0; i < e->event->welcome.news_count; i++) {
			const struct agent_news *n = &e->event->welcome.news[i];
			struct agent *a = find(n->id);
			for (int v = 0; v < VIEWS; v++)
				a->seen[v] = word((enum view)v, n->shown);
		}
	}
	if (e->kind == EFFECT_PUBLISH && e->event->notice.agent != NULL &&
	    f.watching)
		assert_int_equal(newsfeed_feed(&f.feed, &e->event->notice,
				     e->event->at, &e->seen_by, f.rig.now),
		    0);
}

static void
take_news(void)
{
	struct newsfeed_item it;
	struct arena a;

	arena_init(&a, 1 << 16);
	while (newsfeed_next(&f.feed, f.rig.now, &a, &it) == 1) {
		show(&it);
		arena_reset(&a);
	}
	arena_fini(&a);
}

/* What agents do ----------------------------------------------------------- */

static void
now_is(struct agent *a, enum link link)
{
	a->link = link;
	a->since = f.rig.now;
}

static void
come(struct agent *a)
{
	a->peer = ++f.next_peer;
	struct event ev = rig_hello(
	    a->peer, TOKEN_AGENTS, "192.0.2.1", ENTRANCE_CLUSTER_LINK);
	struct event reg = rig_event(EVENT_REGISTER, a->peer);

	reg.registration.agent_id = slice_from(a->id);
	reg.registration.name = slice_from(a->id);
	now_is(a, UP);
	a->claim = PRESENCE_JOINING;
	rig_input(&f.rig, &ev);
	rig_input(&f.rig, &reg);
	a->beat = f.rig.now;
}

static void
leave(struct agent *a, int why)
{
	struct event ev = rig_event(EVENT_GONE, a->peer);

	ev.gone.why = why;
	now_is(a, why == 0 ? GONE : BROKEN);
	rig_input(&f.rig, &ev);
}

static void
beat_well(struct agent *a)
{
	struct event ev = rig_event(EVENT_HEARTBEAT, a->peer);

	ev.heartbeat.status = SL("healthy");
	a->beat = f.rig.now + 30000;
	rig_input(&f.rig, &ev);
}

static void
beat(struct agent *a)
{
	static const char *const words[] = { "healthy", "error", "degraded",
		"busy", "available" };
	uint32_t which = chance(20) == 0 ? chance(5) : 0;
	struct event ev = rig_event(EVENT_HEARTBEAT, a->peer);

	ev.heartbeat.status = slice_from(words[which]);
	a->claim = presence_claim(ev.heartbeat.status);
	a->beat = f.rig.now + 30000;
	rig_input(&f.rig, &ev);
}

/* Mostly a link that breaks is back within the grace. */
static void
turn(struct agent *a)
{
	if (a->link != UP) {
		come(a);
		a->turn = f.rig.now + 1000 + chance(120000);
		return;
	}
	switch (chance(6)) {
	case 0:
		leave(a, 0);
		f.goodbyes++;
		a->turn = f.rig.now + 100 + chance(60000);
		break;
	case 1:
		leave(a, ERR_TIMEOUT);
		f.deaths++;
		a->turn = f.rig.now + GRACE + 2000 + chance(60000);
		break;
	default:
		leave(a, ERR_RESET);
		f.flaps++;
		a->turn = f.rig.now + chance(GRACE - 1000);
		break;
	}
}

static void
tick(void)
{
	for (size_t i = 0; i < AGENTS; i++) {
		struct agent *a = &f.agents[i];
		if (a->turn <= f.rig.now)
			turn(a);
		if (a->link == UP && a->beat <= f.rig.now)
			beat(a);
		if (a->link == BROKEN && f.rig.now - a->since >= GRACE)
			a->link = GONE, a->since += GRACE;
	}
	take_news();
}

/* The views are what the links are, when news had its time. */
static void
compare(void)
{
	for (size_t i = 0; i < AGENTS; i++) {
		const struct agent *a = &f.agents[i];
		if (f.rig.now - a->since <= TOLD_WITHIN)
			continue;
		bool there = a->link == UP || a->link == BROKEN;
		for (int v = 0; v < VIEWS; v++) {
			bool shown = a->seen[v].ptr != NULL &&
			    !slice_eq(a->seen[v], SL("offline"));
			if (shown != there)
				fail_msg("%s: seen as %.*s, link %d", a->id,
				    SLICE_FMT(a->seen[v]), a->link);
		}
	}
}

static void
live(msec until)
{
	while (f.rig.now < until) {
		rig_advance(&f.rig, f.rig.now + 25);
		tick();
		compare();
	}
}

/* Controllers -------------------------------------------------------------- */

static void
start_controller(const struct agent_record *agents,
    const struct connection_record *links, size_t count)
{
	const struct user_record root = {
		.id = SL("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1
	};
	struct token_record tokens[] = {
		{ .id = SL("tok_a"),
		    .scopes = SCOPES_CLUSTER,
		    .workspace_id = 1 },
		{ .id = SL("tok_r"),
		    .scopes = SCOPES_ALL,
		    .user_id = SL("usr_root"),
		    .workspace_id = 1 },
	};
	const struct hub_snapshot snapshot = { .users = &root,
		.user_count = 1,
		.tokens = tokens,
		.token_count = 2,
		.agents = agents,
		.agent_count = count,
		.links = links,
		.link_count = count };
	const uint64_t seed[2] = { 1, 2 };
	msec now = f.rig.now;
	wall_msec wall = f.rig.wall;

	rig_init(&f.rig, NULL);
	assert_non_null(f.rig.hub);
	if (wall != 0) {
		f.rig.now = now;
		f.rig.wall = wall;
	}
	f.rig.perform = perform;
	newsfeed_init(&f.feed, AGENTS, seed);
	rig_hash(tokens[0].hash, TOKEN_AGENTS);
	rig_hash(tokens[1].hash, TOKEN_ROOT);
	assert_int_equal(hub_load(f.rig.hub, &snapshot, f.rig.now), 0);
	struct event ev =
	    rig_hello(BOARD, TOKEN_ROOT, "192.0.2.9", ENTRANCE_MONITOR);
	f.watching = false;
	rig_input(&f.rig, &ev);
	assert_true(f.watching);
}

static void
stop_controller(void)
{
	assert_int_equal(f.rig.err, 0);
	newsfeed_fini(&f.feed);
	rig_fini(&f.rig);
}

static void
begin(void)
{
	const char *seed = getenv("MUSTER_SIM_SEED");

	memset(&f, 0, sizeof(f));
	f.seed = seed == NULL ? 42 : strtoull(seed, NULL, 10);
	f.next_peer = 1000;
	for (size_t i = 0; i < AGENTS; i++) {
		struct agent *a = &f.agents[i];
		snprintf(a->id, sizeof(a->id), "agent-%zu", i);
		a->turn = chance(5000);
	}
}

static void
test_flapping_links(void **state)
{
	(void)state;
	begin();
	start_controller(NULL, NULL, 0);
	live(2 * HOUR);
	print_message("%llu flaps, %llu deaths, %llu goodbyes, %llu words\n",
	    (unsigned long long)f.flaps, (unsigned long long)f.deaths,
	    (unsigned long long)f.goodbyes, (unsigned long long)f.told);
	assert_true(f.flaps > 1000 && f.deaths > 100 && f.goodbyes > 100);
	/* A flap within the grace is not worth a word in any dialect. */
	assert_true(f.told < VIEWS * 2 * (f.deaths + f.goodbyes) + f.flaps);
	stop_controller();
}

/* The fleet was there when the controller went, and comes back in its own
 * time: nobody is told of a death that was none. */
static void
test_controller_restart(void **state)
{
	struct agent_record agents[AGENTS];
	struct connection_record links[AGENTS];
	char clusters[AGENTS][40];

	(void)state;
	begin();
	for (size_t i = 0; i < AGENTS; i++) {
		struct agent *a = &f.agents[i];
		snprintf(clusters[i], sizeof(clusters[i]),
		    "00000000-0000-4000-8000-%012zu", i);
		agents[i] = (struct agent_record){ .id = slice_from(a->id),
			.cluster_id = slice_from(clusters[i]),
			.name = slice_from(a->id),
			.token_id = SL("tok_a"),
			.workspace_id = 1,
			.registered_at = 5 };
		links[i] = (struct connection_record){ .id = i + 1,
			.agent_id = agents[i].id,
			.opened_at = 5,
			.closed_at = 10,
			.why = i % 3 == 0 ? SL("goodbye")
					  : SL("controller_stopped") };
		a->link = i % 3 == 0 ? GONE : BROKEN;
		a->turn = i % 3 == 0 ? 10 * (msec)HOUR : 500 + chance(110000);
		/* Its grace is that of a start. */
		a->since = a->link == BROKEN ? 120000 - GRACE : -HOUR;
	}
	start_controller(agents, links, AGENTS);
	for (size_t i = 0; i < AGENTS; i++)
		assert_slice(f.agents[i].seen[MONITOR],
		    i % 3 == 0 ? SL("offline") : SL("online"));
	f.told = 0;
	while (f.rig.now < 119000) {
		rig_advance(&f.rig, f.rig.now + 25);
		for (size_t i = 0; i < AGENTS; i++) {
			struct agent *a = &f.agents[i];
			if (a->link == BROKEN && a->turn <= f.rig.now)
				come(a);
			if (a->link == UP && a->beat <= f.rig.now)
				beat_well(a);
		}
		take_news();
	}
	assert_int_equal(f.told, 0);
	stop_controller();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flapping_links),
		cmocka_unit_test(test_controller_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
