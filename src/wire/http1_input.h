/*
 * http1_input: bytes on their way into a server or client (floor: wire).
 *
 * Bytes are read where the caller received them.  Only what cannot be used
 * yet is copied: the beginning of a head, and messages sent ahead.  An idle
 * input holds no memory.
 */
#ifndef WIRE_HTTP1_INPUT_H
#define WIRE_HTTP1_INPUT_H

#include "base/buf.h"
#include "wire/http1.h"

/* What may be sent ahead of an answer. */
enum { HTTP1_AHEAD_BYTES = 65536 };

struct http1_input {
	struct slice fed;        /* borrowed from the last feed */
	struct buf held;         /* read before fed */
	struct http1_head *head; /* owned; a head begun in held, or NULL */
	bool given;              /* head is complete and handed out */
	bool spent;              /* trailers are handed out */
	struct buf trailers;     /* of the body that is being read */
};

typedef int http1_parser(struct http1_head *h, struct slice bytes);

void http1_input_init(struct http1_input *in);
void http1_input_fini(struct http1_input *in);

/* The bytes at the front, all of held or all of fed. */
struct slice http1_input_peek(const struct http1_input *in);
void http1_input_eat(struct http1_input *in, size_t n);
bool http1_input_empty(const struct http1_input *in);

/*
 * Parse the head at the front.  As http1_parse_request; ERR_NOMEM too.
 * *head is scratch or owned by in, and it and its bytes stay valid until
 * http1_input_settle.
 */
int http1_input_head(struct http1_input *in, http1_parser *parser,
    struct http1_head *scratch, struct http1_head **head);

/*
 * What came behind the last chunk of b: 0 nothing, or not kept; 1 *head is
 * scratch with the fields, valid as a head; <0 as http1_parse_trailers, and
 * ERR_NOMEM.
 */
int http1_input_trailers(struct http1_input *in, const struct http1_body *b,
    struct http1_head *scratch, const struct http1_head **head);

/* Forget the head handed out, give memory back when there is nothing held. */
void http1_input_settle(struct http1_input *in);

/* Copy what is left of fed.  0, ERR_FULL, ERR_NOMEM. */
int http1_input_keep(struct http1_input *in);

/* Drop everything. */
void http1_input_drop(struct http1_input *in);

/* All bytes in one piece, borrowed until fini; 0 or ERR_NOMEM. */
int http1_input_rest(struct http1_input *in, struct slice *rest);

#endif
