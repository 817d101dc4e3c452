/* The sending half of wsconn, and what the connections of a lane share. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"

#include "wire/wsconn.h"

enum { PACK_MAX = 1 << 30 };

void
wsconn_lane_init(struct wsconn_lane *l, const uint64_t mask_key[2], int level)
{
	deflate_pool_init(&l->pool, level);
	buf_init(&l->scratch, 0);
	for (size_t i = 0; i < WSCONN_SPARES; i++)
		buf_init(&l->spares[i], 0);
	l->mask_key[0] = mask_key[0];
	l->mask_key[1] = mask_key[1];
	l->mask_count = 0;
}

void
wsconn_lane_fini(struct wsconn_lane *l)
{
	deflate_pool_fini(&l->pool);
	buf_fini(&l->scratch);
	for (size_t i = 0; i < WSCONN_SPARES; i++)
		buf_fini(&l->spares[i]);
}

static uint32_t
next_mask(struct wsconn_lane *l)
{
	uint8_t count[sizeof(l->mask_count)];

	memcpy(count, &l->mask_count, sizeof(count));
	l->mask_count++;
	return (uint32_t)map_hash(
	    l->mask_key, (struct slice){ count, sizeof(count) });
}

size_t
wsconn_head(struct wsconn *c, struct ws_head *head, uint8_t out[WS_HEAD_MAX])
{
	head->masked = c->role == WSCONN_CLIENT;
	head->mask = head->masked ? next_mask(c->config->lane) : 0;
	return ws_encode_head(out, head);
}

static bool
own_takeover(const struct wsconn *c)
{
	return c->role == WSCONN_SERVER ? c->terms.server_takeover
					: c->terms.client_takeover;
}

static int
own_bits(const struct wsconn *c)
{
	int bits = c->role == WSCONN_SERVER ? c->terms.server_bits
					    : c->terms.client_bits;

	return c->terms.on && bits >= DEFLATE_BITS_MIN ? bits : 0;
}

int
wsconn_shared_bits(const struct wsconn *c)
{
	return own_takeover(c) || c->role == WSCONN_CLIENT ? 0 : own_bits(c);
}

static struct deflate_stream *
packer(struct wsconn *c)
{
	struct deflate_pool *pool = &c->config->lane->pool;

	if (!own_takeover(c))
		return deflate_pool_packer(pool, own_bits(c));
	if (c->packer == NULL)
		c->packer = deflate_new_packer(own_bits(c), pool->level);
	return c->packer;
}

/* Whether out can take n more bytes without breaking its cap. */
static bool
has_room(const struct buf *out, size_t n)
{
	return n <= out->cap - buf_peek(out).len;
}

/*
 * Pack behind the room of the longest head, then close the gap.  1 when
 * packing is not worth it or not possible, and nothing was appended: any
 * message may go as it is, and one that was not packed leaves the window
 * alone.  With takeover what was packed must go, whatever its length.
 */
static int
send_packed(struct wsconn *c, struct buf *out, enum ws_opcode opcode,
    struct slice payload)
{
	struct deflate_stream *s = packer(c);
	bool must = own_takeover(c);

	if (s == NULL || payload.len > PACK_MAX)
		return 1;
	size_t room = must ? deflate_bound(s, payload.len) : payload.len;
	if (!has_room(out, WS_HEAD_MAX + room))
		return 1;
	uint8_t *at = buf_reserve(out, WS_HEAD_MAX + room);
	if (at == NULL)
		return out->err;
	size_t n = deflate_pack(s, payload, at + WS_HEAD_MAX, room);
	if (n == 0) {
		assert(!must);
		return 1;
	}
	struct ws_head head = {
		.fin = true,
		.rsv1 = true,
		.opcode = (uint8_t)opcode,
		.len = n,
	};
	uint8_t bytes[WS_HEAD_MAX];
	size_t head_len = wsconn_head(c, &head, bytes);
	memcpy(at, bytes, head_len);
	memmove(at + head_len, at + WS_HEAD_MAX, n);
	if (head.masked)
		ws_mask(at + head_len, n, head.mask, 0);
	buf_commit(out, head_len + n);
	return 0;
}

/* Whether a message of that length is worth an attempt to pack it. */
static bool
packs(const struct wsconn *c, size_t len)
{
	return own_bits(c) != 0 && len >= c->config->compress_min && len > 0;
}

size_t
wsconn_whole_head(struct wsconn *c, enum ws_opcode opcode, size_t len,
    uint8_t out[WS_HEAD_MAX])
{
	struct ws_head head = {
		.fin = true, .opcode = (uint8_t)opcode, .len = len
	};

	if (c->state != WSCONN_OPEN || c->role != WSCONN_SERVER ||
	    packs(c, len))
		return 0;
	return wsconn_head(c, &head, out);
}

int
wsconn_send(struct wsconn *c, struct buf *out, enum ws_opcode opcode,
    struct slice payload, bool plain)
{
	struct ws_head head = {
		.fin = true, .opcode = (uint8_t)opcode, .len = payload.len
	};
	uint8_t bytes[WS_HEAD_MAX];

	if (c->state != WSCONN_OPEN)
		return ERR_CLOSED;
	if (!plain && packs(c, payload.len)) {
		int r = send_packed(c, out, opcode, payload);
		if (r <= 0)
			return r;
	}
	size_t n = wsconn_head(c, &head, bytes);
	uint8_t *at = buf_reserve(out, n + payload.len);
	if (at == NULL)
		return out->err;
	memcpy(at, bytes, n);
	if (payload.len > 0)
		memcpy(at + n, payload.ptr, payload.len);
	if (head.masked)
		ws_mask(at + n, payload.len, head.mask, 0);
	buf_commit(out, n + payload.len);
	return 0;
}
