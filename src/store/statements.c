/*
 * The SQL of the writing side.  Columns come from column.c; a duplicate
 * assignment in a SET list is legal in SQLite, the last one counts.
 */
#include "store/core.h"

#define KEPT_STOPS                      \
	"(lifted_epoch = 0 OR epoch IN" \
	" (SELECT epoch FROM stops ORDER BY epoch DESC LIMIT 256))"

/* clang-format off */
const struct statement store_statements[STATEMENTS] = {
	[ST_BEGIN] = { "BEGIN IMMEDIATE", NULL },
	[ST_COMMIT] = { "COMMIT", NULL },
	[ST_ROLLBACK] = { "ROLLBACK", NULL },
	[ST_SAVE] = { "SAVEPOINT op", NULL },
	[ST_KEEP] = { "RELEASE op", NULL },
	[ST_UNDO] = { "ROLLBACK TO op", NULL },
	[ST_META_GET] = { "SELECT value FROM meta WHERE key = ?1", NULL },
	[ST_META_PUT] = { "INSERT INTO meta (key, value) VALUES (?1, ?2)"
	    " ON CONFLICT (key) DO UPDATE SET value = excluded.value", NULL },
	[ST_PUT_USER] = { "INSERT INTO users ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (id) DO UPDATE SET $SETS", &table_user },
	[ST_PUT_LOGIN] = { "INSERT INTO logins ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (id) DO UPDATE SET $SETS", &table_login },
	[ST_DROP_LOGIN] = { "DELETE FROM logins WHERE id = ?1", NULL },
	[ST_PUT_TOKEN] = { "INSERT INTO tokens ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (id) DO UPDATE SET $SETS", &table_token },
	[ST_TOKEN_USED] = { "UPDATE tokens SET used_at = max(used_at, ?2)"
	    " WHERE id = ?1", NULL },
	/* A dispatch number once given out is never forgotten. */
	[ST_PUT_AGENT] = { "INSERT INTO agents ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (id) DO UPDATE SET $SETS,"
	    " sequence = max(agents.sequence, excluded.sequence)", &table_agent },
	[ST_AGENT_SEEN] = { "UPDATE agents SET seen_at = max(seen_at, ?2)"
	    " WHERE id = ?1", NULL },
	[ST_AGENT_SEQUENCE] = { "UPDATE agents"
	    " SET sequence = max(sequence, ?2) WHERE id = ?1", NULL },
	[ST_LINK_OPEN] = { "INSERT INTO links ($COLS, workspace_id)"
	    " VALUES ($ARGS, coalesce((SELECT workspace_id FROM agents"
	    " WHERE id = ?2), 1))", &table_link },
	[ST_LINK_CLOSE] = { "UPDATE links SET closed_at = ?2, why = ?3"
	    " WHERE id = ?1 AND closed_at = 0", NULL },
	[ST_LINK_CLOSED] = { "SELECT closed_at FROM links WHERE id = ?1", NULL },
	/* Open when the controller died: over when the agent was last seen. */
	[ST_LINKS_ORPHANED] = { "UPDATE links SET closed_at = max(opened_at, 1,"
	    " coalesce((SELECT seen_at FROM agents WHERE id = agent_id), 0)),"
	    " why = 'controller_stopped' WHERE closed_at = 0", NULL },
	[ST_KEY_EXPIRE] = { "UPDATE commands SET request_key = NULL"
	    " WHERE workspace_id = ?1 AND user_id = ?2 AND request_key = ?3"
	    " AND created_at <= ?4", NULL },
	[ST_COMMAND_NEW] = { "INSERT INTO commands ($COLS) VALUES ($ARGS)",
	    &table_command },
	[ST_COMMAND_STATE] = { "SELECT state, lease_node, lease_fence"
	    " FROM commands WHERE id = ?1", NULL },
	[ST_COMMAND_SENT] = { "UPDATE commands SET state = 1, sequence = ?2,"
	    " lease_node = ?3, lease_fence = ?4, sent_at = ?5"
	    " WHERE id = ?1 AND state = 0"
	    " AND (lease_node = 0 OR (lease_node = ?3 AND lease_fence <= ?4))",
	    NULL },
	[ST_COMMAND_BACK] = { "UPDATE commands SET state = 0"
	    " WHERE id = ?1 AND state = 1 AND sequence = ?2", NULL },
	[ST_COMMAND_RUNS] = { "UPDATE commands SET state = 2, started_at = ?2"
	    " WHERE id = ?1 AND state = 1", NULL },
	[ST_COMMAND_ENDED] = { "UPDATE commands SET state = ?2,"
	    " exit_code = ?3, signal = ?4, code = ?5, why = ?6, lingering = ?7,"
	    " out_bytes = ?8, err_bytes = ?9, started_at = ?10,"
	    " finished_at = ?11 WHERE id = ?1 AND state < 3", NULL },
	[ST_COMMAND_OUTCOME] = { "SELECT agent_id, state, exit_code, signal, code,"
	    " out_bytes, err_bytes FROM commands WHERE id = ?1", NULL },
	[ST_COMMANDS_OLD] = { "SELECT id FROM commands WHERE state >= 3"
	    " AND pruned_at = 0 AND finished_at < ?1"
	    " ORDER BY finished_at LIMIT ?2", NULL },
	[ST_COMMAND_PRUNED] = { "UPDATE commands SET pruned_at = ?2,"
	    " out_bytes = max(out_bytes, ?3), err_bytes = max(err_bytes, ?4)"
	    " WHERE id = ?1", NULL },
	[ST_AUDIT_NEW] = { "INSERT INTO audit ($COLS, workspace_id)"
	    " VALUES ($ARGS, ?13)", &table_audit },
	[ST_AUDIT_HEAD] = { "SELECT number, hash FROM audit WHERE node = ?1"
	    " UNION ALL SELECT number, hash FROM audit_pruned WHERE node = ?1"
	    " ORDER BY number DESC LIMIT 1", NULL },
	/* The last line before the first one that is young enough. */
	[ST_AUDIT_OLD] = { "SELECT number, hash FROM audit WHERE node = ?1"
	    " AND number < coalesce((SELECT min(number) FROM audit"
	    " WHERE node = ?1 AND at >= ?2), 9223372036854775807)"
	    " ORDER BY number DESC LIMIT 1", NULL },
	[ST_AUDIT_MARK] = { "INSERT INTO audit_pruned (node, number, hash, at)"
	    " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (node) DO UPDATE SET"
	    " number = excluded.number, hash = excluded.hash,"
	    " at = excluded.at", NULL },
	[ST_AUDIT_PRUNE] = { "DELETE FROM audit"
	    " WHERE node = ?1 AND number <= ?2", NULL },
	[ST_COUNT_USERS] = { "SELECT count(*) FROM users"
	    " WHERE removed_at = 0", NULL },
	[ST_LOAD_USERS] = { "SELECT $COLS FROM users"
	    " WHERE removed_at = 0 ORDER BY id", &table_user },
	[ST_COUNT_LOGINS] = { "SELECT count(*) FROM logins", NULL },
	[ST_LOAD_LOGINS] = { "SELECT $COLS FROM logins ORDER BY created_at, id",
	    &table_login },
	[ST_COUNT_TOKENS] = { "SELECT count(*) FROM tokens", NULL },
	[ST_LOAD_TOKENS] = { "SELECT $COLS FROM tokens ORDER BY id",
	    &table_token },
	[ST_COUNT_AGENTS] = { "SELECT count(*) FROM agents"
	    " WHERE removed_at = 0", NULL },
	[ST_LOAD_AGENTS] = { "SELECT $COLS FROM agents"
	    " WHERE removed_at = 0 ORDER BY id", &table_agent },
	[ST_COUNT_COMMANDS] = { "SELECT count(*) FROM commands"
	    " WHERE state < 3", NULL },
	[ST_LOAD_COMMANDS] = { "SELECT $COLS FROM commands"
	    " WHERE state < 3 ORDER BY place", &table_command },
	/* By the index on agent and id: one look an agent, not one a link. */
	[ST_COUNT_LAST_LINKS] = { "SELECT count(*) FROM agents"
	    " WHERE removed_at = 0 AND EXISTS (SELECT 1 FROM links"
	    " WHERE agent_id = agents.id)", NULL },
	[ST_LOAD_LAST_LINKS] = { "SELECT $COLS FROM links WHERE id IN (SELECT"
	    " (SELECT max(id) FROM links WHERE agent_id = agents.id)"
	    " FROM agents WHERE removed_at = 0)", &table_link },
	[ST_LAST_LINK] = { "SELECT coalesce(max(id), 0) FROM links", NULL },
	[ST_PUT_STOP] = { "INSERT INTO stops ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (epoch) DO UPDATE SET $SETS", &table_stop },
	[ST_PUT_RECEIPT] = { "INSERT INTO receipts ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (epoch, agent_id) DO UPDATE SET $SETS",
	    &table_receipt },
	/* Those that stand, and the last that do not. */
	[ST_COUNT_STOPS] = { "SELECT count(*) FROM stops WHERE " KEPT_STOPS,
	    NULL },
	[ST_LOAD_STOPS] = { "SELECT $COLS FROM stops WHERE " KEPT_STOPS
	    " ORDER BY epoch", &table_stop },
	[ST_COUNT_RECEIPTS] = { "SELECT count(*) FROM receipts WHERE epoch IN"
	    " (SELECT epoch FROM stops WHERE " KEPT_STOPS ")", NULL },
	[ST_LOAD_RECEIPTS] = { "SELECT $COLS FROM receipts WHERE epoch IN"
	    " (SELECT epoch FROM stops WHERE " KEPT_STOPS ")"
	    " ORDER BY epoch, agent_id", &table_receipt },
	[ST_LAST_STOP] = { "SELECT max(coalesce((SELECT max(max(epoch),"
	    " max(lifted_epoch)) FROM stops), 0), coalesce((SELECT"
	    " CAST(CAST(value AS TEXT) AS INTEGER) FROM meta"
	    " WHERE key = 'stop.epoch'), 0))", NULL },
	[ST_PUT_SECRET] = { "INSERT INTO secrets ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (id) DO UPDATE SET $SETS", &table_secret },
	[ST_DROP_SECRET] = { "DELETE FROM secrets WHERE id = ?1", NULL },
	[ST_COUNT_SECRETS] = { "SELECT count(*) FROM secrets", NULL },
	[ST_LOAD_SECRETS] = { "SELECT $COLS FROM secrets ORDER BY id",
	    &table_secret },
	[ST_PUT_LOG] = { "INSERT INTO logs ($COLS) VALUES ($ARGS)",
	    &table_log },
	/* The oldest ones, so many a round. */
	[ST_LOGS_OLD] = { "DELETE FROM logs WHERE place IN (SELECT place"
	    " FROM logs WHERE at < ?1 OR place <= (SELECT max(place) FROM logs)"
	    " - ?2 ORDER BY place LIMIT ?3)", NULL },
	/* Of those agents that have more than their share. */
	[ST_LOGS_MANY] = { "DELETE FROM logs WHERE place IN (SELECT place FROM"
	    " (SELECT place, row_number() OVER (PARTITION BY agent_id"
	    " ORDER BY place DESC) AS n FROM logs WHERE agent_id IN"
	    " (SELECT agent_id FROM logs GROUP BY agent_id"
	    " HAVING count(*) > ?1)) WHERE n > ?1 LIMIT ?2)", NULL },
	[ST_PUT_ROUTE] = { "INSERT INTO routes ($COLS) VALUES ($ARGS)"
	    " ON CONFLICT (id) DO UPDATE SET $SETS", &table_route },
	[ST_COUNT_ROUTES] = { "SELECT count(*) FROM routes"
	    " WHERE removed_at = 0", NULL },
	[ST_LOAD_ROUTES] = { "SELECT $COLS FROM routes"
	    " WHERE removed_at = 0 ORDER BY id", &table_route },
};
/* clang-format on */

/* The numbers in the text above. */
_Static_assert(COMMAND_QUEUED == 0 && COMMAND_SENT == 1 &&
	COMMAND_RUNNING == 2 && COMMAND_COMPLETED == 3 && COMMAND_UNKNOWN == 8,
    "states are stored as numbers");
