#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

#include "agent/record.h"
#include "agent/runner_order.h"

/* A part ends with NUL: no value can smuggle in another. */
static void
put_text(struct buf *b, const char *key, struct slice value)
{
	record_put(b, '\0', key, value);
}

static void
put_u64(struct buf *b, const char *key, uint64_t n)
{
	record_put_u64(b, '\0', key, n);
}

static void
put_ms(struct buf *b, const char *key, msec ms, msec none)
{
	if (ms > none)
		put_u64(b, key, (uint64_t)ms);
}

int
order_find_user(struct order_user *u, const char *name)
{
	if (strcmp(name, u->name) == 0)
		return 0;
	struct passwd *pw = getpwnam(name);
	size_t len = strlen(name);
	if (pw == NULL || len >= sizeof(u->name))
		return ERR_NOT_FOUND;
	u->group_count = ORDER_GROUPS;
	if (getgrouplist(name, pw->pw_gid, u->groups, &u->group_count) < 0)
		return ERR_TOO_BIG;
	u->uid = pw->pw_uid;
	u->gid = pw->pw_gid;
	memcpy(u->name, name, len + 1);
	return 0;
}

static void
put_user(struct buf *b, const struct order_user *u)
{
	/* Whoever is not root stays who he is. */
	if (u->uid == geteuid())
		return;
	put_u64(b, "uid", u->uid);
	put_u64(b, "gid", u->gid);
	buf_put(b, SL("groups="));
	for (int i = 0; i < u->group_count; i++) {
		if (i > 0)
			buf_put_byte(b, ',');
		buf_put_u64(b, u->groups[i]);
	}
	buf_put_byte(b, '\0');
}

void
order_put(struct buf *b, const struct run_order *o,
    const struct runner_config *c, const struct order_user *u)
{
	put_u64(b, "muster-order", HOLDER_VERSION);
	put_text(b, "state", slice_from(c->state));
	put_text(b, "id", o->id);
	put_u64(b, "seq", o->seq);
	put_u64(b, "epoch", o->epoch);
	put_text(b, "stdin", o->input ? SL("1") : SL("0"));
	put_text(b, "full", o->drop ? SL("drop") : SL("wait"));
	put_text(b, "linger", o->keep_lingering ? SL("keep") : SL("kill"));
	put_ms(b, "timeout_ms", o->timeout, 0);
	put_ms(b, "int_ms", o->int_ms, 0);
	put_ms(b, "term_ms", o->term_ms, 0);
	put_ms(b, "drain_ms", o->drain_ms, 0);
	if (o->cap != 0)
		put_u64(b, "cap", o->cap);
	if (o->cwd.len > 0)
		put_text(b, "cwd", o->cwd);
	if (c->cgroup != NULL)
		put_text(b, "cgroup", slice_from(c->cgroup));
	if (c->stop != NULL)
		put_text(b, "stop", slice_from(c->stop));
	if (o->user != NULL)
		put_user(b, u);
	for (size_t i = 0; i < o->envc; i++)
		put_text(b, "env", o->env[i]);
	for (size_t i = 0; i < o->argc; i++)
		put_text(b, "arg", o->argv[i]);
}

bool
order_good_id(struct slice id)
{
	for (size_t i = 0; i < id.len; i++) {
		uint8_t c = id.ptr[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') && c != '_' && c != '-')
			return false;
	}
	return id.len > 0 && id.len <= HOLDER_ID_MAX;
}
