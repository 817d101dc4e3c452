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
	uint64_t total_max;  /* bytes of all output [20 GiB] */
	size_t segment_size; /* [8 MiB] */
};

/*
 * Open, create or migrate.  After an unclean stop a quick_check runs first.
 * 0, ERR_CORRUPT, ERR_BUSY (another process has it), ERR_NEWER, ERR_IO,
 * ERR_NO_SPACE, ERR_NOMEM; why (at most size bytes) gets a sentence that
 * names the file and what to do.
 */
int store_open(struct store **out, const struct store_config *config, char *why,
    size_t size);
/* A clean stop: checkpoint, mark clean, release. */
void store_close(struct store *s);

/* The id of this database's life; a restore makes a new one. */
struct slice store_incarnation(const struct store *s);
/* This start's fence: one more than any before. */
uint64_t store_fence(const struct store *s);

/* Everything the hub starts from, in the arena. */
int store_load(struct store *s, struct arena *a, struct hub_snapshot *out);

/*
 * Run ops in order as one batch.  errs[i] gets 0 or why op i was undone.
 * The return is 0, or the failure of the batch as a whole (ERR_IO,
 * ERR_NO_SPACE, ERR_BUSY, ERR_CORRUPT): then nothing of it is kept.  When it
 * returns 0 everything kept is on disk.
 */
int store_apply(
    struct store *s, const struct op *const *ops, size_t count, int *errs);

/* Streams of a command. */
enum output_stream { OUTPUT_OUT = 1, OUTPUT_ERR = 2 };

/*
 * Append bytes that begin at offset.  Bytes already there are skipped, a
 * hole is ERR_RANGE (record it with store_output_gap).  Not durable before
 * store_output_sync.  ERR_FULL at the command's cap, ERR_NO_SPACE.
 */
int store_output_append(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t offset, struct slice bytes);
int store_output_gap(struct store *s, struct slice command_id,
    enum output_stream stream, uint64_t from, uint64_t to);
/* Make all appended output durable. */
int store_output_sync(struct store *s);
/* Appended so far; 0 for a command without output. */
uint64_t store_output_end(
    struct store *s, struct slice command_id, enum output_stream stream);

/* Copy of the database and segments as of one instant, while in use. */
int store_backup(struct store *s, const char *file, char *why, size_t size);
/* Put a backup in place of nothing: ERR_EXISTS when dir has a database.
 * The incarnation becomes a new one. */
int store_restore(const char *file, const char *dir, char *why, size_t size);

/* Readers ------------------------------------------------------------- */

int store_reader_open(
    struct store_reader **out, const struct store_config *config);
void store_reader_close(struct store_reader *r);

struct command_query {
	struct slice agent_id; /* absent: any */
	struct slice user_id;  /* absent: any */
	int state;             /* -1: any */
	struct slice cursor;   /* absent: from the newest */
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
/* Periods of one agent, newest first. */
int store_read_links(struct store_reader *r, struct slice agent_id,
    struct slice cursor, uint32_t limit, struct arena *a,
    const struct connection_record **rows, size_t *count, struct slice *next);
/* Lines of the journal, newest first. */
int store_read_audit(struct store_reader *r, struct slice cursor,
    uint32_t limit, struct arena *a, const struct audit_record **rows,
    size_t *count, struct slice *next);
/* Check the chain of every node: 0 and how many lines; ERR_CORRUPT and the
 * first line that does not fit. */
int store_verify_audit(struct store_reader *r, uint64_t *lines,
    struct audit_record *bad, struct arena *a);

/*
 * Up to max bytes of a command's stream from offset into out.  Returns the
 * count, 0 at the present end; ERR_GONE when offset lies in a gap or was
 * pruned: *next is where bytes go on.
 */
int64_t store_read_output(struct store_reader *r, struct slice command_id,
    enum output_stream stream, uint64_t offset, uint8_t *out, size_t max,
    uint64_t *next);

#endif
