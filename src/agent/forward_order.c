#include <stdarg.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/js.h"
#include "wire/be.h"

#include "agent/forward_order.h"

enum { DEPTH_MAX = 8, WISH_ARENA = 1024 * 1024, WITHIN_MOST = 5 * 60 * 1000 };

int
forward_refuse(
    struct forward_refusal *no, const char *code, const char *format, ...)
{
	va_list ap;

	no->code = code;
	no->line = 0;
	va_start(ap, format);
	(void)vsnprintf(no->text, sizeof(no->text), format, ap);
	va_end(ap);
	return ERR_DENIED;
}

/* Hosts ---------------------------------------------------------------------
 */

static int
spell(struct slice host, char out[TARGET_HOST], struct forward_refusal *no)
{
	int err = target_spell(host, out);

	if (err == ERR_DENIED)
		return forward_refuse(no, "TARGET_REFUSED",
		    "%.*s is no plain address", SLICE_FMT(host));
	if (err != 0)
		return forward_refuse(no, "INVALID", "no host has this name");
	return 0;
}

/* A service of a cluster, or outside of one a plain host. */
static int
spell_service(struct slice service, struct slice namespace, const char *domain,
    char out[TARGET_HOST], struct forward_refusal *no)
{
	char name[2 * TARGET_HOST];

	if (namespace.len == 0 || domain[0] == '\0')
		return spell(service, out, no);
	if (service.len + namespace.len >= TARGET_HOST || service.len == 0)
		return forward_refuse(
		    no, "INVALID", "no service has this name");
	(void)snprintf(name, sizeof(name), "%.*s.%.*s.svc.%s",
	    SLICE_FMT(service), SLICE_FMT(namespace), domain);
	return spell(slice_from(name), out, no);
}

static int
spell_listen(
    struct slice host, char out[TARGET_HOST], struct forward_refusal *no)
{
	union addr a;

	if (slice_eq(host, SL("*")))
		return slice_cstr(host, out, TARGET_HOST);
	int err = spell(host, out, no);
	if (err == 0 && !target_is_loopback(out) &&
	    addr_parse_ip(slice_from(out), 0, &a) != 0)
		return forward_refuse(
		    no, "INVALID", "%s is no address to listen at", out);
	return err;
}

static void
keep_id(struct slice id, char out[FORWARD_ID + 1])
{
	size_t n = id.len < FORWARD_ID ? id.len : FORWARD_ID;

	for (size_t i = 0; i < n; i++)
		out[i] =
		    id.ptr[i] > ' ' && id.ptr[i] < 0x7f ? (char)id.ptr[i] : '?';
	out[n] = '\0';
}

/* Version 2 -----------------------------------------------------------------
 */

struct fields {
	struct slice id, host, service, namespace, tls_name;
	struct js_value tls, listen;
	int64_t port, within;
	bool insecure;
};

static int
read_tls(struct fields *w)
{
	struct js_fields f;

	if (w->tls.kind == JS_NONE)
		return 0;
	js_fields_init(&f, w->tls);
	js_opt_bool(&f, "insecure", false, &w->insecure);
	js_opt_string(&f, "name", &w->tls_name);
	return f.err;
}

static int
read_listen(struct fields *w)
{
	struct js_fields f;

	js_fields_init(&f, w->listen);
	js_opt_string(&f, "host", &w->host);
	js_need_i64(&f, "port", 0, UINT16_MAX, &w->port);
	if (w->host.len == 0)
		w->host = SL("127.0.0.1");
	return f.err;
}

static int
read_fields(struct js_value root, struct fields *w)
{
	struct js_fields f;

	js_fields_init(&f, root);
	js_opt_string(&f, "id", &w->id);
	js_opt_i64(&f, "connect_ms", 0, INT64_MAX, 0, &w->within);
	js_opt_kind(&f, "listen", JS_OBJECT, &w->listen);
	if (f.err != 0 || w->listen.kind != JS_NONE)
		return f.err != 0 ? f.err : read_listen(w);
	js_opt_string(&f, "host", &w->host);
	js_opt_string(&f, "service", &w->service);
	js_opt_string(&f, "namespace", &w->namespace);
	js_opt_kind(&f, "tls", JS_OBJECT, &w->tls);
	js_need_i64(&f, "port", 1, UINT16_MAX, &w->port);
	if (f.err == 0 && (w->host.len == 0) == (w->service.len == 0))
		f.err = ERR_MISSING; /* one of the two */
	return f.err != 0 ? f.err : read_tls(w);
}

static int
take_fields(const struct fields *f, const char *domain, struct forward_wish *w,
    struct forward_refusal *no)
{
	int err;

	keep_id(f->id, w->id);
	w->port = (uint16_t)f->port;
	w->listen = f->listen.kind != JS_NONE;
	w->tls = f->tls.kind != JS_NONE;
	w->insecure = f->insecure;
	w->within = f->within == 0    ? FORWARD_CONNECT
	    : f->within > WITHIN_MOST ? WITHIN_MOST
				      : f->within;
	if (w->tls && w->udp)
		return forward_refuse(no, "INVALID", "TLS needs tcp");
	if (w->listen)
		return spell_listen(f->host, w->host, no);
	if (f->host.len > 0)
		err = spell(f->host, w->host, no);
	else
		err = spell_service(
		    f->service, f->namespace, domain, w->host, no);
	if (err == 0 && f->tls_name.len > 0)
		err = spell(f->tls_name, w->tls_name, no);
	return err;
}

static int
read_json(struct slice json, const char *domain, struct forward_wish *w,
    struct forward_refusal *no)
{
	const struct js_limits limits = { UINT16_MAX, DEPTH_MAX };
	struct fields f = { 0 };
	struct js_doc *doc;
	struct arena a;

	arena_init(&a, WISH_ARENA);
	doc = arena_alloc(&a, sizeof(*doc));
	int err = doc == NULL ? ERR_NOMEM : js_parse(doc, json, &limits, &a);
	if (err == 0 && doc->repeated.ptr != NULL)
		err = ERR_DUPLICATE;
	if (err == 0)
		err = read_fields(js_root(doc), &f);
	if (err == 0)
		err = take_fields(&f, domain, w, no);
	else if (err != ERR_NOMEM)
		err = forward_refuse(no, "INVALID",
		    "the opening cannot be read: %s", err_name(err));
	arena_fini(&a);
	return err;
}

int
forward_read(const struct opening *o, const char *domain,
    struct forward_wish *out, struct forward_refusal *no)
{
	struct forward_wish w = { .within = FORWARD_CONNECT };
	int err;

	if (o->version == 1) {
		w.udp = o->proto == OPENING_UDP;
		w.port = o->port;
		keep_id(o->tunnel_id, w.id);
		err = o->port == 0 ? forward_refuse(no, "INVALID", "no port")
				   : spell_service(o->service, o->namespace,
					 domain, w.host, no);
	} else if (o->kind == OPENING_KIND_TCP || o->kind == OPENING_KIND_UDP) {
		w.answers = true;
		w.udp = o->kind == OPENING_KIND_UDP;
		err = read_json(o->json, domain, &w, no);
	} else {
		err = ERR_UNSUPPORTED;
	}
	*out = w;
	return err;
}

/* Policy --------------------------------------------------------------------
 */

int
forward_permit(const struct policy *p, const struct forward_wish *w,
    struct forward_refusal *no)
{
	struct slice host = slice_from(w->host);
	struct policy_verdict v = w->listen
	    ? policy_check_listen(p, host, w->port)
	    : policy_check_target(p, host, w->port);

	if (v.allowed)
		return 0;
	(void)forward_refuse(no, "NOT_PERMITTED", "%s", v.why);
	no->line = v.line;
	return ERR_DENIED;
}

/* Others --------------------------------------------------------------------
 */

int
forward_read_answer(struct slice in, bool *yes)
{
	if ((in.len > 0 && in.ptr[0] != 2) || (in.len > 1 && in.ptr[1] > 1))
		return ERR_PROTOCOL;
	if (in.len < 4)
		return 0;
	size_t n = be_get16(in.ptr + 2);
	if (in.len - 4 < n)
		return 0;
	*yes = in.ptr[1] == 0;
	return (int)(4 + n);
}

void
forward_find_domain(struct slice resolv, char out[TARGET_HOST])
{
	struct slice line, word;

	out[0] = '\0';
	while (slice_split(&resolv, '\n', &line)) {
		if (!slice_starts(line, SL("search ")))
			continue;
		line = slice_from_at(line, 7);
		while (slice_split(&line, ' ', &word))
			if (slice_starts(word, SL("svc.")) &&
			    slice_cstr(
				slice_from_at(word, 4), out, TARGET_HOST) == 0)
				return;
	}
}
