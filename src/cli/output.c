#include "cli/output.h"
#include "base/err.h"
#include "base/js_write.h"
#include "base/utf8.h"
#include "cli/safe.h"
#include "wire/enc.h"

enum { PIECE_MAX = 4 << 20 };

static void
put_bytes(struct js_writer *w, struct slice bytes)
{
	struct buf text;

	if (utf8_valid(bytes)) {
		js_kv_string(w, "text", bytes);
		return;
	}
	buf_init(&text, PIECE_MAX);
	enc_put_base64(&text, bytes, ENC_STD);
	js_kv_string(w, "base64", buf_peek(&text));
	if (text.err != 0)
		w->err = text.err;
	buf_fini(&text);
}

static void
begin_piece(struct js_writer *w, const struct output_piece *p)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.output/1"));
	js_kv_string(w, "id", p->id);
	if (p->agent.ptr != NULL)
		js_kv_string(w, "agent", p->agent);
	js_kv_string(w, "stream", p->err ? SL("stderr") : SL("stdout"));
	js_kv_u64(w, "offset", p->offset);
}

void
output_put_gap(struct buf *out, const struct output_piece *p, uint64_t to,
    struct slice why)
{
	struct js_writer w;

	js_write(&w, out);
	begin_piece(&w, p);
	js_kv_u64(&w, "gap_to", to);
	js_kv_string(&w, "gap", why);
	js_end(&w);
	if (js_finish(&w) != 0)
		out->err = ERR_NOMEM;
	buf_put_byte(out, '\n');
}

void
output_put_json(struct buf *out, const struct output_piece *p)
{
	struct js_writer w;
	struct buf raw;

	buf_init(&raw, PIECE_MAX);
	js_write(&w, &raw);
	begin_piece(&w, p);
	put_bytes(&w, p->bytes);
	js_end(&w);
	if (js_finish(&w) != 0)
		out->err = ERR_NOMEM;
	safe_json(out, buf_peek(&raw));
	buf_put_byte(out, '\n');
	buf_fini(&raw);
}
