/*
 * Event streams: the first byte is the size of the pieces.  Whole and in
 * pieces give the same events, and an event written again reads the same.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
write_again(const struct sse_event *ev, struct buf *out)
{
	struct sse_event again;
	struct sse_reader r;
	struct buf b;

	buf_init(&b, 1 << 20);
	sse_put_event(&b, ev);
	check(b.err == 0);
	sse_reader_init(&r, 1 << 16);
	sse_feed(&r, buf_peek(&b));
	check(sse_next(&r, &again) == 1);
	check(slice_eq(again.type, ev->type));
	check(slice_eq(again.id, ev->id));
	check(slice_eq(again.data, ev->data));
	check(sse_next(&r, &again) == 0);
	sse_reader_fini(&r);
	buf_put(out, buf_peek(&b));
	buf_fini(&b);
}

static int
read_all(struct slice in, size_t step, struct buf *out)
{
	struct sse_reader r;
	struct sse_event ev;
	int n = 0;

	sse_reader_init(&r, 200);
	while (in.len > 0 && n == 0) {
		sse_feed(&r, slice_first(in, step));
		while ((n = sse_next(&r, &ev)) > 0) {
			/* Read, but never written: NUL in a type. */
			if (slice_find(ev.type, 0) == ev.type.len)
				write_again(&ev, out);
		}
		in = slice_from_at(in, step);
	}
	buf_put_u64(out, (uint64_t)(r.retry + 1));
	sse_reader_fini(&r);
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf a, b;

	if (size < 2)
		return 0;
	size_t step = (size_t)data[0] + 1;
	struct slice in = { data + 1, size - 1 };
	buf_init(&a, 1 << 22);
	buf_init(&b, 1 << 22);
	check(read_all(in, in.len, &a) == read_all(in, step, &b));
	check(slice_eq(buf_peek(&a), buf_peek(&b)));
	buf_fini(&a);
	buf_fini(&b);
	return 0;
}
