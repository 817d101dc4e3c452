/*
 * Any text: what is read, written again with every value quoted, must read
 * the same; values go through every converter.
 */
#include <stdlib.h>

#include "base/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
put_quoted(struct buf *out, struct slice s)
{
	buf_put_byte(out, '"');
	for (size_t i = 0; i < s.len; i++) {
		switch (s.ptr[i]) {
		case '\n':
			buf_put(out, SL("\\n"));
			break;
		case '\r':
			buf_put(out, SL("\\r"));
			break;
		case '\\':
		case '"':
			buf_put_byte(out, '\\');
			buf_put_byte(out, s.ptr[i]);
			break;
		default:
			buf_put_byte(out, s.ptr[i]);
		}
	}
	buf_put_byte(out, '"');
}

static void
put_entry(struct buf *out, const struct conf_entry *e)
{
	if (e->key.len > 0) {
		buf_put(out, e->key);
		buf_put_byte(out, '=');
		put_quoted(out, e->value);
	} else {
		buf_put_byte(out, '[');
		buf_put(out, e->section);
		if (e->name.ptr != NULL)
			put_quoted(out, e->name);
		buf_put_byte(out, ']');
	}
	buf_put_byte(out, '\n');
}

static void
convert(struct slice s)
{
	uint64_t n = 0;
	msec t = 0;
	bool b;

	conf_bool(s, &b);
	conf_u64(s, &n);
	conf_size(s, &n);
	check(conf_duration(s, &t) != 0 || t >= 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct conf_limits limits = { 1 << 16, 1000 };
	struct conf_doc doc, again;
	struct arena a;
	struct buf out;

	arena_init(&a, 1 << 22);
	buf_init(&out, 1 << 18);
	if (conf_parse((struct slice){ data, size }, &a, &limits, &doc) == 0) {
		for (size_t i = 0; i < doc.count; i++)
			put_entry(&out, &doc.entries[i]);
		check(out.err == 0);
		struct conf_limits wide = { 1 << 18, 1000 };
		check(conf_parse(buf_peek(&out), &a, &wide, &again) == 0);
		check(again.count == doc.count);
		for (size_t i = 0; i < doc.count; i++) {
			const struct conf_entry *e = &doc.entries[i];
			check(slice_eq(e->key, again.entries[i].key));
			check(slice_eq(e->value, again.entries[i].value));
			check(slice_eq(e->name, again.entries[i].name));
			check(slice_eq(e->section, again.entries[i].section));
			convert(e->value);
		}
	}
	buf_fini(&out);
	arena_fini(&a);
	return 0;
}
