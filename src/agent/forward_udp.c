#include "base/err.h"
#include "io/log.h"
#include "wire/be.h"

#include "agent/forward_parts.h"

/* From the service ----------------------------------------------------------
 */

void
forward_udp_queue(struct forward *f, struct slice datagram)
{
	uint8_t head[FORWARD_HEAD];

	if (datagram.len > UINT16_MAX ||
	    buf_peek(&f->held).len + FORWARD_HEAD + datagram.len >
		FORWARD_QUEUE) {
		f->all->counts.dropped++;
		return;
	}
	f->brisk = buf_peek(&f->held).len == 0;
	be_put16(head, (uint16_t)datagram.len);
	buf_put(&f->held, (struct slice){ head, sizeof(head) });
	buf_put(&f->held, datagram);
	forward_look(f);
}

/* A bounded number a turn: others have theirs. */
static void
on_ready(void *owner)
{
	static uint8_t bytes[DGRAM_MAX]; /* of the loop's thread */
	struct forward *f = owner;
	size_t n = 0;
	int err = 0;

	for (int i = 0; i < 64 && !f->dead; i++) {
		err = dgram_receive(f->dgram, bytes, sizeof(bytes), &n, NULL);
		if (err != 0)
			break;
		forward_udp_queue(f, (struct slice){ bytes, n });
	}
	if (f->dead || err == 0 || err == ERR_AGAIN)
		return;
	log_warn("tunnel_unanswered", kv_c("id", f->wish.id),
	    kv_c("target", f->wish.host), kv_u("port", f->wish.port),
	    kv_e("err", err));
	forward_cut(f, err_name(err));
}

static void
on_closed(void *owner)
{
	struct forward *f = owner;

	f->dgram = NULL;
	forward_release(f);
}

static const struct dgram_ops dgram_ops = {
	.ready = on_ready,
	.closed = on_closed,
};

int
forward_udp_open(struct forward *f, const union addr *to)
{
	f->address = *to;
	return dgram_open(f->all->c.loop, NULL, to, &dgram_ops, f, &f->dgram);
}

/* To the service ------------------------------------------------------------
 */

/* What the kernel does not take is lost, as anywhere on the way; but that
 * nobody is there is the service's answer, and ends the stream. */
static int
send_one(struct forward *f, struct slice datagram)
{
	const struct forward *p = f->parent;
	struct dgram *d = p != NULL ? p->dgram : f->dgram;
	int err = d == NULL
	    ? ERR_CLOSED
	    : dgram_send(d, datagram, p != NULL ? &f->peer : NULL);

	if (err != 0)
		f->all->counts.dropped++;
	return p == NULL && (err == ERR_REFUSED || err == ERR_UNREACHABLE) ? err
									   : 0;
}

/* Cut a whole datagram off *data; false when there is none. */
static bool
next_whole(struct slice *data, struct slice *datagram)
{
	if (data->len < FORWARD_HEAD)
		return false;
	size_t n = be_get16(data->ptr);
	if (data->len - FORWARD_HEAD < n)
		return false;
	*datagram = slice_first(slice_from_at(*data, FORWARD_HEAD), n);
	*data = slice_from_at(*data, FORWARD_HEAD + n);
	return true;
}

/* Add to the part what the datagram that it begins lacks, and send it. */
static int
fill_part(struct forward *f, struct slice *data)
{
	while (data->len > 0) {
		struct slice have = buf_peek(&f->part), whole;
		size_t want = have.len < FORWARD_HEAD
		    ? FORWARD_HEAD
		    : FORWARD_HEAD + (size_t)be_get16(have.ptr);
		struct slice more = slice_first(*data, want - have.len);
		buf_put(&f->part, more);
		if (f->part.err != 0)
			return f->part.err;
		*data = slice_from_at(*data, more.len);
		have = buf_peek(&f->part);
		if (next_whole(&have, &whole)) {
			int err = send_one(f, whole);
			buf_clear(&f->part);
			return err;
		}
	}
	return 0;
}

int
forward_udp_feed(struct forward *f, struct slice data)
{
	struct slice whole;
	int err = 0;

	if (buf_peek(&f->part).len > 0)
		err = fill_part(f, &data);
	while (err == 0 && next_whole(&data, &whole))
		err = send_one(f, whole);
	if (err == 0 && data.len > 0) {
		buf_put(&f->part, data);
		err = f->part.err;
	}
	return err;
}
