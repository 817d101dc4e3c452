/*
 * Design notes.  One thread, one poll: the link, the doors, the connections,
 * and SIGINT by a signalfd.  The link is pumped until nothing comes before
 * anybody sleeps, because TLS may hold bytes that poll does not show.  Who
 * was first in a turn is last in the next one.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "cli/find.h"
#include "cli/render.h"
#include "cli/verbs.h"
#include "io/clock.h"
#include "io/rand.h"

#include "cli/forward_parts.h"

enum {
	AGAIN_FIRST = 250, /* ms, doubling */
	AGAIN_MOST = 10000,
	LEAVE_MS = 2000,
	PATIENCE_MS = 5000, /* who comes while we are away may wait so long */
	OTHERS = 2,
};

/* The loop ----------------------------------------------------------------- */

static void
wait_again(struct forwarder *f)
{
	msec wait = (msec)AGAIN_FIRST << (f->tries < 6 ? f->tries : 6);

	f->tries++;
	wait = wait > AGAIN_MOST ? AGAIN_MOST : wait;
	f->again_at = clock_mono() + wait / 2 +
	    (msec)rand_below((uint32_t)(wait / 2) + 1);
}

static void
come_back(struct forwarder *f)
{
	if (f->link != NULL || f->left || clock_mono() < f->again_at)
		return;
	int exit = mux_open(f, true);
	if (exit == WSLINK_AGAIN) {
		wait_again(f);
	} else if (exit != EXIT_OK) {
		f->left = true;
		f->exit = exit;
	} else {
		tell_link(f, "connected", NULL);
	}
}

static void
take_interrupts(struct forwarder *f)
{
	struct signalfd_siginfo info;

	if (read(f->signals, &info, sizeof(info)) != sizeof(info))
		return;
	f->left = true;
	f->exit = EXIT_INTERRUPTED;
}

static bool
door_wanted(const struct forwarder *f, const struct door *d, msec now)
{
	return d->fd >= 0 && now >= d->due &&
	    (f->link != NULL || d->spec->udp ||
		now - f->away_since > PATIENCE_MS);
}

static msec
next_due(const struct forwarder *f, msec now)
{
	msec due = now + WSLINK_PING;

	if (f->link == NULL)
		return f->again_at;
	if (wslink_deadline(f->link) < due)
		due = wslink_deadline(f->link);
	if (yamux_deadline(&f->mux) < due)
		due = yamux_deadline(&f->mux);
	for (size_t i = 0; i < f->door_count; i++) {
		const struct door *d = &f->doors[i];
		bool waits = d->spec->reverse ? d->stream == 0 : d->due > now;
		if (waits && d->due < due)
			due = d->due;
	}
	return due;
}

static size_t
fill_polls(struct forwarder *f, msec now)
{
	struct pollfd *p = f->polls;
	size_t n = 0;

	p[n++] = (struct pollfd){ .fd = f->signals, .events = POLLIN };
	p[n++] =
	    (struct pollfd){ .fd = f->link == NULL ? -1 : wslink_fd(f->link),
		    .events = f->link == NULL ? 0 : wslink_wants(f->link) };
	for (size_t i = 0; i < f->door_count; i++)
		p[n++] =
		    (struct pollfd){ .fd = door_wanted(f, &f->doors[i], now)
				? f->doors[i].fd
				: -1,
			    .events = POLLIN };
	for (struct list *i = f->conns.next; i != &f->conns; i = i->next) {
		struct conn *c = LIST_OF(i, struct conn, link);
		short events = conn_wants(f, c);
		f->polled[n] = c;
		/* Errors are always told, and so is a hang-up: again and
		 * again, where we have ended our side. */
		bool mute = events == 0 && (c->shut || c->udp);
		p[n++] = (struct pollfd){ .fd = mute ? -1 : c->fd,
			.events = events };
	}
	return n;
}

static void
turn(struct forwarder *f, bool wait)
{
	msec now = clock_mono(), due = next_due(f, now);
	size_t n = fill_polls(f, now);

	if (!wait || due < now)
		due = now;
	if (poll(f->polls, n, (int)(due - now)) <= 0)
		return;
	for (size_t i = 0; i < f->door_count; i++)
		if (f->polls[OTHERS + i].revents != 0)
			door_ready(f, &f->doors[i]);
	for (size_t i = OTHERS + f->door_count; i < n; i++)
		if (f->polls[i].revents != 0)
			conn_ready(f, f->polled[i], f->polls[i].revents);
}

static void
rotate(struct list *l)
{
	struct list *first = l->next;

	if (list_empty(l))
		return;
	list_remove(first);
	list_push(l, first);
}

static void
loop(struct forwarder *f)
{
	while (!f->left) {
		msec now = clock_mono();
		come_back(f);
		for (size_t i = 0; i < f->door_count; i++)
			door_ask(f, &f->doors[i], now);
		bool more = mux_pump(f);
		conn_sweep(f);
		rotate(&f->conns);
		take_interrupts(f);
		if (!f->left)
			turn(f, !more);
	}
}

/* The verb ----------------------------------------------------------------- */

static int
read_one(struct cli *c, const char *text, const char *service, bool reverse,
    bool udp, struct forward_spec *out)
{
	struct slice target = slice_from(service);

	if (forward_spec_parse(slice_from(text), target, out) != 0)
		return cli_usage(c,
		    service != NULL ? "%s is not [ADDR:]PORT, or its --service "
				      "not NS/SERVICE:PORT"
				    : "%s is not [ADDR:]PORT:HOST:PORT",
		    text);
	if (reverse && out->namespace[0] != '\0')
		return cli_usage(
		    c, "%s: with -R the target is a host here", text);
	out->reverse = reverse;
	out->udp = udp;
	return EXIT_OK;
}

static int
read_specs(struct cli *c, const struct args *a, struct forward_spec *specs,
    size_t *count)
{
	bool udp = args_has(a, "udp");
	size_t at = 0, services = 0;
	const char *text;
	int exit = EXIT_OK;

	for (size_t i = 0; i < a->count && exit == EXIT_OK; i++) {
		const char *service = args_each(a, "service", &services);
		if (*count == FORWARD_SPECS)
			return cli_usage(c, "too many forwards");
		exit = read_one(
		    c, a->words[i], service, false, udp, &specs[(*count)++]);
	}
	if (exit == EXIT_OK && args_each(a, "service", &services) != NULL)
		return cli_usage(c, "more --service than [ADDR:]PORT");
	while (exit == EXIT_OK && (text = args_each(a, "R", &at)) != NULL) {
		if (*count == FORWARD_SPECS)
			return cli_usage(c, "too many forwards");
		exit = read_one(c, text, NULL, true, udp, &specs[(*count)++]);
	}
	if (exit == EXIT_OK && *count == 0)
		return cli_usage(c, "which port is to be forwarded?");
	return exit;
}

/* By its id from here on, whatever else may get its name. */
static int
find_via(struct forwarder *f, const struct args *a)
{
	const char *via = args_get(a, "via");
	struct answer *agent;

	if (via == NULL)
		return cli_usage(f->cli, "--via AGENT is needed");
	int exit = find_agent(f->cli, via, &agent);
	if (exit != EXIT_OK)
		return exit;
	struct slice status = render_text(agent->root, "status");
	f->agent =
	    arena_cstr(&f->cli->arena, render_text(agent->root, "agent_id"));
	f->name = arena_cstr(&f->cli->arena, render_text(agent->root, "name"));
	if (f->agent == NULL || f->name == NULL)
		return cli_nomem(f->cli);
	if (slice_eq(status, SL("offline")))
		return cli_fail(f->cli, EXIT_OFFLINE, "%s is offline", f->name);
	return EXIT_OK;
}

static int
prepare(struct forwarder *f)
{
	size_t most = OTHERS + FORWARD_SPECS + FORWARD_CONNS;
	struct rlimit l;
	sigset_t set;

	/* A connection is a descriptor, and the usual limit is as many. */
	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < 2 * most) {
		l.rlim_cur = l.rlim_max < 2 * most ? l.rlim_max : 2 * most;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
	f->polls = alloc_array(most, sizeof(*f->polls));
	f->polled = alloc_array(most, sizeof(*f->polled));
	if (f->polls == NULL || f->polled == NULL)
		return cli_nomem(f->cli);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	f->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return EXIT_OK;
}

static int
begin(struct forwarder *f, const struct args *a, struct forward_spec *specs,
    size_t count)
{
	int exit = find_via(f, a);

	for (size_t i = 0; i < count && exit == EXIT_OK; i++)
		exit = door_open(f, &specs[i]);
	if (exit == EXIT_OK)
		exit = prepare(f);
	if (exit == EXIT_OK)
		exit = mux_open(f, false);
	if (exit != EXIT_OK)
		return exit;
	for (size_t i = 0; i < f->door_count; i++)
		if (f->doors[i].listening)
			tell_listening(f, &f->doors[i]);
	return EXIT_OK;
}

int
verb_forward(struct cli *c, const struct args *a)
{
	static struct forward_spec specs[FORWARD_SPECS];
	static struct forwarder f;
	size_t count = 0;

	f.cli = c;
	f.signals = -1;
	list_init(&f.conns);
	int exit = read_specs(c, a, specs, &count);
	if (exit == EXIT_OK)
		exit = begin(&f, a, specs, count);
	if (exit == EXIT_OK) {
		loop(&f);
		exit = f.exit;
	}
	if (f.link != NULL) {
		wslink_finish(f.link, WS_CODE_NORMAL, LEAVE_MS);
		mux_close(&f);
	}
	conn_sweep(&f);
	for (size_t i = 0; i < f.door_count; i++)
		door_close(&f.doors[i]);
	if (f.signals >= 0)
		close(f.signals);
	alloc_free(f.polls);
	alloc_free(f.polled);
	return exit;
}
