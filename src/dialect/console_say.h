/*
 * console_say: what dashboards and coding agents are told (floor: dialect).
 *
 * The other half of console.h.  Nothing here depends on who receives a message
 * but through the context, so that a broadcast is encoded once a spelling.
 *
 * All that encodes appends to out, and returns 1 when it did, 0 when there is
 * nothing to say, or ERR_FULL or ERR_NOMEM, when what is in out is of no use.
 */
#ifndef DIALECT_CONSOLE_SAY_H
#define DIALECT_CONSOLE_SAY_H

#include "base/buf.h"
#include "base/utf8.h"

#include "dialect/console.h"

struct console_context {
	enum console_spelling spelling;
	wall_msec now;
	uint64_t number; /* rising by encode; ids of upper are made of it */
	bool own; /* for the dashboard that asked: notice.asked_by; others,
		   * and all in flat, know a command by Muster's id */
};

/*
 * The n-th message, from 0, of an event: of one event come none, one or many;
 * 0 ends them.
 *
 * To dashboards: REPLY (of what was decoded here), NOTICE, TOKEN_ENDS.  To
 * agents: REGISTERED, EXECUTE, INTERRUPT, CONTROL, STOP_ORDER.  To both:
 * HEARTBEAT_ACK, ACCEPTED, PONG, ERROR, DENIED.  Any other gives 0.
 */
int console_encode(const struct event *ev, const struct console_context *c,
    size_t n, struct buf *out);

/* The id that a receiver of this spelling knows a command by; own as above.
 * In upper a dashboard chooses ids itself, and they are request keys. */
struct slice console_command_id(
    const struct command_record *r, enum console_spelling spelling, bool own);

int console_encode_output(const struct console_output *o,
    const struct console_context *c, struct buf *out);

/* heartbeat:ping, PING. */
int console_encode_ping(const struct console_context *c, struct buf *out);

/* ACK of upper; in flat nothing is said. */
int console_encode_ack(
    struct slice request_id, const struct console_context *c, struct buf *out);

/* The answers to REFRESH.  token is absent when the client brought it. */
struct console_renewed {
	struct slice token;
	struct slice refresh_token;
	wall_msec expires_at;
};
int console_encode_renewed(const struct console_renewed *r,
    struct slice request_id, const struct console_context *c, struct buf *out);
int console_encode_not_renewed(struct slice code, struct slice text,
    struct slice request_id, const struct console_context *c, struct buf *out);

/* connection:error, ERROR; text is a sentence. */
struct console_windows {
	struct {
		uint32_t used, limit;
	} minute, hour, burst;
};
int console_encode_trouble(struct slice code, struct slice text,
    uint32_t retry_after, const struct console_windows *windows,
    struct slice request_id, const struct console_context *c, struct buf *out);

/* For peers that asked for them, in either spelling the same. */
int console_encode_batch(const struct slice *texts, size_t count,
    const struct console_context *c, struct buf *out);
/* 0 when text is short, or would not become shorter. */
int console_encode_compressed(
    struct slice text, const struct console_context *c, struct buf *out);

/* A stream's bytes as text ---------------------------------------------- */

/* Zero at the start; one a stream of a command. */
struct console_carry {
	struct utf8_mender mender;
	uint64_t next; /* offset of what is to come */
};

/*
 * Append what can be said of the stream's bytes from offset: characters that
 * are not whole yet wait, up to three bytes; what is none becomes U+FFFD.  A
 * jump of offset ends what waited.  Returns the offset of what was appended.
 * Failure is in text->err.
 */
uint64_t console_carry_feed(struct console_carry *c, uint64_t offset,
    struct slice bytes, struct buf *text);
/* The stream is over. */
uint64_t console_carry_end(struct console_carry *c, struct buf *text);

#endif
