/*
 * context: which controller, and as whom (floor: cli).
 *
 * ~/.config/muster/config (XDG_CONFIG_HOME is heeded), mode 0600:
 *
 *	current = default
 *	[context "default"]
 *	url = https://muster.example.com
 *	token = mut_...
 *	ca_file = /etc/ssl/own.pem
 *	pin = <64 hex digits>
 *
 * Precedence: flag, environment, context, default.  A context's token, CA
 * file and pin go only to the URL that they were saved for.
 */
#ifndef CLI_CONTEXT_H
#define CLI_CONTEXT_H

#include "base/arena.h"

#define CONTEXT_DEFAULT_URL "http://127.0.0.1:7700"

/* All strings NUL-terminated in an arena; NULL when absent. */
struct context {
	const char *name;
	const char *url; /* without a trailing slash */
	const char *token;
	const char *refresh; /* of a login: trades for the next token */
	const char *renew;   /* of a login: when, in seconds since 1970 */
	const char *ca_file;
	const char *pin;    /* 64 hex digits */
	const char *source; /* where url came from, for people */
	const char *token_source;
	bool insecure; /* a token may cross the network in the clear */
};

/* What the command line says; NULL when it does not. */
struct context_flags {
	const char *url;
	const char *token_file;
	const char *name;
	bool insecure;
};

enum { CONTEXT_WHY = 512, CONTEXT_TOKEN_MAX = 4096 };

/* The path of the file, in a; NULL when there is no home directory. */
const char *context_path(struct arena *a);

/*
 * Put together what is in force.  0, or ERR_* and a sentence: ERR_NOT_FOUND
 * (no context of that name), ERR_INVALID (file or URL).  Reads the
 * environment.
 */
int context_load(const char *path, const struct context_flags *flags,
    struct arena *a, struct context *out, char why[CONTEXT_WHY]);

/* Write or replace c by its name, and make it the current one. */
int context_save(const char *path, const struct context *c, struct arena *a,
    char why[CONTEXT_WHY]);

/* The same, and the current one stays that. */
int context_update(const char *path, const struct context *c, struct arena *a,
    char why[CONTEXT_WHY]);

/* Forget the context of that name, NULL the current one; *gone is its name.
 * ERR_NOT_FOUND when there is none. */
int context_drop(const char *path, const char *name, struct arena *a,
    const char **gone, char why[CONTEXT_WHY]);

/* A token from a file, blanks around it cut.  0 or ERR_* and a sentence. */
int context_read_token(
    const char *path, struct arena *a, const char **out, char why[CONTEXT_WHY]);

/* Only visible ASCII, 1 to CONTEXT_TOKEN_MAX. */
bool context_token_valid(const char *token);

/* url names this machine itself, by loopback address or localhost. */
bool context_is_loopback(const char *url);

/* 0 or ERR_INVALID: an http or https URL of a controller, without query;
 * *out is without slashes at the end. */
int context_url(const char *text, struct arena *a, const char **out);

#endif
