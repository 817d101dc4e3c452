/*
 * Design notes.  What was just written is in memory, and is read from there
 * by the link's thread.  A spool that nobody has looked at for hours may not
 * be, and a disk may take its time: then a worker brings the next piece, and
 * the stream it is for waits; nothing else does, a stop least of all.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "agent/runner_dir.h"

#include "agent/runner_parts.h"

enum { PIECE = 256 * 1024 };

struct fetch {
	struct loop_work work;
	struct runner *rn;
	struct run *run; /* NULL: forgotten meanwhile */
	char id[HOLDER_ID_MAX + 1];
	int stream;
	uint64_t at;
};

static void
on_work(struct loop_work *w)
{
	struct fetch *f = LIST_OF(w, struct fetch, work);
	uint8_t *bytes = alloc_new(PIECE);
	struct file file = { 0 };
	struct arena a;
	size_t got;

	arena_init(&a, 2 * RUNNER_PATH);
	char *path =
	    dir_path(&a, f->rn->cmd, f->id, f->stream == 0 ? "out" : "err");
	/* Failing is told when it is read in earnest. */
	if (bytes != NULL && path != NULL &&
	    file_open(f->rn->c.fs, path, FILE_READ, 0, &file) == 0)
		(void)file_read(&file, f->at, bytes, PIECE, &got);
	file_close(&file);
	alloc_free(bytes);
	arena_fini(&a);
}

static void
on_done(struct loop_work *w)
{
	struct fetch *f = LIST_OF(w, struct fetch, work);
	struct runner *rn = f->rn;
	struct run *r = f->run;

	rn->fetches--;
	alloc_free(f);
	if (r != NULL) {
		r->fetch = NULL;
		r->fetched = true;
		rn->c.ops->fetched(rn->c.arg, r);
	}
	runner_finish_if_closed(rn);
}

int
runner_fetch(struct run *r, int stream, uint64_t at)
{
	if (r->fetch != NULL)
		return 0;
	struct fetch *f = alloc_new(sizeof(*f));
	if (f == NULL)
		return ERR_NOMEM;
	f->rn = r->rn;
	f->run = r;
	f->stream = stream;
	f->at = at;
	memcpy(f->id, r->id, sizeof(f->id));
	f->work = (struct loop_work){ .work = on_work, .done = on_done };
	int err = loop_work(r->rn->c.loop, &f->work);
	if (err != 0) {
		alloc_free(f);
		return err;
	}
	r->rn->fetches++;
	r->fetch = f;
	return 0;
}

void
runner_drop_fetch(struct run *r)
{
	if (r->fetch != NULL)
		r->fetch->run = NULL;
	r->fetch = NULL;
}
