/*
 * The restore parser: whatever comes, names stay inside, sums are checked,
 * and how the input is cut makes no difference.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "store/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	int err;
	uint64_t files;
	uint64_t done;
	uint64_t bytes;
};

static struct seen
unpack(struct slice all, size_t step)
{
	struct seen seen = { 0 };
	struct unpack u;
	uint64_t left = 0;

	assert(unpack_init(&u) == 0);
	while (seen.err == 0 && all.len > 0) {
		struct slice input = slice_first(all, step), before = input;
		struct unpack_event ev;
		while ((seen.err = unpack_next(&u, &input, &ev)) == 1) {
			assert(input.len < before.len || before.len == 0);
			if (ev.kind == UNPACK_FILE) {
				assert(left == 0);
				assert(pack_name_ok(ev.name));
				assert(memchr(ev.name.ptr, 0, ev.name.len) ==
				    NULL);
				seen.files++;
				left = ev.size;
			} else if (ev.kind == UNPACK_BYTES) {
				assert(ev.bytes.len > 0);
				assert(ev.bytes.len <= left);
				left -= ev.bytes.len;
				seen.bytes += ev.bytes.len;
			} else if (ev.kind == UNPACK_DONE) {
				assert(left == 0);
				seen.done++;
			}
		}
		if (seen.err == 0)
			assert(input.len == 0);
		all = slice_from_at(all, before.len);
	}
	if (unpack_done(&u) && seen.err == 0)
		assert(seen.done == seen.files && seen.files > 0);
	unpack_fini(&u);
	return seen;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice all = { data, size };
	struct seen whole = unpack(all, size), bytes = unpack(all, 1);

	assert(memcmp(&whole, &bytes, sizeof(whole)) == 0);
	return 0;
}
