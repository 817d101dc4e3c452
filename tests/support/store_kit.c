#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/store_kit.h"

void
kit_id(char out[KIT_ID_SIZE], uint32_t n)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";

	memcpy(out, "cmd_aaaaaaaaaaaaaaaaaaaa", KIT_ID_SIZE);
	for (int i = 23; n > 0; i--, n /= 32)
		out[i] = digits[n % 32];
	out[5] = out[23]; /* spread over folders */
}

struct user_record
kit_user(struct slice id)
{
	return (struct user_record){ .id = id,
		.name = SL("alice"),
		.role = ROLE_OPERATOR,
		.workspace_id = 1,
		.created_at = 1000 };
}

struct token_record
kit_token(struct slice id, uint8_t hash)
{
	struct token_record t = { .id = id,
		.name = SL("fleet"),
		.shown = SL("clt_abcdef"),
		.scopes = SCOPES_CLUSTER,
		.max_connections = 10000,
		.workspace_id = 1,
		.created_at = 1000 };

	memset(t.hash, hash, HASH_LEN);
	return t;
}

struct agent_record
kit_agent(struct slice id)
{
	return (struct agent_record){ .id = id,
		.cluster_id = SL("8c3f7a52-0000-4000-8000-000000000001"),
		.name = SL("web 1"),
		.info_json = SL("{\"host\":\"web-1\"}"),
		.workspace_id = 1,
		.created_at = 1000,
		.registered_at = 1000 };
}

struct command_record
kit_command(struct slice id, struct slice agent_id)
{
	return (struct command_record){ .id = id,
		.agent_id = agent_id,
		.user_id = SL("usr_alice"),
		.argv_json = SL("[\"true\"]"),
		.priority = 1,
		.workspace_id = 1,
		.created_at = 2000 };
}

struct audit_note
kit_note(const char *action, struct slice object)
{
	return (struct audit_note){ .actor = SL("usr_alice"),
		.action = slice_from(action),
		.object = object,
		.result = SL("ok") };
}

void
kit_folder(char *out, size_t size)
{
	const char *base = getenv("TMPDIR");

	snprintf(out, size, "%s/store.XXXXXX", base == NULL ? "/tmp" : base);
	if (mkdtemp(out) == NULL)
		abort();
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

void
kit_folder_remove(const char *path)
{
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
