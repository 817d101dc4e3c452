/*
 * console_parts: what the files of the console dialect share.
 */
#ifndef DIALECT_CONSOLE_PARTS_H
#define DIALECT_CONSOLE_PARTS_H

#include "base/js.h"
#include "base/js_write.h"

#include "dialect/console_say.h"

/* Reading ----------------------------------------------------------------- */

/* One message being read. */
struct console_reader {
	struct console_peer *peer; /* changed only when all went well */
	struct arena *a;
	wall_msec now;
	struct js_value body; /* where its fields are */
	bool upper;
	enum request_op op; /* of the message's row */
	struct slice request_id;
	struct console_message *out;
};

enum console_from {
	FROM_GUEST = 1 << CONSOLE_GUEST,
	FROM_DASHBOARD = 1 << CONSOLE_DASHBOARD,
	FROM_AGENT = 1 << CONSOLE_AGENT,
	FROM_ALL = FROM_GUEST | FROM_DASHBOARD | FROM_AGENT
};

struct console_row {
	struct slice type;
	unsigned from; /* who may say it: enum console_from */
	enum console_limit limit;
	/* 0 or ERR_NOMEM; a refusal is a message, too. */
	int (*read)(struct console_reader *r);
	/* What it asks of the hub, but from an agent on a stop; OPS: nothing */
	enum request_op op;
};

/* Turn the message into EVENT_BAD.  Always 0. */
int console_refuse(struct console_reader *r, int err, struct slice code,
    struct slice field, struct slice text);
/* The same for what f stumbled over; prefix goes before the name.  0 or
 * ERR_NOMEM. */
int console_refuse_field(
    struct console_reader *r, const struct js_fields *f, const char *prefix);

/* An id that a client chose: 1 to CONSOLE_ID_MAX bytes. */
void console_need_id(struct js_fields *f, const char *name, struct slice *out);
void console_opt_id(struct js_fields *f, const char *name, struct slice *out);

/* The request that its row says, to be filled in further. */
struct request *console_request(struct console_reader *r, struct slice id);

/* console_dashboard.c, console_agent.c: one function a row. */
int console_read_dashboard(struct console_reader *r);
int console_read_init(struct console_reader *r);
int console_read_goodbye(struct console_reader *r);
int console_read_subscribe(struct console_reader *r);
int console_read_unsubscribe(struct console_reader *r);
int console_read_request(struct console_reader *r);
int console_read_command_word(struct console_reader *r);
int console_read_clear(struct console_reader *r);
int console_read_control(struct console_reader *r);
int console_read_stop(struct console_reader *r);
int console_read_resume(struct console_reader *r);

int console_read_connect(struct console_reader *r);
int console_read_status(struct console_reader *r);
int console_read_trouble(struct console_reader *r);
int console_read_command_status(struct console_reader *r);
int console_read_complete(struct console_reader *r);
int console_read_output(struct console_reader *r);
int console_read_upper_output(struct console_reader *r);
int console_read_trace(struct console_reader *r);
int console_read_report(struct console_reader *r);
/* A foreign agent's word on the last stop, or its lifting. */
int console_read_heeded(struct console_reader *r, bool stopped);
/* Whether an id is that of a message that told of a stop, and of which. */
bool console_stop_id(struct slice id, uint64_t *epoch);

int console_read_ping(struct console_reader *r);
int console_read_pong(struct console_reader *r);
int console_read_ack(struct console_reader *r);
int console_read_refresh(struct console_reader *r);

/* Of an id; never 0. */
uint64_t console_hash(struct slice id);

/* console_command.c: what is to be run.  0, or ERR_NOMEM. */
int console_read_command(
    struct console_reader *r, struct request *q, struct command_record *c);

/* console_pack.c ---------------------------------------------------------- */

int console_read_batch(struct console_reader *r, struct js_value root);
int console_read_packed(struct console_reader *r, struct js_value root);
/* The text within; absent when it was refused.  0 or ERR_NOMEM. */
int console_inflate(struct console_reader *r, const struct console_packed *p,
    struct slice *inner);

/* Writing ----------------------------------------------------------------- */

/* One event being said: of its messages only the n-th is written. */
struct console_say {
	const struct console_context *c;
	size_t n;
	struct buf *out;
	struct js_writer w;
	int done; /* 1: it is written; or ERR_* */
	size_t index;
	bool stop_id; /* the message's id is that of a stop */
	uint64_t epoch;
};

void console_say_init(struct console_say *s, const struct console_context *c,
    size_t n, struct buf *out);
/* The next message of the event: whether it is the one that is wanted.  Then
 * its fields are put with s->w, and console_end follows. */
bool console_begin(struct console_say *s, const char *type);
void console_end(struct console_say *s);

/* An instant: text in flat, a number in upper. */
void console_put_at(struct console_say *s, const char *key, wall_msec at);
/* The same, unless the slice is empty. */
void console_put_some(
    struct console_say *s, const char *key, struct slice value);
/* metrics or healthMetrics, when the agent reported figures. */
void console_put_metrics(struct console_say *s, const char *key,
    const struct agent_news *news, bool with_running);
/* "claude", or CLAUDE in upper. */
void console_put_type(struct console_say *s, const struct agent_news *news);
/* command and args, and what else was said of what is to be run. */
void console_put_command(
    struct console_say *s, const struct command_record *r, bool content);
/* 128 and the signal, or the exit code; -1 when it has none. */
int console_exit_code(const struct command_record *r);
msec console_duration(const struct command_record *r);
/* "completed", "failed" or "interrupted"; "queued", "running". */
struct slice console_state_word(enum command_state state);
/* The stable code of an end that is not its program's own; or absent. */
struct slice console_end_code(const struct command_record *r);

/* Whether its presence is shown another way now, or for another reason; who
 * reconnects is shown as it was. */
bool console_shows_news(const struct agent_news *news);
/* The hub names fields as the cluster dialect does. */
struct slice console_field_name(struct slice field);
/* The members of an object, into the one that is being written; commandId is
 * the one given. */
void console_put_details(
    struct console_say *s, struct slice json, struct slice command_id);

/* The messages of one event. */
void console_flat_event(struct console_say *s, const struct event *ev);
void console_upper_event(struct console_say *s, const struct event *ev);

#endif
