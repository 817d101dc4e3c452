#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/js_write.h"
#include "cli/login.h"
#include "io/clock.h"
#include "io/rand.h"
#include "wire/be.h"
#include "wire/url.h"

#include "cli/forward_parts.h"

enum { MESSAGE = 4 << 20, CONTROL = 32 * 1024, WINDOW = 1024 * 1024 };

/* Out ---------------------------------------------------------------------- */

/* Yamux's own frames go before any data. */
static int
send_control(struct forwarder *f)
{
	struct slice s;

	while ((s = yamux_out(&f->mux)).len > 0) {
		s = slice_first(s, CONTROL);
		int err = wslink_send(f->link, WS_BINARY, s);
		if (err != 0)
			return err;
		yamux_sent(&f->mux, s.len);
	}
	return 0;
}

size_t
mux_room(const struct forwarder *f, uint32_t id)
{
	size_t window;

	if (f->link == NULL || wslink_queued(f->link) >= FORWARD_QUEUED)
		return 0;
	window = yamux_window(&f->mux, id);
	return window < FORWARD_FRAME ? window : FORWARD_FRAME;
}

int
mux_send(struct forwarder *f, uint32_t id, struct slice bytes)
{
	uint8_t frame[YAMUX_HEAD + FORWARD_FRAME];

	while (bytes.len > 0) {
		struct slice part = slice_first(bytes, FORWARD_FRAME);
		int err = f->link == NULL ? ERR_CLOSED : send_control(f);
		if (err == 0)
			err = yamux_put_head(
			    &f->mux, id, (uint32_t)part.len, frame);
		if (err != 0)
			return err;
		memcpy(frame + YAMUX_HEAD, part.ptr, part.len);
		err = wslink_send(f->link, WS_BINARY,
		    (struct slice){ frame, YAMUX_HEAD + part.len });
		if (err != 0)
			return err;
		bytes = slice_from_at(bytes, part.len);
	}
	return 0;
}

void
mux_finish(struct forwarder *f, uint32_t id)
{
	if (f->link != NULL)
		(void)yamux_finish(&f->mux, id);
}

void
mux_reset(struct forwarder *f, uint32_t id)
{
	if (f->link != NULL)
		yamux_reset(&f->mux, id);
}

void
mux_forget(struct forwarder *f, uint32_t id)
{
	if (f->link != NULL)
		yamux_set_user(&f->mux, id, NULL);
}

void
mux_consume(struct forwarder *f, uint32_t id, size_t n)
{
	if (f->link != NULL && n > 0)
		yamux_consume(&f->mux, id, n, clock_mono());
}

int
mux_ask(
    struct forwarder *f, void *user, bool udp, struct slice json, uint32_t *id)
{
	const struct opening o = { .version = 2,
		.kind = udp ? OPENING_KIND_UDP : OPENING_KIND_TCP,
		.json = json };
	struct buf b;

	if (f->link == NULL)
		return ERR_CLOSED;
	buf_init(&b, OPENING_MAX);
	int err = opening_encode(&o, &b);
	if (err == 0)
		err = yamux_open(&f->mux, user, id);
	if (err == 0)
		err = mux_send(f, *id, buf_peek(&b));
	buf_fini(&b);
	return err;
}

void
mux_answer(struct forwarder *f, uint32_t id, bool yes, const char *code,
    const char *text)
{
	uint8_t head[4] = { 2, yes ? 0 : 1 };
	struct js_writer w;
	struct buf b, json;

	buf_init(&json, FORWARD_JSON);
	js_write(&w, &json);
	js_begin_object(&w);
	if (!yes) {
		js_kv_string(&w, "code", slice_from(code));
		js_kv_string(&w, "text", slice_from(text));
	}
	js_end(&w);
	be_put16(head + 2, (uint16_t)buf_peek(&json).len);
	buf_init(&b, FORWARD_JSON + 8);
	buf_put(&b, (struct slice){ head, sizeof(head) });
	buf_put(&b, buf_peek(&json));
	if (js_finish(&w) != 0 || b.err != 0 ||
	    mux_send(f, id, buf_peek(&b)) != 0)
		mux_reset(f, id);
	buf_fini(&b);
	buf_fini(&json);
}

bool
mux_gather(struct buf *head, struct slice *in, int *err)
{
	*err = 0;
	while (in->len > 0) {
		struct slice have = buf_peek(head);
		size_t want =
		    have.len < 4 ? 4 : 4 + (size_t)be_get16(have.ptr + 2);
		struct slice more = slice_first(*in, want - have.len);
		buf_put(head, more);
		if (head->err != 0) {
			*err = head->err;
			return false;
		}
		*in = slice_from_at(*in, more.len);
		have = buf_peek(head);
		if (have.ptr[0] != 2) {
			*err = ERR_PROTOCOL;
			return false;
		}
		if (have.len >= 4 &&
		    have.len == 4 + (size_t)be_get16(have.ptr + 2))
			return true;
	}
	return false;
}

/* In ----------------------------------------------------------------------- */

static void
lost(struct forwarder *f, const char *why)
{
	if (f->link == NULL)
		return;
	tell_link(f, "lost", why);
	mux_close(f);
	f->away_since = clock_mono();
	f->again_at = f->away_since;
}

static void
on_stream(struct forwarder *f, const struct yamux_event *ev)
{
	struct conn *c = ev->user;
	struct door *d = c == NULL ? door_of(f, ev->id) : NULL;

	if (ev->kind == YAMUX_DATA && c != NULL) {
		conn_data(f, c, ev->data);
	} else if (ev->kind == YAMUX_DATA) {
		mux_consume(f, ev->id, ev->data.len);
		if (d != NULL && !door_data(f, d, ev->data))
			mux_reset(f, ev->id);
	} else if (ev->kind == YAMUX_FIN && c != NULL) {
		conn_fin(f, c);
	} else if (ev->kind == YAMUX_RST && c != NULL) {
		conn_rst(f, c);
	} else if (d != NULL &&
	    (ev->kind == YAMUX_FIN || ev->kind == YAMUX_RST)) {
		mux_reset(f, ev->id);
		door_lost(f, d, "the agent listens no more");
	}
}

static void
on_mux(struct forwarder *f, const struct yamux_event *ev)
{
	if (ev->kind == YAMUX_OPENED)
		conn_opened(f, ev->id);
	else if (ev->kind == YAMUX_ERROR)
		lost(f, err_name(ev->err));
	else
		on_stream(f, ev);
}

static void
take_bytes(struct forwarder *f, struct slice bytes)
{
	struct yamux_event ev;

	yamux_feed(&f->mux, bytes, clock_mono());
	while (f->link != NULL && yamux_next(&f->mux, &ev))
		on_mux(f, &ev);
}

/* What another try would meet again ends us. */
static void
on_close(struct forwarder *f, const struct wsconn_event *ev)
{
	char why[160];

	(void)snprintf(why, sizeof(why), "the controller closed it: %u %.*s",
	    ev->code, SLICE_FMT(slice_first(ev->data, 100)));
	if (ev->code == WS_CODE_POLICY &&
	    slice_eq(ev->data, SL("token_expired")))
		f->renewing = true;
	else if (ev->code == WS_CODE_POLICY) {
		f->left = true;
		f->exit = cli_fail(f->cli, EXIT_DENIED, "%s", why);
	}
	lost(f, why);
}

static bool
take_messages(struct forwarder *f)
{
	struct wsconn_event ev;
	bool any = false;

	while (f->link != NULL && wslink_next(f->link, &ev) > 0) {
		any = true;
		if (ev.kind == WS_BINARY)
			take_bytes(f, ev.data);
		else if (ev.kind == WS_CLOSE)
			on_close(f, &ev);
		else if (ev.kind == WSCONN_ERROR)
			lost(f, "the controller breaks the protocol");
	}
	return any;
}

bool
mux_pump(struct forwarder *f)
{
	struct yamux_event ev;
	bool any;

	if (f->link == NULL)
		return false;
	int r = wslink_pump(f->link);
	any = take_messages(f);
	if (r < 0) {
		lost(f, err_name(r));
		return any;
	}
	if (f->link == NULL)
		return any;
	yamux_expire(&f->mux, clock_mono());
	while (f->link != NULL && yamux_next(&f->mux, &ev))
		on_mux(f, &ev);
	if (f->link != NULL && send_control(f) != 0)
		lost(f, "out of memory");
	return any || r > 0;
}

/* Life --------------------------------------------------------------------- */

int
mux_open(struct forwarder *f, bool again)
{
	char url[URL_MAX + 32];
	const struct wslink_ask ask = { .url = url,
		.protocol = "muster.tunnel.v1",
		.bearer = true,
		.cap = MESSAGE,
		.again = again };
	struct yamux_config config = yamux_defaults;

	(void)snprintf(url, sizeof(url), "%s/api/v1/tunnel", f->cli->at.url);
	int exit = f->renewing ? login_renew_spent(f->cli) : EXIT_OK;
	if (exit == EXIT_OK)
		exit = wslink_open(f->cli, &ask, &f->link);
	if (exit != EXIT_OK)
		return exit;
	f->renewing = false;
	config.streams_max = FORWARD_CONNS + FORWARD_SPECS;
	config.window_max = WINDOW;
	config.seed = rand_u64();
	yamux_init(&f->mux, YAMUX_CLIENT, &config, clock_mono());
	f->tries = 0;
	return EXIT_OK;
}

void
mux_close(struct forwarder *f)
{
	if (f->link == NULL)
		return;
	for (struct list *i = f->conns.next; i != &f->conns; i = i->next) {
		struct conn *c = LIST_OF(i, struct conn, link);
		c->id = 0;
		conn_abort(f, c);
	}
	for (size_t i = 0; i < f->door_count; i++)
		door_lost(f, &f->doors[i], NULL);
	yamux_fini(&f->mux);
	wslink_free(f->link);
	f->link = NULL;
}
