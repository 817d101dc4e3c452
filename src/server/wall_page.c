/*
 * Where a visitor of a walled place logs in: a page on Muster's own origin,
 * and what its script asks.  The session's cookie is not sent along when a
 * browser comes from elsewhere (SameSite=Strict), but it is when the page
 * itself asks; and what a page of ours asks is known by its Origin.
 */
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "io/clock.h"

#include "server/api.h"
#include "server/sites.h"
#include "server/wall_token.h"

#include "server/wall.h"

enum {
	BODY_MAX = 32 * 1024,
	URL_ROOM = 64 * 1024,
	HANDOVER_TTL = 60 * 1000,
};

static const char page[] =
    "<!doctype html>\n"
    "<html lang=en><meta charset=utf-8>\n"
    "<meta name=viewport content=\"width=device-width\">\n"
    "<title>Log in - Muster</title>\n"
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:22em;"
    "margin:4em auto;padding:0 1em;color:#222;background:#fff}"
    "label{display:block;margin:1em 0}input{display:block;width:100%;"
    "box-sizing:border-box;font:inherit;padding:.4em}"
    "button{font:inherit;padding:.4em 1.2em}#why{color:#b00020}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}"
    "#why{color:#ff8a80}}</style>\n"
    "<h1>Log in</h1>\n"
    "<p>to go on to <b id=host></b></p>\n"
    "<p id=why role=alert></p>\n"
    "<noscript><p>This page needs JavaScript.</p></noscript>\n"
    "<form id=form hidden method=post>\n"
    "<label>Name <input name=name autocomplete=username required "
    "autofocus></label>\n"
    "<label>Password <input name=password type=password "
    "autocomplete=current-password required></label>\n"
    "<button>Log in</button></form>\n"
    "<p><button id=again hidden>Go on</button></p>\n"
    "<script src=/tunnel/enter.js></script>\n"
    "</html>\n";

/* A browser that keeps no cookie of the place would be led here again at
 * once, and for ever: after three times in ten seconds it has to ask. */
static const char script[] =
    "'use strict';\n"
    "const query = new URLSearchParams(location.search);\n"
    "const find = id => document.getElementById(id);\n"
    "const post = (path, body) => fetch(path, {\n"
    "  method: 'POST', credentials: 'same-origin',\n"
    "  headers: {'Content-Type': 'application/json', 'X-Muster': '1'},\n"
    "  body: JSON.stringify(body)});\n"
    "const say = text => { find('why').textContent = text; };\n"
    "function often() {\n"
    "  const now = Date.now();\n"
    "  const past = JSON.parse(sessionStorage.entered || '[]')\n"
    "    .filter(at => now - at < 10000);\n"
    "  sessionStorage.entered = JSON.stringify(past.concat(now));\n"
    "  return past.length >= 3;\n"
    "}\n"
    "async function enter() {\n"
    "  const want = {host: query.get('host') || '',\n"
    "    to: query.get('to') || '/'};\n"
    "  for (const key of ['route', 'agent'])\n"
    "    if (query.has(key)) want[key] = query.get(key);\n"
    "  const answer = await post('/api/v1/tunnel/enter', want);\n"
    "  const told = await answer.json();\n"
    "  if (answer.ok) {\n"
    "    if (!often()) { location.replace(told.url); return; }\n"
    "    say('The browser keeps no cookie of that host.');\n"
    "    find('again').hidden = false;\n"
    "    find('again').onclick = () => location.replace(told.url);\n"
    "    return;\n"
    "  }\n"
    "  find('form').hidden = answer.status !== 401;\n"
    "  if (answer.status !== 401) say(told.detail || told.title);\n"
    "}\n"
    "find('host').textContent = query.get('host') || '';\n"
    "find('form').onsubmit = async event => {\n"
    "  event.preventDefault();\n"
    "  say('');\n"
    "  const form = new FormData(find('form'));\n"
    "  const answer = await post('/api/v1/auth/login', {cookie: true,\n"
    "    name: form.get('name'), password: form.get('password')});\n"
    "  if (answer.ok) { await enter(); return; }\n"
    "  const told = await answer.json();\n"
    "  say(told.detail || told.title);\n"
    "};\n"
    "enter().catch(() => say('The controller does not answer.'));\n";

static void
answer_static(struct conn *c, const char *type, const char *text, size_t length)
{
	static const struct http1_pair fields[] = {
		{ SL_INIT("Cache-Control"), SL_INIT("no-store") },
		{ SL_INIT("Content-Security-Policy"),
		    SL_INIT("default-src 'none'; style-src 'unsafe-inline'; "
			    "script-src 'self'; connect-src 'self'; "
			    "base-uri 'none'; form-action 'none'; "
			    "frame-ancestors 'none'") },
		{ SL_INIT("Referrer-Policy"), SL_INIT("no-referrer") },
		{ SL_INIT("X-Content-Type-Options"), SL_INIT("nosniff") },
		{ SL_INIT("X-Frame-Options"), SL_INIT("DENY") },
	};

	web_answer_with(c, 200, type,
	    (struct slice){ (const uint8_t *)text, length }, fields,
	    sizeof(fields) / sizeof(fields[0]));
}

void
wall_page(struct conn *c, struct call *call)
{
	(void)call;
	answer_static(c, "text/html; charset=utf-8", page, sizeof(page) - 1);
}

void
wall_script(struct conn *c, struct call *call)
{
	(void)call;
	answer_static(
	    c, "text/javascript; charset=utf-8", script, sizeof(script) - 1);
}

/* A handover ----------------------------------------------------------------
 */

/* What is asked for, until the hub has answered. */
struct entry {
	struct slice route, agent; /* one of them */
	struct slice host;         /* as the browser wrote it, port and all */
	struct slice to;
	struct tunnel_visit what; /* what the visitor's requests will ask */
};

static void
refuse(struct conn *c, int status, struct slice field, struct slice text)
{
	web_problem(c,
	    &(struct problem){
		.status = status, .field = field, .text = text });
}

static int
read_entry(struct call *call, struct entry *e, struct slice *field)
{
	const struct js_limits limits = { BODY_MAX, 4 };
	struct js_doc *doc = arena_alloc(&call->arena, sizeof(*doc));
	struct js_fields f;
	int err = doc == NULL
	    ? ERR_NOMEM
	    : js_parse(doc, buf_peek(&call->body), &limits, &call->arena);

	if (err != 0)
		return err;
	js_fields_init(&f, js_root(doc));
	js_opt_string(&f, "route", &e->route);
	js_opt_string(&f, "agent", &e->agent);
	js_need_string(&f, "host", &e->host);
	js_need_string(&f, "to", &e->to);
	*field = f.field;
	if (f.err == 0 && (e->route.len == 0) == (e->agent.len == 0)) {
		*field = SL("route");
		return ERR_INVALID;
	}
	return f.err;
}

/* Muster's own port, or that of tunnel_origin: not one that somebody else may
 * listen at. */
static bool
is_our_port(const struct server *s, const struct url_host *host)
{
	struct slice ours[] = { s->public_url, s->settings.tunnel_origin };
	struct url u;

	for (size_t i = 0; i < 2; i++) {
		if (ours[i].len > 0 && url_parse(ours[i], &u) == 0 &&
		    u.port ==
			(host->port >= 0 ? host->port
				: u.tls  ? 443
					 : 80))
			return true;
	}
	return false;
}

/* Whether the place can be at that host, so that nobody is handed over to a
 * stranger. */
static bool
find_place(struct conn *c, struct entry *e)
{
	const struct server *s = c->dock->server;
	struct arena *a = &web_call(c)->arena;
	struct slice path = slice_first(e->to, slice_find(e->to, '?'));
	const struct route_record *r;
	struct url_host host;
	struct slice name;
	struct url u;

	if (url_host_parse(e->host, &host) != 0 || !is_our_port(s, &host))
		return false;
	if (e->route.len > 0) {
		name = gateway_host(a, host.name);
		r = name.ptr == NULL ? NULL : sites_match(c->dock, name, path);
		e->what = (struct tunnel_visit){ .way = TUNNEL_BY_ROUTE,
			.route_id = e->route };
		return r != NULL && slice_eq(r->id, e->route);
	}
	if (gateway_read_path(path, a, &e->what, &name) != 0 ||
	    !slice_eq(e->what.agent, e->agent))
		return false;
	if (s->settings.tunnel_origin.len > 0 &&
	    url_parse(s->settings.tunnel_origin, &u) == 0)
		return slice_eq_nocase(u.at.name, host.name);
	return s->settings.unsafe_path_routes && ours_is_host(s, &host);
}

void
wall_ask(struct conn *c, struct call *call)
{
	struct entry *e = arena_alloc(&call->arena, sizeof(*e));
	struct slice field = { 0 };
	int err;

	if (e == NULL) {
		conn_drop(c);
		return;
	}
	*e = (struct entry){ .to = { 0 } };
	err = read_entry(call, e, &field);
	if (err == ERR_NOMEM) {
		refuse(c, 503, field, SL("the controller is out of memory"));
	} else if (err != 0) {
		refuse(c, 400, field,
		    SL("route or agent, host and to are wanted, as strings"));
	} else if (!wall_is_target(e->to)) {
		refuse(c, 400, SL("to"), SL("to is a path of that host"));
	} else if (!find_place(c, e)) {
		refuse(c, 404, SL("host"),
		    SL("nothing of that name is reached at that host"));
	} else if (pass_ask(c, &e->what, &call->credential, call->request_id) !=
	    0) {
		refuse(c, 503, (struct slice){ 0 },
		    SL("the controller has too much to do"));
	} else {
		call->state = e;
	}
}

static int
put_url(const struct server *s, const struct entry *e,
    const struct tunnel_grant *g, struct buf *url)
{
	wall_msec now = clock_wall();
	const struct wall_token t = { .kind = WALL_HANDOVER,
		.route_id = e->route.len > 0 ? e->route : e->agent,
		.user_id = g->user_id,
		.login_id = g->login_id,
		.issued_at = now,
		.expires_at = now + HANDOVER_TTL };

	buf_put(url,
	    slice_starts(s->public_url, SL("https:")) ? SL("https://")
						      : SL("http://"));
	buf_put(url, e->host);
	buf_put(url, SL(WALL_PATHS "enter?code="));
	int err = wall_token_write(s, &t, url);
	buf_put(url, SL("&to="));
	url_put_encoded(url, e->to);
	return err != 0 ? err : url->err;
}

static int
put_answer(struct slice url, struct buf *out)
{
	struct js_writer w;

	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.tunnel.enter.v1"));
	js_kv_string(&w, "url", url);
	js_end(&w);
	return js_finish(&w);
}

void
wall_answer(struct conn *c, struct call *call, const struct event *ev)
{
	static const struct http1_pair no_store[] = {
		{ SL_INIT("Cache-Control"), SL_INIT("no-store") }
	};
	const struct entry *e = call->state;
	const struct reply *r = ev->reply;
	struct buf url, *text = &c->dock->text;
	int err;

	if (ev->kind != EVENT_REPLY || e == NULL)
		return;
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	buf_init(&url, URL_ROOM);
	buf_clear(text);
	/* A public place lets everybody in, and needs no handover. */
	err = put_url(c->dock->server, e, r->grant, &url);
	if (err == 0)
		err = put_answer(buf_peek(&url), text);
	buf_fini(&url);
	if (err != 0)
		refuse(c, 503, (struct slice){ 0 },
		    SL("the controller is out of memory"));
	else
		web_answer_with(
		    c, 200, "application/json", buf_peek(text), no_store, 1);
}
