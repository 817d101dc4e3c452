#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "wire/enc.h"
#include "wire/token.h"

#include "server/stopfile.h"

enum {
	VERSION = 1,
	FILE_MAX = 256 * 1024 * 1024,
	SUM = 2 * SHA256_LEN,
	PATH_SIZE = 4200,
	LOOK_EVERY = 1, /* s */
};

struct stopfile {
	struct stopfile_config config;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	bool stopping;
	/* What is to be written; owned, newest only. */
	struct buf text;
	uint64_t epoch;
	int put_err; /* it could not even be put down */
	struct stopfile_news news;
	bool has_news;
};

/* Text --------------------------------------------------------------------- */

static void
put_stop(struct js_writer *w, const struct stop_record *r)
{
	js_begin_object(w);
	js_kv_u64(w, "epoch", r->epoch);
	js_kv_string(w, "scope", stop_scope_name(r->scope));
	if (r->target.ptr != NULL)
		js_kv_string(w, "target", r->target);
	if (r->bound.ptr != NULL)
		js_kv_string(w, "bound", r->bound);
	js_kv_bool(w, "keep_tunnels", r->keep_tunnels);
	js_kv_string(w, "reason", r->reason);
	js_kv_string(w, "actor", r->actor);
	js_kv_i64(w, "at", r->at);
	js_kv_i64(w, "workspace_id", r->workspace_id);
	if (r->request_key.ptr != NULL)
		js_kv_string(w, "request_key", r->request_key);
	js_end(w);
}

static int
sum(struct slice line, struct buf *out)
{
	uint8_t hash[SHA256_LEN];
	int err = token_sha256(line, hash);

	if (err == 0)
		enc_put_hex(out, (struct slice){ hash, sizeof(hash) });
	return err;
}

/* The line's end, and its sum. */
static void
seal(struct buf *out)
{
	buf_put_byte(out, '\n');
	int err = out->err != 0 ? out->err : sum(buf_peek(out), out);
	buf_put_byte(out, '\n');
	if (err != 0 && out->err == 0)
		out->err = err;
}

void
stopfile_seal(struct buf *out, struct slice line)
{
	buf_put(out, line);
	seal(out);
}

void
stopfile_encode(struct buf *out, const struct stop_state *s)
{
	struct js_writer w;

	js_write(&w, out);
	js_begin_object(&w);
	js_kv_u64(&w, "muster_stop", VERSION);
	js_kv_u64(&w, "epoch", s->epoch);
	js_kv_array(&w, "stops");
	for (size_t i = 0; i < s->count; i++)
		put_stop(&w, &s->stops[i]);
	js_end(&w);
	js_end(&w);
	int err = js_finish(&w);
	if (err != 0 && out->err == 0)
		out->err = err;
	seal(out);
}

static int
read_stop(struct js_value v, struct stop_record *r)
{
	struct js_fields f;
	struct slice scope;
	int64_t epoch, at;

	js_fields_init(&f, v);
	js_need_i64(&f, "epoch", 1, INT64_MAX, &epoch);
	js_need_string(&f, "scope", &scope);
	js_opt_string(&f, "target", &r->target);
	js_opt_string(&f, "bound", &r->bound);
	js_opt_bool(&f, "keep_tunnels", false, &r->keep_tunnels);
	js_need_string(&f, "reason", &r->reason);
	js_need_string(&f, "actor", &r->actor);
	js_need_i64(&f, "at", 0, INT64_MAX, &at);
	js_need_i64(&f, "workspace_id", 0, INT64_MAX, &r->workspace_id);
	js_opt_string(&f, "request_key", &r->request_key);
	if (f.err != 0)
		return ERR_CORRUPT;
	r->epoch = (uint64_t)epoch;
	r->at = at;
	return stop_scope_find(scope, &r->scope) != 0 ? ERR_CORRUPT : 0;
}

static int
read_stops(struct js_value list, struct arena *a, struct stop_state *out)
{
	size_t n = js_count(list);
	struct stop_record *all = arena_array(a, n + 1, sizeof(*all));
	struct js_walk w = js_walk(list);
	struct js_value v;
	int err = all == NULL ? ERR_NOMEM : 0;

	for (size_t i = 0; err == 0 && js_next(&w, NULL, &v); i++)
		err = read_stop(v, &all[i]);
	out->stops = all;
	out->count = n;
	return err;
}

static int
check_sum(struct slice text, size_t line)
{
	struct buf want;

	buf_init(&want, SUM);
	int err = sum(slice_first(text, line), &want);
	if (err == 0 && want.err != 0)
		err = want.err;
	if (err == 0 &&
	    !slice_eq(slice_from_at(text, line),
		(struct slice){ buf_peek(&want).ptr, SUM }))
		err = ERR_CORRUPT;
	buf_fini(&want);
	return err;
}

int
stopfile_decode(struct slice text, struct arena *a, struct stop_state *out)
{
	const struct js_limits limits = { FILE_MAX, 4 };
	size_t line = slice_find(text, '\n') + 1;
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields f;
	struct js_value list;
	int64_t version, epoch;

	if (doc == NULL)
		return ERR_NOMEM;
	if (text.len != line + SUM + 1 || text.ptr[text.len - 1] != '\n')
		return ERR_CORRUPT;
	int err = check_sum(slice_first(text, text.len - 1), line);
	if (err == 0)
		err = js_parse(doc, slice_first(text, line - 1), &limits, a);
	if (err != 0)
		return err == ERR_NOMEM ? err : ERR_CORRUPT;
	js_fields_init(&f, js_root(doc));
	js_need_i64(&f, "muster_stop", 1, INT64_MAX, &version);
	if (f.err == 0 && version > VERSION)
		return ERR_NEWER;
	js_need_i64(&f, "epoch", 0, INT64_MAX, &epoch);
	js_need_kind(&f, "stops", JS_ARRAY, &list);
	if (f.err != 0)
		return ERR_CORRUPT;
	*out = (struct stop_state){ .epoch = (uint64_t)epoch };
	return read_stops(list, a, out);
}

/* Files -------------------------------------------------------------------- */

static int
path_of(char path[PATH_SIZE], const char *dir, const char *name)
{
	int n = snprintf(path, PATH_SIZE, "%s/%s", dir, name);

	return n < 0 || n >= PATH_SIZE ? ERR_TOO_BIG : 0;
}

int
stopfile_read(struct file_layer *fs, const char *dir, struct arena *a,
    struct stop_state *out)
{
	char path[PATH_SIZE];
	struct slice text;
	int err = path_of(path, dir, "stop.epoch");

	if (err == 0)
		err = file_read_all(fs, path, FILE_MAX, a, &text);
	return err != 0 ? err : stopfile_decode(text, a, out);
}

int
stopfile_write(struct file_layer *fs, const char *dir, struct slice text)
{
	char path[PATH_SIZE];
	int err = path_of(path, dir, "stop.epoch");

	return err != 0 ? err : file_write_atomic(fs, path, text, 0600);
}

int
stopfile_look(
    struct file_layer *fs, const char *dir, struct arena *a, struct slice *word)
{
	char path[PATH_SIZE];
	struct slice text;
	int err = path_of(path, dir, "STOP");

	if (err == 0)
		err = file_read_all(fs, path, STOPFILE_WORD, a, &text);
	*word = (struct slice){ 0 };
	if (err == ERR_NOT_FOUND)
		return 0;
	/* It is there, whatever it is. */
	if (err == ERR_TOO_BIG || err == ERR_DENIED || err == ERR_TYPE ||
	    err == ERR_INVALID)
		return 1;
	if (err != 0)
		return err;
	*word = slice_trim(slice_first(text, slice_find(text, '\n')));
	return 1;
}

/* The thread ---------------------------------------------------------------
 */

/* Called with the lock; lets go of it while it writes. */
static void
write_newest(struct stopfile *f)
{
	struct buf text = f->text;
	uint64_t epoch = f->epoch;
	int err = f->put_err;

	buf_init(&f->text, FILE_MAX);
	f->epoch = 0;
	f->put_err = 0;
	pthread_mutex_unlock(&f->lock);
	if (err == 0)
		err = stopfile_write(
		    f->config.files, f->config.dir, buf_peek(&text));
	buf_fini(&text);
	pthread_mutex_lock(&f->lock);
	f->news.epoch = epoch;
	f->news.err = err;
	f->has_news = true;
	f->config.wake(f->config.owner);
}

/* While it is there it is said every time: who had no memory for the first
 * time hears of it again. */
static void
look(struct stopfile *f, bool *present)
{
	struct arena a;
	struct slice word;

	pthread_mutex_unlock(&f->lock);
	arena_init(&a, 64 * 1024);
	int there = stopfile_look(f->config.files, f->config.dir, &a, &word);
	pthread_mutex_lock(&f->lock);
	if (there == 1 || (there == 0 && *present)) {
		*present = there == 1;
		f->news.looked = true;
		f->news.present = *present;
		f->news.word_len = word.len;
		if (word.len > 0)
			memcpy(f->news.word, word.ptr, word.len);
		f->has_news = true;
		f->config.wake(f->config.owner);
	}
	arena_fini(&a);
}

static void *
run(void *arg)
{
	struct stopfile *f = arg;
	struct timespec next;
	bool present = true; /* so that its absence is said once */

	pthread_mutex_lock(&f->lock);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		if (f->epoch != 0) {
			write_newest(f);
			continue;
		}
		if (f->stopping)
			break;
		if (pthread_cond_timedwait(&f->more, &f->lock, &next) !=
		    ETIMEDOUT)
			continue;
		look(f, &present);
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_sec += LOOK_EVERY;
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

int
stopfile_start(struct stopfile **out, const struct stopfile_config *config)
{
	struct stopfile *f = alloc_new(sizeof(*f));
	pthread_condattr_t attr;

	if (f == NULL)
		return ERR_NOMEM;
	f->config = *config;
	buf_init(&f->text, FILE_MAX);
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->more, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&f->thread, NULL, run, f) != 0) {
		pthread_cond_destroy(&f->more);
		pthread_mutex_destroy(&f->lock);
		alloc_free(f);
		return ERR_FULL;
	}
	*out = f;
	return 0;
}

void
stopfile_stop(struct stopfile *f)
{
	if (f == NULL)
		return;
	pthread_mutex_lock(&f->lock);
	f->stopping = true;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	pthread_cond_destroy(&f->more);
	pthread_mutex_destroy(&f->lock);
	buf_fini(&f->text);
	alloc_free(f);
}

void
stopfile_put(struct stopfile *f, const struct stop_state *s)
{
	struct buf text;

	buf_init(&text, FILE_MAX);
	stopfile_encode(&text, s);
	pthread_mutex_lock(&f->lock);
	buf_fini(&f->text);
	f->text = text;
	f->epoch = s->epoch;
	f->put_err = text.err;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
}

bool
stopfile_take(struct stopfile *f, struct stopfile_news *out)
{
	pthread_mutex_lock(&f->lock);
	bool any = f->has_news;
	if (any)
		*out = f->news;
	f->has_news = false;
	f->news = (struct stopfile_news){ .epoch = 0 };
	pthread_mutex_unlock(&f->lock);
	return any;
}
