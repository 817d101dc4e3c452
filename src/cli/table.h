/*
 * table: rows of cells for people or for programs (floor: cli).
 *
 * On a terminal: a head, aligned columns, cut to the width (the widest
 * columns that may shrink are cut first, with an ellipsis), colours.  Else:
 * no head, cells parted by tabs, nothing cut.  Cells are foreign text and
 * are escaped on the way in.  Columns without titles have no head.
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "base/arena.h"
#include "base/buf.h"
#include "cli/term.h"

enum { TABLE_COLUMNS = 12 };

struct table_column {
	const char *title;
	bool right; /* numbers */
	bool fixed; /* never cut: ids, which people copy */
};

enum table_colour { TABLE_PLAIN, TABLE_GOOD, TABLE_WARN, TABLE_BAD, TABLE_DIM };

struct table {
	const struct table_column *columns; /* borrowed */
	size_t width;                       /* columns of a row */
	struct arena *arena;                /* borrowed */
	struct table_chunk *first, *last;   /* rows */
	size_t count;                       /* cells put */
	int err;
};

void table_init(struct table *t, const struct table_column *columns,
    size_t width, struct arena *a);

/* Cells in reading order; a row is whole after width of them.  Errors stick
 * until table_write. */
void table_cell(struct table *t, struct slice text, enum table_colour colour);

/* 0, ERR_NOMEM or out->err. */
int table_write(struct table *t, const struct term *term, struct buf *out);

#endif
