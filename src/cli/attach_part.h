/*
 * attach_part: one attached command (floor: cli; see attach.h).
 */
#ifndef CLI_ATTACH_PART_H
#define CLI_ATTACH_PART_H

#include "cli/attach.h"
#include "cli/sink.h"
#include "cli/wslink.h"
#include "wire/execframe.h"

enum part_state {
	PART_ASKED,   /* no answer yet */
	PART_RUNNING, /* accepted */
	PART_AWAY,    /* the connection broke; another try is due */
	PART_ENDED    /* exit is its exit code */
};

struct attach_part {
	struct cli *cli;                    /* borrowed */
	const struct attach_target *target; /* borrowed */
	const char *name;                   /* borrowed */
	struct wslink *link; /* owned; NULL while there is none */
	char id[64];         /* of the command; "" before it is accepted */
	struct buf lines[2]; /* begun lines, when several write */
	int exit;
	uint8_t state;   /* enum part_state */
	uint64_t got[2]; /* up to where output was taken */
	/* Input: what is not yet safe with the agent is said again after a
	 * break on either side. */
	struct buf input;
	bool credited; /* a STDIN_ACK came */
	bool rewind;   /* the next one says where to go on */
	bool ended;    /* there is no more input */
	uint64_t safe; /* acknowledged bytes, those before input */
	uint64_t limit;
	msec again; /* how long to try to come back */
	msec again_at, lost_at;
	unsigned tries; /* since lost_at */
	uint16_t code;  /* of the close that ended the link */
	bool expired;   /* which said that the token is over */
	bool renewing;  /* so it comes back with a new one, and says nothing */
};

/* Where output goes; shared by all parts. */
struct attach_out {
	struct sink sinks[2]; /* stdout, stderr */
	bool several;         /* whole lines only */
	bool prefix;          /* with the agent's name before each */
	bool json;            /* a line of JSON for each piece */
	bool dropped;         /* stdout's reader has gone: throw it away */
};

/* Open and ask.  On failure it is ENDED with a message printed. */
void part_open(struct attach_part *p, struct cli *c,
    const struct attach_target *t, msec again);
void part_fini(struct attach_part *p);

/*
 * Take what the link has; ends the part when that is over.  When only the
 * connection is, the part is AWAY and tries again for a while: part_due and
 * part_again.  True when something came, so that there may be more.
 */
bool part_pump(struct attach_part *p, struct attach_out *out);

/* When AWAY wants part_again; INT64_MAX for never.  It blocks for seconds
 * when nobody answers. */
msec part_due(const struct attach_part *p);
void part_again(struct attach_part *p, struct attach_out *out);
/* AWAY, and we go: say that the command goes on. */
void part_abandon(struct attach_part *p);

/* Bytes of input that may be sent now. */
size_t part_credit(const struct attach_part *p);
void part_input(struct attach_part *p, struct slice bytes);
void part_input_end(struct attach_part *p);

void part_signal(struct attach_part *p, enum execframe_signal signal);

#endif
