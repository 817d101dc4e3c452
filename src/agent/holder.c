/*
 * muster-holder: holds one command, whatever becomes of its agent.
 *
 * Design notes.  One process, one loop, one command.  It never allocates,
 * never blocks on a disk while the command runs (but for the page cache), and
 * owes its agent nothing but a state: every frame out is made of what is true
 * when it leaves (holder_ctl.h).  Formats: holder_proto.h.
 *
 *   starting --exec--> running --main process died--> draining
 *   --pipes ended, or drain_ms, and what must die is dead--> done
 *   --nobody lives, agent told--> over
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/crash.h"

#include "agent/holder_hold.h"

enum {
	KILL_EVERY_MS = 10,      /* between passes over a tree that must die */
	KILL_CALM_MS = 160,      /* when all have their signal */
	KILL_GREW = 3,           /* passes that find new ones: a fork bomb */
	KILL_GIVE_UP_MS = 15000, /* for who sleeps in the kernel */
	LEAVE_MS = 5000,         /* for an agent that does not read */
	PUMP_ROUNDS = 4,         /* chunks a turn, so that signals get in */
};

/* Ending a tree -------------------------------------------------------------
 */

static void
set_urgent(bool on)
{
	struct sched_param how = { .sched_priority = on ? 1 : 0 };

	if (sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &how) != 0)
		(void)setpriority(PRIO_PROCESS, 0, on ? -20 : 0);
}

static void
take_step(struct hold *h, enum step step)
{
	static const int sig[] = { 0, SIGINT, SIGTERM };

	h->step = step;
	h->step_at = h->now +
	    (int64_t)(step == INTERRUPTED ? h->order.int_ms : h->order.term_ms);
	if (step != KILLING)
		tree_signal(&h->tree, sig[step]);
	if (step != KILLING)
		return;
	h->step_at = h->now + KILL_GIVE_UP_MS;
	h->kill_at = h->now;
	h->kill_every = KILL_EVERY_MS;
}

/* reason is kept from who went furthest; a stop says so in any case. */
static void
end_tree(struct hold *h, int reason)
{
	static const enum step first[] = { KILLING, INTERRUPTED, TERMINATED,
		KILLING, KILLING, INTERRUPTED };

	if (first[reason] > h->step) {
		h->reason = h->phase < DRAINING ? reason : h->reason;
		take_step(h, first[reason]);
	}
	if (reason != HOLDER_STOP)
		return;
	if (h->phase < DONE)
		h->reason = reason;
	if (h->stop_at == 0)
		h->stop_at = h->now;
	hold_owe(h, CTL_STATUS);
}

static void
reap(struct hold *h)
{
	struct signalfd_siginfo info;
	struct rusage usage;
	int status;
	pid_t pid;

	while (read(h->children, &info, sizeof(info)) > 0)
		;
	errno = 0;
	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
		if (h->step == KILLING)
			tree_note(&h->tree, pid);
		if (pid != h->child.pid || h->reaped)
			continue;
		h->reaped = true;
		h->status = status;
		h->usage = usage;
		h->died = h->now;
		h->drain_at = h->now + (int64_t)h->order.drain_ms;
	}
	/* Every descendant is a child of ours or of another one. */
	h->childless = pid < 0 && errno == ECHILD;
}

/*
 * How many are left, for people.  Whether there are any the kernel says at
 * the reaping: a walk over /proc misses who moves while it is under way.
 */
static size_t
count_left(struct hold *h)
{
	size_t n = h->childless ? 0 : tree_count(&h->tree);

	return h->childless || n > 0 ? n : 1;
}

/*
 * Who kills must not starve who dies: a thousand holders at once would.  So
 * passes become rare when all have their signal, and only a tree that grows
 * meanwhile, a fork bomb that wants every core, is met by coming first where
 * we may.
 */
static void
pace_kill(struct hold *h, bool grew)
{
	h->kill_grew += grew;
	if (h->kill_grew == KILL_GREW)
		set_urgent(true);
	h->kill_every = grew ? KILL_EVERY_MS : 2 * h->kill_every;
	if (h->kill_every > KILL_CALM_MS)
		h->kill_every = KILL_CALM_MS;
	h->kill_at = h->now + h->kill_every;
}

/* The agent hears it when all are dead, and when some will not die. */
static void
note_kill(struct hold *h)
{
	bool gave_up = !h->swept && h->now >= h->step_at;

	if (h->swept) {
		set_urgent(false);
		h->left.count = 0;
		if (h->stop_at != 0)
			h->stop_ms = h->now - h->stop_at;
	} else if (gave_up && !h->gave_up) {
		tree_name(&h->tree, &h->left);
		h->lingering = h->left.count;
	}
	if (h->stop_at != 0 && (h->swept || gave_up != h->gave_up))
		hold_owe(h, CTL_STATUS);
	h->gave_up = gave_up;
}

/* Goes on for as long as there is something to kill. */
static void
kill_tree(struct hold *h)
{
	size_t before = h->tree.killed;

	if (h->step != KILLING || h->swept)
		return;
	if (!h->childless && h->now >= h->kill_at) {
		tree_kill(&h->tree);
		pace_kill(h, h->tree.killed > before);
		reap(h);
	}
	h->swept = h->childless;
	note_kill(h);
}

/* What the agent says: -1 for what breaks the rules -------------------------
 */

static int
on_input(struct hold *h, struct ctl_conn *c, const uint8_t *body, size_t len)
{
	(void)c;
	if (len < 8)
		return -1;
	hold_owe(h, CTL_CONSUMED);
	return feed_put(&h->feed, holder_get(body, 8), body + 8, len - 8);
}

static int
on_input_end(
    struct hold *h, struct ctl_conn *c, const uint8_t *body, size_t len)
{
	(void)c;
	hold_owe(h, CTL_CONSUMED);
	return len == 8 ? feed_end(&h->feed, holder_get(body, 8)) : -1;
}

static int
on_ack(struct hold *h, struct ctl_conn *c, const uint8_t *body, size_t len)
{
	(void)c;
	if (len != 9 || body[0] > 1 ||
	    holder_get(body + 1, 8) > h->spool[body[0]].size)
		return -1;
	spool_ack(&h->spool[body[0]], holder_get(body + 1, 8));
	return 0;
}

static int
on_signal(struct hold *h, struct ctl_conn *c, const uint8_t *body, size_t len)
{
	(void)c;
	if (len != 1 || body[0] < HOLDER_INTERRUPT || body[0] > HOLDER_STOP)
		return -1;
	end_tree(h, body[0]);
	return 0;
}

static int
on_hold(struct hold *h, struct ctl_conn *c, const uint8_t *body, size_t len)
{
	(void)c;
	if (len != 1 || body[0] > 1)
		return -1;
	for (int i = 0; i < 2; i++)
		h->spool[i].held = body[0] == 1;
	return 0;
}

static int
on_read(struct hold *h, struct ctl_conn *c, const uint8_t *body, size_t len)
{
	(void)h;
	if (len != 16)
		return -1;
	c->seen[0] = holder_get(body, 8);
	c->seen[1] = holder_get(body + 8, 8);
	c->armed = true;
	return 0;
}

static const struct {
	uint8_t type;
	int (*on)(struct hold *h, struct ctl_conn *c, const uint8_t *body,
	    size_t len);
} handlers[] = {
	{ 'S', on_signal },
	{ 'I', on_input },
	{ 'E', on_input_end },
	{ 'A', on_ack },
	{ 'R', on_read },
	{ 'H', on_hold },
};

static int
handle(struct hold *h, struct ctl_conn *c, uint8_t type, const uint8_t *body,
    size_t len)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		if (handlers[i].type == type)
			return handlers[i].on(h, c, body, len);
	return -1;
}

static void
hear(struct hold *h, struct ctl_conn *c)
{
	const uint8_t *body;
	uint8_t type;
	size_t len;
	int got;

	if (ctl_read(c) != 0)
		return;
	while ((got = ctl_next(c, &type, &body, &len)) > 0) {
		if (handle(h, c, type, body, len) != 0) {
			got = -1;
			break;
		}
		ctl_eat(c);
	}
	if (got < 0)
		ctl_close(c);
}

static void
welcome(struct hold *h)
{
	struct ctl_conn *c = ctl_accept(&h->ctl);

	if (c != NULL)
		c->owes = CTL_STATUS | (h->phase == DONE ? CTL_EXIT : 0U);
}

/* The end -------------------------------------------------------------------
 */

/* Commit the record; a disk that is full is asked again later. */
static void
finish(struct hold *h)
{
	bool failed = h->fault.error != 0;
	const char *error = failed ? strerrorname_np(h->fault.error) : NULL;

	crash_point("holder.dead");
	h->lingering = count_left(h);
	for (int i = 0; i < 2; i++)
		spool_sync(&h->spool[i]);
	hold_write_exit(h, hold_outcome(h),
	    failed ? child_stage_name(h->fault.stage) : "",
	    error != NULL ? error : "", hold_exit_code(h));
	crash_point("holder.exit");
	if (claim_exit(&h->claim, h->exit, h->exit_len) != 0 &&
	    !claim_orphaned(&h->claim)) {
		h->retry_at = h->now + SPOOL_RETRY_MS;
		return;
	}
	crash_point("holder.exited");
	h->phase = DONE;
	h->leave_at = h->now + LEAVE_MS;
	feed_close(&h->feed);
	hold_owe(h, CTL_STATUS | CTL_EXIT);
}

static bool
ended(const struct hold *h)
{
	return h->spool[0].pipe < 0 && h->spool[1].pipe < 0;
}

/*
 * The main process is dead.  The command is complete when its pipes have
 * ended, or drain_ms later; time during which a full spool or the agent holds
 * a pipe back does not count.  When no process is left the pipes hold at most
 * what a pipe takes: that is read whatever the cap says.
 */
static void
drain(struct hold *h)
{
	bool held = false;

	if (h->now < h->retry_at)
		return;
	if (h->step != KILLING) {
		reap(h);
		h->swept = h->childless;
	}
	for (int i = 0; i < 2; i++) {
		struct spool *s = &h->spool[i];
		if (h->swept)
			spool_pump(s, h->now, 32, true);
		held = held || s->pend_len > 0 ||
		    (s->pipe >= 0 && !h->swept && !spool_wants(s));
	}
	if (h->step == KILLING && !h->swept && h->now < h->step_at)
		return;
	if (held) {
		h->drain_at = h->now + (int64_t)h->order.drain_ms;
		return;
	}
	if (!ended(h) && !h->swept && h->now < h->drain_at)
		return;
	if (!h->swept && h->order.kill_linger) {
		end_tree(h, 0);
		kill_tree(h);
		return;
	}
	finish(h);
}

/*
 * DONE: stay while there is somebody, then until the agent was told.  Who was
 * killed and is not reaped yet counts: his end is still to be told.
 */
static void
linger(struct hold *h)
{
	h->lingering = count_left(h);
	if (!h->childless) {
		h->leave_at = h->now + LEAVE_MS;
		return;
	}
	for (int i = 0; i < HOLDER_CONNS; i++) {
		struct ctl_conn *c = &h->ctl.conns[i];
		if (c->fd >= 0 && h->now < h->leave_at &&
		    ((c->owes & ~(unsigned)CTL_GREW) != 0 || !ctl_idle(c)))
			return;
	}
	h->phase = OVER;
}

/* The loop ------------------------------------------------------------------
 */

static void
begun(struct hold *h)
{
	if (read(h->child.fault, &h->fault, sizeof(h->fault)) < 0 &&
	    errno == EAGAIN)
		return;
	close(h->child.fault);
	h->child.fault = -1;
	h->phase = RUNNING;
	if (h->fault.error == 0)
		hold_owe(h, CTL_STATUS);
}

static void
tick(struct hold *h)
{
	if (h->deadline != 0 && h->now >= h->deadline && h->phase <= RUNNING) {
		h->deadline = 0;
		end_tree(h, HOLD_BY_TIMEOUT);
	}
	if ((h->step == INTERRUPTED || h->step == TERMINATED) &&
	    h->now >= h->step_at)
		take_step(h, h->step + 1);
	kill_tree(h);
	if (h->phase == RUNNING && h->reaped)
		h->phase = DRAINING;
	if (h->phase == DRAINING)
		drain(h);
	for (int i = 0; i < 2; i++) {
		int64_t due = spool_sync_due(&h->spool[i]);
		if (due >= 0 && h->now >= due && h->phase < DONE)
			syncer_start(&h->syncer, &h->spool[i]);
	}
	for (int i = 0; i < HOLDER_CONNS; i++)
		hold_tell(h, &h->ctl.conns[i]);
	if (h->phase == DONE)
		linger(h);
}

static void
sooner(int64_t *due, int64_t at)
{
	if (at > 0 && at < *due)
		*due = at;
}

/* Milliseconds until something is due by time alone. */
static int
patience(const struct hold *h)
{
	int64_t due = h->now + 60000;

	sooner(&due, h->phase <= RUNNING ? h->deadline : 0);
	sooner(&due,
	    h->step == INTERRUPTED || h->step == TERMINATED ? h->step_at : 0);
	if (h->step == KILLING && !h->swept)
		sooner(&due, h->kill_at);
	if (h->phase == DRAINING)
		sooner(&due, h->now < h->retry_at ? h->retry_at : h->drain_at);
	if (h->phase == DONE)
		sooner(&due, h->leave_at);
	for (int i = 0; i < 2; i++) {
		if (h->spool[i].refused)
			sooner(&due, h->now + SPOOL_RETRY_MS);
		if (!h->syncer.busy && h->phase < DONE)
			sooner(&due, spool_sync_due(&h->spool[i]));
	}
	return due <= h->now ? 0 : (int)(due - h->now);
}

enum { F_CHILD, F_SYNC, F_FAULT, F_LISTEN, F_IN, F_OUT, F_ERR, F_CONN };
enum { F_COUNT = F_CONN + HOLDER_CONNS };

static void
watch(const struct hold *h, struct pollfd *p)
{
	const struct feed *f = &h->feed;

	p[F_CHILD] = (struct pollfd){ h->children, POLLIN, 0 };
	p[F_SYNC] = (struct pollfd){ h->syncer.done, POLLIN, 0 };
	p[F_FAULT] = (struct pollfd){ h->child.fault, POLLIN, 0 };
	p[F_LISTEN] = (struct pollfd){ h->ctl.listener, POLLIN, 0 };
	p[F_IN] = (struct pollfd){ f->pipe,
		f->consumed < f->received ? POLLOUT : 0, 0 };
	for (int i = 0; i < 2; i++) {
		const struct spool *s = &h->spool[i];
		bool want = h->phase == DONE || spool_wants(s);
		p[F_OUT + i] =
		    (struct pollfd){ want ? s->pipe : -1, POLLIN, 0 };
	}
	for (int i = 0; i < HOLDER_CONNS; i++) {
		const struct ctl_conn *c = &h->ctl.conns[i];
		p[F_CONN + i] = (struct pollfd){ c->fd,
			ctl_idle(c) ? POLLIN : POLLIN | POLLOUT, 0 };
	}
}

static void
serve(struct hold *h, const struct pollfd *p)
{
	/* Words first: a stop never waits behind output. */
	for (int i = 0; i < HOLDER_CONNS; i++)
		if ((p[F_CONN + i].revents & ~POLLOUT) != 0)
			hear(h, &h->ctl.conns[i]);
	if (p[F_LISTEN].revents != 0)
		welcome(h);
	if (p[F_FAULT].revents != 0)
		begun(h);
	if (p[F_CHILD].revents != 0)
		reap(h);
	if (p[F_SYNC].revents != 0)
		syncer_ended(&h->syncer, h->now);
	if ((p[F_IN].revents & POLLERR) != 0)
		feed_close(&h->feed);
	else if (p[F_IN].revents != 0)
		feed_pump(&h->feed);
	if (p[F_IN].revents != 0)
		hold_owe(h, CTL_CONSUMED);
	for (int i = 0; i < 2; i++) {
		struct spool *s = &h->spool[i];
		if (s->refused)
			spool_pump(s, h->now, 1, false);
		if (p[F_OUT + i].revents == 0 || s->pipe < 0)
			continue;
		if (h->phase == DONE)
			spool_discard(s);
		else
			spool_pump(s, h->now, PUMP_ROUNDS, false);
	}
}

static void
loop(struct hold *h)
{
	struct pollfd p[F_COUNT];

	while (h->phase != OVER) {
		watch(h, p);
		if (poll(p, F_COUNT, patience(h)) < 0)
			memset(p, 0, sizeof(p));
		h->now = claim_clock(CLOCK_MONOTONIC);
		serve(h, p);
		tick(h);
	}
	tree_fini(&h->tree);
}

/* Beginnings ----------------------------------------------------------------
 */

/* Deaf to what is meant for terminals, shells and agents; SIGCHLD by poll. */
static int
set_signals(struct hold *h)
{
	static const int deaf[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE,
		SIGALRM, SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU };
	struct sigaction act = { .sa_handler = SIG_IGN };
	sigset_t set;

	for (size_t i = 0; i < sizeof(deaf) / sizeof(deaf[0]); i++)
		(void)sigaction(deaf[i], &act, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	h->children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return h->children < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0
	    ? -1
	    : 0;
}

/* The order's socket becomes the first control connection. */
static int
adopt(struct hold *h)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0 || null < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		return -1;
	for (int i = 0; i < 3; i++)
		if (dup2(null, i) < 0)
			return -1;
	close(null);
	(void)ctl_add(&h->ctl, fd);
	return 0;
}

/* A command that cannot even be forked ends like one that cannot exec. */
static void
launch(struct hold *h)
{
	struct order *o = &h->order;

	/* The claim has made its directory the current one. */
	tree_init(&h->tree, o->cgroup, "..", o->id);
	h->child = (struct child){ -1, -1, -1, -1, -1 };
	if (child_start(&h->child, o, &h->tree) != 0) {
		h->fault = (struct child_fault){ -1, errno };
		h->phase = DRAINING;
		h->died = h->now;
	} else {
		crash_point("holder.forked");
		claim_started(&h->claim, h->child.pid);
	}
	h->tree.leader = h->child.pid;
	spool_init(&h->spool[0], "out", h->claim.dir, h->child.out);
	spool_init(&h->spool[1], "err", h->claim.dir, h->child.err);
	for (int i = 0; i < 2; i++) {
		h->spool[i].cap = o->cap;
		h->spool[i].drop = o->drop;
		h->spool[i].twin = &h->spool[1 - i];
	}
	h->feed.pipe = h->child.in;
	if (o->timeout_ms != 0)
		h->deadline = h->now + (int64_t)o->timeout_ms;
}

/* A stop is durable: the record says that this one never ran. */
static int
refuse_stopped(struct hold *h)
{
	hold_write_exit(h, "refused", "", "stopped", 0);
	(void)claim_exit(&h->claim, h->exit, h->exit_len);
	return ctl_refuse("stopped", "an emergency stop is in force");
}

int
main(void)
{
	static struct hold hold;
	static char text[HOLDER_ORDER_MAX];
	struct hold *h = &hold;
	const char *why;
	bool newer;

	(void)setsid();
	(void)umask(077);
	if (set_signals(h) != 0)
		return 1;
	size_t len = ctl_read_order(text, sizeof(text));
	if (len == 0)
		return 0;
	if (order_parse(&h->order, text, len, &why, &newer) != 0)
		return ctl_refuse(newer ? "version" : "order", why);
	crash_point("holder.order");
	ctl_init(&h->ctl);
	h->wall = claim_clock(CLOCK_REALTIME);
	why = claim_take(&h->claim, &h->order, &h->ctl, h->wall);
	if (why != NULL)
		return ctl_refuse(why, strerrorname_np(errno));
	h->now = h->start = h->died = claim_clock(CLOCK_MONOTONIC);
	if (claim_stopped(&h->order) || ctl_stop_waits())
		return refuse_stopped(h);
	if (syncer_init(&h->syncer) != 0 || adopt(h) != 0)
		return ctl_refuse("io", strerrorname_np(errno));
	launch(h);
	loop(h);
	return 0;
}
