/*
 * Responses: the first byte is the size of the pieces and whether HEAD was
 * asked.  Whole and in pieces must agree, for the codec and for the machine.
 */
#include "wire/http1_client.h"

#include "http1_pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_response(struct pieces *p, struct slice in, size_t step, bool head)
{
	pieces_init(p);
	pieces_head(p, http1_parse_response, in, step);
	if (p->head_result <= 0)
		return;
	pieces_judge(&p->head);
	if (http1_body_response(&p->body, &p->head, head, 1 << 20) != 0)
		return;
	pieces_body(p, slice_from_at(in, (size_t)p->head_result), step);
}

/* The kinds of events in order, and the data. */
static void
drain(struct http1_client *c, struct buf *log)
{
	static struct http1_head scratch;
	struct http1_event ev;

	while (http1_client_next(c, &scratch, &ev)) {
		if (ev.kind == HTTP1_RESPONSE)
			http1_client_trailers(c);
		if (ev.kind != HTTP1_BODY)
			buf_put_byte(log, (uint8_t)('0' + ev.kind));
		buf_put(log, ev.data);
		if (ev.kind == HTTP1_END && ev.head != NULL)
			buf_put(log, ev.head->bytes);
	}
}

static void
receive(struct slice in, size_t step, bool head, struct buf *log)
{
	struct http1_ask ask = { .method = head ? SL("HEAD") : SL("GET"),
		.target = SL("/"),
		.host = SL("h") };
	struct http1_client c;
	struct buf out;

	buf_init(&out, 1000);
	http1_client_init(&c, 1 << 16);
	pieces_check(http1_client_ask(&c, &ask, &out) == 0);
	pieces_check(http1_client_finish(&c, &out) == 0);
	while (in.len > 0) {
		http1_client_feed(&c, slice_first(in, step));
		drain(&c, log);
		in = slice_from_at(in, step);
	}
	http1_client_eof(&c);
	drain(&c, log);
	http1_client_fini(&c);
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pieces whole, cut;
	struct buf a, b;

	if (size < 2)
		return 0;
	bool head = (data[0] & 128) != 0;
	size_t step = (size_t)(data[0] & 127) + 1;
	struct slice in = { data + 1, size - 1 };
	read_response(&whole, in, in.len, head);
	read_response(&cut, in, step, head);
	pieces_compare(&whole, &cut);
	pieces_trailers(&whole);
	pieces_fini(&whole);
	pieces_fini(&cut);

	buf_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	receive(in, in.len, head, &a);
	receive(in, step, head, &b);
	pieces_check(slice_eq(buf_peek(&a), buf_peek(&b)));
	buf_fini(&a);
	buf_fini(&b);
	return 0;
}
