#include "cli/table.h"
#include "base/err.h"
#include "cli/safe.h"

enum {
	CHUNK_CELLS = 240, /* whole rows of 1..6, 8, 10 and 12 columns */
	GAP = 2,
	NARROW = 6 /* no column is cut to less */
};

struct cell {
	struct slice text;
	uint32_t width;
	uint8_t colour;
};

struct table_chunk {
	struct table_chunk *next;
	struct cell cells[CHUNK_CELLS];
};

static const char *const colours[] = { "", "\033[32m", "\033[33m", "\033[31m",
	"\033[2m" };

void
table_init(struct table *t, const struct table_column *columns, size_t width,
    struct arena *a)
{
	memset(t, 0, sizeof(*t));
	t->columns = columns;
	t->width = width;
	t->arena = a;
}

static struct cell *
new_cell(struct table *t)
{
	size_t at = t->count % CHUNK_CELLS;

	if (at == 0) {
		struct table_chunk *c = arena_alloc(t->arena, sizeof(*c));

		if (c == NULL)
			return NULL;
		if (t->last == NULL)
			t->first = c;
		else
			t->last->next = c;
		t->last = c;
	}
	t->count++;
	return &t->last->cells[at];
}

void
table_cell(struct table *t, struct slice text, enum table_colour colour)
{
	struct buf safe;
	struct cell *c = t->err == 0 ? new_cell(t) : NULL;

	if (c == NULL) {
		t->err = ERR_NOMEM;
		return;
	}
	buf_init(&safe, (size_t)1 << 20);
	safe_text(&safe, text);
	t->err = safe.err;
	if (t->err == 0)
		t->err = arena_copy(t->arena, buf_peek(&safe), &c->text);
	c->width = (uint32_t)safe_width(c->text);
	c->colour = (uint8_t)colour;
	buf_fini(&safe);
}

struct table_walk {
	const struct table_chunk *chunk;
	size_t at, left;
};

static const struct cell *
next_cell(struct table_walk *w)
{
	if (w->left == 0)
		return NULL;
	if (w->at == CHUNK_CELLS) {
		w->chunk = w->chunk->next;
		w->at = 0;
	}
	w->left--;
	return &w->chunk->cells[w->at++];
}

static void
write_plain(struct table *t, struct buf *out)
{
	struct table_walk w = { t->first, 0, t->count };
	const struct cell *c;

	for (size_t n = 1; (c = next_cell(&w)) != NULL; n++) {
		buf_put(out, c->text);
		buf_put_byte(out, n % t->width == 0 ? '\n' : '\t');
	}
}

/* Take from the widest column that may shrink until the line fits. */
static void
fit(const struct table *t, size_t width, size_t widths[TABLE_COLUMNS])
{
	size_t total = GAP * (t->width - 1);

	for (size_t i = 0; i < t->width; i++)
		total += widths[i];
	while (total > width) {
		size_t widest = t->width;

		for (size_t i = 0; i < t->width; i++)
			if (!t->columns[i].fixed && widths[i] > NARROW &&
			    (widest == t->width || widths[i] > widths[widest]))
				widest = i;
		if (widest == t->width)
			return;
		widths[widest]--;
		total--;
	}
}

static void
measure(const struct table *t, size_t width, size_t widths[TABLE_COLUMNS])
{
	struct table_walk w = { t->first, 0, t->count };
	const struct cell *c;

	for (size_t i = 0; i < t->width; i++)
		widths[i] = strlen(t->columns[i].title);
	for (size_t n = 0; (c = next_cell(&w)) != NULL; n++)
		if (c->width > widths[n % t->width])
			widths[n % t->width] = c->width;
	fit(t, width, widths);
}

static void
put_spaces(struct buf *out, size_t n)
{
	while (n-- > 0)
		buf_put_byte(out, ' ');
}

/* One cell, padded unless it ends its line. */
static void
put_cell(struct buf *out, const struct cell *c, size_t width, bool right,
    bool last, bool colour)
{
	struct slice text = c->text;
	size_t used = c->width;

	if (used > width) {
		text = safe_fit(text, width - 1);
		used = safe_width(text) + 1;
	}
	if (right)
		put_spaces(out, width - used);
	if (colour)
		buf_put(out, slice_from(colours[c->colour]));
	buf_put(out, text);
	if (text.len != c->text.len)
		buf_put(out, SL("\u2026"));
	if (colour && c->colour != TABLE_PLAIN)
		buf_put(out, SL("\033[0m"));
	if (!last && !right)
		put_spaces(out, width - used);
	if (!last)
		put_spaces(out, GAP);
}

static void
write_head(struct table *t, const size_t *widths, bool colour, struct buf *out)
{
	for (size_t i = 0; i < t->width; i++) {
		struct slice title = slice_from(t->columns[i].title);
		struct cell c = { title, (uint32_t)title.len, TABLE_DIM };

		put_cell(out, &c, widths[i], t->columns[i].right,
		    i + 1 == t->width, colour);
	}
	buf_put_byte(out, '\n');
}

static void
write_aligned(struct table *t, const struct term *term, struct buf *out)
{
	struct table_walk w = { t->first, 0, t->count };
	size_t widths[TABLE_COLUMNS];
	const struct cell *c;

	measure(t, term->width, widths);
	if (*t->columns[0].title != '\0')
		write_head(t, widths, term->colour, out);
	for (size_t n = 0; (c = next_cell(&w)) != NULL; n++) {
		size_t i = n % t->width;

		put_cell(out, c, widths[i], t->columns[i].right,
		    i + 1 == t->width, term->colour);
		if (i + 1 == t->width)
			buf_put_byte(out, '\n');
	}
}

int
table_write(struct table *t, const struct term *term, struct buf *out)
{
	if (t->err != 0)
		return t->err;
	if (!term->out_tty)
		write_plain(t, out);
	else if (t->count > 0)
		write_aligned(t, term, out);
	return out->err;
}
