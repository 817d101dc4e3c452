#include "base/err.h"

#include "io/addr.h"

#include "server/port_conf.h"

enum { NAME_MOST = 64 };

#define AT(member) offsetof(struct port_conf, member)

/* clang-format off */
static const struct conf_option options[] = {
	{ "listen", CONF_TEXT, CONF_RESTART, 1, 300, NULL,
	  "ADDRESS:PORT where the controller takes connections.", AT(listen) },
	{ "protocol", CONF_TEXT, CONF_RESTART, 3, 3, "tcp",
	  "tcp or udp.", AT(protocol) },
	{ "agent", CONF_TEXT, CONF_RESTART, 1, 255, NULL,
	  "Id or name of the agent that connects.", AT(agent) },
	{ "to", CONF_TEXT, CONF_RESTART, 1, 300, NULL,
	  "HOST:PORT of the service, as the agent's network knows it.",
	  AT(to) },
	{ "connections", CONF_COUNT, CONF_RESTART, 1, 100000, "1000",
	  "At most so many at a time; of udp, so many sources.",
	  AT(connections) },
	{ "idle", CONF_DURATION, CONF_RESTART, 1000, 0, "1h",
	  "A connection that is quiet for so long is cut; a source of udp is "
	  "forgotten after five minutes at most.", AT(idle) },
	{ "connect_timeout", CONF_DURATION, CONF_RESTART, 100, 60000, "10s",
	  "How long the agent may take to connect.", AT(connect) },
};
/* clang-format on */

static const struct conf_table table = { options,
	sizeof(options) / sizeof(options[0]) };

static void
put_place(struct buf *out, struct slice file, uint32_t line)
{
	buf_put(out, file);
	buf_put(out, SL(":"));
	buf_put_u64(out, line);
	buf_put(out, SL(": "));
}

static size_t
complain(struct buf *out, struct slice file, const struct port_conf *p,
    const char *sentence)
{
	put_place(out, file, p->line);
	buf_put(out, SL("port \""));
	buf_put(out, p->name);
	buf_put(out, SL("\" "));
	buf_put(out, slice_from(sentence));
	buf_put_byte(out, '\n');
	return 1;
}

static struct port_conf *
find(struct port_conf *ports, size_t count, struct slice name)
{
	for (size_t i = 0; i < count; i++)
		if (slice_eq(ports[i].name, name))
			return &ports[i];
	return NULL;
}

/* The text behind the last colon is a number: HOST:PORT, [V6]:PORT. */
static int
read_target(struct slice text, struct tunnel_target *t)
{
	size_t colon = text.len;
	uint64_t port;

	while (colon > 0 && text.ptr[colon - 1] != ':')
		colon--;
	if (colon < 2 ||
	    slice_u64(slice_from_at(text, colon), UINT16_MAX, &port) != 0 ||
	    port == 0)
		return ERR_INVALID;
	t->host = slice_first(text, colon - 1);
	if (t->host.len > 2 && t->host.ptr[0] == '[' &&
	    slice_ends(t->host, SL("]")))
		t->host =
		    slice_first(slice_from_at(t->host, 1), t->host.len - 2);
	t->port = (uint16_t)port;
	return 0;
}

/* Fit for a label of a metric. */
static bool
is_name(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
		if (!letter && !(c >= '0' && c <= '9') && c != '.' &&
		    c != '_' && c != '-')
			return false;
	}
	return s.len > 0 && s.len <= NAME_MOST;
}

/* What is wrong with one as a whole. */
static size_t
judge(struct port_conf *p, struct slice file, struct buf *problems)
{
	union addr a;

	if (!is_name(p->name))
		return complain(problems, file, p,
		    "needs a name of 1 to 64 of A-Z a-z 0-9 . _ -");
	if (p->listen.ptr == NULL || p->agent.ptr == NULL || p->to.ptr == NULL)
		return complain(
		    problems, file, p, "needs listen, agent and to");
	if (addr_parse(p->listen, &a) != 0 || a.sa.sa_family == AF_UNIX)
		return complain(
		    problems, file, p, "has a listen that is not ADDRESS:PORT");
	if (read_target(p->to, &p->target) != 0)
		return complain(
		    problems, file, p, "has a to that is not HOST:PORT");
	if (slice_eq(p->protocol, SL("udp")))
		p->proto = TUNNEL_UDP;
	else if (!slice_eq(p->protocol, SL("tcp")))
		return complain(
		    problems, file, p, "has a protocol that is not tcp or udp");
	return 0;
}

static size_t
set(const struct conf_entry *e, struct port_conf *p, struct slice file,
    struct buf *problems)
{
	const struct conf_option *o = conf_find(&table, e->key);
	const struct conf_problem bad = {
		.err = o == NULL ? ERR_NOT_FOUND : conf_set(o, e->value, p),
		.line = e->line,
		.key = e->key,
		.value = e->value,
		.option = o
	};

	if (bad.err == 0)
		return 0;
	put_place(problems, file, e->line);
	conf_explain(&bad, problems);
	buf_put_byte(problems, '\n');
	return 1;
}

size_t
port_conf_read(const struct conf_doc *doc, struct slice file,
    struct port_conf *ports, size_t *count, struct buf *problems)
{
	size_t bad = 0, n = 0;

	for (size_t i = 0; i < doc->count; i++) {
		const struct conf_entry *e = &doc->entries[i];
		if (!slice_eq(e->section, SL("port")))
			continue;
		struct port_conf *p = find(ports, n, e->name);
		if (e->key.len > 0) {
			if (p != NULL)
				bad += set(e, p, file, problems);
			continue;
		}
		const struct port_conf fresh = { .name = e->name,
			.line = e->line };
		if (p != NULL || n == PORTS_MAX) {
			bad += complain(problems, file, &fresh,
			    p != NULL ? "is there twice" : "is one too many");
			continue;
		}
		ports[n] = fresh;
		conf_defaults(&table, &ports[n++]);
	}
	for (size_t i = 0; i < n; i++)
		bad += judge(&ports[i], file, problems);
	*count = n;
	return bad;
}
