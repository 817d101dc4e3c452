/*
 * store: the database behind one door (floor: store).
 *
 * A driver (SQLite, memory) runs operations of model/op.h in batches: one
 * transaction a batch, a savepoint an operation, the audit lines with their
 * hash chain inside.  Output of commands is not in the database but in
 * append-only segment files; the row holds the durable offset.
 *
 * store_* below is the synchronous core, used by one thread at a time.
 * store/writer.h runs it on a thread of its own, so that no loop ever waits
 * for a disk.  Readers are separate, read-only, one per thread.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"

#include "model/hub.h"

struct file_layer; /* io/file.h */
struct store;
struct store_reader;

struct store_config {
	const char *dir; /* data directory; the database is DIR/muster.db */
	struct file_layer *files;
	const char *vfs; /* name of a SQLite VFS; NULL = the system's */
	uint32_t node;
	uint64_t output_max; /* bytes kept a command [1 GiB] */
	uint64_t total_max;  /* bytes of all output [20 GiB, 80 % of disk] */
	size_t segment_size; /* [8 MiB] */
	/* Tests, simulation: while it is not 0 every batch fails with it. */
	const int *fault;
};

/*
 * Open, create or migrate.  After an unclean stop a quick_check runs first,
 * and links that were open then are closed ("controller_stopped").
 * 0, ERR_CORRUPT, ERR_BUSY (another process has it), ERR_NEWER, ERR_INVALID
 * (a database of something else), ERR_IO, ERR_DENIED, ERR_NO_SPACE,
 * ERR_NOMEM; why (at most size bytes, size > 0) gets a sentence that names
 * the file and what to do.
 */
int store_open(struct store **out, const struct store_config *config, char *why,
    size_t size);
/*
 * The same, in memory and gone at the end: for tests and simulation.  Of
 * config only node and fault are used.  Output goes nowhere: appends succeed
 * and its end is always 0.  There are no readers of it.
 */
int store_open_memory(struct store **out, const struct store_config *config);
/* A clean stop: sync, mark clean, checkpoint, release. */
void store_close(struct store *s);
/* Release as if the process had died here (tests; after ERR_CORRUPT). */
void store_abandon(struct store *s);

/* The id of this database's life; a restore makes a new one. */
struct slice store_incarnation(const struct store *s);
/* This start's fence: one more than any before. */
uint64_t store_fence(const struct store *s);

/*
 * Everything the hub starts from, in the arena: users and agents that were
 * not removed, all tokens (a revoked one is not an unknown one), commands
 * that are not final, by arrival.
 */
int store_load(struct store *s, struct arena *a, struct hub_snapshot *out);

/* A value of OP_PUT_META, in the arena; ERR_NOT_FOUND. */
int store_meta(
    struct store *s, struct slice key, struct arena *a, struct slice *value);

/*
 * Run ops in order as one batch.  errs[i] gets 0 or why op i was undone.
 * The return is 0, or the failure of the batch as a whole (ERR_IO,
 * ERR_NO_SPACE, ERR_BUSY, ERR_CORRUPT): then nothing of it is kept.  When it
 * returns 0 everything kept is on disk.
 */
int store_apply(
    struct store *s, const struct op *const *ops, size_t count, int *errs);

/*
 * Move what is committed from the log into the database file when there is
 * enough of it (about 4 MiB).  Call it now and then, when nobody waits: it
 * is no part of a commit.
 */
int store_checkpoint(struct store *s);

/* Since the start; of a store in memory all is 0. */
struct store_counts {
	uint64_t commits; /* that changed something */
	uint64_t syncs;   /* fsyncs: commits, checkpoints, segments */
	uint64_t wal_pages;
	uint64_t output_bytes;
};
void store_counts(const struct store *s, struct store_counts *out);

/*
 * Remove the output of commands that ended before output_before, and lines
 * of the journal written before audit_before (0: none).  The rows stay and
 * say that there was output; the journal says what was removed.  A few
 * commands a call, because removal syncs: *more says to call again.
 */
int store_prune(struct store *s, wall_msec output_before,
    wall_msec audit_before, wall_msec now, bool *more);

/*
 * Remove lines that agents logged before `before`, the oldest of an agent
 * that has more than STORE_AGENT_LOGS, and of all more than STORE_LOGS; the
 * journal says how many.  Some thousands a call: *more says to call again.
 */
enum { STORE_AGENT_LOGS = 100000, STORE_LOGS = 1000000 };
int store_prune_logs(
    struct store *s, wall_msec before, wall_msec now, bool *more);

/* Streams of a command. */
enum output_stream { OUTPUT_OUT = 1, OUTPUT_ERR = 2 };

/*
 * Append bytes that begin at offset.  Bytes already there are skipped, a
 * hole is ERR_RANGE (record it with store_output_gap).  Not durable before
 * store_output_sync.  Beyond output_max the oldest segments of the command
 * are removed.  ERR_NO_SPACE when the disk or the cap of all output is full:
 * hold the command back and try again; ERR_INVALID when the id is not of
 * Muster's own form; ERR_IO.
 */
int store_output_append(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t offset, struct slice bytes);
/* The bytes in [from, to) will never come; from at or before the end. */
int store_output_gap(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t from, uint64_t to);
/*
 * Make all appended output durable.  After a failure the streams that it
 * concerns end where they were durable last: ask store_output_end and send
 * again from there.
 */
int store_output_sync(struct store *s);
/* Appended so far; 0 for a command without output. */
int store_output_end(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t *out);

/*
 * Copy of the database as of one instant, and of the output that it knows,
 * into one file (store/pack.h has the format).  Needs no store: it may run
 * in another thread or process while musterd works.  An older file of this
 * name is replaced when the new one is complete; a failure leaves nothing.
 */
int store_backup(const struct store_config *config, const char *file, char *why,
    size_t size);
/*
 * Put a backup in config->dir, where there is no database yet: ERR_EXISTS,
 * and nothing is touched, when there is.  Checks everything before anything
 * is in place.  The incarnation becomes a new one, and the journal says so.
 */
int store_restore(const struct store_config *config, const char *file,
    char *why, size_t size);

/* Readers ------------------------------------------------------------- */

int store_reader_open(
    struct store_reader **out, const struct store_config *config);
void store_reader_close(struct store_reader *r);

/* Which rows somebody may see.  keep may use the same reader. */
struct row_filter {
	bool (*keep)(void *arg, const void *record);
	void *arg;
};

struct command_query {
	struct slice agent_id;           /* absent: any */
	struct slice user_id;            /* absent: any */
	int state;                       /* -1: any */
	const struct row_filter *filter; /* NULL: all */
	struct slice cursor;             /* absent: from the newest */
	uint32_t limit;
	int64_t workspace_id;
};

/* Newest first, in the arena; *cursor absent when that was all. */
int store_read_commands(struct store_reader *r, const struct command_query *q,
    struct arena *a, const struct command_record **rows, size_t *count,
    struct slice *cursor);
/* By id; ERR_NOT_FOUND. */
int store_read_command(struct store_reader *r, struct slice id, struct arena *a,
    const struct command_record **row);
/* Of an agent, removed ones too; ERR_NOT_FOUND. */
int store_read_agent_name(struct store_reader *r, struct slice id,
    struct arena *a, struct slice *name);
/* By idempotency key, whatever its state; ERR_NOT_FOUND. */
int store_read_command_key(struct store_reader *r, int64_t workspace_id,
    struct slice user_id, struct slice request_key, struct arena *a,
    const struct command_record **row);
/* A value of OP_PUT_META; ERR_NOT_FOUND. */
int store_read_meta(struct store_reader *r, struct slice key, struct arena *a,
    struct slice *value);
/* Periods of one agent, newest first. */
int store_read_links(struct store_reader *r, struct slice agent_id,
    struct slice cursor, uint32_t limit, struct arena *a,
    const struct connection_record **rows, size_t *count, struct slice *next);
/* Lines of the journal, newest first. */
int store_read_audit(struct store_reader *r, struct slice cursor,
    uint32_t limit, const struct row_filter *filter, struct arena *a,
    const struct audit_record **rows, size_t *count, struct slice *next);
/* Lines that an agent logged, newest first. */
int store_read_logs(struct store_reader *r, struct slice agent_id,
    struct slice cursor, uint32_t limit, const struct row_filter *filter,
    struct arena *a, const struct log_record **rows, size_t *count,
    struct slice *next);
/* By id, removed ones too; ERR_NOT_FOUND. */
int store_read_agent(struct store_reader *r, struct slice id, struct arena *a,
    const struct agent_record **row);
/* Check the chain of every node: 0 and how many lines; ERR_CORRUPT and the
 * first line that does not fit. */
int store_verify_audit(struct store_reader *r, uint64_t *lines,
    struct audit_record *bad, struct arena *a);

/*
 * Up to max bytes of a command's stream from offset into out.  Returns the
 * count, 0 at the present end.  What is not there: ERR_GONE it was pruned,
 * ERR_MISSING a gap, bytes that never arrived; *next (set then only) is
 * where bytes go on.  ERR_RANGE beyond the end, ERR_NOT_FOUND no such
 * command, ERR_CORRUPT the disk has changed them.
 * May see bytes that are not durable yet.
 */
int64_t store_read_output(struct store_reader *r, struct slice command_id,
    enum output_stream stream, uint64_t offset, uint8_t *out, size_t max,
    uint64_t *next);

#endif
