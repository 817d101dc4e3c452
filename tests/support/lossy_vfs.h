/*
 * lossy_vfs: SQLite on a lossy disk (tests).
 *
 * A SQLite VFS whose files are those of a file layer, so that database and
 * segments lose the same power at the same moment.  Shared memory of the
 * write-ahead log is the heap's, and gone at a crash like anybody's.  One
 * thread; file locks always succeed, so connections must not write at once.
 */
#ifndef SUPPORT_LOSSY_VFS_H
#define SUPPORT_LOSSY_VFS_H

#include "io/file.h"

#define LOSSY_VFS "lossy"

/* Register the VFS, once, or point it to another layer. */
void lossy_vfs_use(struct file_layer *fs);

/* xSync calls since the last lossy_vfs_use. */
unsigned long lossy_vfs_syncs(void);

#endif
