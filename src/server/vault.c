#include <stdio.h>
#include <sys/stat.h>

#include "base/err.h"

#include "wire/enc.h"

#include "io/file.h"
#include "io/rand.h"

#include "server/vault.h"

enum { PATH_SIZE = 4200, SEALED_MAX = 128 * 1024 };

static int
make_key(const char *path, uint8_t key[SEAL_KEY])
{
	struct buf b;

	rand_fill(key, SEAL_KEY);
	buf_init(&b, 256);
	enc_put_base64(&b, (struct slice){ key, SEAL_KEY }, ENC_STD);
	buf_put_byte(&b, '\n');
	int err = b.err != 0
	    ? b.err
	    : file_write_atomic(&file_real, path, buf_peek(&b), 0600);
	buf_fini(&b);
	return err;
}

static int
read_key(struct slice text, uint8_t key[SEAL_KEY])
{
	struct slice line;
	struct buf b;

	buf_init(&b, 256);
	int err = slice_split(&text, '\n', &line) &&
		enc_get_base64(line, ENC_STD, &b) == 0 &&
		buf_peek(&b).len == SEAL_KEY
	    ? 0
	    : ERR_CORRUPT;
	if (err == 0)
		memcpy(key, buf_peek(&b).ptr, SEAL_KEY);
	buf_fini(&b);
	return err;
}

int
vault_open(const char *dir, uint8_t key[SEAL_KEY], char *why, size_t size)
{
	char path[PATH_SIZE];
	struct slice text;
	struct stat st;
	struct arena a;

	snprintf(path, sizeof(path), "%s/secrets.key", dir);
	arena_init(&a, 1 << 16);
	int err = file_read_all(&file_real, path, 4096, &a, &text);
	if (err == ERR_NOT_FOUND)
		err = make_key(path, key);
	else if (err == 0 && stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		err = ERR_DENIED;
	else if (err == 0)
		err = read_key(text, key);
	arena_fini(&a);
	if (err == ERR_DENIED)
		snprintf(why, size,
		    "%s must be readable by its owner alone: chmod 600 it",
		    path);
	else if (err != 0)
		snprintf(
		    why, size, "%s cannot be used: %s", path, err_name(err));
	return err;
}

int
vault_seal(const uint8_t key[SEAL_KEY], struct slice owner, struct slice secret,
    struct arena *a, struct slice *out)
{
	uint8_t nonce[SEAL_NONCE];
	struct buf b;

	rand_fill(nonce, sizeof(nonce));
	buf_init(&b, SEALED_MAX);
	int err = seal_put(key, nonce, owner, secret, &b);
	if (err == 0)
		err = arena_copy(a, buf_peek(&b), out);
	buf_fini(&b);
	return err;
}
