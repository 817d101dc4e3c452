/*
 * The stop's own file.  What begins with an S is sealed first, or no input
 * would ever get past the sum.  What is read is written and read the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#include "server/stopfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 16 << 20 };

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
same(const struct stop_state *a, const struct stop_state *b)
{
	check(a->epoch == b->epoch && a->count == b->count);
	for (size_t i = 0; i < a->count; i++) {
		const struct stop_record *x = &a->stops[i], *y = &b->stops[i];
		check(x->epoch == y->epoch && x->scope == y->scope &&
		    x->keep_tunnels == y->keep_tunnels && x->at == y->at &&
		    x->workspace_id == y->workspace_id);
		check(slice_eq(x->target, y->target) &&
		    slice_eq(x->bound, y->bound) &&
		    slice_eq(x->reason, y->reason) &&
		    slice_eq(x->actor, y->actor) &&
		    slice_eq(x->request_key, y->request_key));
	}
}

static void
write_again(const struct stop_state *s)
{
	struct stop_state again;
	struct arena a;
	struct buf b;

	arena_init(&a, ROOM);
	buf_init(&b, ROOM);
	stopfile_encode(&b, s);
	check(b.err == 0);
	check(stopfile_decode(buf_peek(&b), &a, &again) == 0);
	same(s, &again);
	buf_fini(&b);
	arena_fini(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = { data, size };
	struct stop_state s;
	struct arena a;
	struct buf b;

	arena_init(&a, ROOM);
	buf_init(&b, ROOM);
	if (size > 0 && data[0] == 'S')
		stopfile_seal(&b, slice_from_at(in, 1));
	else
		buf_put(&b, in);
	int err = b.err != 0 ? b.err : stopfile_decode(buf_peek(&b), &a, &s);
	check(err == 0 || err == ERR_CORRUPT || err == ERR_NEWER);
	if (err == 0)
		write_again(&s);
	buf_fini(&b);
	arena_fini(&a);
	return 0;
}
