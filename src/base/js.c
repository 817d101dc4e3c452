#include <string.h>

#include "base/err.h"
#include "base/js_tape.h"

#include "base/js.h"

static struct js_value
value_at(const struct js_doc *doc, uint32_t at)
{
	return (
	    struct js_value){ doc, at, (enum js_kind)doc->tape[at].node.kind };
}

static const struct js_node *
node_of(struct js_value v)
{
	return &v.doc->tape[v.at].node;
}

struct js_value
js_root(const struct js_doc *doc)
{
	return value_at(doc, JS_TAPE_ROOT);
}

/* The slot of the member's name from at on, before end; 0 when absent. */
static uint32_t
find_name(
    const struct js_doc *doc, uint32_t at, uint32_t end, struct slice name)
{
	while (at < end) {
		if (slice_eq(js_tape_text(doc, at), name))
			return at;
		at = doc->tape[doc->tape[at].node.next].node.next;
	}
	return 0;
}

static uint32_t
find_member(struct js_value obj, const char *name)
{
	if (obj.kind != JS_OBJECT)
		return 0;
	return find_name(
	    obj.doc, obj.at + 2, node_of(obj)->next, slice_from(name));
}

struct js_value
js_get(struct js_value obj, const char *name)
{
	uint32_t at = find_member(obj, name);

	if (at == 0)
		return (struct js_value){ .doc = obj.doc };
	return value_at(obj.doc, obj.doc->tape[at].node.next);
}

size_t
js_count(struct js_value v)
{
	if (v.kind != JS_OBJECT && v.kind != JS_ARRAY)
		return 0;
	return v.doc->tape[v.at + 1].inside.count;
}

struct slice
js_raw(struct js_value v)
{
	if (v.kind == JS_NONE)
		return (struct slice){ 0 };
	const struct js_node *n = node_of(v);
	return (struct slice){ v.doc->text.ptr + n->start, n->end - n->start };
}

struct slice
js_raw_member(struct js_value obj, const char *name)
{
	uint32_t at = find_member(obj, name);

	if (at == 0)
		return (struct slice){ 0 };
	const union js_slot *tape = obj.doc->tape;
	uint32_t start = tape[at].node.start;
	uint32_t end = tape[tape[at].node.next].node.end;
	return (struct slice){ obj.doc->text.ptr + start, end - start };
}

struct js_walk
js_walk(struct js_value v)
{
	if (v.kind != JS_OBJECT && v.kind != JS_ARRAY)
		return (struct js_walk){ .doc = v.doc };
	return (struct js_walk){ v.doc, v.at + 2, node_of(v)->next,
		v.kind == JS_OBJECT };
}

bool
js_next(struct js_walk *w, struct slice *name, struct js_value *value)
{
	if (w->at >= w->end)
		return false;
	struct slice text = { 0 };
	if (w->named) {
		text = js_tape_text(w->doc, w->at);
		w->at = w->doc->tape[w->at].node.next;
	}
	if (name != NULL)
		*name = text;
	if (value != NULL)
		*value = value_at(w->doc, w->at);
	w->at = w->doc->tape[w->at].node.next;
	return true;
}

struct slice
js_raw_name(const struct js_walk *w)
{
	if (!w->named || w->at >= w->end)
		return (struct slice){ 0 };
	const struct js_node *n = &w->doc->tape[w->at].node;
	return (struct slice){ w->doc->text.ptr + n->start, n->end - n->start };
}

static int
expect(struct js_value v, enum js_kind kind)
{
	if (v.kind == kind)
		return 0;
	return v.kind == JS_NONE ? ERR_MISSING : ERR_TYPE;
}

int
js_string(struct js_value v, struct slice *out)
{
	int err = expect(v, JS_STRING);

	if (err == 0)
		*out = js_tape_text(v.doc, v.at);
	return err;
}

int
js_bool(struct js_value v, bool *out)
{
	int err = expect(v, JS_BOOL);

	if (err == 0)
		*out = (node_of(v)->flags & JS_TRUE) != 0;
	return err;
}

/* Fields ---------------------------------------------------------------- */

void
js_fields_init(struct js_fields *f, struct js_value obj)
{
	*f = (struct js_fields){ .obj = obj };
	f->err = expect(obj, JS_OBJECT);
	if (f->err == 0)
		f->cursor = obj.at + 2;
}

static void
refuse(struct js_fields *f, const char *name, int err)
{
	if (f->err != 0 || err == 0)
		return;
	f->err = err;
	f->field = slice_from(name);
}

/* Senders write their fields in one order, so begin behind the last one. */
struct js_value
js_field(struct js_fields *f, const char *name)
{
	const struct js_doc *doc = f->obj.doc;

	if (f->err != 0)
		return (struct js_value){ .doc = doc };
	struct slice key = slice_from(name);
	uint32_t end = node_of(f->obj)->next;
	uint32_t at = 0;
	/* With a repeated name the first must win wherever we stand. */
	if (doc->repeated.ptr == NULL)
		at = find_name(doc, f->cursor, end, key);
	if (at == 0)
		at = find_name(doc, f->obj.at + 2, end, key);
	if (at == 0)
		return (struct js_value){ .doc = doc };
	struct js_value v = value_at(doc, doc->tape[at].node.next);
	f->cursor = node_of(v)->next;
	return v;
}

/* The member, null taken for absent; false when it is absent or all is
 * lost. */
static bool
present(struct js_fields *f, const char *name, struct js_value *v)
{
	*v = js_field(f, name);
	return v->kind != JS_NONE && v->kind != JS_NULL;
}

static bool
needed(struct js_fields *f, const char *name, struct js_value *v)
{
	bool there = present(f, name, v);

	if (!there)
		refuse(f, name, ERR_MISSING);
	return there;
}

void
js_need_string(struct js_fields *f, const char *name, struct slice *out)
{
	struct js_value v;

	if (needed(f, name, &v))
		refuse(f, name, js_string(v, out));
}

void
js_opt_string(struct js_fields *f, const char *name, struct slice *out)
{
	struct js_value v;

	if (present(f, name, &v))
		refuse(f, name, js_string(v, out));
	else if (f->err == 0)
		*out = (struct slice){ 0 };
}

static int
bounded(struct js_value v, int64_t min, int64_t max, int64_t *out)
{
	int64_t n = 0;
	int err = js_i64(v, &n);

	if (err == 0 && (n < min || n > max))
		err = ERR_RANGE;
	if (err == 0)
		*out = n;
	return err;
}

void
js_need_i64(struct js_fields *f, const char *name, int64_t min, int64_t max,
    int64_t *out)
{
	struct js_value v;

	if (needed(f, name, &v))
		refuse(f, name, bounded(v, min, max, out));
}

void
js_opt_i64(struct js_fields *f, const char *name, int64_t min, int64_t max,
    int64_t fallback, int64_t *out)
{
	struct js_value v;

	if (present(f, name, &v))
		refuse(f, name, bounded(v, min, max, out));
	else if (f->err == 0)
		*out = fallback;
}

void
js_need_double(struct js_fields *f, const char *name, double *out)
{
	struct js_value v;

	if (needed(f, name, &v))
		refuse(f, name, js_double(v, out));
}

void
js_opt_double(
    struct js_fields *f, const char *name, double fallback, double *out)
{
	struct js_value v;

	if (present(f, name, &v))
		refuse(f, name, js_double(v, out));
	else if (f->err == 0)
		*out = fallback;
}

void
js_need_bool(struct js_fields *f, const char *name, bool *out)
{
	struct js_value v;

	if (needed(f, name, &v))
		refuse(f, name, js_bool(v, out));
}

void
js_opt_bool(struct js_fields *f, const char *name, bool fallback, bool *out)
{
	struct js_value v;

	if (present(f, name, &v))
		refuse(f, name, js_bool(v, out));
	else if (f->err == 0)
		*out = fallback;
}

void
js_need_kind(struct js_fields *f, const char *name, enum js_kind kind,
    struct js_value *out)
{
	struct js_value v;

	if (!needed(f, name, &v))
		return;
	refuse(f, name, expect(v, kind));
	if (f->err == 0)
		*out = v;
}

void
js_opt_kind(struct js_fields *f, const char *name, enum js_kind kind,
    struct js_value *out)
{
	struct js_value v;

	if (present(f, name, &v))
		refuse(f, name, expect(v, kind));
	else
		v = (struct js_value){ .doc = f->obj.doc };
	if (f->err == 0)
		*out = v;
}
