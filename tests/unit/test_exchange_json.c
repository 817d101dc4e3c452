/*
 * Exchanges by JSON messages on a real link: what the system test cannot
 * show, memory that runs out and visitors that take nothing.
 */
#include <stdio.h>

#include "base/err.h"

#include "wire/enc.h"
#include "wire/ws.h"

#include "server/exchange_json.h"

#include "support/oom.h"
#include "support/tunnel_kit.h"
#include "support/unit.h"

struct owner {
	struct exchange *x;
	int status, informed, upgraded, ended, failed, drains, closes;
	int64_t length;
	uint16_t code;
	char why[40];
	struct buf got;
	bool takes;    /* consumes what it is given */
	bool drops;    /* itself, in the first op */
	size_t unread; /* given, not consumed */
};

static struct kit k;
static uint8_t block[2 << 20];

static void
owner_drop(struct owner *w)
{
	exchange_drop(w->x);
	w->x = NULL;
}

static void
on_informed(void *owner, const struct http1_head *h)
{
	struct owner *w = owner;

	assert_int_equal(h->status, 100);
	w->informed++;
}

static void
on_answered(void *owner, const struct http1_head *h, int64_t length)
{
	struct owner *w = owner;

	w->status = h->status;
	w->length = length;
	if (w->drops)
		owner_drop(w);
}

static void
on_upgraded(void *owner, const struct http1_head *h, bool raw)
{
	struct owner *w = owner;

	assert_true(!raw && h->status == 101);
	w->upgraded++;
	if (w->drops)
		owner_drop(w);
}

static void
give(struct owner *w, struct slice bytes)
{
	buf_put(&w->got, bytes);
	if (w->takes)
		exchange_consume(w->x, bytes.len);
	else
		w->unread += bytes.len;
}

static void
on_data(void *owner, struct slice bytes)
{
	struct owner *w = owner;

	assert_true(w->status != 0 && w->ended == 0 && w->failed == 0);
	give(w, bytes);
	if (w->drops)
		owner_drop(w);
}

static void
on_message(void *owner, const struct exchange_message *m)
{
	struct owner *w = owner;

	assert_int_equal(w->upgraded, 1);
	if (m->kind == WS_CLOSE) {
		w->closes++;
		w->code = m->code;
		return;
	}
	give(w, m->data);
}

static void
on_ended(void *owner, const struct http1_head *trailers)
{
	struct owner *w = owner;

	assert_null(trailers);
	assert_int_equal(w->failed, 0);
	w->ended++;
}

static void
on_drained(void *owner)
{
	struct owner *w = owner;

	w->drains++;
}

static void
on_failed(void *owner, const struct exchange_failure *f)
{
	struct owner *w = owner;

	assert_true(f->status >= 502 && f->err < 0 && f->text.len > 0);
	assert_int_equal(slice_cstr(f->code, w->why, sizeof(w->why)), 0);
	assert_int_equal(w->ended + w->failed, 0);
	w->failed++;
}

static const struct exchange_ops ops = {
	.informed = on_informed,
	.answered = on_answered,
	.upgraded = on_upgraded,
	.data = on_data,
	.message = on_message,
	.ended = on_ended,
	.drained = on_drained,
	.failed = on_failed,
};

/* Asking ------------------------------------------------------------------- */

static const struct tunnel_target target = {
	.service = SL_INIT("web"), .namespace = SL_INIT("shop"), .port = 80
};

static int
begin(struct owner *w, const struct http1_ask *ask)
{
	const struct exchange_order o = { .link = k.link,
		.agent_id = SL("a-1"),
		.speech = TUNNEL_JSON,
		.target = &target,
		.answer_within = 1000,
		.request_id = SL("req_1"),
		.ask = ask };
	int err;

	*w = (struct owner){ .takes = true };
	buf_init(&w->got, 64 << 20);
	err = exchange_start(&k.dock, &o, &ops, w, &w->x);
	if (err != 0)
		w->x = NULL;
	return err;
}

static void
owner_fini(struct owner *w)
{
	owner_drop(w);
	buf_fini(&w->got);
}

static const struct http1_ask get = { .method = SL_INIT("GET"),
	.target = SL_INIT("/a?b"),
	.host = SL_INIT("h") };
static const struct http1_ask upload = { .method = SL_INIT("POST"),
	.target = SL_INIT("/"),
	.host = SL_INIT("h"),
	.length = -1 };
static const struct http1_pair offers[] = {
	{ SL_INIT("Upgrade"), SL_INIT("websocket") },
	{ SL_INIT("Sec-WebSocket-Protocol"), SL_INIT("a") },
	{ SL_INIT("Sec-WebSocket-Protocol"), SL_INIT("b") },
};
static const struct http1_ask upgrade = { .method = SL_INIT("GET"),
	.target = SL_INIT("/"),
	.host = SL_INIT("h"),
	.fields = offers,
	.count = 3,
	.upgrade = true };

static void
open_link(void)
{
	const struct proxy_features all = {
		.proxy = true, .streaming = true, .response_streaming = true
	};

	kit_init(&k);
	assert_int_equal(proxy_link_open(kit_link(&k), &all), 0);
}

/* The agent's word on it; nothing when link or exchange are gone. */
static void
hear(struct owner *w, const char *type, const char *payload)
{
	static char text[4 << 20];
	struct link_conn *l = kit_link(&k);

	if (l == NULL || w->x == NULL)
		return;
	const struct asked *x = (const struct asked *)(const void *)w->x;
	int n = snprintf(text, sizeof(text),
	    "{\"type\":\"%s\",\"request_id\":\"%s\",\"payload\":{%s}}", type,
	    x->use.id, payload);
	assert_true(n > 0 && (size_t)n < sizeof(text));
	proxy_link_text(l, (struct slice){ (uint8_t *)text, (size_t)n });
}

static void
hear_data(struct owner *w, const char *type, struct slice bytes)
{
	static char payload[3 << 20];
	struct buf text;

	buf_init(&text, 4 << 20);
	enc_put_base64(&text, bytes, ENC_STD);
	snprintf(payload, sizeof(payload), "\"data\":\"%.*s\"",
	    SLICE_FMT(buf_peek(&text)));
	if (text.err == 0)
		hear(w, type, payload);
	buf_fini(&text);
}

/* Scenes ------------------------------------------------------------------- */

/* Each plays to its end whatever fails, and says whether all went well. */
static bool
scene_pieces(struct owner *w)
{
	if (begin(w, &get) != 0)
		return false;
	exchange_end(w->x, NULL, 0);
	hear(w, "proxy_response_header",
	    "\"status\":200,\"headers\":{\"A\":[\"b\",\"c\"]}");
	hear(w, "proxy_response_chunk", "\"data\":\"aGk=\"");
	hear(w, "proxy_response_end", "");
	return w->status == 200 && w->length == -1 && w->ended == 1 &&
	    slice_eq(buf_peek(&w->got), SL("hi"));
}

static bool
scene_upload(struct owner *w)
{
	if (begin(w, &upload) != 0)
		return false;
	for (int i = 0; i < 2; i++) {
		if (exchange_write(
			w->x, (struct slice){ block, sizeof(block) / 2 }) != 0)
			return false;
		kit_run(&k);
	}
	exchange_end(w->x, NULL, 0);
	kit_run(&k);
	hear(w, "proxy_response", "\"status\":204");
	return w->status == 204 && w->ended == 1;
}

static bool
scene_websocket(struct owner *w)
{
	const struct exchange_message m = { .kind = WS_TEXT,
		.data = SL("hello") };
	const struct exchange_message bye = {
		.kind = WS_CLOSE, .code = 1000, .data = SL("bye")
	};

	if (begin(w, &upgrade) != 0)
		return false;
	hear(w, "proxy_response",
	    "\"status\":101,\"headers\":{\"Sec-WebSocket-Protocol\":\"b\"}");
	if (w->upgraded == 0 || exchange_message(w->x, &m) != 0)
		return false;
	hear(w, "ws_data", "\"data\":\"AWhp\"");
	hear(w, "ws_data", "\"data\":\"CXA=\"");
	return exchange_message(w->x, &bye) == 0 && w->failed == 0 &&
	    slice_eq(buf_peek(&w->got), SL("hi"));
}

/* A long answer for a visitor who takes it late. */
static bool
scene_late(struct owner *w)
{
	if (begin(w, &get) != 0)
		return false;
	w->takes = false;
	exchange_end(w->x, NULL, 0);
	hear(w, "proxy_response_header", "\"status\":200");
	hear_data(w, "proxy_response_chunk",
	    (struct slice){ block, sizeof(block) / 2 });
	hear(w, "proxy_response_end", "");
	for (int i = 0; i < 100 && w->failed == 0 && w->unread > 0; i++) {
		assert_true(w->unread <= ASKED_LENT);
		exchange_consume(w->x, w->unread);
		w->unread = 0;
		kit_run(&k);
	}
	return w->ended == 1 && buf_peek(&w->got).len == sizeof(block) / 2;
}

/* Last words leave by themselves, a moment apart. */
static void
linger(void)
{
	for (int i = 0; i < 10000 && kit_link(&k) != NULL &&
	     !list_empty(&kit_link(&k)->proxy->list);
	     i++)
		loop_turn(&k.loop, true);
}

static bool (*const scenes[])(struct owner *w) = { scene_pieces, scene_upload,
	scene_websocket, scene_late };

static void
test_scenes(void **state)
{
	struct owner w;

	(void)state;
	open_link();
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
		assert_true(scenes[i](&w));
		owner_fini(&w);
		linger();
		assert_true(list_empty(&kit_link(&k)->proxy->list));
		assert_int_equal(kit_link(&k)->proxy->held, 0);
	}
	kit_fini(&k);
}

static void
test_out_of_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
		bool more = true;
		for (long n = 1; more; n++) {
			struct owner w = { .x = NULL };
			open_link();
			oom_fail_at(n);
			bool well = scenes[i](&w);
			more = oom_happened();
			assert_true(well || more);
			owner_fini(&w);
			linger();
			kit_fini(&k);
		}
	}
}

/* Ops that drop the exchange. */
static void
test_dropped_inside(void **state)
{
	struct owner w;

	(void)state;
	open_link();
	assert_int_equal(begin(&w, &get), 0);
	w.drops = true;
	exchange_end(w.x, NULL, 0);
	hear(&w, "proxy_response", "\"status\":200,\"body\":\"x\"");
	assert_true(w.x == NULL && w.status == 200 && w.ended == 0);
	owner_fini(&w);
	assert_int_equal(begin(&w, &upgrade), 0);
	w.drops = true;
	hear(&w, "proxy_response", "\"status\":101");
	assert_true(w.x == NULL && w.upgraded == 1);
	owner_fini(&w);
	kit_fini(&k);
}

/* What an agent sends for a visitor who takes nothing is bounded. */
static void
test_flood(void **state)
{
	struct owner w, other;

	(void)state;
	open_link();
	assert_int_equal(begin(&w, &get), 0);
	assert_int_equal(begin(&other, &get), 0);
	w.takes = false;
	exchange_end(w.x, NULL, 0);
	hear(&w, "proxy_response_header", "\"status\":200");
	assert_false(kit_link(&k)->proxy->mixes);
	for (int i = 0; i < 20 && w.failed == 0; i++) {
		hear_data(&w, "proxy_response_chunk",
		    (struct slice){ block, 512 * 1024 });
		assert_true(kit_link(&k)->proxy->held <= ASKED_IN_MAX);
	}
	assert_string_equal(w.why, "VISITOR_SLOW");
	assert_int_equal(kit_link(&k)->proxy->held, 0);
	/* What is still on its way is nobody's fault. */
	hear_data(&w, "proxy_response_chunk", SL("x"));
	assert_false(kit_link(&k)->proxy->mixes);
	/* The link and who else is on it are as before. */
	exchange_end(other.x, NULL, 0);
	hear(&other, "proxy_response", "\"status\":200");
	assert_int_equal(other.ended, 1);
	owner_fini(&w);
	owner_fini(&other);
	kit_fini(&k);
}

static void
test_link_lost(void **state)
{
	struct owner asked, idle, whole, none;

	(void)state;
	open_link();
	assert_int_equal(begin(&asked, &get), 0);
	assert_int_equal(begin(&idle, &upload), 0);
	assert_int_equal(begin(&whole, &get), 0);
	whole.takes = false;
	exchange_end(asked.x, NULL, 0);
	exchange_end(whole.x, NULL, 0);
	hear(&whole, "proxy_response_header", "\"status\":200");
	hear_data(&whole, "proxy_response_chunk",
	    (struct slice){ block, 512 * 1024 });
	hear(&whole, "proxy_response_end", "");
	kit_cut(&k);
	kit_run(&k);
	assert_string_equal(asked.why, "AGENT_GONE");
	assert_string_equal(idle.why, "AGENT_GONE");
	/* What had come whole is delivered all the same. */
	exchange_consume(whole.x, whole.unread);
	whole.takes = true;
	kit_run(&k);
	assert_int_equal(whole.ended, 1);
	assert_int_equal(buf_peek(&whole.got).len, 512 * 1024);
	assert_int_equal(begin(&none, &get), ERR_GONE);
	owner_fini(&asked);
	owner_fini(&idle);
	owner_fini(&whole);
	owner_fini(&none);
	kit_fini(&k);
}

static void
test_unable(void **state)
{
	const struct proxy_features old = { .proxy = true };
	struct http1_ask big = upload;
	struct owner w;

	(void)state;
	open_link();
	assert_int_equal(proxy_link_open(kit_link(&k), &old), 0);
	big.length = ASKED_WHOLE_MAX + 1;
	assert_int_equal(begin(&w, &big), ERR_UNSUPPORTED);
	owner_fini(&w);
	/* Its length was not known. */
	assert_int_equal(begin(&w, &upload), 0);
	for (int i = 0; i < 8 && w.failed == 0; i++)
		exchange_write(w.x, (struct slice){ block, 1 << 20 });
	assert_string_equal(w.why, "BODY_TOO_BIG");
	owner_fini(&w);
	kit_fini(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scenes),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_dropped_inside),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_link_lost),
		cmocka_unit_test(test_unable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
