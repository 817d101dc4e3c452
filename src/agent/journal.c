#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include "agent/record.h"

#include "agent/journal.h"

enum { JOURNAL_MAX = 4096 };

int
journal_open(struct journal *j, struct file_layer *fs, const char *state)
{
	struct arena a;
	struct slice text;

	*j = (struct journal){ .fs = fs };
	int n = snprintf(j->path, sizeof(j->path), "%s/journal", state);
	if (n < 0 || (size_t)n >= sizeof(j->path))
		return ERR_TOO_BIG;
	arena_init(&a, 4 * JOURNAL_MAX);
	int err = file_read_all(fs, j->path, JOURNAL_MAX, &a, &text);
	if (err == 0)
		err = record_read_mark(text, &j->mark);
	else if (err == ERR_NOT_FOUND)
		err = 0;
	arena_fini(&a);
	j->saved = j->mark;
	return err;
}

void
journal_note(struct journal *j, uint64_t seq)
{
	if (seq > j->mark)
		j->mark = seq;
}

bool
journal_may_run(const struct journal *j, uint64_t seq)
{
	return seq > j->mark;
}

int
journal_save(struct journal *j, uint64_t mark)
{
	struct buf b;

	if (mark <= j->saved)
		return 0;
	buf_init(&b, JOURNAL_MAX);
	record_write_mark(&b, mark);
	int err = b.err != 0
	    ? b.err
	    : file_write_atomic(j->fs, j->path, buf_peek(&b), 0600);
	if (err == 0)
		j->saved = mark;
	buf_fini(&b);
	return err;
}
