#include <assert.h>

#include "base/err.h"
#include "wire/be.h"

#include "wire/opening.h"

enum { HEAD = OPENING_HEAD };

/* Cut u16 length and text off *in: 1, 0 for more, or ERR_TOO_BIG. */
static int
cut_text(struct slice *in, size_t max, struct slice *text)
{
	if (in->len < 2)
		return 0;
	size_t n = be_get16(in->ptr);
	if (n > max)
		return ERR_TOO_BIG;
	if (in->len - 2 < n)
		return 0;
	*text = (struct slice){ in->ptr + 2, n };
	*in = slice_from_at(*in, 2 + n);
	return 1;
}

static int
decode_v1(struct slice in, struct opening *out)
{
	struct slice rest = slice_from_at(in, HEAD);
	struct opening o = { .version = 1 };
	struct slice *texts[] = { &o.service, &o.namespace, &o.tunnel_id };

	if (in.len >= 2 && in.ptr[1] != OPENING_TCP && in.ptr[1] != OPENING_UDP)
		return ERR_UNSUPPORTED;
	if (in.len < HEAD)
		return 0;
	o.proto = (enum opening_proto)in.ptr[1];
	o.port = be_get16(in.ptr + 2);
	for (size_t i = 0; i < 3; i++) {
		int rc = cut_text(&rest, OPENING_TEXT_MAX, texts[i]);
		if (rc <= 0)
			return rc;
	}
	*out = o;
	return (int)(in.len - rest.len);
}

static int
decode_v2(struct slice in, struct opening *out)
{
	struct slice rest = slice_from_at(in, 2);
	struct opening o = { .version = 2 };

	if (in.len < 2)
		return 0;
	if (in.ptr[1] < OPENING_KIND_TCP || in.ptr[1] > OPENING_KIND_METRICS)
		return ERR_UNSUPPORTED;
	o.kind = (enum opening_kind)in.ptr[1];
	int rc = cut_text(&rest, UINT16_MAX, &o.json);
	if (rc <= 0)
		return rc;
	*out = o;
	return (int)(in.len - rest.len);
}

int
opening_decode(struct slice in, struct opening *out)
{
	if (in.len == 0)
		return 0;
	if (in.ptr[0] == 1)
		return decode_v1(in, out);
	if (in.ptr[0] == 2)
		return decode_v2(in, out);
	return ERR_UNSUPPORTED;
}

static void
put_text(struct buf *b, struct slice text)
{
	uint8_t n[2];

	be_put16(n, (uint16_t)text.len);
	buf_put(b, (struct slice){ n, sizeof(n) });
	buf_put(b, text);
}

static int
encode_v1(const struct opening *o, struct buf *b)
{
	uint8_t head[HEAD] = { 1, (uint8_t)o->proto };

	if (o->service.len > OPENING_TEXT_MAX ||
	    o->namespace.len > OPENING_TEXT_MAX ||
	    o->tunnel_id.len > OPENING_TEXT_MAX)
		return ERR_TOO_BIG;
	be_put16(head + 2, o->port);
	buf_put(b, (struct slice){ head, sizeof(head) });
	put_text(b, o->service);
	put_text(b, o->namespace);
	put_text(b, o->tunnel_id);
	return b->err;
}

static int
encode_v2(const struct opening *o, struct buf *b)
{
	const uint8_t head[2] = { 2, (uint8_t)o->kind };

	if (o->json.len > UINT16_MAX)
		return ERR_TOO_BIG;
	buf_put(b, (struct slice){ head, sizeof(head) });
	put_text(b, o->json);
	return b->err;
}

int
opening_encode(const struct opening *o, struct buf *b)
{
	assert(o->version == 1 || o->version == 2);
	return o->version == 1 ? encode_v1(o, b) : encode_v2(o, b);
}

int
opening_gather(struct buf *head, struct slice *in)
{
	for (;;) {
		struct slice have = buf_peek(head);
		size_t want = HEAD;
		if (have.len > 0 && have.ptr[0] != 2)
			return ERR_PROTOCOL;
		if (have.len >= HEAD)
			want += be_get16(have.ptr + 2);
		if (have.len >= HEAD && have.len == want)
			return 1;
		if (in->len == 0)
			return 0;
		struct slice part = slice_first(*in, want - have.len);
		buf_put(head, part);
		if (head->err != 0)
			return head->err == ERR_FULL ? ERR_TOO_BIG : head->err;
		*in = slice_from_at(*in, part.len);
	}
}

int
opening_put_answer(struct buf *b, uint8_t status, struct slice json)
{
	const uint8_t head[2] = { 2, status };

	if (json.len > UINT16_MAX)
		return ERR_TOO_BIG;
	buf_put(b, (struct slice){ head, sizeof(head) });
	put_text(b, json);
	return b->err;
}

const char *
opening_kind_name(enum opening_kind kind)
{
	static const char *const names[] = { "tcp", "udp", "http", "exec",
		"shell", "file", "log", "metrics" };

	assert(kind >= OPENING_KIND_TCP && kind <= OPENING_KIND_METRICS);
	return names[kind - 1];
}
