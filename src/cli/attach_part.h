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
	PART_ENDED    /* exit is its exit code */
};

struct attach_part {
	struct cli *cli;     /* borrowed */
	const char *name;    /* borrowed */
	struct wslink *link; /* owned; NULL once over */
	char id[64];         /* of the command; "" before it is accepted */
	struct buf lines[2]; /* begun lines, when several write */
	int exit;
	uint8_t state;   /* enum part_state */
	bool credited;   /* a STDIN_ACK came */
	bool anew;       /* another stream began: send again what is kept */
	bool ended;      /* the input has */
	uint64_t sent;   /* bytes of input */
	struct buf kept; /* the last of them, not acknowledged */
	uint64_t limit;
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
void part_open(
    struct attach_part *p, struct cli *c, const struct attach_target *t);
void part_fini(struct attach_part *p);

/* Take what the link has; ends the part when that is over.  True when
 * something came, so that there may be more. */
bool part_pump(struct attach_part *p, struct attach_out *out);

/* Bytes of input that may be sent now. */
size_t part_credit(const struct attach_part *p);
void part_input(struct attach_part *p, struct slice bytes);
void part_input_end(struct attach_part *p);

void part_signal(struct attach_part *p, enum execframe_signal signal);

#endif
