#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/js_write.h"
#include "cli/login.h"
#include "cli/render.h"
#include "cli/rest.h"

enum { RENEW_BEFORE = 60, PASSWORD_SIZE = 1026 };

/* Passwords ---------------------------------------------------------------- */

static int
from_file(struct cli *c, const char *path, const char **out)
{
	char text[PASSWORD_SIZE];
	FILE *f = fopen(path, "re");
	size_t n = f == NULL ? 0 : fread(text, 1, sizeof(text), f);

	if (f == NULL)
		return cli_usage(c, "cannot read the password file %s", path);
	fclose(f);
	/* One end of line is the editor's. */
	if (n > 0 && text[n - 1] == '\n')
		n--;
	if (n == 0 || n >= sizeof(text))
		return cli_usage(c, "%s holds no password", path);
	*out = arena_cstr(&c->arena, (struct slice){ (uint8_t *)text, n });
	return *out == NULL ? cli_nomem(c) : EXIT_OK;
}

int
login_password(
    struct cli *c, const struct args *a, bool fresh, const char **out)
{
	const char *file = args_get(a, "password-file");
	char text[PASSWORD_SIZE], again[PASSWORD_SIZE];

	*out = NULL;
	if (file != NULL)
		return from_file(c, file, out);
	if (!c->term.in_tty)
		return EXIT_OK;
	if (term_read_secret("Password (not shown): ", text, sizeof(text)) != 0)
		return cli_usage(c, "a password is needed");
	if (fresh &&
	    (term_read_secret("The same again: ", again, sizeof(again)) != 0 ||
		strcmp(text, again) != 0))
		return cli_usage(c, "these were two different passwords");
	*out = arena_cstr(&c->arena, slice_from(text));
	return *out == NULL ? cli_nomem(c) : EXIT_OK;
}

int
login_old_password(struct cli *c, const struct args *a, const char **out)
{
	const char *file = args_get(a, "old-password-file");
	char text[PASSWORD_SIZE];

	if (file != NULL)
		return from_file(c, file, out);
	if (!c->term.in_tty ||
	    term_read_secret("Your password as it is (not shown): ", text,
		sizeof(text)) != 0)
		return cli_usage(
		    c, "your old password is needed: --old-password-file");
	*out = arena_cstr(&c->arena, slice_from(text));
	return *out == NULL ? cli_nomem(c) : EXIT_OK;
}

/* Logins ------------------------------------------------------------------- */

/* What an answer of /auth/login or /auth/refresh gives. */
static int
keep(struct cli *c, struct js_value root)
{
	struct slice token = render_text(root, "token");
	struct slice refresh = render_text(root, "refresh_token");
	char until[24];
	int64_t life = 0;

	js_i64(js_get(root, "expires_in"), &life);
	snprintf(until, sizeof(until), "%lld",
	    (long long)time(NULL) + life - RENEW_BEFORE);
	c->at.token = arena_cstr(&c->arena, token);
	c->at.refresh = arena_cstr(&c->arena, refresh);
	c->at.renew = arena_cstr(&c->arena, slice_from(until));
	if (c->at.token == NULL || c->at.refresh == NULL || c->at.renew == NULL)
		return cli_nomem(c);
	return token.len > 0 && refresh.len > 0
	    ? EXIT_OK
	    : cli_fail(c, EXIT_FAILED, "the controller sent no token");
}

static int
post(struct cli *c, struct slice path, const char *const members[][2],
    struct answer *out)
{
	struct js_writer w;
	struct buf body;

	buf_init(&body, 1 << 16);
	js_write(&w, &body);
	js_begin_object(&w);
	for (size_t i = 0; members[i][0] != NULL; i++)
		js_kv_string(&w, members[i][0], slice_from(members[i][1]));
	js_end(&w);
	const struct rest_ask ask = { .method = "POST",
		.path = path,
		.body = buf_peek(&body),
		.anonymous = true };
	int exit = js_finish(&w) == 0 ? rest_call(c, &ask, out) : cli_nomem(c);
	buf_fini(&body);
	return exit;
}

int
login_as(struct cli *c, const struct args *a)
{
	const char *name = args_get(a, "user"), *password;
	struct answer got;
	int exit = login_password(c, a, false, &password);

	if (exit != EXIT_OK)
		return exit;
	if (password == NULL)
		return cli_usage(c, "a password is needed: --password-file");
	const char *const members[][2] = { { "name", name },
		{ "password", password }, { NULL, NULL } };
	exit = post(c, SL("/api/v1/auth/login"), members, &got);
	return exit == EXIT_OK ? keep(c, got.root) : exit;
}

static bool
about_to_end(const struct context *at)
{
	return at->renew == NULL ||
	    strtoll(at->renew, NULL, 10) <= (long long)time(NULL);
}

static int
lock_config(const struct cli *c)
{
	char path[4096];
	int n = snprintf(path, sizeof(path), "%s.lock", c->config);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -1;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Under the lock: another program may have been faster.  spent: the token
 * that we have is worthless, however long it seems to be good. */
static int
renew(struct cli *c, bool spent)
{
	const struct context_flags flags = { .name = c->at.name,
		.insecure = c->at.insecure };
	char why[CONTEXT_WHY];
	struct context now;
	struct answer got;

	if (context_load(c->config, &flags, &c->arena, &now, why) != 0)
		return cli_fail(c, EXIT_FAILED, "%s", why);
	if (now.refresh == NULL)
		return EXIT_OK;
	spent = spent && strcmp(now.token, c->at.token) == 0;
	c->at.token = now.token;
	c->at.refresh = now.refresh;
	c->at.renew = now.renew;
	if (!about_to_end(&now) && !spent)
		return EXIT_OK;
	const char *const members[][2] = { { "refresh_token", now.refresh },
		{ NULL, NULL } };
	int exit = post(c, SL("/api/v1/auth/refresh"), members, &got);
	if (exit != EXIT_OK) {
		cli_note(
		    c, "log in again: muster login %s --user NAME", c->at.url);
		return exit;
	}
	exit = keep(c, got.root);
	if (exit == EXIT_OK &&
	    context_update(c->config, &c->at, &c->arena, why) != 0)
		exit = cli_fail(c, EXIT_FAILED, "%s", why);
	return exit;
}

static int
renew_locked(struct cli *c, bool spent)
{
	int lock = lock_config(c);

	if (lock < 0)
		return cli_fail(c, EXIT_FAILED, "cannot lock %s", c->config);
	int exit = renew(c, spent);
	close(lock);
	return exit;
}

int
login_renew(struct cli *c)
{
	if (c->at.refresh == NULL || c->config == NULL || !about_to_end(&c->at))
		return EXIT_OK;
	return renew_locked(c, false);
}

int
login_renew_spent(struct cli *c)
{
	if (c->at.refresh == NULL || c->config == NULL)
		return EXIT_OK;
	return renew_locked(c, true);
}
