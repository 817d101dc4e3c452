/*
 * The stream read whole and read in pieces of (first byte) bytes must give
 * the same error and the same bytes, and what was read encodes again.
 */
#include <stdlib.h>

#include "wire/execframe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
	uint64_t bytes, frames, hash;
	int err;
};

/* Independent of where data was cut: position and value of each byte. */
static void
count(struct sum *sum, const struct execframe *f)
{
	uint8_t head[EXECFRAME_HEAD_MAX];
	struct execframe again;

	for (size_t i = 0; i < f->data.len; i++)
		sum->hash += (f->offset + i + 1) * (f->data.ptr[i] + 1U) *
		    (unsigned)f->type;
	if (f->data.len == 0)
		sum->frames += f->offset + f->limit + f->stream + f->signal;
	sum->bytes += f->data.len;
	size_t n = execframe_head(f, EXECFRAME_ON_MESSAGE, head);
	if (f->data.len > 0)
		return;
	enum execframe_side from =
	    f->type < EXECFRAME_STDIN ? EXECFRAME_AGENT : EXECFRAME_CONTROLLER;
	if (execframe_parse(from, (struct slice){ head, n }, &again) != 0 ||
	    again.type != f->type || again.offset != f->offset)
		abort();
}

static struct sum
read_all(enum execframe_side from, struct slice in, size_t step)
{
	struct execframe_reader r;
	struct execframe f;
	struct sum sum = { 0 };

	execframe_reader_init(&r, from);
	while (in.len > 0 && sum.err == 0) {
		int rc;
		execframe_feed(&r, slice_first(in, step));
		while ((rc = execframe_next(&r, &f)) > 0)
			count(&sum, &f);
		sum.err = rc;
		in = slice_from_at(in, step);
	}
	execframe_reader_fini(&r);
	return sum;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct slice in = { data + 1, size - 1 };
	enum execframe_side from =
	    data[0] & 1 ? EXECFRAME_CONTROLLER : EXECFRAME_AGENT;
	struct sum whole = read_all(from, in, SIZE_MAX);
	struct sum parts = read_all(from, in, 1 + data[0] / 2);
	if (whole.err != parts.err || whole.bytes != parts.bytes ||
	    whole.hash != parts.hash || whole.frames != parts.frames)
		abort();
	execframe_parse(from, in, &(struct execframe){ 0 });
	return 0;
}
