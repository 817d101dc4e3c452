/*
 * mapfile: a file of equal records that only grows (floor: io).
 *
 * Mapped, so that adding one is a copy into memory: what was added outlives
 * the process whatever becomes of it, though not the machine's power.  Space
 * on the disk is taken before it is used.  A record is never all zeros, for
 * that is where the file ends; its size is a power of two.  One thread at a
 * time.
 */
#ifndef IO_MAPFILE_H
#define IO_MAPFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct mapfile {
	int fd;       /* -1: closed */
	uint8_t *mem; /* mapped */
	size_t record;
	size_t room; /* records */
	size_t used;
};

/*
 * Open, or make with mode 0600.  0; ERR_NOT_FOUND (a folder is missing),
 * ERR_DENIED, ERR_NO_SPACE, ERR_IO or ERR_NOMEM.
 */
int mapfile_open(struct mapfile *f, const char *path, size_t record);
void mapfile_close(struct mapfile *f);

/* 0, ERR_NO_SPACE, ERR_IO or ERR_NOMEM. */
int mapfile_add(struct mapfile *f, const void *record);

/* Of those there are: 0 to f->used - 1. */
const void *mapfile_at(const struct mapfile *f, size_t i);

#endif
