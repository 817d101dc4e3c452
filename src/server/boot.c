#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

#include "wire/token.h"

#include "io/clock.h"
#include "io/file.h"
#include "io/rand.h"
#include "io/tls.h"

#include "server/credential.h"

#include "server/boot.h"

enum { DAY = 86400000, PATH_SIZE = 4200 };

static const struct token_record *
find_token(const struct hub_snapshot *all, const uint8_t *hash)
{
	for (size_t i = 0; i < all->token_count; i++) {
		if (memcmp(all->tokens[i].hash, hash, HASH_LEN) == 0)
			return &all->tokens[i];
	}
	return NULL;
}

static bool
token_is_good(const struct hub_snapshot *all, const char *path, wall_msec now,
    struct arena *a)
{
	uint8_t hash[HASH_LEN];
	struct slice text, line;

	if (file_read_all(&file_real, path, 4096, a, &text) != 0)
		return false;
	if (!slice_split(&text, '\n', &line) ||
	    credential_hash(line, hash) != 0)
		return false;
	const struct token_record *t = find_token(all, hash);
	return t != NULL && t->revoked_at == 0 &&
	    (t->expires_at == 0 || t->expires_at > now + INT64_C(7) * DAY);
}

static const struct user_record *
find_admin(const struct hub_snapshot *all)
{
	for (size_t i = 0; i < all->user_count; i++) {
		if (all->users[i].role == ROLE_ADMIN &&
		    all->users[i].removed_at == 0)
			return &all->users[i];
	}
	return NULL;
}

static int
write_token(const char *path, const char *text)
{
	char line[RAND_TOKEN_SIZE + 1];
	int n = snprintf(line, sizeof(line), "%s\n", text);

	return file_write_atomic(&file_real, path,
	    (struct slice){ (const uint8_t *)line, (size_t)n }, 0600);
}

/* Without an administrator, make one; then a token for them. */
static int
make_admin(struct store *s, const struct hub_snapshot *all, const char *path,
    wall_msec now)
{
	char user_id[RAND_ID_SIZE], token_id[RAND_ID_SIZE];
	char text[RAND_TOKEN_SIZE];
	const struct user_record *known = find_admin(all);
	const struct op *ops[2];
	size_t n = 0;
	int errs[2] = { 0 };

	rand_id("usr_", user_id);
	rand_id("tok_", token_id);
	rand_token("mut_", text);
	const struct user_record user = { .id = slice_from(user_id),
		.name = SL("admin"),
		.role = ROLE_ADMIN,
		.workspace_id = 1,
		.created_at = now };
	struct token_record token = { .id = slice_from(token_id),
		.name = SL("admin.token"),
		.shown = slice_first(slice_from(text), 10),
		.scopes = SCOPES_ALL,
		.user_id = known != NULL ? known->id : user.id,
		.workspace_id = 1,
		.created_at = now,
		.expires_at = now + INT64_C(30) * DAY };
	const struct op put_user = { .verb = OP_PUT_USER,
		.at = now,
		.user = &user,
		.audit = { .actor = SL("system"),
		    .action = SL("user.create"),
		    .object = user.id,
		    .result = SL("ok") } };
	const struct op put_token = { .verb = OP_PUT_TOKEN,
		.at = now,
		.token = &token,
		.audit = { .actor = SL("system"),
		    .action = SL("token.create"),
		    .object = token.id,
		    .result = SL("ok") } };
	int err = credential_hash(slice_from(text), token.hash);
	if (err != 0)
		return err;
	if (known == NULL)
		ops[n++] = &put_user;
	ops[n++] = &put_token;
	err = store_apply(s, ops, n, errs);
	for (size_t i = 0; i < n && err == 0; i++)
		err = errs[i];
	return err != 0 ? err : write_token(path, text);
}

int
boot_admin(struct store *s, const char *dir, wall_msec now, char *path,
    size_t size, bool *first)
{
	char file[PATH_SIZE];
	struct hub_snapshot all;
	struct arena a;

	snprintf(file, sizeof(file), "%s/admin.token", dir);
	arena_init(&a, SIZE_MAX / 2);
	path[0] = '\0';
	int err = store_load(s, &a, &all);
	*first = err == 0 && find_admin(&all) == NULL;
	if (err == 0 && (*first || !token_is_good(&all, file, now, &a))) {
		err = make_admin(s, &all, file, now);
		snprintf(path, size, "%s", file);
	}
	arena_fini(&a);
	return err;
}

int
boot_directory(const char *dir, char *why, size_t size)
{
	struct stat st;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		snprintf(why, size, "cannot make %s: %s", dir, strerror(errno));
		return ERR_IO;
	}
	if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
		snprintf(why, size, "%s is not a directory", dir);
		return ERR_IO;
	}
	return 0;
}

static int
make_pair(const struct server *s, const char *cert, const char *key, char *why)
{
	char host[256] = "localhost";
	struct slice names[8];
	size_t n = 0;

	gethostname(host, sizeof(host) - 1);
	names[n++] = SL("localhost");
	names[n++] = SL("127.0.0.1");
	names[n++] = SL("::1");
	names[n++] = slice_from(host);
	if (s->public_host.len > 0)
		names[n++] = s->public_host;
	return tls_make_self_signed(cert, key, names, n, why);
}

int
boot_tls(struct server *s, const char *dir, char *why, size_t size)
{
	const struct settings *set = &s->settings;
	char cert[PATH_SIZE] = "", key[PATH_SIZE] = "", text[TLS_WHY] = "";
	int err = 0;

	if (set->tls_auto) {
		snprintf(cert, sizeof(cert), "%s/tls.crt", dir);
		snprintf(key, sizeof(key), "%s/tls.key", dir);
		if (access(key, R_OK) != 0 || access(cert, R_OK) != 0)
			err = make_pair(s, cert, key, text);
	} else if (set->tls_cert.len > 0 || set->tls_key.len > 0) {
		if (slice_cstr(set->tls_cert, cert, sizeof(cert)) != 0 ||
		    slice_cstr(set->tls_key, key, sizeof(key)) != 0 ||
		    cert[0] == '\0' || key[0] == '\0') {
			snprintf(why, size, "tls_cert and tls_key go together");
			return ERR_INVALID;
		}
	} else {
		return 0;
	}
	if (err == 0 && s->tls == NULL)
		err = tls_server_new(cert, key, &s->tls, text);
	else if (err == 0)
		err = tls_server_reload(s->tls, cert, key, text);
	if (err == 0 && set->tls_auto)
		s->has_pin = tls_server_pin(s->tls, s->pin) == 0;
	if (err != 0)
		snprintf(why, size, "TLS: %s", text);
	return err;
}

void
boot_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = path == NULL ? 0 : strlen(path);

	if (len == 0 || len >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, len);
	if (to.sun_path[0] == '@')
		to.sun_path[0] = '\0'; /* an abstract name */
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL,
	    (const struct sockaddr *)&to,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}
