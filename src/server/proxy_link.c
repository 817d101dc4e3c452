#include "base/alloc.h"
#include "base/err.h"

#include "wire/be.h"

#include "io/log.h"

#include "server/wsrole.h"

#include "server/proxy_link.h"

enum {
	ARENA_MAX = 64 << 20,
	KEPT = 64 * 1024, /* of scratch, between messages */
	PROBE = 10,       /* bytes of a ping: "px", a number */
};

int
proxy_link_open(struct link_conn *l, const struct proxy_features *f)
{
	uint64_t seed[2];

	if (l->proxy == NULL) {
		l->proxy = alloc_new(sizeof(*l->proxy));
		if (l->proxy == NULL)
			return ERR_NOMEM;
		rand_fill(seed, sizeof(seed));
		l->proxy->link = l;
		map_init(&l->proxy->uses, PROXY_USES, seed);
		list_init(&l->proxy->list);
		list_init(&l->proxy->awaiting);
		arena_init(&l->proxy->arena, ARENA_MAX);
		buf_init(&l->proxy->body, PROXY_BODY_MAX);
		stream_set_cap(l->conn->stream, PROXY_LINK_QUEUE * 2);
	}
	l->proxy->features = *f;
	return 0;
}

void
proxy_link_close(struct link_conn *l)
{
	struct proxy_link *p = l->proxy;
	struct list *at;

	if (p == NULL)
		return;
	while ((at = list_pop(&p->list)) != NULL) {
		struct proxy_use *u = LIST_OF(at, struct proxy_use, of_link);
		map_del(&p->uses, proxy_use_id(u));
		list_remove(&u->awaiting);
		u->link = NULL;
		u->ops->lost(u);
	}
	map_fini(&p->uses);
	arena_fini(&p->arena);
	buf_fini(&p->body);
	alloc_free(p);
	l->proxy = NULL;
}

/* What the agent says -------------------------------------------------------
 */

/* Once a type, and never again: the agent says it only once, too. */
static void
learn(struct proxy_link *p, struct slice type)
{
	log_info("protocol_fallback", kv_s("remote", link_remote(p->link)),
	    kv_s("type", type));
	if (slice_eq(type, SL("proxy_request")))
		p->unable = true;
	if (slice_eq(type, SL("proxy_cancel")))
		p->no_cancel = true;
	if (slice_eq(type, SL("proxy_request_chunk")) ||
	    slice_eq(type, SL("proxy_request_stream_end")))
		p->features.streaming = false;
}

static bool
was_complete(const struct proxy_link *p, struct slice id)
{
	for (size_t i = 0; i < PROXY_ENDED; i++) {
		if (slice_eq(slice_from(p->ended[i]), id))
			return id.len > 0;
	}
	return false;
}

/* Said twice, too late, or for nobody.  A part of a body behind its end is
 * another thing: whoever turns parts about is asked for whole answers from now
 * on. */
void
proxy_link_ignored(struct proxy_link *p, const struct proxy_said *said)
{
	p->link->conn->dock->server->counts.proxy_ignored++;
	if (said->kind == PROXY_BAD)
		log_info("bad_message", kv_s("remote", link_remote(p->link)),
		    kv_e("err", said->err), kv_s("why", said->why));
	if (p->mixes || said->kind != PROXY_CHUNK || said->body.len == 0 ||
	    !was_complete(p, said->id))
		return;
	log_warn("agent_mixes_up", kv_s("remote", link_remote(p->link)),
	    kv_s("request_id", said->id));
	p->mixes = true;
}

static void
hear(struct proxy_link *p, const struct proxy_said *said)
{
	struct proxy_use *u = map_get(&p->uses, said->id);

	if (said->kind == PROXY_FALLBACK)
		learn(p, said->text);
	if (u != NULL)
		u->ops->said(u, said);
	else if (said->kind != PROXY_FALLBACK)
		proxy_link_ignored(p, said);
}

/* The memory of a long message is not kept for the next one. */
static void
tidy(struct proxy_link *p)
{
	arena_reset(&p->arena);
	buf_clear(&p->body);
	if (p->arena.total > KEPT) {
		arena_fini(&p->arena);
		arena_init(&p->arena, ARENA_MAX);
	}
	if (p->body.alloc > KEPT) {
		buf_fini(&p->body);
		buf_init(&p->body, PROXY_BODY_MAX);
	}
}

bool
proxy_link_text(struct link_conn *l, struct slice text)
{
	struct proxy_link *p = l->proxy;
	struct proxy_said said;

	if (proxy_read_text(text, &p->arena, &p->body, &said) != 0) {
		conn_drop(l->conn);
		return true;
	}
	if (said.kind == PROXY_HELLO_ACK)
		link_agree(l, said.agreed);
	else if (said.kind != PROXY_OTHER)
		hear(p, &said);
	tidy(p);
	return said.kind != PROXY_OTHER;
}

void
proxy_link_frame(struct link_conn *l, struct slice frame)
{
	struct proxy_link *p = l->proxy;
	struct proxy_said said;

	if (proxy_read_frame(frame, &p->arena, &p->body, &said) != 0)
		conn_drop(l->conn);
	else
		hear(p, &said);
	tidy(p);
}

/* Each is told once, whichever of them end meanwhile. */
void
proxy_link_drained(struct link_conn *l)
{
	struct proxy_link *p = l->proxy;
	struct list todo;

	list_init(&todo);
	while (!list_empty(&p->list))
		list_push(&todo, list_pop(&p->list));
	while (!list_empty(&todo)) {
		struct proxy_use *u =
		    LIST_OF(list_pop(&todo), struct proxy_use, of_link);
		list_push(&p->list, &u->of_link);
		u->ops->drained(u);
	}
}

/* Uses -----------------------------------------------------------------------
 */

int
proxy_use_begin(
    struct proxy_link *p, struct proxy_use *u, const struct proxy_use_ops *ops)
{
	*u = (struct proxy_use){ .ops = ops };
	rand_id("prx_", u->id);
	list_init(&u->of_link);
	list_init(&u->awaiting);
	int err = map_put(&p->uses, proxy_use_id(u), u);
	if (err != 0)
		return err;
	u->link = p;
	list_push(&p->list, &u->of_link);
	return 0;
}

void
proxy_use_end(struct proxy_use *u)
{
	if (u->link == NULL)
		return;
	map_del(&u->link->uses, proxy_use_id(u));
	list_remove(&u->of_link);
	list_remove(&u->awaiting);
	u->link = NULL;
}

void
proxy_use_complete(struct proxy_use *u)
{
	struct proxy_link *p = u->link;

	if (p != NULL)
		memcpy(p->ended[p->end_count++ % PROXY_ENDED], u->id,
		    sizeof(u->id));
}

int
proxy_use_say(struct proxy_use *u, struct slice text)
{
	struct proxy_link *p = u->link;

	if (p == NULL || p->link->conn->ending)
		return ERR_GONE;
	struct stream *s = p->link->conn->stream;
	if (stream_queued(s) + text.len > PROXY_LINK_QUEUE)
		return ERR_FULL;
	int err = link_say(p->link, text);
	if (err != 0)
		return err;
	p->written += text.len;
	u->mark = p->written;
	list_remove(&u->awaiting);
	return 0;
}

/* Pings ----------------------------------------------------------------------
 */

void
proxy_use_await(struct proxy_use *u)
{
	struct proxy_link *p = u->link;
	uint8_t payload[PROBE] = { 'p', 'x' };

	if (p == NULL || !list_empty(&u->awaiting))
		return;
	u->probe = ++p->probes;
	be_put64(payload + 2, u->probe);
	/* Without it the owner's own time passes. */
	if (wsconn_ping(&p->link->ws, (struct slice){ payload, PROBE }) != 0)
		return;
	list_push(&p->awaiting, &u->awaiting);
	wsrole_flush(p->link->conn, &p->link->ws);
}

void
proxy_link_pong(struct link_conn *l, struct slice payload)
{
	struct list *at = &l->proxy->awaiting;

	if (payload.len != PROBE || payload.ptr[0] != 'p' ||
	    payload.ptr[1] != 'x')
		return;
	uint64_t number = be_get64(payload.ptr + 2);
	/* Each time from the front: ops may end any of them. */
	while (!list_empty(at)) {
		struct proxy_use *u =
		    LIST_OF(at->next, struct proxy_use, awaiting);
		if (u->probe > number)
			break;
		list_remove(&u->awaiting);
		u->ops->proved(u);
	}
}

size_t
proxy_use_waits(struct proxy_use *u)
{
	struct proxy_link *p = u->link;

	if (p == NULL)
		return 0;
	size_t queued = stream_queued(p->link->conn->stream);
	if (p->written > queued && p->written - queued > p->left)
		p->left = p->written - queued;
	return u->mark > p->left ? (size_t)(u->mark - p->left) : 0;
}

bool
proxy_use_full(const struct proxy_use *u)
{
	return u->link != NULL &&
	    stream_above_high(u->link->link->conn->stream);
}
