/* A console goes on with another credential: auth:refresh-token. */
#include "base/alloc.h"
#include "base/err.h"

#include "wire/token.h"

#include "io/clock.h"

#include "server/accounts.h"
#include "server/credential.h"
#include "server/keyring.h"

#include "server/console_parts.h"

static void
say_failed(struct conn *c, struct slice code, struct slice why,
    struct slice request_id)
{
	struct console_context ctx = console_context(c);
	struct buf *text = &c->dock->text;

	buf_clear(text);
	if (console_encode_not_renewed(code, why, request_id, &ctx, text) > 0)
		console_say(c, buf_peek(text), true);
}

/* The refresh token that it shows, and the one that takes its place.  0, or
 * ERR_DENIED: it is none of ours. */
static int
trade(struct conn *c, struct slice shown, struct arena *a, struct request *q)
{
	struct console *s = console_of(c);
	struct server *server = c->dock->server;
	struct login_record *r = arena_alloc(a, sizeof(*r));
	char id[KEYRING_LOGIN + 1];

	if (s->renewal == NULL)
		s->renewal = alloc_new(KEYRING_TEXT);
	if (r == NULL || s->renewal == NULL)
		return ERR_NOMEM;
	if (!keyring_read_refresh(server->keyring, shown, id))
		return ERR_DENIED;
	r->expires_at = clock_wall() + server->settings.access_ttl;
	q->login = r;
	q->credential.kind = CREDENTIAL_WATCH;
	int err = keyring_make_refresh(server->keyring, id, s->renewal);
	if (err == 0)
		err = arena_copy(a, slice_from(id), &r->id);
	if (err == 0)
		err = token_sha256(shown, r->hash);
	return err != 0 ? err
			: token_sha256(slice_from(s->renewal), q->new_hash);
}

void
console_renew(struct conn *c, const struct console_message *m)
{
	const struct console_refresh *r = &m->refresh;
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_REQUEST, &a);
	int err = ERR_NOMEM;

	/* One at a time: what the first is to get must not be the second's. */
	if (console_of(c)->renewing) {
		say_failed(c, SL("RATE_LIMIT"),
		    SL("Another refresh is under way"), m->event.request_id);
		return;
	}
	if (ev != NULL) {
		ev->request_id = m->event.request_id;
		ev->request.op = OP_RENEW;
		ev->request.credential.remote = console_of(c)->remote;
		ev->request.credential.address = conn_address(c, a);
		err = r->token.len > 0
		    ? credential_of_text(
			  c->dock->server, r->token, a, &ev->request.credential)
		    : trade(c, r->refresh_token, a, &ev->request);
	}
	if (err == ERR_DENIED)
		say_failed(c, SL("UNAUTHORIZED"), SL("Invalid refresh token"),
		    m->event.request_id);
	else if (err != 0) {
		conn_drop(c);
	} else {
		console_of(c)->renewing = true;
		console_post(c, ev);
	}
}

/* What a login goes on with. */
static int
renew_login(struct conn *c, const struct reply *r, struct buf *token,
    struct console_renewed *out)
{
	wall_msec until = clock_wall() + c->dock->server->settings.access_ttl;

	if (until > r->login->expires_at)
		until = r->login->expires_at;
	*out = (struct console_renewed){ .expires_at = until,
		.refresh_token = slice_from(console_of(c)->renewal) };
	int err = accounts_sign(c, r->user, r->login->id, until, token);
	out->token = buf_peek(token);
	return err;
}

void
console_renewed(struct conn *c, const struct event *ev)
{
	const struct reply *r = ev->reply;
	struct console_renewed renewed = { .expires_at = r->expires_at };
	struct console_context ctx = console_context(c);
	struct buf *text = &c->dock->text;
	struct buf token;
	int err = 0;

	console_of(c)->renewing = false;
	if (r->err != 0) {
		say_failed(c, r->code, r->text, ev->request_id);
		return;
	}
	buf_init(&token, JWS_TEXT);
	if (r->login != NULL)
		err = renew_login(c, r, &token, &renewed);
	buf_clear(text);
	if (err == 0 &&
	    console_encode_renewed(&renewed, ev->request_id, &ctx, text) > 0)
		console_say(c, buf_peek(text), true);
	else
		conn_drop(c); /* it comes back with what it has */
	buf_fini(&token);
}
