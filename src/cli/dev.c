#include <poll.h>

#include "base/err.h"
#include "cli/verbs.h"
#include "cli/wslink.h"
#include "io/clock.h"

enum { ECHO_CAP = 16 << 20, CLOSE_MS = 5000 };

/* 0 go on, 1 the closing handshake has begun, or ERR_*. */
static int
echo(struct cli *c, struct wslink *l, const struct wsconn_event *ev)
{
	if (ev->kind == WS_TEXT || ev->kind == WS_BINARY)
		return wslink_send(l, ev->kind, ev->data);
	if (ev->kind == WSCONN_ERROR)
		cli_note(c, "failed the connection with %u: %.*s", ev->code,
		    SLICE_FMT(ev->data));
	return ev->kind == WS_CLOSE || ev->kind == WSCONN_ERROR ? 1 : 0;
}

/* A server that does not take its echoes gets no more of them. */
static void
press_back(struct wslink *l)
{
	if (wslink_queued(l) > ECHO_CAP)
		wslink_read_stop(l);
	else
		wslink_read_start(l);
}

static void
wait_link(struct wslink *l)
{
	struct pollfd p = { .fd = wslink_fd(l), .events = wslink_wants(l) };
	msec left = wslink_deadline(l) - clock_mono();

	poll(&p, 1, left < 0 ? 0 : (int)left);
}

static int
echo_all(struct cli *c, struct wslink *l)
{
	struct wsconn_event ev;
	bool closing = false;

	for (;;) {
		int r = 0, got;

		while (r == 0 && wslink_next(l, &ev) > 0)
			r = echo(c, l, &ev);
		if (r < 0)
			return cli_fail(
			    c, EXIT_FAILED, "cannot echo: %s", err_name(r));
		closing = closing || r == 1;
		if (closing) {
			wslink_finish(l, WS_CODE_NONE, CLOSE_MS);
			return EXIT_OK;
		}
		press_back(l);
		got = wslink_pump(l);
		if (got < 0)
			return got == ERR_CLOSED || got == ERR_RESET
			    ? EXIT_OK
			    : cli_fail(c, EXIT_FAILED, "%s", err_name(got));
		if (got == 0)
			wait_link(l);
	}
}

int
verb_dev_ws_echo(struct cli *c, const struct args *a)
{
	struct wslink_ask ask = {
		.url = a->words[0], .deflate = true, .cap = ECHO_CAP
	};
	struct wslink *l;
	int exit;

	/* Messages about the connection name what was dialled. */
	c->at.url = ask.url;
	c->at.source = "the command line";
	exit = wslink_open(c, &ask, &l);
	if (exit != EXIT_OK)
		return exit;
	exit = echo_all(c, l);
	wslink_free(l);
	return exit;
}
