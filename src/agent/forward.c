/*
 * Design notes.  From the service to the link nothing is kept: the socket
 * says that it has something, and the link, when it may send, takes it from
 * the kernel straight to where it is masked and sent from.  Only TLS and
 * datagrams have a queue in between.  From the link to the service bytes go
 * to the socket's cork in the turn in which they came; what the socket has
 * not taken by the turn's end is not yet consumed.
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/listen.h"
#include "io/log.h"

#include "agent/forward_parts.h"

static struct forward *
forward_of(struct strand *s)
{
	return LIST_OF(s, struct forward, strand);
}

/* What there is to send -----------------------------------------------------
 */

static bool
has_data(const struct forward *f)
{
	return f->state == FORWARD_OPEN &&
	    (f->ready || buf_peek(&f->held).len > 0);
}

static bool
is_done(const struct forward *f)
{
	if (buf_peek(&f->small).len > 0 || f->small.err != 0)
		return false;
	return f->state == FORWARD_OVER ||
	    (f->state == FORWARD_OPEN && f->eof && !has_data(f));
}

static enum sched_turn
class_of(const struct forward *f)
{
	if (f->strand.finished)
		return TURN_IDLE;
	/* Broken for want of memory, it is reset when it is to send. */
	if (buf_peek(&f->small).len > 0 || f->small.err != 0 || is_done(f))
		return TURN_SOON;
	if (!has_data(f))
		return TURN_IDLE;
	return f->brisk ? TURN_BRISK : TURN_BULK;
}

void
forward_look(struct forward *f)
{
	if (!f->dead)
		strand_set(&f->strand, class_of(f));
}

static size_t
take_buf(struct buf *b, uint8_t *out, size_t room)
{
	struct slice s = slice_first(buf_peek(b), room);

	if (s.len > 0)
		memcpy(out, s.ptr, s.len);
	buf_eat(b, s.len);
	return s.len;
}

/* A socket that was told of and not read waits in silence until it is. */
static void
go_on_reading(struct forward *f)
{
	if (f->paused && f->stream != NULL)
		stream_read_start(f->stream);
	f->paused = false;
}

static size_t
take_held(struct forward *f, uint8_t *out, size_t room)
{
	size_t n = take_buf(&f->held, out, room);

	if (buf_peek(&f->held).len == 0) {
		size_t cap = f->held.cap;
		buf_fini(&f->held);
		buf_init(&f->held, cap);
	}
	if (buf_peek(&f->held).len < FORWARD_HOLD / 2)
		go_on_reading(f);
	return n;
}

/* From the kernel; of an error the stream's end tells. */
static size_t
take_ready(struct forward *f, uint8_t *out, size_t room)
{
	size_t n = 0;
	int err = stream_take(f->stream, out, room, &n);

	f->eof |= err == ERR_CLOSED;
	f->ready = err == 0 && n == room;
	if (!f->ready && !f->eof)
		go_on_reading(f);
	return n;
}

static int
op_put(struct strand *s, uint8_t *out, size_t room, size_t *n)
{
	struct forward *f = forward_of(s);

	*n = 0;
	if (f->small.err != 0)
		return f->small.err;
	if (buf_peek(&f->small).len > 0) {
		*n = take_buf(&f->small, out, room);
		forward_look(f);
		return 0;
	}
	if (!has_data(f))
		return 0;
	if (buf_peek(&f->held).len > 0)
		*n = take_held(f, out, room);
	else if (f->stream != NULL)
		*n = take_ready(f, out, room);
	else
		f->ready = false;
	f->brisk = false;
	f->in += *n;
	f->all->counts.bytes_in += *n;
	f->last = loop_now(f->all->c.loop);
	forward_look(f);
	return 0;
}

/* To the service ------------------------------------------------------------
 */

void
forward_consume(struct forward *f, size_t n)
{
	assert(n <= f->owed);
	f->owed -= n;
	if (n > 0 && !f->dead)
		f->all->c.link->consume(f->all->c.link, f->strand.id, n);
}

static void
owe(struct forward *f)
{
	if (list_empty(&f->owing))
		list_push(&f->all->owing, &f->owing);
}

/* To the socket, which has until the turn's end to take it. */
static int
pass_tcp(struct forward *f, struct slice data)
{
	int err =
	    f->stream == NULL ? ERR_CLOSED : stream_write(f->stream, data);

	owe(f);
	/* Its end is on the way. */
	return err == ERR_CLOSED || err == ERR_RESET ? 0 : err;
}

static int
pass(struct forward *f, struct slice data)
{
	f->out += data.len;
	f->all->counts.bytes_out += data.len;
	f->last = loop_now(f->all->c.loop);
	if (!f->wish.udp)
		return pass_tcp(f, data);
	int err = forward_udp_feed(f, data);
	if (err == 0)
		forward_consume(f, data.len);
	return err;
}

int
forward_begin(struct forward *f)
{
	struct slice early = buf_peek(&f->opening);
	int err = early.len > 0 ? pass(f, early) : 0;

	f->state = FORWARD_OPEN;
	f->since = loop_now(f->all->c.loop);
	buf_fini(&f->opening);
	if (f->strand.peer_ended && f->stream != NULL)
		stream_shutdown(f->stream);
	if (err == 0)
		forward_look(f);
	return err;
}

/* Openings ------------------------------------------------------------------
 */

void
forward_count(struct forward *f, bool count)
{
	struct words_tunnels *n = &f->all->counts;
	uint64_t *which = f->wish.listen ? &n->listeners : &n->open;

	if (count != f->counted) {
		*which += count ? 1 : UINT64_MAX;
		f->counted = count;
		forwards_watch(f->all);
	}
}

bool
forward_room(const struct forwards *all)
{
	const struct words_tunnels *n = &all->counts;

	return n->open + n->listeners < all->c.policy->tunnels;
}

static int
judge(struct forward *f, const struct opening *o, struct forward_refusal *no)
{
	struct forwards *all = f->all;
	int err = forward_read(o, all->c.domain, &f->wish, no);

	if (err != 0)
		return err;
	if (all->stopped != NULL)
		return forward_refuse(no, "STOPPED", "%s", all->stopped);
	if (!forward_room(all))
		return forward_refuse(no, "TOO_MANY",
		    "%llu tunnels are open, and this host's policy allows no "
		    "more",
		    (unsigned long long)all->c.policy->tunnels);
	return forward_permit(all->c.policy, &f->wish, no);
}

/* Begin what was wished for, or refuse it; without answers that is a reset. */
static int
start(struct forward *f, int err, struct forward_refusal *no)
{
	if (err == 0) {
		forward_count(f, true);
		f->state = FORWARD_COMING;
		err = f->wish.listen ? forward_listen(f, no)
				     : forward_approach(f, no);
	}
	if (err != ERR_DENIED)
		return err;
	forward_refused(f, no);
	return f->wish.answers ? 0 : err;
}

/* The opening, gathered; what is behind it waits in its place. */
static int
take_opening(struct forward *f, struct slice data)
{
	struct forward_refusal no = { .code = "INVALID" };
	struct opening o;

	buf_put(&f->opening, data);
	if (f->opening.err != 0)
		return f->opening.err;
	int n = opening_decode(buf_peek(&f->opening), &o);
	if (n <= 0)
		return n;
	int err = judge(f, &o, &no);
	buf_eat(&f->opening, (size_t)n);
	forward_consume(f, (size_t)n);
	return start(f, err, &no);
}

static int
op_feed(struct strand *s, struct slice data)
{
	struct forward *f = forward_of(s);
	int err = 0;

	f->owed += data.len;
	if (f->state == FORWARD_OPEN)
		return pass(f, data);
	if (f->state == FORWARD_ASKING)
		return forward_answered(f, data);
	if (f->state == FORWARD_OPENING) {
		err = take_opening(f, data);
	} else if (f->state == FORWARD_COMING) {
		buf_put(&f->opening, data);
		err = f->opening.err;
	}
	if (f->state == FORWARD_LISTENING || f->state == FORWARD_OVER)
		forward_consume(f, f->owed);
	return err;
}

static void
log_end(const struct forward *f, bool whole)
{
	if (f->state != FORWARD_OPEN && f->state != FORWARD_LISTENING)
		return;
	log_info("tunnel_closed", kv_c("id", f->wish.id),
	    kv_c("target", f->wish.host), kv_u("port", f->wish.port),
	    kv_u("in", f->in), kv_u("out", f->out),
	    kv_ms("after", loop_now(f->all->c.loop) - f->since),
	    kv_c("end", whole ? "both sides" : "cut"));
}

static void
op_ended(struct strand *s)
{
	struct forward *f = forward_of(s);

	if (f->state == FORWARD_OPEN && f->stream != NULL)
		stream_shutdown(f->stream);
	/* There is no half of a listener, nor of datagrams. */
	if (f->state == FORWARD_LISTENING || f->wish.udp)
		f->eof = true;
	if (f->state == FORWARD_LISTENING) {
		log_end(f, true);
		forward_unlisten(f);
		f->state = FORWARD_OVER;
	}
	forward_look(f);
}

/* The service ---------------------------------------------------------------
 */

static void
on_ready(void *owner)
{
	struct forward *f = owner;

	if (f->dead)
		return;
	if (f->ready) {
		f->paused = true;
		stream_read_stop(f->stream);
		return;
	}
	f->ready = f->brisk = true;
	forward_look(f);
}

/* TLS has no other place for what it has decrypted. */
static void
on_read(void *owner, uint8_t *bytes, size_t n)
{
	struct forward *f = owner;

	if (f->dead)
		return;
	f->brisk = buf_peek(&f->held).len == 0;
	buf_put(&f->held, (struct slice){ bytes, n });
	if (f->held.err != 0) {
		forward_cut(f, err_name(f->held.err));
		return;
	}
	if (buf_peek(&f->held).len >= FORWARD_HOLD && !f->paused) {
		f->paused = true;
		stream_read_stop(f->stream);
	}
	forward_look(f);
}

static void
on_eof(void *owner)
{
	struct forward *f = owner;

	f->eof = true;
	forward_look(f);
}

static void
on_drained(void *owner)
{
	struct forward *f = owner;

	if (!f->dead && f->owed > 0)
		owe(f);
}

static void
on_closed(void *owner, int why)
{
	struct forward *f = owner;

	f->stream = NULL;
	if (f->dead)
		forward_release(f);
	else
		forward_cut(f, why == 0 ? "closed" : err_name(why));
}

const struct stream_ops forward_stream_ops = {
	.read = on_read,
	.ready = on_ready,
	.eof = on_eof,
	.drained = on_drained,
	.closed = on_closed,
};

/* The strand ----------------------------------------------------------------
 */

static void
op_look(struct strand *s)
{
	forward_look(forward_of(s));
}

static bool
op_done(struct strand *s)
{
	return is_done(forward_of(s));
}

static bool
op_lingers(struct strand *s)
{
	const struct forward *f = forward_of(s);

	return f->stream != NULL && f->owed > 0;
}

static void
op_free(struct strand *s)
{
	struct forward *f = forward_of(s);
	bool whole = s->finished && s->peer_ended;

	log_end(f, whole);
	forward_count(f, false);
	strand_fini(s);
	f->dead = true;
	list_remove(&f->link);
	list_remove(&f->owing);
	forward_approach_free(f);
	forward_unlisten(f);
	if (f->stream != NULL && f->state == FORWARD_ASKING) {
		/* Never started: nobody is told of its end. */
		stream_abort(f->stream, true);
		f->stream = NULL;
	} else if (f->stream != NULL && whole)
		stream_close(f->stream);
	else if (f->stream != NULL)
		stream_abort(f->stream, true);
	if (f->dgram != NULL)
		dgram_close(f->dgram);
	buf_fini(&f->opening);
	buf_fini(&f->small);
	buf_fini(&f->held);
	buf_fini(&f->part);
	forward_release(f);
}

static const struct strand_ops forward_ops = {
	.feed = op_feed,
	.ended = op_ended,
	.put = op_put,
	.look = op_look,
	.done = op_done,
	.lingers = op_lingers,
	.free = op_free,
	.own_pace = true,
};

/* Life ----------------------------------------------------------------------
 */

void
forward_release(struct forward *f)
{
	struct forwards *all = f->all;

	if (!f->dead || f->stream != NULL || f->dgram != NULL)
		return;
	(*all->c.alive)--;
	loop_again(all->c.loop);
	alloc_free(f);
}

void
forward_cut(struct forward *f, const char *why)
{
	if (f->dead)
		return;
	log_debug("tunnel_cut", kv_c("id", f->wish.id), kv_c("why", why));
	f->all->c.link->drop(f->all->c.link, &f->strand);
}

struct forward *
forward_make(struct forwards *all, uint32_t id)
{
	struct forward *f = alloc_new(sizeof(*f));

	if (f == NULL)
		return NULL;
	strand_init(&f->strand, &forward_ops, all->c.link, id);
	f->all = all;
	list_init(&f->owing);
	list_init(&f->link);
	list_push(&all->open, &f->link);
	buf_init(&f->opening, OPENING_MAX + FORWARD_EARLY);
	buf_init(&f->small, OPENING_MAX);
	buf_init(&f->held, FORWARD_HELD);
	buf_init(&f->part, FORWARD_HEAD + UINT16_MAX);
	f->since = f->last = loop_now(all->c.loop);
	(*all->c.alive)++;
	return f;
}

struct strand *
forwards_strand(struct forwards *all, uint32_t id)
{
	struct forward *f = forward_make(all, id);

	return f == NULL ? NULL : &f->strand;
}
