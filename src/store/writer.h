/*
 * writer: the store on a thread of its own (floor: store).
 *
 * Operations and output go in from any thread, in order; what has become of
 * them comes back as a batch, with one wake-up.  Each turn of the thread
 * takes what is there, writes output, syncs it, and commits the operations
 * in one transaction.  Lazy operations wait for company, at most a second.
 *
 * Operations wait behind a few MiB of output at most, however much of it is
 * handed in; commands take turns.  Only OP_COMMAND_ENDED waits for all
 * output of its own command that was handed in before it.
 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include "base/list.h"

#include "store/store.h"

struct writer;

struct writer_config {
	struct store *store; /* borrowed; the writer's own from start to stop */
	/* Called on the writer's thread: results are there to be taken. */
	void (*wake)(void *owner);
	void *owner;
	size_t output_max; /* bytes of output waiting, all commands [64 MiB] */
	size_t ops_max;    /* operations waiting [1,000,000] */
	uint32_t output_days; /* kept after a command's end [30] */
	uint32_t audit_days;  /* lines of the journal [400] */
	uint32_t log_days;    /* lines that agents logged [7] */
};

/* What came of one thing. */
struct writer_done {
	struct list link;
	uint64_t number; /* of an op; 0 for output */
	int err;
	/* Output: which, and up to where it is durable now. */
	struct slice command_id;
	enum output_stream stream;
	uint64_t durable;
	void *tag; /* as given to writer_output */
};

/* 0, ERR_NOMEM, or ERR_AGAIN when the system gives no thread. */
int writer_start(struct writer **out, const struct writer_config *config);
/* Write all that was handed in, then end.  Results not taken are freed. */
void writer_stop(struct writer *w);

/*
 * Hand in ops in order.  They are copied.  A commit that fails as a whole
 * is reported for each.  0, ERR_NOMEM or ERR_FULL (nothing was taken).
 */
int writer_ops(struct writer *w, const struct op *const *ops, size_t count);

/*
 * Hand in output, copied.  ERR_FULL when too much waits already: try again
 * after the next result.  tag comes back with the result.  When err is not
 * 0, bytes from durable on were not kept: send them again from there.
 */
int writer_output(struct writer *w, struct slice command_id,
    enum output_stream stream, uint64_t offset, struct slice bytes, void *tag);

/* The bytes in [from, to) will never come; answered like output. */
int writer_output_gap(struct writer *w, struct slice command_id,
    enum output_stream stream, uint64_t from, uint64_t to, void *tag);

/* Ask where a command's stored stream ends; answered like output. */
int writer_output_end(struct writer *w, struct slice command_id,
    enum output_stream stream, void *tag);

/* Move all results to the list at head.  Free each by writer_done_free. */
void writer_take(struct writer *w, struct list *head);
void writer_done_free(struct writer_done *d);

struct writer_stats {
	uint64_t commits;
	uint64_t fsyncs;
	uint64_t failed; /* turns that did not commit */
	uint64_t waiting_ops;
	uint64_t waiting_bytes;
	uint64_t wal_pages;
	uint64_t output_bytes;
	double commit_seconds; /* sum */
};
void writer_stats_get(struct writer *w, struct writer_stats *out);

#endif
