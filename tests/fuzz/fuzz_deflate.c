/*
 * deflate: the first byte chooses.  Negotiation as server, whose answer a
 * client that made no demands must take; as client; and unpacking.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "wire/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CAP = 10000 };

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
accept_offer(const struct deflate_policy *want, struct slice in)
{
	struct deflate_terms t;
	struct deflate_text answer;

	if (deflate_accept(in, want, &t, &answer) <= 0)
		return;
	check(answer.len <= sizeof(answer.bytes));
	check(t.on && t.server_bits >= 9 && t.server_bits <= 15);
	check(t.client_bits >= 8 && t.client_bits <= 15);
	check(want->server_takeover || !t.server_takeover);
	check(want->client_takeover || !t.client_takeover);
	struct deflate_policy any = { true, true, 15, 15 };
	struct deflate_terms told;
	check(deflate_check((struct slice){ answer.bytes, answer.len }, &any,
		  &told) == 0);
	check(memcmp(&told, &t, sizeof(t)) == 0);
}

static void
unpack(struct slice in)
{
	struct deflate_stream *s = deflate_new_unpacker(15);
	struct buf out;

	buf_init(&out, SIZE_MAX);
	/* Twice: the second with the window of the first. */
	for (int i = 0; i < 2; i++) {
		int r = deflate_unpack(s, in, CAP, &out);
		check(r == 0 || r == ERR_TOO_BIG || r == ERR_CORRUPT);
		check(buf_peek(&out).len <= CAP + 1);
		if (r != 0)
			break;
		buf_clear(&out);
	}
	buf_fini(&out);
	deflate_free(s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct deflate_policy want = { 0 };
	struct deflate_terms t;

	if (size == 0)
		return 0;
	struct slice in = { data + 1, size - 1 };
	want.server_takeover = data[0] & 4;
	want.client_takeover = data[0] & 8;
	want.server_bits = (uint8_t)(9 + (data[0] >> 4) % 7);
	if ((data[0] & 3) == 0)
		accept_offer(&want, in);
	else if ((data[0] & 3) == 1)
		(void)deflate_check(in, &want, &t);
	else
		unpack(in);
	return 0;
}
