/*
 * What both wsconn targets do: the first byte chooses the terms, the second
 * where to cut; the rest comes from the peer, once whole and once in pieces.
 * Both must lead to the same events and the same answers.
 */
#ifndef FUZZ_WSCONN_RUN_H
#define FUZZ_WSCONN_RUN_H

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "wire/wsconn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_CAP = 4096 };

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
note(struct wsconn *c, const struct wsconn_event *ev, struct buf *log)
{
	size_t cap = ev->kind == WS_TEXT || ev->kind == WS_BINARY
	    ? FUZZ_CAP
	    : WS_CONTROL_MAX;

	check(ev->data.len <= cap);
	check(ev->kind != WS_TEXT || utf8_valid(ev->data));
	check(ev->kind < WS_CLOSE || ev->kind == WS_PING ||
	    ev->kind == WS_PONG || c->state == WSCONN_CLOSED);
	buf_put_byte(log, ev->kind);
	buf_put_u64(log, ev->code);
	buf_put(log, ev->data);
}

static void
run(enum wsconn_role role, uint8_t flags, struct slice in, size_t step,
    struct buf *log)
{
	static const uint64_t key[2] = { 1, 2 };
	struct wsconn_lane lane;
	struct wsconn_config config = {
		.lane = &lane,
		.text_cap = FUZZ_CAP,
		.binary_cap = FUZZ_CAP,
	};
	struct deflate_terms terms = {
		.on = flags & 1,
		.server_takeover = flags >> 1 & 1,
		.client_takeover = flags >> 2 & 1,
		.server_bits = (uint8_t)(8 + (flags >> 3 & 7)),
		.client_bits = (uint8_t)(8 + (flags >> 3 & 7)),
	};
	struct wsconn c;
	struct wsconn_event ev;

	wsconn_lane_init(&lane, key, 1);
	wsconn_init(&c, role, &config, 0);
	wsconn_set_deflate(&c, &terms);
	for (size_t at = 0; at < in.len; at += step) {
		size_t n = in.len - at < step ? in.len - at : step;
		uint8_t *mem = malloc(n);
		memcpy(mem, in.ptr + at, n);
		wsconn_feed(&c, mem, n, 1);
		while (wsconn_next(&c, &ev) > 0)
			note(&c, &ev, log);
		free(mem);
		check(wsconn_memory(&c) < 4 * FUZZ_CAP + 64 * 1024);
	}
	buf_put(log, wsconn_out(&c));
	wsconn_fini(&c);
	wsconn_lane_fini(&lane);
}

static int
run_both(enum wsconn_role role, const uint8_t *data, size_t size)
{
	struct buf whole, cut;

	if (size < 3)
		return 0;
	struct slice in = { data + 2, size - 2 };
	buf_init(&whole, SIZE_MAX);
	buf_init(&cut, SIZE_MAX);
	run(role, data[0], in, in.len, &whole);
	run(role, data[0], in, 1 + data[1] % 40, &cut);
	check(slice_eq(buf_peek(&whole), buf_peek(&cut)));
	buf_fini(&whole);
	buf_fini(&cut);
	return 0;
}

#endif
