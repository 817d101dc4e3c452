/* The gateway between real sockets: a visitor, and an agent's link on which
 * the test plays the agent and its services, and the hub. */
#include <string.h>
#include <unistd.h>

#include "base/err.h"

#include "server/exchange.h"
#include "server/flow_pool.h"
#include "server/gateway.h"
#include "server/mail.h"

#include "support/oom.h"
#include "support/streams.h"
#include "support/tunnel_kit.h"
#include "support/unit.h"

static struct kit kit;
static struct probe visitor;

/* Routes -------------------------------------------------------------------
 */

static struct route_record records[4];
static const struct route_record *sites[4];
static const struct route_record *ids[4];
static struct route_list routes = { .sites = sites, .ids = ids };

/* In the order of route_cmp. */
static struct route_record *
add_route(const char *id, const char *host)
{
	struct route_record *r = &records[routes.count];

	*r = (struct route_record){ .id = slice_from(id),
		.name = slice_from(id),
		.host = slice_from(host),
		.prefix = SL("/"),
		.agent = SL("agt_1"),
		.target = { .host = SL("127.0.0.1"), .port = 8080 },
		.wall = TUNNEL_PUBLIC };
	sites[routes.count] = ids[routes.count] = r;
	routes.count++;
	return r;
}

static int
set_up(void **state)
{
	(void)state;
	kit_init(&kit);
	routes.count = 0;
	add_route("rte_1", "app.test");
	kit.dock.routes = &routes;
	return 0;
}

static void
let_in(struct probe *p)
{
	struct stream *ours, *theirs;
	int fd[2];

	tcp_pair(fd);
	assert_int_equal(stream_new(&kit.loop, fd[0], NULL, &ours), 0);
	assert_int_equal(stream_new(&kit.loop, fd[1], NULL, &theirs), 0);
	conn_new(&kit.dock, ours);
	probe_init(p);
	probe_start(p, theirs);
	kit_run(&kit);
}

static int
set_up_visitor(void **state)
{
	set_up(state);
	let_in(&visitor);
	return 0;
}

static void
send_away(struct probe *p)
{
	if (p->s != NULL)
		stream_abort(p->s, true);
	kit_run(&kit);
	probe_fini(p);
}

static int
tear_down(void **state)
{
	(void)state;
	kit.dock.routes = NULL;
	kit_fini(&kit);
	return 0;
}

static int
tear_down_visitor(void **state)
{
	send_away(&visitor);
	return tear_down(state);
}

/* What the visitor, the hub and the service do ------------------------------
 */

static void
ask(const char *text)
{
	assert_int_equal(stream_write(visitor.s, slice_from(text)), 0);
	kit_run(&kit);
}

/* The next question of the gateway's, if there is one. */
static const struct event *
question(void)
{
	struct mail *m;

	while ((m = mailbox_take(&kit.dock.lane.to_hub, MAIL_NORMAL)) != NULL) {
		struct event *ev = &LIST_OF(m, struct hub_mail, mail)->event;
		if (ev->kind == EVENT_REQUEST && ev->request.op == OP_VISIT)
			return ev;
	}
	return NULL;
}

static struct tunnel_member member = { .agent_id = SL_INIT("agt_1"),
	.name = SL_INIT("web-1"),
	.speech = TUNNEL_STREAMS };

static void
reply(struct peer_id to, const struct reply *r)
{
	struct conn *c = dock_find(&kit.dock, to);
	const struct event ev = { .kind = EVENT_REPLY, .reply = r };

	assert_non_null(c);
	c->role->event(c, &ev);
	kit_run(&kit);
}

/* Let the one that asks pass. */
static void
grant_to(const struct event *ev)
{
	static uint64_t number;

	assert_non_null(ev);
	member.link = kit.link;
	const struct tunnel_grant g = { .number = ++number,
		.visit = ev->request.visit,
		.target = { .host = SL("127.0.0.1"), .port = 8080 },
		.members = &member,
		.member_count = 1 };
	const struct reply r = { .op = OP_VISIT, .status = 200, .grant = &g };
	reply(ev->peer, &r);
	mailbox_done(&kit.dock.lane.to_hub);
}

static void
pass(const char *request)
{
	const struct event *ev;

	ask(request);
	ev = question();
	if (ev != NULL)
		grant_to(ev);
}

/* The service's stream i has this now, behind the opening if it has one. */
static struct slice
heard(size_t i)
{
	struct slice got = kit_got(&kit, i);

	if (got.len >= 4 && got.ptr[0] == 2) {
		size_t n = 4 + (size_t)(got.ptr[2] << 8 | got.ptr[3]);
		kit_stream(&kit, i)->ate += n;
		got = kit_got(&kit, i);
	}
	return got;
}

static void
forget(size_t i)
{
	kit_stream(&kit, i)->ate += heard(i).len;
}

static void
answer(size_t i, const char *text)
{
	kit_say(&kit, i, slice_from(text));
	kit_run(&kit);
}

/* The agent has reached the service of stream i. */
static void
reach(size_t i)
{
	kit_answer(&kit, i, 0, "{\"connect_ms\":1}");
	kit_run(&kit);
}

static bool
has(struct slice text, const char *part)
{
	size_t n = strlen(part);

	for (size_t i = 0; i + n <= text.len; i++) {
		if (memcmp(text.ptr + i, part, n) == 0)
			return true;
	}
	return false;
}

#define assert_has(text, part)                                             \
	do {                                                               \
		struct slice t_ = (text);                                  \
		if (!has(t_, part))                                        \
			fail_msg(                                          \
			    "no \"%s\" in \"%.*s\"", part, SLICE_FMT(t_)); \
	} while (0)
#define assert_has_not(text, part)                                           \
	do {                                                                 \
		struct slice t_ = (text);                                    \
		if (has(t_, part))                                           \
			fail_msg("\"%s\" in \"%.*s\"", part, SLICE_FMT(t_)); \
	} while (0)

static struct slice
got(void)
{
	return buf_peek(&visitor.got);
}

/* What came behind the head. */
static struct slice
got_body(void)
{
	struct slice all = got();

	for (size_t i = 0; i + 4 <= all.len; i++) {
		if (memcmp(all.ptr + i, "\r\n\r\n", 4) == 0)
			return slice_from_at(all, i + 4);
	}
	return (struct slice){ 0 };
}

static const char open_ws[] =
    "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: chat, other\r\n"
    "Origin: http://app.test\r\n\r\n";
static const char opened_ws[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    "Sec-WebSocket-Protocol: chat\r\nX-Service: 1\r\n\r\n";

static const char get[] = "GET /a?b=c HTTP/1.1\r\nHost: app.test\r\n"
			  "User-Agent: x\r\n\r\n";

/* Requests and answers ------------------------------------------------------
 */

static void
test_get(void **state)
{
	(void)state;
	pass(get);
	assert_int_equal(kit.agent.count, 1);
	assert_has(heard(0), "GET /a?b=c HTTP/1.1\r\nHost: app.test\r\n");
	assert_has(heard(0), "User-Agent: x\r\n");
	assert_has(heard(0), "X-Forwarded-For: 127.0.0.1\r\n");
	assert_has(heard(0), "X-Forwarded-Proto: http\r\n");
	assert_has(heard(0), "X-Request-Id: req_");
	reach(0);
	assert_int_equal(got().len, 0);
	answer(0,
	    "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nServer: it\r\n"
	    "Connection: x\r\nX: y\r\n\r\nhello");
	assert_has(got(), "HTTP/1.1 200 Fine\r\n");
	assert_has(got(), "Server: it\r\n");
	assert_has(got(), "Content-Length: 5\r\n");
	assert_has_not(got(), "X: y");
	assert_slice(got_body(), SL("hello"));
	assert_non_null(visitor.s);
	assert_int_equal(flow_pool_count(&kit.dock), 1);
}

static void
test_used_again(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		buf_clear(&visitor.got);
		pass(get);
		if (i == 0)
			reach(0);
		assert_int_equal(kit.agent.count, 1);
		assert_has(heard(0), "GET /a?b=c");
		forget(0);
		answer(0,
		    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
		    "\r\n3\r\nabc\r\n0\r\n\r\n");
		assert_has(got(), "Transfer-Encoding: chunked\r\n");
		assert_slice(got_body(), SL("3\r\nabc\r\n0\r\n\r\n"));
	}
	/* Not when the service says that it was the last. */
	buf_clear(&visitor.got);
	pass(get);
	answer(0,
	    "HTTP/1.1 200 OK\r\nConnection: close\r\n"
	    "Content-Length: 0\r\n\r\n");
	assert_has(got(), "HTTP/1.1 200 OK\r\n");
	assert_has_not(got(), "close");
	assert_int_equal(flow_pool_count(&kit.dock), 0);
	pass(get);
	assert_int_equal(kit.agent.count, 2);
}

static void
test_stale(void **state)
{
	(void)state;
	pass(get);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	buf_clear(&visitor.got);
	/* Closed while the request is on its way: asked once more. */
	pass(get);
	kit_fin(&kit, 0);
	kit_run(&kit);
	assert_int_equal(kit.agent.count, 2);
	assert_has(heard(1), "GET /a?b=c HTTP/1.1\r\nHost: app.test\r\n");
	reach(1);
	answer(1, "HTTP/1.1 204 No Content\r\n\r\n");
	assert_has(got(), "HTTP/1.1 204 No Content\r\n");
	assert_has_not(got(), "Content-Length");
	assert_has_not(got(), "chunked");
	buf_clear(&visitor.got);
	/* But not what may have been done already. */
	pass(
	    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi");
	assert_int_equal(kit.agent.count, 2);
	kit_rst(&kit, 1);
	kit_run(&kit);
	assert_int_equal(kit.agent.count, 2);
	assert_has(got(), "HTTP/1.1 502 ");
	assert_has(got(), "\"code\":\"SERVICE_CLOSED\"");
	/* And not twice. */
	buf_clear(&visitor.got);
	pass(get);
	reach(2);
	kit_fin(&kit, 2);
	kit_run(&kit);
	assert_int_equal(kit.agent.count, 3);
	assert_has(got(), "HTTP/1.1 502 ");
}

static void
test_idle_word(void **state)
{
	(void)state;
	pass(get);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(flow_pool_count(&kit.dock), 1);
	/* An answer that nobody asked for is nobody's. */
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
	assert_int_equal(flow_pool_count(&kit.dock), 0);
	assert_true(kit_stream(&kit, 0)->rst);
	buf_clear(&visitor.got);
	pass(get);
	assert_int_equal(kit.agent.count, 2);
	assert_int_equal(got().len, 0);
}

/* An owner that cannot go at once: what the service says behind its answer is
 * nobody's, however much it is. */
struct stayer {
	int ended, failed;
};

static void
stayer_answered(void *owner, const struct http1_head *h, int64_t length)
{
	(void)owner;
	(void)h;
	(void)length;
}

static void
stayer_ended(void *owner, const struct http1_head *trailers)
{
	(void)trailers;
	((struct stayer *)owner)->ended++;
}

static void
stayer_failed(void *owner, const struct exchange_failure *f)
{
	(void)f;
	((struct stayer *)owner)->failed++;
}

static void
test_more_than_an_answer(void **state)
{
	static const struct exchange_ops ops = { .answered = stayer_answered,
		.ended = stayer_ended,
		.failed = stayer_failed };
	const struct tunnel_target to = { .host = SL("127.0.0.1"), .port = 80 };
	const struct http1_ask ask = {
		.method = SL("GET"), .target = SL("/"), .host = SL("app.test")
	};
	const struct exchange_order order = { .link = kit.link,
		.agent_id = SL("agt_1"),
		.speech = TUNNEL_STREAMS,
		.target = &to,
		.connect_within = 1000,
		.answer_within = 1000,
		.request_id = SL("req_1"),
		.ask = &ask };
	struct stayer w = { 0 };
	struct exchange *x;

	(void)state;
	assert_int_equal(exchange_start(&kit.dock, &order, &ops, &w, &x), 0);
	assert_int_equal(exchange_end(x, NULL, 0), 0);
	kit_run(&kit);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore");
	answer(0, "and more");
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	kit_run(&kit);
	assert_int_equal(w.ended, 1);
	assert_int_equal(w.failed, 0);
	assert_int_equal(flow_pool_count(&kit.dock), 0);
	assert_true(kit_stream(&kit, 0)->rst);
	exchange_drop(x);
}

static void
test_bodies(void **state)
{
	(void)state;
	pass("POST /up HTTP/1.1\r\nHost: app.test\r\n"
	     "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
	     "4\r\nabcd\r\n");
	reach(0);
	assert_has(heard(0), "Transfer-Encoding: chunked\r\n");
	assert_has(heard(0), "4\r\nabcd\r\n");
	forget(0);
	/* An answer that begins before the request is whole. */
	answer(0,
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "2\r\nhi\r\n");
	assert_slice(got_body(), SL("2\r\nhi\r\n"));
	ask("3\r\nefg\r\n0\r\nX-Sum: 7\r\n\r\n");
	assert_slice(heard(0), SL("3\r\nefg\r\n0\r\nX-Sum: 7\r\n\r\n"));
	answer(0, "0\r\nX-Time: 5\r\n\r\n");
	assert_slice(got_body(), SL("2\r\nhi\r\n0\r\nX-Time: 5\r\n\r\n"));
	assert_int_equal(flow_pool_count(&kit.dock), 1);
}

static void
test_expect(void **state)
{
	(void)state;
	pass("PUT /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n"
	     "Expect: 100-continue\r\n\r\n");
	reach(0);
	assert_has(heard(0), "Expect: 100-continue\r\n");
	assert_has(heard(0), "Content-Length: 4\r\n");
	forget(0);
	assert_int_equal(got().len, 0);
	answer(0,
	    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	    "HTTP/1.1 100 Continue\r\n\r\n");
	assert_slice(got(),
	    SL("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	       "HTTP/1.1 100 Continue\r\n\r\n"));
	buf_clear(&visitor.got);
	ask("data");
	assert_slice(heard(0), SL("data"));
	answer(0, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
	assert_has(got(), "HTTP/1.1 201 Created\r\n");
	assert_has_not(got(), "Connection: close");
}

static void
test_bare(void **state)
{
	(void)state;
	pass("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n");
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
	assert_has(got(), "Content-Length: 1000\r\n");
	assert_int_equal(got_body().len, 0);
	buf_clear(&visitor.got);
	pass("GET / HTTP/1.1\r\nHost: app.test\r\nRange: bytes=0-1\r\n\r\n");
	assert_has(heard(0), "Range: bytes=0-1\r\n");
	answer(0,
	    "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n"
	    "Content-Range: bytes 0-1/9\r\n\r\nab");
	assert_has(got(), "Content-Range: bytes 0-1/9\r\n");
	assert_slice(got_body(), SL("ab"));
	buf_clear(&visitor.got);
	pass("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
	answer(0,
	    "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n"
	    "Content-Length: 9\r\n\r\n");
	assert_has(got(), "HTTP/1.1 304 Not Modified\r\n");
	assert_has(got(), "ETag: \"x\"\r\n");
	assert_int_equal(flow_pool_count(&kit.dock), 1);
}

static void
test_old_visitor(void **state)
{
	(void)state;
	pass("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
	reach(0);
	answer(0,
	    "HTTP/1.1 103 Early Hints\r\n\r\n"
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "3\r\nabc\r\n0\r\n\r\n");
	assert_has_not(got(), "103");
	assert_has_not(got(), "chunked");
	assert_has(got(), "Connection: close\r\n");
	assert_slice(got_body(), SL("abc"));
	assert_true(visitor.eof || visitor.closed);
}

static void
test_pipelined(void **state)
{
	(void)state;
	pass("GET /1 HTTP/1.1\r\nHost: app.test\r\n\r\n"
	     "GET /2 HTTP/1.1\r\nHost: app.test\r\n\r\n");
	reach(0);
	assert_has(heard(0), "GET /1 ");
	assert_has_not(heard(0), "GET /2 ");
	forget(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
	if (kit.agent.count == 1 && heard(0).len == 0)
		grant_to(question());
	assert_int_equal(kit.agent.count, 1);
	assert_has(heard(0), "GET /2 ");
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
	assert_has(got(), "\r\n\r\n1HTTP/1.1 200 OK");
	assert_has(got(), "\r\n\r\n2");
}

/* Failures -----------------------------------------------------------------
 */

static void
test_refused(void **state)
{
	(void)state;
	pass(get);
	kit_answer(&kit, 0, 1,
	    "{\"code\":\"CONNECT_REFUSED\",\"text\":\"nobody <listens>\"}");
	kit_run(&kit);
	assert_has(got(), "HTTP/1.1 502 ");
	assert_has(got(), "application/problem+json");
	assert_has(got(), "\"code\":\"CONNECT_REFUSED\"");
	assert_has(got(), "\"hop\":\"service\"");
	assert_has(got(), "\"request_id\":\"req_");
	buf_clear(&visitor.got);
	pass("GET / HTTP/1.1\r\nHost: app.test\r\n"
	     "Accept: text/html,*/*;q=0.1\r\n\r\n");
	kit_answer(&kit, 1, 1,
	    "{\"code\":\"TARGET_REFUSED\",\"text\":\"not <permitted>\"}");
	kit_run(&kit);
	assert_has(got(), "HTTP/1.1 502 ");
	assert_has(got(), "text/html");
	assert_has(got(), "not &lt;permitted&gt;");
	assert_has(got(), "<li class=bad>agent");
	assert_has(got(), "TARGET_REFUSED");
	buf_clear(&visitor.got);
	pass(get);
	kit_answer(
	    &kit, 2, 1, "{\"code\":\"CONNECT_TIMEOUT\",\"text\":\"late\"}");
	kit_run(&kit);
	assert_has(got(), "HTTP/1.1 504 ");
}

/* An agent that is full gets rid of an idle stream before it is asked again. */
static void
test_full_agent(void **state)
{
	struct probe other;

	(void)state;
	pass(get);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(flow_pool_count(&kit.dock), 1);
	/* Not what is idle itself, but a WebSocket. */
	let_in(&other);
	assert_int_equal(stream_write(other.s, slice_from(open_ws)), 0);
	kit_run(&kit);
	const struct event *ev = question();
	if (ev != NULL)
		grant_to(ev);
	assert_int_equal(kit.agent.count, 2);
	kit_answer(&kit, 1, 1, "{\"code\":\"TOO_MANY\",\"text\":\"full\"}");
	kit_run(&kit);
	assert_int_equal(flow_pool_count(&kit.dock), 0);
	assert_true(kit_stream(&kit, 0)->rst);
	assert_int_equal(kit.agent.count, 3);
	assert_has(heard(2), "GET /ws HTTP/1.1\r\n");
	kit_answer(&kit, 2, 1, "{\"code\":\"TOO_MANY\",\"text\":\"full\"}");
	kit_run(&kit);
	assert_int_equal(kit.agent.count, 3);
	assert_has(buf_peek(&other.got), "HTTP/1.1 503 ");
	assert_has(buf_peek(&other.got), "\"code\":\"TOO_MANY\"");
	send_away(&other);
}

static void
test_bad_answers(void **state)
{
	static const char *const bad[] = {
		("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2"
		 "\r\n\r\nx"),
		"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		buf_clear(&visitor.got);
		pass(get);
		reach(i);
		answer(i, bad[i]);
		assert_has(got(), "HTTP/1.1 502 ");
		assert_has(got(), "\"code\":\"BAD_ANSWER\"");
		assert_has(got(), "\"hop\":\"service\"");
		assert_true(kit_stream(&kit, i)->rst);
		assert_non_null(visitor.s);
	}
}

static void
test_cut_in_the_middle(void **state)
{
	static const char *const begun[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
		("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "3\r\nabc\r\n"),
		"HTTP/1.1 200 OK\r\n\r\nabc",
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		pass(get);
		reach(i);
		answer(i, begun[i]);
		assert_has(got_body(), "abc");
		if (i < 2)
			kit_fin(&kit, i);
		else
			kit_rst(&kit, i);
		until(&kit.loop, visitor.eof || visitor.closed);
		assert_has_not(got(), "\r\n0\r\n\r\n");
		assert_has_not(got(), "502");
		send_away(&visitor);
		let_in(&visitor);
	}
}

static void
test_agent_lost(void **state)
{
	(void)state;
	pass(get);
	reach(0);
	kit_cut(&kit);
	kit_run(&kit);
	assert_has(got(), "HTTP/1.1 502 ");
	assert_has(got(), "\"hop\":\"agent\"");
	buf_clear(&visitor.got);
	/* Gone, as the hub does not know yet. */
	pass(get);
	assert_has(got(), "HTTP/1.1 503 ");
	assert_has(got(), "Retry-After: 5\r\n");
	assert_has(got(), "\"code\":\"AGENT_AWAY\"");
}

static void
test_denied(void **state)
{
	const struct reply no = { .op = OP_VISIT,
		.err = ERR_DENIED,
		.status = 403,
		.code = SL("FORBIDDEN"),
		.text = SL("not for you") };

	(void)state;
	ask(get);
	const struct event *ev = question();
	if (ev == NULL) {
		fail_msg("the hub was not asked");
		return;
	}
	assert_int_equal(ev->request.visit->way, TUNNEL_BY_ROUTE);
	assert_slice(ev->request.visit->route_id, SL("rte_1"));
	reply(ev->peer, &no);
	assert_has(got(), "HTTP/1.1 403 ");
	assert_has(got(), "\"hop\":\"visitor\"");
	assert_int_equal(kit.agent.count, 0);
	assert_non_null(visitor.s);
}

static void
test_visitor_leaves(void **state)
{
	(void)state;
	pass(get);
	reach(0);
	answer(0,
	    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	    "data: 1\n\n");
	assert_has(got_body(), "data: 1\n\n");
	stream_close(visitor.s);
	kit_run(&kit);
	until(&kit.loop, kit_stream(&kit, 0)->rst);
}

/* Times --------------------------------------------------------------------
 */

static void
test_late_answer(void **state)
{
	(void)state;
	records[0].answer_within = 20;
	pass(get);
	reach(0);
	until(&kit.loop, got().len > 0);
	assert_has(got(), "HTTP/1.1 504 ");
	assert_has(got(), "\"code\":\"ANSWER_TIMEOUT\"");
	assert_true(kit_stream(&kit, 0)->rst);
}

static void
test_idle_answer(void **state)
{
	(void)state;
	records[0].idle_within = 30;
	pass(get);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
	until(&kit.loop, visitor.eof || visitor.closed);
	assert_slice(got_body(), SL("abc"));
	until(&kit.loop, kit_stream(&kit, 0)->rst);
	assert_int_equal(kit.server.counts.tunnel_cut, 1);
}

/* Going home, what is under way is finished, and is the last. */
static void
test_drain(void **state)
{
	struct conn *c;

	(void)state;
	pass(get);
	reach(0);
	c = LIST_OF(kit.dock.conns.prev, struct conn, link);
	c->role->close(c, WS_CODE_AWAY, SL("draining"));
	kit_run(&kit);
	assert_non_null(visitor.s);
	assert_int_equal(kit.dock.tunnels, 1);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_has(got(), "Connection: close\r\n");
	assert_slice(got_body(), SL("ok"));
	until(&kit.loop, visitor.eof || visitor.closed);
	assert_int_equal(kit.dock.tunnels, 0);
}

/* Sizes --------------------------------------------------------------------
 */

static void
test_slow_visitor(void **state)
{
	static uint8_t block[64 * 1024];
	size_t sent = 0, n;

	(void)state;
	pass(get);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
	stream_read_stop(visitor.s);
	/* Sockets and the window take some, and then nothing more. */
	for (int still = 0; still < 10 && sent < 64 << 20;) {
		n = kit_say(&kit, 0, (struct slice){ block, sizeof(block) });
		kit_run(&kit);
		sent += n;
		still = n == 0 ? still + 1 : 0;
	}
	assert_in_range(sent, 1, 32 << 20);
	stream_read_start(visitor.s);
	until(&kit.loop, got_body().len == sent);
	kit_run(&kit);
	assert_int_equal(kit_say(&kit, 0, (struct slice){ block, 100 }), 100);
}

static void
test_slow_service(void **state)
{
	static uint8_t block[256 * 1024];
	size_t sent = 0;

	(void)state;
	kit.agent.hold = true;
	pass("PUT / HTTP/1.1\r\nHost: app.test\r\n"
	     "Content-Length: 33554432\r\n\r\n");
	reach(0);
	stream_set_cap(visitor.s, 256 << 20);
	for (int i = 0; i < 128; i++) {
		assert_int_equal(stream_write(visitor.s,
				     (struct slice){ block, sizeof(block) }),
		    0);
		kit_run(&kit);
		sent += sizeof(block);
	}
	assert_in_range(stream_queued(visitor.s), sent / 2, sent);
	assert_in_range(kit_stream(&kit, 0)->got.tail, 1, 1 << 20);
	kit.agent.hold = false;
	kit_consume(&kit, 0, kit_stream(&kit, 0)->held);
	until(&kit.loop, stream_queued(visitor.s) == 0);
	kit_run(&kit);
	assert_int_equal(heard(0).len > sent, 1);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_has(got(), "HTTP/1.1 200 OK\r\n");
}

/* Memory ------------------------------------------------------------------- */

/* The n-th allocation of what body does fails.  Whether it came so far. */
static bool
starve(long n, void (*body)(struct conn *c))
{
	struct probe p;
	struct conn *c;

	let_in(&p);
	c = LIST_OF(kit.dock.conns.prev, struct conn, link);
	oom_fail_at(n);
	body(c);
	bool more = oom_happened();
	kit_run(&kit);
	/* Something is said, or it is cut, or it is on its way. */
	send_away(&p);
	kit_run(&kit);
	assert_int_equal(kit.dock.tunnels, 0);
	return more;
}

static void
read_request(struct conn *c)
{
	char text[sizeof(get)];

	memcpy(text, get, sizeof(get));
	c->role->read(c, (uint8_t *)text, sizeof(get) - 1);
}

static void
read_handshake(struct conn *c)
{
	char text[sizeof(open_ws)];

	memcpy(text, open_ws, sizeof(open_ws));
	c->role->read(c, (uint8_t *)text, sizeof(open_ws) - 1);
}

/* What the service says now, with the n-th allocation of all that follows
 * failing, the agent's end left out. */
static bool
starve_answer(long n, const char *request, const char *text)
{
	struct slice bytes = slice_from(text);
	bool more;

	/* Each time on a stream of its own, the last. */
	flow_pool_end(&kit.dock);
	send_away(&visitor);
	let_in(&visitor);
	pass(request);
	size_t i = kit.agent.count - 1;
	reach(i);
	assert_int_equal(kit_say(&kit, i, bytes), bytes.len);
	/* It has left the agent, and is read in these turns. */
	oom_fail_at(n);
	for (int turn = 0; turn < 4; turn++)
		loop_turn(&kit.loop, false);
	more = oom_happened();
	kit_run(&kit);
	return more;
}

static void
test_no_memory(void **state)
{
	long n = 1;

	(void)state;
	/* Leave is there already, so that all is done at once. */
	pass(get);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	while (starve(n, read_request))
		n++;
	assert_in_range(n, 5, 1000);
	for (n = 1; starve(n, read_handshake);)
		n++;
	assert_in_range(n, 5, 1000);
	for (n = 1; n < 40 &&
	     starve_answer(n, get,
		 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok");)
		n++;
	for (n = 1; n < 40 && starve_answer(n, open_ws, opened_ws);)
		n++;
	assert_non_null(kit_link(&kit));
}

/* WebSockets ----------------------------------------------------------------
 */

static void
open_relay(void)
{
	pass(open_ws);
	reach(0);
	assert_int_equal(got().len, 0);
	assert_has(heard(0), "Upgrade: websocket\r\n");
	assert_has(heard(0), "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
	forget(0);
	answer(0, opened_ws);
	assert_has(got(), "HTTP/1.1 101 Switching Protocols\r\n");
	assert_has(
	    got(), "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
	assert_has(got(), "Sec-WebSocket-Protocol: chat\r\n");
	buf_clear(&visitor.got);
	assert_int_equal(kit.server.counts.tunnel_websockets, 1);
}

static void
test_relay(void **state)
{
	static const uint8_t hello[] = { 0x81, 0x85, 1, 2, 3, 4, 'h' ^ 1,
		'e' ^ 2, 'l' ^ 3, 'l' ^ 4, 'o' ^ 1 };
	static const uint8_t reply_[] = { 0x81, 2, 'h', 'i' };
	static const uint8_t bye[] = { 0x88, 6, 0x0f, 0xa1, 'd', 'o', 'n',
		'e' };

	(void)state;
	open_relay();
	/* Cut anywhere, it goes on as it came. */
	for (size_t i = 0; i < sizeof(hello); i++) {
		stream_write(visitor.s, (struct slice){ hello + i, 1 });
		kit_run(&kit);
	}
	assert_slice(heard(0), ((struct slice){ hello, sizeof(hello) }));
	kit_say(&kit, 0, (struct slice){ reply_, sizeof(reply_) });
	kit_run(&kit);
	assert_slice(got(), ((struct slice){ reply_, sizeof(reply_) }));
	assert_int_equal(kit.server.counts.tunnel_messages[0], 1);
	assert_int_equal(kit.server.counts.tunnel_ws_bytes[0], 5);
	assert_int_equal(kit.server.counts.tunnel_messages[1], 1);
	assert_int_equal(kit.server.counts.tunnel_ws_bytes[1], 2);
	/* Close codes of the service's own, and its end behind them. */
	buf_clear(&visitor.got);
	kit_say(&kit, 0, (struct slice){ bye, sizeof(bye) });
	kit_fin(&kit, 0);
	kit_run(&kit);
	assert_slice(got(), ((struct slice){ bye, sizeof(bye) }));
	assert_true(visitor.eof);
	stream_close(visitor.s);
	kit_run(&kit);
	until(&kit.loop, kit_stream(&kit, 0)->fin);
	assert_int_equal(kit.server.counts.tunnel_websockets, 0);
}

static void
test_relay_refused(void **state)
{
	(void)state;
	/* As the service gave it. */
	pass(open_ws);
	reach(0);
	answer(0,
	    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n"
	    "Content-Length: 2\r\n\r\nno");
	assert_has(got(), "HTTP/1.1 401 Unauthorized\r\n");
	assert_has(got(), "WWW-Authenticate: Basic\r\n");
	assert_slice(got_body(), SL("no"));
	buf_clear(&visitor.got);
	/* A 101 for somebody else. */
	pass(open_ws);
	reach(1);
	answer(1,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n");
	assert_has(got(), "HTTP/1.1 502 ");
	assert_has(got(), "\"code\":\"BAD_UPGRADE\"");
	assert_has_not(got(), "101");
}

static void
test_relay_origin(void **state)
{
	(void)state;
	ask("GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\n"
	    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	    "Origin: http://evilapp.test\r\n\r\n");
	assert_has(got(), "HTTP/1.1 403 ");
	assert_has(got(), "\"code\":\"ORIGIN_NOT_ALLOWED\"");
	assert_null(question());
	buf_clear(&visitor.got);
	records[0].origins = SL("https://*.friends.test");
	pass("GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\n"
	     "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	     "Origin: https://a.friends.test\r\n\r\n");
	assert_int_equal(kit.agent.count, 1);
}

static void
test_relay_ping(void **state)
{
	static const uint8_t half[] = { 0x01, 3, 'a', 'b', 'c', 0x80, 3, 'd' };
	uint8_t pong[14] = { 0x8a, 0x88, 0, 0, 0, 0 };

	(void)state;
	kit.dock.tunnel_config.ping_every = 20;
	open_relay();
	until(&kit.loop, got().len >= 10);
	assert_int_equal(got().ptr[0], 0x89);
	assert_int_equal(got().ptr[1], 8);
	/* Our own pong does not reach the service. */
	memcpy(pong + 6, got().ptr + 2, 8);
	stream_write(visitor.s, (struct slice){ pong, sizeof(pong) });
	kit_run(&kit);
	assert_int_equal(heard(0).len, 0);
	/* Within a frame there is no place for a ping. */
	buf_clear(&visitor.got);
	kit_say(&kit, 0, (struct slice){ half, sizeof(half) });
	kit_run(&kit);
	size_t had = got().len;
	for (int i = 0; i < 5; i++)
		loop_turn(&kit.loop, true);
	assert_int_equal(got().len, had);
	kit_say(&kit, 0, SL("ef"));
	until(&kit.loop, got().len >= had + 2 + 10);
	assert_int_equal(got().ptr[had + 2], 0x89);
}

static void
test_relay_limits(void **state)
{
	static const uint8_t frame[] = { 0x81, 0x81, 0, 0, 0, 0, 'x' };

	(void)state;
	records[0].message_rate = 10;
	open_relay();
	/* A burst of a second is fine, the rest waits, and too much of it
	 * ends it. */
	for (int i = 0; i < 200; i++)
		stream_write(visitor.s, (struct slice){ frame, sizeof(frame) });
	kit_run(&kit);
	until(&kit.loop, got().len >= 4);
	assert_int_equal(got().ptr[0], 0x88);
	assert_int_equal(got().ptr[2], 0x03);
	assert_int_equal(got().ptr[3], 0xf0);
}

static void
test_relay_drain(void **state)
{
	struct conn *c;

	(void)state;
	open_relay();
	c = LIST_OF(kit.dock.conns.prev, struct conn, link);
	c->role->close(c, WS_CODE_AWAY, SL("draining"));
	kit_run(&kit);
	assert_int_equal(got().ptr[0], 0x88);
	assert_int_equal(got().ptr[2], 0x03);
	assert_int_equal(got().ptr[3], 0xe9);
	/* The service is told, too, as a client tells. */
	assert_int_equal(heard(0).ptr[0], 0x88);
	assert_true((heard(0).ptr[1] & 0x80) != 0);
	assert_true(kit_stream(&kit, 0)->fin);
}

static void
test_relay_idle(void **state)
{
	(void)state;
	records[0].idle_within = 30;
	open_relay();
	until(&kit.loop, got().len >= 8);
	assert_int_equal(got().ptr[0], 0x88);
	assert_int_equal(got().ptr[2], 0x03);
	assert_int_equal(got().ptr[3], 0xe9);
	assert_slice(slice_from_at(got(), 4), SL("idle"));
	until(&kit.loop, kit_stream(&kit, 0)->fin);
}

/* Each end may stop sending first; the other goes on. */
static void
test_relay_half(void **state)
{
	static const uint8_t frame[] = { 0x81, 1, 'x' };

	(void)state;
	open_relay();
	stream_shutdown(visitor.s);
	kit_run(&kit);
	until(&kit.loop, kit_stream(&kit, 0)->fin);
	kit_say(&kit, 0, (struct slice){ frame, sizeof(frame) });
	kit_run(&kit);
	assert_slice(got(), ((struct slice){ frame, sizeof(frame) }));
	assert_int_equal(kit.server.counts.tunnel_websockets, 1);
	kit_fin(&kit, 0);
	kit_run(&kit);
	until(&kit.loop, visitor.eof || visitor.closed);
	assert_int_equal(kit.server.counts.tunnel_websockets, 0);
}

static void
test_relay_agent_lost(void **state)
{
	(void)state;
	open_relay();
	kit_cut(&kit);
	kit_run(&kit);
	assert_int_equal(got().ptr[0], 0x88);
	assert_int_equal(got().ptr[2], 0x03);
	assert_int_equal(got().ptr[3], 0xf3);
}

/* Whose requests are whose --------------------------------------------------
 */

static void
test_hosts(void **state)
{
	(void)state;
	/* Ours stays ours, on the same connection. */
	pass(get);
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	buf_clear(&visitor.got);
	ask("GET /none HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	    "GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
	assert_has(got(), "HTTP/1.1 404 ");
	buf_clear(&visitor.got);
	/* Nothing of ours is at a route's host. */
	pass("GET /api/v1/agents HTTP/1.1\r\nHost: APP.test\r\n\r\n");
	assert_int_equal(kit.agent.count, 1);
	assert_has(heard(0), "GET /api/v1/agents ");
	buf_clear(&visitor.got);
	answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	/* Paths are for another origin. */
	buf_clear(&visitor.got);
	ask("GET /clusters/web-1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
	assert_has(got(), "HTTP/1.1 421 ");
	assert_null(question());
	buf_clear(&visitor.got);
	ask("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
	assert_has(got(), "HTTP/1.1 421 ");
}

static const struct event *
visit_of(const char *target)
{
	char text[512];

	snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: tunnel.test:7701\r\n"
	    "X-Muster-Authorization: Bearer mst_of_somebody\r\n\r\n",
	    target);
	buf_clear(&visitor.got);
	ask(text);
	return question();
}

static void
test_paths(void **state)
{
	const struct event *ev;

	(void)state;
	kit.server.settings.tunnel_origin = SL("http://tunnel.test:7701");
	ev = visit_of("/clusters/web%2D1/a/b?c");
	assert_non_null(ev);
	assert_int_equal(ev->request.visit->way, TUNNEL_BY_PATH);
	assert_slice(ev->request.visit->agent, SL("web-1"));
	assert_int_equal(ev->request.credential.kind, CREDENTIAL_TOKEN);
	assert_int_equal(ev->request.visit->target.port, 0);
	grant_to(ev);
	assert_has(heard(0), "GET /a/b?c HTTP/1.1\r\n");
	assert_has(heard(0), "X-Forwarded-Prefix: /clusters/web%2D1\r\n");
	reach(0);
	answer(0,
	    "HTTP/1.1 302 Found\r\nLocation: /login\r\n"
	    "Set-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n");
	assert_has(got(), "Location: /clusters/web%2D1/login\r\n");
	assert_has(got(), "Set-Cookie: a=b; Path=/clusters/web%2D1/\r\n");
	ev = visit_of("/clusters/web-1/services/default/my-app:8080/x");
	assert_non_null(ev);
	assert_slice(ev->request.visit->target.service, SL("my-app"));
	assert_slice(ev->request.visit->target.namespace, SL("default"));
	assert_int_equal(ev->request.visit->target.port, 8080);
	grant_to(ev);
}

static void
test_bad_paths(void **state)
{
	static const struct {
		const char *target;
		const char *status;
	} cases[] = {
		{ "/", "404" },
		{ "/clusters/", "404" },
		{ "/clusters/a/services/", "404" },
		{ "/clusters/a/services/default/app", "404" },
		{ "/clusters/a/services/default/app:0/", "404" },
		{ "/clusters/a/services/default/app:65536/", "404" },
		{ "/clusters/a/services/default/-app:1/", "404" },
		{ "/clusters/a/services/Default/app:1/", "404" },
		{ "/clusters/a/../b/", "400" },
		{ "/clusters/a/%2e%2E/b/", "400" },
		{ "/clusters/a/x%2f..%2f..%5c../b/", "400" },
		{ "/clusters/a%zz/", "404" },
		{ "/api/v1/agents", "404" },
	};

	(void)state;
	kit.server.settings.tunnel_origin = SL("http://tunnel.test:7701");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char want[32];
		assert_null(visit_of(cases[i].target));
		snprintf(want, sizeof(want), "HTTP/1.1 %s ", cases[i].status);
		assert_has(got(), want);
		if (strcmp(cases[i].status, "400") != 0)
			continue;
		/* Nobody means that. */
		assert_has(got(), "Connection: close\r\n");
		send_away(&visitor);
		let_in(&visitor);
	}
	assert_null(visit_of("/clusters/web-1?q=1"));
	assert_has(got(), "HTTP/1.1 308 ");
	assert_has(got(), "Location: /clusters/web-1/?q=1\r\n");
}

static void
test_own_origin(void **state)
{
	const struct event *ev;

	(void)state;
	kit.server.settings.unsafe_path_routes = true;
	/* A stranger is not worth a question. */
	ask("GET /clusters/web-1/a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
	assert_null(question());
	assert_has(got(), "HTTP/1.1 401 ");
	buf_clear(&visitor.got);
	ask("GET /clusters/web-1/a HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	    "X-Muster-Authorization: Bearer mst_of_somebody\r\n"
	    "Cookie: token=secret; __Host-muster=secret; a=b\r\n\r\n");
	ev = question();
	grant_to(ev);
	assert_has(heard(0), "GET /a HTTP/1.1\r\n");
	assert_has(heard(0), "Cookie: a=b\r\n");
	reach(0);
	answer(0,
	    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
	    "Strict-Transport-Security: max-age=1\r\n"
	    "Clear-Site-Data: \"*\"\r\nService-Worker-Allowed: /\r\n"
	    "Content-Security-Policy: default-src *\r\n"
	    "Set-Cookie: token=evil\r\nSet-Cookie: b=c; Path=/\r\n\r\nok");
	assert_has(got(),
	    "Content-Security-Policy: sandbox allow-scripts "
	    "allow-forms allow-popups\r\n");
	assert_has_not(got(), "Strict-Transport");
	assert_has_not(got(), "Clear-Site-Data");
	assert_has_not(got(), "Service-Worker");
	assert_has_not(got(), "token=evil");
	assert_has(got(), "Set-Cookie: b=c; Path=/clusters/web-1/\r\n");
}

/* Two agents: the second is asked when the first cannot reach the service. */
static void
test_pool(void **state)
{
	struct tunnel_member two[2];
	const struct event *ev;

	(void)state;
	records[0].agent = (struct slice){ 0 };
	records[0].selector = SL("a=b");
	ask("GET / HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n");
	ev = question();
	if (ev == NULL) {
		fail_msg("the hub was not asked");
		return;
	}
	member.link = kit.link;
	two[0] = two[1] = member;
	two[1].agent_id = SL("agt_2");
	const struct tunnel_grant g = { .number = 77,
		.visit = ev->request.visit,
		.target = { .host = SL("127.0.0.1"), .port = 8080 },
		.members = two,
		.member_count = 2 };
	const struct reply r = { .op = OP_VISIT, .status = 200, .grant = &g };
	reply(ev->peer, &r);
	assert_int_equal(kit.agent.count, 1);
	kit_answer(&kit, 0, 1,
	    "{\"code\":\"CONNECT_REFUSED\",\"text\":\"nobody listens\"}");
	kit_run(&kit);
	assert_int_equal(got().len, 0);
	assert_int_equal(kit.agent.count, 2);
	assert_has(heard(1), "GET / HTTP/1.1\r\n");
	reach(1);
	answer(1, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_slice(got_body(), SL("ok"));
	assert_has(got(), "Set-Cookie: muster_route=");
	assert_has(got(), "; Path=/; HttpOnly; SameSite=Lax\r\n");
}

static void
test_rules(void **state)
{
	(void)state;
	records[0].rules_json =
	    SL("{\"request\":{\"set\":{\"X-Key\":\"k\",\"Host\":\"in.side\"},"
	       "\"remove\":[\"User-Agent\"]},"
	       "\"response\":{\"set\":{\"X-Frame-Options\":\"DENY\"},"
	       "\"remove\":[\"Server\"]}}");
	pass("GET /a?b=c HTTP/1.1\r\nHost: app.test\r\nUser-Agent: x\r\n"
	     "Authorization: Basic eDp5\r\nCookie: a=b; muster_route=x; c=d\r\n"
	     "X-Muster-Authorization: Bearer mut_x\r\n\r\n");
	assert_has_not(heard(0), "mut_x");
	assert_has(heard(0), "Authorization: Basic eDp5\r\n");
	assert_has(heard(0), "Cookie: a=b; c=d\r\n");
	assert_has(heard(0), "X-Key: k\r\n");
	assert_has(heard(0), "Host: in.side\r\n");
	assert_has_not(heard(0), "User-Agent");
	reach(0);
	answer(0, "HTTP/1.1 200 OK\r\nServer: it\r\nContent-Length: 0\r\n\r\n");
	assert_has(got(), "X-Frame-Options: DENY\r\n");
	assert_has_not(got(), "Server");
}

int
main(void)
{
#define TEST(f) \
	cmocka_unit_test_setup_teardown(f, set_up_visitor, tear_down_visitor)
	const struct CMUnitTest tests[] = {
		TEST(test_get),
		TEST(test_used_again),
		TEST(test_stale),
		TEST(test_idle_word),
		TEST(test_more_than_an_answer),
		TEST(test_bodies),
		TEST(test_expect),
		TEST(test_bare),
		TEST(test_old_visitor),
		TEST(test_pipelined),
		TEST(test_refused),
		TEST(test_full_agent),
		TEST(test_bad_answers),
		TEST(test_cut_in_the_middle),
		TEST(test_agent_lost),
		TEST(test_denied),
		TEST(test_visitor_leaves),
		TEST(test_late_answer),
		TEST(test_idle_answer),
		TEST(test_drain),
		TEST(test_slow_visitor),
		TEST(test_slow_service),
		TEST(test_no_memory),
		TEST(test_relay),
		TEST(test_relay_refused),
		TEST(test_relay_origin),
		TEST(test_relay_ping),
		TEST(test_relay_limits),
		TEST(test_relay_drain),
		TEST(test_relay_idle),
		TEST(test_relay_half),
		TEST(test_relay_agent_lost),
		TEST(test_hosts),
		TEST(test_paths),
		TEST(test_bad_paths),
		TEST(test_own_origin),
		TEST(test_pool),
		TEST(test_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
