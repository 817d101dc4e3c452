/*
 * attach_state: what the two files of attach share, and nobody else (floor:
 * server).  attach.c has the connection and its messages, attach_again.c
 * what a client that came back has missed.
 */
#ifndef SERVER_ATTACH_STATE_H
#define SERVER_ATTACH_STATE_H

#include "server/api.h"
#include "server/attach.h"
#include "server/credential.h"

enum attach_stage {
	ATTACH_WAITS,  /* for the first message */
	ATTACH_ASKED,  /* the hub */
	ATTACH_LOOKED, /* for a command that the hub does not have */
	ATTACH_RUNS,
	ATTACH_OVER,
};

struct attach {
	struct wsconn ws;
	struct wsconn_config config;
	struct credential credential; /* its texts in kept */
	struct arena kept;
	struct slice command_id; /* owned */
	enum attach_stage stage;
	msec ask_by;          /* the first message is to be there */
	wall_msec expires_at; /* of the credential; 0: never */
	/*
	 * What the client has of each stream.  One that comes back is behind:
	 * what it has missed is read from the store until there is no more,
	 * and only then it gets what comes from the agent.
	 */
	uint64_t shown[3];
	bool behind[3];
	bool looking;                 /* into the store */
	bool look_again;              /* for there is more by now */
	msec look_at;                 /* when a reader may be free; 0 = never */
	struct command_record *ended; /* owned; to be told when all is shown */
};

/* Send the machine's own frames; end when it has closed. */
void attach_flush(struct conn *c);
void attach_close(struct conn *c, uint16_t code, struct slice reason);
/* Say why not, and end. */
void attach_refuse(struct conn *c, const struct reply *r);
/* The command that it is about; again: it was there before this client. */
void attach_accept(struct conn *c, const struct command_record *r, bool again);
/* A frame as it is. */
void attach_send(struct conn *c, const struct execframe *f);
void attach_say_ended(struct conn *c, const struct command_record *r);

/* Whether something that the client has missed is to be shown first. */
bool attach_is_behind(const struct attach *a);
/* Show the next piece of it; once level, go on with what comes. */
void attach_catch_up(struct conn *c);
/* The hub has no such command: it has ended, or never was. */
void attach_look_ended(struct conn *c, const struct reply *r);

#endif
