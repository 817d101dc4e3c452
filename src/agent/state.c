#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/err.h"
#include "io/rand.h"
#include "wire/enc.h"

#include "agent/state.h"

enum { SMALL_FILE = 64 * 1024, STATE_ARENA = 1024 * 1024 };

static int
fail(struct state *s, int err, const char *what, const char *path)
{
	(void)snprintf(
	    s->why, sizeof(s->why), "%s %s: %s", what, path, err_name(err));
	return err;
}

static int
join_path(char out[STATE_PATH], const char *a, const char *b)
{
	int n = snprintf(out, STATE_PATH, "%s/%s", a, b);

	return n > 0 && n < STATE_PATH ? 0 : ERR_TOO_BIG;
}

int
state_path(const struct state *s, const char *name, char out[STATE_PATH])
{
	return join_path(out, s->dir, name);
}

/* The directory and those above it. */
static int
make_dirs(const char *dir)
{
	char path[STATE_PATH];
	size_t len = strlen(dir);
	int err = 0;

	memcpy(path, dir, len + 1);
	for (size_t i = 1; i <= len && err == 0; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		path[i] = '\0';
		err = file_mkdir(&file_real, path, 0700);
		if (err == ERR_EXISTS)
			err = 0;
		path[i] = dir[i];
	}
	return err;
}

int
state_open(struct state *s, const char *dir, bool make)
{
	char here[STATE_PATH] = "";
	int n;

	*s = (struct state){ 0 };
	arena_init(&s->arena, STATE_ARENA);
	if (dir[0] != '/' && getcwd(here, sizeof(here)) == NULL)
		return fail(s, ERR_IO, "cannot tell where we are, for", dir);
	n = snprintf(s->dir, sizeof(s->dir), "%s%s%s", here,
	    dir[0] == '/' ? "" : "/", dir);
	if (n <= 0 || n >= STATE_PATH / 2)
		return fail(
		    s, ERR_TOO_BIG, "cannot use", "the state directory");
	while (n > 1 && s->dir[n - 1] == '/')
		s->dir[--n] = '\0';
	if (!make)
		return access(s->dir, F_OK) == 0
		    ? 0
		    : fail(s, ERR_NOT_FOUND, "there is no agent in", s->dir);
	int err = make_dirs(s->dir);
	return err == 0 ? 0 : fail(s, err, "cannot make", s->dir);
}

void
state_close(struct state *s)
{
	file_close(&s->lock);
	arena_fini(&s->arena);
}

int
state_lock(struct state *s, const char *name)
{
	char path[STATE_PATH];
	int err = state_path(s, name, path);

	if (err == 0)
		err = file_open(
		    &file_real, path, FILE_WRITE | FILE_CREATE, 0600, &s->lock);
	if (err == 0)
		err = file_lock(&s->lock);
	if (err == ERR_BUSY)
		return fail(s, err, "another muster-agent runs on", s->dir);
	return err == 0 ? 0 : fail(s, err, "cannot lock", path);
}

/* A file of one word, in the arena. */
static int
read_word(const char *path, struct arena *a, struct slice *out)
{
	struct slice text;
	int err = file_read_all(&file_real, path, SMALL_FILE, a, &text);

	if (err != 0)
		return err;
	while (text.len > 0 && text.ptr[text.len - 1] == '\n')
		text.len--;
	*out = slice_trim(text);
	return 0;
}

static int
write_word(const char *path, struct slice word)
{
	struct buf b;

	buf_init(&b, SMALL_FILE);
	buf_put(&b, word);
	buf_put_byte(&b, '\n');
	int err = b.err;
	if (err == 0)
		err = file_write_atomic(&file_real, path, buf_peek(&b), 0600);
	buf_fini(&b);
	return err;
}

/* Hosts without a machine-id (small containers) are not told apart. */
static int
check_machine(struct state *s, bool make)
{
	struct slice here, made;
	char path[STATE_PATH];

	int err = state_path(s, "machine", path);
	if (err != 0 || read_word("/etc/machine-id", &s->arena, &here) != 0 ||
	    here.len == 0)
		return err;
	err = read_word(path, &s->arena, &made);
	if (err == ERR_NOT_FOUND && make) {
		err = write_word(path, here);
		return err == 0 ? 0 : fail(s, err, "cannot write", path);
	}
	if (err == ERR_NOT_FOUND)
		return 0;
	if (err != 0)
		return fail(s, err, "cannot read", path);
	if (slice_eq(made, here))
		return 0;
	(void)snprintf(s->why, sizeof(s->why),
	    "%s was made on another machine: two hosts cannot be one agent. "
	    "Remove it here and join anew",
	    s->dir);
	return ERR_DENIED;
}

int
state_identify(struct state *s, bool make)
{
	char path[STATE_PATH], id[RAND_ID_SIZE];

	int err = check_machine(s, make);
	if (err == 0)
		err = state_path(s, "install_id", path);
	if (err != 0)
		return err;
	err = read_word(path, &s->arena, &s->install_id);
	if (err == ERR_NOT_FOUND && make) {
		rand_id("ins_", id);
		err = write_word(path, slice_from(id));
		if (err == 0)
			err = read_word(path, &s->arena, &s->install_id);
	}
	if (err == ERR_NOT_FOUND)
		return fail(s, err, "this host has not joined: no", path);
	return err == 0 ? 0 : fail(s, err, "cannot use", path);
}

/* Links ---------------------------------------------------------------------
 */

static int
link_dir(struct state *s, struct slice host, int port, char out[STATE_PATH])
{
	char name[300];
	size_t n = 0;

	for (; n < host.len && n < 255; n++) {
		uint8_t c = host.ptr[n];
		bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		    c == '.' || c == '-';
		if (c >= 'A' && c <= 'Z')
			c = (uint8_t)(c + ('a' - 'A'));
		else if (!plain || (n == 0 && c == '.'))
			c = '+';
		name[n] = (char)c;
	}
	(void)snprintf(name + n, sizeof(name) - n, "_%d", port);
	int len = snprintf(out, STATE_PATH, "%s/links/%s", s->dir, name);
	return len > 0 && len < STATE_PATH ? 0 : ERR_TOO_BIG;
}

static int
read_key(const char *path, struct arena *a, struct state_link *l)
{
	struct slice text;
	struct buf seed;

	int err = read_word(path, a, &text);
	if (err != 0)
		return err;
	buf_init(&seed, ED25519_KEY);
	err = enc_get_hex(text, &seed);
	if (err == 0 && buf_peek(&seed).len != ED25519_KEY)
		err = ERR_CORRUPT;
	if (err == 0)
		memcpy(l->seed, buf_peek(&seed).ptr, ED25519_KEY);
	buf_fini(&seed);
	return err == 0 ? token_public_key(l->seed, l->key) : err;
}

static int
make_key(const char *path)
{
	uint8_t seed[ED25519_KEY];
	struct buf hex;

	rand_fill(seed, sizeof(seed));
	buf_init(&hex, 2 * sizeof(seed));
	enc_put_hex(&hex, (struct slice){ seed, sizeof(seed) });
	int err = hex.err != 0 ? hex.err : write_word(path, buf_peek(&hex));
	buf_fini(&hex);
	return err;
}

static const char *
keep(struct arena *a, struct slice s)
{
	const char *text = arena_cstr(a, s);

	return text == NULL ? "" : text;
}

int
state_make_link(
    struct state *s, struct slice host, int port, struct state_link *out)
{
	char dir[STATE_PATH], path[STATE_PATH];

	int err = link_dir(s, host, port, dir);
	if (err == 0)
		err = make_dirs(dir);
	if (err == 0)
		err = join_path(path, dir, "key");
	if (err != 0)
		return fail(s, err, "cannot make", dir);
	*out = (struct state_link){ 0 };
	err = read_key(path, &s->arena, out);
	if (err == ERR_NOT_FOUND) {
		err = make_key(path);
		if (err == 0)
			err = read_key(path, &s->arena, out);
	}
	if (err != 0)
		return fail(s, err, "cannot use", path);
	out->dir = keep(&s->arena, slice_from(dir));
	return 0;
}

struct row {
	const char *key;
	size_t at;
	bool needed;
};

static const struct row rows[] = {
	{ "url", offsetof(struct state_link, url), true },
	{ "agent_id", offsetof(struct state_link, agent_id), true },
	{ "cluster_id", offsetof(struct state_link, cluster_id), false },
	{ "name", offsetof(struct state_link, name), true },
	{ "pin", offsetof(struct state_link, pin), false },
	{ "ca_file", offsetof(struct state_link, ca_file), false },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static const char **
member(struct state_link *l, const struct row *row)
{
	return (const char **)(void *)((char *)l + row->at);
}

/* Names may hold anything but control bytes: see conf.h for the escapes. */
static void
put_row(struct buf *b, const char *key, const char *value)
{
	buf_put(b, slice_from(key));
	buf_put(b, SL(" = \""));
	for (const char *c = value; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\')
			buf_put_byte(b, '\\');
		buf_put_byte(b, (uint8_t)*c);
	}
	buf_put(b, SL("\"\n"));
}

int
state_save_link(struct state *s, const struct state_link *l)
{
	struct state_link copy = *l;
	char path[STATE_PATH];
	struct buf b;

	int err = join_path(path, l->dir, "link.conf");
	if (err != 0)
		return fail(s, err, "cannot write into", l->dir);
	buf_init(&b, SMALL_FILE);
	buf_put(&b, SL("# Written by muster-agent join.\nversion = 1\n"));
	for (size_t i = 0; i < ROWS; i++)
		put_row(&b, rows[i].key, *member(&copy, &rows[i]));
	err = b.err;
	if (err == 0)
		err = file_write_atomic(&file_real, path, buf_peek(&b), 0600);
	if (err == 0 && l->incarnation != NULL)
		err =
		    state_save_incarnation(l->dir, slice_from(l->incarnation));
	buf_fini(&b);
	return err == 0 ? 0 : fail(s, err, "cannot write", path);
}

static int
take_entry(struct state *s, const struct conf_entry *e, struct state_link *l)
{
	if (slice_eq(e->key, SL("version")))
		return slice_eq(e->value, SL("1")) ? 0 : ERR_NEWER;
	for (size_t i = 0; i < ROWS; i++)
		if (slice_eq(e->key, slice_from(rows[i].key)))
			*member(l, &rows[i]) = keep(&s->arena, e->value);
	return 0;
}

static int
read_conf(struct state *s, const char *path, struct state_link *l)
{
	const struct conf_limits limits = { SMALL_FILE, 64 };
	struct conf_doc doc;
	struct slice text;

	int err = file_read_all(&file_real, path, SMALL_FILE, &s->arena, &text);
	if (err == 0)
		err = conf_parse(text, &s->arena, &limits, &doc);
	for (size_t i = 0; err == 0 && i < doc.count; i++)
		err = take_entry(s, &doc.entries[i], l);
	for (size_t i = 0; err == 0 && i < ROWS; i++) {
		if (*member(l, &rows[i]) == NULL)
			*member(l, &rows[i]) = "";
		if (rows[i].needed && (*member(l, &rows[i]))[0] == '\0')
			err = ERR_MISSING;
	}
	return err;
}

static int
load_link(struct state *s, const char *name, struct state_link *l)
{
	char dir[STATE_PATH], path[STATE_PATH];
	struct slice word = SL("");

	int n = snprintf(dir, sizeof(dir), "%s/links/%s", s->dir, name);
	if (n <= 0 || n >= STATE_PATH)
		return ERR_TOO_BIG;
	*l = (struct state_link){ 0 };
	l->dir = keep(&s->arena, slice_from(dir));
	int err = join_path(path, dir, "link.conf");
	if (err == 0)
		err = read_conf(s, path, l);
	if (err != 0)
		return err == ERR_NOT_FOUND ? err
					    : fail(s, err, "cannot use", path);
	err = join_path(path, dir, "key");
	if (err == 0)
		err = read_key(path, &s->arena, l);
	if (err != 0)
		return fail(s, err, "cannot use", path);
	if (join_path(path, dir, "incarnation") == 0)
		(void)read_word(path, &s->arena, &word);
	l->incarnation = keep(&s->arena, word);
	return 0;
}

int
state_load_links(struct state *s, struct state_link *out, size_t *count)
{
	struct file_names names;
	char path[STATE_PATH];

	*count = 0;
	int err = state_path(s, "links", path);
	if (err == 0)
		err = file_list(&file_real, path, 4096, &s->arena, &names);
	if (err != 0)
		return fail(s, err, "this host has not joined:", path);
	for (size_t i = 0; i < names.count && *count < STATE_LINKS; i++) {
		err = load_link(s, names.at[i].name, &out[*count]);
		if (err == 0)
			(*count)++;
		else if (err != ERR_NOT_FOUND)
			return err;
	}
	if (*count == 0)
		return fail(s, ERR_NOT_FOUND,
		    "this host has not joined: no link in", path);
	return 0;
}

int
state_save_incarnation(const char *link_dir, struct slice incarnation)
{
	char path[STATE_PATH];
	int err = join_path(path, link_dir, "incarnation");

	return err != 0 ? err : write_word(path, incarnation);
}
