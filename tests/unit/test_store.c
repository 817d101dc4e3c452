#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "io/file.h"
#include "store/schema.h"
#include "store/store.h"

#include "support/oom.h"
#include "support/store_kit.h"
#include "support/unit.h"

#define AGENT SL("agt_one")

static char dir[4096];
static struct store_config config;
static struct store *s;
static struct store_reader *r;
static struct arena arena;

static void
open_store(void)
{
	char why[512];
	int err = store_open(&s, &config, why, sizeof(why));

	if (err != 0)
		fail_msg("%s: %s", err_name(err), why);
}

static int
setup(void **state)
{
	(void)state;
	kit_folder(dir, sizeof(dir));
	config =
	    (struct store_config){ .dir = dir, .files = &file_real, .node = 3 };
	arena_init(&arena, 16 << 20);
	open_store();
	assert_int_equal(store_reader_open(&r, &config), 0);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	store_reader_close(r);
	store_close(s);
	arena_fini(&arena);
	kit_folder_remove(dir);
	return 0;
}

static int
apply(struct op op)
{
	const struct op *ops[1] = { &op };
	int err = 0;

	if (op.at == 0)
		op.at = 5000;
	int all = store_apply(s, ops, 1, &err);
	return all != 0 ? all : err;
}

static int
put_agent(struct slice id)
{
	struct agent_record a = kit_agent(id);

	return apply((struct op){ .verb = OP_PUT_AGENT, .agent = &a });
}

/* Run SQL behind the store's back. */
static void
tamper(const char *sql)
{
	char path[5000];
	sqlite3 *db;
	char *said = NULL;

	snprintf(path, sizeof(path), "%s/muster.db", dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &said) != SQLITE_OK)
		fail_msg("%s: %s", sql, said);
	sqlite3_close(db);
}

static struct command_record
read_back(const char *id)
{
	const struct command_record *row = NULL;

	assert_int_equal(
	    store_read_command(r, slice_from(id), &arena, &row), 0);
	return *row;
}

/* Lives ------------------------------------------------------------------ */

static void
test_lives(void **state)
{
	char id[32], why[512];
	struct store *second = NULL;
	struct stat st;

	(void)state;
	snprintf(id, sizeof(id), "%.*s", SLICE_FMT(store_incarnation(s)));
	assert_int_equal(strlen(id), 23);
	assert_int_equal(store_fence(s), 1);
	assert_int_equal(
	    store_open(&second, &config, why, sizeof(why)), ERR_BUSY);
	assert_non_null(strstr(why, dir));
	store_close(s);
	open_store();
	assert_int_equal(store_fence(s), 2);
	assert_slice(store_incarnation(s), slice_from(id));
	store_abandon(s);
	open_store();
	assert_int_equal(store_fence(s), 3);
	assert_slice(store_incarnation(s), slice_from(id));
	snprintf(why, sizeof(why), "%.400s/muster.db", dir);
	assert_int_equal(stat(why, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void
expect_refusal(int err, const char *word)
{
	char why[512];
	struct store *none = NULL;

	assert_int_equal(store_open(&none, &config, why, sizeof(why)), err);
	if (strstr(why, word) == NULL || strstr(why, "muster.db") == NULL)
		fail_msg("\"%s\" does not say \"%s\"", why, word);
}

static void
test_refuses_what_it_cannot_read(void **state)
{
	char sql[100];

	(void)state;
	store_close(s);
	s = NULL;
	tamper("PRAGMA user_version = 99");
	expect_refusal(ERR_NEWER, "format 99");
	snprintf(sql, sizeof(sql),
	    "PRAGMA user_version = %d; PRAGMA application_id = 7",
	    schema_version());
	tamper(sql);
	expect_refusal(ERR_INVALID, "something else");
	tamper("PRAGMA application_id = 1297306706");
	open_store();
}

static void
test_finds_damage(void **state)
{
	char path[5000];
	uint8_t noise[2048];

	(void)state;
	for (int i = 0; i < 200; i++) {
		char id[16];
		snprintf(id, sizeof(id), "agt_%d", i);
		assert_int_equal(put_agent(slice_from(id)), 0);
	}
	store_close(s);
	s = NULL;
	/* As if the process had died: only then the pages are looked at. */
	tamper("UPDATE meta SET value = x'30' WHERE key = 'store.clean'");
	snprintf(path, sizeof(path), "%s/muster.db", dir);
	int fd = open(path, O_WRONLY);
	memset(noise, 0x5a, sizeof(noise));
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 8 * 4096; at < st.st_size; at += 4096)
		assert_int_equal(
		    pwrite(fd, noise, sizeof(noise), at), sizeof(noise));
	close(fd);
	expect_refusal(ERR_CORRUPT, "musterd restore");
	assert_int_equal(truncate(path, 1000), 0);
	expect_refusal(ERR_CORRUPT, "musterd restore");
}

/* Operations --------------------------------------------------------------- */

static void
test_everything_comes_back(void **state)
{
	struct user_record user = kit_user(SL("usr_a"));
	struct token_record token = kit_token(SL("tok_a"), 7);
	struct agent_record agent = kit_agent(AGENT);
	struct hub_snapshot snap;
	char id[KIT_ID_SIZE];

	(void)state;
	user.selector = SL("team=web");
	token.allow = SL("10.0.0.0/8");
	token.old_until = 77;
	agent.has_key = true;
	memset(agent.public_key, 9, KEY_LEN);
	agent.sequence = 41;
	agent.labels_json = SL("");
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_USER, .user = &user }), 0);
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_TOKEN, .token = &token }), 0);
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_AGENT, .agent = &agent }), 0);
	agent.sequence = 7; /* a lower one does not undo it */
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_AGENT, .agent = &agent }), 0);
	kit_id(id, 1);
	struct command_record c = kit_command(slice_from(id), AGENT);
	c.env_json = SL("{\"A\":\"b\"}");
	c.said_json = SL("{\"command\":\"x\"}");
	c.token_id = SL("tok_1");
	c.timeout = 5;
	c.deadline_at = 6;
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_COMMAND, .command = &c }), 0);
	struct connection_record link = { .id = 12,
		.agent_id = AGENT,
		.remote = SL("10.1.2.3:4"),
		.opened_at = 3 };
	assert_int_equal(
	    apply((struct op){ .verb = OP_LINK_OPENED, .link = &link }), 0);
	token.used_at = 99;
	assert_int_equal(
	    apply((struct op){ .verb = OP_TOKEN_USED, .token = &token }), 0);
	store_close(s);
	open_store();
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.user_count, 1);
	assert_slice(snap.users[0].selector, SL("team=web"));
	assert_int_equal(snap.users[0].role, ROLE_OPERATOR);
	assert_int_equal(snap.token_count, 1);
	assert_int_equal(snap.tokens[0].hash[31], 7);
	assert_int_equal(snap.tokens[0].old_until, 77);
	assert_int_equal(snap.tokens[0].used_at, 99);
	assert_slice(snap.tokens[0].allow, SL("10.0.0.0/8"));
	assert_int_equal(snap.agent_count, 1);
	assert_int_equal(snap.agents[0].sequence, 41);
	assert_true(snap.agents[0].has_key);
	assert_int_equal(snap.agents[0].public_key[0], 9);
	assert_non_null(snap.agents[0].labels_json.ptr); /* empty, not absent */
	assert_null(snap.agents[0].operator_labels_json.ptr);
	assert_int_equal(snap.command_count, 1);
	assert_slice(snap.commands[0].env_json, SL("{\"A\":\"b\"}"));
	assert_slice(snap.commands[0].said_json, SL("{\"command\":\"x\"}"));
	assert_slice(snap.commands[0].token_id, SL("tok_1"));
	assert_int_equal(snap.commands[0].deadline_at, 6);
	assert_int_equal(snap.last_link, 12);
	const struct connection_record *links;
	size_t count;
	struct slice next;
	assert_int_equal(store_read_links(r, AGENT, (struct slice){ 0 }, 10,
			     &arena, &links, &count, &next),
	    0);
	assert_int_equal(count, 1);
	assert_slice(links[0].why, SL("controller_stopped"));
	assert_int_equal(links[0].closed_at, 3);
}

/* A password, and a login until it is over. */
static void
test_logins(void **state)
{
	struct user_record user = kit_user(SL("usr_a"));
	struct login_record login = { .id = SL("lgn_a"),
		.user_id = SL("usr_a"),
		.hash = { 1, 2, 3 },
		.remote = SL("10.1.2.3:4"),
		.created_at = 5,
		.expires_at = 6 };
	struct hub_snapshot snap;

	(void)state;
	user.password = SL("scrypt:15:8:3:a:b");
	user.valid_from = 77;
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_USER, .user = &user }), 0);
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_LOGIN, .login = &login }), 0);
	login.hash[0] = 9;
	login.used_at = 8;
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_LOGIN, .login = &login }), 0);
	store_close(s);
	open_store();
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_slice(snap.users[0].password, user.password);
	assert_int_equal(snap.users[0].valid_from, 77);
	assert_int_equal(snap.login_count, 1);
	assert_slice(snap.logins[0].user_id, SL("usr_a"));
	assert_memory_equal(snap.logins[0].hash, login.hash, HASH_LEN);
	assert_int_equal(snap.logins[0].used_at, 8);
	assert_int_equal(snap.logins[0].expires_at, 6);
	assert_int_equal(
	    apply((struct op){ .verb = OP_DROP_LOGIN, .login = &login }), 0);
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.login_count, 0);
}

static void
test_routes(void **state)
{
	struct route_record route = { .id = SL("rte_a"),
		.name = SL("app"),
		.host = SL("app.example.com"),
		.prefix = SL("/api"),
		.strip = true,
		.agent = SL("agt_a"),
		.target = { .service = SL("shop"),
		    .namespace = SL("web"),
		    .port = 65535,
		    .tls = true,
		    .tls_name = SL("shop.internal") },
		.wall = TUNNEL_PUBLIC,
		.idle_within = 7,
		.message_rate = 8,
		.byte_rate = UINT64_C(1) << 40,
		.origins = SL("https://a.example"),
		.rules_json = SL("{}"),
		.links_from = 9,
		.user_id = SL("usr_a"),
		.workspace_id = 1,
		.created_at = 10 };
	struct op op = { .verb = OP_PUT_ROUTE, .route = &route };
	struct hub_snapshot snap;

	(void)state;
	assert_int_equal(apply(op), 0);
	/* Another of the same name, or host and prefix, has no place. */
	struct route_record other = route;
	other.id = SL("rte_b");
	op.route = &other;
	assert_int_equal(apply(op), ERR_EXISTS);
	other.name = SL("other");
	assert_int_equal(apply(op), ERR_EXISTS);
	store_close(s);
	open_store();
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.route_count, 1);
	const struct route_record *got = &snap.routes[0];
	assert_slice(got->host, route.host);
	assert_slice(got->prefix, route.prefix);
	assert_true(got->strip);
	assert_null(got->selector.ptr);
	assert_null(got->target.host.ptr);
	assert_slice(got->target.namespace, route.target.namespace);
	assert_int_equal(got->target.port, 65535);
	assert_true(got->target.tls);
	assert_false(got->target.insecure);
	assert_slice(got->target.tls_name, route.target.tls_name);
	assert_int_equal(got->wall, TUNNEL_PUBLIC);
	assert_int_equal(got->byte_rate, route.byte_rate);
	assert_int_equal(got->links_from, 9);
	/* One that was removed is loaded no more, and in nobody's way. */
	route.removed_at = 11;
	op.route = &route;
	assert_int_equal(apply(op), 0);
	other.name = SL("app");
	op.route = &other;
	assert_int_equal(apply(op), 0);
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.route_count, 1);
	assert_slice(snap.routes[0].id, SL("rte_b"));
}

/* Who had every scope before there were two more has those, too. */
static void
test_new_scopes(void **state)
{
	const scope_set before = 0xffff;
	struct token_record all = kit_token(SL("tok_all"), 1);
	struct token_record some = kit_token(SL("tok_some"), 2);
	struct op op = { .verb = OP_PUT_TOKEN, .token = &all };
	struct slice sql = schema_migration(9);
	struct hub_snapshot snap;
	char text[256];

	(void)state;
	all.scopes = before;
	some.scopes = SCOPE_AGENT_READ;
	assert_int_equal(apply(op), 0);
	op.token = &some;
	assert_int_equal(apply(op), 0);
	store_close(s);
	while (sql.len > 0 && !slice_starts(sql, SL("UPDATE tokens")))
		sql = slice_from_at(sql, 1);
	assert_int_equal(slice_cstr(sql, text, sizeof(text)), 0);
	tamper(text);
	open_store();
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.tokens[0].scopes, SCOPES_ALL);
	assert_int_equal(snap.tokens[1].scopes, SCOPE_AGENT_READ);
}

/* Of one agent alone: pages are full, and go on where they ended. */
static bool
is_of(void *arg, const void *record)
{
	const struct command_record *c = record;
	const char *agent = arg;

	return slice_eq(c->agent_id, slice_from(agent));
}

static void
test_filtered_pages(void **state)
{
	char seen[] = "agt_seen", ids[20][KIT_ID_SIZE];
	const struct row_filter filter = { is_of, seen };
	struct command_query q = {
		.state = -1, .limit = 2, .workspace_id = 1, .filter = &filter
	};
	const struct command_record *rows;
	struct slice next = { 0 };
	size_t n, total = 0, pages = 0;

	(void)state;
	assert_int_equal(put_agent(SL("agt_seen")), 0);
	assert_int_equal(put_agent(SL("agt_hidden")), 0);
	for (uint32_t i = 0; i < 20; i++) {
		kit_id(ids[i], i);
		struct command_record c = kit_command(slice_from(ids[i]),
		    i % 7 == 0 ? SL("agt_seen") : SL("agt_hidden"));
		c.request_key = (struct slice){ 0 };
		assert_int_equal(
		    apply((struct op){ .verb = OP_PUT_COMMAND, .command = &c }),
		    0);
	}
	do {
		q.cursor = next;
		assert_int_equal(
		    store_read_commands(r, &q, &arena, &rows, &n, &next), 0);
		for (size_t i = 0; i < n; i++)
			assert_slice(rows[i].agent_id, SL("agt_seen"));
		assert_true(n == 2 || next.ptr == NULL);
		total += n;
		pages++;
	} while (next.ptr != NULL);
	assert_int_equal(total, 3);
	assert_int_equal(pages, 2);
}

static void
test_command_moves(void **state)
{
	char id[KIT_ID_SIZE];
	struct hub_snapshot snap;

	(void)state;
	assert_int_equal(put_agent(AGENT), 0);
	kit_id(id, 2);
	struct command_record c = kit_command(slice_from(id), AGENT);
	struct op op = { .verb = OP_COMMAND_SENT, .command = &c };
	c.lease_node = 3;
	c.lease_fence = store_fence(s);
	assert_int_equal(apply(op), ERR_NOT_FOUND);
	op.verb = OP_PUT_COMMAND;
	assert_int_equal(apply(op), 0);
	assert_int_equal(apply(op), ERR_EXISTS);
	op.verb = OP_COMMAND_RUNS;
	assert_int_equal(apply(op), ERR_WRONG_STATE);
	op.verb = OP_COMMAND_SENT;
	c.sequence = 8;
	c.lease_node = 4;
	assert_int_equal(apply(op), ERR_DENIED);
	c.lease_node = 3;
	c.lease_fence--;
	assert_int_equal(apply(op), ERR_DENIED);
	c.lease_fence++;
	assert_int_equal(apply(op), 0);
	assert_int_equal(apply(op), ERR_WRONG_STATE);
	assert_int_equal(read_back(id).state, COMMAND_SENT);
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.agents[0].sequence, 8);
	op.verb = OP_COMMAND_RUNS;
	c.started_at = 50;
	assert_int_equal(apply(op), 0);
	op.verb = OP_COMMAND_ENDED;
	assert_int_equal(apply(op), ERR_INVALID); /* queued is no end */
	c.state = COMMAND_FAILED;
	c.exit_code = -7;
	c.code = SL("EXEC_FAILED");
	assert_int_equal(apply(op), 0);
	assert_int_equal(apply(op), ERR_WRONG_STATE);
	assert_int_equal(read_back(id).exit_code, -7);
	assert_slice(read_back(id).code, SL("EXEC_FAILED"));
	/* Said again: the same, another, of somebody else, of nothing. */
	op.verb = OP_COMMAND_AGAIN;
	assert_int_equal(apply(op), 0);
	c.out_bytes = 1;
	assert_int_equal(apply(op), ERR_WRONG_STATE);
	c.out_bytes = 0;
	c.exit_code = 0;
	assert_int_equal(apply(op), ERR_WRONG_STATE);
	c.exit_code = -7;
	c.agent_id = SL("another");
	assert_int_equal(apply(op), ERR_NOT_FOUND);
	c.id = SL("cmd_none");
	assert_int_equal(apply(op), ERR_NOT_FOUND);
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.command_count, 0);
}

static void
test_sent_at_once(void **state)
{
	char id[KIT_ID_SIZE];

	(void)state;
	assert_int_equal(put_agent(AGENT), 0);
	kit_id(id, 3);
	struct command_record c = kit_command(slice_from(id), AGENT);
	struct op op = { .verb = OP_PUT_COMMAND, .command = &c };
	c.state = COMMAND_SENT;
	c.sequence = 1;
	c.lease_node = 3;
	assert_int_equal(apply(op), ERR_DENIED); /* fence of the past */
	c.lease_fence = store_fence(s);
	assert_int_equal(apply(op), 0);
	assert_int_equal(read_back(id).sequence, 1);
	/* No such agent: nothing may be dispatched to it. */
	kit_id(id, 4);
	c.agent_id = SL("agt_none");
	assert_int_equal(apply(op), ERR_MISSING);
}

/* What its agent had no room for waits again. */
static void
test_sent_and_back(void **state)
{
	char id[KIT_ID_SIZE];

	(void)state;
	assert_int_equal(put_agent(AGENT), 0);
	kit_id(id, 3);
	struct command_record c = kit_command(slice_from(id), AGENT);
	struct op op = { .verb = OP_PUT_COMMAND, .command = &c };
	c.state = COMMAND_SENT;
	c.sequence = 1;
	c.lease_node = 1;
	c.lease_fence = store_fence(s);
	assert_int_equal(apply(op), 0);
	op.verb = OP_COMMAND_BACK;
	assert_int_equal(apply(op), 0);
	assert_int_equal(read_back(id).state, COMMAND_QUEUED);
	assert_int_equal(apply(op), ERR_WRONG_STATE);
	op.verb = OP_COMMAND_SENT;
	c.sequence = 2;
	assert_int_equal(apply(op), 0);
	/* That of an older dispatch means nothing. */
	op.verb = OP_COMMAND_BACK;
	c.sequence = 1;
	assert_true(apply(op) < 0);
	assert_int_equal(read_back(id).state, COMMAND_SENT);
	assert_int_equal(read_back(id).sequence, 2);
}

static void
test_request_keys(void **state)
{
	char id[KIT_ID_SIZE], other[KIT_ID_SIZE];
	const struct command_record *row;

	(void)state;
	assert_int_equal(put_agent(AGENT), 0);
	kit_id(id, 5);
	kit_id(other, 6);
	struct command_record c = kit_command(slice_from(id), AGENT);
	struct op op = { .verb = OP_PUT_COMMAND, .command = &c };
	c.request_key = SL("k1");
	c.created_at = 1000;
	assert_int_equal(apply(op), 0);
	c.id = slice_from(other);
	c.created_at = 1000 + 24 * 3600 * 1000 - 1;
	assert_int_equal(apply(op), ERR_EXISTS);
	assert_int_equal(
	    store_read_command_key(r, 1, c.user_id, SL("k1"), &arena, &row), 0);
	assert_slice(row->id, slice_from(id));
	c.created_at++;
	assert_int_equal(apply(op), 0); /* a day later it is a new one */
	assert_int_equal(
	    store_read_command_key(r, 1, c.user_id, SL("k1"), &arena, &row), 0);
	assert_slice(row->id, slice_from(other));
}

static void
test_one_failure_undoes_one(void **state)
{
	struct user_record a = kit_user(SL("usr_1")), b = kit_user(SL("usr_2"));
	struct token_record t1 = kit_token(SL("tok_1"), 5),
			    t2 = kit_token(SL("tok_2"), 5);
	struct op ops[] = {
		{ .verb = OP_PUT_USER, .user = &a, .at = 1 },
		{ .verb = OP_PUT_TOKEN, .token = &t1, .at = 2 },
		{ .verb = OP_PUT_TOKEN, .token = &t2, .at = 3 }, /* same hash */
		{ .verb = OP_PUT_USER, .user = &b, .at = 4 },
		{ .verb = OP_PUT_META,
		    .meta = { SL("store.fence"), SL("9") },
		    .at = 5 },
		{ .verb = OP_PUT_META,
		    .meta = { SL("stop_epoch"), SL("9") },
		    .at = 6 },
	};
	const struct op *list[6];
	struct hub_snapshot snap;
	struct audit_record bad;
	struct slice value;
	uint64_t lines;
	int errs[6];

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		ops[i].audit = kit_note("test", SL("x"));
		list[i] = &ops[i];
	}
	assert_int_equal(store_apply(s, list, 6, errs), 0);
	const int want[6] = { 0, 0, ERR_EXISTS, 0, ERR_DENIED, 0 };
	assert_memory_equal(errs, want, sizeof(want));
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_int_equal(snap.user_count, 2);
	assert_int_equal(snap.token_count, 1);
	/* What was undone left no line, and no hole in the chain. */
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 4);
	assert_int_equal(
	    store_read_meta(r, SL("stop_epoch"), &arena, &value), 0);
	assert_slice(value, SL("9"));
}

static void
test_batch_fails_whole(void **state)
{
	struct user_record u = kit_user(SL("usr_f"));
	struct audit_record bad;
	uint64_t lines;
	int fault = ERR_NO_SPACE;
	struct op op = { .verb = OP_PUT_USER,
		.user = &u,
		.audit = kit_note("user.add", SL("usr_f")) };

	(void)state;
	store_close(s);
	config.fault = &fault;
	open_store();
	assert_int_equal(apply(op), ERR_NO_SPACE);
	fault = 0;
	assert_int_equal(apply(op), 0);
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 1);
}

/* Every table says which text it can not hold. */
static void
test_odd_values(void **state)
{
	struct connection_record link = { .id = UINT64_MAX, .agent_id = AGENT };
	struct user_record u = kit_user(SL("usr_odd"));

	(void)state;
	assert_int_equal(put_agent(AGENT), 0);
	assert_int_equal(
	    apply((struct op){ .verb = OP_LINK_OPENED, .link = &link }),
	    ERR_RANGE);
	u.role = (enum role)9;
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_USER, .user = &u }), ERR_RANGE);
	u.role = ROLE_ADMIN;
	u.name = (struct slice){ 0 };
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_USER, .user = &u }), ERR_INVALID);
	u.name = SL("o'hara \"\0 \xc3\xa9");
	assert_int_equal(
	    apply((struct op){ .verb = OP_PUT_USER, .user = &u }), 0);
	struct hub_snapshot snap;
	assert_int_equal(store_load(s, &arena, &snap), 0);
	assert_slice(snap.users[0].name, u.name);
	/* The contents of a database are hostile too. */
	tamper(
	    "PRAGMA ignore_check_constraints = 1; UPDATE users SET role = 17");
	assert_int_equal(store_load(s, &arena, &snap), ERR_CORRUPT);
	tamper("UPDATE users SET role = 1");
	assert_int_equal(store_load(s, &arena, &snap), 0);
}

/* The journal ------------------------------------------------------------- */

static void
write_lines(int from, int to)
{
	for (int i = from; i < to; i++) {
		struct op op = { .verb = OP_AUDIT,
			.at = 1000 + i,
			.audit = kit_note("test.line", SL("thing")) };
		if (i % 2 == 0)
			op.audit.detail_json = SL("{\"n\":1}");
		assert_int_equal(apply(op), 0);
	}
}

static void
expect_break(const char *sql, const char *mend, uint64_t number)
{
	struct audit_record bad = { 0 };
	uint64_t lines;

	tamper(sql);
	assert_int_equal(
	    store_verify_audit(r, &lines, &bad, &arena), ERR_CORRUPT);
	assert_int_equal(bad.number, number);
	if (mend != NULL) {
		tamper(mend);
		assert_int_equal(
		    store_verify_audit(r, &lines, &bad, &arena), 0);
	}
}

static void
test_chain_breaks(void **state)
{
	(void)state;
	write_lines(0, 20);
	expect_break("UPDATE audit SET actor = 'eve' WHERE number = 7",
	    "UPDATE audit SET actor = 'usr_alice' WHERE number = 7", 7);
	expect_break("UPDATE audit SET remote = '' WHERE number = 8",
	    "UPDATE audit SET remote = NULL WHERE number = 8", 8);
	expect_break("UPDATE audit SET workspace_id = 2 WHERE number = 9",
	    "UPDATE audit SET workspace_id = 1 WHERE number = 9", 9);
	/* Moving bytes from one field to the next is a change. */
	expect_break("UPDATE audit SET object = 'thin', result = 'gok'"
		     " WHERE number = 10",
	    "UPDATE audit SET object = 'thing', result = 'ok'"
	    " WHERE number = 10",
	    10);
	expect_break("DELETE FROM audit WHERE number = 12", NULL, 13);
}

static void
test_chain_survives(void **state)
{
	struct audit_record bad;
	uint64_t lines;
	bool more;

	(void)state;
	write_lines(0, 10);
	store_abandon(s);
	open_store();
	write_lines(10, 20);
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 20);
	assert_int_equal(store_prune(s, 0, 1015, 9000, &more), 0);
	assert_false(more);
	write_lines(20, 25);
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 5 + 1 + 5);
	/* The first of those left belongs to what was pruned. */
	expect_break("DELETE FROM audit WHERE number = 16", NULL, 17);
}

static void
test_all_lines_pruned(void **state)
{
	struct audit_record bad;
	uint64_t lines;
	bool more;

	(void)state;
	write_lines(0, 3);
	assert_int_equal(store_prune(s, 0, INT64_MAX, 9000, &more), 0);
	store_close(s);
	open_store();
	write_lines(3, 5);
	assert_int_equal(store_verify_audit(r, &lines, &bad, &arena), 0);
	assert_int_equal(lines, 3);
	const struct audit_record *rows;
	size_t count;
	struct slice next;
	assert_int_equal(store_read_audit(r, (struct slice){ 0 }, 2, NULL,
			     &arena, &rows, &count, &next),
	    0);
	assert_int_equal(count, 2);
	assert_int_equal(rows[0].number, 6);
	assert_int_equal(rows[0].node, 3);
	assert_int_equal(
	    store_read_audit(r, next, 2, NULL, &arena, &rows, &count, &next),
	    0);
	assert_int_equal(count, 1);
	assert_slice(rows[0].note.action, SL("audit.prune"));
	assert_null(next.ptr);
}

/* Lists ---------------------------------------------------------------------
 */

static void
test_lists(void **state)
{
	char id[KIT_ID_SIZE];
	struct command_query q = { .state = -1, .limit = 7, .workspace_id = 1 };
	const struct command_record *rows;
	size_t count, seen = 0;

	(void)state;
	assert_int_equal(put_agent(AGENT), 0);
	assert_int_equal(put_agent(SL("agt_two")), 0);
	for (uint32_t i = 0; i < 40; i++) {
		kit_id(id, i);
		struct command_record c = kit_command(
		    slice_from(id), i % 4 == 0 ? SL("agt_two") : AGENT);
		if (i % 5 == 0)
			c.user_id = SL("usr_bob");
		c.state = i % 2 == 0 ? COMMAND_COMPLETED : COMMAND_QUEUED;
		if (i == 39)
			c.workspace_id = 2;
		assert_int_equal(
		    apply((struct op){ .verb = OP_PUT_COMMAND, .command = &c }),
		    0);
	}
	uint32_t last = 39;
	do {
		assert_int_equal(store_read_commands(
				     r, &q, &arena, &rows, &count, &q.cursor),
		    0);
		for (size_t i = 0; i < count; i++) {
			kit_id(id, --last);
			assert_slice(rows[i].id, slice_from(id));
		}
		seen += count;
	} while (q.cursor.ptr != NULL);
	assert_int_equal(seen, 39);
	q.limit = 100;
	q.agent_id = SL("agt_two");
	assert_int_equal(
	    store_read_commands(r, &q, &arena, &rows, &count, &q.cursor), 0);
	assert_int_equal(count, 10);
	q.user_id = SL("usr_bob");
	assert_int_equal(
	    store_read_commands(r, &q, &arena, &rows, &count, &q.cursor), 0);
	assert_int_equal(count, 2);
	q.agent_id = (struct slice){ 0 };
	q.state = COMMAND_QUEUED;
	assert_int_equal(
	    store_read_commands(r, &q, &arena, &rows, &count, &q.cursor), 0);
	assert_int_equal(count, 4);
	q.cursor = SL("1 OR 1");
	assert_int_equal(
	    store_read_commands(r, &q, &arena, &rows, &count, &q.cursor),
	    ERR_INVALID);
	assert_int_equal(store_read_command(r, SL("cmd_none"), &arena, &rows),
	    ERR_NOT_FOUND);
}

/* In memory ------------------------------------------------------------------
 */

static void
test_memory(void **state)
{
	struct store_config c = { .node = 1 };
	struct user_record u = kit_user(SL("usr_m"));
	struct op op = { .verb = OP_PUT_USER, .user = &u };
	const struct op *ops[1] = { &op };
	struct hub_snapshot snap;
	struct store *m;
	uint64_t end = 1;
	int err;

	(void)state;
	assert_int_equal(store_open_memory(&m, &c), 0);
	assert_int_equal(store_apply(m, ops, 1, &err), 0);
	assert_int_equal(store_load(m, &arena, &snap), 0);
	assert_int_equal(snap.user_count, 1);
	assert_int_equal(
	    store_output_append(m, SL("cmd_x"), OUTPUT_OUT, 0, SL("bytes")), 0);
	assert_int_equal(store_output_end(m, SL("cmd_x"), OUTPUT_OUT, &end), 0);
	assert_int_equal(end, 0);
	store_close(m);
}

/* Without memory ------------------------------------------------------------
 */

static void
expect_fine(int err)
{
	if (err != 0 && err != ERR_NOMEM)
		fail_msg("%s", err_name(err));
}

static void
work_with(struct store *mine, struct store_reader *reader)
{
	struct user_record u = kit_user(SL("usr_o"));
	struct op op = { .verb = OP_PUT_USER,
		.user = &u,
		.audit = kit_note("user.add", SL("usr_o")) };
	const struct op *ops[1] = { &op };
	const struct audit_record *rows;
	struct audit_record bad;
	struct hub_snapshot snap;
	struct slice next;
	uint8_t got[8];
	uint64_t lines, after;
	char id[KIT_ID_SIZE];
	size_t count;
	int err;

	expect_fine(store_apply(mine, ops, 1, &err));
	arena_reset(&arena);
	expect_fine(store_load(mine, &arena, &snap));
	kit_id(id, 1);
	expect_fine(store_output_append(
	    mine, slice_from(id), OUTPUT_OUT, 0, SL("text")));
	expect_fine(store_output_sync(mine));
	expect_fine(store_read_audit(reader, (struct slice){ 0 }, 10, NULL,
	    &arena, &rows, &count, &next));
	expect_fine(store_verify_audit(reader, &lines, &bad, &arena));
	int64_t n = store_read_output(
	    reader, slice_from(id), OUTPUT_OUT, 0, got, sizeof(got), &after);
	if (n != 4 && n != ERR_NOT_FOUND)
		expect_fine((int)n);
}

static void
live_without_memory(void *arg)
{
	const struct store_config *c = arg;
	struct store *mine = NULL;
	struct store_reader *reader = NULL;
	char why[512];

	int err = store_open(&mine, c, why, sizeof(why));
	expect_fine(err);
	if (err != 0)
		return;
	err = store_reader_open(&reader, c);
	expect_fine(err);
	if (err == 0)
		work_with(mine, reader);
	store_reader_close(reader);
	store_close(mine);
}

static void
back_up_without_memory(void *arg)
{
	char file[5000], why[512];

	snprintf(file, sizeof(file), "%s/b", dir);
	expect_fine(store_backup(arg, file, why, sizeof(why)));
}

static void
restore_without_memory(void *arg)
{
	char file[5000], to[5000], why[512];
	struct store_config c = *(struct store_config *)arg;

	snprintf(file, sizeof(file), "%s/b", dir);
	snprintf(to, sizeof(to), "%s/to", dir);
	c.dir = to;
	expect_fine(store_restore(&c, file, why, sizeof(why)));
	kit_folder_remove(to);
}

static void
test_no_memory(void **state)
{
	char inner[5000];
	struct store_config c = config;

	(void)state;
	snprintf(inner, sizeof(inner), "%s/inner", dir);
	c.dir = inner;
	oom_torture(live_without_memory, &c);
	oom_torture(back_up_without_memory, &c);
	oom_torture(restore_without_memory, &c);
}

int
main(void)
{
#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_lives),
		STORE_TEST(test_refuses_what_it_cannot_read),
		STORE_TEST(test_finds_damage),
		STORE_TEST(test_everything_comes_back),
		STORE_TEST(test_logins),
		STORE_TEST(test_routes),
		STORE_TEST(test_new_scopes),
		STORE_TEST(test_filtered_pages),
		STORE_TEST(test_command_moves),
		STORE_TEST(test_sent_at_once),
		STORE_TEST(test_sent_and_back),
		STORE_TEST(test_request_keys),
		STORE_TEST(test_one_failure_undoes_one),
		STORE_TEST(test_batch_fails_whole),
		STORE_TEST(test_odd_values),
		STORE_TEST(test_chain_breaks),
		STORE_TEST(test_chain_survives),
		STORE_TEST(test_all_lines_pruned),
		STORE_TEST(test_lists),
		STORE_TEST(test_memory),
		STORE_TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
