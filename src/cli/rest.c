/*
 * Design notes.  One curl handle serves all calls of a run, so that `job
 * wait` and paged lists reuse their connection.  A pin replaces the chain:
 * it is the stronger statement, and the usual certificate beside it is one
 * that the controller made for itself.
 */
#include <curl/curl.h>
#include <stdio.h>

#include "base/err.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "wire/enc.h"
#include "wire/url.h"

enum {
	CONNECT_MS = 10000,
	CALL_MS = 60000,
	SILENCE_S = 60, /* controllers say something every 15 s */
	DEPTH = 64
};

int
rest_may_send(const struct cli *c, const char *url, char why[REST_WHY])
{
	if (c->at.token == NULL || c->at.insecure ||
	    strncasecmp(url, "https:", 6) == 0 ||
	    strncasecmp(url, "wss:", 4) == 0 || context_is_loopback(url))
		return 0;
	snprintf(why, REST_WHY,
	    "will not send the token to %s in the clear; use https, or "
	    "--insecure if the network between is yours",
	    url);
	return ERR_DENIED;
}

/* curl wants "sha256//" and base64; contexts hold hex. */
static void
set_pin(CURL *curl, const char *pin)
{
	struct buf raw, text;

	buf_init(&raw, 64);
	buf_init(&text, 128);
	buf_put(&text, SL("sha256//"));
	if (enc_get_hex(slice_from(pin), &raw) == 0)
		enc_put_base64(&text, buf_peek(&raw), ENC_STD);
	buf_put_byte(&text, '\0');
	curl_easy_setopt(
	    curl, CURLOPT_PINNEDPUBLICKEY, (const char *)buf_peek(&text).ptr);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
	buf_fini(&raw);
	buf_fini(&text);
}

void
rest_secure(const struct cli *c, void *curl)
{
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(
	    curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(
	    curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
	/* A proxy has no business between us and ourselves. */
	if (context_is_loopback(c->at.url))
		curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	if (c->at.ca_file != NULL)
		curl_easy_setopt(curl, CURLOPT_CAINFO, c->at.ca_file);
	if (c->at.pin != NULL)
		set_pin(curl, c->at.pin);
}

struct explanation {
	CURLcode code;
	int err;
	const char *advice;
};

static const struct explanation explanations[] = {
	{ CURLE_COULDNT_RESOLVE_HOST, ERR_DNS, "check the name in the URL" },
	{ CURLE_COULDNT_RESOLVE_PROXY, ERR_DNS, "check https_proxy" },
	{ CURLE_COULDNT_CONNECT, ERR_UNREACHABLE, "is musterd running there?" },
	{ CURLE_OPERATION_TIMEDOUT, ERR_TIMEOUT, "is a firewall between?" },
	{ CURLE_PEER_FAILED_VERIFICATION, ERR_TLS,
	    "give its CA by MUSTER_CA_FILE, or its key by 'muster login "
	    "--pin'" },
	{ CURLE_SSL_PINNEDPUBKEYNOTMATCH, ERR_TLS,
	    "the controller's key is not the one that was pinned: someone is "
	    "between, or it has a new key" },
	{ CURLE_SSL_CACERT_BADFILE, ERR_TLS,
	    "check MUSTER_CA_FILE and the context's ca_file" },
	{ CURLE_SSL_CONNECT_ERROR, ERR_TLS,
	    "does this port speak TLS? Perhaps the URL begins with http:" },
	{ CURLE_GOT_NOTHING, ERR_CLOSED,
	    "does this port speak TLS? Perhaps the URL begins with https:" },
	{ CURLE_RECV_ERROR, ERR_RESET, "try again" },
	{ CURLE_SEND_ERROR, ERR_RESET, "try again" },
	{ CURLE_PARTIAL_FILE, ERR_RESET, "try again" },
	{ CURLE_OUT_OF_MEMORY, ERR_NOMEM, "free some memory" },
};

int
rest_explain(
    const struct cli *c, int curl_code, const char *detail, char why[REST_WHY])
{
	struct explanation e = { CURLE_OK, ERR_IO, "is this a controller?" };
	const char *text =
	    *detail != '\0' ? detail : curl_easy_strerror((CURLcode)curl_code);

	for (size_t i = 0; i < sizeof(explanations) / sizeof(explanations[0]);
	     i++)
		if (explanations[i].code == (CURLcode)curl_code)
			e = explanations[i];
	snprintf(why, REST_WHY, "cannot talk to %s (from %s): %s; %s",
	    c->at.url, c->at.source, text, e.advice);
	return e.err;
}

/* One call ---------------------------------------------------------------- */

struct call {
	CURL *curl;
	struct curl_slist *fields;
	char url[URL_MAX + 512];
	char detail[CURL_ERROR_SIZE];
};

static int
add_field(struct call *k, const char *name, const char *value)
{
	char line[CONTEXT_TOKEN_MAX + 128];
	struct curl_slist *more;

	snprintf(line, sizeof(line), "%s: %s", name, value);
	more = curl_slist_append(k->fields, line);
	if (more == NULL)
		return ERR_NOMEM;
	k->fields = more;
	return 0;
}

static int
add_fields(struct call *k, const struct cli *c, const struct rest_ask *ask)
{
	char bearer[CONTEXT_TOKEN_MAX + 16];
	int err = 0;

	if (c->at.token != NULL && !ask->anonymous) {
		snprintf(bearer, sizeof(bearer), "Bearer %s", c->at.token);
		err = add_field(k, "Authorization", bearer);
	}
	if (err == 0 && ask->body.ptr != NULL)
		err = add_field(k, "Content-Type", "application/json");
	if (err == 0 && ask->key != NULL)
		err = add_field(k, "Idempotency-Key", ask->key);
	return err;
}

static int
call_begin(struct call *k, struct cli *c, const struct rest_ask *ask,
    char why[REST_WHY])
{
	const char *method = ask->method == NULL ? "GET" : ask->method;
	int err = ask->anonymous ? 0 : rest_may_send(c, c->at.url, why);

	if (err != 0)
		return err;
	if (snprintf(k->url, sizeof(k->url), "%s%.*s", c->at.url,
		SLICE_FMT(ask->path)) >= (int)sizeof(k->url))
		return ERR_TOO_BIG;
	err = add_fields(k, c, ask);
	rest_secure(c, k->curl);
	curl_easy_setopt(k->curl, CURLOPT_URL, k->url);
	curl_easy_setopt(k->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(k->curl, CURLOPT_HTTPHEADER, k->fields);
	curl_easy_setopt(k->curl, CURLOPT_ERRORBUFFER, k->detail);
	curl_easy_setopt(k->curl, CURLOPT_USERAGENT, "muster/" MUSTER_VERSION);
	if (ask->body.ptr != NULL) {
		curl_easy_setopt(k->curl, CURLOPT_POSTFIELDS, ask->body.ptr);
		curl_easy_setopt(
		    k->curl, CURLOPT_POSTFIELDSIZE, (long)ask->body.len);
	}
	return err;
}

void
rest_fini(struct cli *c)
{
	if (c->curl != NULL)
		curl_easy_cleanup(c->curl);
	c->curl = NULL;
}

static void
call_end(struct call *k)
{
	curl_slist_free_all(k->fields);
}

static size_t
gather(char *bytes, size_t one, size_t n, void *arg)
{
	struct buf *body = arg;

	(void)one;
	buf_put(body, (struct slice){ (const uint8_t *)bytes, n });
	return body->err == 0 ? n : 0;
}

static const char *
field_of(CURL *curl, const char *name)
{
	struct curl_header *h;

	return curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &h) ==
		CURLHE_OK
	    ? h->value
	    : NULL;
}

static void
read_fields(CURL *curl, struct answer *out)
{
	const char *date = field_of(curl, "Date");
	const char *retry = field_of(curl, "Retry-After");
	uint64_t seconds;
	time_t at = date == NULL ? -1 : curl_getdate(date, NULL);

	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &out->status);
	out->date = at < 0 ? 0 : (wall_msec)at * 1000;
	if (retry != NULL && slice_u64(slice_from(retry), 86400, &seconds) == 0)
		out->retry_after = (long)seconds;
}

static int
read_body(struct arena *a, struct slice body, struct answer *out)
{
	static const struct js_limits limits = { REST_BODY_MAX, DEPTH };
	int err = arena_copy(a, body, &out->body);

	if (err != 0)
		return err;
	if (js_parse(&out->doc, out->body, &limits, a) == 0)
		out->root = js_root(&out->doc);
	return 0;
}

int
rest_try(struct cli *c, const struct rest_ask *ask, struct answer *out,
    char why[REST_WHY])
{
	struct call k = { 0 };
	struct buf body;
	CURLcode code;
	int err = 0;

	memset(out, 0, sizeof(*out));
	buf_init(&body, REST_BODY_MAX);
	if (c->curl == NULL)
		c->curl = curl_easy_init();
	k.curl = c->curl;
	if (k.curl == NULL) {
		err = ERR_NOMEM;
		goto out;
	}
	curl_easy_reset(k.curl);
	err = call_begin(&k, c, ask, why);
	if (err != 0)
		goto out;
	curl_easy_setopt(k.curl, CURLOPT_TIMEOUT_MS, (long)CALL_MS);
	curl_easy_setopt(k.curl, CURLOPT_WRITEFUNCTION, gather);
	curl_easy_setopt(k.curl, CURLOPT_WRITEDATA, &body);
	code = curl_easy_perform(k.curl);
	if (code != CURLE_OK) {
		err = rest_explain(c, (int)code, k.detail, why);
		goto out;
	}
	read_fields(k.curl, out);
	err = read_body(
	    ask->arena == NULL ? &c->arena : ask->arena, buf_peek(&body), out);
out:
	if (err == ERR_NOMEM || err == ERR_TOO_BIG)
		snprintf(why, REST_WHY, "cannot ask %s: %s", c->at.url,
		    err_name(err));
	buf_fini(&body);
	call_end(&k);
	return err;
}

/* What a refusal says ------------------------------------------------------ */

static struct slice
text_of(struct js_value obj, const char *name)
{
	struct slice s = { 0 };

	if (js_string(js_get(obj, name), &s) != 0)
		s = (struct slice){ 0 };
	return s;
}

static void
put_advice(const struct cli *c, const struct answer *a, struct buf *b)
{
	char text[64];

	if (a->status == 401 && c->at.token == NULL)
		buf_put(b,
		    SL("; no token is set: run 'muster login URL' or set "
		       "MUSTER_TOKEN_FILE"));
	else if (a->status == 401)
		buf_put(b, SL("; run 'muster login' with a valid token"));
	else if (a->status == 403)
		buf_put(b, SL("; 'muster whoami' shows what the token may do"));
	if (a->retry_after > 0) {
		snprintf(
		    text, sizeof(text), "; try again in %ld s", a->retry_after);
		buf_put(b, slice_from(text));
	}
}

int
rest_refused(struct cli *c, const struct answer *a)
{
	struct slice detail = text_of(a->root, "detail");
	struct slice code = text_of(a->root, "code");
	struct slice request = text_of(a->root, "request_id");
	struct buf b;

	buf_init(&b, CLI_LINE);
	if (detail.len == 0)
		detail = text_of(a->root, "title");
	if (detail.len > 0)
		buf_put(&b, slice_first(detail, CLI_LINE / 2));
	else
		buf_put(&b, SL("the controller refused"));
	buf_put(&b, SL(" ("));
	buf_put_u64(&b, (uint64_t)a->status);
	if (code.len > 0) {
		buf_put_byte(&b, ' ');
		buf_put(&b, slice_first(code, 64));
	}
	if (request.len > 0) {
		buf_put(&b, SL(", request "));
		buf_put(&b, slice_first(request, 64));
	}
	buf_put_byte(&b, ')');
	put_advice(c, a, &b);
	cli_fail(c, 0, "%.*s", SLICE_FMT(buf_peek(&b)));
	buf_fini(&b);
	return exit_of_refusal(a->status, code);
}

static int
exit_of_err(int err)
{
	return err == ERR_DENIED ? EXIT_USAGE : EXIT_FAILED;
}

int
rest_call(struct cli *c, const struct rest_ask *ask, struct answer *out)
{
	char why[REST_WHY];
	int err = rest_try(c, ask, out, why);

	if (err != 0)
		return cli_fail(c, exit_of_err(err), "%s%s", why,
		    err == ERR_DENIED ? "" : " 'muster doctor' looks closer");
	if (out->status < 200 || out->status > 299)
		return rest_refused(c, out);
	if (out->status != 204 && out->root.kind == JS_NONE)
		return cli_fail(c, EXIT_FAILED,
		    "%s answered without JSON; is it a controller? 'muster "
		    "doctor' looks closer",
		    c->at.url);
	return EXIT_OK;
}

int
rest_get(struct cli *c, struct slice path, struct answer *out)
{
	struct rest_ask ask = { .path = path };

	return rest_call(c, &ask, out);
}

/* Streams ------------------------------------------------------------------ */

struct streaming {
	const struct rest_stream *spec;
	struct call call;
	CURLcode code;
	struct buf refusal; /* the body of an answer that is not 2xx */
	bool stopped;
	bool told; /* the head */
};

static struct slice
header_of(CURL *curl, const char *name)
{
	struct curl_header *h;

	return curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &h) ==
		CURLHE_OK
	    ? slice_from(h->value)
	    : (struct slice){ 0 };
}

static void
tell_head(struct streaming *s)
{
	char offset[32] = "";

	if (s->told || s->spec->head == NULL)
		return;
	s->told = true;
	/* What it gives is gone with the next call. */
	(void)slice_cstr(
	    header_of(s->call.curl, "X-Muster-Offset"), offset, sizeof(offset));
	s->spec->head(s->spec->arg, slice_from(offset),
	    header_of(s->call.curl, "X-Muster-Gap"));
}

static size_t
hand_on(char *bytes, size_t one, size_t n, void *arg)
{
	struct streaming *s = arg;
	struct slice piece = { (const uint8_t *)bytes, n };
	long status = 0;

	(void)one;
	curl_easy_getinfo(s->call.curl, CURLINFO_RESPONSE_CODE, &status);
	if (status > 299) {
		buf_put(&s->refusal, piece);
		return s->refusal.err == 0 ? n : 0;
	}
	tell_head(s);
	s->stopped = !s->spec->take(s->spec->arg, piece);
	return s->stopped ? 0 : n;
}

static int
stream_fields(struct call *k, const struct rest_stream *spec)
{
	char id[256];
	int err = 0;

	if (spec->accept != NULL)
		err = add_field(k, "Accept", spec->accept);
	if (err == 0 && spec->last_event.len > 0 &&
	    slice_cstr(spec->last_event, id, sizeof(id)) == 0)
		err = add_field(k, "Last-Event-ID", id);
	curl_easy_setopt(k->curl, CURLOPT_HTTPHEADER, k->fields);
	return err;
}

static int
stream_begin(
    struct cli *c, struct streaming *s, CURLM *multi, char why[REST_WHY])
{
	struct rest_ask ask = { .path = s->spec->path };
	int err;

	s->call.curl = curl_easy_init();
	if (s->call.curl == NULL)
		return ERR_NOMEM;
	err = call_begin(&s->call, c, &ask, why);
	if (err == 0)
		err = stream_fields(&s->call, s->spec);
	if (err != 0)
		return err;
	curl_easy_setopt(s->call.curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(s->call.curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
	curl_easy_setopt(s->call.curl, CURLOPT_WRITEFUNCTION, hand_on);
	curl_easy_setopt(s->call.curl, CURLOPT_WRITEDATA, s);
	return curl_multi_add_handle(multi, s->call.curl) == CURLM_OK
	    ? 0
	    : ERR_NOMEM;
}

static int
stream_end(struct cli *c, struct streaming *s, bool *broken)
{
	char why[REST_WHY];
	struct answer a = { 0 };

	if (s->stopped)
		return EXIT_OK;
	read_fields(s->call.curl, &a);
	if (s->code == CURLE_OK && a.status > 299) {
		if (read_body(&c->arena, buf_peek(&s->refusal), &a) != 0)
			return cli_nomem(c);
		return rest_refused(c, &a);
	}
	if (a.status > 0 && a.status <= 299)
		tell_head(s);
	if (s->code == CURLE_OK)
		return EXIT_OK;
	*broken |= a.status == 0 || a.status <= 299;
	/* Output breaks off where a gap begins: the caller goes on behind it.
	 */
	if (s->told)
		return EXIT_OK;
	rest_explain(c, (int)s->code, s->call.detail, why);
	return cli_fail(c, EXIT_FAILED, "%s", why);
}

static void
note_results(CURLM *multi, struct streaming *s, size_t count)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(multi, &left)) != NULL)
		for (size_t i = 0; i < count; i++)
			if (s[i].call.curl == m->easy_handle)
				s[i].code = m->data.result;
}

static void
stream_all(CURLM *multi, struct streaming *s, size_t count)
{
	int running = 1;

	while (curl_multi_perform(multi, &running) == CURLM_OK && running > 0)
		curl_multi_poll(multi, NULL, 0, 1000, NULL);
	note_results(multi, s, count);
}

static void
stream_fini(struct streaming *s, CURLM *multi)
{
	if (s->call.curl != NULL) {
		curl_multi_remove_handle(multi, s->call.curl);
		curl_easy_cleanup(s->call.curl);
	}
	call_end(&s->call);
	buf_fini(&s->refusal);
}

int
rest_stream(
    struct cli *c, const struct rest_stream *specs, size_t count, bool *broken)
{
	struct streaming s[REST_STREAMS] = { 0 };
	CURLM *multi = curl_multi_init();
	char why[REST_WHY] = "out of memory";
	int exit = EXIT_OK, err = multi == NULL ? ERR_NOMEM : 0;

	*broken = false;
	for (size_t i = 0; i < count && err == 0; i++) {
		s[i].spec = &specs[i];
		s[i].code = CURLE_OK;
		buf_init(&s[i].refusal, (size_t)1 << 20);
		err = stream_begin(c, &s[i], multi, why);
	}
	if (err == 0)
		stream_all(multi, s, count);
	else
		exit = cli_fail(c, exit_of_err(err), "%s", why);
	for (size_t i = 0; i < count && exit == EXIT_OK; i++)
		exit = stream_end(c, &s[i], broken);
	for (size_t i = 0; i < count; i++)
		stream_fini(&s[i], multi);
	if (multi != NULL)
		curl_multi_cleanup(multi);
	return exit;
}

/* Lists -------------------------------------------------------------------- */

static int
list_page(struct cli *c, struct slice path, struct slice cursor,
    struct arena *a, struct answer *out)
{
	struct rest_ask ask = { .arena = a };
	struct buf b;
	int exit;

	buf_init(&b, URL_MAX);
	buf_put(&b, path);
	if (cursor.len > 0) {
		buf_put(&b, SL("&cursor="));
		url_put_encoded(&b, cursor);
	}
	ask.path = buf_peek(&b);
	exit = b.err != 0 ? cli_nomem(c) : rest_call(c, &ask, out);
	buf_fini(&b);
	return exit;
}

struct list_walk {
	rest_each_fn *each;
	void *arg;
	size_t left;
	struct slice schema; /* of the list, in c's arena */
	char cursor[1024];   /* of the next page; "" at the end */
};

static int
walk_page(struct cli *c, struct list_walk *w, const struct answer *a)
{
	struct js_walk items = js_walk(js_get(a->root, "items"));
	struct slice next = text_of(a->root, "next");
	struct js_value item;

	/* Each page brings the end nearer, or there is none. */
	if (next.len > 0 &&
	    (slice_eq(next, slice_from(w->cursor)) ||
		js_count(js_get(a->root, "items")) == 0))
		return cli_fail(c, EXIT_FAILED,
		    "the controller sent a list that does not end");
	if (slice_cstr(next, w->cursor, sizeof(w->cursor)) != 0)
		return cli_fail(
		    c, EXIT_FAILED, "the controller sent an endless cursor");
	if (w->schema.ptr == NULL &&
	    arena_copy(&c->arena, text_of(a->root, "schema"), &w->schema) != 0)
		return cli_nomem(c);
	while (w->left > 0 && js_next(&items, NULL, &item)) {
		int exit = w->each(c, w->arg, item);

		if (exit != EXIT_OK)
			return exit;
		w->left--;
	}
	return EXIT_OK;
}

static int
walk_list(struct cli *c, struct slice path, size_t max, struct list_walk *w)
{
	struct answer page;
	struct arena a;
	int exit;

	w->left = max == 0 ? SIZE_MAX : max;
	arena_init(&a, CLI_MEMORY);
	do {
		arena_reset(&a);
		exit = list_page(c, path, slice_from(w->cursor), &a, &page);
		if (exit == EXIT_OK)
			exit = walk_page(c, w, &page);
	} while (exit == EXIT_OK && w->left > 0 && w->cursor[0] != '\0');
	arena_fini(&a);
	return exit;
}

int
rest_list(
    struct cli *c, struct slice path, size_t max, rest_each_fn *each, void *arg)
{
	struct list_walk w = { .each = each, .arg = arg };

	return walk_list(c, path, max, &w);
}

struct gathering {
	struct buf out;
	bool any;
};

static int
gather_item(struct cli *c, void *arg, struct js_value item)
{
	struct gathering *g = arg;

	(void)c;
	if (g->any)
		buf_put_byte(&g->out, ',');
	g->any = true;
	safe_json(&g->out, js_raw(item));
	return EXIT_OK;
}

int
rest_list_json(struct cli *c, struct slice path, size_t max)
{
	struct gathering g = { 0 };
	struct list_walk w = { .each = gather_item, .arg = &g };
	struct buf out;
	int exit;

	buf_init(&g.out, CLI_OUTPUT);
	buf_init(&out, CLI_OUTPUT);
	exit = walk_list(c, path, max, &w);
	if (exit == EXIT_OK) {
		buf_put(&out, SL("{\"schema\":\""));
		safe_text(&out, w.schema);
		buf_put(&out, SL("\",\"items\":["));
		buf_put(&out, buf_peek(&g.out));
		buf_put(&out, SL("]}\n"));
		exit = cli_print(c, &out);
	}
	buf_fini(&out);
	buf_fini(&g.out);
	return exit;
}

int
rest_print(struct cli *c, struct js_value v)
{
	struct buf out;

	buf_init(&out, CLI_OUTPUT);
	safe_json(&out, js_raw(v));
	buf_put_byte(&out, '\n');
	return cli_print(c, &out);
}
