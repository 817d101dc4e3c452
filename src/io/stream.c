#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/stream_in.h"
#include "io/sys.h"
#include "io/tls_link.h"

enum { IOV_MOST = 64 };

/* Events ------------------------------------------------------------------- */

/* Whether bytes are read from the socket, to be handed over or dropped. */
static bool
takes(const struct stream *s)
{
	return !s->eof && (s->reading || s->shaking || s->state != STREAM_OPEN);
}

/* Not started: left alone, because nobody would hear of its end. */
static bool
idle(const struct stream *s)
{
	return s->ops == NULL && s->state == STREAM_OPEN && !s->shaking;
}

/* The error the kernel holds; otherwise when it holds none. */
static int
socket_error(int fd, int otherwise)
{
	int number = 0;
	socklen_t len = sizeof(number);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &len) != 0 ||
	    number == 0)
		return otherwise;
	return sys_err(number);
}

void
stream_ended(struct stream *s)
{
	s->eof = true;
	if (s->state == STREAM_OPEN)
		s->ops->eof(stream_owner(s));
	else if (s->state == STREAM_LINGERING)
		stream_fail(s, 0);
}

/*
 * One recv an event: what is left is announced again, after the others.
 * False when there was nothing.
 */
static bool
take(struct stream *s)
{
	uint8_t *to = s->lane->receive;
	ssize_t n;

	if (s->tls != NULL && s->state == STREAM_OPEN)
		return tls_take(s);
	if (s->state == STREAM_OPEN && s->ops->ready != NULL) {
		s->ops->ready(stream_owner(s));
		return true;
	}
	n = recv(s->fd, to, s->bite, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0)
		stream_fail(s, sys_err(errno));
	else if (n == 0)
		stream_ended(s);
	else if (s->state == STREAM_OPEN)
		s->ops->read(stream_owner(s), to, (size_t)n);
	return true;
}

/*
 * libuv reports EPOLLERR as a status and stops the handle.  Bytes that came
 * before a reset can still be read; stream_watch polls again for the rest.
 */
static void
on_broken(struct stream *s)
{
	s->mask = 0;
	if (!takes(s) || !take(s))
		stream_fail(s, socket_error(s->fd, ERR_RESET));
	stream_watch(s);
}

/* The peer is gone, or has ended its side, while nothing was read. */
static void
on_hup(struct stream *s)
{
	int err = socket_error(s->fd, 0);

	s->hup = true;
	if (err != 0)
		stream_fail(s, err);
}

static void
on_poll(uv_poll_t *h, int status, int events)
{
	struct stream *s = LIST_OF(h, struct stream, poll);

	if (status < 0) {
		on_broken(s);
		return;
	}
	if ((events & UV_READABLE) != 0 && takes(s))
		take(s);
	else if ((events & UV_DISCONNECT) != 0)
		on_hup(s);
	if (s->state == STREAM_DEAD)
		return;
	if ((events & UV_WRITABLE) != 0) {
		s->vain = !s->blocked && !s->armed;
		s->blocked = false;
		s->armed = false;
		if (s->state == STREAM_OPEN)
			lane_mark(s);
		else
			stream_finish(s);
	}
	if (!s->dirty)
		stream_watch(s);
}

void
stream_watch(struct stream *s)
{
	int mask = 0;

	if (s->state == STREAM_DEAD || idle(s))
		return;
	if (takes(s))
		mask = UV_READABLE;
	else if (!s->eof && !s->hup)
		mask = UV_DISCONNECT;
	/* Asking costs two system calls, and so does giving up: that waits
	 * until it was in vain once, because who filled the socket does so
	 * again. */
	if (s->blocked || s->armed || ((s->mask & UV_WRITABLE) && !s->vain))
		mask |= UV_WRITABLE;
	if (mask == s->mask)
		return;
	s->mask = (uint8_t)mask;
	if (mask == 0)
		uv_poll_stop(&s->poll);
	else
		uv_poll_start(&s->poll, mask, on_poll);
}

/* Sending ------------------------------------------------------------------ */

static ssize_t
send_iov(int fd, struct iovec *iov, size_t count)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = count };

	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

/* One system call for the head of the list. */
static ssize_t
send_spans(struct stream *s, size_t *offered)
{
	struct iovec iov[IOV_MOST];
	size_t count = 0, total = 0;

	if (s->first->next == NULL) {
		struct slice b = span_bytes(s->first);
		*offered = b.len;
		return send(s->fd, b.ptr, b.len, MSG_NOSIGNAL);
	}
	for (struct span *p = s->first; p != NULL && count < IOV_MOST;
	     p = p->next) {
		struct slice b = span_bytes(p);
		iov[count].iov_base = (void *)(uintptr_t)b.ptr;
		iov[count++].iov_len = b.len;
		total += b.len;
	}
	*offered = total;
	return send_iov(s->fd, iov, count);
}

/* How many of len bytes went by a call that returned n. */
static int
sent(struct stream *s, ssize_t n, size_t len, size_t *went)
{
	*went = n < 0 ? 0 : (size_t)n;
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno != EAGAIN) {
		int err = errno == EPIPE ? ERR_RESET : sys_err(errno);
		stream_fail(s, err);
		return err;
	}
	if (*went < len)
		s->blocked = true;
	return 0;
}

int
stream_flush(struct stream *s)
{
	size_t offered, went;
	int err;

	if (s->tls != NULL && (err = tls_flush(s)) != 0)
		return err;
	while (s->first != NULL && !s->blocked) {
		ssize_t n = send_spans(s, &offered);
		err = sent(s, n, offered, &went);
		if (err != 0)
			return err;
		span_eat(s, went);
	}
	if (!s->blocked)
		return 0;
	err = span_settle(s);
	if (err != 0)
		stream_fail(s, err);
	return err;
}

static int
admit(struct stream *s, size_t len)
{
	if (s->state != STREAM_OPEN || s->shut || s->ops == NULL)
		return ERR_CLOSED;
	if (len > s->cap || s->queued > s->cap - len)
		return ERR_FULL;
	s->wrote = true;
	return 0;
}

/* A large write goes now, in place: its bytes are the caller's. */
static int
write_now(struct stream *s, struct slice head, struct slice body)
{
	size_t went = 0, len = head.len + body.len;
	struct iovec iov[2] = {
		{ (void *)(uintptr_t)head.ptr, head.len },
		{ (void *)(uintptr_t)body.ptr, body.len },
	};
	int err = stream_flush(s);

	if (err == 0 && !s->blocked && s->tls != NULL)
		err = tls_write_now(s, head, body, &went);
	while (err == 0 && !s->blocked && went == 0)
		err = sent(s, send_iov(s->fd, iov, 2), len, &went);
	if (err != 0)
		return err;
	if (went < head.len)
		err = span_keep2(s, slice_from_at(head, went), body);
	else
		err = span_keep2(s, slice_from_at(body, went - head.len),
		    (struct slice){ 0 });
	if (err != 0 && went > 0)
		stream_fail(s, err);
	return err;
}

static void
wrote(struct stream *s)
{
	if (s->queued > s->high)
		s->above = true;
	if (!s->blocked || (s->mask & UV_WRITABLE) == 0)
		lane_mark(s);
}

int
stream_write2(struct stream *s, struct slice head, struct slice body)
{
	size_t len = head.len + body.len;
	int err = admit(s, len);

	if (err != 0 || len == 0)
		return err;
	if (len > STREAM_COPY_MAX && !s->blocked)
		err = write_now(s, head, body);
	else
		err = span_put(s, head, body);
	if (err == 0)
		wrote(s);
	return err;
}

int
stream_write(struct stream *s, struct slice bytes)
{
	return stream_write2(s, bytes, (struct slice){ 0 });
}

int
stream_write_chunk(struct stream *s, struct slice head, struct chunk *c,
    size_t from, size_t len)
{
	int err;

	assert(from <= c->len && len <= c->len - from);
	assert(head.len <= STREAM_COPY_MAX);
	if (len <= CHUNK_COPY)
		return stream_write2(
		    s, head, (struct slice){ c->bytes + from, len });
	err = admit(s, head.len + len);
	if (err == 0)
		err = span_refer(s, head, c, from, len);
	if (err == 0)
		wrote(s);
	return err;
}

/* Pieces from where they lie, in one call; the rest is kept. */
static int
write_parts_now(struct stream *s, const struct slice *parts, size_t count)
{
	struct iovec iov[STREAM_PARTS];
	size_t went = 0, len = 0;
	int err = stream_flush(s);

	for (size_t i = 0; i < count; i++) {
		iov[i].iov_base = (void *)(uintptr_t)parts[i].ptr;
		iov[i].iov_len = parts[i].len;
		len += parts[i].len;
	}
	while (err == 0 && !s->blocked && went == 0)
		err = sent(s, send_iov(s->fd, iov, count), len, &went);
	for (size_t i = 0; err == 0 && i < count; i++) {
		struct slice rest = slice_from_at(parts[i], went);
		went -= parts[i].len - rest.len;
		err = span_keep2(s, rest, (struct slice){ 0 });
	}
	if (err != 0)
		stream_fail(s, err);
	return err;
}

static int
put_parts(struct stream *s, const struct slice *parts, size_t count)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < count; i++)
		err = span_put(s, parts[i], (struct slice){ 0 });
	if (err != 0)
		stream_fail(s, err); /* some of it may be there */
	return err;
}

int
stream_write_parts(struct stream *s, const struct slice *parts, size_t count)
{
	size_t len = 0;

	assert(count <= STREAM_PARTS);
	for (size_t i = 0; i < count; i++)
		len += parts[i].len;
	int err = admit(s, len);
	if (err != 0 || len == 0)
		return err;
	if (len > STREAM_COPY_MAX && !s->blocked && s->tls == NULL)
		err = write_parts_now(s, parts, count);
	else
		err = put_parts(s, parts, count);
	if (err == 0)
		wrote(s);
	return err;
}

size_t
stream_queued(const struct stream *s)
{
	const struct tls_link *t = s->tls;

	return s->queued + (t == NULL ? 0 : t->owed_end - t->owed_at);
}

void
stream_set_cap(struct stream *s, size_t cap)
{
	s->cap = cap > UINT32_MAX ? UINT32_MAX : (uint32_t)cap;
}

void
stream_set_bite(struct stream *s, size_t most)
{
	assert(most > 0 && most <= STREAM_RECEIVE);
	s->bite = (uint32_t)most;
}

void
stream_set_marks(struct stream *s, size_t low, size_t high)
{
	assert(low <= high && high <= UINT32_MAX);
	s->low = (uint32_t)low;
	s->high = (uint32_t)high;
}

bool
stream_above_high(const struct stream *s)
{
	return s->queued > s->high;
}

void
stream_want(struct stream *s, bool want)
{
	if (s->state != STREAM_OPEN || s->want == want)
		return;
	s->want = want;
	lane_mark(s);
}

/* The end of a turn -------------------------------------------------------- */

static void
call_drained(struct stream *s)
{
	if (!s->above || s->queued > s->low)
		return;
	s->above = false;
	if (s->ops->drained != NULL)
		s->ops->drained(stream_owner(s));
}

static void
call_pull(struct stream *s)
{
	if (!s->want || s->blocked || s->queued > 0 ||
	    s->state != STREAM_OPEN || s->shut)
		return;
	s->wrote = false;
	s->ops->pull(stream_owner(s), STREAM_PULL_MAX);
	if (!s->wrote)
		s->want = false;
}

/* All is flushed: say so, as far as the stream's end has come. */
static void
wind_down(struct stream *s)
{
	bool closing = s->state == STREAM_FLUSHING;

	if (s->queued > 0 || s->blocked) {
		if (closing && !s->waiting)
			lane_wait(s, STREAM_FLUSH_SECONDS);
		return;
	}
	if ((closing || s->shut) && !s->fin) {
		if (s->tls != NULL && tls_goodbye(s) != 0)
			return;
		if (s->blocked) {
			wind_down(s);
			return;
		}
		s->fin = true;
		shutdown(s->fd, SHUT_WR);
	}
	if (closing && s->eof) {
		stream_fail(s, 0);
	} else if (closing) {
		s->state = STREAM_LINGERING;
		lane_wait(s, STREAM_LINGER_SECONDS);
	}
}

void
stream_finish(struct stream *s)
{
	int err;

	if (idle(s) || s->state == STREAM_DEAD)
		return;
	if (s->tls != NULL && s->reading && s->tls->held != NULL)
		tls_take_held(s);
	if (s->state == STREAM_DEAD || stream_flush(s) != 0)
		return;
	if (s->state == STREAM_OPEN && !s->shaking) {
		call_drained(s);
		call_pull(s);
		if (s->state == STREAM_DEAD || stream_flush(s) != 0)
			return;
	}
	err = span_settle(s);
	if (err != 0) {
		stream_fail(s, err);
		return;
	}
	wind_down(s);
	if (s->state == STREAM_OPEN)
		s->armed = s->want || (s->above && s->queued <= s->low);
	stream_watch(s);
}

/* Life --------------------------------------------------------------------- */

static int
init_poll(struct stream *s, struct stream_lane *lane)
{
	void *owner = s->poll.data;

	if (uv_poll_init(&lane->loop->uv, &s->poll, s->fd) != 0)
		return ERR_NOMEM;
	s->poll.data = owner;
	s->lane = lane;
	return 0;
}

int
stream_new(
    struct loop *l, int fd, const struct sockaddr *remote, struct stream **out)
{
	struct stream_lane *lane = lane_of(l);
	struct stream *s = lane == NULL ? NULL : alloc_new(sizeof(*s));
	socklen_t len = sizeof(s->remote);

	if (s == NULL)
		return ERR_NOMEM;
	s->fd = fd;
	s->cap = 16 * 1024 * 1024;
	s->bite = STREAM_RECEIVE;
	s->low = 64 * 1024;
	s->high = 256 * 1024;
	list_init(&s->link);
	if (remote != NULL && remote->sa_family == AF_INET)
		memcpy(&s->remote.in, remote, sizeof(s->remote.in));
	else if (remote != NULL && remote->sa_family == AF_INET6)
		memcpy(&s->remote.in6, remote, sizeof(s->remote.in6));
	else if (remote != NULL)
		s->remote.sa.sa_family = remote->sa_family;
	else
		getpeername(fd, &s->remote.sa, &len);
	if (init_poll(s, lane) != 0) {
		alloc_free(s);
		return ERR_NOMEM;
	}
	*out = s;
	return 0;
}

void
stream_tune(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 30 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 10 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 3 },
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 32 * 1024 },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(fd, options[i].level, options[i].name,
		    &options[i].value, sizeof(int));
}

void
stream_start(struct stream *s, const struct stream_ops *ops, void *owner)
{
	if (s->state != STREAM_OPEN)
		return;
	s->ops = ops;
	s->poll.data = owner;
	s->reading = true;
	lane_mark(s);
	stream_watch(s);
}

static void
on_closed(uv_handle_t *h)
{
	struct stream *s = LIST_OF(h, struct stream, poll);

	if (s->tls != NULL)
		tls_closed(s);
	if (s->ops != NULL)
		s->ops->closed(stream_owner(s), s->why);
	alloc_free(s);
}

/* Everything goes but the memory, which waits for the loop. */
void
stream_fail(struct stream *s, int why)
{
	if (s->state == STREAM_DEAD)
		return;
	s->state = STREAM_DEAD;
	s->why = (int16_t)why;
	span_drop_all(s);
	if (s->tls != NULL)
		tls_fail(s);
	if (s->lane == NULL) {
		close(s->fd);
		alloc_free(s->tls);
		alloc_free(s);
		return;
	}
	lane_unlink(s);
	uv_close((uv_handle_t *)&s->poll, on_closed);
	close(s->fd);
	s->fd = -1;
}

void
stream_expire(struct stream *s)
{
	stream_fail(s, s->state == STREAM_LINGERING ? 0 : ERR_TIMEOUT);
}

void
stream_close(struct stream *s)
{
	if (s->state != STREAM_OPEN)
		return;
	s->state = STREAM_FLUSHING;
	s->want = s->armed = false;
	lane_mark(s);
}

void
stream_abort(struct stream *s, bool reset)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	if (s->state == STREAM_DEAD)
		return;
	if (s->tls != NULL)
		s->tls->ready = NULL;
	if (reset)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	stream_fail(s, 0);
}

void
stream_shutdown(struct stream *s)
{
	if (s->state != STREAM_OPEN || s->shut)
		return;
	s->shut = true;
	s->want = false;
	lane_mark(s);
}

int
stream_take(struct stream *s, uint8_t *to, size_t room, size_t *n)
{
	ssize_t got = -1;

	if (s->state != STREAM_OPEN || s->eof)
		return ERR_CLOSED;
	assert(s->tls == NULL);
	do
		got = recv(s->fd, to, room, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return ERR_AGAIN;
	if (got < 0) {
		int err = sys_err(errno);
		stream_fail(s, err);
		return err;
	}
	if (got == 0) {
		s->eof = true;
		lane_mark(s);
		return ERR_CLOSED;
	}
	*n = (size_t)got;
	return 0;
}

void
stream_read_stop(struct stream *s)
{
	s->reading = false;
	if (s->state == STREAM_OPEN)
		lane_mark(s);
}

void
stream_read_start(struct stream *s)
{
	s->reading = true;
	if (s->state == STREAM_OPEN)
		lane_mark(s);
}

struct stream *
stream_detach(struct stream *s)
{
	struct stream *n;

	if (s->state != STREAM_OPEN || stream_flush(s) != 0)
		return NULL;
	n = alloc_new(sizeof(*n));
	if (n == NULL)
		return NULL;
	if (span_settle(s) != 0) {
		stream_fail(s, ERR_NOMEM);
		alloc_free(n);
		return NULL;
	}
	lane_unlink(s);
	*n = *s;
	list_init(&n->link);
	n->lane = NULL;
	n->mask = 0;
	n->ops = NULL;
	n->reading = n->armed = n->hup = false;
	s->state = STREAM_DEAD;
	s->ops = NULL;
	s->first = s->last = NULL;
	s->tls = NULL;
	if (n->tls != NULL)
		n->tls->s = n;
	uv_close((uv_handle_t *)&s->poll, on_closed);
	return n;
}

int
stream_attach(struct stream *s, struct loop *l)
{
	struct stream_lane *lane = lane_of(l);

	return lane == NULL ? ERR_NOMEM : init_poll(s, lane);
}

/* Facts -------------------------------------------------------------------- */

const struct sockaddr *
stream_remote(const struct stream *s)
{
	return &s->remote.sa;
}

bool
stream_is_tls(const struct stream *s)
{
	return s->tls != NULL;
}

int
stream_peer_pin(const struct stream *s, uint8_t pin[32])
{
	const X509 *cert = s->tls == NULL || s->tls->ssl == NULL
	    ? NULL
	    : SSL_get0_peer_certificate(s->tls->ssl);

	return cert == NULL ? ERR_NOT_FOUND : tls_pin_of(cert, pin);
}

struct loop *
stream_loop(const struct stream *s)
{
	return s->lane == NULL ? NULL : s->lane->loop;
}

int
stream_fd(const struct stream *s)
{
	return s->fd;
}

size_t
stream_memory(const struct stream *s)
{
	size_t n = 0;

	if (s->tls != NULL)
		n += tls_memory(s);
	for (const struct span *p = s->first; p != NULL; p = p->next)
		n += sizeof(*p) + p->room;
	return n;
}
