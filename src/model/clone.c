#include "base/alloc.h"

#include "model/clone.h"

enum { FIELDS_MAX = 16 };

struct shape {
	size_t size;
	size_t count;
	size_t fields[FIELDS_MAX]; /* offsets of the slices */
};

#define U(f) offsetof(struct user_record, f)
#define G(f) offsetof(struct login_record, f)
#define T(f) offsetof(struct token_record, f)
#define A(f) offsetof(struct agent_record, f)
#define C(f) offsetof(struct command_record, f)
#define L(f) offsetof(struct connection_record, f)
#define O(f) offsetof(struct outcome, f)
#define S(f) offsetof(struct stop_record, f)
#define R(f) offsetof(struct receipt_record, f)
#define K(f) offsetof(struct secret_record, f)
#define M(f) offsetof(struct log_record, f)
#define W(f) offsetof(struct route_record, f)

static const struct shape shapes[CLONE_KINDS] = {
	[CLONE_USER] = { sizeof(struct user_record), 4,
	    { U(id), U(name), U(selector), U(password) } },
	[CLONE_LOGIN] = { sizeof(struct login_record), 3,
	    { G(id), G(user_id), G(remote) } },
	[CLONE_TOKEN] = { sizeof(struct token_record), 5,
	    { T(id), T(name), T(shown), T(user_id), T(allow) } },
	[CLONE_AGENT] = { sizeof(struct agent_record), 8,
	    { A(id), A(cluster_id), A(name), A(token_id), A(install_id),
		A(info_json), A(labels_json), A(operator_labels_json) } },
	[CLONE_COMMAND] = { sizeof(struct command_record), 12,
	    { C(id), C(agent_id), C(user_id), C(token_id), C(request_key),
		C(argv_json), C(env_json), C(said_json), C(cwd), C(exec_user),
		C(code), C(why) } },
	[CLONE_LINK] = { sizeof(struct connection_record), 5,
	    { L(agent_id), L(session_id), L(remote), L(dialect), L(why) } },
	[CLONE_OUTCOME] = { sizeof(struct outcome), 5,
	    { O(command_id), O(code), O(why), O(out), O(err) } },
	[CLONE_STOP] = { sizeof(struct stop_record), 6,
	    { S(target), S(bound), S(reason), S(actor), S(lifted_by),
		S(request_key) } },
	[CLONE_SECRET] = { sizeof(struct secret_record), 4,
	    { K(id), K(agent_id), K(sealed), K(old_sealed) } },
	[CLONE_LOG] = { sizeof(struct log_record), 4,
	    { M(agent_id), M(level), M(source), M(message) } },
	[CLONE_RECEIPT] = { sizeof(struct receipt_record), 3,
	    { R(agent_id), R(name), R(report.detail_json) } },
	[CLONE_ROUTE] = { sizeof(struct route_record), 13,
	    { W(id), W(name), W(host), W(prefix), W(agent), W(selector),
		W(target.host), W(target.service), W(target.namespace),
		W(target.tls_name), W(origins), W(rules_json), W(user_id) } },
};

static struct slice
field(const void *record, size_t at)
{
	struct slice s;

	memcpy(&s, (const uint8_t *)record + at, sizeof(s));
	return s;
}

size_t
clone_size(enum clone_kind kind, const void *from)
{
	const struct shape *sh = &shapes[kind];
	size_t size = sh->size;

	for (size_t i = 0; i < sh->count; i++)
		size += field(from, sh->fields[i]).len;
	return size;
}

static void *
fill(enum clone_kind kind, void *to, const void *from)
{
	const struct shape *sh = &shapes[kind];
	uint8_t *at;

	if (to == NULL)
		return NULL;
	memcpy(to, from, sh->size);
	at = (uint8_t *)to + sh->size;
	for (size_t i = 0; i < sh->count; i++) {
		struct slice s = field(from, sh->fields[i]);
		if (s.ptr == NULL)
			continue;
		if (s.len > 0)
			memcpy(at, s.ptr, s.len);
		s.ptr = at;
		at += s.len;
		memcpy((uint8_t *)to + sh->fields[i], &s, sizeof(s));
	}
	return to;
}

void *
clone_new(enum clone_kind kind, const void *from)
{
	return fill(kind, alloc_new(clone_size(kind, from) + 1), from);
}

void *
clone_in(struct arena *a, enum clone_kind kind, const void *from)
{
	return fill(kind, arena_alloc(a, clone_size(kind, from) + 1), from);
}
