/*
 * Batches and what is compressed, both ways.  They are spelled flat, whatever
 * the spelling of what is in them.
 */
#include "base/err.h"

#include "wire/enc.h"

#include "dialect/console_parts.h"

/* In ------------------------------------------------------------------------
 */

int
console_read_batch(struct console_reader *r, struct js_value root)
{
	struct js_value list;
	struct js_fields f;
	int64_t count = -1;

	r->out->limit = CONSOLE_AS_MEMBERS;
	js_fields_init(&f, root);
	js_need_kind(&f, "messages", JS_ARRAY, &list);
	js_need_i64(&f, "count", 0, INT32_MAX, &count);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	if (js_count(list) != (size_t)count)
		return console_refuse(r, ERR_INVALID, SL("INVALID_MESSAGE"),
		    SL("count"), SL("count is not the number of messages"));
	if (count > CONSOLE_BATCH_MAX)
		return console_refuse(r, ERR_TOO_BIG, SL("INVALID_MESSAGE"),
		    SL("messages"), SL("a batch has 1,000 messages at most"));
	struct slice *texts =
	    arena_array(r->a, (size_t)count + 1, sizeof(*texts));
	if (texts == NULL)
		return ERR_NOMEM;
	struct js_walk i = js_walk(list);
	struct js_value v;
	size_t n = 0;
	while (js_next(&i, NULL, &v))
		texts[n++] = js_raw(v);
	r->out->word = CONSOLE_BATCH;
	r->out->batch.texts = texts;
	r->out->batch.count = n;
	return 0;
}

static int
refuse_packed(
    struct console_reader *r, int err, struct slice field, struct slice text)
{
	return console_refuse(r, err, SL("INVALID_MESSAGE"), field, text);
}

static int
refuse_unpacked(struct console_reader *r, int err)
{
	if (err == ERR_NOMEM)
		return err;
	return refuse_packed(r, err, SL("data"),
	    err == ERR_TOO_BIG
		? SL("data is more than 1 MiB, or 200 times its size")
		: SL("data is not what was compressed by gzip"));
}

/* in: as it came, out: what it was.  0 or ERR_NOMEM; refused leaves *inner
 * absent. */
static int
unpack(struct console_reader *r, const struct console_packed *p, struct buf *gz,
    struct buf *text, struct slice *inner)
{
	const struct enc_unpack_limits limits = { CONSOLE_TEXT_MAX,
		CONSOLE_RATIO_MAX };
	int err = enc_get_base64(p->data, ENC_STD, gz);

	if (err == 0 && buf_peek(gz).len != (size_t)p->packed_size)
		return refuse_packed(r, ERR_INVALID, SL("compressedSize"),
		    SL("compressedSize is not the size of data"));
	if (err == 0)
		err = enc_unpack(buf_peek(gz), ENC_GZIP, &limits, text);
	if (err != 0)
		return refuse_unpacked(r, err);
	if (buf_peek(text).len != (size_t)p->size)
		return refuse_packed(r, ERR_INVALID, SL("originalSize"),
		    SL("originalSize is not the size of the message"));
	err = arena_copy(r->a, buf_peek(text), inner);
	/* Present, however short it is. */
	if (err == 0 && inner->len == 0)
		*inner = SL("");
	return err;
}

int
console_read_packed(struct console_reader *r, struct js_value root)
{
	struct console_packed p = { 0 };
	struct js_fields f;

	js_fields_init(&f, root);
	js_need_string(&f, "algorithm", &p.algorithm);
	js_opt_string(&f, "originalType", &p.type);
	js_need_i64(&f, "originalSize", 0, INT32_MAX, &p.size);
	js_need_i64(&f, "compressedSize", 0, INT32_MAX, &p.packed_size);
	js_need_string(&f, "data", &p.data);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	if (!slice_eq(p.algorithm, SL("gzip")))
		return refuse_packed(r, ERR_UNSUPPORTED, SL("algorithm"),
		    SL("the algorithm is gzip"));
	r->out->word = CONSOLE_PACKED;
	r->out->packed = p;
	return 0;
}

int
console_inflate(struct console_reader *r, const struct console_packed *p,
    struct slice *inner)
{
	struct buf gz, text;

	buf_init(&gz, CONSOLE_TEXT_MAX);
	buf_init(&text, CONSOLE_TEXT_MAX);
	int err = unpack(r, p, &gz, &text, inner);
	buf_fini(&gz);
	buf_fini(&text);
	return err;
}

/* Out -----------------------------------------------------------------------
 */

/* Spelled flat for everyone. */
static struct console_context
flat_context(const struct console_context *c)
{
	struct console_context flat = *c;

	flat.spelling = CONSOLE_FLAT;
	return flat;
}

int
console_encode_batch(const struct slice *texts, size_t count,
    const struct console_context *c, struct buf *out)
{
	const struct console_context flat = flat_context(c);
	struct console_say s;

	console_say_init(&s, &flat, 0, out);
	if (!console_begin(&s, "batch"))
		return s.done;
	js_kv_array(&s.w, "messages");
	for (size_t i = 0; i < count; i++)
		js_put_raw(&s.w, texts[i]);
	js_end(&s.w);
	js_kv_u64(&s.w, "count", count);
	console_end(&s);
	return s.done;
}

/* Of a message of ours: it begins with its type. */
static struct slice
type_of(struct slice text)
{
	struct slice rest = slice_from_at(text, sizeof("{\"type\":\"") - 1);

	return slice_first(rest, slice_find(rest, '"'));
}

static int
say_packed(
    struct console_say *s, struct slice text, struct slice gz, struct buf *data)
{
	enc_put_base64(data, gz, ENC_STD);
	if (data->err != 0)
		return data->err;
	if (!console_begin(s, "compressed"))
		return s->done;
	js_kv_string(&s->w, "algorithm", SL("gzip"));
	js_kv_string(&s->w, "originalType", type_of(text));
	js_kv_u64(&s->w, "originalSize", text.len);
	js_kv_u64(&s->w, "compressedSize", gz.len);
	js_kv_string(&s->w, "data", buf_peek(data));
	console_end(s);
	return s->done;
}

int
console_encode_compressed(
    struct slice text, const struct console_context *c, struct buf *out)
{
	enum { FRAME = 256 }; /* what stands around the data, at most */
	const struct console_context flat = flat_context(c);
	struct console_say s;
	struct buf gz, data;
	int err;

	if (text.len < CONSOLE_PACK_MIN || text.len > CONSOLE_TEXT_MAX)
		return 0;
	console_say_init(&s, &flat, 0, out);
	buf_init(&gz, text.len);
	buf_init(&data, 2 * text.len);
	err = enc_pack(text, ENC_GZIP, 6, &gz);
	if (err == ERR_FULL)
		err = 0; /* it would grow */
	else if (err == 0 && buf_peek(&gz).len / 3 * 4 + FRAME < text.len)
		err = say_packed(&s, text, buf_peek(&gz), &data);
	buf_fini(&gz);
	buf_fini(&data);
	return err;
}
