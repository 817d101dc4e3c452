#include <stdbool.h>

#include "base/err.h"
#include "base/js.h"

#include "model/selector.h"

static const struct js_limits limits = { 1 << 20, 4 };

bool
label_key_ok(struct slice key)
{
	if (key.len == 0 || key.len > 63)
		return false;
	for (size_t i = 0; i < key.len; i++) {
		uint8_t c = key.ptr[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || c == '.' || c == '_' ||
		    c == '/' || c == '-';
		if (!ok)
			return false;
	}
	return true;
}

bool
label_value_ok(struct slice value)
{
	if (value.len > 255)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		if (value.ptr[i] < 0x20 || value.ptr[i] == 0x7f)
			return false;
	}
	return true;
}

static int
parse_term(struct slice text, struct selector *s)
{
	size_t at = slice_find(text, '=');
	struct slice key = text, value = { 0 };
	enum selector_how how = TERM_THERE;

	if (text.len > 0 && text.ptr[0] == '!') {
		key = slice_from_at(text, 1);
		how = TERM_NOT_THERE;
	} else if (at < text.len) {
		key = slice_first(text, at);
		value = slice_from_at(text, at + 1);
		how = TERM_IS;
		if (key.len > 0 && key.ptr[key.len - 1] == '!') {
			key.len--;
			how = TERM_IS_NOT;
		} else if (value.len > 0 && value.ptr[0] == '=') {
			value = slice_from_at(value, 1);
		}
	}
	key = slice_trim(key);
	value = slice_trim(value);
	if (!label_key_ok(key) || !label_value_ok(value))
		return ERR_INVALID;
	if (s->count == SELECTOR_TERMS)
		return ERR_FULL;
	s->terms[s->count].key = key;
	s->terms[s->count].value = value;
	s->terms[s->count++].how = how;
	return 0;
}

int
selector_parse(struct slice text, struct selector *out)
{
	struct selector s = { .count = 0 };
	struct slice part;

	if (slice_trim(text).len == 0) {
		*out = s;
		return 0;
	}
	while (slice_split(&text, ',', &part)) {
		int err = parse_term(slice_trim(part), &s);
		if (err != 0)
			return err;
	}
	*out = s;
	return 0;
}

static struct slice
look_up(const struct js_doc *doc, struct slice key)
{
	struct js_walk w = js_walk(js_root(doc));
	struct slice name, value;
	struct js_value v;

	while (js_next(&w, &name, &v)) {
		if (slice_eq(name, key) && js_string(v, &value) == 0)
			return value;
	}
	return (struct slice){ 0 };
}

static int
open_labels(struct js_doc *doc, struct slice text, struct arena *scratch)
{
	int err =
	    js_parse(doc, text.len == 0 ? SL("{}") : text, &limits, scratch);

	/* Stored labels were checked when they came in. */
	return err == ERR_NOMEM ? err : 0;
}

/* v: of its key; absent when it has none. */
static bool
holds(const struct selector *s, size_t term, struct slice v)
{
	bool there = v.ptr != NULL;
	bool same = there && slice_eq(v, s->terms[term].value);
	const bool by_how[] = { [TERM_IS] = same,
		[TERM_IS_NOT] = !same,
		[TERM_THERE] = there,
		[TERM_NOT_THERE] = !there };

	return by_how[s->terms[term].how];
}

int
selector_match(const struct selector *s, struct slice own, struct slice said,
    struct arena *scratch)
{
	struct js_doc mine, theirs;

	if (s->count == 0)
		return 1;
	if (open_labels(&mine, own, scratch) != 0 ||
	    open_labels(&theirs, said, scratch) != 0)
		return ERR_NOMEM;
	for (size_t i = 0; i < s->count; i++) {
		struct slice v = look_up(&mine, s->terms[i].key);
		if (v.ptr == NULL)
			v = look_up(&theirs, s->terms[i].key);
		if (!holds(s, i, v))
			return 0;
	}
	return 1;
}

int
selector_excludes(
    const struct selector *s, struct slice own, struct arena *scratch)
{
	struct js_doc mine;

	if (open_labels(&mine, own, scratch) != 0)
		return ERR_NOMEM;
	for (size_t i = 0; i < s->count; i++) {
		struct slice v = look_up(&mine, s->terms[i].key);
		if (v.ptr != NULL && !holds(s, i, v))
			return 1;
	}
	return 0;
}
