/*
 * stream: a connected byte stream on a lane, plain or TLS (floor: io).
 *
 * Reading: bytes are handed over in the lane's own receive buffer, writable
 * in place, and are gone when read returns; a stream that waits holds no
 * buffer.  Writing: everything said in one loop turn leaves in one send.
 * Small writes are gathered in the lane's cork (up to STREAM_COPY_MAX of a
 * single write is copied there), larger ones go in place by sendmsg at once,
 * and only the unsent rest is kept, in a queue of segments.
 *
 * Pulling (decisions on the stop): whoever has bulk to send asks with
 * stream_want and is called when the socket takes more: at most
 * STREAM_PULL_MAX bytes a call, so that urgent words written meanwhile leave
 * first.  TCP_NOTSENT_LOWAT keeps what the kernel holds back small.
 *
 * Life: accepted or dialled -> read... -> ended by stream_close (idempotent;
 * flushes what was written, then closes) or stream_abort (at once) -> ops
 * .closed, exactly once, from the loop and never from inside another call;
 * only then may the owner's memory go.
 */
#ifndef IO_STREAM_H
#define IO_STREAM_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/heap.h"
#include "base/slice.h"

struct loop;
struct stream;

enum {
	STREAM_COPY_MAX = 16 * 1024,
	STREAM_PULL_MAX = 64 * 1024,
	STREAM_RECEIVE = 512 * 1024, /* bytes of a lane's receive buffer */
	STREAM_CORK = 1024 * 1024,   /* only pages in use cost memory */
	STREAM_PARTS = 64,           /* of one stream_write_parts */
	STREAM_FLUSH_SECONDS = 5,    /* to flush after stream_close */
	STREAM_LINGER_SECONDS = 2,   /* then to wait for the peer's FIN */
};

struct stream_ops {
	/* n bytes at bytes, which may be changed in place; all are taken. */
	void (*read)(void *owner, uint8_t *bytes, size_t n);
	/* NULL: read is called.  Else what a plain stream has received stays
	 * in the kernel until stream_take; told each turn until it is taken
	 * or reading is stopped.  TLS streams call read all the same. */
	void (*ready)(void *owner);
	/* The other side will send no more; writing still works. */
	void (*eof)(void *owner);
	/* Asked for by stream_want: write at most room bytes.  Writing none
	 * gives up the want. */
	void (*pull)(void *owner, size_t room);
	/* What was queued has fallen below the low mark again. */
	void (*drained)(void *owner);
	/* The last call: why is 0 or an ERR_*; the stream is freed. */
	void (*closed)(void *owner, int why);
};

/* Reference-counted bytes that several streams send. */
struct chunk {
	uint32_t refs;
	uint32_t len;
	uint8_t bytes[];
};
struct chunk *chunk_new(size_t len); /* one reference; NULL without memory */
void chunk_hold(struct chunk *c);
void chunk_drop(struct chunk *c);

/*
 * A stream of a connected non-blocking socket (TCP or AF_UNIX), which it
 * owns from then on; on failure the caller still does.  remote NULL: asked
 * of the kernel.  0 or ERR_NOMEM.  Nothing happens to it until it is started
 * or aborted.
 */
int stream_new(
    struct loop *l, int fd, const struct sockaddr *remote, struct stream **out);

/* Give the stream its owner; before this nothing is read.  All ops but pull,
 * ready and drained are needed. */
void stream_start(struct stream *s, const struct stream_ops *ops, void *owner);

/*
 * Queue bytes.  Nothing is sent before the end of the loop turn, unless it is
 * large or the cork is full.  0, ERR_CLOSED (or what broke the stream, which
 * then ends by itself), ERR_NOMEM, or ERR_FULL when the queue would
 * pass its cap (stream_set_cap); on failure nothing of s is queued.
 */
int stream_write(struct stream *s, struct slice bytes);
int stream_write2(struct stream *s, struct slice head, struct slice body);
/* Several pieces as one, at most STREAM_PARTS.  Without memory the stream
 * may be broken, and ends by itself. */
int stream_write_parts(
    struct stream *s, const struct slice *parts, size_t count);
/* head is copied, the chunk is referenced, not copied. */
int stream_write_chunk(struct stream *s, struct slice head, struct chunk *c,
    size_t from, size_t len);

/* Bytes accepted and not yet taken by the kernel. */
size_t stream_queued(const struct stream *s);

/* The cap of the queue in bytes (default 16 MiB). */
void stream_set_cap(struct stream *s, size_t cap);
/* ops.drained is called when the queue falls to low after having been
 * above high (defaults 64 KiB and 256 KiB). */
void stream_set_marks(struct stream *s, size_t low, size_t high);
bool stream_above_high(const struct stream *s);

/* Ask for (or give up) pull calls. */
void stream_want(struct stream *s, bool want);

/* Read at most so many bytes at a time (default STREAM_RECEIVE): what passes
 * through in pieces is then still in the cache when it is sent, and who must
 * keep it keeps less.  Of TLS so many encrypted ones. */
enum { STREAM_BITE = 128 * 1024 };
void stream_set_bite(struct stream *s, size_t most);

/* Stop and go on reading: pressure back on the sender. */
void stream_read_stop(struct stream *s);
void stream_read_start(struct stream *s);

/*
 * Receive up to room bytes straight to where they are wanted (ops.ready).
 * 0 and *n > 0; ERR_AGAIN when there are none; ERR_CLOSED at the end, for
 * which eof is not called; or what broke the stream, of which closed tells.
 */
int stream_take(struct stream *s, uint8_t *to, size_t room, size_t *n);

/* Send no more after what is queued (FIN, or close_notify and FIN). */
void stream_shutdown(struct stream *s);

void stream_close(struct stream *s);
/* Drop what is queued; reset tells the peer by RST. */
void stream_abort(struct stream *s, bool reset);

/* The peer's address; behind a PROXY header, the one it names. */
const struct sockaddr *stream_remote(const struct stream *s);
bool stream_is_tls(const struct stream *s);
struct loop *stream_loop(const struct stream *s);
/* The descriptor, for socket options; -1 when closed. */
int stream_fd(const struct stream *s);
/* SHA-256 of the peer's public key (SubjectPublicKeyInfo); ERR_NOT_FOUND
 * without TLS or certificate. */
int stream_peer_pin(const struct stream *s, uint8_t pin[32]);

/* Nagle off, keep-alive 30 s, TCP_NOTSENT_LOWAT; accepted sockets inherit
 * them from their listener. */
void stream_tune(int fd);

/* Free what the streams of a loop share: all of them are closed or aborted,
 * and loop_fini comes next. */
void stream_loop_fini(struct loop *l);

/* Bytes of memory this stream holds beside its own struct. */
size_t stream_memory(const struct stream *s);

/*
 * Take a stream off its loop and put it on another (whole, with TLS state
 * and queue).  Detach on the old loop's thread, attach on the new one's.
 * Detaching gives the stream a new address and the old one is dead from
 * then on; NULL without memory or when it is closing, and nothing changed.
 * It has no owner until stream_start after the attach; detached, it may only
 * be attached or aborted, and neither calls anything.
 */
struct stream *stream_detach(struct stream *s);
int stream_attach(struct stream *s, struct loop *l);

#endif
