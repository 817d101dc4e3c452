#include "cli/find.h"

#include <poll.h>

#include "base/err.h"
#include "cli/render.h"
#include "io/clock.h"
#include "wire/url.h"

struct answer *
find_answer(struct cli *c)
{
	return arena_alloc(&c->arena, sizeof(struct answer));
}

struct slice
find_path(
    struct cli *c, const char *before, struct slice word, const char *after)
{
	struct slice path = { 0 };
	struct buf b;

	buf_init(&b, URL_MAX);
	buf_put(&b, slice_from(before));
	url_put_encoded(&b, word);
	buf_put(&b, slice_from(after));
	/* Too long a word finds nothing, which is what it is. */
	if (b.err != 0 || arena_copy(&c->arena, buf_peek(&b), &path) != 0)
		path = SL("/api/v1/too-long");
	buf_fini(&b);
	return path;
}

void
find_put_query(struct buf *path, const char *name, const char *value)
{
	if (value == NULL)
		return;
	buf_put_byte(path, '&');
	buf_put(path, slice_from(name));
	buf_put_byte(path, '=');
	url_put_encoded(path, slice_from(value));
}

void
find_put_selector(struct buf *path, const struct args *a)
{
	const char *label;
	size_t at = 0;
	bool any = false;

	while ((label = args_each(a, "l", &at)) != NULL) {
		buf_put(path, any ? SL("%2C") : SL("&selector="));
		url_put_encoded(path, slice_from(label));
		any = true;
	}
}

int
find_limit(
    const struct cli *c, const struct args *a, size_t fallback, size_t *out)
{
	const char *text = args_get(a, "limit");
	uint64_t n;

	*out = fallback;
	if (text == NULL)
		return EXIT_OK;
	if (slice_u64(slice_from(text), 100000000, &n) != 0 || n == 0)
		return cli_usage(c, "--limit %s is no number above 0", text);
	*out = (size_t)n;
	return EXIT_OK;
}

int
find_count(const struct cli *c, const struct args *a, const char *name,
    uint64_t max, uint64_t *out)
{
	const char *text = args_get(a, name);
	uint64_t n;

	if (text == NULL)
		return EXIT_OK;
	if (slice_u64(slice_from(text), max, &n) != 0 || n == 0)
		return cli_usage(c, "--%s is a number from 1 to %llu, not '%s'",
		    name, (unsigned long long)max, text);
	*out = n;
	return EXIT_OK;
}

int
find_agent(struct cli *c, const char *word, struct answer **out)
{
	*out = find_answer(c);
	if (*out == NULL)
		return cli_nomem(c);
	return rest_get(
	    c, find_path(c, "/api/v1/agents/", slice_from(word), ""), *out);
}

/* Waiting ------------------------------------------------------------------ */

enum { STEP_MIN = 50, STEP_MAX = 2000, ANSWER_MAX = 64 << 20 };

void
patience_init(struct patience *p, msec span)
{
	arena_init(&p->arena, ANSWER_MAX);
	p->end = span < 0 ? INT64_MAX : clock_mono() + span;
	p->step = STEP_MIN;
}

void
patience_fini(struct patience *p)
{
	arena_fini(&p->arena);
}

bool
patience_pause(struct patience *p)
{
	msec left = p->end - clock_mono();
	msec step = left < p->step ? left : p->step;

	if (left <= 0)
		return false;
	poll(NULL, 0, (int)step);
	p->step += p->step / 2;
	if (p->step > STEP_MAX)
		p->step = STEP_MAX;
	return true;
}

static bool
may_pass(int err)
{
	return err == ERR_UNREACHABLE || err == ERR_RESET || err == ERR_CLOSED;
}

int
patience_ask(
    struct cli *c, struct patience *p, struct slice path, struct answer *out)
{
	struct rest_ask ask = { .path = path, .arena = &p->arena };
	char why[REST_WHY];
	int err;

	arena_reset(&p->arena);
	err = rest_try(c, &ask, out, why);
	if (err != 0 && !may_pass(err))
		return cli_fail(c, EXIT_FAILED, "%s", why);
	if (err != 0 || out->status == 502 || out->status == 503 ||
	    out->status == 429) {
		memset(out, 0, sizeof(*out));
		return EXIT_OK;
	}
	if (out->status == 404 ||
	    (out->status == 200 && out->root.kind == JS_OBJECT))
		return EXIT_OK;
	return rest_refused(c, out);
}
