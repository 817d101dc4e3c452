/*
 * A JSON text: its canonical form is JSON, means the same and is its own
 * canonical form; and a message around it, once signed, is believed in that
 * form and under that key alone.
 */
#include <stdlib.h>

#include "wire/canon.h"
#include "wire/enc.h"
#include "wire/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct js_limits limits = { 1 << 20, 32 };

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
stringify(struct js_value v, struct arena *a)
{
	struct js_doc again;
	struct buf one, two;

	buf_init(&one, 1 << 24);
	buf_init(&two, 1 << 24);
	canon_put(&one, v);
	check(one.err == 0);
	check(js_parse(&again, buf_peek(&one), &limits, a) == 0);
	check(again.repeated.ptr == NULL);
	canon_put(&two, js_root(&again));
	check(slice_eq(buf_peek(&one), buf_peek(&two)));
	buf_fini(&two);
	buf_fini(&one);
}

/* The text with a signature of one of its forms behind its members. */
static void
believe(struct js_value v, struct arena *a, enum canon_form form)
{
	const struct slice key = SL("key"), other = SL("kex");
	uint8_t mac[SHA256_LEN];
	struct js_doc signed_one;
	struct canon_work w;
	struct buf text;

	buf_init(&text, 1 << 24);
	check(canon_work_init(&w, 1 << 24) == 0);
	canon_put_signed(&text, v, form);
	check(token_hmac(key, buf_peek(&text), mac) == 0);
	buf_clear(&text);
	buf_put(&text, slice_first(js_raw(v), js_raw(v).len - 1));
	buf_put(&text, SL(",\"signature\":\""));
	enc_put_hex(&text, (struct slice){ mac, sizeof(mac) });
	buf_put(&text, SL("\"}"));
	check(text.err == 0);
	check(js_parse(&signed_one, buf_peek(&text), &limits, a) == 0);
	struct js_value m = js_root(&signed_one);
	check(canon_verify(m, &key, 1, &w, NULL) == 0);
	check(canon_verify(m, &other, 1, &w, NULL) != 0);
	canon_work_fini(&w);
	buf_fini(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct js_doc doc;
	struct arena a;

	arena_init(&a, 1 << 26);
	if (js_parse(&doc, (struct slice){ data, size }, &limits, &a) == 0 &&
	    doc.repeated.ptr == NULL) {
		struct js_value v = js_root(&doc);
		stringify(v, &a);
		bool fresh = v.kind == JS_OBJECT && js_count(v) > 0 &&
		    js_get(v, "signature").kind == JS_NONE;
		for (int f = 0; fresh && f < CANON_FORMS; f++)
			believe(v, &a, (enum canon_form)f);
	}
	arena_fini(&a);
	return 0;
}
