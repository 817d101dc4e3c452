/*
 * monitor: the dialect of status boards (floor: dialect).
 *
 * `{"type": ..., "payload": {..., "timestamp": milliseconds}}`, from the
 * controller alone: what boards say is ignored, whatever it is (count it).
 * docs/protocol/monitor.md is the specification.
 */
#ifndef DIALECT_MONITOR_H
#define DIALECT_MONITOR_H

#include "base/buf.h"
#include "base/utf8.h"

#include "model/event.h"

/*
 * Append the n-th message, from 0, of an event: WELCOME (the snapshot, one
 * message an agent) and NOTICE.  1; 0 when there is no n-th, and nothing was
 * appended; ERR_FULL or ERR_NOMEM.  The same for everyone.
 */
int monitor_encode(const struct event *ev, size_t n, struct buf *out);

int monitor_encode_heartbeat(wall_msec now, struct buf *out);

/* session:activity.  text is UTF-8 of any length; 500 characters are said. */
int monitor_encode_activity(struct slice agent_id, struct slice session_id,
    struct slice text, wall_msec at, struct buf *out);

enum { MONITOR_CHARACTERS = 500, MONITOR_LINE = 4 * MONITOR_CHARACTERS };

/*
 * The last line with something in it of a terminal's or command's output,
 * without control sequences.  Zero at the start.
 */
struct monitor_line {
	struct utf8_mender mender;
	uint32_t state;    /* inside a control sequence */
	bool fresh;        /* changed since monitor_line_take */
	uint16_t at_count; /* characters in at */
	uint16_t at_len;   /* bytes: the line being written */
	uint16_t kept_len; /* bytes: the last one that ended */
	uint8_t at[MONITOR_LINE];
	uint8_t kept[MONITOR_LINE];
};

void monitor_line_feed(struct monitor_line *l, struct slice bytes);

/* 1 and the line (borrowed until the next feed), when it is another one than
 * at the last take; 0 when there is nothing new. */
int monitor_line_take(struct monitor_line *l, struct slice *line);

#endif
