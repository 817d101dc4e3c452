#include <stdlib.h>

#include "base/err.h"

#include "model/role.h"

#include "io/log.h"

#include "server/forwarded.h"
#include "server/jwks.h"
#include "server/ours.h"

#include "server/settings.h"

enum { ENTRIES_MAX = 1024, FILE_MAX = 1024 * 1024, KEY_MAX = 64 };

#define AT(member) offsetof(struct settings, member)

/* clang-format off */
static const struct conf_option options[] = {
	{ "data", CONF_TEXT, CONF_RESTART, 1, 4000, "/var/lib/muster",
	  "Directory of the database, command output and admin.token.",
	  AT(data) },
	{ "listen", CONF_MANY, CONF_RESTART, 0, 0, NULL,
	  "ADDRESS:PORT to listen on, with \",proxy\" behind a load balancer "
	  "that speaks PROXY protocol v2; may be repeated.", 0 },
	{ "public_url", CONF_TEXT, CONF_RESTART, 0, 2000, "",
	  "URL under which agents and operators reach this controller.",
	  AT(public_url) },
	{ "tls_cert", CONF_TEXT, CONF_NEW_CONNECTIONS, 0, 4000, "",
	  "PEM file with the certificate chain, leaf first.", AT(tls_cert) },
	{ "tls_key", CONF_TEXT, CONF_NEW_CONNECTIONS, 0, 4000, "",
	  "PEM file with its private key.", AT(tls_key) },
	{ "tls_auto", CONF_BOOL, CONF_RESTART, 0, 0, "off",
	  "Make a key and certificate in the data directory, and put its pin "
	  "into join lines.", AT(tls_auto) },
	{ "lanes", CONF_COUNT, CONF_RESTART, 0, 64, "0",
	  "Threads that serve connections, 64 at most; 0 is one up to four "
	  "cores, and then one for every two of them.", AT(lanes) },
	{ "log_level", CONF_TEXT, CONF_HOT, 4, 5, "info",
	  "debug, info, warn or error.", AT(log_level) },
	{ "dev", CONF_BOOL, CONF_RESTART, 0, 0, "off",
	  "Developers' mode: data in ./muster-data, GET /dev/echo.",
	  AT(dev) },
	{ "insecure", CONF_BOOL, CONF_RESTART, 0, 0, "off",
	  "Allow addresses other than loopback without TLS.", AT(insecure) },
	{ "hosts", CONF_TEXT, CONF_RESTART, 0, 4000, "",
	  "More host names that are ours, joined by commas; others are "
	  "answered 421.", AT(hosts) },
	{ "tunnel_origin", CONF_TEXT, CONF_RESTART, 0, 2000, "",
	  "Origin, like https://tunnel.example.com, where /clusters/AGENT/... "
	  "leads to services behind agents; not that of public_url.",
	  AT(tunnel_origin) },
	{ "unsafe_path_routes", CONF_BOOL, CONF_RESTART, 0, 0, "off",
	  "Answer /clusters/AGENT/... on the controller's own origin too, "
	  "although pages there can then act for whoever is logged in.",
	  AT(unsafe_path_routes) },
	{ "refuse_takeover", CONF_BOOL, CONF_RESTART, 0, 0, "off",
	  "Refuse an agent without a key of its own that comes from another "
	  "address while it is connected from one.",
	  AT(refuse_takeover) },
	{ "cors_origins", CONF_TEXT, CONF_RESTART, 0, 4000, "",
	  "Origins, joined by commas, whose pages may use the API.",
	  AT(cors_origins) },
	{ "trusted_proxies", CONF_TEXT, CONF_RESTART, 0, 4000, "",
	  "Addresses and ranges of proxies, joined by commas, whose Forwarded "
	  "and X-Forwarded-For are believed.", AT(trusted_proxies) },
	{ "connections", CONF_COUNT, CONF_RESTART, 32, 1000000, "100000",
	  "Connections in all, as far as there are descriptors; the last 16 "
	  "are kept for requests that end things.",
	  AT(connections) },
	{ "source_connections", CONF_COUNT, CONF_RESTART, 1, 1000000, "10000",
	  "Connections of one address that have shown a good credential.",
	  AT(source_connections) },
	{ "source_strangers", CONF_COUNT, CONF_RESTART, 1, 1000000, "200",
	  "Connections of one address that have not (yet); loopback and "
	  "trusted proxies may have any number of both.",
	  AT(source_strangers) },
	{ "user_connections", CONF_COUNT, CONF_RESTART, 1, 1000000, "200",
	  "Dashboards, boards and followers of one user.",
	  AT(user_connections) },
	{ "memory_limit", CONF_SIZE, CONF_RESTART, 0, 0, "0",
	  "Resident memory above which all but agents is turned away; 0 is a "
	  "quarter of RAM.",
	  AT(memory_limit) },
	{ "output_max", CONF_SIZE, CONF_RESTART, 1048576, 0, "1GiB",
	  "Output kept of one command; older parts are pruned.",
	  AT(output_max) },
	{ "output_total", CONF_SIZE, CONF_RESTART, 16777216, 0, "20GiB",
	  "Output kept of all commands.", AT(output_total) },
	{ "drain_grace", CONF_DURATION, CONF_HOT, 0, 600000, "30s",
	  "Time that connections have to end after SIGTERM.",
	  AT(drain_grace) },
	{ "request_rate", CONF_COUNT, CONF_RESTART, 1, 1000000000, "600",
	  "Requests a minute of one user; what ends things is not counted.",
	  AT(request_rate) },
	{ "concurrency", CONF_COUNT, CONF_RESTART, 1, 10000, "16",
	  "Detached commands that run at once on one agent.",
	  AT(concurrency) },
	{ "queue_limit", CONF_COUNT, CONF_RESTART, 1, 100000, "1000",
	  "Commands that may wait for one agent.", AT(queue_limit) },
	{ "foreground_max", CONF_COUNT, CONF_RESTART, 1, 10000, "256",
	  "Attached commands that run at once on one agent.",
	  AT(foreground_max) },
	{ "login_rate", CONF_COUNT, CONF_RESTART, 1, 1000000, "5",
	  "Logins a minute of one account, right and wrong ones.",
	  AT(login_rate) },
	{ "access_ttl", CONF_DURATION, CONF_RESTART, 60000, 86400000, "15m",
	  "How long the token of a login is good before it is renewed.",
	  AT(access_ttl) },
	{ "refresh_ttl", CONF_DURATION, CONF_RESTART, 60000, 34560000000,
	  "30d", "How long a login can be renewed.", AT(refresh_ttl) },
	{ "session_ttl", CONF_DURATION, CONF_RESTART, 60000, 34560000000,
	  "12h", "How long a browser stays logged in.", AT(session_ttl) },
	{ "jwt_hs256_secret_file", CONF_TEXT, CONF_HOT, 0, 4000, "",
	  "File with the secret that another issuer signs JWTs with (HS256).",
	  AT(jwt_hs256_secret_file) },
	{ "jwt_keys_file", CONF_TEXT, CONF_HOT, 0, 4000, "",
	  "File with public keys of other issuers: PEM, JWK or JWK Set.",
	  AT(jwt_keys_file) },
	{ "jwt_jwks_url", CONF_TEXT, CONF_RESTART, 0, 2000, "",
	  "URL of another issuer's JWK Set, fetched again when it changes.",
	  AT(jwt_jwks_url) },
	{ "jwt_issuer", CONF_TEXT, CONF_RESTART, 0, 2000, "",
	  "What iss of other issuers' JWTs must be; empty: anything.",
	  AT(jwt_issuer) },
	{ "jwt_audience", CONF_TEXT, CONF_RESTART, 0, 2000, "",
	  "What aud of other issuers' JWTs must have; empty: anything.",
	  AT(jwt_audience) },
	{ "jwt_default_role", CONF_TEXT, CONF_RESTART, 5, 8, "viewer",
	  "Role of other issuers' users whose JWT names none: viewer, "
	  "operator or admin.", AT(jwt_default_role) },
};
/* clang-format on */

static const struct conf_table table = { options,
	sizeof(options) / sizeof(options[0]) };

const struct conf_table *
settings_table(void)
{
	return &table;
}

static void
complain(struct buf *out, struct slice where, const struct conf_problem *p,
    size_t *count)
{
	buf_put(out, where);
	if (p->line > 0) {
		buf_put(out, SL(":"));
		buf_put_u64(out, p->line);
	}
	buf_put(out, SL(": "));
	conf_explain(p, out);
	buf_put(out, SL("\n"));
	++*count;
}

static int
check_level(struct slice value)
{
	enum log_level level;

	return log_level_parse(value, &level);
}

static int
check_role(struct slice value)
{
	enum role role;

	return role_find(value, &role);
}

/* An origin and nothing more. */
static int
check_origin(struct slice value)
{
	struct url u;

	if (value.len == 0)
		return 0;
	return url_parse(value, &u) == 0 && !u.websocket &&
		slice_eq(u.path, SL("/")) && u.query.ptr == NULL &&
		slice_find(value, '*') == value.len
	    ? 0
	    : ERR_INVALID;
}

static int
check_url(struct slice value)
{
	return value.len == 0 ? 0 : jwks_check_url(value);
}

/* Texts that are not any text. */
static const struct {
	const char *key;
	int (*check)(struct slice value);
	const char *sentence;
} texts[] = {
	{ "log_level", check_level, "is debug, info, warn or error" },
	{ "tunnel_origin", check_origin,
	    "is an origin like https://tunnel.example.com" },
	{ "cors_origins", ours_check_origins,
	    "has origins like https://app.example.com or "
	    "https://*.example.com:8443, joined by commas" },
	{ "jwt_default_role", check_role, "is viewer, operator or admin" },
	{ "jwt_jwks_url", check_url, "is an https URL, or http on loopback" },
	{ "trusted_proxies", forwarded_check,
	    "has addresses and ranges like 10.0.0.0/8, joined by commas" },
};

/* line 0: not from a file. */
static size_t
check_text(struct slice where, uint32_t line, struct slice key,
    struct slice value, struct buf *problems)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (!slice_eq(key, slice_from(texts[i].key)) ||
		    texts[i].check(value) == 0)
			continue;
		buf_put(problems, where);
		if (line > 0) {
			buf_put(problems, SL(":"));
			buf_put_u64(problems, line);
		}
		buf_put(problems, SL(": "));
		buf_put(problems, key);
		buf_put_byte(problems, ' ');
		buf_put(problems, slice_from(texts[i].sentence));
		buf_put_byte(problems, '\n');
		return 1;
	}
	return 0;
}

static void
add_listen(struct settings *s, struct slice value)
{
	if (s->listen_count < LISTENS_MAX)
		s->listens[s->listen_count++] = value;
}

static size_t
read_file(struct settings *s, struct slice file, struct slice text,
    struct arena *a, struct buf *problems)
{
	const struct conf_limits limits = { FILE_MAX, ENTRIES_MAX };
	struct conf_doc doc;
	struct conf_problem p;
	size_t at = 0, bad = 0;
	int err = conf_parse(text, a, &limits, &doc);

	if (err != 0) {
		p = (struct conf_problem){
			.err = err, .line = doc.error_line, .key = doc.error_key
		};
		complain(problems, file, &p, &bad);
		return bad;
	}
	while (conf_apply(&table, &doc, SL(""), s, &at, &p) != 0)
		complain(problems, file, &p, &bad);
	for (size_t i = 0; i < doc.count; i++) {
		const struct conf_entry *e = &doc.entries[i];
		if (e->section.len == 0 && slice_eq(e->key, SL("listen")))
			add_listen(s, e->value);
		if (e->section.len == 0)
			bad += check_text(
			    file, e->line, e->key, e->value, problems);
	}
	return bad +
	    port_conf_read(&doc, file, s->ports, &s->port_count, problems);
}

static size_t
set_one(struct settings *s, struct slice where, struct slice key,
    struct slice value, struct buf *problems)
{
	const struct conf_option *o = conf_find(&table, key);
	struct conf_problem p = {
		.err = ERR_NOT_FOUND, .key = key, .value = value, .option = o
	};
	size_t bad = 0;

	if (o != NULL && o->kind == CONF_MANY)
		return 0;
	if (o != NULL)
		p.err = conf_set(o, value, s);
	if (p.err != 0)
		complain(problems, where, &p, &bad);
	else
		bad += check_text(where, 0, key, value, problems);
	return bad;
}

/* MUSTER_PUBLIC_URL and the like. */
static struct slice
environment(const char *key)
{
	char name[KEY_MAX + 8] = "MUSTER_";
	size_t n = 7;

	for (; *key != '\0' && n < sizeof(name) - 1; key++)
		name[n++] = *key == '_'          ? '_'
		    : *key >= 'a' && *key <= 'z' ? (char)(*key - 'a' + 'A')
						 : *key;
	name[n] = '\0';
	return slice_from(getenv(name));
}

static size_t
read_environment(struct settings *s, struct buf *problems)
{
	size_t bad = 0;

	for (size_t i = 0; i < table.count; i++) {
		struct slice key = slice_from(table.options[i].key);
		struct slice value = environment(table.options[i].key), one;
		if (value.ptr == NULL)
			continue;
		if (table.options[i].kind == CONF_MANY) {
			s->listen_count = 0;
			while (slice_split(&value, ' ', &one))
				add_listen(s, one);
			continue;
		}
		bad += set_one(s, SL("environment"), key, value, problems);
	}
	return bad;
}

bool
settings_origins_clash(struct slice public_url, struct slice tunnel_origin)
{
	struct url ours, theirs;

	return url_parse(public_url, &ours) == 0 &&
	    url_parse(tunnel_origin, &theirs) == 0 &&
	    slice_eq_nocase(ours.at.name, theirs.at.name) &&
	    ours.port == theirs.port;
}

static size_t
check_origins(const struct settings *s, struct buf *problems)
{
	if (!settings_origins_clash(s->public_url, s->tunnel_origin))
		return 0;
	buf_put(problems,
	    SL("tunnel_origin: it must be another host or port than "
	       "public_url\n"));
	return 1;
}

size_t
settings_read(struct settings *out, struct slice file, struct slice text,
    const struct setting_flag *flags, size_t flag_count, struct arena *a,
    struct buf *problems)
{
	size_t bad = 0;
	bool listens = false;

	*out = (struct settings){ .listen_count = 0 };
	conf_defaults(&table, out);
	if (text.ptr != NULL)
		bad += read_file(out, file, text, a, problems);
	bad += read_environment(out, problems);
	for (size_t i = 0; i < flag_count; i++) {
		if (slice_eq(flags[i].key, SL("listen"))) {
			if (!listens)
				out->listen_count = 0;
			listens = true;
			add_listen(out, flags[i].value);
			continue;
		}
		bad += set_one(out, SL("command line"), flags[i].key,
		    flags[i].value, problems);
	}
	/* --dev moves the default of the data directory. */
	if (out->dev && slice_eq(out->data, SL("/var/lib/muster")))
		out->data = SL("muster-data");
	if (out->listen_count == 0)
		add_listen(out, SL("127.0.0.1:7700"));
	return bad + check_origins(out, problems);
}

struct slice
settings_where(const struct settings_from *from, struct slice key,
    struct arena *a, uint32_t *line)
{
	const struct conf_limits limits = { FILE_MAX, ENTRIES_MAX };
	const struct conf_option *o = conf_find(&table, key);
	struct conf_doc doc;

	for (size_t i = 0; i < from->flag_count; i++) {
		if (slice_eq(from->flags[i].key, key))
			return SL("command line");
	}
	if (o != NULL && environment(o->key).ptr != NULL)
		return SL("environment");
	if (from->text.len == 0 ||
	    conf_parse(from->text, a, &limits, &doc) != 0)
		return SL("default");
	for (size_t i = 0; i < doc.count; i++) {
		const struct conf_entry *e = &doc.entries[i];
		if (e->section.len > 0 || !slice_eq(e->key, key))
			continue;
		*line = e->line;
		return from->file;
	}
	return SL("default");
}
