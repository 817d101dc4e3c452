/*
 * Lines of any bytes as an agent's messages, or, when one begins with a digit
 * from 0 to 5, as the body of that HTTP call: decoded, decided by a hub, and
 * the answers encoded.  Every answer must be JSON, whatever came.
 */
#include <stdlib.h>

#include "base/err.h"
#include "base/js.h"

#include "dialect/cluster.h"

#include "model/hub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINK = 1, CALLER = 2, LINES_MAX = 64 };

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
check_answer(const struct event *ev, bool http)
{
	const struct cluster_context c = { .tunnel_origin = SL("https://m"),
		.now = ev->at,
		.heartbeat_ms = 30000,
		.message_max = 1 << 20 };
	const struct js_limits limits = { 1 << 24, 64 };
	struct js_doc doc;
	struct arena a;
	struct buf out;
	int status = 0;

	if (ev->kind == EVENT_WELCOME)
		return;
	buf_init(&out, 64 << 20);
	arena_init(&a, 256 << 20);
	check(
	    (http ? cluster_encode_call(ev, CLUSTER_REGISTER, &c, &status, &out)
		  : cluster_encode(ev, &c, &out)) == 0);
	check(!http || (status >= 200 && status < 600));
	check(js_parse(&doc, buf_peek(&out), &limits, &a) == 0);
	check(doc.repeated.ptr == NULL);
	buf_fini(&out);
	arena_fini(&a);
}

static void
input(struct hub *h, const struct event *ev, uint32_t peer)
{
	struct event copy = *ev;
	struct outbox out;

	copy.peer = (struct peer_id){ .slot = peer, .generation = 1 };
	copy.at = 1760616000000;
	outbox_init(&out, 64 << 20);
	hub_input(h, &copy, 1000, &out);
	check(out.err == 0);
	for (size_t i = 0; i < out.count; i++) {
		const struct effect *e = &out.effects[i];
		if (e->kind == EFFECT_SEND)
			check_answer(e->event, e->peer.slot == CALLER);
		if (e->kind != EFFECT_STORE)
			continue;
		struct event stored = { .kind = EVENT_STORED };
		stored.stored.number = e->op->number;
		input(h, &stored, 0);
	}
	outbox_fini(&out);
}

static void
knock(struct hub *h, uint32_t peer, enum entrance entrance)
{
	struct event ev = { .kind = EVENT_HELLO };

	ev.hello.entrance = entrance;
	ev.hello.credential.kind = CREDENTIAL_TOKEN;
	ev.hello.credential.hash[0] = 1;
	ev.hello.credential.address = SL("192.0.2.1");
	input(h, &ev, peer);
}

static void
say(struct hub *h, struct slice line)
{
	struct event ev;
	struct arena a;
	bool http = line.len > 0 && line.ptr[0] >= '0' && line.ptr[0] <= '5';

	arena_init(&a, 256 << 20);
	if (http)
		check(cluster_decode_call(
			  (enum cluster_call)(line.ptr[0] - '0'), SL("c"),
			  SL("cmd"), slice_from_at(line, 1), &a, &ev) == 0);
	else
		check(cluster_decode(line, &a, &ev) == 0);
	check(ev.kind != EVENT_BAD || ev.complaint.code.len > 0);
	if (http)
		knock(h, CALLER, ENTRANCE_CLUSTER_HTTP);
	input(h, &ev, http ? CALLER : LINK);
	arena_fini(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct hub_config config = { .seed = { 1, 2, 3, 4 },
		.incarnation = SL("db") };
	struct token_record token = { .id = SL("tok"),
		.scopes = SCOPES_CLUSTER,
		.workspace_id = 1,
		.hash = { 1 } };
	const struct hub_snapshot snapshot = { .tokens = &token,
		.token_count = 1 };
	struct slice rest = { data, size }, line;
	struct hub *h = hub_new(&config);

	check(h != NULL && hub_load(h, &snapshot, 0) == 0);
	knock(h, LINK, ENTRANCE_CLUSTER_LINK);
	for (int i = 0; i < LINES_MAX && slice_split(&rest, '\n', &line); i++)
		say(h, line);
	hub_free(h);
	return 0;
}
