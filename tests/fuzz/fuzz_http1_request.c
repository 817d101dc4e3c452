/*
 * Requests: the first byte is the size of the pieces.  Heads and bodies come
 * out the same whole and in pieces; then the server's machine gets it all.
 */
#include "wire/http1_server.h"

#include "http1_pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_request(struct pieces *p, struct slice in, size_t step)
{
	pieces_init(p);
	pieces_head(p, http1_parse_request, in, step);
	if (p->head_result <= 0)
		return;
	pieces_judge(&p->head);
	pieces_check(p->head.minor == 0 || http1_count(&p->head, "host") == 1);
	pieces_check(http1_count(&p->head, "host") <= 1);
	if (http1_body_request(&p->body, &p->head, 1 << 20) != 0)
		return;
	pieces_body(p, slice_from_at(in, (size_t)p->head_result), step);
}

static void
answer(struct http1_server *s, int status, struct buf *out)
{
	struct http1_reply r = { .status = status };

	pieces_check(http1_server_answer(s, &r, SL("hello"), out) == 0);
	buf_clear(out);
}

static void
serve(struct slice in, size_t step)
{
	static struct http1_head scratch;
	struct http1_server s;
	struct http1_event ev;
	struct buf out;

	buf_init(&out, 1 << 16);
	http1_server_init(&s, &http1_times_default, 1 << 16, 0);
	while (in.len > 0) {
		http1_server_feed(&s, slice_first(in, step), 0);
		while (http1_server_next(&s, &scratch, &ev)) {
			if (ev.kind == HTTP1_REQUEST)
				http1_server_trailers(&s);
			else if (ev.kind == HTTP1_END)
				answer(&s, 200, &out);
			else if (ev.kind == HTTP1_BAD)
				answer(&s, ev.status, &out);
		}
		in = slice_from_at(in, step);
	}
	http1_server_eof(&s);
	while (http1_server_next(&s, &scratch, &ev))
		answer(&s, ev.status, &out);
	pieces_check(http1_server_closing(&s));
	http1_server_fini(&s);
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pieces whole, cut;

	if (size < 2)
		return 0;
	size_t step = (size_t)data[0] + 1;
	struct slice in = { data + 1, size - 1 };
	read_request(&whole, in, in.len);
	read_request(&cut, in, step);
	pieces_compare(&whole, &cut);
	pieces_trailers(&whole);
	pieces_fini(&whole);
	pieces_fini(&cut);
	serve(in, in.len);
	serve(in, step);
	return 0;
}
