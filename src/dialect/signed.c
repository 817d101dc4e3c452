/* Envelopes: whose they are, whether they are believed; and those of ours. */
#include <assert.h>

#include "base/err.h"
#include "base/js_write.h"

#include "wire/canon.h"
#include "wire/ws.h"

#include "model/verbs.h"

#include "dialect/signed.h"

enum { TEXT_MAX = 1 << 20 };

static struct signed_refusal
refuse(uint16_t code, struct slice reason, int err)
{
	return (struct signed_refusal){ code, reason, err };
}

/* Texts that name no agent are whose nobody knows. */
static struct slice
text_of(struct js_value root, const char *name)
{
	struct slice s = { 0 };

	js_string(js_get(root, name), &s);
	return s;
}

int
signed_read(struct slice text, struct arena *a, struct signed_envelope *out,
    struct signed_refusal *no)
{
	const struct js_limits limits = { TEXT_MAX, SIGNED_DEPTH_MAX };
	int err = js_parse(&out->doc, text, &limits, a);

	if (err == ERR_NOMEM)
		return err;
	*no = (struct signed_refusal){ 0 };
	if (err == 0 && out->doc.repeated.ptr != NULL)
		err = ERR_DUPLICATE;
	if (err == 0 && js_root(&out->doc).kind != JS_OBJECT)
		err = ERR_TYPE;
	if (err != 0) {
		*no = refuse(WS_CODE_TYPE, SL("invalid_json"), err);
		return 0;
	}
	struct js_value root = js_root(&out->doc);
	out->type = text_of(root, "type");
	out->agent_id = text_of(root, "agentId");
	out->nonce = text_of(root, "nonce");
	if (js_i64(js_get(root, "ts"), &out->ts) != 0)
		out->ts = INT64_MIN;
	return 0;
}

/* The same work for an agent that there is not. */
static int
check_signature(
    const struct signed_envelope *e, const struct signed_judge *j, size_t *key)
{
	static const struct slice nobody = SL_INIT("nobody's");
	struct canon_match how = { 0 };
	bool none = j->count == 0;
	int err = canon_verify(js_root(&e->doc), none ? &nobody : j->keys,
	    none ? 1 : j->count, j->work, &how);

	*key = how.key;
	return err == 0 && none ? ERR_DENIED : err;
}

int
signed_check(const struct signed_envelope *e, const struct signed_judge *j,
    struct signed_refusal *no, size_t *key)
{
	int err = check_signature(e, j, key);

	*no = (struct signed_refusal){ 0 };
	if (err != 0 && err != ERR_DENIED)
		return err;
	if (j->count == 0 || !slice_eq(e->agent_id, j->agent_id))
		*no =
		    refuse(WS_CODE_POLICY, SL("unknown_agent"), ERR_NOT_FOUND);
	else if (err != 0)
		*no = refuse(WS_CODE_POLICY, SL("invalid_signature"), err);
	else if (e->ts < j->now - SIGNED_OLD_MAX ||
	    e->ts > j->now + SIGNED_AHEAD_MAX)
		*no = refuse(
		    WS_CODE_POLICY, SL("invalid_timestamp"), ERR_EXPIRED);
	else if (e->nonce.len == 0 || e->nonce.len > SIGNED_NONCE_MAX)
		*no = refuse(WS_CODE_POLICY, SL("invalid_nonce"), ERR_INVALID);
	return 0;
}

struct signed_refusal
signed_nonce_refusal(int err)
{
	if (err == 0)
		return (struct signed_refusal){ 0 };
	if (err == ERR_EXISTS)
		return refuse(WS_CODE_POLICY, SL("replayed_nonce"), err);
	if (err == ERR_FULL)
		return refuse(WS_CODE_POLICY, SL("too_many_nonces"), err);
	return refuse(WS_CODE_INTERNAL, SL("internal_error"), err);
}

/* Ours --------------------------------------------------------------------- */

static int
put_payload(const struct verb_call *v, struct buf *out)
{
	struct js_writer w;

	js_write_ascii(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "command", v->verb);
	js_kv_object(&w, "args");
	for (size_t i = 0; i < v->count; i++) {
		js_key(&w, v->args[i].name);
		js_put_string(&w, v->args[i].value);
	}
	js_end(&w);
	js_end(&w);
	return js_finish(&w);
}

/* One is given when the one before is over, in whatever way. */
static void
note_order(struct signed_peer *p, const struct command_record *r,
    struct slice verb, const struct signed_context *c)
{
	if (p->order_count == SIGNED_ORDERS) {
		p->order_count--;
		memmove(p->orders, p->orders + 1,
		    p->order_count * sizeof(p->orders[0]));
	}
	for (size_t i = 0; i < p->order_count; i++) {
		if (!p->orders[i].over)
			p->orders[i].over_at = c->now;
		p->orders[i].over = true;
	}
	struct signed_order *o = &p->orders[p->order_count++];
	assert(r->id.len <= sizeof(o->id));
	*o = (struct signed_order){ .id_len = (uint8_t)r->id.len,
		.verb = (int8_t)verbs_find(verb),
		.given_at = c->now,
		.wall = c->wall };
	memcpy(o->id, r->id.ptr, r->id.len);
}

int
signed_encode(struct signed_peer *p, const struct command_record *r,
    const struct signed_pen *pen, const struct signed_context *c,
    struct buf *out)
{
	struct verb_call v;
	struct slice why;
	struct buf payload;
	size_t before = buf_peek(out).len;

	int err = verbs_read(r, c->a, &v, &why);
	if (err != 0)
		return err;
	buf_init(&payload, SIGNED_SEND_MAX);
	err = put_payload(&v, &payload);
	const struct canon_message m = { .type = SL("command"),
		.agent_id = p->agent_id,
		.ts = c->wall,
		.nonce = pen->nonce,
		.payload = buf_peek(&payload) };
	if (err == 0)
		err = canon_sign(pen->key, &m, out);
	buf_fini(&payload);
	if (err == 0 && buf_peek(out).len - before > SIGNED_SEND_MAX)
		err = ERR_TOO_BIG;
	if (err == 0)
		note_order(p, r, v.verb, c);
	return err;
}
