#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/log.h"

#include "agent/localstop.h"

enum { READ_MAX = 64 * 1024 };

void
localstop_read(const char *path, struct stop_local *out)
{
	struct slice text = SL(""), line;
	struct stat st;
	struct arena a;

	*out = (struct stop_local){ 0 };
	if (lstat(path, &st) != 0)
		return;
	out->stopped = true;
	out->at =
	    (wall_msec)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	arena_init(&a, 2 * READ_MAX);
	/* Whatever else it may be, it is there. */
	(void)file_read_all(&file_real, path, READ_MAX, &a, &text);
	(void)slice_split(&text, '\n', &line);
	line = slice_trim(line);
	stop_keep_text(out->reason, sizeof(out->reason), line);
	arena_fini(&a);
}

int
localstop_make(const char *path, const char *reason)
{
	char text[STOP_REASON + 2];

	if (access(path, F_OK) == 0)
		return 0;
	stop_keep_text(text, STOP_REASON + 1, slice_from(reason));
	size_t n = strlen(text);
	text[n] = '\n';
	return file_write_atomic(&file_real, path,
	    (struct slice){ (const uint8_t *)text, n + 1 }, 0600);
}

int
localstop_remove(const char *path)
{
	return file_unlink(&file_real, path);
}

/* Watching ----------------------------------------------------------------- */

static void
on_work(struct loop_work *w)
{
	struct localstop *f = LIST_OF(w, struct localstop, work);

	localstop_read(f->path, &f->read);
}

static void
on_done(struct loop_work *w)
{
	struct localstop *f = LIST_OF(w, struct localstop, work);

	f->reading = false;
	/* It may have gone meanwhile: that was told. */
	if (!f->open || !f->read.stopped || !f->now.stopped)
		return;
	f->now = f->read;
	f->changed(f->arg, &f->now, true);
}

/* That it is there is all that a stop waits for; what it says is read
 * elsewhere. */
static void
look(struct localstop *f)
{
	struct stat st;
	bool there = lstat(f->path, &st) == 0;

	if (there == f->now.stopped)
		return;
	f->now = (struct stop_local){ .stopped = there, .at = clock_wall() };
	if (there && !f->reading) {
		f->work =
		    (struct loop_work){ .work = on_work, .done = on_done };
		f->reading = loop_work(f->loop, &f->work) == 0;
	}
	f->changed(f->arg, &f->now, !f->reading);
}

static void
on_event(uv_fs_event_t *h, const char *name, int events, int status)
{
	(void)name;
	(void)events;
	(void)status;
	look(LIST_OF(h, struct localstop, watch));
}

static void
on_poll(struct loop_timer *t)
{
	struct localstop *f = LIST_OF(t, struct localstop, poll);

	look(f);
	(void)loop_timer_set(
	    f->loop, &f->poll, loop_now(f->loop) + LOCALSTOP_POLL, on_poll);
}

void
localstop_open(struct localstop *f, struct loop *loop, const char *path,
    const struct stop_local *now,
    void (*changed)(void *arg, const struct stop_local *l, bool known),
    void *arg)
{
	char dir[STOP_PATH];
	const char *slash = strrchr(path, '/');

	*f = (struct localstop){ .loop = loop,
		.path = path,
		.now = *now,
		.open = true,
		.changed = changed,
		.arg = arg };
	(void)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	(void)uv_fs_event_init(&loop->uv, &f->watch);
	int r = uv_fs_event_start(&f->watch, on_event, dir, 0);
	if (r != 0) {
		log_warn("stop_polled", kv_c("why", uv_err_name(r)));
		on_poll(&f->poll);
	}
	/* What happened before it was watched. */
	look(f);
}

void
localstop_close(struct localstop *f)
{
	if (!f->open)
		return;
	f->open = false;
	loop_timer_stop(f->loop, &f->poll);
	uv_close((uv_handle_t *)&f->watch, NULL);
}
