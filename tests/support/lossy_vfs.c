#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#include "support/lossy_vfs.h"

enum { PATH_SIZE = 512, REGIONS = 64, REGION = 32768 };

/* The index of one log, shared by the connections of this process. */
struct shm {
	char path[PATH_SIZE];
	void *region[REGIONS];
	int holders[SQLITE_SHM_NLOCK]; /* -1: one, alone */
	int refs;
	struct shm *next;
};

struct lossy_handle {
	sqlite3_file base;
	struct file file;
	char path[PATH_SIZE];
	bool unnamed; /* made by us: the first sync names it */
	bool temporary;
	struct shm *shm;
	unsigned shared, exclusive; /* locks held in shm, as bits */
};

static struct file_layer *layer;
static struct shm *shms;
static unsigned long syncs;

static struct lossy_handle *
of(sqlite3_file *f)
{
	return (struct lossy_handle *)(void *)f;
}

static int
code(int err, int otherwise)
{
	return err == 0           ? SQLITE_OK
	    : err == ERR_NO_SPACE ? SQLITE_FULL
				  : otherwise;
}

static int
vfs_close(sqlite3_file *f)
{
	struct lossy_handle *h = of(f);

	file_close(&h->file);
	if (h->temporary)
		file_unlink(layer, h->path);
	return SQLITE_OK;
}

static int
vfs_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
	size_t got = 0;
	int err = file_read(&of(f)->file, (uint64_t)at, out, (size_t)n, &got);

	if (err != 0)
		return SQLITE_IOERR_READ;
	if (got == (size_t)n)
		return SQLITE_OK;
	memset((uint8_t *)out + got, 0, (size_t)n - got);
	return SQLITE_IOERR_SHORT_READ;
}

static int
vfs_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
	return code(file_write(&of(f)->file, (uint64_t)at,
			(struct slice){ from, (size_t)n }),
	    SQLITE_IOERR_WRITE);
}

static int
vfs_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return code(
	    file_truncate(&of(f)->file, (uint64_t)size), SQLITE_IOERR_TRUNCATE);
}

/* What the unix VFS does: a new log or journal gets its name synced too. */
static int
vfs_sync(sqlite3_file *f, int flags)
{
	struct lossy_handle *h = of(f);

	(void)flags;
	syncs++;
	int err = file_sync(&h->file);
	if (err == 0 && h->unnamed) {
		err = file_sync_parent(layer, h->path);
		h->unnamed = err != 0;
	}
	return code(err, SQLITE_IOERR_FSYNC);
}

static int
vfs_size(sqlite3_file *f, sqlite3_int64 *out)
{
	uint64_t size = 0;
	int err = file_size(&of(f)->file, &size);

	*out = (sqlite3_int64)size;
	return code(err, SQLITE_IOERR_FSTAT);
}

static int
vfs_lock(sqlite3_file *f, int level)
{
	(void)f, (void)level;
	return SQLITE_OK;
}

static int
vfs_check_lock(sqlite3_file *f, int *out)
{
	(void)f;
	*out = 0;
	return SQLITE_OK;
}

static int
vfs_control(sqlite3_file *f, int op, void *arg)
{
	(void)f, (void)op, (void)arg;
	return SQLITE_NOTFOUND;
}

static int
vfs_sector(sqlite3_file *f)
{
	(void)f;
	return 512;
}

static int
vfs_traits(sqlite3_file *f)
{
	(void)f;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static struct shm *
shm_get(const char *path)
{
	struct shm *m = shms;

	while (m != NULL && strcmp(m->path, path) != 0)
		m = m->next;
	if (m != NULL)
		return m;
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return NULL;
	memcpy(m->path, path, strlen(path) + 1);
	m->next = shms;
	shms = m;
	return m;
}

static int
vfs_shm_map(
    sqlite3_file *f, int region, int size, int extend, void volatile **out)
{
	struct lossy_handle *h = of(f);

	*out = NULL;
	if (size != REGION || region >= REGIONS)
		return SQLITE_IOERR_SHMSIZE;
	if (h->shm == NULL) {
		h->shm = shm_get(h->path);
		if (h->shm == NULL)
			return SQLITE_NOMEM;
		h->shm->refs++;
	}
	if (h->shm->region[region] == NULL && extend)
		h->shm->region[region] = calloc(1, REGION);
	*out = h->shm->region[region];
	return SQLITE_OK;
}

static int
vfs_shm_lock(sqlite3_file *f, int from, int n, int flags)
{
	struct lossy_handle *h = of(f);
	int *holders = h->shm->holders;
	bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;

	for (int i = from; (flags & SQLITE_SHM_LOCK) && i < from + n; i++) {
		unsigned bit = 1U << i;
		int own = (h->shared & bit) != 0 ? 1 : 0;
		if ((h->exclusive & bit) != 0)
			continue;
		if (exclusive ? holders[i] != own : holders[i] < 0)
			return SQLITE_BUSY;
	}
	for (int i = from; i < from + n; i++) {
		unsigned bit = 1U << i;
		if ((flags & SQLITE_SHM_UNLOCK) != 0) {
			if ((h->exclusive & bit) != 0)
				holders[i] = 0;
			else if ((h->shared & bit) != 0)
				holders[i]--;
			h->exclusive &= ~bit;
			h->shared &= ~bit;
		} else if (exclusive) {
			holders[i] = -1;
			h->exclusive |= bit;
		} else if ((h->shared & bit) == 0) {
			holders[i]++;
			h->shared |= bit;
		}
	}
	return SQLITE_OK;
}

static void
vfs_shm_barrier(sqlite3_file *f)
{
	(void)f;
}

static int
vfs_shm_unmap(sqlite3_file *f, int delete_it)
{
	struct lossy_handle *h = of(f);
	struct shm *m = h->shm;

	(void)delete_it;
	if (m == NULL)
		return SQLITE_OK;
	vfs_shm_lock(f, 0, SQLITE_SHM_NLOCK, SQLITE_SHM_UNLOCK);
	h->shm = NULL;
	if (--m->refs > 0)
		return SQLITE_OK;
	for (struct shm **at = &shms; *at != NULL; at = &(*at)->next) {
		if (*at != m)
			continue;
		*at = m->next;
		break;
	}
	for (int i = 0; i < REGIONS; i++)
		free(m->region[i]);
	free(m);
	return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = vfs_close,
	.xRead = vfs_read,
	.xWrite = vfs_write,
	.xTruncate = vfs_truncate,
	.xSync = vfs_sync,
	.xFileSize = vfs_size,
	.xLock = vfs_lock,
	.xUnlock = vfs_lock,
	.xCheckReservedLock = vfs_check_lock,
	.xFileControl = vfs_control,
	.xSectorSize = vfs_sector,
	.xDeviceCharacteristics = vfs_traits,
	.xShmMap = vfs_shm_map,
	.xShmLock = vfs_shm_lock,
	.xShmBarrier = vfs_shm_barrier,
	.xShmUnmap = vfs_shm_unmap,
};

static int
vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags,
    int *out_flags)
{
	static unsigned temporary;
	struct lossy_handle *h = of(f);
	unsigned how = FILE_READ | FILE_WRITE;

	(void)vfs;
	memset(h, 0, sizeof(*h));
	if (name != NULL)
		strncat(h->path, name, PATH_SIZE - 1);
	else
		sqlite3_snprintf(
		    PATH_SIZE, h->path, "sqlite-temp-%u", temporary++);
	h->temporary = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
	int err = file_open(layer, h->path, how, 0600, &h->file);
	if (err == ERR_NOT_FOUND && (flags & SQLITE_OPEN_CREATE) != 0) {
		err = file_open(
		    layer, h->path, how | FILE_CREATE, 0600, &h->file);
		h->unnamed = (flags &
				 (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL |
				     SQLITE_OPEN_SUPER_JOURNAL)) != 0;
	}
	if (err != 0)
		return SQLITE_CANTOPEN;
	if (out_flags != NULL)
		*out_flags = flags;
	f->pMethods = &methods;
	return SQLITE_OK;
}

static int
vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	(void)vfs, (void)sync_dir;
	int err = file_unlink(layer, name);
	return err == ERR_NOT_FOUND ? SQLITE_IOERR_DELETE_NOENT
				    : code(err, SQLITE_IOERR_DELETE);
}

static int
vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
	struct file f = { 0 };

	(void)vfs, (void)flags;
	int err = file_open(layer, name, FILE_READ, 0, &f);
	*out = err == 0;
	file_close(&f);
	return err == 0 || err == ERR_NOT_FOUND ? SQLITE_OK
						: SQLITE_IOERR_ACCESS;
}

static int
vfs_full_name(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
	(void)vfs;
	sqlite3_snprintf(size, out, "%s", name);
	return SQLITE_OK;
}

static int
vfs_last_error(sqlite3_vfs *vfs, int size, char *out)
{
	(void)vfs, (void)size, (void)out;
	return 0;
}

void
lossy_vfs_use(struct file_layer *fs)
{
	static sqlite3_vfs vfs;

	layer = fs;
	syncs = 0;
	if (vfs.zName != NULL)
		return;
	vfs = *sqlite3_vfs_find(NULL);
	vfs.pNext = NULL;
	vfs.zName = LOSSY_VFS;
	vfs.szOsFile = sizeof(struct lossy_handle);
	vfs.mxPathname = PATH_SIZE - 1;
	vfs.xOpen = vfs_open;
	vfs.xDelete = vfs_delete;
	vfs.xAccess = vfs_access;
	vfs.xFullPathname = vfs_full_name;
	vfs.xGetLastError = vfs_last_error;
	vfs.iVersion = 2;
	sqlite3_vfs_register(&vfs, 0);
}

unsigned long
lossy_vfs_syncs(void)
{
	return syncs;
}
