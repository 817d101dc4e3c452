/*
 * writer: the store on a thread of its own (floor: store).
 *
 * Operations and output go in from any thread, in order; what has become of
 * them comes back as a batch, with one wake-up.  Each turn of the thread
 * takes all that is there, writes output, syncs it, and commits the
 * operations in one transaction.  Lazy operations wait for company, at most
 * a second.
 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include "base/list.h"

#include "store/store.h"

struct writer;

struct writer_config {
	struct store *store; /* borrowed; the writer's own from start to stop */
	/* Called on the writer's thread: done has become non-empty. */
	void (*wake)(void *owner);
	void *owner;
	size_t output_max; /* bytes of output waiting, all commands [64 MiB] */
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

int writer_start(struct writer **out, const struct writer_config *config);
/* Write all that was handed in, then end.  Results not taken are freed. */
void writer_stop(struct writer *w);

/*
 * Hand in ops in order.  They are copied.  A commit that fails as a whole
 * is reported for each.  0 or ERR_NOMEM (nothing was taken).
 */
int writer_ops(struct writer *w, const struct op *const *ops, size_t count);

/*
 * Hand in output, copied.  ERR_FULL when too much waits already: try again
 * after the next result.  tag comes back with the result.
 */
int writer_output(struct writer *w, struct slice command_id,
    enum output_stream stream, uint64_t offset, struct slice bytes, void *tag);

/* Ask where a command's stored stream ends; answered like output. */
int writer_output_end(struct writer *w, struct slice command_id,
    enum output_stream stream, void *tag);

/* Move all results to the list at head.  Free each by writer_done_free. */
void writer_take(struct writer *w, struct list *head);
void writer_done_free(struct writer_done *d);

struct writer_stats {
	uint64_t commits;
	uint64_t fsyncs;
	uint64_t failed;
	uint64_t waiting_ops;
	uint64_t waiting_bytes;
	double commit_seconds; /* sum */
};
void writer_stats_get(struct writer *w, struct writer_stats *out);

#endif
