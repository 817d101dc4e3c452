#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"
#include "base/utf8.h"

#include "wire/enc.h"
#include "wire/token.h"

#include "wire/canon.h"

/* Strings ------------------------------------------------------------------ */

static void
put_unit(struct buf *out, uint32_t unit)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t text[6] = { '\\', 'u', (uint8_t)hex[unit >> 12 & 15],
		(uint8_t)hex[unit >> 8 & 15], (uint8_t)hex[unit >> 4 & 15],
		(uint8_t)hex[unit & 15] };

	buf_put(out, (struct slice){ text, sizeof(text) });
}

static uint32_t
hex4(const uint8_t *p)
{
	uint32_t n = 0;

	for (int i = 0; i < 4; i++) {
		uint8_t c = p[i];
		n = n << 4 |
		    (c <= '9' ? (uint32_t)(c - '0')
			      : (uint32_t)((c | 0x20) - 'a' + 10));
	}
	return n;
}

/* One character that was escaped, as it is written unescaped or not. */
static void
put_character(struct buf *out, uint32_t code)
{
	static const char letters[] = "btn\0fr"; /* U+0008 to U+000D */
	uint8_t bytes[4];

	if (code == '"' || code == '\\') {
		buf_put_byte(out, '\\');
		buf_put_byte(out, (uint8_t)code);
	} else if (code >= 8 && code <= 13 && code != 11) {
		buf_put_byte(out, '\\');
		buf_put_byte(out, (uint8_t)letters[code - 8]);
	} else if (code < 0x20 || (code >= 0xd800 && code < 0xe000)) {
		put_unit(out, code);
	} else {
		size_t n = utf8_encode(code, bytes);
		buf_put(out, (struct slice){ bytes, n });
	}
}

static uint32_t
letter(uint8_t c)
{
	switch (c) {
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return c;
	}
}

/* The escape at the beginning of s; returns its length. */
static size_t
put_escape(struct buf *out, struct slice s)
{
	if (s.ptr[1] != 'u') {
		put_character(out, letter(s.ptr[1]));
		return 2;
	}
	uint32_t code = hex4(s.ptr + 2);
	if (code >= 0xd800 && code < 0xdc00 && s.len >= 12 &&
	    s.ptr[6] == '\\' && s.ptr[7] == 'u') {
		uint32_t low = hex4(s.ptr + 8);
		if (low >= 0xdc00 && low < 0xe000) {
			put_character(out,
			    0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
			return 12;
		}
	}
	put_character(out, code);
	return 6;
}

/* raw is a valid string with its quotes.  Only escapes are ever written
 * otherwise than they were. */
static void
put_string(struct buf *out, struct slice raw)
{
	struct slice s = { raw.ptr + 1, raw.len - 2 };

	buf_put_byte(out, '"');
	while (s.len > 0) {
		size_t run = slice_find(s, '\\');
		buf_put(out, slice_first(s, run));
		s = slice_from_at(s, run);
		if (s.len > 0)
			s = slice_from_at(s, put_escape(out, s));
	}
	buf_put_byte(out, '"');
}

/* Numbers ------------------------------------------------------------------ */

/* 0.d1d2...dn times ten to the power of point. */
struct digits {
	char text[20];
	int count;
	int point;
};

/* "-06" */
static int
exponent(const char *text)
{
	int e = 0;

	for (const char *p = text + 1; *p != '\0'; p++)
		e = e * 10 + (*p - '0');
	return *text == '-' ? -e : e;
}

/* The nearest number of so many digits. */
static void
round_to(double d, int count, struct digits *out)
{
	char text[40];
	int n = 0;

	/* "1.2345e-06"; the C locale is never left. */
	snprintf(text, sizeof(text), "%.*e", count - 1, d);
	const char *p = text;
	for (; *p != 'e'; p++) {
		if (*p != '.')
			out->text[n++] = *p;
	}
	out->point = exponent(p + 1) + 1;
	while (n > 1 && out->text[n - 1] == '0')
		n--;
	out->count = n;
	out->text[n] = '\0';
}

static double
value_of(const struct digits *g)
{
	char text[40];

	snprintf(text, sizeof(text), "%se%d", g->text, g->point - g->count);
	return strtod(text, NULL);
}

/* One more in the last place, which is no 9. */
static bool
next_above(const struct digits *g, struct digits *out)
{
	*out = *g;
	if (out->text[out->count - 1] == '9')
		return false;
	out->text[out->count - 1]++;
	return true;
}

/*
 * The fewest digits that read back as d, and of those the nearest to it.
 * Below a power of two doubles lie twice as dense as above it: there the
 * nearest number of so many digits may be another double's while the next
 * above it is still d's.
 */
static void
shortest(double d, struct digits *out)
{
	/* Fifteen digits say every normal double that needs no more. */
	int count = d < 2.2250738585072014e-308 ? 1 : 15;
	struct digits more;

	for (; count < 17; count++) {
		round_to(d, count, out);
		if (value_of(out) == d)
			return;
		if (out->count == count && next_above(out, &more) &&
		    value_of(&more) == d) {
			*out = more;
			return;
		}
	}
	round_to(d, 17, out);
}

static void
put_zeros(struct buf *out, int n)
{
	while (n-- > 0)
		buf_put_byte(out, '0');
}

static void
put_text(struct buf *out, const char *text, int n)
{
	buf_put(out, (struct slice){ (const uint8_t *)text, (size_t)n });
}

static void
put_exponent(struct buf *out, const struct digits *g)
{
	int e = g->point - 1;

	put_text(out, g->text, 1);
	if (g->count > 1) {
		buf_put_byte(out, '.');
		put_text(out, g->text + 1, g->count - 1);
	}
	buf_put_byte(out, 'e');
	buf_put_byte(out, e < 0 ? '-' : '+');
	buf_put_u64(out, (uint64_t)(e < 0 ? -e : e));
}

void
canon_put_number(struct buf *out, double d)
{
	struct digits g;

	if (!(d >= -__DBL_MAX__ && d <= __DBL_MAX__)) {
		buf_put(out, SL("null"));
		return;
	}
	if (d < 0) {
		buf_put_byte(out, '-');
		d = -d;
	}
	if (d < 9007199254740992.0 && d == (double)(uint64_t)d) {
		buf_put_u64(out, (uint64_t)d);
		return;
	}
	shortest(d, &g);
	/* ECMA-262, 6.1.6.1.20. */
	if (g.point > 21 || g.point < -5) {
		put_exponent(out, &g);
	} else if (g.point <= 0) {
		buf_put(out, SL("0."));
		put_zeros(out, -g.point);
		put_text(out, g.text, g.count);
	} else if (g.count <= g.point) {
		put_text(out, g.text, g.count);
		put_zeros(out, g.point - g.count);
	} else {
		put_text(out, g.text, g.point);
		buf_put_byte(out, '.');
		put_text(out, g.text + g.point, g.count - g.point);
	}
}

static void
put_number(struct buf *out, struct js_value v)
{
	double d;

	/* What is beyond any double was infinite. */
	if (js_double(v, &d) != 0)
		buf_put(out, SL("null"));
	else
		canon_put_number(out, d);
}

/* Containers --------------------------------------------------------------- */

static void put_value(struct buf *out, struct js_value v);

/* Whether a name is an array index, 0 to 2^32 - 2, as one is written. */
static bool
is_index(struct slice name, uint64_t *index)
{
	if (name.len == 0 || (name.len > 1 && name.ptr[0] == '0'))
		return false;
	return slice_u64(name, UINT32_MAX - 1, index) == 0;
}

struct indexed {
	uint64_t index;
	struct js_value value;
};

static int
by_index(const void *a, const void *b)
{
	const struct indexed *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static void
put_comma(struct buf *out, bool *first)
{
	if (!*first)
		buf_put_byte(out, ',');
	*first = false;
}

/* Those whose names are indices, in their order. */
static void
put_indexed(struct buf *out, struct js_value v, size_t count, bool *first)
{
	struct indexed *list = alloc_new(count * sizeof(*list));
	struct js_walk w = js_walk(v);
	struct js_value member;
	struct slice name;
	size_t n = 0;

	if (list == NULL) {
		out->err = ERR_NOMEM;
		return;
	}
	while (n < count && js_next(&w, &name, &member)) {
		list[n].value = member;
		n += is_index(name, &list[n].index);
	}
	qsort(list, n, sizeof(*list), by_index);
	for (size_t i = 0; i < n; i++) {
		put_comma(out, first);
		buf_put_byte(out, '"');
		buf_put_u64(out, list[i].index);
		buf_put(out, SL("\":"));
		put_value(out, list[i].value);
	}
	alloc_free(list);
}

static size_t
count_indexed(struct js_value v)
{
	struct js_walk w = js_walk(v);
	struct slice name;
	uint64_t index;
	size_t n = 0;

	while (js_next(&w, &name, NULL))
		n += is_index(name, &index);
	return n;
}

static void
put_object(struct buf *out, struct js_value v)
{
	struct js_walk w = js_walk(v);
	struct slice name, raw;
	struct js_value member;
	size_t indexed = count_indexed(v);
	uint64_t index;
	bool first = true;

	buf_put_byte(out, '{');
	if (indexed > 0)
		put_indexed(out, v, indexed, &first);
	while (out->err == 0 &&
	    (raw = js_raw_name(&w), js_next(&w, &name, &member))) {
		if (indexed > 0 && is_index(name, &index))
			continue;
		put_comma(out, &first);
		put_string(out, raw);
		buf_put_byte(out, ':');
		put_value(out, member);
	}
	buf_put_byte(out, '}');
}

static void
put_array(struct buf *out, struct js_value v)
{
	struct js_walk w = js_walk(v);
	struct js_value item;
	bool first = true;

	buf_put_byte(out, '[');
	while (out->err == 0 && js_next(&w, NULL, &item)) {
		put_comma(out, &first);
		put_value(out, item);
	}
	buf_put_byte(out, ']');
}

/* As deep as whoever read the text has let it be. */
static void
put_value(struct buf *out, struct js_value v)
{
	static void (*const put[])(struct buf *, struct js_value) = {
		[JS_NUMBER] = put_number,
		[JS_ARRAY] = put_array,
		[JS_OBJECT] = put_object,
	};

	if (v.kind == JS_STRING)
		put_string(out, js_raw(v));
	else if (v.kind == JS_NULL || v.kind == JS_BOOL)
		buf_put(out, js_raw(v));
	else
		put[v.kind](out, v);
}

void
canon_put(struct buf *out, struct js_value v)
{
	assert(v.kind != JS_NONE);
	put_value(out, v);
}

/* What is signed ----------------------------------------------------------- */

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Without the member, and without the comma that belongs to it: the one
 * before, or of the first member the one behind. */
static void
put_cut(struct buf *out, struct slice whole, struct slice member)
{
	const uint8_t *from = member.ptr, *to = member.ptr + member.len;
	const uint8_t *end = whole.ptr + whole.len;
	const uint8_t *p = from;

	while (is_space(p[-1]))
		p--;
	if (p[-1] == ',') {
		from = p - 1;
	} else {
		while (is_space(*to))
			to++;
		if (*to == ',')
			to++;
		while (is_space(*to))
			to++;
	}
	buf_put(out, (struct slice){ whole.ptr, (size_t)(from - whole.ptr) });
	buf_put(out, (struct slice){ to, (size_t)(end - to) });
}

static void
put_members(struct buf *out, struct js_value message, bool ecma)
{
	static const char *const names[] = { "type", "agentId", "ts", "nonce",
		"payload" };
	bool first = true;

	buf_put_byte(out, '{');
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct js_value v = js_get(message, names[i]);
		if (v.kind == JS_NONE)
			continue;
		put_comma(out, &first);
		buf_put_byte(out, '"');
		buf_put(out, slice_from(names[i]));
		buf_put(out, SL("\":"));
		if (ecma)
			put_value(out, v);
		else
			buf_put(out, js_raw(v));
	}
	buf_put_byte(out, '}');
}

void
canon_put_signed(struct buf *out, struct js_value message, enum canon_form form)
{
	struct slice whole = js_raw(message);
	struct slice member = js_raw_member(message, "signature");

	if (form != CANON_RECEIVED)
		put_members(out, message, form == CANON_ECMA);
	else if (member.ptr == NULL)
		buf_put(out, whole);
	else
		put_cut(out, whole, member);
}

int
canon_work_init(struct canon_work *w, size_t cap)
{
	buf_init(&w->text, cap);
	return token_hasher_init(&w->hasher);
}

void
canon_work_fini(struct canon_work *w)
{
	buf_fini(&w->text);
	token_hasher_fini(&w->hasher);
}

/* 16 for what is no digit. */
static unsigned
digit_of(uint8_t c)
{
	unsigned lower = c | 0x20u;

	if (c >= '0' && c <= '9')
		return c - (unsigned)'0';
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 16;
}

static int
read_signature(struct js_value message, uint8_t out[SHA256_LEN])
{
	struct slice text;

	if (js_string(js_get(message, "signature"), &text) != 0 ||
	    text.len != CANON_HEX)
		return ERR_DENIED;
	for (size_t i = 0; i < SHA256_LEN; i++) {
		unsigned high = digit_of(text.ptr[2 * i]);
		unsigned low = digit_of(text.ptr[2 * i + 1]);
		if (high > 15 || low > 15)
			return ERR_DENIED;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

int
canon_verify(struct js_value message, const struct slice *keys, size_t count,
    struct canon_work *w, struct canon_match *how)
{
	uint8_t given[SHA256_LEN], mac[SHA256_LEN];
	int err = read_signature(message, given);

	for (int f = 0; err == 0 && f < CANON_FORMS; f++) {
		buf_clear(&w->text);
		canon_put_signed(&w->text, message, (enum canon_form)f);
		err = w->text.err;
		for (size_t k = 0; err == 0 && k < count; k++) {
			err = token_hasher_hmac(
			    &w->hasher, keys[k], buf_peek(&w->text), mac);
			if (err != 0 ||
			    !token_equal((struct slice){ mac, SHA256_LEN },
				(struct slice){ given, SHA256_LEN }))
				continue;
			if (how != NULL)
				*how = (struct canon_match){ (enum canon_form)f,
					k };
			return 0;
		}
	}
	return err != 0 ? err : ERR_DENIED;
}

/* Signing ------------------------------------------------------------------ */

static int
put_unsigned(const struct canon_message *m, struct buf *out)
{
	struct js_writer w;

	js_write_ascii(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "type", m->type);
	js_kv_string(&w, "agentId", m->agent_id);
	js_kv_i64(&w, "ts", m->ts);
	js_kv_string(&w, "nonce", m->nonce);
	js_kv_raw(&w, "payload", m->payload);
	js_end(&w);
	return js_finish(&w);
}

int
canon_sign(struct slice key, const struct canon_message *m, struct buf *out)
{
	uint8_t mac[SHA256_LEN];
	struct buf text;

	buf_init(&text, out->cap);
	int err = put_unsigned(m, &text);
	if (err == 0)
		err = token_hmac(key, buf_peek(&text), mac);
	if (err == 0) {
		/* In place of the brace that closes. */
		text.tail--;
		buf_put(&text, SL(",\"signature\":\""));
		enc_put_hex(&text, (struct slice){ mac, sizeof(mac) });
		buf_put(&text, SL("\"}"));
		err = text.err;
	}
	if (err == 0)
		buf_put(out, buf_peek(&text));
	buf_fini(&text);
	return err != 0 ? err : out->err;
}

bool
canon_is_plain(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		if (c < 0x20 || c > 0x7e || c == '<' || c == '>' || c == '&')
			return false;
	}
	return true;
}
