-- The store's tables.  Each migration is one transaction and runs once; what
-- has been released is never edited, only followed by the next number.
-- Instants are wall-clock milliseconds, 0 = never.  Names of columns are
-- those of model/record.h.

-- migration 1
CREATE TABLE meta (
	key TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE migrations (
	number INTEGER PRIMARY KEY,
	at INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	role INTEGER NOT NULL CHECK (role BETWEEN 0 AND 3),
	selector TEXT,
	workspace_id INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	removed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
	id TEXT PRIMARY KEY,
	name TEXT,
	shown TEXT,
	hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
	old_hash BLOB NOT NULL CHECK (length(old_hash) = 32),
	old_until INTEGER NOT NULL,
	scopes INTEGER NOT NULL,
	user_id TEXT,
	allow TEXT,
	max_connections INTEGER NOT NULL,
	workspace_id INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	revoked_at INTEGER NOT NULL,
	used_at INTEGER NOT NULL
) STRICT;

CREATE TABLE agents (
	id TEXT PRIMARY KEY,
	cluster_id TEXT,
	name TEXT,
	token_id TEXT,
	has_key INTEGER NOT NULL CHECK (has_key IN (0, 1)),
	public_key BLOB NOT NULL CHECK (length(public_key) = 32),
	install_id TEXT,
	info_json TEXT,
	labels_json TEXT,
	operator_labels_json TEXT,
	sequence INTEGER NOT NULL,
	workspace_id INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	registered_at INTEGER NOT NULL,
	seen_at INTEGER NOT NULL,
	removed_at INTEGER NOT NULL
) STRICT;

-- place is the order of arrival, and what cursors count by.
CREATE TABLE commands (
	place INTEGER PRIMARY KEY,
	id TEXT NOT NULL UNIQUE,
	agent_id TEXT NOT NULL REFERENCES agents (id),
	user_id TEXT,
	request_key TEXT,
	state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 8),
	argv_json TEXT NOT NULL,
	env_json TEXT,
	cwd TEXT,
	exec_user TEXT,
	foreground INTEGER NOT NULL CHECK (foreground IN (0, 1)),
	wants_stdin INTEGER NOT NULL CHECK (wants_stdin IN (0, 1)),
	shell INTEGER NOT NULL CHECK (shell IN (0, 1)),
	priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 255),
	timeout INTEGER NOT NULL,
	deadline_at INTEGER NOT NULL,
	sequence INTEGER NOT NULL,
	lease_node INTEGER NOT NULL,
	lease_fence INTEGER NOT NULL,
	exit_code INTEGER NOT NULL,
	signal INTEGER NOT NULL,
	code TEXT,
	why TEXT,
	lingering INTEGER NOT NULL,
	out_bytes INTEGER NOT NULL,
	err_bytes INTEGER NOT NULL,
	workspace_id INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	sent_at INTEGER NOT NULL,
	started_at INTEGER NOT NULL,
	finished_at INTEGER NOT NULL,
	-- when retention removed its output: the marker that it had some
	pruned_at INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX commands_key
	ON commands (workspace_id, user_id, request_key)
	WHERE request_key IS NOT NULL;
CREATE INDEX commands_agent ON commands (agent_id, place);
CREATE INDEX commands_user ON commands (user_id, place);
CREATE INDEX commands_state ON commands (state, workspace_id, place);
CREATE INDEX commands_kept ON commands (finished_at)
	WHERE state >= 3 AND pruned_at = 0;

CREATE TABLE links (
	id INTEGER PRIMARY KEY,
	agent_id TEXT NOT NULL REFERENCES agents (id),
	session_id TEXT,
	remote TEXT,
	dialect TEXT,
	opened_at INTEGER NOT NULL,
	closed_at INTEGER NOT NULL,
	why TEXT,
	workspace_id INTEGER NOT NULL
) STRICT;

CREATE INDEX links_agent ON links (agent_id, id);
CREATE INDEX links_open ON links (id) WHERE closed_at = 0;

-- One hash chain a node; the encoding is in store/audit.h.
CREATE TABLE audit (
	place INTEGER PRIMARY KEY,
	node INTEGER NOT NULL,
	number INTEGER NOT NULL,
	at INTEGER NOT NULL,
	actor TEXT,
	action TEXT NOT NULL,
	object TEXT,
	result TEXT,
	request_id TEXT,
	remote TEXT,
	detail_json TEXT,
	prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
	hash BLOB NOT NULL CHECK (length(hash) = 32),
	workspace_id INTEGER NOT NULL,
	UNIQUE (node, number)
) STRICT;

-- Where a chain goes on after its old lines were pruned.
CREATE TABLE audit_pruned (
	node INTEGER PRIMARY KEY,
	number INTEGER NOT NULL,
	hash BLOB NOT NULL CHECK (length(hash) = 32),
	at INTEGER NOT NULL
) STRICT;

-- migration 2
ALTER TABLE users ADD COLUMN password TEXT;
ALTER TABLE users ADD COLUMN valid_from INTEGER NOT NULL DEFAULT 0;

CREATE TABLE logins (
	id TEXT PRIMARY KEY,
	user_id TEXT NOT NULL,
	hash BLOB NOT NULL CHECK (length(hash) = 32),
	cookie INTEGER NOT NULL CHECK (cookie IN (0, 1)),
	remote TEXT,
	created_at INTEGER NOT NULL,
	used_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT;

-- migration 3
ALTER TABLE agents ADD COLUMN cordoned_at INTEGER NOT NULL DEFAULT 0;

-- migration 4
ALTER TABLE commands ADD COLUMN said_json TEXT;

-- migration 5
CREATE TABLE stops (
	epoch INTEGER PRIMARY KEY,
	scope INTEGER NOT NULL CHECK (scope BETWEEN 0 AND 2),
	target TEXT,
	bound TEXT,
	keep_tunnels INTEGER NOT NULL CHECK (keep_tunnels IN (0, 1)),
	reason TEXT,
	actor TEXT,
	at INTEGER NOT NULL,
	lifted_epoch INTEGER NOT NULL,
	lifted_by TEXT,
	lifted_at INTEGER NOT NULL,
	workspace_id INTEGER NOT NULL,
	request_key TEXT
) STRICT;

CREATE INDEX stops_standing ON stops (epoch) WHERE lifted_epoch = 0;

-- A receipt may be written before its stop's row is.
CREATE TABLE receipts (
	epoch INTEGER NOT NULL,
	agent_id TEXT NOT NULL,
	kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 4),
	told_at INTEGER NOT NULL,
	at INTEGER NOT NULL,
	began_at INTEGER NOT NULL,
	done_at INTEGER NOT NULL,
	ended INTEGER NOT NULL,
	killed INTEGER NOT NULL,
	outlived INTEGER NOT NULL,
	detail_json TEXT,
	PRIMARY KEY (epoch, agent_id)
) STRICT, WITHOUT ROWID;

-- migration 6
ALTER TABLE commands ADD COLUMN drops INTEGER NOT NULL DEFAULT 0
	CHECK (drops IN (0, 1));

-- migration 7
ALTER TABLE commands ADD COLUMN token_id TEXT;

-- migration 8
CREATE TABLE secrets (
	id TEXT PRIMARY KEY,
	agent_id TEXT NOT NULL,
	prefix INTEGER NOT NULL CHECK (prefix IN (0, 1)),
	sealed TEXT NOT NULL,
	old_sealed TEXT,
	old_until INTEGER NOT NULL,
	workspace_id INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	rotated_at INTEGER NOT NULL,
	UNIQUE (agent_id, prefix)
) STRICT;

CREATE TABLE logs (
	place INTEGER PRIMARY KEY,
	agent_id TEXT NOT NULL,
	at INTEGER NOT NULL,
	said_at INTEGER NOT NULL,
	level TEXT,
	source TEXT,
	message TEXT,
	workspace_id INTEGER NOT NULL
) STRICT;

CREATE INDEX logs_agent ON logs (agent_id, place);

-- migration 9
CREATE TABLE routes (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	host TEXT NOT NULL,
	prefix TEXT NOT NULL,
	strip INTEGER NOT NULL CHECK (strip IN (0, 1)),
	agent TEXT,
	selector TEXT,
	target_host TEXT,
	target_service TEXT,
	target_namespace TEXT,
	target_port INTEGER NOT NULL CHECK (target_port BETWEEN 0 AND 65535),
	target_tls INTEGER NOT NULL CHECK (target_tls IN (0, 1)),
	target_insecure INTEGER NOT NULL CHECK (target_insecure IN (0, 1)),
	target_tls_name TEXT,
	wall INTEGER NOT NULL CHECK (wall BETWEEN 0 AND 1),
	connect_within INTEGER NOT NULL,
	answer_within INTEGER NOT NULL,
	idle_within INTEGER NOT NULL,
	message_rate INTEGER NOT NULL,
	byte_rate INTEGER NOT NULL,
	origins TEXT,
	rules_json TEXT,
	links_from INTEGER NOT NULL,
	user_id TEXT,
	workspace_id INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	removed_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX routes_site ON routes (host, prefix)
	WHERE removed_at = 0;
CREATE UNIQUE INDEX routes_name ON routes (name) WHERE removed_at = 0;

-- Who had every scope has the two that are new.
UPDATE tokens SET scopes = scopes | 196608 WHERE scopes & 65535 = 65535;
