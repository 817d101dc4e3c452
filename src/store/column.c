#include <assert.h>
#include <limits.h>

#include "base/err.h"

#include "model/record.h"
#include "model/stop.h"
#include "model/tunnel.h"

#include "store/column.h"

/* clang-format off */
#define COL(record, field, kind) { #field, COLUMN_##kind, offsetof(struct record, field), 0 }
#define COL_MAX(record, field, kind, max) { #field, COLUMN_##kind, offsetof(struct record, field), (max) }
#define TABLE(name, record) \
	const struct table table_##name = { name##_columns, sizeof(name##_columns) / sizeof(name##_columns[0]), sizeof(struct record) }

static const struct column user_columns[] = {
	COL(user_record, id, TEXT),
	COL(user_record, name, TEXT),
	COL_MAX(user_record, role, U32, ROLE_ADMIN),
	COL(user_record, selector, TEXT),
	COL(user_record, password, TEXT),
	COL(user_record, workspace_id, I64),
	COL(user_record, created_at, I64),
	COL(user_record, removed_at, I64),
	COL(user_record, valid_from, I64),
};
TABLE(user, user_record);

static const struct column login_columns[] = {
	COL(login_record, id, TEXT),
	COL(login_record, user_id, TEXT),
	COL(login_record, hash, HASH),
	COL(login_record, cookie, BOOL),
	COL(login_record, remote, TEXT),
	COL(login_record, created_at, I64),
	COL(login_record, used_at, I64),
	COL(login_record, expires_at, I64),
};
TABLE(login, login_record);

static const struct column token_columns[] = {
	COL(token_record, id, TEXT),
	COL(token_record, name, TEXT),
	COL(token_record, shown, TEXT),
	COL(token_record, hash, HASH),
	COL(token_record, old_hash, HASH),
	COL(token_record, old_until, I64),
	COL(token_record, scopes, U32),
	COL(token_record, user_id, TEXT),
	COL(token_record, allow, TEXT),
	COL(token_record, max_connections, U32),
	COL(token_record, workspace_id, I64),
	COL(token_record, created_at, I64),
	COL(token_record, expires_at, I64),
	COL(token_record, revoked_at, I64),
	COL(token_record, used_at, I64),
};
TABLE(token, token_record);

static const struct column agent_columns[] = {
	COL(agent_record, id, TEXT),
	COL(agent_record, cluster_id, TEXT),
	COL(agent_record, name, TEXT),
	COL(agent_record, token_id, TEXT),
	COL(agent_record, has_key, BOOL),
	COL(agent_record, public_key, HASH),
	COL(agent_record, install_id, TEXT),
	COL(agent_record, info_json, TEXT),
	COL(agent_record, labels_json, TEXT),
	COL(agent_record, operator_labels_json, TEXT),
	COL(agent_record, sequence, U64),
	COL(agent_record, workspace_id, I64),
	COL(agent_record, created_at, I64),
	COL(agent_record, registered_at, I64),
	COL(agent_record, seen_at, I64),
	COL(agent_record, removed_at, I64),
	COL(agent_record, cordoned_at, I64),
};
TABLE(agent, agent_record);

static const struct column command_columns[] = {
	COL(command_record, id, TEXT),
	COL(command_record, agent_id, TEXT),
	COL(command_record, user_id, TEXT),
	COL(command_record, request_key, TEXT),
	COL_MAX(command_record, state, U32, COMMAND_STATES - 1),
	COL(command_record, argv_json, TEXT),
	COL(command_record, env_json, TEXT),
	COL(command_record, said_json, TEXT),
	COL(command_record, cwd, TEXT),
	COL(command_record, exec_user, TEXT),
	COL(command_record, foreground, BOOL),
	COL(command_record, wants_stdin, BOOL),
	COL(command_record, shell, BOOL),
	COL(command_record, drops, BOOL),
	COL(command_record, token_id, TEXT),
	COL(command_record, priority, U8),
	COL(command_record, timeout, I64),
	COL(command_record, deadline_at, I64),
	COL(command_record, sequence, U64),
	COL(command_record, lease_node, U32),
	COL(command_record, lease_fence, U64),
	COL(command_record, exit_code, INT),
	COL(command_record, signal, INT),
	COL(command_record, code, TEXT),
	COL(command_record, why, TEXT),
	COL(command_record, lingering, U32),
	COL(command_record, out_bytes, U64),
	COL(command_record, err_bytes, U64),
	COL(command_record, workspace_id, I64),
	COL(command_record, created_at, I64),
	COL(command_record, sent_at, I64),
	COL(command_record, started_at, I64),
	COL(command_record, finished_at, I64),
};
TABLE(command, command_record);

static const struct column link_columns[] = {
	COL(connection_record, id, U64),
	COL(connection_record, agent_id, TEXT),
	COL(connection_record, session_id, TEXT),
	COL(connection_record, remote, TEXT),
	COL(connection_record, dialect, TEXT),
	COL(connection_record, opened_at, I64),
	COL(connection_record, closed_at, I64),
	COL(connection_record, why, TEXT),
};
TABLE(link, connection_record);

static const struct column stop_columns[] = {
	COL(stop_record, epoch, U64),
	COL_MAX(stop_record, scope, U32, STOP_AGENT),
	COL(stop_record, target, TEXT),
	COL(stop_record, bound, TEXT),
	COL(stop_record, keep_tunnels, BOOL),
	COL(stop_record, reason, TEXT),
	COL(stop_record, actor, TEXT),
	COL(stop_record, at, I64),
	COL(stop_record, lifted_epoch, U64),
	COL(stop_record, lifted_by, TEXT),
	COL(stop_record, lifted_at, I64),
	COL(stop_record, workspace_id, I64),
	COL(stop_record, request_key, TEXT),
};
TABLE(stop, stop_record);

#define SAID(name, field, kind) { #name, COLUMN_##kind, offsetof(struct receipt_record, report.field), 0 }
static const struct column receipt_columns[] = {
	COL(receipt_record, epoch, U64),
	COL(receipt_record, agent_id, TEXT),
	COL_MAX(receipt_record, kind, U32, RECEIPT_KINDS - 1),
	COL(receipt_record, told_at, I64),
	COL(receipt_record, at, I64),
	SAID(began_at, began_at, I64),
	SAID(done_at, done_at, I64),
	SAID(ended, commands, U32),
	SAID(killed, killed, U32),
	SAID(outlived, left, U32),
	SAID(detail_json, detail_json, TEXT),
};
TABLE(receipt, receipt_record);

static const struct column secret_columns[] = {
	COL(secret_record, id, TEXT),
	COL(secret_record, agent_id, TEXT),
	COL(secret_record, prefix, BOOL),
	COL(secret_record, sealed, TEXT),
	COL(secret_record, old_sealed, TEXT),
	COL(secret_record, old_until, I64),
	COL(secret_record, workspace_id, I64),
	COL(secret_record, created_at, I64),
	COL(secret_record, rotated_at, I64),
};
TABLE(secret, secret_record);

static const struct column log_columns[] = {
	COL(log_record, agent_id, TEXT),
	COL(log_record, at, I64),
	COL(log_record, said_at, I64),
	COL(log_record, level, TEXT),
	COL(log_record, source, TEXT),
	COL(log_record, message, TEXT),
	COL(log_record, workspace_id, I64),
};
TABLE(log, log_record);
#define TO(field, kind) { "target_" #field, COLUMN_##kind, offsetof(struct route_record, target.field), 0 }
static const struct column route_columns[] = {
	COL(route_record, id, TEXT),
	COL(route_record, name, TEXT),
	COL(route_record, host, TEXT),
	COL(route_record, prefix, TEXT),
	COL(route_record, strip, BOOL),
	COL(route_record, agent, TEXT),
	COL(route_record, selector, TEXT),
	TO(host, TEXT),
	TO(service, TEXT),
	TO(namespace, TEXT),
	TO(port, U16),
	TO(tls, BOOL),
	TO(insecure, BOOL),
	TO(tls_name, TEXT),
	COL_MAX(route_record, wall, U32, TUNNEL_PUBLIC),
	COL(route_record, connect_within, I64),
	COL(route_record, answer_within, I64),
	COL(route_record, idle_within, I64),
	COL(route_record, message_rate, U32),
	COL(route_record, byte_rate, U64),
	COL(route_record, origins, TEXT),
	COL(route_record, rules_json, TEXT),
	COL(route_record, links_from, I64),
	COL(route_record, user_id, TEXT),
	COL(route_record, workspace_id, I64),
	COL(route_record, created_at, I64),
	COL(route_record, removed_at, I64),
};
TABLE(route, route_record);

#define NOTE(field) { #field, COLUMN_TEXT, offsetof(struct audit_record, note.field), 0 }
static const struct column audit_columns[] = {
	COL(audit_record, node, U32),
	COL(audit_record, number, U64),
	COL(audit_record, at, I64),
	NOTE(actor),
	NOTE(action),
	NOTE(object),
	NOTE(result),
	NOTE(request_id),
	NOTE(remote),
	NOTE(detail_json),
	COL(audit_record, prev_hash, HASH),
	COL(audit_record, hash, HASH),
};
TABLE(audit, audit_record);

static const struct column note_columns[] = {
	COL(audit_note, actor, TEXT),
	COL(audit_note, action, TEXT),
	COL(audit_note, object, TEXT),
	COL(audit_note, result, TEXT),
	COL(audit_note, request_id, TEXT),
	COL(audit_note, remote, TEXT),
	COL(audit_note, detail_json, TEXT),
};
TABLE(note, audit_note);
/* clang-format on */

/* Enums are stored as COLUMN_U32. */
_Static_assert(sizeof(enum role) == 4, "enums are 32 bits");

/* Text that grows inside a fixed array. */
struct text {
	char *at;
	size_t left; /* the terminating NUL counted */
};

static void
text_add(struct text *t, const char *s, size_t n)
{
	if (n >= t->left) {
		t->left = 0;
		return;
	}
	memcpy(t->at, s, n);
	t->at += n;
	t->left -= n;
	*t->at = '\0';
}

static void
text_add_list(struct text *t, const struct table *table, char what)
{
	for (size_t i = 0; i < table->count; i++) {
		const char *name = table->columns[i].name;
		char number[16];
		uint8_t n = 0;
		if (i > 0)
			text_add(t, ", ", 2);
		if (what != 'A') {
			text_add(t, name, strlen(name));
			if (what == 'S') {
				text_add(t, " = excluded.", 12);
				text_add(t, name, strlen(name));
			}
			continue;
		}
		number[n++] = '?';
		if (i + 1 >= 10)
			number[n++] = (char)('0' + (i + 1) / 10);
		number[n++] = (char)('0' + (i + 1) % 10);
		text_add(t, number, n);
	}
}

int
column_expand(const char *sql, const struct table *t, char *out, size_t size)
{
	struct text text = { out, size };

	while (*sql != '\0') {
		size_t n = strcspn(sql, "$");
		text_add(&text, sql, n);
		sql += n;
		if (*sql == '\0')
			break;
		/* $COLS $ARGS $SETS: the first letter tells. */
		assert(strlen(sql) >= 5 && t != NULL);
		text_add_list(&text, t, sql[1]);
		sql += 5;
	}
	return text.left == 0 ? ERR_TOO_BIG : 0;
}

int
column_bind_text(sqlite3_stmt *st, int at, struct slice s)
{
	int rc = s.ptr == NULL
	    ? sqlite3_bind_null(st, at)
	    : sqlite3_bind_text64(st, at, (const char *)s.ptr, s.len,
		  SQLITE_STATIC, SQLITE_UTF8);

	return rc == SQLITE_OK    ? 0
	    : rc == SQLITE_TOOBIG ? ERR_TOO_BIG
				  : ERR_NOMEM;
}

static uint32_t
column_max(const struct column *c)
{
	if (c->max != 0)
		return c->max;
	return c->kind == COLUMN_U8  ? UINT8_MAX
	    : c->kind == COLUMN_U16  ? UINT16_MAX
	    : c->kind == COLUMN_BOOL ? 1
				     : UINT32_MAX;
}

/* The number in a field; false when the column cannot hold it. */
static bool
field_get(const struct column *c, const void *field, int64_t *out)
{
	uint64_t u;

	switch (c->kind) {
	case COLUMN_I64:
		*out = *(const int64_t *)field;
		return true;
	case COLUMN_U64:
		u = *(const uint64_t *)field;
		*out = (int64_t)u;
		return u <= INT64_MAX;
	case COLUMN_INT:
		*out = *(const int *)field;
		return true;
	case COLUMN_U32:
		*out = *(const uint32_t *)field;
		break;
	case COLUMN_U16:
		*out = *(const uint16_t *)field;
		break;
	case COLUMN_U8:
		*out = *(const uint8_t *)field;
		break;
	case COLUMN_BOOL:
		*out = *(const bool *)field ? 1 : 0;
		break;
	case COLUMN_TEXT:
	case COLUMN_HASH:
		assert(false); /* no number */
	}
	return *out <= column_max(c);
}

static bool
field_put(const struct column *c, void *field, int64_t n)
{
	switch (c->kind) {
	case COLUMN_I64:
		*(int64_t *)field = n;
		return true;
	case COLUMN_U64:
		*(uint64_t *)field = (uint64_t)n;
		return n >= 0;
	case COLUMN_INT:
		*(int *)field = (int)n;
		return n >= INT_MIN && n <= INT_MAX;
	case COLUMN_U32:
		*(uint32_t *)field = (uint32_t)n;
		break;
	case COLUMN_U16:
		*(uint16_t *)field = (uint16_t)n;
		break;
	case COLUMN_U8:
		*(uint8_t *)field = (uint8_t)n;
		break;
	case COLUMN_BOOL:
		*(bool *)field = n == 1;
		break;
	case COLUMN_TEXT:
	case COLUMN_HASH:
		assert(false); /* no number */
	}
	return n >= 0 && n <= column_max(c);
}

int
column_bind(sqlite3_stmt *st, const struct table *t, const void *record)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct column *c = &t->columns[i];
		const void *field = (const uint8_t *)record + c->at;
		int at = (int)i + 1, err = 0;
		int64_t n = 0;
		if (c->kind == COLUMN_TEXT) {
			err = column_bind_text(
			    st, at, *(const struct slice *)field);
		} else if (c->kind == COLUMN_HASH) {
			if (sqlite3_bind_blob(
				st, at, field, 32, SQLITE_STATIC) != SQLITE_OK)
				err = ERR_NOMEM;
		} else if (!field_get(c, field, &n)) {
			err = ERR_RANGE;
		} else if (sqlite3_bind_int64(st, at, n) != SQLITE_OK) {
			err = ERR_NOMEM;
		}
		if (err != 0)
			return err;
	}
	return 0;
}

static int
read_text(sqlite3_stmt *st, int at, struct arena *a, struct slice *out)
{
	if (sqlite3_column_type(st, at) == SQLITE_NULL) {
		*out = (struct slice){ 0 };
		return 0;
	}
	const unsigned char *text = sqlite3_column_text(st, at);
	if (text == NULL)
		return ERR_NOMEM;
	return arena_copy(a,
	    (struct slice){ text, (size_t)sqlite3_column_bytes(st, at) }, out);
}

static int
read_hash(sqlite3_stmt *st, int at, uint8_t out[32])
{
	const void *blob = sqlite3_column_blob(st, at);

	if (blob == NULL || sqlite3_column_bytes(st, at) != 32)
		return ERR_CORRUPT;
	memcpy(out, blob, 32);
	return 0;
}

int
column_read(
    sqlite3_stmt *st, const struct table *t, struct arena *a, void *record)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct column *c = &t->columns[i];
		void *field = (uint8_t *)record + c->at;
		int at = (int)i, err = 0;
		if (c->kind == COLUMN_TEXT)
			err = read_text(st, at, a, field);
		else if (c->kind == COLUMN_HASH)
			err = read_hash(st, at, field);
		else if (!field_put(c, field, sqlite3_column_int64(st, at)))
			err = ERR_CORRUPT;
		if (err != 0)
			return err;
	}
	return 0;
}

void *
column_copy(struct arena *a, const struct table *t, const void *record)
{
	uint8_t *copy = arena_alloc(a, t->size);

	if (copy == NULL)
		return NULL;
	memcpy(copy, record, t->size);
	for (size_t i = 0; i < t->count; i++) {
		const struct column *c = &t->columns[i];
		struct slice *text = (void *)(copy + c->at);
		if (c->kind == COLUMN_TEXT && arena_copy(a, *text, text) != 0)
			return NULL;
	}
	return copy;
}
