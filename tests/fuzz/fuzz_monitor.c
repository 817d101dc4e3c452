/*
 * Any bytes as a command's output: the last line is the same however it is
 * cut, is well-formed text of 500 characters at most without control
 * characters, and what is said of it is JSON.
 */
#include <stdlib.h>

#include "base/js.h"

#include "dialect/monitor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
check_line(struct slice line)
{
	size_t count = 0;
	uint32_t code;

	check(line.len > 0);
	while (line.len > 0) {
		int n = utf8_decode(line, &code);
		check(n > 0);
		check(code >= 0x20 && (code < 0x7f || code > 0x9f));
		line = slice_from_at(line, (size_t)n);
		count++;
	}
	check(count <= MONITOR_CHARACTERS);
}

static void
check_said(struct slice text)
{
	const struct js_limits limits = { 1 << 24, 8 };
	struct slice said;
	struct js_doc doc;
	struct arena a;
	struct buf out;

	buf_init(&out, 64 << 20);
	arena_init(&a, 256 << 20);
	check(monitor_encode_activity(
		  SL("a"), SL("c"), text, 1760616000000, &out) == 1);
	check(js_parse(&doc, buf_peek(&out), &limits, &a) == 0);
	check(js_string(js_get(js_get(js_root(&doc), "payload"), "lastMessage"),
		  &said) == 0);
	check(said.len <= 4 * MONITOR_CHARACTERS);
	arena_fini(&a);
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct monitor_line whole, cut;
	struct slice line = { 0 }, other = { 0 };

	whole = cut = (struct monitor_line){ 0 };
	monitor_line_feed(&whole, (struct slice){ data, size });
	for (size_t i = 0; i < size; i++)
		monitor_line_feed(&cut, (struct slice){ data + i, 1 });
	int got = monitor_line_take(&whole, &line);
	check(monitor_line_take(&cut, &other) == got);
	check(slice_eq(line, other));
	if (got == 1) {
		check_line(line);
		check_said(line);
		check(monitor_line_take(&whole, &other) == 0);
	}
	check_said((struct slice){ data, size });
	return 0;
}
