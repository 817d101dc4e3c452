/*
 * rest: calls to the controller's REST surface (floor: cli).
 *
 * Over libcurl: system roots or a CA file, or a pinned key; no redirects.
 * A token is never sent in the clear but to this machine itself, unless
 * --insecure was given.
 */
#ifndef CLI_REST_H
#define CLI_REST_H

#include "base/js.h"
#include "base/stamp.h"
#include "cli/cli.h"

enum { REST_BODY_MAX = 256 << 20 };

struct rest_ask {
	const char *method;  /* NULL: GET */
	struct slice path;   /* and query, encoded: "/api/v1/agents" */
	struct slice body;   /* JSON; absent for none */
	const char *key;     /* Idempotency-Key; NULL for none */
	bool anonymous;      /* without the token */
	struct arena *arena; /* for the answer; NULL: the program's */
};

struct answer {
	long status;
	struct slice body;    /* in the arena */
	struct js_doc doc;    /* of body, when it is JSON */
	struct js_value root; /* JS_NONE when it is not */
	wall_msec date;       /* the controller's clock; 0 when not told */
	long retry_after;     /* seconds; 0 when not told */
};

enum { REST_WHY = 512 };

/* Any answer at all: 0, or ERR_UNREACHABLE, ERR_TLS, ERR_TIMEOUT,
 * ERR_DENIED (would send the token in the clear), ERR_NOMEM...  and a
 * sentence.  out must stay where it is. */
int rest_try(struct cli *c, const struct rest_ask *ask, struct answer *out,
    char why[REST_WHY]);

/* Close what calls left open. */
void rest_fini(struct cli *c);

/* EXIT_OK and a 2xx answer; else a message was printed, and the exit code. */
int rest_call(struct cli *c, const struct rest_ask *ask, struct answer *out);

/* GET path, as rest_call. */
int rest_get(struct cli *c, struct slice path, struct answer *out);

/* Print the message for an answer that is not 2xx, and its exit code. */
int rest_refused(struct cli *c, const struct answer *out);

/*
 * Bodies of GETs handed on as they come, several at once.  take returns
 * false to stop early, which is success.  The first exit code that is not
 * EXIT_OK; *broken: a connection failed before its end, and trying again may
 * help.
 */
enum { REST_STREAMS = 2 };
typedef bool rest_take_fn(void *arg, struct slice piece);
struct rest_stream {
	struct slice path;
	const char *accept; /* NULL: any */
	rest_take_fn *take;
	void *arg;
	struct slice last_event; /* Last-Event-ID; absent for none */
	/* Told once, before the first bytes, of an answer that is one: where
	 * output begins, and what is missing before it.  May be NULL; else the
	 * caller also says what is to be said when such an answer breaks off.
	 */
	void (*head)(void *arg, struct slice offset, struct slice gap);
};
int rest_stream(
    struct cli *c, const struct rest_stream *specs, size_t count, bool *broken);

/*
 * Every element of a list, page after page.  path ends with a query that
 * has at least one parameter, so that "&cursor=" can follow.  each returns
 * an exit code; anything but EXIT_OK ends the walk.  max: 0 = all.
 */
typedef int rest_each_fn(struct cli *c, void *arg, struct js_value item);
int rest_list(struct cli *c, struct slice path, size_t max, rest_each_fn *each,
    void *arg);

/* The same as one JSON object on stdout: {"schema", "items"}. */
int rest_list_json(struct cli *c, struct slice path, size_t max);

/* A JSON value as it is, safe for terminals, and a line end, to stdout. */
int rest_print(struct cli *c, struct js_value v);

/* The context's transport on a curl handle, as void * so that libcurl stays
 * out of this header: CA file, pin, time-outs. */
void rest_secure(const struct cli *c, void *curl);

/* Whether the token may go to url; else a sentence. */
int rest_may_send(const struct cli *c, const char *url, char why[REST_WHY]);

/* What a curl error means: an ERR_* and a sentence with what to do. */
int rest_explain(
    const struct cli *c, int curl_code, const char *detail, char why[REST_WHY]);

#endif
