#include <errno.h>
#include <unistd.h>

#include "io/crash.h"

#include "agent/holder_feed.h"

void
feed_close(struct feed *f)
{
	if (f->pipe >= 0)
		close(f->pipe);
	f->pipe = -1;
}

void
feed_pump(struct feed *f)
{
	while (f->pipe >= 0 && f->consumed < f->received) {
		size_t at = f->consumed % sizeof(f->ring);
		size_t n = (size_t)(f->received - f->consumed);
		if (n > sizeof(f->ring) - at)
			n = sizeof(f->ring) - at;
		ssize_t put = write(f->pipe, f->ring + at, n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN)
			return;
		if (put < 0)
			feed_close(f);
		else
			f->consumed += (uint64_t)put;
	}
	if (f->end)
		feed_close(f);
}

int
feed_put(struct feed *f, uint64_t at, const uint8_t *data, size_t len)
{
	if (f->pipe < 0)
		return 0;
	if (at > f->received || at + len > f->consumed + sizeof(f->ring) ||
	    (f->end && at + len > f->received))
		return -1;
	for (uint64_t i = f->received - at; i < len; i++)
		f->ring[f->received++ % sizeof(f->ring)] = data[i];
	crash_point("holder.input");
	feed_pump(f);
	return 0;
}

int
feed_end(struct feed *f, uint64_t at)
{
	if (f->pipe < 0)
		return 0;
	if (at != f->received)
		return -1;
	f->end = true;
	feed_pump(f);
	return 0;
}
