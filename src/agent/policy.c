#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/err.h"
#include "io/sys.h"

#include "agent/policy.h"

enum { POLICY_ENTRIES = 4096, POLICY_ARENA = 2 * 1024 * 1024 };

static const char *const verb_names[POLICY_VERBS] = { "observe", "exec",
	"shell", "files", "logs", "tunnel" };

void
policy_init(struct policy *p)
{
	*p = (struct policy){ .verbs = 1U << POLICY_OBSERVE,
		.commands = 256,
		.commands_per_minute = 600,
		.streams = 2048,
		.tunnels = 1024,
		.udp_idle = 5 * 60 * 1000,
		.spool = UINT64_C(256) << 20,
		.spool_total = UINT64_C(2) << 30 };
	arena_init(&p->arena, POLICY_ARENA);
	memset(p->hash, '0', sizeof(p->hash));
}

void
policy_fini(struct policy *p)
{
	arena_fini(&p->arena);
	*p = (struct policy){ 0 };
}

int
policy_verb_parse(struct slice name, enum policy_verb *out)
{
	for (unsigned i = 0; i < POLICY_VERBS; i++)
		if (slice_eq(name, slice_from(verb_names[i]))) {
			*out = (enum policy_verb)i;
			return 0;
		}
	return ERR_INVALID;
}

const char *
policy_verb_name(enum policy_verb verb)
{
	return verb_names[verb];
}

bool
policy_allows(const struct policy *p, enum policy_verb verb)
{
	return (p->verbs >> verb & 1) != 0;
}

/* Reading -------------------------------------------------------------------
 */

static int
fault(struct policy_fault *f, uint32_t line, int err, const char *why)
{
	f->line = line;
	(void)snprintf(f->why, sizeof(f->why), "%s", why);
	return err;
}

static int
add_rule(struct policy *p, const struct conf_entry *e, enum policy_list list)
{
	bool deny = slice_eq(e->key, SL("deny"));

	if (e->value.len == 0)
		return ERR_INVALID;
	p->rules[p->rule_count++] =
	    (struct policy_rule){ e->value, e->line, (uint8_t)list, deny };
	return 0;
}

static int
set_version(struct policy *p, const struct conf_entry *e)
{
	uint64_t n;

	(void)p;
	if (conf_u64(e->value, &n) != 0 || n == 0)
		return ERR_INVALID;
	return n > POLICY_VERSION ? ERR_NEWER : 0;
}

static int
set_verb(struct policy *p, const struct conf_entry *e)
{
	enum policy_verb verb;
	int err = policy_verb_parse(e->value, &verb);

	if (err == 0)
		p->verbs |= 1U << verb;
	return err;
}

static int
set_user(struct policy *p, const struct conf_entry *e)
{
	if (e->value.len == 0 || p->exec_user.ptr != NULL)
		return ERR_INVALID;
	p->exec_user = e->value;
	return 0;
}

static int
set_commands(struct policy *p, const struct conf_entry *e)
{
	return conf_u64(e->value, &p->commands);
}

static int
set_rate(struct policy *p, const struct conf_entry *e)
{
	return conf_u64(e->value, &p->commands_per_minute);
}

static int
set_spool(struct policy *p, const struct conf_entry *e)
{
	int err = conf_size(e->value, &p->spool);

	return err == 0 && p->spool < 1 << 20 ? ERR_RANGE : err;
}

static int
set_spool_total(struct policy *p, const struct conf_entry *e)
{
	return conf_size(e->value, &p->spool_total);
}

static int
set_streams(struct policy *p, const struct conf_entry *e)
{
	return conf_u64(e->value, &p->streams);
}

/* "**" elsewhere than last would promise what is not looked at. */
static bool
good_argv(struct slice text)
{
	struct slice word;

	while (slice_split(&text, ' ', &word))
		if (slice_eq(word, SL("**")) && slice_trim(text).len > 0)
			return false;
	return true;
}

static int
add_argv(struct policy *p, const struct conf_entry *e)
{
	return good_argv(e->value) ? add_rule(p, e, POLICY_ARGV) : ERR_INVALID;
}

static int
add_env(struct policy *p, const struct conf_entry *e)
{
	return add_rule(p, e, POLICY_ENV);
}

static int
add_cwd(struct policy *p, const struct conf_entry *e)
{
	return e->value.len > 0 && e->value.ptr[0] == '/'
	    ? add_rule(p, e, POLICY_CWD)
	    : ERR_INVALID;
}

/* Where the port begins, behind the last colon; 0 when there is none. */
static size_t
port_at(struct slice target)
{
	size_t n = target.len;

	while (n > 0 && target.ptr[n - 1] != ':')
		n--;
	return n;
}

static int
add_target(struct policy *p, const struct conf_entry *e)
{
	size_t at = port_at(e->value);
	struct slice port = slice_from_at(e->value, at);
	uint64_t n;

	if (at < 2 ||
	    (!slice_eq(port, SL("*")) && slice_u64(port, 65535, &n) != 0))
		return ERR_INVALID;
	return add_rule(p, e, POLICY_TARGET);
}

static int
add_listen(struct policy *p, const struct conf_entry *e)
{
	int err = add_target(p, e);

	if (err == 0)
		p->rules[p->rule_count - 1].list = POLICY_LISTEN;
	return err;
}

static int
set_ca(struct policy *p, const struct conf_entry *e)
{
	if (e->value.len == 0 || e->value.ptr[0] != '/' ||
	    p->tunnel_ca.ptr != NULL)
		return ERR_INVALID;
	p->tunnel_ca = e->value;
	return 0;
}

static int
set_tunnels(struct policy *p, const struct conf_entry *e)
{
	return conf_u64(e->value, &p->tunnels);
}

static int
set_tunnel_idle(struct policy *p, const struct conf_entry *e)
{
	return conf_duration(e->value, &p->tunnel_idle);
}

static int
set_udp_idle(struct policy *p, const struct conf_entry *e)
{
	return conf_duration(e->value, &p->udp_idle);
}

static const struct {
	const char *section, *key; /* key NULL: allow and deny */
	int (*set)(struct policy *p, const struct conf_entry *e);
	const char *wrong;
} keys[] = {
	{ "", "version", set_version, "version must be 1" },
	{ "", "allow", set_verb,
	    "allow takes observe, exec, shell, files, logs or tunnel" },
	{ "", "exec_user", set_user, "exec_user takes one user name, once" },
	{ "exec", NULL, add_argv,
	    "a pattern is one glob a word, and ** comes last" },
	{ "environment", NULL, add_env, "a pattern is the glob of a name" },
	{ "cwd", NULL, add_cwd, "a pattern is the glob of an absolute path" },
	{ "tunnel", NULL, add_target, "a target is host:port or host:*" },
	{ "tunnel", "listen", add_listen,
	    "listen takes address:port or address:*" },
	{ "tunnel", "ca", set_ca, "ca takes the path of one file, once" },
	{ "limits", "commands", set_commands, "commands takes a number" },
	{ "limits", "commands_per_minute", set_rate,
	    "commands_per_minute takes a number" },
	{ "limits", "streams", set_streams, "streams takes a number" },
	{ "limits", "tunnels", set_tunnels, "tunnels takes a number" },
	{ "limits", "tunnel_idle", set_tunnel_idle,
	    "tunnel_idle takes a time, as 10m" },
	{ "limits", "udp_idle", set_udp_idle, "udp_idle takes a time" },
	{ "limits", "spool", set_spool, "spool takes a size, 1MiB at least" },
	{ "limits", "spool_total", set_spool_total,
	    "spool_total takes a size" },
};

static bool
rule_key(struct slice key)
{
	return slice_eq(key, SL("allow")) || slice_eq(key, SL("deny"));
}

static int
set_entry(struct policy *p, const struct conf_entry *e, struct policy_fault *f)
{
	if (e->key.len == 0)
		return e->name.ptr == NULL
		    ? 0
		    : fault(f, e->line, ERR_INVALID, "sections have no names");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!slice_eq(e->section, slice_from(keys[i].section)) ||
		    !(keys[i].key == NULL
			    ? rule_key(e->key)
			    : slice_eq(e->key, slice_from(keys[i].key))))
			continue;
		int err = keys[i].set(p, e);
		if (err == ERR_NEWER)
			return fault(f, e->line, err,
			    "this policy was written for a newer agent, which "
			    "may mean its words differently");
		return err == 0 ? 0 : fault(f, e->line, err, keys[i].wrong);
	}
	return fault(f, e->line, ERR_INVALID, "no such key in this section");
}

static void
put_hash(struct policy *p, struct slice text)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	(void)EVP_Digest(text.ptr, text.len, sum, &len, EVP_sha256(), NULL);
	for (size_t i = 0; i < len && 2 * i < sizeof(p->hash); i++) {
		p->hash[2 * i] = (uint8_t)hex[sum[i] >> 4];
		p->hash[2 * i + 1] = (uint8_t)hex[sum[i] & 15];
	}
}

static int
read_policy(struct policy *p, struct slice text, struct policy_fault *f)
{
	static const struct conf_limits limits = { POLICY_BYTES,
		POLICY_ENTRIES };
	struct conf_doc doc;
	struct slice own;

	p->verbs = 0;
	int err = arena_copy(&p->arena, text, &own);
	if (err != 0)
		return fault(f, 0, err, "no memory");
	err = conf_parse(own, &p->arena, &limits, &doc);
	if (err != 0)
		return fault(
		    f, doc.error_line, err, "not a configuration line");
	p->rules = arena_array(
	    &p->arena, doc.count == 0 ? 1 : doc.count, sizeof(*p->rules));
	if (p->rules == NULL)
		return fault(f, 0, ERR_NOMEM, "no memory");
	/* What the version is decides what the rest means. */
	if (doc.count == 0 || !slice_eq(doc.entries[0].key, SL("version")) ||
	    doc.entries[0].section.len > 0)
		return fault(
		    f, 1, ERR_INVALID, "a policy begins with \"version = 1\"");
	for (size_t i = 0; i < doc.count; i++) {
		err = set_entry(p, &doc.entries[i], f);
		if (err != 0)
			return err;
	}
	put_hash(p, own);
	return 0;
}

int
policy_parse(struct policy *p, struct slice text, struct policy_fault *f)
{
	struct policy fresh;

	policy_init(&fresh);
	int err = read_policy(&fresh, text, f);
	if (err != 0) {
		policy_fini(&fresh);
		return err;
	}
	policy_fini(p);
	*p = fresh;
	return 0;
}

static int
check_owner(int fd, struct policy_fault *f)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return fault(f, 0, ERR_DENIED, "not a regular file");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return fault(f, 0, ERR_DENIED,
		    "it belongs to neither root nor the agent's user");
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return fault(
		    f, 0, ERR_DENIED, "others than its owner may write it");
	return 0;
}

static int
read_file(int fd, struct buf *b, struct policy_fault *f)
{
	ssize_t n;

	do {
		uint8_t *at = buf_reserve(b, 4096);
		n = at == NULL ? 0 : read(fd, at, 4096);
		if (n > 0)
			buf_commit(b, (size_t)n);
	} while (n > 0);
	if (n < 0)
		return fault(f, 0, sys_err(errno), "it cannot be read");
	return b->err == 0 ? 0 : fault(f, 0, ERR_TOO_BIG, "it is too long");
}

int
policy_load(struct policy *p, const char *path, struct policy_fault *f)
{
	struct buf b;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return fault(f, 0, sys_err(errno), "it cannot be opened");
	buf_init(&b, POLICY_BYTES + 4096);
	int err = check_owner(fd, f);
	if (err == 0)
		err = read_file(fd, &b, f);
	if (err == 0)
		err = policy_parse(p, buf_peek(&b), f);
	buf_fini(&b);
	close(fd);
	return err;
}

/* Deciding ------------------------------------------------------------------
 */

/* One character of a glob; *any when it is a bare "*". */
static uint8_t
glob_next(struct slice *glob, bool *any, bool *one)
{
	uint8_t c = glob->ptr[0];

	*any = c == '*';
	*one = c == '?';
	if (c == '\\' && glob->len > 1) {
		*glob = slice_from_at(*glob, 1);
		c = glob->ptr[0];
	}
	*glob = slice_from_at(*glob, 1);
	return c;
}

/* Of a host's name; other bytes stay what they are. */
static uint8_t
lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/*
 * Linear but for one step back to the last star.  A star does not cross
 * wall; 0 = there is none.
 */
static bool
glob_match(struct slice glob, struct slice text, uint8_t wall)
{
	struct slice star = { 0 }, held = { 0 };
	bool have_star = false, any = false, one = false;

	for (;;) {
		struct slice rest = glob;
		if (glob.len == 0) {
			if (text.len == 0)
				return true;
		} else {
			uint8_t c = glob_next(&rest, &any, &one);
			if (any) {
				star = glob = rest;
				held = text;
				have_star = true;
				continue;
			}
			if (text.len > 0 &&
			    (one ? wall == 0 || text.ptr[0] != wall
				 : c == text.ptr[0])) {
				glob = rest;
				text = slice_from_at(text, 1);
				continue;
			}
		}
		if (!have_star || held.len == 0 ||
		    (wall != 0 && held.ptr[0] == wall))
			return false;
		held = slice_from_at(held, 1);
		text = held;
		glob = star;
	}
}

/* Cut the next word at a blank that is not escaped. */
static bool
next_word(struct slice *rest, struct slice *word)
{
	size_t n = 0;

	*rest = slice_trim(*rest);
	if (rest->len == 0)
		return false;
	while (n < rest->len && rest->ptr[n] != ' ' && rest->ptr[n] != '\t')
		n += rest->ptr[n] == '\\' && n + 1 < rest->len ? 2 : 1;
	*word = slice_first(*rest, n);
	*rest = slice_from_at(*rest, n);
	return true;
}

static bool
argv_match(struct slice pattern, const struct slice *argv, size_t argc)
{
	struct slice word;
	size_t i = 0;

	for (; next_word(&pattern, &word); i++) {
		if (slice_eq(word, SL("**")))
			return true;
		if (i == argc || !glob_match(word, argv[i], 0))
			return false;
	}
	return i == argc;
}

/* Two stars behind the last slash: what is before it, and all below. */
static bool
path_match(struct slice pattern, struct slice path)
{
	if (!slice_ends(pattern, SL("/**")))
		return glob_match(pattern, path, '/');
	struct slice top = slice_first(pattern, pattern.len - 3);
	for (size_t n = 1; n <= path.len; n++)
		if ((n == path.len || path.ptr[n] == '/') &&
		    glob_match(top, slice_first(path, n), '/'))
			return true;
	return top.len == 0;
}

struct question {
	enum policy_list list;
	const struct slice *words; /* argv, or one word */
	size_t count;
	uint16_t port; /* of a target */
};

/* Host and port of a rule; port -1: every. */
static struct slice
split_target(struct slice rule, int *port)
{
	size_t at = port_at(rule);
	struct slice name = slice_first(rule, at - 1);
	uint64_t n = 0;

	if (name.len > 2 && name.ptr[0] == '[' && slice_ends(name, SL("]")))
		name = slice_from_at(slice_first(name, name.len - 1), 1);
	*port = -1;
	if (!slice_eq(slice_from_at(rule, at), SL("*")) &&
	    slice_u64(slice_from_at(rule, at), 65535, &n) == 0)
		*port = (int)n;
	return name;
}

/* Names of hosts have no case: both sides are folded, a piece on the stack. */
static bool
host_match(struct slice glob, struct slice host)
{
	uint8_t folded[2][256];
	struct slice both[2] = { glob, host };

	if (glob.len > sizeof(folded[0]) || host.len > sizeof(folded[0]))
		return false;
	for (int i = 0; i < 2; i++) {
		for (size_t k = 0; k < both[i].len; k++)
			folded[i][k] = lower(both[i].ptr[k]);
		both[i].ptr = folded[i];
	}
	return glob_match(both[0], both[1], 0);
}

static bool
target_match(struct slice rule, struct slice host, uint16_t port)
{
	int n;
	struct slice name = split_target(rule, &n);

	return (n < 0 || n == port) && host_match(name, host);
}

static bool
spelled_match(struct slice rule, struct slice host, uint16_t port)
{
	int n;
	struct slice name = split_target(rule, &n);

	return (n < 0 || n == port) && slice_eq_nocase(name, host);
}

static bool
rule_match(const struct policy_rule *r, const struct question *q)
{
	switch (q->list) {
	case POLICY_ARGV:
		return argv_match(r->text, q->words, q->count);
	case POLICY_ENV:
		return glob_match(r->text, q->words[0], 0);
	case POLICY_CWD:
		return path_match(r->text, q->words[0]);
	case POLICY_TARGET:
		return target_match(r->text, q->words[0], q->port);
	case POLICY_LISTEN:
		return spelled_match(r->text, q->words[0], q->port);
	}
	return false;
}

/* why, with what (cut short) in the place of its "@". */
static struct policy_verdict
refuse(uint32_t line, const char *why, struct slice what)
{
	struct policy_verdict v = { false, line, "" };
	struct slice after = slice_from(why), before;

	(void)slice_split(&after, '@', &before);
	(void)snprintf(v.why, sizeof(v.why), "%.*s%.*s%.*s", SLICE_FMT(before),
	    SLICE_FMT(slice_first(what, 120)), SLICE_FMT(after));
	return v;
}

/* A denial anywhere wins; else any allowance; else nobody spoke. */
static struct policy_verdict
ask(const struct policy *p, const struct question *q, const char *missing)
{
	struct policy_verdict v = { false, 0, "" };

	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *r = &p->rules[i];
		if (r->list != q->list || !rule_match(r, q))
			continue;
		if (r->deny)
			return refuse(r->line, "deny = @", r->text);
		if (!v.allowed)
			v = (struct policy_verdict){ true, r->line, "" };
	}
	return v.allowed ? v : refuse(0, missing, q->words[0]);
}

static bool
climbs(struct slice path)
{
	struct slice part;

	while (slice_split(&path, '/', &part))
		if (slice_eq(part, SL("..")))
			return true;
	return false;
}

static struct policy_verdict
check_cwd(const struct policy *p, struct slice cwd)
{
	struct question q = { POLICY_CWD, &cwd, 1, 0 };

	if (cwd.ptr[0] != '/' || climbs(cwd))
		return refuse(0, "@: not an absolute path without \"..\"", cwd);
	return ask(p, &q, "no allow in [cwd] matches @");
}

static struct policy_verdict
check_env(const struct policy *p, struct slice pair)
{
	struct slice name = slice_first(pair, slice_find(pair, '='));
	struct question q = { POLICY_ENV, &name, 1, 0 };

	if (name.len == 0 || name.len == pair.len)
		return refuse(0, "@: not NAME=value", pair);
	return ask(p, &q, "no allow in [environment] matches @");
}

struct policy_verdict
policy_check_exec(const struct policy *p, const struct policy_exec *e)
{
	struct question q = { POLICY_ARGV, e->argv, e->argc, 0 };
	struct policy_verdict v;

	if (!policy_allows(p, POLICY_EXEC))
		return refuse(0, "there is no \"allow = exec\"", SL(""));
	if (e->argc == 0)
		return refuse(0, "nothing to run", SL(""));
	if (e->user.len > 0 && !slice_eq(e->user, p->exec_user))
		return refuse(0, "exec_user is not @", e->user);
	v = ask(p, &q, "no allow in [exec] matches @ and its arguments");
	if (v.allowed && e->cwd.len > 0)
		v = check_cwd(p, e->cwd);
	for (size_t i = 0; v.allowed && i < e->envc; i++)
		v = check_env(p, e->env[i]);
	return v;
}

struct policy_verdict
policy_check_target(const struct policy *p, struct slice host, uint16_t port)
{
	struct question q = { POLICY_TARGET, &host, 1, port };

	if (!policy_allows(p, POLICY_TUNNEL))
		return refuse(0, "there is no \"allow = tunnel\"", SL(""));
	if (host.len == 0)
		return refuse(0, "no host", SL(""));
	return ask(p, &q, "no allow in [tunnel] matches @ and this port");
}

bool
policy_names_target(const struct policy *p, struct slice host, uint16_t port)
{
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *r = &p->rules[i];
		if (r->list == POLICY_TARGET && !r->deny &&
		    spelled_match(r->text, host, port))
			return true;
	}
	return false;
}

struct policy_verdict
policy_check_listen(const struct policy *p, struct slice host, uint16_t port)
{
	struct question q = { POLICY_LISTEN, &host, 1, port };

	if (!policy_allows(p, POLICY_TUNNEL))
		return refuse(0, "there is no \"allow = tunnel\"", SL(""));
	return ask(p, &q, "no listen in [tunnel] is @ and this port");
}

/* Writing -------------------------------------------------------------------
 */

static void
put_quoted(struct buf *out, const char *key, struct slice value)
{
	buf_put(out, slice_from(key));
	buf_put(out, SL(" = \""));
	for (size_t i = 0; i < value.len; i++) {
		if (value.ptr[i] == '"' || value.ptr[i] == '\\')
			buf_put_byte(out, '\\');
		buf_put_byte(out, value.ptr[i]);
	}
	buf_put(out, SL("\"\n"));
}

void
policy_write(const struct policy_wish *w, struct buf *out)
{
	buf_put(out,
	    SL("# What this host lets its controller do.  Nothing remote can\n"
	       "# widen it; it is read when the agent starts.\n"
	       "version = 1\n\n"
	       "# Any of observe, exec, shell, files, logs, tunnel.\n"));
	for (unsigned i = 0; i < POLICY_VERBS; i++)
		if ((w->verbs >> i & 1) != 0) {
			buf_put(out, SL("allow = "));
			buf_put(out, slice_from(verb_names[i]));
			buf_put_byte(out, '\n');
		}
	if (w->exec_user.len > 0) {
		buf_put(out,
		    SL("\n# Who commands run as.  root gives the "
		       "host away.\n"));
		put_quoted(out, "exec_user", w->exec_user);
	}
	buf_put(out,
	    SL("\n# One glob a word, ** for the rest; a deny wins.  Narrow "
	       "it:\n"
	       "# allow = systemctl restart nginx\n"
	       "[exec]\n"));
	if ((w->verbs >> POLICY_EXEC & 1) != 0)
		buf_put(out, SL("allow = **\n"));
	buf_put(out,
	    SL("\n# Variables a command may be given, as globs.\n"
	       "[environment]\nallow = LANG\nallow = LC_*\n"
	       "allow = TZ\nallow = TERM\n"
	       "\n# Where it may start, beside its user's home.\n"
	       "# allow = /srv/**\n[cwd]\n"
	       "\n# What may be reached: host:port or host:*, loopback only "
	       "as it is spelled.\n# listen = 127.0.0.1:8022\n"
	       "[tunnel]\n"));
	for (size_t i = 0; i < w->target_count; i++)
		put_quoted(out, "allow", w->targets[i]);
	buf_put(out,
	    SL("\n[limits]\ncommands = 256\n"
	       "commands_per_minute = 600\nstreams = 2048\n"
	       "tunnels = 1024\n"
	       "spool = 256MiB\nspool_total = 2GiB\n"));
}
