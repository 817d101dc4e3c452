/* Streams on an agent's link, and what a hostile agent makes of them. */
#include <stdlib.h>

#include "base/err.h"

#include "wire/be.h"
#include "wire/opening.h"

#include "server/flow.h"
#include "server/outlet.h"

#include "support/oom.h"
#include "support/tunnel_kit.h"
#include "support/unit.h"

/* Who has a flow, and what became of it. */
struct owner {
	struct flow *f; /* NULL once gone */
	struct buf got;
	int answered, answers; /* the err, and how often */
	char code[40], address[80];
	msec connect;
	bool eof, hold;
	int drains, gones, why;
	struct flow *arrived;
	char peer[80];
	int arrivals;
	bool takes;         /* what arrives */
	struct owner *next; /* who gets it */
	bool closes;        /* itself, in data */
};

static struct kit k;

static void
on_answered(void *o, const struct flow_answer *a)
{
	struct owner *w = o;

	w->answers++;
	w->answered = a->err;
	w->connect = a->connect;
	snprintf(w->code, sizeof(w->code), "%.*s", SLICE_FMT(a->code));
	snprintf(w->address, sizeof(w->address), "%.*s", SLICE_FMT(a->address));
}

static void
on_data(void *o, uint8_t *bytes, size_t n)
{
	struct owner *w = o;

	buf_put(&w->got, (struct slice){ bytes, n });
	bytes[0] ^= 1; /* it is ours to change */
	if (!w->hold)
		flow_consume(w->f, n);
	if (w->closes) {
		flow_close(w->f);
		w->f = NULL;
	}
}

static void
on_eof(void *o)
{
	struct owner *w = o;

	w->eof = true;
}

static void
on_drained(void *o)
{
	struct owner *w = o;

	w->drains++;
}

static void
on_gone(void *o, int why)
{
	struct owner *w = o;

	w->gones++;
	w->why = why;
	w->f = NULL;
}

static void on_arrived(void *o, struct flow *f, struct slice peer);

static const struct flow_ops ops = {
	.answered = on_answered,
	.data = on_data,
	.eof = on_eof,
	.drained = on_drained,
	.gone = on_gone,
	.arrived = on_arrived,
};

static void
on_arrived(void *o, struct flow *f, struct slice peer)
{
	struct owner *w = o;

	w->arrivals++;
	snprintf(w->peer, sizeof(w->peer), "%.*s", SLICE_FMT(peer));
	if (!w->takes)
		return;
	w->next->f = f;
	flow_own(f, &ops, w->next);
	flow_accept(f);
}

static void
owner_init(struct owner *w)
{
	*w = (struct owner){ .answered = 1 };
	buf_init(&w->got, 64 << 20);
}

static void
owner_fini(struct owner *w)
{
	if (w->f != NULL)
		flow_close(w->f);
	buf_fini(&w->got);
}

static struct flow_order
order(const struct tunnel_target *t)
{
	return (struct flow_order){
		.link = k.link, .target = t, .request_id = SL("req_1")
	};
}

static const struct tunnel_target db = { .host = SL_INIT("db.local"),
	.port = 5432 };

static int
open_to(struct owner *w, const struct tunnel_target *t)
{
	struct flow_order o = order(t);

	owner_init(w);
	return flow_open(&k.dock, &o, &ops, w, &w->f);
}

/* One that is open, with what came of its opening eaten; its stream. */
static size_t
opened(struct owner *w)
{
	size_t i = k.agent.count;

	assert_int_equal(open_to(w, &db), 0);
	kit_run(&k);
	assert_int_equal(k.agent.count, i + 1);
	kit_answer(&k, i, 0, "{\"address\":\"10.0.0.7:5432\"}");
	kit_run(&k);
	assert_int_equal(w->answered, 0);
	kit_stream(&k, i)->ate = kit_got(&k, i).len;
	return i;
}

static int
setup(void **state)
{
	(void)state;
	kit_init(&k);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	kit_fini(&k);
	return 0;
}

/* Openings ----------------------------------------------------------------- */

static void
expect_opening(size_t i, enum opening_kind kind, const char *json)
{
	struct opening o;
	struct slice got = kit_got(&k, i);
	int n = opening_decode(got, &o);

	assert_true(n > 0);
	assert_int_equal(o.version, 2);
	assert_int_equal(o.kind, kind);
	assert_slice(o.json, slice_from(json));
	kit_stream(&k, i)->ate += (size_t)n;
}

static void
test_opening(void **state)
{
	struct owner w;

	(void)state;
	assert_int_equal(open_to(&w, &db), 0);
	assert_int_equal(flow_write(w.f, SL("hello")), 0);
	kit_run(&k);
	expect_opening(0, OPENING_KIND_TCP,
	    "{\"id\":\"req_1\",\"host\":\"db.local\",\"port\":5432,"
	    "\"connect_ms\":10000}");
	assert_slice(kit_got(&k, 0), SL("hello"));
	assert_int_equal(w.answers, 0);
	kit_answer(&k, 0, 0,
	    "{\"address\":\"10.0.0.7:5432\",\"resolve_ms\":1,"
	    "\"connect_ms\":2,\"more\":[1]}");
	kit_say(&k, 0, SL("world"));
	kit_run(&k);
	assert_int_equal(w.answers, 1);
	assert_int_equal(w.answered, 0);
	assert_string_equal(w.address, "10.0.0.7:5432");
	assert_int_equal(w.connect, 2);
	assert_slice(buf_peek(&w.got), SL("world"));
	assert_int_equal(flow_received(w.f), 5);
	assert_int_equal(flow_sent(w.f), 5);
	owner_fini(&w);
	kit_run(&k);
	assert_true(kit_stream(&k, 0)->rst);
	assert_int_equal(k.server.counts.flows[TUNNEL_TCP], 0);
	assert_int_equal(k.server.counts.flows_opened[TUNNEL_TCP], 1);
}

static void
test_openings_of_all_sorts(void **state)
{
	const struct tunnel_target service = { .service = SL_INIT("web"),
		.namespace = SL_INIT("prod"),
		.port = 443,
		.tls = true,
		.insecure = true,
		.tls_name = SL_INIT("web.example") };
	struct flow_order o = order(&service);
	struct owner w, v;

	(void)state;
	o.connect_within = 500;
	owner_init(&w);
	assert_int_equal(flow_open(&k.dock, &o, &ops, &w, &w.f), 0);
	o = order(&db);
	o.proto = TUNNEL_UDP;
	o.reverse = true;
	owner_init(&v);
	assert_int_equal(flow_open(&k.dock, &o, &ops, &v, &v.f), 0);
	kit_run(&k);
	expect_opening(0, OPENING_KIND_TCP,
	    "{\"id\":\"req_1\",\"service\":\"web\",\"namespace\":\"prod\","
	    "\"port\":443,\"tls\":{\"insecure\":true,"
	    "\"name\":\"web.example\"},\"connect_ms\":500}");
	expect_opening(1, OPENING_KIND_UDP,
	    "{\"id\":\"req_1\",\"listen\":{\"host\":\"db.local\","
	    "\"port\":5432},\"connect_ms\":10000}");
	owner_fini(&w);
	owner_fini(&v);
}

static void
test_version_1(void **state)
{
	struct tunnel_target t = { .service = SL_INIT("web"),
		.namespace = SL_INIT("prod"),
		.port = 80 };
	struct flow_order o = order(&t);
	struct opening got;
	struct owner w;

	(void)state;
	owner_init(&w);
	o.speech = TUNNEL_STREAMS_V1;
	assert_int_equal(flow_open(&k.dock, &o, &ops, &w, &w.f), 0);
	assert_int_equal(w.answers, 0);
	kit_run(&k);
	/* There is no answer: it counts as given. */
	assert_int_equal(w.answers, 1);
	assert_int_equal(w.answered, 0);
	int n = opening_decode(kit_got(&k, 0), &got);
	assert_true(n > 0);
	assert_int_equal(got.version, 1);
	assert_int_equal(got.proto, OPENING_TCP);
	assert_int_equal(got.port, 80);
	assert_slice(got.service, SL("web"));
	assert_slice(got.namespace, SL("prod"));
	assert_slice(got.tunnel_id, SL("req_1"));
	kit_say(&k, 0, SL("\2\0\0\0"));
	kit_run(&k);
	assert_slice(buf_peek(&w.got), SL("\2\0\0\0"));
	owner_fini(&w);
	owner_init(&w);
	t.tls = true;
	assert_int_equal(
	    flow_open(&k.dock, &o, &ops, &w, &w.f), ERR_UNSUPPORTED);
	t.tls = false;
	o.reverse = true;
	assert_int_equal(
	    flow_open(&k.dock, &o, &ops, &w, &w.f), ERR_UNSUPPORTED);
	o.speech = TUNNEL_JSON;
	assert_int_equal(
	    flow_open(&k.dock, &o, &ops, &w, &w.f), ERR_UNSUPPORTED);
	owner_fini(&w);
}

static void
test_nowhere(void **state)
{
	struct flow_order o = order(&db);
	struct owner w;

	(void)state;
	owner_init(&w);
	o.link.generation++;
	assert_int_equal(flow_open(&k.dock, &o, &ops, &w, &w.f), ERR_GONE);
	o = order(&db);
	k.server.short_of_memory = true;
	assert_int_equal(flow_open(&k.dock, &o, &ops, &w, &w.f), ERR_BUSY);
	k.server.short_of_memory = false;
	owner_fini(&w);
}

/* The hub grants what the link has not heard of yet. */
static void
test_before_the_link_knows(void **state)
{
	struct flow_order o = order(&db);
	struct owner w, v;

	(void)state;
	kit_fini(&k);
	kit_init_early(&k);
	assert_int_equal(open_to(&w, &db), 0);
	o = order(&db);
	owner_init(&v);
	o.speech = TUNNEL_STREAMS_V1;
	assert_int_equal(flow_open(&k.dock, &o, &ops, &v, &v.f), ERR_GONE);
	assert_int_equal(open_to(&v, &db), 0);
	assert_int_equal(flow_write(w.f, SL("hello")), 0);
	flow_close(v.f);
	v.f = NULL;
	kit_run(&k);
	kit_register(&k);
	kit_run(&k);
	assert_int_equal(k.agent.count, 1);
	struct opening got;
	int n = opening_decode(kit_got(&k, 0), &got);
	assert_slice(slice_from_at(kit_got(&k, 0), (size_t)n), SL("hello"));
	kit_answer(&k, 0, 0, "{}");
	kit_run(&k);
	assert_int_equal(w.answered, 0);
	owner_fini(&w);
	kit_fini(&k);
	/* And one that never hears. */
	kit_init_early(&k);
	assert_int_equal(open_to(&w, &db), 0);
	kit_cut(&k);
	kit_run(&k);
	assert_int_equal(w.gones, 1);
	assert_int_equal(w.why, ERR_CLOSED);
	owner_fini(&w);
	owner_fini(&v);
}

static void
test_refusals(void **state)
{
	static const struct {
		const char *json, *code;
		int err;
	} rows[] = {
		{ "{\"code\":\"NOT_PERMITTED\",\"line\":3}", "NOT_PERMITTED",
		    ERR_DENIED },
		{ "{\"code\":\"NAME_NOT_FOUND\",\"text\":\"x\"}",
		    "NAME_NOT_FOUND", ERR_NOT_FOUND },
		{ "{\"code\":\"CONNECT_REFUSED\"}", "CONNECT_REFUSED",
		    ERR_REFUSED },
		{ "{\"code\":\"\\u001b[2J\"}", "INVALID", ERR_INVALID },
		{ "{}", "INVALID", ERR_INVALID },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct owner w;
		assert_int_equal(open_to(&w, &db), 0);
		kit_run(&k);
		kit_answer(&k, i, 1, rows[i].json);
		kit_fin(&k, i);
		kit_run(&k);
		assert_int_equal(w.answers, 1);
		assert_int_equal(w.answered, rows[i].err);
		assert_string_equal(w.code, rows[i].code);
		assert_int_equal(w.gones, 1);
		assert_int_equal(w.why, rows[i].err);
		assert_null(w.f);
		owner_fini(&w);
	}
	assert_int_equal(k.server.counts.flows_refused[0], 1);
	assert_int_equal(k.server.counts.flows_refused[FLOW_CODES - 1], 2);
	assert_int_equal(k.server.counts.flows[TUNNEL_TCP], 0);
}

/* The answer cut at every place. */
static void
test_answer_in_pieces(void **state)
{
	static const char answer[] = "\2\0\0\17{\"address\":\"a\"}rest";

	(void)state;
	for (size_t cut = 1; cut < sizeof(answer) - 1; cut++) {
		struct owner w;
		size_t i = k.agent.count;
		struct slice all = { (const uint8_t *)answer,
			sizeof(answer) - 1 };
		assert_int_equal(open_to(&w, &db), 0);
		kit_run(&k);
		kit_say(&k, i, slice_first(all, cut));
		kit_run(&k);
		assert_int_equal(w.answers, cut >= 19);
		kit_say(&k, i, slice_from_at(all, cut));
		kit_run(&k);
		assert_int_equal(w.answered, 0);
		assert_string_equal(w.address, "a");
		assert_slice(buf_peek(&w.got), SL("rest"));
		owner_fini(&w);
	}
}

static void
test_bad_answers(void **state)
{
	static const struct slice rows[] = {
		SL_INIT("HTTP/1.1 200 OK\r\n"),
		SL_INIT("\1"),
		SL_INIT("\2\2\0\2{}"),
		SL_INIT("\2\0\0\1{"),
		SL_INIT("\2\0\0\2[]]"),
		SL_INIT("\2\0\0\0"),
		SL_INIT("\2\0\0\15{\"address\":1}"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct owner w;
		assert_int_equal(open_to(&w, &db), 0);
		kit_run(&k);
		kit_say(&k, i, rows[i]);
		kit_run(&k);
		assert_int_equal(w.gones, 1);
		assert_true(w.why < 0);
		assert_int_equal(w.answers, 0);
		assert_true(kit_stream(&k, i)->rst);
		owner_fini(&w);
	}
	/* One that is long without end. */
	struct owner w;
	size_t i = k.agent.count;
	uint8_t much[20000] = { 2, 0, 0xff, 0xff };
	assert_int_equal(open_to(&w, &db), 0);
	kit_run(&k);
	kit_say(&k, i, (struct slice){ much, sizeof(much) });
	kit_run(&k);
	assert_int_equal(w.gones, 1);
	owner_fini(&w);
	assert_non_null(kit_link(&k));
}

static void
test_no_answer(void **state)
{
	struct flow_order o = order(&db);
	struct owner w;

	(void)state;
	owner_init(&w);
	o.connect_within = 1;
	assert_int_equal(flow_open(&k.dock, &o, &ops, &w, &w.f), 0);
	while (w.gones == 0)
		loop_turn(&k.loop, true);
	assert_int_equal(w.answers, 1);
	assert_int_equal(w.answered, ERR_TIMEOUT);
	assert_string_equal(w.code, "CONNECT_TIMEOUT");
	owner_fini(&w);
}

/* Ends --------------------------------------------------------------------- */

static void
test_both_end(void **state)
{
	struct owner w;
	size_t i = opened(&w);

	(void)state;
	kit_say(&k, i, SL("last"));
	kit_fin(&k, i);
	w.hold = true;
	kit_run(&k);
	assert_true(w.eof);
	assert_slice(buf_peek(&w.got), SL("last"));
	assert_int_equal(flow_write(w.f, SL("bye")), 0);
	flow_finish(w.f);
	flow_finish(w.f);
	kit_run(&k);
	assert_slice(kit_got(&k, i), SL("bye"));
	assert_true(kit_stream(&k, i)->fin);
	/* Not before all is passed on. */
	assert_int_equal(w.gones, 0);
	flow_consume(w.f, 4);
	assert_int_equal(w.gones, 0);
	kit_run(&k);
	assert_int_equal(w.gones, 1);
	assert_int_equal(w.why, 0);
	assert_int_equal(kit_link(&k)->mux->streams.count, 0);
	assert_int_equal(kit_link(&k)->mux->held, 0);
	owner_fini(&w);
}

static void
test_half_close_the_other_way(void **state)
{
	struct owner w;
	size_t i = opened(&w);

	(void)state;
	flow_finish(w.f);
	kit_run(&k);
	assert_true(kit_stream(&k, i)->fin);
	kit_say(&k, i, SL("still here"));
	kit_run(&k);
	assert_slice(buf_peek(&w.got), SL("still here"));
	kit_fin(&k, i);
	kit_run(&k);
	assert_true(w.eof);
	assert_int_equal(w.gones, 1);
	assert_int_equal(w.why, 0);
	owner_fini(&w);
}

static void
test_reset_and_loss(void **state)
{
	struct owner a, b;
	size_t i = opened(&a);

	(void)state;
	opened(&b);
	kit_rst(&k, i);
	kit_run(&k);
	assert_int_equal(a.why, ERR_RESET);
	assert_int_equal(b.gones, 0);
	kit_cut(&k);
	kit_run(&k);
	assert_null(kit_link(&k));
	assert_int_equal(b.gones, 1);
	assert_int_equal(b.why, ERR_CLOSED);
	owner_fini(&a);
	owner_fini(&b);
}

/* The link has failed in this very turn, and nobody has heard yet. */
static void
test_write_to_a_dying_link(void **state)
{
	struct owner w;

	(void)state;
	opened(&w);
	conn_drop(kit_link(&k)->conn);
	assert_int_equal(flow_write(w.f, SL("x")), ERR_GONE);
	flow_consume(w.f, 0);
	flow_finish(w.f);
	kit_run(&k);
	assert_int_equal(w.gones, 1);
	owner_fini(&w);
}

static void
test_close_inside_a_call(void **state)
{
	struct owner w;
	size_t i = opened(&w);

	(void)state;
	w.closes = true;
	kit_say(&k, i, SL("x"));
	kit_say(&k, i, SL("y"));
	kit_run(&k);
	assert_slice(buf_peek(&w.got), SL("x"));
	assert_int_equal(w.gones, 0);
	assert_true(kit_stream(&k, i)->rst);
	owner_fini(&w);
}

/* Flow control ------------------------------------------------------------- */

static uint8_t block[512 * 1024];

static void
fill_block(void)
{
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(i * 7 + i / 251);
}

static void
test_marks(void **state)
{
	struct owner w;
	size_t i = opened(&w), sent = 0;
	struct slice all = { block, sizeof(block) };

	(void)state;
	fill_block();
	k.agent.hold = true;
	assert_false(flow_above_high(w.f));
	assert_int_equal(flow_write(w.f, all), 0);
	sent += all.len;
	kit_run(&k);
	/* The window is used up, and the rest waits with us. */
	assert_int_equal(buf_peek(&kit_stream(&k, i)->got).len, YAMUX_WINDOW);
	assert_true(flow_above_high(w.f));
	while (flow_write(w.f, slice_first(all, 100000)) == 0)
		sent += 100000;
	assert_int_equal(flow_write(w.f, slice_first(all, 100000)), ERR_FULL);
	assert_true(flow_above_high(w.f));
	assert_int_equal(w.drains, 0);
	k.agent.hold = false;
	kit_consume(&k, i, kit_stream(&k, i)->held);
	kit_run(&k);
	assert_int_equal(kit_got(&k, i).len, sent);
	assert_int_equal(w.drains, 1);
	assert_false(flow_above_high(w.f));
	for (size_t n = 0; n < sent; n++) {
		size_t at = n < all.len ? n : (n - all.len) % 100000;
		if (kit_got(&k, i).ptr[n] != block[at])
			fail_msg("byte %zu differs", n);
	}
	owner_fini(&w);
}

/* What is not passed on keeps the window shut, of that flow alone. */
static void
test_a_stalled_flow_stalls_nobody(void **state)
{
	struct owner slow, quick;
	size_t i = opened(&slow), j = opened(&quick), n = 0;
	struct slice all = { block, sizeof(block) };

	(void)state;
	fill_block();
	slow.hold = true;
	assert_int_equal(kit_say(&k, i, all), YAMUX_WINDOW - 31);
	kit_run(&k);
	assert_int_equal(kit_say(&k, i, all), 0);
	for (int round = 0; round < 20; round++) {
		while (n < 10 * sizeof(block)) {
			size_t went = kit_say(
			    &k, j, slice_from_at(all, n % sizeof(block)));
			if (went == 0)
				break;
			n += went;
		}
		kit_run(&k);
	}
	assert_true(n > 4 * sizeof(block));
	assert_int_equal(buf_peek(&quick.got).len, n);
	assert_int_equal(kit_link(&k)->mux->held, YAMUX_WINDOW - 31);
	flow_consume(slow.f, YAMUX_WINDOW - 31);
	kit_run(&k);
	assert_true(kit_say(&k, i, all) > 0);
	owner_fini(&slow);
	owner_fini(&quick);
}

/* The agent takes nothing for one; short words of others pass long ones. */
static void
test_order_of_leaving(void **state)
{
	struct owner bulk, brisk;
	size_t i = opened(&bulk), j = opened(&brisk);
	struct slice all = { block, sizeof(block) };

	(void)state;
	fill_block();
	/* In one turn: 64 KiB leave at most. */
	assert_int_equal(flow_write(bulk.f, slice_first(all, 16000)), 0);
	assert_int_equal(flow_write(bulk.f, slice_first(all, 200000)), 0);
	assert_int_equal(flow_write(brisk.f, SL("key")), 0);
	while (kit_got(&k, j).len == 0)
		loop_turn(&k.loop, false);
	assert_true(kit_got(&k, i).len <= 2 * STREAM_PULL_MAX);
	kit_run(&k);
	assert_int_equal(kit_got(&k, i).len, 216000);
	assert_slice(kit_got(&k, j), SL("key"));
	owner_fini(&bulk);
	owner_fini(&brisk);
}

/* What the agent opens ----------------------------------------------------- */

static size_t
listening(struct owner *w)
{
	struct flow_order o = order(&db);
	size_t i = k.agent.count;

	owner_init(w);
	o.reverse = true;
	assert_int_equal(flow_open(&k.dock, &o, &ops, w, &w->f), 0);
	kit_run(&k);
	kit_answer(&k, i, 0, "{\"address\":\"127.0.0.1:8080\"}");
	kit_run(&k);
	assert_int_equal(w->answered, 0);
	return i;
}

static struct slice
offer(uint8_t kind, const char *json)
{
	static uint8_t bytes[4096];

	bytes[0] = 2;
	bytes[1] = kind;
	be_put16(bytes + 2, (uint16_t)strlen(json));
	memcpy(bytes + 4, json, strlen(json));
	return (struct slice){ bytes, 4 + strlen(json) };
}

#define GOOD "{\"listener\":\"req_1\",\"peer\":\"192.0.2.9:5123\"}"

static void
test_arrivals(void **state)
{
	struct owner w, next;
	size_t i;

	(void)state;
	listening(&w);
	owner_init(&next);
	w.takes = true;
	w.next = &next;
	i = kit_open(&k, offer(1, GOOD));
	kit_say(&k, i, SL("early"));
	kit_run(&k);
	assert_int_equal(w.arrivals, 1);
	assert_string_equal(w.peer, "192.0.2.9:5123");
	assert_slice(kit_got(&k, i), SL("\2\0\0\2{}"));
	assert_slice(buf_peek(&next.got), SL("early"));
	assert_int_equal(flow_write(next.f, SL("hi")), 0);
	kit_run(&k);
	assert_slice(slice_from_at(kit_got(&k, i), 6), SL("hi"));
	assert_int_equal(k.server.counts.flows[TUNNEL_TCP], 2);
	/* They outlive the one who listens. */
	flow_close(w.f);
	w.f = NULL;
	kit_say(&k, i, SL("!"));
	kit_run(&k);
	assert_slice(buf_peek(&next.got), SL("early!"));
	flow_finish(next.f);
	kit_fin(&k, i);
	kit_run(&k);
	assert_int_equal(next.gones, 1);
	assert_int_equal(next.why, 0);
	/* Nobody listens any more. */
	i = kit_open(&k, offer(1, GOOD));
	kit_run(&k);
	assert_true(kit_got(&k, i).len > 4 && kit_got(&k, i).ptr[1] == 1);
	assert_true(kit_stream(&k, i)->fin);
	owner_fini(&w);
	owner_fini(&next);
}

static void
test_unasked(void **state)
{
	static const struct {
		uint8_t kind;
		const char *json;
		bool answered;
	} rows[] = {
		{ 1, GOOD, true },
		{ 1, "{\"listener\":\"req_2\"}", true },
		{ 1, "{\"listener\":7}", false },
		{ 1, "{", false },
		{ 1, "", false },
		{ 4, GOOD, false },
		{ 99, GOOD, false },
	};
	struct owner w;

	(void)state;
	listening(&w); /* and takes nobody */
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		size_t i = kit_open(&k, offer(rows[r].kind, rows[r].json));
		kit_run(&k);
		assert_int_equal(kit_got(&k, i).len > 0, rows[r].answered);
		if (rows[r].answered) {
			assert_int_equal(kit_got(&k, i).ptr[1], 1);
			assert_true(kit_stream(&k, i)->fin);
			kit_say(&k, i, SL("whatever"));
			kit_fin(&k, i);
		} else {
			assert_true(kit_stream(&k, i)->rst);
		}
	}
	kit_run(&k);
	assert_int_equal(w.arrivals, 1);
	assert_int_equal(w.gones, 0);
	assert_int_equal(kit_link(&k)->mux->streams.count, 1);
	/* Openings without end: the backlog is all they get. */
	for (int i = 0; i < 300; i++) {
		if (kit_link(&k)->mux->unaccepted >= 256)
			break;
		uint32_t id;
		if (yamux_open(&k.agent.mux, NULL, &id) != 0)
			break;
	}
	kit_run(&k);
	assert_true(kit_link(&k)->mux->unaccepted <= 256);
	owner_fini(&w);
}

/* Violations --------------------------------------------------------------- */

static void
raw_frame(uint8_t type, uint16_t flags, uint32_t id, uint32_t len, size_t body)
{
	static uint8_t frame[12 + 600000];

	memset(frame, 0, 12);
	frame[1] = type;
	be_put16(frame + 2, flags);
	be_put32(frame + 4, id);
	be_put32(frame + 8, len);
	kit_raw(&k, (struct slice){ frame, 12 + body });
}

static void
test_data_after_fin(void **state)
{
	struct owner w, v;
	size_t i = opened(&w);

	(void)state;
	opened(&v);
	raw_frame(0, 4, kit_stream(&k, i)->id, 0, 0);
	raw_frame(0, 0, kit_stream(&k, i)->id, 5, 5);
	kit_run(&k);
	assert_true(w.eof);
	assert_int_equal(buf_peek(&w.got).len, 0);
	assert_int_equal(w.gones, 1);
	assert_int_equal(w.why, ERR_PROTOCOL);
	assert_int_equal(v.gones, 0);
	owner_fini(&w);
	owner_fini(&v);
}

static void
test_beyond_the_window(void **state)
{
	struct owner w, v;
	size_t i = opened(&w);

	(void)state;
	opened(&v);
	w.hold = v.hold = true;
	raw_frame(0, 0, kit_stream(&k, i)->id, 300000, 300000);
	kit_run(&k);
	/* It is no yamux: the link ends. */
	assert_null(kit_link(&k));
	assert_int_equal(k.agent.close_code, WS_CODE_PROTOCOL);
	assert_int_equal(w.gones, 1);
	assert_int_equal(v.gones, 1);
	assert_int_equal(v.why, ERR_CLOSED);
	owner_fini(&w);
	owner_fini(&v);
}

static void
test_garbage(void **state)
{
	struct owner w;

	(void)state;
	opened(&w);
	kit_raw(&k, SL("\x7f\x45\x4c\x46 this is no frame at all"));
	kit_run(&k);
	assert_null(kit_link(&k));
	assert_int_equal(w.gones, 1);
	owner_fini(&w);
}

/* A second answer is the service's first word: no more than that. */
static void
test_answers_twice(void **state)
{
	struct owner w;
	size_t i = opened(&w);

	(void)state;
	kit_answer(&k, i, 1, "{}");
	kit_run(&k);
	assert_int_equal(w.answers, 1);
	assert_slice(buf_peek(&w.got), SL("\2\1\0\2{}"));
	owner_fini(&w);
}

/* Memory ------------------------------------------------------------------- */

/* Whatever fails, the flow tells so, and the link lives on or is gone. */
static void
test_without_memory(void **state)
{
	long n = 1;
	bool more = true;

	(void)state;
	fill_block();
	for (; more; n++) {
		struct owner w;
		if (kit_link(&k) == NULL) {
			kit_fini(&k);
			kit_init(&k);
		}
		k.agent.count = 0;
		oom_fail_at(n);
		int err = open_to(&w, &db);
		if (err == 0)
			err = flow_write(
			    w.f, (struct slice){ block, sizeof(block) });
		more = oom_happened();
		if (err == 0)
			flow_finish(w.f);
		else
			assert_true(err == ERR_NOMEM || err == ERR_GONE);
		kit_run(&k);
		if (w.f != NULL && err != 0)
			assert_true(false);
		owner_fini(&w);
		kit_run(&k);
		if (kit_link(&k) != NULL)
			assert_int_equal(kit_link(&k)->mux->streams.count, 0);
	}
	assert_true(n > 4);
}

static void
test_memory_when_idle(void **state)
{
	struct owner w;
	size_t i = opened(&w);

	(void)state;
	fill_block();
	assert_int_equal(
	    flow_write(w.f, (struct slice){ block, sizeof(block) }), 0);
	kit_run(&k);
	assert_int_equal(kit_got(&k, i).len, sizeof(block));
	assert_int_equal(k.server.counts.flow_bytes_out, sizeof(block));
	owner_fini(&w);
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(test_opening),
		ROW(test_openings_of_all_sorts),
		ROW(test_version_1),
		ROW(test_nowhere),
		ROW(test_before_the_link_knows),
		ROW(test_refusals),
		ROW(test_answer_in_pieces),
		ROW(test_bad_answers),
		ROW(test_no_answer),
		ROW(test_both_end),
		ROW(test_half_close_the_other_way),
		ROW(test_reset_and_loss),
		ROW(test_write_to_a_dying_link),
		ROW(test_close_inside_a_call),
		ROW(test_marks),
		ROW(test_a_stalled_flow_stalls_nobody),
		ROW(test_order_of_leaving),
		ROW(test_arrivals),
		ROW(test_unasked),
		ROW(test_data_after_fin),
		ROW(test_beyond_the_window),
		ROW(test_garbage),
		ROW(test_answers_twice),
		ROW(test_without_memory),
		ROW(test_memory_when_idle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
