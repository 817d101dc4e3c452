#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/err.h"
#include "cli/context.h"
#include "io/file.h"
#include "wire/url.h"

enum { CONFIG_BYTES = 256 * 1024, CONFIG_ENTRIES = 4096 };

static const char *
env(const char *name)
{
	const char *value = getenv(name);

	return value == NULL || *value == '\0' ? NULL : value;
}

__attribute__((format(printf, 2, 3))) static const char *
format(struct arena *a, const char *fmt, ...)
{
	char text[CONTEXT_WHY + CONTEXT_TOKEN_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return arena_cstr(a, slice_from(text));
}

const char *
context_path(struct arena *a)
{
	const char *base = env("XDG_CONFIG_HOME");

	if (base != NULL && base[0] == '/')
		return format(a, "%s/muster/config", base);
	base = env("HOME");
	return base == NULL ? NULL
			    : format(a, "%s/.config/muster/config", base);
}

bool
context_token_valid(const char *token)
{
	size_t len = strlen(token);

	for (size_t i = 0; i < len; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return false;
	return len > 0 && len <= CONTEXT_TOKEN_MAX;
}

/* Not through io/file: a token may come from a pipe, as in <(pass show x). */
static int
read_some(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -1;
	while (len + 1 < size && (n = read(fd, out + len, size - len - 1)) > 0)
		len += (size_t)n;
	close(fd);
	out[len] = '\0';
	return n < 0 ? -1 : 0;
}

int
context_read_token(
    const char *path, struct arena *a, const char **out, char why[CONTEXT_WHY])
{
	char text[CONTEXT_TOKEN_MAX + 64];
	size_t len;
	char *start = text;

	if (read_some(path, text, sizeof(text)) != 0) {
		snprintf(why, CONTEXT_WHY, "cannot read the token file %s: %s",
		    path, strerror(errno));
		return ERR_IO;
	}
	start += strspn(start, " \t\r\n");
	len = strlen(start);
	while (len > 0 && strchr(" \t\r\n", start[len - 1]) != NULL)
		start[--len] = '\0';
	if (!context_token_valid(start)) {
		snprintf(why, CONTEXT_WHY,
		    "%s does not hold a token: one line of visible ASCII is "
		    "expected",
		    path);
		return ERR_INVALID;
	}
	*out = arena_cstr(a, slice_from(start));
	return *out == NULL ? ERR_NOMEM : 0;
}

int
context_url(const char *text, struct arena *a, const char **out)
{
	struct slice s = slice_from(text);
	struct url u;

	if (url_parse(s, &u) != 0 || u.websocket || u.query.ptr != NULL)
		return ERR_INVALID;
	while (slice_ends(s, SL("/")))
		s.len--;
	*out = arena_cstr(a, s);
	return *out == NULL ? ERR_NOMEM : 0;
}

bool
context_is_loopback(const char *url)
{
	struct url u;

	return url_parse(slice_from(url), &u) == 0 &&
	    (slice_eq_nocase(u.at.name, SL("localhost")) ||
		slice_eq(u.at.name, SL("::1")) ||
		(!u.at.ipv6 && slice_starts(u.at.name, SL("127.")) &&
		    strspn((const char *)u.at.name.ptr, "0123456789.") >=
			u.at.name.len));
}

/* The file --------------------------------------------------------------- */

struct config {
	struct conf_doc doc;
	const char *current;
};

/* No file is an empty one. */
static int
config_read(const char *path, struct arena *a, struct config *out,
    char why[CONTEXT_WHY])
{
	static const struct conf_limits limits = { CONFIG_BYTES,
		CONFIG_ENTRIES };
	struct slice text = { 0 };
	int err;

	memset(out, 0, sizeof(*out));
	if (path == NULL)
		return 0;
	err = file_read_all(&file_real, path, CONFIG_BYTES, a, &text);
	if (err == ERR_NOT_FOUND)
		return 0;
	if (err != 0) {
		snprintf(why, CONTEXT_WHY, "cannot read %s: %s", path,
		    err_name(err));
		return err;
	}
	err = conf_parse(text, a, &limits, &out->doc);
	if (err != 0) {
		snprintf(why, CONTEXT_WHY, "%s, line %u: %s", path,
		    (unsigned)out->doc.error_line, err_name(err));
		return ERR_INVALID;
	}
	for (size_t i = 0; i < out->doc.count; i++) {
		const struct conf_entry *e = &out->doc.entries[i];

		if (e->section.len == 0 && slice_eq(e->key, SL("current")))
			out->current = arena_cstr(a, e->value);
	}
	return 0;
}

/* The member of c that a key fills; NULL for a key of a later version. */
static const char **
member(struct context *c, struct slice key)
{
	const struct {
		struct slice key;
		const char **at;
	} members[] = {
		{ SL("url"), &c->url },
		{ SL("token"), &c->token },
		{ SL("refresh"), &c->refresh },
		{ SL("renew"), &c->renew },
		{ SL("ca_file"), &c->ca_file },
		{ SL("pin"), &c->pin },
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (slice_eq(members[i].key, key))
			return members[i].at;
	return NULL;
}

static bool
is_context(const struct conf_entry *e, const char *name)
{
	return slice_eq(e->section, SL("context")) &&
	    slice_eq(e->name, slice_from(name));
}

static bool
config_find(const struct config *f, const char *name, struct arena *a,
    struct context *out)
{
	bool found = false;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < f->doc.count; i++) {
		const struct conf_entry *e = &f->doc.entries[i];
		const char **at;

		if (!is_context(e, name))
			continue;
		found = true;
		at = member(out, e->key);
		if (at != NULL)
			*at = arena_cstr(a, e->value);
	}
	out->name = name;
	return found;
}

/* What is in force -------------------------------------------------------- */

static int
load_saved(const char *path, const char *wanted, struct arena *a,
    struct context *saved, char why[CONTEXT_WHY])
{
	struct config f;
	const char *name = wanted;
	int err = config_read(path, a, &f, why);

	memset(saved, 0, sizeof(*saved));
	if (err != 0)
		return err;
	if (name == NULL)
		name = f.current == NULL ? "default" : f.current;
	if (!config_find(&f, name, a, saved) && wanted != NULL) {
		snprintf(why, CONTEXT_WHY,
		    "there is no context %s in %s; make it by 'muster login "
		    "--context %s URL'",
		    wanted, path == NULL ? "the configuration" : path, wanted);
		return ERR_NOT_FOUND;
	}
	return 0;
}

static void
choose_url(const struct context_flags *flags, const struct context *saved,
    struct arena *a, struct context *out)
{
	out->url = CONTEXT_DEFAULT_URL;
	out->source = "the default";
	if (flags->url != NULL) {
		out->url = flags->url;
		out->source = "--url";
	} else if (flags->name == NULL && env("MUSTER_URL") != NULL) {
		out->url = env("MUSTER_URL");
		out->source = "MUSTER_URL";
	} else if (saved->url != NULL) {
		out->url = saved->url;
		out->source = format(a, "context %s", saved->name);
	}
}

static int
choose_token(const struct context_flags *flags, const struct context *saved,
    bool same, struct arena *a, struct context *out, char why[CONTEXT_WHY])
{
	const char *file = flags->token_file;

	out->token_source = "--token-file";
	if (file == NULL && flags->name == NULL) {
		if (env("MUSTER_TOKEN") != NULL) {
			out->token = env("MUSTER_TOKEN");
			out->token_source = "MUSTER_TOKEN";
			return 0;
		}
		file = env("MUSTER_TOKEN_FILE");
		out->token_source = "MUSTER_TOKEN_FILE";
	}
	if (file != NULL)
		return context_read_token(file, a, &out->token, why);
	out->token_source = NULL;
	if (same && saved->token != NULL) {
		out->token = saved->token;
		out->refresh = saved->refresh;
		out->renew = saved->renew;
		out->token_source = format(a, "context %s", saved->name);
	}
	return 0;
}

int
context_load(const char *path, const struct context_flags *flags,
    struct arena *a, struct context *out, char why[CONTEXT_WHY])
{
	struct context saved;
	bool same;
	int err = load_saved(path, flags->name, a, &saved, why);

	if (err != 0)
		return err;
	memset(out, 0, sizeof(*out));
	out->name = saved.name;
	out->insecure = flags->insecure;
	choose_url(flags, &saved, a, out);
	if (context_url(out->url, a, &out->url) != 0) {
		snprintf(why, CONTEXT_WHY,
		    "%s is not the URL of a controller (from %s); it looks "
		    "like https://muster.example.com",
		    out->url, out->source);
		return ERR_INVALID;
	}
	same = saved.url != NULL && strcmp(saved.url, out->url) == 0;
	out->ca_file = env("MUSTER_CA_FILE");
	if (same && out->ca_file == NULL)
		out->ca_file = saved.ca_file;
	out->pin = same ? saved.pin : NULL;
	err = choose_token(flags, &saved, same, a, out, why);
	if (err == 0 && out->token != NULL &&
	    !context_token_valid(out->token)) {
		snprintf(why, CONTEXT_WHY,
		    "the token from %s is not one: visible ASCII is expected",
		    out->token_source);
		return ERR_INVALID;
	}
	return err;
}

/* Writing ------------------------------------------------------------------ */

static void
put_quoted(struct buf *b, struct slice s)
{
	buf_put_byte(b, '"');
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '"' || s.ptr[i] == '\\')
			buf_put_byte(b, '\\');
		buf_put_byte(b, s.ptr[i]);
	}
	buf_put_byte(b, '"');
}

static void
put_entry(struct buf *b, const char *key, const char *value)
{
	if (value == NULL)
		return;
	buf_put(b, slice_from(key));
	buf_put(b, SL(" = "));
	put_quoted(b, slice_from(value));
	buf_put_byte(b, '\n');
}

static void
put_context(struct buf *b, const struct context *c)
{
	buf_put(b, SL("\n[context "));
	put_quoted(b, slice_from(c->name));
	buf_put(b, SL("]\n"));
	put_entry(b, "url", c->url);
	put_entry(b, "token", c->token);
	put_entry(b, "refresh", c->refresh);
	put_entry(b, "renew", c->renew);
	put_entry(b, "ca_file", c->ca_file);
	put_entry(b, "pin", c->pin);
}

/* All contexts but one, each once. */
static int
put_others(
    struct buf *b, const struct config *f, const char *but, struct arena *a)
{
	for (size_t i = 0; i < f->doc.count; i++) {
		const struct conf_entry *e = &f->doc.entries[i];
		struct context c;
		const char *name;

		if (e->key.len != 0 || !slice_eq(e->section, SL("context")) ||
		    is_context(e, but))
			continue;
		name = arena_cstr(a, e->name);
		if (name == NULL || !config_find(f, name, a, &c))
			return ERR_NOMEM;
		put_context(b, &c);
	}
	return b->err;
}

static int
make_parents(const char *path)
{
	char part[4096];
	size_t len = strlen(path);

	if (len >= sizeof(part))
		return ERR_TOO_BIG;
	memcpy(part, path, len + 1);
	for (char *p = part + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0700) != 0 && errno != EEXIST)
			return ERR_IO;
		*p = '/';
	}
	return 0;
}

static int
config_write(const char *path, struct buf *text, char why[CONTEXT_WHY])
{
	int err = text->err;

	if (err == 0)
		err = make_parents(path);
	if (err == 0)
		err = file_write_atomic(&file_real, path, buf_peek(text), 0600);
	if (err != 0)
		snprintf(why, CONTEXT_WHY, "cannot write %s: %s", path,
		    err_name(err));
	return err;
}

static int
save(const char *path, const struct context *c, bool current, struct arena *a,
    char why[CONTEXT_WHY])
{
	struct config f;
	struct buf text;
	int err = config_read(path, a, &f, why);

	if (err != 0)
		return err;
	buf_init(&text, CONFIG_BYTES);
	buf_put(&text, SL("# contexts of muster; written by muster login\n"));
	put_entry(&text, "current",
	    current || f.current == NULL ? c->name : f.current);
	put_others(&text, &f, c->name, a);
	put_context(&text, c);
	err = config_write(path, &text, why);
	buf_fini(&text);
	return err;
}

int
context_save(const char *path, const struct context *c, struct arena *a,
    char why[CONTEXT_WHY])
{
	return save(path, c, true, a, why);
}

int
context_update(const char *path, const struct context *c, struct arena *a,
    char why[CONTEXT_WHY])
{
	return save(path, c, false, a, why);
}

int
context_drop(const char *path, const char *name, struct arena *a,
    const char **gone, char why[CONTEXT_WHY])
{
	struct config f;
	struct context c;
	struct buf text;
	int err = config_read(path, a, &f, why);

	if (err != 0)
		return err;
	if (name == NULL)
		name = f.current == NULL ? "default" : f.current;
	if (!config_find(&f, name, a, &c)) {
		snprintf(why, CONTEXT_WHY, "there is no context %s", name);
		return ERR_NOT_FOUND;
	}
	*gone = name;
	buf_init(&text, CONFIG_BYTES);
	buf_put(&text, SL("# contexts of muster; written by muster login\n"));
	if (f.current != NULL && strcmp(f.current, name) != 0)
		put_entry(&text, "current", f.current);
	put_others(&text, &f, name, a);
	err = config_write(path, &text, why);
	buf_fini(&text);
	return err;
}
