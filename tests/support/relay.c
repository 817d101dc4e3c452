#include <stdlib.h>

#include "base/err.h"

#include "support/relay.h"

static struct http1_head scratch;

void
relay_init(struct relay *r)
{
	*r = (struct relay){ .hop = { .peer = SL("192.0.2.7"),
				 .client = SL("192.0.2.7"),
				 .request_id = SL("r") } };
	memset(r->hop.trace, 1, sizeof(r->hop.trace));
	http1_server_init(&r->visitor, &http1_times_default, 4, 0);
	http1_client_init(&r->service, UINT64_MAX);
	arena_init(&r->arena, 1 << 20);
	buf_init(&r->to_service, 1 << 22);
	buf_init(&r->to_visitor, 1 << 22);
}

void
relay_fini(struct relay *r)
{
	http1_server_fini(&r->visitor);
	http1_client_fini(&r->service);
	arena_fini(&r->arena);
	buf_fini(&r->to_service);
	buf_fini(&r->to_visitor);
}

static void
check(struct relay *r, int err)
{
	if (r->err == 0)
		r->err = err;
}

static void
begin(struct relay *r, const struct http1_head *h)
{
	struct http1_ask ask;

	r->hop.upgrade = http1_has_token(h, "upgrade", "websocket");
	http1_server_allow(&r->visitor, UINT64_MAX);
	http1_server_trailers(&r->visitor);
	check(r, hop_request(&r->hop, h, &r->arena, &ask));
	if (r->err == 0)
		check(r, hop_wish(&ask, &r->arena, &r->wish));
	if (r->err == 0)
		check(r, http1_client_ask(&r->service, &ask, &r->to_service));
	r->asked += r->err == 0;
}

static void
end_request(struct relay *r, const struct http1_head *trailers)
{
	const struct http1_pair *fields = NULL;
	size_t count = 0;

	if (trailers != NULL)
		check(r,
		    hop_trailers(
			&r->hop, trailers, &r->arena, &fields, &count));
	if (r->err == 0)
		check(r,
		    http1_client_finish_with(
			&r->service, fields, count, &r->to_service));
	r->ended += r->err == 0;
}

static void
on_visitor(struct relay *r, const struct http1_event *ev)
{
	switch (ev->kind) {
	case HTTP1_REQUEST:
		begin(r, ev->head);
		break;
	case HTTP1_BODY:
		check(r,
		    http1_client_data(&r->service, ev->data, &r->to_service));
		break;
	case HTTP1_END:
		end_request(r, ev->head);
		break;
	case HTTP1_RESPONSE:
	case HTTP1_BAD:
		r->bad = ev->status;
		break;
	}
}

static void
pump_visitor(struct relay *r)
{
	struct http1_event ev;

	while (r->err == 0 && http1_server_next(&r->visitor, &scratch, &ev))
		on_visitor(r, &ev);
}

static void
switch_over(struct relay *r, const struct http1_head *h,
    const struct http1_reply *reply)
{
	struct slice rest, reason;

	check(r, hop_switch_check(&r->wish, h, &r->arena, &reason));
	if (r->err == 0)
		check(r,
		    http1_server_switch(
			&r->visitor, reply, &r->to_visitor, &rest));
	if (r->err != 0)
		return;
	buf_put(&r->to_service, rest);
	check(r, http1_client_upgrade(&r->service, &rest));
	if (r->err == 0)
		buf_put(&r->to_visitor, rest);
	r->raw = true;
}

static void
answer(struct relay *r, const struct http1_head *h)
{
	struct http1_reply reply;

	check(r, hop_response(&r->hop, h, &r->arena, &reply));
	if (r->err != 0)
		return;
	if (reply.status == 101) {
		switch_over(r, h, &reply);
	} else if (reply.status < 200) {
		check(r,
		    http1_server_interim(&r->visitor, &reply, &r->to_visitor));
	} else {
		http1_client_trailers(&r->service);
		check(
		    r, http1_server_start(&r->visitor, &reply, &r->to_visitor));
	}
}

static void
end_answer(struct relay *r, const struct http1_head *trailers)
{
	const struct http1_pair *fields = NULL;
	size_t count = 0;

	if (trailers != NULL)
		check(r,
		    hop_trailers(
			&r->hop, trailers, &r->arena, &fields, &count));
	if (r->err == 0)
		check(r,
		    http1_server_finish_with(
			&r->visitor, fields, count, &r->to_visitor, 0));
	r->answered = true;
}

static void
on_service(struct relay *r, const struct http1_event *ev)
{
	switch (ev->kind) {
	case HTTP1_RESPONSE:
		answer(r, ev->head);
		break;
	case HTTP1_BODY:
		check(r,
		    http1_server_data(&r->visitor, ev->data, &r->to_visitor));
		break;
	case HTTP1_END:
		end_answer(r, ev->head);
		break;
	case HTTP1_REQUEST:
	case HTTP1_BAD:
		r->bad = ev->status;
		break;
	}
}

static void
pump_service(struct relay *r)
{
	struct http1_event ev;

	while (r->err == 0 && !r->raw &&
	    http1_client_next(&r->service, &scratch, &ev))
		on_service(r, &ev);
}

/* Each piece is freed at once: nobody may keep anything of it. */
void
relay_visitor(struct relay *r, struct slice text, size_t step)
{
	for (; text.len > 0 && r->err == 0; text = slice_from_at(text, step)) {
		struct slice piece = slice_first(text, step);
		uint8_t *copy = malloc(piece.len);
		if (copy == NULL)
			return;
		memcpy(copy, piece.ptr, piece.len);
		if (r->raw) {
			buf_put(&r->to_service, piece);
		} else {
			http1_server_feed(
			    &r->visitor, (struct slice){ copy, piece.len }, 0);
			pump_visitor(r);
		}
		free(copy);
	}
}

void
relay_service(struct relay *r, struct slice text, size_t step)
{
	for (; text.len > 0 && r->err == 0; text = slice_from_at(text, step)) {
		struct slice piece = slice_first(text, step);
		uint8_t *copy = malloc(piece.len);
		if (copy == NULL)
			return;
		memcpy(copy, piece.ptr, piece.len);
		if (r->raw) {
			buf_put(&r->to_visitor, piece);
		} else {
			http1_client_feed(
			    &r->service, (struct slice){ copy, piece.len });
			pump_service(r);
			pump_visitor(r);
		}
		free(copy);
	}
}

void
relay_service_eof(struct relay *r)
{
	http1_client_eof(&r->service);
	pump_service(r);
}
