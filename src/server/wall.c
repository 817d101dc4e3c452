#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/nonces.h"
#include "wire/token.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/settings.h"
#include "server/sites.h"
#include "server/wall_token.h"

#include "server/wall.h"

enum {
	TARGET_MAX = 16 * 1024,
	MARK = 16, /* hexadecimal digits of a place in its cookie's name */
	COOKIE_MAX = WALL_TOKEN_MAX + 256,
	HANDOVERS = 100000, /* used ones that are remembered */
	HANDOVER_HOLD = 120 * 1000,
};

/* Handovers are good once, whichever lane they come to. */
struct handovers {
	pthread_mutex_t lock;
	struct nonces used; /* under the lock */
};

int
wall_open(struct server *s)
{
	struct handovers *h = alloc_new(sizeof(*h));

	if (h == NULL)
		return ERR_NOMEM;
	pthread_mutex_init(&h->lock, NULL);
	nonces_init(
	    &h->used, HANDOVER_HOLD, HANDOVERS, HANDOVERS, clock_mono());
	s->handovers = h;
	return 0;
}

void
wall_close(struct server *s)
{
	struct handovers *h = s->handovers;

	if (h == NULL)
		return;
	nonces_fini(&h->used);
	pthread_mutex_destroy(&h->lock);
	alloc_free(h);
	s->handovers = NULL;
}

/* 0, ERR_EXISTS when it was used, ERR_FULL, ERR_NOMEM. */
static int
use_up(struct server *s, struct slice text)
{
	struct handovers *h = s->handovers;
	struct nonce n;
	int err = nonce_make(SL("handover"), text, &n);

	if (err != 0)
		return err;
	pthread_mutex_lock(&h->lock);
	err = nonces_take(&h->used, &n, clock_mono());
	pthread_mutex_unlock(&h->lock);
	return err;
}

/* Answers -------------------------------------------------------------------
 */

static int
refuse(struct gateway_no *no, int status, struct slice code, struct slice text)
{
	*no = (struct gateway_no){
		.hop = HOP_VISITOR, .status = status, .code = code, .text = text
	};
	return ERR_DENIED;
}

/* What the place is called in tokens. */
static struct slice
place_of(const struct visit *v)
{
	return v->what.way == TUNNEL_BY_ROUTE ? v->what.route_id
					      : v->what.agent;
}

/*
 * The name of its cookie.  One host can have several places, and a prefix
 * that browsers give to its own host alone where they can be made to.
 */
static int
cookie_name(const struct visit *v, struct slice place, char out[64])
{
	uint8_t sum[SHA256_LEN];
	int err = token_sha256(place, sum);

	if (err != 0)
		return err;
	int n =
	    snprintf(out, 64, "%smuster_wall_", v->call->tls ? "__Host-" : "");
	for (size_t i = 0; i < MARK / 2; i++)
		n += snprintf(out + n, 64 - (size_t)n, "%02x", sum[i]);
	return 0;
}

/* Let the visitor in: the place's cookie, and on to target. */
static int
let_in(struct visit *v, const struct wall_token *t, struct slice target,
    struct gateway_no *no)
{
	const struct server *s = v->conn->dock->server;
	struct buf b;
	char name[64];
	int err = cookie_name(v, t->route_id, name);

	buf_init(&b, COOKIE_MAX);
	buf_put(&b, slice_from(name));
	buf_put_byte(&b, '=');
	if (err == 0)
		err = wall_token_write(s, t, &b);
	/* A page in a sandbox is a stranger to its own host, so that nothing
	 * less is sent from there. */
	buf_put(&b,
	    !v->call->tls ? SL("; Path=/; HttpOnly; SameSite=Lax")
		: v->own_origin
		? SL("; Path=/; HttpOnly; Secure; SameSite=None")
		: SL("; Path=/; HttpOnly; Secure; SameSite=Lax"));
	*no = (struct gateway_no){ .status = 303 };
	if (err == 0)
		err = b.err;
	if (err == 0)
		err = arena_copy(&v->call->arena, buf_peek(&b), &no->cookie);
	if (err == 0)
		err = arena_copy(&v->call->arena, target, &no->location);
	buf_fini(&b);
	return err != 0 ? ERR_NOMEM : ERR_DENIED;
}

bool
wall_is_target(struct slice s)
{
	if (s.len == 0 || s.len > TARGET_MAX || s.ptr[0] != '/' ||
	    (s.len > 1 && (s.ptr[1] == '/' || s.ptr[1] == '\\')) ||
	    slice_starts(s, SL(WALL_PATHS)))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] <= ' ' || s.ptr[i] >= 0x7f || s.ptr[i] == '\\')
			return false;
	}
	return true;
}

/* Paths of our own ----------------------------------------------------------
 */

/* Whether a handover to a place is good at the host it was brought to. */
static bool
is_here(const struct visit *v, const struct wall_token *t, struct slice target)
{
	const struct dock *d = v->conn->dock;
	const struct route_record *r = sites_find(d, t->route_id);
	struct slice path = slice_first(target, slice_find(target, '?'));

	if (v->host.len == 0 || !sites_has_host(d, v->host))
		return r == NULL; /* a place under /clusters/ */
	return r != NULL && sites_match(d, v->host, path) == r;
}

static int
enter(struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	struct server *s = v->conn->dock->server;
	struct arena *a = &v->call->arena;
	wall_msec now = clock_wall();
	struct slice code, to;
	struct wall_token t;

	if (url_query_get(h->query, SL("code"), a, &code) != 0 ||
	    url_query_get(h->query, SL("to"), a, &to) != 0 ||
	    !wall_is_target(to))
		return refuse(no, 400, SL("INVALID_REQUEST"),
		    SL("this is no way in: start at the service's own "
		       "address"));
	int err = wall_token_read(s, code, WALL_HANDOVER, now, a, &t);
	if (err == 0 && !is_here(v, &t, to))
		err = ERR_DENIED;
	if (err == 0)
		err = use_up(s, code);
	if (err == ERR_NOMEM)
		return err;
	if (err != 0)
		return refuse(no, 403, SL("HANDOVER_REFUSED"),
		    SL("this way in is used up, too old, or for another "
		       "place: start at the service's own address"));
	t.kind = WALL_COOKIE;
	t.issued_at = now;
	t.expires_at = now + s->settings.session_ttl;
	log_info("wall_passed", kv_s("user", t.user_id),
	    kv_s("place", t.route_id),
	    kv_s("remote", v->call->credential.remote));
	return let_in(v, &t, to, no);
}

int
wall_serve(struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	if (!slice_eq(v->path, SL(WALL_PATHS "enter")))
		return refuse(no, 404, SL("NOT_FOUND"),
		    SL("there is nothing of that name"));
	if (!v->call->safe || v->websocket)
		return refuse(no, 405, SL("METHOD_NOT_ALLOWED"),
		    SL("only GET is answered here"));
	return enter(v, h, no);
}

/* Links ---------------------------------------------------------------------
 */

/* The target without the link, as it was written. */
static int
without_link(struct visit *v, const struct http1_head *h, struct slice *out)
{
	struct slice rest = h->query, name, value;
	bool first = true;
	struct buf b;

	buf_init(&b, TARGET_MAX);
	buf_put(&b, v->path);
	while (url_query_next(&rest, &name, &value)) {
		if (slice_eq(name, SL(WALL_LINK_PARAMETER)))
			continue;
		buf_put_byte(&b, first ? '?' : '&');
		first = false;
		buf_put(&b, name);
		if (value.ptr != NULL)
			buf_put_byte(&b, '=');
		buf_put(&b, value);
	}
	int err =
	    b.err != 0 ? b.err : arena_copy(&v->call->arena, buf_peek(&b), out);
	buf_fini(&b);
	return err;
}

static int
follow_link(struct visit *v, const struct http1_head *h, struct slice text,
    struct gateway_no *no)
{
	struct slice target;
	struct wall_token t;
	int err = wall_token_read(v->conn->dock->server, text, WALL_LINK,
	    clock_wall(), &v->call->arena, &t);

	if (err == ERR_NOMEM)
		return err;
	if (err != 0 || !slice_eq(t.route_id, v->what.route_id))
		return refuse(no, 401, SL("LINK_EXPIRED"),
		    SL("this link is not good any more"));
	if (without_link(v, h, &target) != 0)
		return ERR_NOMEM;
	if (!wall_is_target(target))
		return refuse(no, 400, SL("INVALID_REQUEST"),
		    SL("a link leads to a path of this host"));
	return let_in(v, &t, target, no);
}

/* Cookies -------------------------------------------------------------------
 */

/* Others of that name may have been put beside ours by a neighbour of the
 * domain: the first that is good for this place counts. */
static bool
read_cookie(struct visit *v, struct slice text)
{
	const enum wall_kind kinds[] = { WALL_COOKIE, WALL_LINK };
	struct credential *c = &v->call->credential;
	struct wall_token t;

	for (size_t i = 0; i < 2; i++) {
		if (wall_token_read(v->conn->dock->server, text, kinds[i],
			clock_wall(), &v->call->arena, &t) == 0 &&
		    slice_eq(t.route_id, place_of(v))) {
			wall_token_credential(&t, c);
			return true;
		}
	}
	return false;
}

static int
find_cookie(struct visit *v, const struct http1_head *h)
{
	struct slice field, part;
	size_t pos = 0;
	char name[64];
	int err = cookie_name(v, place_of(v), name);

	if (err != 0)
		return err;
	while (http1_next_value(h, "Cookie", &pos, &field)) {
		while (slice_split(&field, ';', &part)) {
			part = slice_trim(part);
			size_t at = slice_find(part, '=');
			if (slice_eq(slice_first(part, at), slice_from(name)) &&
			    read_cookie(v, slice_from_at(part, at + 1)))
				return 0;
		}
	}
	return 0;
}

int
wall_admit(struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	struct slice link;

	if (v->what.way == TUNNEL_BY_ROUTE && v->call->safe && !v->websocket &&
	    url_query_get(
		h->query, SL(WALL_LINK_PARAMETER), &v->call->arena, &link) == 0)
		return follow_link(v, h, link, no);
	if (v->call->credential.kind != CREDENTIAL_NONE)
		return 0;
	return find_cookie(v, h);
}

/* The way to a login --------------------------------------------------------
 */

bool
wall_lead(struct visit *v, struct gateway_no *no)
{
	const struct server *s = v->conn->dock->server;
	bool by_route = v->what.way == TUNNEL_BY_ROUTE;
	struct slice to;
	struct buf b;
	int err;

	if (!v->wants_page || !v->call->safe || v->websocket ||
	    s->public_url.len == 0)
		return false;
	buf_init(&b, 4 * TARGET_MAX);
	buf_put(&b, s->public_url);
	buf_put(&b,
	    by_route ? SL("/tunnel/enter?route=") : SL("/tunnel/enter?agent="));
	url_put_encoded(&b, place_of(v));
	buf_put(&b, SL("&host="));
	url_put_encoded(&b, v->hop.host);
	buf_put(&b, SL("&to="));
	url_put_encoded(&b, v->target);
	err = b.err;
	if (err == 0)
		err = arena_copy(&v->call->arena, buf_peek(&b), &to);
	buf_fini(&b);
	if (err != 0)
		return false;
	*no = (struct gateway_no){ .status = 303, .location = to };
	return true;
}
