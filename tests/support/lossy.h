/*
 * lossy: a file layer that forgets what was not synced (tests).
 *
 * A file system in memory.  Every file and directory has two states: what
 * calls see, and what is safe.  file_sync moves a file's bytes, and
 * file_sync_dir a directory's names, to the safe side; lossy_crash goes back
 * to it.  It is as unkind as POSIX allows: a synced file whose name was not
 * synced is gone.  Links and permissions are not modelled; "." is the root.
 */
#ifndef SUPPORT_LOSSY_H
#define SUPPORT_LOSSY_H

#include <stdbool.h>
#include <stdint.h>

#include "io/file_ops.h"

enum { LOSSY_FILES = 256 };

enum lossy_op {
	LOSSY_OPEN = 1, /* that makes or empties a file */
	LOSSY_READ = 2,
	LOSSY_WRITE = 4, /* write and append */
	LOSSY_SYNC = 8,  /* of files and of directories */
	LOSSY_TRUNCATE = 16,
	LOSSY_NAME = 32, /* rename, unlink, mkdir, rmdir */
	LOSSY_CHANGES = 1 | 4 | 8 | 16 | 32,
	LOSSY_ANY = 63,
};

struct lossy {
	struct file_layer layer; /* first: hand &l->layer to the users */
	struct lossy_node *root; /* owned */
	struct {
		struct lossy_node *node; /* counted; NULL = free */
		unsigned flags;
		bool dead; /* opened before a crash */
	} open[LOSSY_FILES];
	struct {
		unsigned ops;       /* which kinds count */
		unsigned long left; /* 0 = off; 1 = the next one fails */
		int err;
		bool for_ever; /* all later ones too: the power is gone */
	} fault;
	uint64_t total; /* bytes of the disk */
	uint64_t used;
	unsigned long syncs; /* succeeded, of files */
	unsigned long dir_syncs;
	unsigned long ops; /* of LOSSY_CHANGES, failed ones too */
};

/* An empty disk of 1 GiB; lossy_fini asserts that every file is closed. */
void lossy_init(struct lossy *l);
void lossy_fini(struct lossy *l);

/*
 * From now on the n-th (1 = next) of the given ops fails with err, and with
 * for_ever all later ones of any kind do too.  A sync that fails loses what
 * it was to make safe, as the kernel does.  n = 0 ends it.
 */
void lossy_fail(
    struct lossy *l, unsigned ops, unsigned long n, int err, bool for_ever);

/*
 * The power fails and comes back.  Open files answer ERR_IO until closed;
 * locks are gone, faults too.  With seed 0 exactly the safe state remains.
 * Any other seed keeps a part of the rest, chosen by it: some 512-byte
 * sectors (the others read as before, or as zeros where the file grew) and
 * all or none of a directory's changed names.
 */
void lossy_crash(struct lossy *l, uint32_t seed);

/* The safe bytes of a file, borrowed until the next call; absent when its
 * name is not safe. */
struct slice lossy_safe(struct lossy *l, const char *path);

#endif
