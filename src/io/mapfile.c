#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#include "io/mapfile.h"

enum { BYTES_FIRST = 64 * 1024 }; /* whole pages, and whole records */

static int
err_of(int code)
{
	switch (code) {
	case ENOENT:
		return ERR_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERR_DENIED;
	case ENOSPC:
	case EDQUOT:
		return ERR_NO_SPACE;
	case ENOMEM:
		return ERR_NOMEM;
	default:
		return ERR_IO;
	}
}

/* posix_fallocate: a page that is written to later must not find the disk
 * full, for that would be a signal. */
static int
make_room(struct mapfile *f, size_t bytes)
{
	size_t old = f->room * f->record;
	int code = posix_fallocate(f->fd, 0, (off_t)bytes);

	if (code != 0)
		return err_of(code);
	void *mem = f->mem == NULL
	    ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0)
	    : mremap(f->mem, old, bytes, MREMAP_MAYMOVE);
	if (mem == MAP_FAILED)
		return ERR_NOMEM;
	f->mem = mem;
	f->room = bytes / f->record;
	return 0;
}

static bool
is_blank(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

int
mapfile_open(struct mapfile *f, const char *path, size_t record)
{
	struct stat st;

	*f = (struct mapfile){ .fd = open(path,
				   O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
				   0600),
		.record = record };
	if (f->fd < 0)
		return err_of(errno);
	size_t bytes = BYTES_FIRST;
	int err = fstat(f->fd, &st) != 0 ? err_of(errno) : 0;
	while (err == 0 && bytes < (size_t)st.st_size)
		bytes *= 2;
	if (err == 0)
		err = make_room(f, bytes);
	if (err != 0) {
		mapfile_close(f);
		return err;
	}
	while (
	    f->used < f->room && !is_blank(f->mem + f->used * record, record))
		f->used++;
	return 0;
}

void
mapfile_close(struct mapfile *f)
{
	if (f->mem != NULL)
		munmap(f->mem, f->room * f->record);
	if (f->fd >= 0)
		close(f->fd);
	*f = (struct mapfile){ .fd = -1 };
}

int
mapfile_add(struct mapfile *f, const void *record)
{
	int err = f->used < f->room ? 0 : make_room(f, 2 * f->room * f->record);

	if (err != 0)
		return err;
	memcpy(f->mem + f->used++ * f->record, record, f->record);
	return 0;
}

const void *
mapfile_at(const struct mapfile *f, size_t i)
{
	return f->mem + i * f->record;
}
