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
check_signature(const struct signed_envelope *e, const struct slice *keys,
    size_t count, struct buf *scratch, size_t *key)
{
	static const struct slice nobody = SL_INIT("nobody's");
	int err = canon_verify(js_root(&e->doc), count == 0 ? &nobody : keys,
	    count == 0 ? 1 : count, scratch, NULL, key);

	return err == 0 && count == 0 ? ERR_DENIED : err;
}

int
signed_check(const struct signed_envelope *e, struct slice agent_id,
    const struct slice *keys, size_t count, wall_msec now, struct buf *scratch,
    struct signed_refusal *no, size_t *key)
{
	int err = check_signature(e, keys, count, scratch, key);

	*no = (struct signed_refusal){ 0 };
	if (err != 0 && err != ERR_DENIED)
		return err;
	if (count == 0 || !slice_eq(e->agent_id, agent_id))
		*no =
		    refuse(WS_CODE_POLICY, SL("unknown_agent"), ERR_NOT_FOUND);
	else if (err != 0)
		*no = refuse(WS_CODE_POLICY, SL("invalid_signature"), err);
	else if (e->ts < now - SIGNED_OLD_MAX || e->ts > now + SIGNED_AHEAD_MAX)
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
    struct slice verb, msec now, wall_msec wall)
{
	if (p->order_count == SIGNED_ORDERS) {
		p->order_count--;
		memmove(p->orders, p->orders + 1,
		    p->order_count * sizeof(p->orders[0]));
	}
	for (size_t i = 0; i < p->order_count; i++) {
		if (!p->orders[i].over)
			p->orders[i].over_at = now;
		p->orders[i].over = true;
	}
	struct signed_order *o = &p->orders[p->order_count++];
	*o = (struct signed_order){ .given_at = now, .wall = wall };
	assert(r->id.len <= sizeof(o->id) && verb.len <= sizeof(o->verb));
	memcpy(o->id, r->id.ptr, r->id.len);
	o->id_len = r->id.len;
	memcpy(o->verb, verb.ptr, verb.len);
	o->verb_len = verb.len;
}

int
signed_encode(struct signed_peer *p, const struct command_record *r,
    struct slice key, struct slice nonce, msec now, wall_msec wall,
    struct arena *a, struct buf *out)
{
	struct verb_call v;
	struct slice why;
	struct buf payload;
	size_t before = buf_peek(out).len;

	int err = verbs_read(r, a, &v, &why);
	if (err != 0)
		return err;
	buf_init(&payload, SIGNED_SEND_MAX);
	err = put_payload(&v, &payload);
	const struct canon_message m = { .type = SL("command"),
		.agent_id = p->agent_id,
		.ts = wall,
		.nonce = nonce,
		.payload = buf_peek(&payload) };
	if (err == 0)
		err = canon_sign(key, &m, out);
	buf_fini(&payload);
	if (err == 0 && buf_peek(out).len - before > SIGNED_SEND_MAX)
		err = ERR_TOO_BIG;
	if (err == 0)
		note_order(p, r, v.verb, now, wall);
	return err;
}
