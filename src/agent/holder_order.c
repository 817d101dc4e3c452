#include <stdlib.h>
#include <string.h>

#include "agent/holder_proto.h"

#include "agent/holder_order.h"

enum kind { TEXT, NUMBER, YES };

struct key {
	const char *name;
	enum kind kind;
	size_t at;
	const char *no, *yes; /* the two words of YES */
};

#define AT(member) offsetof(struct order, member)

static const struct key keys[] = {
	{ "state", TEXT, AT(state), NULL, NULL },
	{ "id", TEXT, AT(id), NULL, NULL },
	{ "cwd", TEXT, AT(cwd), NULL, NULL },
	{ "cgroup", TEXT, AT(cgroup), NULL, NULL },
	{ "stop", TEXT, AT(stop), NULL, NULL },
	{ "seq", NUMBER, AT(seq), NULL, NULL },
	{ "epoch", NUMBER, AT(epoch), NULL, NULL },
	{ "uid", NUMBER, AT(uid), NULL, NULL },
	{ "gid", NUMBER, AT(gid), NULL, NULL },
	{ "timeout_ms", NUMBER, AT(timeout_ms), NULL, NULL },
	{ "int_ms", NUMBER, AT(int_ms), NULL, NULL },
	{ "term_ms", NUMBER, AT(term_ms), NULL, NULL },
	{ "drain_ms", NUMBER, AT(drain_ms), NULL, NULL },
	{ "cap", NUMBER, AT(cap), NULL, NULL },
	{ "stdin", YES, AT(input), "0", "1" },
	{ "full", YES, AT(drop), "wait", "drop" },
	{ "linger", YES, AT(kill_linger), "keep", "kill" },
};

static int
number(const char *text, uint64_t *out)
{
	uint64_t n = 0;

	if (*text == '\0' || strlen(text) > 18)
		return -1;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		n = n * 10 + (uint64_t)(*text - '0');
	}
	*out = n;
	return 0;
}

static int
set_yes(const struct key *k, const char *value, bool *out)
{
	bool yes = strcmp(value, k->yes) == 0;

	if (!yes && strcmp(value, k->no) != 0)
		return -1;
	*out = yes;
	return 0;
}

static int
set_key(struct order *o, const struct key *k, const char *value)
{
	void *at = (char *)o + k->at;

	if (k->kind == NUMBER)
		return number(value, at);
	if (k->kind == YES)
		return set_yes(k, value, at);
	*(const char **)at = value;
	return 0;
}

static int
set_groups(struct order *o, char *value)
{
	char *word;
	uint64_t n;

	while ((word = strsep(&value, ",")) != NULL) {
		if (o->groups == ORDER_GROUPS || number(word, &n) != 0)
			return -1;
		o->group[o->groups++] = (gid_t)n;
	}
	return 0;
}

static int
add_word(char **list, size_t *count, char *word)
{
	if (*count == ORDER_WORDS)
		return -1;
	list[(*count)++] = word;
	return 0;
}

static int
set(struct order *o, const char *name, char *value)
{
	if (strcmp(name, "arg") == 0) {
		o->argv_hash =
		    holder_fnv(o->argv_hash, value, strlen(value) + 1);
		return add_word(o->arg, &o->args, value);
	}
	if (strcmp(name, "env") == 0)
		return add_word(o->env, &o->envs, value);
	if (strcmp(name, "groups") == 0)
		return set_groups(o, value);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(name, keys[i].name) == 0)
			return set_key(o, &keys[i], value);
	return -1;
}

/* It becomes a path component: nothing that could walk away. */
static bool
good_id(const char *id)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	return id != NULL && *id != '\0' && strlen(id) <= HOLDER_ID_MAX &&
	    id[strspn(id, allowed)] == '\0';
}

static const char *
check(const struct order *o)
{
	if (o->state == NULL || o->state[0] != '/')
		return "no absolute state directory";
	if (!good_id(o->id))
		return "no valid id";
	if (o->args == 0 || o->arg[0][0] == '\0')
		return "nothing to run";
	if (o->cap < HOLDER_INPUT_WINDOW)
		return "cap below 64 KiB";
	if ((o->uid == UINT64_MAX) != (o->gid == UINT64_MAX))
		return "uid and gid go together";
	return NULL;
}

int
order_parse(
    struct order *o, char *text, size_t len, const char **why, bool *newer)
{
	static const char version[] = "muster-order=";
	uint64_t n;

	o->uid = o->gid = UINT64_MAX;
	o->int_ms = 5000;
	o->term_ms = 10000;
	o->drain_ms = 2000;
	o->cap = (uint64_t)256 << 20;
	o->argv_hash = HOLDER_FNV;
	*newer = false;
	*why = "not an order";
	if (len == 0 || text[len - 1] != '\0' ||
	    strncmp(text, version, sizeof(version) - 1) != 0 ||
	    number(text + sizeof(version) - 1, &n) != 0)
		return -1;
	*newer = n > HOLDER_VERSION;
	*why = "the order is of a newer version than this holder";
	if (n != HOLDER_VERSION)
		return -1;
	char *end = text + len;
	for (text += strlen(text) + 1; text < end;) {
		char *next = text + strlen(text) + 1;
		char *value = strchr(text, '=');
		*why = text;
		if (value == NULL)
			return -1;
		*value++ = '\0';
		if (set(o, text, value) != 0)
			return -1;
		text = next;
	}
	*why = check(o);
	return *why == NULL ? 0 : -1;
}
