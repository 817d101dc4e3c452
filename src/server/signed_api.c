/*
 * Secrets of agents that sign.  The text is sealed before the hub sees it,
 * and goes back to whoever made it, once.
 */
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "io/rand.h"

#include "server/api.h"
#include "server/show.h"
#include "server/vault.h"

#include "server/signed.h"

enum { SECRET_MIN = 8, SECRET_MAX = 4096, ID_MAX = 128 };

static const struct slice none;

struct wish {
	struct slice agent_id;
	bool prefix;
	struct slice secret; /* given; or absent: one is made */
	int64_t overlap;
	struct slice field, why; /* what is wrong */
};

static int
wrong(struct wish *w, struct slice field, struct slice why, int err)
{
	w->field = field;
	w->why = why;
	return err;
}

/* "prod-*" is a prefix. */
static void
name_owner(struct wish *w, struct slice text)
{
	w->prefix = slice_ends(text, SL("*"));
	w->agent_id = slice_first(text, text.len - w->prefix);
}

static int
read_body(struct call *call, struct wish *w)
{
	const int64_t month = INT64_C(31) * 86400000;
	const struct js_limits limits = { 64 * 1024, 8 };
	struct slice body = buf_peek(&call->body), agent_id = none;
	struct js_doc *doc = arena_alloc(&call->arena, sizeof(*doc));
	struct js_fields f;

	if (doc == NULL)
		return ERR_NOMEM;
	if (body.len == 0)
		body = SL("{}");
	int err = js_parse(doc, body, &limits, &call->arena);
	if (err == ERR_NOMEM)
		return err;
	if (err != 0 || doc->repeated.ptr != NULL)
		return wrong(w, doc->repeated,
		    SL("the body is no object of different members"),
		    ERR_INVALID);
	js_fields_init(&f, js_root(doc));
	if (call->route->op == OP_SIGNED_ADD)
		js_need_string(&f, "agent_id", &agent_id);
	js_opt_bool(&f, "prefix", false, &w->prefix);
	js_opt_string(&f, "secret", &w->secret);
	js_opt_i64(&f, "overlap_ms", 0, month, 3600000, &w->overlap);
	if (f.err != 0)
		return wrong(w, f.field,
		    SL("a member is missing, or not what it should be"), f.err);
	if (call->route->op == OP_SIGNED_ADD)
		w->agent_id = agent_id;
	else
		name_owner(w, call->params[0]);
	if (w->agent_id.len == 0 || w->agent_id.len > ID_MAX)
		return wrong(w, SL("agent_id"),
		    SL("agent_id has 1 to 128 bytes"), ERR_RANGE);
	if (w->secret.ptr != NULL &&
	    (w->secret.len < SECRET_MIN || w->secret.len > SECRET_MAX))
		return wrong(w, SL("secret"),
		    SL("a secret has 8 to 4096 bytes"), ERR_RANGE);
	return 0;
}

/* The text that is shown once stays with the call. */
static int
make_secret(struct call *call, struct wish *w)
{
	char text[RAND_TOKEN_SIZE];
	struct slice *kept = arena_alloc(&call->arena, sizeof(*kept));

	if (kept == NULL)
		return ERR_NOMEM;
	rand_token("sgs_", text);
	int err = arena_copy(&call->arena,
	    w->secret.ptr == NULL ? slice_from(text) : w->secret, kept);
	explicit_bzero(text, sizeof(text));
	call->state = kept;
	w->secret = *kept;
	return err;
}

static int
seal(struct conn *c, const struct wish *w, struct arena *a,
    struct secret_record *out)
{
	struct buf owner;

	buf_init(&owner, 2 * ID_MAX);
	buf_put(&owner, w->agent_id);
	if (w->prefix)
		buf_put_byte(&owner, '*');
	out->prefix = w->prefix;
	int err = owner.err;
	if (err == 0)
		err = arena_copy(a, w->agent_id, &out->agent_id);
	if (err == 0)
		err = vault_seal(c->dock->server->secrets_key, buf_peek(&owner),
		    w->secret, a, &out->sealed);
	buf_fini(&owner);
	return err;
}

static int
read_request(struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct wish *w)
{
	struct secret_record *r = arena_alloc(a, sizeof(*r));
	int err = r == NULL ? ERR_NOMEM : read_body(call, w);

	if (err == 0)
		err = make_secret(call, w);
	if (err == 0)
		err = seal(c, w, a, r);
	q->secret = r;
	q->overlap = w->overlap;
	return err;
}

void
signed_api_ask(struct conn *c, struct call *call)
{
	bool makes = call->route->op == OP_SIGNED_ADD ||
	    call->route->op == OP_SIGNED_ROTATE;
	struct wish w = { 0 };
	struct arena *a;
	struct event *ev = api_question(c, call, &a);
	int err = 0;

	if (ev != NULL && makes)
		err = read_request(c, call, a, &ev->request, &w);
	api_post(c, ev, err, &(struct api_fault){ w.field, w.why });
}

static void
put_secret(struct js_writer *w, const struct secret_record *r,
    const struct slice *text)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.secret/1"));
	js_kv_string(w, "id", r->id);
	js_kv_string(w, "agent_id", r->agent_id);
	js_kv_bool(w, "prefix", r->prefix);
	if (text != NULL)
		js_kv_string(w, "secret", *text);
	js_kv_i64(w, "workspace_id", r->workspace_id);
	show_at(w, "created_at", r->created_at);
	show_at(w, "rotated_at", r->rotated_at);
	show_at(w, "old_until", r->old_until);
	js_end(w);
}

static void
put_list(struct js_writer *w, const struct reply *r)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.secrets/1"));
	js_kv_array(w, "items");
	for (size_t i = 0; i < r->secret_count; i++)
		put_secret(w, &r->secrets[i], NULL);
	js_end(w);
	js_kv_null(w, "next");
	js_kv_u64(w, "total", r->total);
	js_end(w);
}

void
signed_api_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;
	struct buf *text = &c->dock->text;
	struct js_writer w;

	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	buf_clear(text);
	js_write(&w, text);
	if (r->op == OP_SIGNED_LIST)
		put_list(&w, r);
	else
		put_secret(&w, &r->secrets[0], call->state);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, r->status, "application/json", buf_peek(text));
	/* The secret may be in it. */
	explicit_bzero(text->mem, text->alloc);
}
