/*
 * Design notes.  One thread, one poll: the links, what output waits for,
 * stdin while there is credit, and SIGINT by a signalfd.  A link is pumped
 * until nothing comes before anybody sleeps, because TLS may hold bytes that
 * poll does not show; while output waits, all links stop reading.
 */
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "cli/attach.h"
#include "cli/attach_part.h"
#include "io/clock.h"

enum { LEAVE_MS = 5000, INPUT_BYTES = 16 * 1024, OTHERS = 4 };

struct attached {
	struct cli *cli;
	struct attach_part *parts; /* owned */
	size_t count;
	struct attach_out out;
	struct pollfd *polls; /* owned: the links, then OTHERS */
	int signals;          /* signalfd */
	unsigned interrupts;  /* Ctrl-C so far */
	bool input;           /* stdin is still to be forwarded */
	bool left;            /* we go although something runs */
};

static bool
running(const struct attached *a)
{
	for (size_t i = 0; i < a->count; i++)
		if (a->parts[i].state != PART_ENDED)
			return true;
	return false;
}

static bool
blocked(const struct attached *a)
{
	return sink_pending(&a->out.sinks[0]) || sink_pending(&a->out.sinks[1]);
}

static void
signal_all(struct attached *a, enum execframe_signal signal)
{
	for (size_t i = 0; i < a->count; i++)
		if (a->parts[i].state == PART_RUNNING)
			part_signal(&a->parts[i], signal);
}

/* Whether the signal can still be meant for a program. */
static bool
any_accepted(const struct attached *a)
{
	for (size_t i = 0; i < a->count; i++)
		if (a->parts[i].state == PART_RUNNING)
			return true;
	return false;
}

static void
take_interrupts(struct attached *a)
{
	struct signalfd_siginfo info;

	while (read(a->signals, &info, sizeof(info)) == sizeof(info)) {
		a->interrupts++;
		if (a->interrupts > 1 || !any_accepted(a)) {
			a->left = true;
			for (size_t i = 0; i < a->count; i++)
				part_abandon(&a->parts[i]);
			return;
		}
		signal_all(a, EXECFRAME_INTERRUPT);
		if (a->cli->term.err_tty)
			cli_note(a->cli,
			    "interrupting; Ctrl-C again leaves it running");
	}
}

static void
take_input(struct attached *a)
{
	uint8_t bytes[INPUT_BYTES];
	size_t room = part_credit(&a->parts[0]);
	ssize_t n;

	if (room == 0)
		return;
	n = read(0, bytes, room < sizeof(bytes) ? room : sizeof(bytes));
	if (n > 0) {
		part_input(&a->parts[0], (struct slice){ bytes, (size_t)n });
	} else {
		a->input = false;
		part_input_end(&a->parts[0]);
	}
}

/* A reader of stdout that has gone wants nothing more, as under SIGPIPE:
 * the programs are told, and we go. */
static void
check_output(struct attached *a)
{
	if (a->out.sinks[0].err == 0 || a->out.dropped)
		return;
	a->out.dropped = true;
	signal_all(a, EXECFRAME_INTERRUPT);
	for (size_t i = 0; i < a->count; i++)
		if (a->parts[i].link != NULL)
			wslink_finish(
			    a->parts[i].link, WS_CODE_NORMAL, LEAVE_MS);
	a->left = true;
}

static bool
pump_all(struct attached *a)
{
	bool more = false;

	for (size_t i = 0; i < a->count && !a->out.dropped; i++) {
		struct attach_part *p = &a->parts[i];

		if (part_due(p) <= clock_mono())
			part_again(p, &a->out);
		if (p->link == NULL)
			continue;
		if (blocked(a))
			wslink_read_stop(p->link);
		else
			wslink_read_start(p->link);
		more |= part_pump(p, &a->out);
		check_output(a);
	}
	return more;
}

static void
watch(struct pollfd *p, int fd, bool on, short events)
{
	p->fd = on ? fd : -1;
	p->events = events;
	p->revents = 0;
}

static void
sleep_until_ready(struct attached *a)
{
	struct pollfd *p = a->polls;
	msec end = clock_mono() + WSLINK_PING;

	for (size_t i = 0; i < a->count; i++, p++) {
		const struct attach_part *part = &a->parts[i];

		watch(p, -1, false, 0);
		if (part_due(part) < end)
			end = part_due(part);
		if (part->link == NULL)
			continue;
		watch(p, wslink_fd(part->link), true, wslink_wants(part->link));
		if (wslink_deadline(part->link) < end)
			end = wslink_deadline(part->link);
	}
	watch(p++, a->signals, true, POLLIN);
	watch(p++, 0, a->input && part_credit(&a->parts[0]) > 0, POLLIN);
	for (size_t i = 0; i < 2; i++)
		watch(p++, a->out.sinks[i].fd, sink_pending(&a->out.sinks[i]),
		    POLLOUT);
	end -= clock_mono();
	poll(a->polls, a->count + OTHERS, end < 0 ? 0 : (int)end);
	if ((a->polls[a->count + 1].revents &
		(POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0)
		take_input(a);
}

static void
run(struct attached *a)
{
	for (;;) {
		bool more;

		take_interrupts(a);
		sink_flush(&a->out.sinks[0]);
		sink_flush(&a->out.sinks[1]);
		check_output(a);
		more = !a->left && pump_all(a);
		if (a->left || !(running(a) || blocked(a)))
			return;
		if (!more)
			sleep_until_ready(a);
	}
}

static size_t
failures(const struct attached *a)
{
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++)
		n += a->parts[i].exit != EXIT_OK;
	return n;
}

/* Left is left: by Ctrl-C, or because nobody reads. */
static int
verdict(const struct attached *a)
{
	int exit = EXIT_OK;

	if (a->interrupts > 1 || (a->left && a->interrupts > 0))
		return EXIT_INTERRUPTED;
	if (a->out.sinks[0].err == ERR_CLOSED)
		return EXIT_OK;
	if (a->out.sinks[0].err != 0)
		return cli_fail(a->cli, EXIT_FAILED,
		    "cannot write to stdout: %s",
		    err_name(a->out.sinks[0].err));
	for (size_t i = 0; i < a->count; i++)
		if (a->parts[i].exit > exit)
			exit = a->parts[i].exit;
	return exit;
}

/* SIGINT comes by a descriptor from here on. */
static int
catch_interrupts(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void
open_all(struct attached *a, const struct attach_plan *plan)
{
	struct cli *c = a->cli;

	a->out.several = plan->several || plan->count > 1;
	a->out.prefix = a->out.several;
	a->out.json = c->json;
	a->input = plan->input;
	for (size_t i = 0; i < plan->count; i++)
		part_open(&a->parts[i], c, &plan->targets[i], plan->again);
	a->count = plan->count;
	a->signals = catch_interrupts();
	sink_init(&a->out.sinks[0], 1);
	sink_init(&a->out.sinks[1], 2);
}

int
attach_run(
    struct cli *c, const struct attach_plan *plan, struct attach_result *out)
{
	struct attached a = { .cli = c };
	int exit;

	a.parts = alloc_array(plan->count, sizeof(*a.parts));
	a.polls = alloc_array(plan->count + OTHERS, sizeof(*a.polls));
	if (a.parts == NULL || a.polls == NULL) {
		exit = cli_nomem(c);
	} else {
		open_all(&a, plan);
		run(&a);
		exit = verdict(&a);
		*out = (struct attach_result){ .failed = failures(&a),
			.interrupted = a.interrupts > 0 };
		for (size_t i = 0; i < a.count; i++)
			part_fini(&a.parts[i]);
		sink_fini(&a.out.sinks[0]);
		sink_fini(&a.out.sinks[1]);
		close(a.signals);
	}
	alloc_free(a.polls);
	alloc_free(a.parts);
	return exit;
}
