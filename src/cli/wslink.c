/*
 * Design notes.  curl_easy_recv may hold decrypted bytes that poll does not
 * show, so whoever waits first pumps until nothing comes; wslink_pump reads
 * one buffer a call, which bounds what one turn brings.
 */
#include <curl/curl.h>
#include <poll.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "cli/wslink.h"
#include "io/clock.h"
#include "io/rand.h"
#include "wire/http1_client.h"
#include "wire/http1_wsopen.h"

enum {
	READ_BYTES = 128 * 1024,
	HANDSHAKE_MS = 10000,
	AGAIN_MS = 4000, /* the same, and to connect, for one of many tries */
	PACK_MIN = 256,
	FIELDS = 9
};

struct wslink {
	CURL *curl; /* owned */
	curl_socket_t fd;
	struct wsconn_lane lane;
	struct wsconn_config config;
	struct wsconn ws;
	struct http1_client http; /* owner of bytes behind the 101 */
	struct buf out;           /* whole frames, the first maybe begun */
	msec heard, pinged;
	bool stopped; /* reading */
	bool ended;   /* the transport is over */
	bool fed;     /* wslink_next has something to read */
	char detail[CURL_ERROR_SIZE];
	uint8_t key[WSOPEN_KEY_LEN];
	uint8_t bytes[READ_BYTES];
};

/* Bytes in and out ----------------------------------------------------------
 */

/* >0 bytes, 0 nothing now, ERR_CLOSED or ERR_RESET. */
static int
receive(struct wslink *l, size_t *got)
{
	CURLcode code = curl_easy_recv(l->curl, l->bytes, READ_BYTES, got);

	if (code == CURLE_AGAIN) {
		*got = 0;
		return 0;
	}
	if (code != CURLE_OK)
		return ERR_RESET;
	return *got == 0 ? ERR_CLOSED : 0;
}

static int
flush(struct wslink *l)
{
	while (buf_peek(&l->out).len > 0) {
		struct slice s = buf_peek(&l->out);
		size_t n = 0;
		CURLcode code = curl_easy_send(l->curl, s.ptr, s.len, &n);

		if (code == CURLE_AGAIN)
			return 0;
		if (code != CURLE_OK)
			return ERR_RESET;
		buf_eat(&l->out, n);
	}
	return 0;
}

/* Control frames go behind the frames that are queued. */
static void
take_control(struct wslink *l)
{
	struct slice s = wsconn_out(&l->ws);

	if (s.len == 0)
		return;
	buf_put(&l->out, s);
	if (l->out.err == 0)
		wsconn_sent(&l->ws, s.len);
}

static bool
wait_for(struct wslink *l, short events, msec end)
{
	struct pollfd p = { .fd = l->fd, .events = events };
	msec left = end - clock_mono();

	return left > 0 && poll(&p, 1, (int)left) > 0;
}

/* Opening -------------------------------------------------------------------
 */

struct opening {
	struct cli *cli;
	const struct wslink_ask *ask;
	struct wslink *link;
	struct url url;
	char *http_url; /* for curl: http or https */
	msec end;
	struct buf refusal;
	long status;
	char why[REST_WHY];
};

static int
connect_to(struct opening *o)
{
	struct wslink *l = o->link;
	CURLcode code;

	l->curl = curl_easy_init();
	if (l->curl == NULL)
		return ERR_NOMEM;
	rest_secure(o->cli, l->curl);
	curl_easy_setopt(l->curl, CURLOPT_URL, o->http_url);
	curl_easy_setopt(l->curl, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(l->curl, CURLOPT_HTTPPROXYTUNNEL, 1L);
	curl_easy_setopt(l->curl, CURLOPT_ERRORBUFFER, l->detail);
	if (o->ask->again)
		curl_easy_setopt(
		    l->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)AGAIN_MS);
	code = curl_easy_perform(l->curl);
	if (code != CURLE_OK)
		return rest_explain(o->cli, (int)code, l->detail, o->why);
	curl_easy_getinfo(l->curl, CURLINFO_ACTIVESOCKET, &l->fd);
	return 0;
}

static const struct deflate_policy offer = { .server_takeover = true,
	.client_takeover = true };

static int
put_request(struct opening *o)
{
	struct http1_pair fields[FIELDS] = {
		{ SL("Upgrade"), SL("websocket") },
		{ SL("Connection"), SL("Upgrade") },
		{ SL("Sec-WebSocket-Version"), SL("13") },
		{ SL("Sec-WebSocket-Key"), { o->link->key, WSOPEN_KEY_LEN } },
		{ SL("User-Agent"), SL("muster/" MUSTER_VERSION) },
	};
	struct http1_ask ask = { .method = SL("GET"),
		.fields = fields,
		.count = 5,
		.upgrade = true };
	char bearer[CONTEXT_TOKEN_MAX + 16];
	struct deflate_text text;
	struct buf target, host;
	uint8_t nonce[16];
	int err;

	rand_fill(nonce, sizeof(nonce));
	wsopen_make_key(nonce, o->link->key);
	if (o->ask->protocol != NULL)
		fields[ask.count++] =
		    (struct http1_pair){ SL("Sec-WebSocket-Protocol"),
			    slice_from(o->ask->protocol) };
	if (o->ask->bearer && o->cli->at.token != NULL) {
		snprintf(bearer, sizeof(bearer), "Bearer %s", o->cli->at.token);
		fields[ask.count++] = (struct http1_pair){ SL("Authorization"),
			slice_from(bearer) };
	}
	if (o->ask->deflate) {
		deflate_offer(&offer, &text);
		fields[ask.count++] =
		    (struct http1_pair){ SL("Sec-WebSocket-Extensions"),
			    { text.bytes, text.len } };
	}
	buf_init(&target, URL_MAX + 1);
	buf_init(&host, URL_MAX);
	url_put_target(&target, &o->url);
	url_put_host(&host, &o->url);
	ask.target = buf_peek(&target);
	ask.host = buf_peek(&host);
	err = http1_client_ask(&o->link->http, &ask, &o->link->out);
	if (err == 0)
		err = http1_client_finish(&o->link->http, &o->link->out);
	buf_fini(&target);
	buf_fini(&host);
	return err;
}

/* What came with a 101, judged. */
static int
check_upgrade(struct opening *o, const struct http1_head *head)
{
	struct wsopen_response r;
	struct slice reason = SL("the answer is out of order");
	struct slice protocol = slice_from(o->ask->protocol);
	struct deflate_terms terms;
	int err = http1_wsopen_response(head, &o->cli->arena, &r);

	if (err == 0)
		err = wsopen_check_response(&r,
		    (struct slice){ o->link->key, WSOPEN_KEY_LEN }, protocol,
		    &reason);
	if (err == 0 && protocol.len > 0 && r.protocol.len == 0) {
		reason = SL("the server does not speak the subprotocol");
		err = ERR_PROTOCOL;
	}
	if (err == 0) {
		reason = SL("the server chose extensions that were not "
			    "offered");
		err = deflate_check(
		    r.extensions, o->ask->deflate ? &offer : NULL, &terms);
	}
	if (err != 0) {
		snprintf(o->why, REST_WHY, "%s did not open a WebSocket: %.*s",
		    o->ask->url, SLICE_FMT(reason));
		return err;
	}
	wsconn_set_deflate(&o->link->ws, &terms);
	return 0;
}

/* 1 open, 2 refused with a whole answer, 0 more is needed, or ERR_*. */
static int
read_answer(struct opening *o, struct http1_head *head)
{
	struct http1_event ev;

	while (http1_client_next(&o->link->http, head, &ev)) {
		if (ev.kind == HTTP1_RESPONSE) {
			o->status = ev.head->status;
			if (o->status == 101) {
				int err = check_upgrade(o, ev.head);

				return err == 0 ? 1 : err;
			}
		} else if (ev.kind == HTTP1_BODY) {
			buf_put(&o->refusal, ev.data);
		} else if (ev.kind == HTTP1_END && o->status >= 200) {
			return 2;
		} else if (ev.kind == HTTP1_BAD) {
			snprintf(o->why, REST_WHY,
			    "%s did not answer in HTTP: %s", o->ask->url,
			    ev.why);
			return ERR_PROTOCOL;
		}
	}
	return 0;
}

static int
converse(struct opening *o, struct http1_head *head)
{
	struct wslink *l = o->link;
	bool over = false;

	for (;;) {
		size_t n = 0;
		int r, err = flush(l);

		if (err == 0)
			err = receive(l, &n);
		if (n > 0)
			http1_client_feed(
			    &l->http, (struct slice){ l->bytes, n });
		if (err != 0 && !over)
			http1_client_eof(&l->http);
		over = err != 0;
		r = n > 0 || over ? read_answer(o, head) : 0;
		if (r != 0)
			return r;
		if (over) {
			snprintf(o->why, REST_WHY,
			    "%s closed the connection without an answer",
			    o->ask->url);
			return ERR_CLOSED;
		}
		if (n == 0 &&
		    !wait_for(l,
			(short)(POLLIN |
			    (buf_peek(&l->out).len > 0 ? POLLOUT : 0)),
			o->end)) {
			snprintf(o->why, REST_WHY,
			    "%s did not answer within %d s", o->ask->url,
			    HANDSHAKE_MS / 1000);
			return ERR_TIMEOUT;
		}
	}
}

/* The scheme that curl knows for a WebSocket's. */
static int
open_url(struct opening *o)
{
	const char *text = o->ask->url;
	int err = url_parse(slice_from(text), &o->url);
	size_t len = strlen(text);
	size_t skip = o->url.scheme.len;

	if (err != 0)
		return err;
	o->http_url = arena_alloc(&o->cli->arena, len + 8);
	if (o->http_url == NULL)
		return ERR_NOMEM;
	snprintf(o->http_url, len + 8, "%s%s", o->url.tls ? "https" : "http",
	    text + skip);
	return 0;
}

static struct wslink *
wslink_new(const struct wslink_ask *ask)
{
	struct wslink *l = alloc_new(sizeof(*l));
	uint64_t key[2];

	if (l == NULL)
		return NULL;
	rand_fill(key, sizeof(key));
	wsconn_lane_init(&l->lane, key, 6);
	l->config = (struct wsconn_config){ .lane = &l->lane,
		.text_cap = ask->cap,
		.binary_cap = ask->cap,
		.compress_min = PACK_MIN };
	l->heard = l->pinged = clock_mono();
	wsconn_init(&l->ws, WSCONN_CLIENT, &l->config, l->heard);
	http1_client_init(&l->http, (uint64_t)1 << 20);
	buf_init(&l->out, 2 * ask->cap + ((size_t)1 << 20));
	return l;
}

void
wslink_free(struct wslink *l)
{
	if (l == NULL)
		return;
	buf_fini(&l->out);
	http1_client_fini(&l->http);
	wsconn_fini(&l->ws);
	wsconn_lane_fini(&l->lane);
	if (l->curl != NULL)
		curl_easy_cleanup(l->curl);
	alloc_free(l);
}

/* The first frames may have come with the 101. */
static int
take_rest(struct wslink *l)
{
	struct slice rest;
	int err = http1_client_upgrade(&l->http, &rest);

	if (err != 0 || rest.len == 0)
		return err;
	if (rest.len > READ_BYTES)
		return ERR_FULL;
	memmove(l->bytes, rest.ptr, rest.len);
	wsconn_feed(&l->ws, l->bytes, rest.len, l->heard);
	l->fed = true;
	return 0;
}

static int
refused(struct opening *o)
{
	static const struct js_limits limits = { 1 << 20, 32 };
	struct answer *a = arena_alloc(&o->cli->arena, sizeof(*a));

	if (a == NULL)
		return cli_nomem(o->cli);
	a->status = o->status;
	if (arena_copy(&o->cli->arena, buf_peek(&o->refusal), &a->body) == 0 &&
	    js_parse(&a->doc, a->body, &limits, &o->cli->arena) == 0)
		a->root = js_root(&a->doc);
	return rest_refused(o->cli, a);
}

static int
open_link(struct opening *o, struct http1_head *head)
{
	int r = open_url(o);

	if (r != 0) {
		snprintf(o->why, REST_WHY, "%s is no URL of a WebSocket",
		    o->ask->url);
		return r;
	}
	r = o->ask->bearer ? rest_may_send(o->cli, o->http_url, o->why) : 0;
	if (r == 0)
		r = connect_to(o);
	o->end = clock_mono() + (o->ask->again ? AGAIN_MS : HANDSHAKE_MS);
	if (r == 0)
		r = put_request(o);
	if (r == 0)
		r = converse(o, head);
	if (r == 1)
		r = take_rest(o->link) == 0 ? 1 : ERR_PROTOCOL;
	return r;
}

/* r is what open_link gave. */
static bool
may_pass(const struct opening *o, int r)
{
	if (r == 2)
		return o->status == 429 || o->status >= 500;
	return r != ERR_DENIED && r != ERR_NOMEM;
}

int
wslink_open(struct cli *c, const struct wslink_ask *ask, struct wslink **out)
{
	struct opening o = { .cli = c, .ask = ask, .why = "out of memory" };
	struct http1_head *head = alloc_new(sizeof(*head));
	int r = ERR_NOMEM, exit;

	buf_init(&o.refusal, (size_t)1 << 20);
	o.link = wslink_new(ask);
	if (head != NULL && o.link != NULL)
		r = open_link(&o, head);
	if (r == 1)
		exit = EXIT_OK;
	else if (ask->again && may_pass(&o, r))
		exit = WSLINK_AGAIN;
	else if (r == 2)
		exit = refused(&o);
	else
		exit = cli_fail(
		    c, r == ERR_DENIED ? EXIT_USAGE : EXIT_FAILED, "%s", o.why);
	if (r == 1)
		*out = o.link;
	else
		wslink_free(o.link);
	buf_fini(&o.refusal);
	alloc_free(head);
	return exit;
}

/* Open ----------------------------------------------------------------------
 */

int
wslink_fd(const struct wslink *l)
{
	return l->fd;
}

short
wslink_wants(const struct wslink *l)
{
	bool more = buf_peek(&l->out).len > 0 || wsconn_out(&l->ws).len > 0;

	return (short)((l->stopped ? 0 : POLLIN) | (more ? POLLOUT : 0));
}

void
wslink_read_stop(struct wslink *l)
{
	l->stopped = true;
}

void
wslink_read_start(struct wslink *l)
{
	if (l->stopped)
		l->heard = clock_mono();
	l->stopped = false;
}

/* Any frame is life, and pings of ours are answered by more of it. */
static void
show_life(struct wslink *l, msec now)
{
	if (now - l->pinged < WSLINK_PING)
		return;
	l->pinged = now;
	wsconn_ping(&l->ws, (struct slice){ 0 });
}

int
wslink_pump(struct wslink *l)
{
	msec now = clock_mono();
	size_t n = 0;
	int err = 0;

	if (l->ended)
		return ERR_CLOSED;
	if (l->fed)
		return 1; /* came with the 101 */
	show_life(l, now);
	take_control(l);
	err = flush(l);
	if (!l->stopped) {
		/* What the other side said last matters more than that it
		 * does not listen any more. */
		int got = receive(l, &n);

		if (n > 0)
			err = 0;
		else if (got != 0)
			err = got;
	}
	if (n > 0) {
		l->heard = now;
		wsconn_feed(&l->ws, l->bytes, n, now);
		l->fed = true;
		return 1;
	}
	if (err == 0 && !l->stopped && now - l->heard > WSLINK_SILENCE)
		err = ERR_TIMEOUT;
	l->ended = err != 0;
	return err;
}

int
wslink_next(struct wslink *l, struct wsconn_event *ev)
{
	int r = l->fed ? wsconn_next(&l->ws, ev) : 0;

	if (r <= 0) {
		l->fed = false;
		take_control(l);
	}
	return r;
}

int
wslink_send(struct wslink *l, enum ws_opcode opcode, struct slice payload)
{
	take_control(l);
	return wsconn_send(&l->ws, &l->out, opcode, payload, false);
}

size_t
wslink_queued(const struct wslink *l)
{
	return buf_peek(&l->out).len;
}

void
wslink_close(struct wslink *l, uint16_t code)
{
	wsconn_close(&l->ws, code, (struct slice){ 0 }, clock_mono());
	take_control(l);
}

/* RFC 6455 7.1.1: the server ends the transport; waiting for that keeps a
 * reset from overtaking what we said last. */
void
wslink_finish(struct wslink *l, uint16_t code, msec within)
{
	msec end = clock_mono() + within;
	struct wsconn_event ev;

	while (wslink_next(l, &ev) > 0)
		continue;
	wslink_close(l, code);
	wslink_read_start(l);
	while (clock_mono() < end) {
		int r = wslink_pump(l);

		if (r < 0)
			return;
		while (wslink_next(l, &ev) > 0)
			continue;
		if (r == 0 && !wait_for(l, wslink_wants(l), end))
			return;
	}
}

msec
wslink_deadline(const struct wslink *l)
{
	return l->pinged + WSLINK_PING;
}
