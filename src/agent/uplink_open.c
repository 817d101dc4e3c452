#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/clock.h"
#include "io/log.h"
#include "wire/enc.h"
#include "wire/http1_wsopen.h"

#include "agent/uplink_parts.h"

enum { HEAD_CAP = 8 * 1024, BODY_CAP = 64 * 1024 };

static const char path[] = "/api/v1/clusters/agent/ws";

/* The handshake -------------------------------------------------------------
 */

/* Authorization: the challenge's answer (docs/protocol/muster.md 2). */
static int
put_proof(struct uplink *u, struct buf *out)
{
	const struct state_link *l = u->link;
	uint8_t sig[ED25519_SIG];
	struct buf said;

	buf_init(&said, 1024);
	buf_put(&said, SL("muster-link-v1\n"));
	buf_put(&said, slice_from(l->agent_id));
	buf_put(&said, SL("\n"));
	buf_put(&said, slice_from(u->nonce));
	int err = said.err != 0 ? said.err
				: token_sign(l->seed, buf_peek(&said), sig);
	buf_fini(&said);
	if (err != 0)
		return err;
	buf_put(out, SL("Muster-Key id=\""));
	buf_put(out, slice_from(l->agent_id));
	buf_put(out, SL("\", key=\""));
	enc_put_base64(
	    out, (struct slice){ l->key, sizeof(l->key) }, ENC_URL_BARE);
	buf_put(out, SL("\", nonce=\""));
	buf_put(out, slice_from(u->nonce));
	buf_put(out, SL("\", sig=\""));
	enc_put_base64(out, (struct slice){ sig, sizeof(sig) }, ENC_URL_BARE);
	buf_put(out, SL("\""));
	return out->err;
}

static int
write_ask(struct uplink *u, struct slice proof, struct buf *out)
{
	const struct http1_pair fields[] = {
		{ SL("Upgrade"), SL("websocket") },
		{ SL("Connection"), SL("Upgrade") },
		{ SL("Sec-WebSocket-Version"), SL("13") },
		{ SL("Sec-WebSocket-Key"), { u->ws_key, WSOPEN_KEY_LEN } },
		{ SL("Sec-WebSocket-Protocol"), SL("muster.v1") },
		{ SL("User-Agent"), SL("muster-agent/" MUSTER_VERSION) },
		{ SL("Authorization"), proof },
	};
	struct http1_ask ask = {
		.method = SL("GET"),
		.target = slice_from(path),
		.fields = fields,
		.count = sizeof(fields) / sizeof(fields[0]) - (proof.len == 0),
		.upgrade = true,
	};
	struct buf host;

	buf_init(&host, DIAL_HOST + 16);
	url_put_host(&host, &u->url);
	ask.host = buf_peek(&host);
	int err = host.err;
	if (err == 0)
		err = http1_client_ask(&u->http, &ask, out);
	if (err == 0)
		err = http1_client_finish(&u->http, out);
	buf_fini(&host);
	return err;
}

static void
ask_upgrade(struct uplink *u)
{
	struct buf out, proof;
	uint8_t nonce[16];
	int err = 0;

	rand_fill(nonce, sizeof(nonce));
	wsopen_make_key(nonce, u->ws_key);
	buf_init(&out, HEAD_CAP);
	buf_init(&proof, 1024);
	if (u->nonce[0] != '\0') {
		err = put_proof(u, &proof);
		u->nonce[0] = '\0';
		u->proofs++;
	}
	if (err == 0)
		err = write_ask(u, buf_peek(&proof), &out);
	if (err == 0)
		err = stream_write(u->carrier->stream, buf_peek(&out));
	buf_fini(&proof);
	buf_fini(&out);
	if (err != 0)
		uplink_lost(u, BACKOFF_LOST, "cannot ask: %s", err_name(err));
}

/* Answers -------------------------------------------------------------------
 */

/* The nonce of a WWW-Authenticate: Muster-Key challenge. */
static bool
read_challenge(const struct http1_head *h, char out[UPLINK_NONCE])
{
	static const struct slice scheme = SL_INIT("Muster-Key nonce=\"");
	struct slice value;
	size_t pos = 0;

	while (http1_next_value(h, "WWW-Authenticate", &pos, &value)) {
		if (!slice_starts(value, scheme))
			continue;
		value = slice_from_at(value, scheme.len);
		value = slice_first(value, slice_find(value, '"'));
		return value.len > 0 &&
		    slice_cstr(value, out, UPLINK_NONCE) == 0;
	}
	return false;
}

static msec
read_retry(const struct http1_head *h)
{
	uint64_t seconds = 0;

	if (slice_u64(http1_field(h, "Retry-After"), 86400, &seconds) != 0)
		return 0;
	return (msec)seconds * 1000;
}

static void
on_denied(struct uplink *u, int status)
{
	uplink_lost(u, BACKOFF_REFUSED,
	    status == 403
		? "the controller does not know this agent's key (403): it "
		  "was removed or revoked there, only joining again helps"
		: "the controller does not accept this agent's proof (%d)",
	    status);
}

/* 101: the WebSocket begins. */
static void
on_open(struct uplink *u, const struct http1_head *h)
{
	struct slice reason = SL("no memory");
	struct wsopen_response r;
	struct arena a;

	arena_init(&a, HEAD_CAP);
	int err = http1_wsopen_response(h, &a, &r);
	if (err == 0)
		err = wsopen_check_response(&r,
		    (struct slice){ u->ws_key, WSOPEN_KEY_LEN },
		    SL("muster.v1"), &reason);
	if (err == 0 && !slice_eq(r.protocol, SL("muster.v1"))) {
		err = ERR_UNSUPPORTED;
		reason = SL("it does not speak muster.v1");
	}
	if (err != 0)
		uplink_lost(u, BACKOFF_LOST, "the handshake failed: %.*s",
		    SLICE_FMT(reason));
	arena_fini(&a);
}

/* What came behind the 101 is copied: the machine unmasks in place. */
static void
begin_session(struct uplink *u)
{
	struct slice rest;
	uint8_t *copy = NULL;
	msec now = loop_now(&u->agent->loop);

	int err = http1_client_upgrade(&u->http, &rest);
	if (err == 0 && rest.len > 0 && (copy = alloc_new(rest.len)) == NULL)
		err = ERR_NOMEM;
	if (err != 0) {
		uplink_lost(
		    u, BACKOFF_LOST, "cannot upgrade: %s", err_name(err));
		return;
	}
	if (rest.len > 0)
		memcpy(copy, rest.ptr, rest.len);
	size_t n = rest.len;
	http1_client_fini(&u->http);
	u->http_open = false;
	wsconn_init(&u->ws, WSCONN_CLIENT, &u->agent->ws_config, now);
	struct yamux_config c = yamux_defaults;
	c.streams_max = (uint32_t)u->agent->policy.streams;
	c.held_max = UPLINK_HELD;
	c.seed = rand_u64();
	yamux_init(&u->mux, YAMUX_CLIENT, &c, now);
	u->ws_open = true;
	u->proofs = 0;
	uplink_move(u, UPLINK_REGISTERING);
	u->give_up = now + UPLINK_REGISTER_WITHIN;
	uplink_register(u);
	if (n > 0 && u->ws_open)
		uplink_bytes(u, copy, n);
	alloc_free(copy);
}

static void
on_answer(struct uplink *u, const struct http1_head *h)
{
	int status = h->status;

	if (status == 101) {
		on_open(u, h);
		return;
	}
	if (status < 200)
		return;
	if (status == 401 && u->proofs < UPLINK_PROOFS &&
	    read_challenge(h, u->nonce))
		return; /* answered when the response is over */
	u->retry_after = status == 429 || status == 503 ? read_retry(h) : 0;
	if (status == 401 || status == 403)
		on_denied(u, status);
	else
		uplink_lost(u, BACKOFF_LOST, "the controller answers %d %s",
		    status, http1_reason(status));
}

/* The challenge has come: answer on this connection, or on another. */
static void
on_answer_end(struct uplink *u)
{
	if (http1_client_reusable(&u->http)) {
		ask_upgrade(u);
		return;
	}
	uplink_drop_connection(u, false);
	uplink_move(u, UPLINK_WAITING);
	uplink_dial(u);
}

/* False when the HTTP machine is gone. */
static bool
on_event(struct uplink *u, const struct http1_event *ev)
{
	struct carrier *c = u->carrier;

	if (ev->kind == HTTP1_RESPONSE) {
		bool switching = ev->head->status == 101;
		on_answer(u, ev->head);
		if (u->carrier == c && switching) {
			begin_session(u);
			return false;
		}
	} else if (ev->kind == HTTP1_END && u->nonce[0] != '\0') {
		on_answer_end(u);
	} else if (ev->kind == HTTP1_BAD) {
		uplink_lost(u, BACKOFF_LOST,
		    "what answers is no controller: %s", ev->why);
	}
	return u->carrier == c && u->http_open;
}

static void
take_events(struct uplink *u)
{
	struct http1_event ev;

	while (
	    u->http_open && http1_client_next(&u->http, &u->agent->head, &ev))
		if (!on_event(u, &ev))
			return;
}

void
uplink_shake_bytes(struct uplink *u, uint8_t *bytes, size_t n)
{
	http1_client_feed(&u->http, (struct slice){ bytes, n });
	take_events(u);
}

void
uplink_shake_eof(struct uplink *u)
{
	struct carrier *c = u->carrier;

	http1_client_eof(&u->http);
	take_events(u);
	if (u->carrier == c && u->http_open)
		uplink_lost(u, BACKOFF_LOST,
		    "the controller hung up during the handshake");
}

/* The connection ------------------------------------------------------------
 */

static void
on_read(void *owner, uint8_t *bytes, size_t n)
{
	struct uplink *u = ((struct carrier *)owner)->uplink;

	if (u == NULL)
		return;
	if (u->http_open)
		uplink_shake_bytes(u, bytes, n);
	else if (u->ws_open)
		uplink_bytes(u, bytes, n);
}

static void
on_eof(void *owner)
{
	struct uplink *u = ((struct carrier *)owner)->uplink;

	if (u == NULL)
		return;
	if (u->http_open)
		uplink_shake_eof(u);
	else
		uplink_lost(
		    u, BACKOFF_LOST, "the controller closed the connection");
}

static void
on_pull(void *owner, size_t room)
{
	struct uplink *u = ((struct carrier *)owner)->uplink;

	if (u != NULL)
		uplink_pull(u, room);
}

static void
on_closed(void *owner, int why)
{
	struct carrier *c = owner;

	if (c->uplink != NULL) {
		struct uplink *u = c->uplink;
		c->stream = NULL;
		uplink_lost(
		    u, BACKOFF_LOST, "the connection broke: %s", err_name(why));
	}
	c->agent->connections--;
	loop_again(&c->agent->loop);
	alloc_free(c);
}

static const struct stream_ops stream_ops = {
	.read = on_read,
	.eof = on_eof,
	.pull = on_pull,
	.closed = on_closed,
};

static void
on_dialed(void *owner, struct stream *s, int err, const char *why)
{
	struct uplink *u = owner;

	u->dial = NULL;
	/* A connected stream keeps what it needs. */
	tls_client_free(u->tls);
	u->tls = NULL;
	if (err != 0) {
		uplink_lost(u, BACKOFF_LOST, "%s", why);
		return;
	}
	struct carrier *c = alloc_new(sizeof(*c));
	if (c == NULL) {
		stream_abort(s, false);
		uplink_lost(u, BACKOFF_LOST, "no memory");
		return;
	}
	c->uplink = u;
	c->agent = u->agent;
	u->agent->connections++;
	c->stream = s;
	u->carrier = c;
	stream_start(s, &stream_ops, c);
	http1_client_init(&u->http, BODY_CAP);
	u->http_open = true;
	uplink_move(u, UPLINK_SHAKING);
	u->give_up = loop_now(&u->agent->loop) + UPLINK_OPEN_WITHIN;
	ask_upgrade(u);
	uplink_rearm(u);
}

static int
make_tls(struct uplink *u, char why[TLS_WHY])
{
	const struct state_link *l = u->link;
	struct tls_client_config c = {
		.ca_file = l->ca_file[0] != '\0' ? l->ca_file : NULL,
		.pin = l->pin[0] != '\0' ? u->pin : NULL,
	};

	return u->url.tls ? tls_client_new(&c, &u->tls, why) : 0;
}

void
uplink_dial(struct uplink *u)
{
	char why[TLS_WHY] = "no memory";
	struct dial_proxy proxy;
	struct dial_config c = {
		.host = u->host,
		.port = (uint16_t)u->url.port,
		.timeout_ms = UPLINK_OPEN_WITHIN,
	};

	uplink_move(u, UPLINK_DIALING);
	u->give_up = INT64_MAX;
	u->retry_after = 0;
	int err = dial_proxy_from_env(
	    u->host, (uint16_t)u->url.port, u->url.tls, &proxy);
	if (err != 0) {
		uplink_lost(u, BACKOFF_LOST,
		    "the proxy in the environment cannot be used: %s",
		    err_name(err));
		return;
	}
	if (proxy.kind != DIAL_DIRECT)
		c.proxy = &proxy;
	err = make_tls(u, why);
	if (err == 0) {
		c.tls = u->tls;
		err = dial_start(&u->agent->loop, &c, on_dialed, u, &u->dial);
	}
	if (err != 0) {
		tls_client_free(u->tls);
		u->tls = NULL;
		uplink_lost(
		    u, BACKOFF_LOST, "cannot dial: %s: %s", err_name(err), why);
		return;
	}
	uplink_rearm(u);
}
