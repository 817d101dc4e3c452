#include <assert.h>
#include <string.h>

#include "base/err.h"

#include "base/conf.h"

const struct conf_option *
conf_find(const struct conf_table *table, struct slice key)
{
	for (size_t i = 0; i < table->count; i++) {
		if (slice_eq(key, slice_from(table->options[i].key)))
			return &table->options[i];
	}
	return NULL;
}

/* A value of any kind but CONF_MANY. */
union value {
	struct slice text;
	uint64_t number;
	msec time;
	bool truth;
};

static int
read_value(enum conf_kind kind, struct slice s, union value *v)
{
	switch (kind) {
	case CONF_BOOL:
		return conf_bool(s, &v->truth);
	case CONF_COUNT:
		return conf_u64(s, &v->number);
	case CONF_SIZE:
		return conf_size(s, &v->number);
	case CONF_DURATION:
		return conf_duration(s, &v->time);
	case CONF_TEXT:
	case CONF_MANY:
		break;
	}
	v->text = s;
	return 0;
}

/* What min and max speak of. */
static uint64_t
magnitude(enum conf_kind kind, const union value *v)
{
	switch (kind) {
	case CONF_COUNT:
	case CONF_SIZE:
		return v->number;
	case CONF_DURATION:
		return (uint64_t)v->time;
	case CONF_TEXT:
	case CONF_MANY:
		return v->text.len;
	case CONF_BOOL:
		break;
	}
	return v->truth;
}

static size_t
width(enum conf_kind kind)
{
	switch (kind) {
	case CONF_TEXT:
		return sizeof(struct slice);
	case CONF_BOOL:
		return sizeof(bool);
	case CONF_COUNT:
	case CONF_SIZE:
	case CONF_DURATION:
		return sizeof(uint64_t);
	case CONF_MANY:
		break;
	}
	return 0;
}

int
conf_set(const struct conf_option *o, struct slice value, void *storage)
{
	union value v = { 0 };
	int err = read_value(o->kind, value, &v);

	if (err != 0)
		return err;
	uint64_t size = magnitude(o->kind, &v);
	if (size < o->min || (o->max != 0 && size > o->max))
		return ERR_RANGE;
	memcpy((uint8_t *)storage + o->at, &v, width(o->kind));
	return 0;
}

void
conf_defaults(const struct conf_table *table, void *storage)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct conf_option *o = &table->options[i];
		if (o->fallback == NULL)
			continue;
		int err = conf_set(o, slice_from(o->fallback), storage);
		assert(err == 0);
		(void)err;
	}
}

enum { KEY_MAX = 40 };

/* How many letters to change, add or drop to get from a to b. */
static size_t
distance(struct slice a, struct slice b)
{
	size_t row[KEY_MAX + 1];

	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 0; i < a.len; i++) {
		size_t corner = row[0]++;
		for (size_t j = 0; j < b.len; j++) {
			size_t change = corner + (a.ptr[i] != b.ptr[j]);
			size_t best = row[j] < row[j + 1] ? row[j] : row[j + 1];
			corner = row[j + 1];
			row[j + 1] = change < best + 1 ? change : best + 1;
		}
	}
	return row[b.len];
}

/* The key that a misspelt one is nearest to, if any is near. */
static const char *
nearest(const struct conf_table *table, struct slice key)
{
	const char *found = NULL;
	size_t best = key.len / 3 + 2;

	for (size_t i = 0; i < table->count && key.len <= KEY_MAX; i++) {
		struct slice candidate = slice_from(table->options[i].key);
		if (candidate.len > KEY_MAX)
			continue;
		size_t far = distance(key, candidate);
		if (far < best) {
			best = far;
			found = table->options[i].key;
		}
	}
	return found;
}

/* The line of an earlier entry for the same key in this section, or 0. */
static uint32_t
earlier(const struct conf_doc *doc, size_t at)
{
	const struct conf_entry *e = &doc->entries[at];

	for (size_t i = 0; i < at; i++) {
		const struct conf_entry *old = &doc->entries[i];
		if (old->name.ptr == NULL && slice_eq(old->key, e->key) &&
		    slice_eq(old->section, e->section))
			return old->line;
	}
	return 0;
}

static int
apply_entry(const struct conf_table *table, const struct conf_doc *doc,
    size_t at, void *storage, struct conf_problem *p)
{
	const struct conf_entry *e = &doc->entries[at];
	const struct conf_option *o = conf_find(table, e->key);

	*p = (struct conf_problem){
		.line = e->line, .key = e->key, .value = e->value, .option = o
	};
	if (o == NULL) {
		p->nearest = nearest(table, e->key);
		return p->err = ERR_NOT_FOUND;
	}
	if (o->kind == CONF_MANY)
		return 0;
	p->first_line = earlier(doc, at);
	if (p->first_line != 0)
		return p->err = ERR_DUPLICATE;
	return p->err = conf_set(o, e->value, storage);
}

int
conf_apply(const struct conf_table *table, const struct conf_doc *doc,
    struct slice section, void *storage, size_t *at, struct conf_problem *p)
{
	while (*at < doc->count) {
		const struct conf_entry *e = &doc->entries[(*at)++];
		if (e->key.len == 0 || e->name.ptr != NULL ||
		    !slice_eq(e->section, section))
			continue;
		int err = apply_entry(table, doc, *at - 1, storage, p);
		if (err != 0)
			return err;
	}
	return 0;
}

/* Text for people ------------------------------------------------------- */

static void
put(struct buf *out, const char *text)
{
	buf_put(out, slice_from(text));
}

static const struct {
	const char *name, *example;
} kinds[] = {
	[CONF_TEXT] = { "text", "text" },
	[CONF_BOOL] = { "yes or no", "yes or no" },
	[CONF_COUNT] = { "number", "a number such as 100" },
	[CONF_SIZE] = { "size", "a size such as 64K or 16MiB" },
	[CONF_DURATION] = { "duration", "a duration such as 30s or 5m" },
	[CONF_MANY] = { "text, may be repeated", "text" },
};

/* A bound in the largest unit that divides it. */
static void
put_bound(struct buf *out, enum conf_kind kind, uint64_t n)
{
	static const struct {
		uint64_t factor;
		const char *unit;
	} times[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" },
		{ 1000, "s" }, { 1, "ms" } },
	  sizes[] = { { UINT64_C(1) << 40, "TiB" }, { 1 << 30, "GiB" },
		  { 1 << 20, "MiB" }, { 1 << 10, "KiB" }, { 1, "" } };
	size_t i = 0;

	if (kind != CONF_DURATION && kind != CONF_SIZE) {
		buf_put_u64(out, n);
		put(out, kind == CONF_TEXT ? " bytes" : "");
		return;
	}
	bool time = kind == CONF_DURATION;
	while (n == 0 ? i < 4
		      : n % (time ? times[i].factor : sizes[i].factor) != 0)
		i++;
	buf_put_u64(out, n / (time ? times[i].factor : sizes[i].factor));
	if (n > 0)
		put(out, time ? times[i].unit : sizes[i].unit);
}

static void
put_range(struct buf *out, const struct conf_option *o)
{
	if (o->max != 0) {
		put_bound(out, o->kind, o->min);
		put(out, " to ");
		put_bound(out, o->kind, o->max);
	} else {
		put(out, "at least ");
		put_bound(out, o->kind, o->min);
	}
}

/* A stranger's text: long or odd values are cut and dotted. */
static void
put_quoted(struct buf *out, struct slice s)
{
	struct slice shown = slice_first(s, 60);

	put(out, "\"");
	for (size_t i = 0; i < shown.len; i++) {
		uint8_t c = shown.ptr[i];
		buf_put_byte(out, c < 0x20 || c > 0x7e ? '.' : c);
	}
	put(out, shown.len < s.len ? "...\"" : "\"");
}

static void
explain_value(const struct conf_problem *p, struct buf *out)
{
	put_quoted(out, p->key);
	put(out, " is ");
	put_quoted(out, p->value);
	if (p->err == ERR_RANGE) {
		put(out, ", allowed is ");
		put_range(out, p->option);
	} else {
		put(out, ", expected ");
		put(out, kinds[p->option->kind].example);
	}
}

void
conf_explain(const struct conf_problem *p, struct buf *out)
{
	if (p->line != 0) {
		put(out, "line ");
		buf_put_u64(out, p->line);
		put(out, ": ");
	}
	if (p->option == NULL) {
		put(out, "unknown key ");
		put_quoted(out, p->key);
		if (p->nearest != NULL) {
			put(out, ", did you mean ");
			put_quoted(out, slice_from(p->nearest));
			put(out, "?");
		}
	} else if (p->err == ERR_DUPLICATE) {
		put_quoted(out, p->key);
		put(out, " is set already on line ");
		buf_put_u64(out, p->first_line);
	} else {
		explain_value(p, out);
	}
}

void
conf_describe(const struct conf_option *o, struct buf *out)
{
	static const char *const reloads[] = { [CONF_HOT] = "hot",
		[CONF_NEW_CONNECTIONS] = "new connections",
		[CONF_RESTART] = "restart" };

	put(out, o->key);
	put(out, " (");
	put(out, kinds[o->kind].name);
	if (o->min != 0 || o->max != 0) {
		put(out, ", ");
		put_range(out, o);
	}
	if (o->fallback != NULL && o->fallback[0] != '\0') {
		put(out, ", default ");
		put(out, o->fallback);
	}
	put(out, ", reload ");
	put(out, reloads[o->reload]);
	put(out, "): ");
	put(out, o->sentence);
}
