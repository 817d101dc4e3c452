/*
 * Design notes.  OpenSSL sees the socket through a BIO of ours that has no
 * memory of its own.  Reading: one recv per event goes into the upper part
 * of the lane's receive buffer; SSL_read takes it from there, until nothing
 * is left, and puts the plain bytes together in the lower part, which the
 * owner gets in one call.  So between events OpenSSL holds part of a record
 * at most, and with SSL_MODE_RELEASE_BUFFERS nothing else.
 *
 * Writing: SSL_write makes one record, the BIO sends it straight from
 * OpenSSL's buffer, and what the kernel refuses is kept as "owed".  While
 * anything is owed, nothing is encrypted: plain bytes stay in the stream's
 * queue, where urgent ones can still be first.  To OpenSSL every write is
 * complete, so it never wants one repeated.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include <openssl/err.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/sys.h"

#include "io/tls_link.h"

enum {
	RECORD = 16 * 1024,  /* plain bytes of one (RFC 8446 5.1) */
	RAW_AT = 288 * 1024, /* where received bytes begin in the buffer */
	RAW_ROOM = STREAM_RECEIVE - RAW_AT,
	OWED_MAX = 256 * 1024,
};

/* What was received, and a record held from before, fits below once plain. */
static_assert(RAW_AT >= RAW_ROOM + RECORD, "plain bytes would overflow");

/* The BIO ------------------------------------------------------------------ */

static int
bio_read(BIO *b, char *out, int len)
{
	struct tls_link *t = BIO_get_data(b);
	size_t n = len < 0 ? 0 : (size_t)len;

	BIO_clear_retry_flags(b);
	if (t->raw_len == 0) {
		if (t->raw_eof)
			return 0;
		BIO_set_retry_read(b);
		return -1;
	}
	if (n > t->raw_len)
		n = t->raw_len;
	memcpy(out, t->raw, n);
	t->raw += n;
	t->raw_len -= n;
	return (int)n;
}

/* The kernel did not take these: they go before anything else. */
static int
owe(struct tls_link *t, const uint8_t *bytes, size_t n)
{
	uint32_t have = t->owed_end - t->owed_at;
	uint8_t *owed;

	if (n > OWED_MAX - have)
		return ERR_LIMITED; /* the peer makes us talk and never reads */
	owed = alloc_new(have + n);
	if (owed == NULL)
		return ERR_NOMEM;
	if (have > 0)
		memcpy(owed, t->owed + t->owed_at, have);
	memcpy(owed + have, bytes, n);
	alloc_free(t->owed);
	t->owed = owed;
	t->owed_at = 0;
	t->owed_end = have + (uint32_t)n;
	t->s->blocked = true;
	return 0;
}

static int
bio_write(BIO *b, const char *bytes, int len)
{
	struct tls_link *t = BIO_get_data(b);
	size_t n = len < 0 ? 0 : (size_t)len;
	ssize_t went = 0;

	BIO_clear_retry_flags(b);
	if (t->err != 0)
		return -1;
	if (t->owed_at == t->owed_end)
		went = send(t->s->fd, bytes, n, MSG_NOSIGNAL);
	if (went < 0 && errno != EAGAIN && errno != EINTR) {
		t->err = errno == EPIPE ? ERR_RESET : sys_err(errno);
		return -1;
	}
	if (went < 0)
		went = 0;
	if ((size_t)went < n)
		t->err =
		    owe(t, (const uint8_t *)bytes + went, n - (size_t)went);
	return t->err == 0 ? len : -1;
}

static long
bio_ctrl(BIO *b, int command, long number, void *arg)
{
	const struct tls_link *t = BIO_get_data(b);

	(void)number;
	(void)arg;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return t->raw_eof && t->raw_len == 0;
	default:
		return 0;
	}
}

static BIO_METHOD *method;

static void
make_method(void)
{
	BIO_METHOD *m =
	    BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");

	if (m == NULL)
		return;
	BIO_meth_set_read(m, bio_read);
	BIO_meth_set_write(m, bio_write);
	BIO_meth_set_ctrl(m, bio_ctrl);
	method = m;
}

static BIO *
bio_new(struct tls_link *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *b;

	pthread_once(&once, make_method);
	b = method == NULL ? NULL : BIO_new(method);
	if (b == NULL)
		return NULL;
	BIO_set_data(b, t);
	BIO_set_init(b, 1);
	return b;
}

/* Ends --------------------------------------------------------------------- */

/* Remember what OpenSSL says, and end the stream. */
static int
broken(struct stream *s)
{
	struct tls_link *t = s->tls;
	int err = t->err;

	t->reason = ERR_peek_last_error();
	t->verify = (int)SSL_get_verify_result(t->ssl);
	if (err == 0)
		err = t->raw_eof ? ERR_RESET : ERR_TLS;
	ERR_clear_error();
	stream_fail(s, err);
	return err;
}

void
tls_fail(struct stream *s)
{
	struct tls_link *t = s->tls;

	SSL_free(t->ssl);
	t->ssl = NULL;
	alloc_free(t->held);
	alloc_free(t->owed);
	t->held = t->owed = NULL;
}

void
tls_closed(struct stream *s)
{
	struct tls_link *t = s->tls;
	char why[TLS_WHY];

	if (t->ready != NULL) {
		if (s->why == ERR_TLS)
			tls_reason(t->reason, t->verify, why);
		else
			snprintf(why, sizeof(why), "%s",
			    s->why == ERR_RESET
				? "the peer closed the connection"
				: err_name(s->why));
		t->ready(t->owner, s->why, why);
	}
	alloc_free(t);
	s->tls = NULL;
}

int
tls_goodbye(struct stream *s)
{
	struct tls_link *t = s->tls;

	if (t->notified || !SSL_is_init_finished(t->ssl))
		return 0;
	t->notified = true;
	ERR_clear_error();
	if (SSL_shutdown(t->ssl) < 0 && t->err != 0)
		return broken(s);
	return 0;
}

/* Reading ------------------------------------------------------------------ */

/* All that was received becomes plain, then is handed over at once. */
static void
pump(struct stream *s)
{
	struct tls_link *t = s->tls;
	uint8_t *to = s->lane->receive;
	size_t got = 0;
	int n, err;

	ERR_clear_error();
	while ((n = SSL_read(t->ssl, to + got, (int)(RAW_AT - got))) > 0)
		got += (size_t)n;
	err = SSL_get_error(t->ssl, n);
	/* What the owner does in read may end, move or free the stream, but
	 * its memory stays until the loop's next turn. */
	if (got > 0)
		s->ops->read(stream_owner(s), to, got);
	if (s->state == STREAM_DEAD)
		return;
	if (err == SSL_ERROR_ZERO_RETURN)
		stream_ended(s);
	else if (err != SSL_ERROR_WANT_READ || t->raw_eof)
		broken(s);
}

/* Keep what came behind the handshake until the stream is started. */
static int
hold(struct tls_link *t)
{
	if (t->raw_len == 0)
		return 0;
	t->held = alloc_new(t->raw_len);
	if (t->held == NULL)
		return ERR_NOMEM;
	memcpy(t->held, t->raw, t->raw_len);
	t->raw = t->held;
	return 0;
}

static void
shake(struct stream *s)
{
	struct tls_link *t = s->tls;
	tls_ready_fn *ready = t->ready;
	int n;

	ERR_clear_error();
	n = SSL_do_handshake(t->ssl);
	if (n != 1) {
		if (SSL_get_error(t->ssl, n) != SSL_ERROR_WANT_READ ||
		    t->raw_eof)
			broken(s);
		return;
	}
	t->err = hold(t);
	if (t->err != 0) {
		broken(s);
		return;
	}
	s->shaking = false;
	t->ready = NULL;
	ready(t->owner, 0, "");
}

bool
tls_take(struct stream *s)
{
	struct tls_link *t = s->tls;
	uint8_t *raw = s->lane->receive + RAW_AT;
	ssize_t n;

	/* The others have their turn; the event comes again. */
	if (s->shaking && s->lane->shakes++ >= SHAKES)
		return true;
	n = recv(s->fd, raw, s->bite < RAW_ROOM ? s->bite : RAW_ROOM, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) {
		stream_fail(s, sys_err(errno));
		return true;
	}
	t->raw = raw;
	t->raw_len = (size_t)n;
	t->raw_eof = n == 0;
	if (s->shaking)
		shake(s);
	else
		pump(s);
	return true;
}

void
tls_take_held(struct stream *s)
{
	struct tls_link *t = s->tls;
	uint8_t *held = t->held;

	/* This is the turn's end: what the owner makes of it needs another. */
	loop_again(s->lane->loop);
	t->held = NULL;
	pump(s);
	alloc_free(held);
}

/* Writing ------------------------------------------------------------------ */

/* One record, not above RECORD. */
static int
send_record(struct stream *s, struct slice plain)
{
	struct tls_link *t = s->tls;
	int n;

	ERR_clear_error();
	n = SSL_write(t->ssl, plain.ptr, (int)plain.len);
	if (n <= 0)
		return broken(s);
	assert((size_t)n == plain.len);
	return 0;
}

static int
pay(struct stream *s)
{
	struct tls_link *t = s->tls;
	ssize_t n;

	while (t->owed_at < t->owed_end && !s->blocked) {
		size_t left = t->owed_end - t->owed_at;
		n = send(s->fd, t->owed + t->owed_at, left, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			int err = errno == EPIPE ? ERR_RESET : sys_err(errno);
			stream_fail(s, err);
			return err;
		}
		t->owed_at += n < 0 ? 0 : (uint32_t)n;
		s->blocked = n < (ssize_t)left;
	}
	if (t->owed_at == t->owed_end && t->owed != NULL) {
		alloc_free(t->owed);
		t->owed = NULL;
		t->owed_at = t->owed_end = 0;
	}
	return 0;
}

/* The next record's worth: in place when it lies together. */
static struct slice
gather(struct stream *s)
{
	struct slice first = slice_first(span_bytes(s->first), RECORD);
	uint8_t *to = s->lane->record;
	size_t have = 0;

	if (first.len == RECORD || s->first->next == NULL)
		return first;
	for (const struct span *p = s->first; p != NULL && have < RECORD;
	     p = p->next) {
		struct slice b = slice_first(span_bytes(p), RECORD - have);
		memcpy(to + have, b.ptr, b.len);
		have += b.len;
	}
	return (struct slice){ to, have };
}

int
tls_flush(struct stream *s)
{
	int err = pay(s);

	while (err == 0 && s->first != NULL && !s->blocked) {
		struct slice plain = gather(s);
		err = send_record(s, plain);
		if (err == 0)
			span_eat(s, plain.len);
	}
	return err;
}

int
tls_write_now(
    struct stream *s, struct slice head, struct slice body, size_t *went)
{
	uint8_t *to = s->lane->record;
	size_t first = RECORD - (head.len < RECORD ? head.len : RECORD);
	int err = 0;

	*went = 0;
	/* A short head shares its record with the body's beginning. */
	if (head.len > 0 && head.len < RECORD) {
		struct slice with = slice_first(body, first);
		memcpy(to, head.ptr, head.len);
		if (with.len > 0)
			memcpy(to + head.len, with.ptr, with.len);
		*went = head.len + with.len;
		err = send_record(s, (struct slice){ to, *went });
	}
	while (err == 0 && !s->blocked && *went < head.len + body.len) {
		struct slice next = *went < head.len
		    ? slice_from_at(head, *went)
		    : slice_from_at(body, *went - head.len);
		next = slice_first(next, RECORD);
		err = send_record(s, next);
		*went += next.len;
	}
	return err;
}

size_t
tls_memory(const struct stream *s)
{
	const struct tls_link *t = s->tls;

	return sizeof(*t) + (t->owed != NULL ? t->owed_end : 0) +
	    (t->held != NULL ? t->raw_len : 0);
}

/* Beginning ---------------------------------------------------------------- */

int
tls_link_start(struct stream *s, SSL *ssl, tls_ready_fn *ready, void *owner)
{
	struct stream_lane *lane = s->lane;
	struct tls_link *t = alloc_new(sizeof(*t));
	BIO *b = t == NULL ? NULL : bio_new(t);

	if (lane->record == NULL)
		lane->record = alloc_new(RECORD);
	if (b == NULL || lane->record == NULL) {
		BIO_free(b);
		alloc_free(t);
		SSL_free(ssl);
		return ERR_NOMEM;
	}
	SSL_set_bio(ssl, b, b);
	t->ssl = ssl;
	t->s = s;
	t->ready = ready;
	t->owner = owner;
	s->tls = t;
	s->shaking = true;
	/* A client speaks first; a server finds nothing to read yet. */
	shake(s);
	stream_watch(s);
	return 0;
}
