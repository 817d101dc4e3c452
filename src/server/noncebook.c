#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

#include "dialect/signed.h"

#include "io/file.h"
#include "io/log.h"
#include "io/mapfile.h"

#include "server/noncebook.h"

enum {
	PATH_SIZE = 4200,
	FILES_MAX = 1024,
	ALL_MAX = 8000000, /* of all agents: some 300 MB */
};

/* As it lies in a file. */
struct row {
	struct nonce nonce;
	uint64_t zero; /* makes the size a power of two */
};
_Static_assert(sizeof(struct row) == 32, "rows are written as they are");

struct noncebook {
	pthread_mutex_t lock;
	struct nonces set;
	struct mapfile file; /* of the newest generation */
	uint64_t base;       /* number of generation 0's file */
	uint64_t at;         /* generation of file */
	uint64_t gone;       /* generations below have no file */
	bool failing;
	char dir[PATH_SIZE - 64]; /* DIR/nonces; empty: in memory */
};

static void
path_of(const struct noncebook *b, uint64_t number, char out[PATH_SIZE])
{
	snprintf(out, PATH_SIZE, "%s/%llu", b->dir, (unsigned long long)number);
}

static void
complain(struct noncebook *b, int err)
{
	if (!b->failing)
		log_warn("nonces_not_kept", kv_e("err", err));
	b->failing = true;
}

/* Files ---------------------------------------------------------------------
 */

static void
open_file(struct noncebook *b, uint64_t generation)
{
	char path[PATH_SIZE];

	mapfile_close(&b->file);
	b->at = generation;
	path_of(b, b->base + generation, path);
	int err = mapfile_open(&b->file, path, sizeof(struct row));
	if (err != 0)
		complain(b, err);
	else
		b->failing = false;
}

static void
write_down(struct noncebook *b, const struct nonce *x)
{
	const struct row row = { .nonce = *x };

	if (b->dir[0] == '\0')
		return;
	if (b->at != b->set.newest)
		open_file(b, b->set.newest);
	for (; b->gone < b->set.oldest; b->gone++) {
		char path[PATH_SIZE];
		path_of(b, b->base + b->gone, path);
		unlink(path);
	}
	if (b->file.fd < 0)
		return;
	int err = mapfile_add(&b->file, &row);
	if (err != 0)
		complain(b, err);
}

/* All of an earlier run goes into the present generation, and its file. */
static int
read_file(struct noncebook *b, const char *name, msec now)
{
	char path[PATH_SIZE];
	struct mapfile f;
	uint64_t number;
	struct row row;
	int err = 0;

	if (slice_u64(slice_from(name), UINT64_MAX, &number) != 0)
		return 0;
	path_of(b, number, path);
	if (mapfile_open(&f, path, sizeof(row)) != 0)
		return 0;
	for (size_t i = 0; err == 0 && i < f.used; i++) {
		memcpy(&row, mapfile_at(&f, i), sizeof(row));
		err = nonces_put(&b->set, &row.nonce, now);
		if (err == 0)
			write_down(b, &row.nonce);
	}
	mapfile_close(&f);
	if (err == 0)
		unlink(path);
	return err;
}

static uint64_t
highest(const struct file_names *names)
{
	uint64_t max = 0, number;

	for (size_t i = 0; i < names->count; i++) {
		if (slice_u64(slice_from(names->at[i].name), UINT64_MAX - 1000,
			&number) == 0 &&
		    number > max)
			max = number;
	}
	return max;
}

static int
read_all(struct noncebook *b, msec now)
{
	struct file_names names = { 0 };
	struct arena a;

	arena_init(&a, 1 << 20);
	int err = file_mkdir(&file_real, b->dir, 0700);
	if (err == ERR_EXISTS)
		err = 0;
	if (err == 0)
		err = file_list(&file_real, b->dir, FILES_MAX, &a, &names);
	b->base = highest(&names) + 1;
	if (err == 0)
		open_file(b, 0);
	for (size_t i = 0; err == 0 && i < names.count; i++)
		err = read_file(b, names.at[i].name, now);
	arena_fini(&a);
	return err;
}

int
noncebook_open(struct noncebook **out, const char *dir, msec now)
{
	struct noncebook *b = alloc_new(sizeof(*b));
	int err = 0;

	if (b == NULL)
		return ERR_NOMEM;
	pthread_mutex_init(&b->lock, NULL);
	b->file.fd = -1;
	nonces_init(&b->set, SIGNED_HOLD, SIGNED_NONCES, ALL_MAX, now);
	if (dir != NULL) {
		int n = snprintf(b->dir, sizeof(b->dir), "%s/nonces", dir);
		err = n < (int)sizeof(b->dir) ? read_all(b, now) : ERR_TOO_BIG;
	}
	if (err != 0) {
		noncebook_close(b);
		return err;
	}
	*out = b;
	return 0;
}

void
noncebook_close(struct noncebook *b)
{
	if (b == NULL)
		return;
	mapfile_close(&b->file);
	nonces_fini(&b->set);
	pthread_mutex_destroy(&b->lock);
	alloc_free(b);
}

int
noncebook_take(struct noncebook *b, const struct nonce *x, msec now)
{
	pthread_mutex_lock(&b->lock);
	int err = nonces_take(&b->set, x, now);
	if (err == 0)
		write_down(b, x);
	pthread_mutex_unlock(&b->lock);
	return err;
}
