#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/holder_hold.h"

static const char *const reasons[] = { "none", "interrupt", "terminate", "kill",
	"stop", "timeout" };

void
hold_owe(struct hold *h, unsigned what)
{
	for (int i = 0; i < HOLDER_CONNS; i++)
		h->ctl.conns[i].owes |= what;
}

static uint8_t
flags(const struct hold *h)
{
	unsigned f = 0;

	for (unsigned i = 0; i < 2; i++) {
		const struct spool *s = &h->spool[i];
		if (s->pipe < 0 || h->phase >= DONE)
			f |= (unsigned)HOLDER_OUT_ENDED << i;
		else if (!s->drop && spool_full(s))
			f |= (unsigned)HOLDER_OUT_WAITS << i;
	}
	return (uint8_t)f;
}

/* "key=1,2,3" and a newline. */
static int
put_names(char *out, size_t room, const char *key, const struct tree_names *t)
{
	int n = snprintf(out, room, "%s=", key);

	for (size_t i = 0; i < t->count; i++)
		n += snprintf(out + n, room - (size_t)n, i == 0 ? "%d" : ",%d",
		    (int)t->pid[i]);
	return n + snprintf(out + n, room - (size_t)n, "\n");
}

/* What a kill has done, for status and exit record alike. */
static int
put_killed(const struct hold *h, char *out, size_t room)
{
	int n = snprintf(out, room, "killed=%zu\nlingering=%zu\nstop_ms=%lld\n",
	    h->tree.killed, h->lingering, (long long)h->stop_ms);

	n += put_names(out + n, room - (size_t)n, "pids", &h->tree.named);
	return n + put_names(out + n, room - (size_t)n, "left", &h->left);
}

static void
put_status(struct hold *h, struct ctl_conn *c)
{
	char text[HOLDER_TEXT_MAX];

	int n = snprintf(text, sizeof(text),
	    "version=%d\nid=%s\nstate=%s\npid=%d\nout=%llu\nerr=%llu\n"
	    "ended=%u\nout_acked=%llu\nerr_acked=%llu\ninput_received=%llu\n"
	    "input_consumed=%llu\ninput_closed=%d\ndead=%d\n",
	    HOLDER_VERSION, h->order.id, h->phase >= DONE ? "done" : "running",
	    (int)h->child.pid, (unsigned long long)h->spool[0].size,
	    (unsigned long long)h->spool[1].size, flags(h),
	    (unsigned long long)h->spool[0].acked,
	    (unsigned long long)h->spool[1].acked,
	    (unsigned long long)h->feed.received,
	    (unsigned long long)h->feed.consumed, h->feed.pipe < 0, h->swept);
	n += put_killed(h, text + n, sizeof(text) - (size_t)n);
	for (int i = 0; i < n; i++)
		if (text[i] == '\n')
			text[i] = '\0';
	ctl_put(c, 'T', text, (size_t)n);
}

static void
put_consumed(struct hold *h, struct ctl_conn *c)
{
	uint8_t body[17];

	holder_put(body, h->feed.received, 8);
	holder_put(body + 8, h->feed.consumed, 8);
	body[16] = h->feed.pipe < 0;
	ctl_put(c, 'C', body, sizeof(body));
}

static void
put_grew(struct hold *h, struct ctl_conn *c)
{
	uint8_t body[17];

	for (int i = 0; i < 2; i++)
		holder_put(body + 8 * i, h->spool[i].size, 8);
	body[16] = c->flags = flags(h);
	c->armed = false;
	ctl_put(c, 'G', body, sizeof(body));
}

static void
put_exit(struct hold *h, struct ctl_conn *c)
{
	ctl_put(c, 'X', h->exit, h->exit_len);
}

/* In the order in which an agent wants to hear them. */
static const struct {
	unsigned owed;
	void (*put)(struct hold *h, struct ctl_conn *c);
} words[] = {
	{ CTL_STATUS, put_status },
	{ CTL_CONSUMED, put_consumed },
	{ CTL_GREW, put_grew },
	{ CTL_EXIT, put_exit },
};

static bool
grew(const struct hold *h, const struct ctl_conn *c)
{
	return c->armed &&
	    (h->spool[0].size > c->seen[0] || h->spool[1].size > c->seen[1] ||
		flags(h) != c->flags);
}

void
hold_tell(struct hold *h, struct ctl_conn *c)
{
	while (c->fd >= 0 && ctl_write(c) == 0 && ctl_idle(c)) {
		size_t i = 0, n = sizeof(words) / sizeof(words[0]);
		if (grew(h, c))
			c->owes |= CTL_GREW;
		while (i < n && (c->owes & words[i].owed) == 0)
			i++;
		if (i == n)
			return;
		c->owes &= ~words[i].owed;
		words[i].put(h, c);
	}
}

const char *
hold_outcome(const struct hold *h)
{
	if (h->fault.error != 0)
		return "failed";
	return WIFSIGNALED(h->status) ? "signaled" : "exited";
}

int
hold_exit_code(const struct hold *h)
{
	if (h->fault.error != 0)
		return h->fault.error == ENOENT && h->fault.stage == CHILD_EXEC
		    ? 127
		    : 126;
	return WIFSIGNALED(h->status) ? 128 + WTERMSIG(h->status)
				      : WEXITSTATUS(h->status);
}

static uint64_t
micros(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

void
hold_write_exit(struct hold *h, const char *out, const char *stage,
    const char *error, int code)
{
	char *text = h->exit;
	size_t room = sizeof(h->exit);
	bool ran = h->reaped && h->fault.error == 0;

	int n = snprintf(text, room,
	    "muster-exit %d\nid=%s\nseq=%llu\noutcome=%s\ncode=%d\nsignal=%d\n"
	    "reason=%s\nstage=%s\nerror=%s\nstart_ms=%lld\nend_ms=%lld\n"
	    "took_ms=%lld\nout=%llu\nerr=%llu\nout_gap=%llu\nerr_gap=%llu\n"
	    "user_us=%llu\nsystem_us=%llu\n"
	    "max_rss_kb=%ld\n",
	    HOLDER_VERSION, h->order.id, (unsigned long long)h->order.seq, out,
	    code, ran && WIFSIGNALED(h->status) ? WTERMSIG(h->status) : 0,
	    reasons[h->reason], stage, error, (long long)h->wall,
	    (long long)(h->wall + h->died - h->start),
	    (long long)(h->died - h->start),
	    (unsigned long long)h->spool[0].size,
	    (unsigned long long)h->spool[1].size,
	    (unsigned long long)h->spool[0].gaps.total,
	    (unsigned long long)h->spool[1].gaps.total,
	    (unsigned long long)micros(h->usage.ru_utime),
	    (unsigned long long)micros(h->usage.ru_stime), h->usage.ru_maxrss);
	n += put_killed(h, text + n, room - (size_t)n);
	n += snprintf(text + n, room - (size_t)n, "check=%016llx\n",
	    (unsigned long long)holder_fnv(HOLDER_FNV, text, (size_t)n));
	h->exit_len = (size_t)n;
}
