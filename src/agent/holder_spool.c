#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/crash.h"

#include "agent/holder_proto.h"

#include "agent/holder_spool.h"

void
spool_init(struct spool *s, const char *name, int dir, int pipe)
{
	s->name = name;
	s->dir = dir;
	s->pipe = pipe;
	s->file = -1;
	gaps_init(&s->gaps);
}

/* Bytes that are here and nowhere else. */
static uint64_t
alone(const struct spool *s)
{
	return s->size - s->acked - s->gaps.beyond;
}

/* How much more may be. */
static uint64_t
room(const struct spool *s)
{
	uint64_t have = alone(s) + (s->twin == NULL ? 0 : alone(s->twin));

	return have < s->cap ? s->cap - have : 0;
}

bool
spool_full(const struct spool *s)
{
	return s->held || room(s) == 0 || (s->drop && gaps_full(&s->gaps));
}

bool
spool_wants(const struct spool *s)
{
	return s->pipe >= 0 && !s->refused && (s->drop || !spool_full(s)) &&
	    s->size - s->synced < SPOOL_AHEAD;
}

static int
open_file(struct spool *s)
{
	if (s->file < 0)
		s->file = openat(s->dir, s->name,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return s->file;
}

/* Write chunk's bytes; what the disk does not take stays and is tried again. */
static void
flush(struct spool *s, int64_t now)
{
	s->refused = false;
	while (s->pend_len > 0) {
		ssize_t n = open_file(s) < 0
		    ? -1
		    : pwrite(s->file, s->chunk + s->pend_at, s->pend_len,
			  (off_t)s->size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			s->refused = true;
			return;
		}
		if (s->size == s->synced)
			s->dirty_since = now;
		s->size += (uint64_t)n;
		s->pend_at += (size_t)n;
		s->pend_len -= (size_t)n;
		crash_point("holder.output");
	}
}

/* They keep their place in the stream. */
static void
drop(struct spool *s, uint64_t n)
{
	gaps_add(&s->gaps, s->dir, s->name, s->size, n);
	if (s->synced == s->size)
		s->synced += n;
	s->size += n;
}

void
spool_pump(struct spool *s, int64_t now, int rounds, bool over)
{
	for (; rounds > 0 && s->pipe >= 0; rounds--) {
		flush(s, now);
		if (s->refused)
			return;
		bool full = !over && spool_full(s);
		if (full && !s->drop)
			return;
		size_t want = sizeof(s->chunk);
		if (!full && !over && room(s) < want)
			want = (size_t)room(s);
		ssize_t n = read(s->pipe, s->chunk, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close(s->pipe);
			s->pipe = -1;
			return;
		}
		if (full) {
			drop(s, (uint64_t)n);
			continue;
		}
		s->pend_at = 0;
		s->pend_len = (size_t)n;
		flush(s, now);
	}
}

void
spool_discard(struct spool *s)
{
	ssize_t n = read(s->pipe, s->chunk, sizeof(s->chunk));

	if (n > 0) {
		s->late += (uint64_t)n;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(s->pipe);
		s->pipe = -1;
	}
}

void
spool_ack(struct spool *s, uint64_t offset)
{
	if (offset <= s->acked || offset > s->size)
		return;
	s->acked = offset;
	gaps_ack(&s->gaps, offset);
	/* Whole MiBs only: one call frees much, and the last MiB stays. */
	if (offset < s->punched + 2 * (uint64_t)HOLDER_KEEP || s->file < 0)
		return;
	uint64_t upto = (offset - HOLDER_KEEP) & ~(uint64_t)4095;
	if (fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)s->punched, (off_t)(upto - s->punched)) == 0)
		s->punched = upto;
}

int64_t
spool_sync_due(const struct spool *s)
{
	if (s->size == s->synced)
		return -1;
	if (s->size - s->synced >= SPOOL_SYNC_BYTES)
		return 0;
	return s->dirty_since + SPOOL_SYNC_MS;
}

void
spool_sync(struct spool *s)
{
	gaps_sync(&s->gaps);
	if (s->size > s->synced && fdatasync(s->file) == 0)
		s->synced = s->size;
}

int
syncer_init(struct syncer *y)
{
	y->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return y->done < 0 || sem_init(&y->wanted, 0, 0) != 0 ? -1 : 0;
}

static void *
sync_loop(void *arg)
{
	struct syncer *y = arg;

	for (;;) {
		while (sem_wait(&y->wanted) != 0)
			;
		gaps_sync(&y->spool->gaps);
		(void)fdatasync(y->spool->file);
		(void)!eventfd_write(y->done, 1);
	}
	return NULL;
}

/* The loop's own small stack: the thread makes one call. */
static bool
start_thread(struct syncer *y)
{
	pthread_attr_t attr;

	if (y->started)
		return true;
	if (pthread_attr_init(&attr) != 0)
		return false;
	(void)pthread_attr_setstacksize(&attr, 64 * 1024);
	y->started = pthread_create(&y->thread, &attr, sync_loop, y) == 0;
	(void)pthread_attr_destroy(&attr);
	return y->started;
}

void
syncer_start(struct syncer *y, struct spool *s)
{
	if (y->busy)
		return;
	if (!start_thread(y)) {
		spool_sync(s);
		return;
	}
	y->busy = true;
	y->spool = s;
	y->size = s->size;
	(void)sem_post(&y->wanted);
}

void
syncer_ended(struct syncer *y, int64_t now)
{
	eventfd_t n;

	if (eventfd_read(y->done, &n) != 0 || !y->busy)
		return;
	y->busy = false;
	if (y->size > y->spool->synced)
		y->spool->synced = y->size;
	y->spool->dirty_since = now;
}
