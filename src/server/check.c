#include <stdio.h>

#include "base/err.h"

#include "io/file.h"
#include "io/tls.h"

#include "server/keyring.h"

#include "server/check.h"

enum { PATH_SIZE = 4200, FILE_MAX = 1 << 20 };

struct checking {
	const struct settings *settings;
	const struct settings_from *from;
	struct arena *a;
	struct buf *problems;
	size_t bad;
};

static void
complain(struct checking *c, const char *key, const char *why)
{
	uint32_t line = 0;
	struct slice where =
	    settings_where(c->from, slice_from(key), c->a, &line);

	buf_put(c->problems, where);
	if (line > 0) {
		buf_put_byte(c->problems, ':');
		buf_put_u64(c->problems, line);
	}
	buf_put(c->problems, SL(": "));
	buf_put(c->problems, slice_from(key));
	buf_put(c->problems, SL(": "));
	buf_put(c->problems, slice_from(why));
	buf_put_byte(c->problems, '\n');
	c->bad++;
}

/* Whether it can be read at all; its path for who goes on. */
static bool
readable(struct checking *c, const char *key, struct slice name, char *path)
{
	char why[PATH_SIZE + 64];
	struct slice text;
	int err = slice_cstr(name, path, PATH_SIZE);

	if (err == 0)
		err = file_read_all(&file_real, path, FILE_MAX, c->a, &text);
	if (err == 0)
		return true;
	snprintf(why, sizeof(why), "cannot read %s: %s", path, err_name(err));
	complain(c, key, why);
	return false;
}

static void
check_tls(struct checking *c)
{
	const struct settings *s = c->settings;
	char cert[PATH_SIZE], key[PATH_SIZE], why[TLS_WHY] = "";
	struct tls_server *t = NULL;

	if (s->tls_auto || (s->tls_cert.len == 0 && s->tls_key.len == 0))
		return;
	if (s->tls_cert.len == 0 || s->tls_key.len == 0) {
		complain(c, s->tls_cert.len == 0 ? "tls_key" : "tls_cert",
		    "tls_cert and tls_key go together");
		return;
	}
	bool can = readable(c, "tls_cert", s->tls_cert, cert);
	can = readable(c, "tls_key", s->tls_key, key) && can;
	if (can && tls_server_new(cert, key, &t, why) != 0)
		complain(c, "tls_cert", why);
	tls_server_free(t);
}

static void
check_keys(
    struct checking *c, const char *key, struct slice name, bool is_secret)
{
	char path[PATH_SIZE], why[KEYRING_WHY] = "";

	if (name.len > 0 && readable(c, key, name, path) &&
	    keyring_check(path, is_secret, why, sizeof(why)) != 0)
		complain(c, key, why);
}

size_t
check_files(const struct settings *s, const struct settings_from *from,
    struct arena *a, struct buf *problems)
{
	struct checking c = {
		.settings = s, .from = from, .a = a, .problems = problems
	};

	check_tls(&c);
	check_keys(&c, "jwt_hs256_secret_file", s->jwt_hs256_secret_file, true);
	check_keys(&c, "jwt_keys_file", s->jwt_keys_file, false);
	return c.bad;
}
