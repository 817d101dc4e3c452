#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "io/crash.h"

#include "agent/holder_claim.h"

bool
claim_orphaned(const struct claim *c)
{
	struct stat st;

	return fstat(c->dir, &st) == 0 && st.st_nlink == 0;
}

int64_t
claim_clock(clockid_t which)
{
	struct timespec t;

	(void)clock_gettime(which, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 +
	    (which == CLOCK_REALTIME ? crash_clock() : 0);
}

/*
 * fsync of a new file makes its directory entries durable too: ext4 and xfs
 * commit one ordered journal, btrfs and f2fs log new ancestors, zfs its intent
 * log, overlays pass it on to one of these.
 */
static bool
logs_entries(int dir)
{
	static const unsigned long types[] = { 0xef53, 0x58465342, 0x9123683e,
		0xf2f52010, 0x2fc12fc1, 0x794c7630 };
	struct statfs fs;

	if (fstatfs(dir, &fs) != 0)
		return false;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if ((unsigned long)fs.f_type == types[i])
			return true;
	return false;
}

static int
write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

static int
write_claim(const struct claim *c, const struct order *o, int64_t wall)
{
	char text[HOLDER_TEXT_MAX];

	int n = snprintf(text, sizeof(text),
	    "muster-claim %d\nid=%s\nseq=%llu\nepoch=%llu\nstart_ms=%lld\n"
	    "holder=%d\nargv=%016llx\n",
	    HOLDER_VERSION, o->id, (unsigned long long)o->seq,
	    (unsigned long long)o->epoch, (long long)wall, (int)getpid(),
	    (unsigned long long)o->argv_hash);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "check=%016llx\n",
	    (unsigned long long)holder_fnv(HOLDER_FNV, text, (size_t)n));
	if (write_all(c->file, text, (size_t)n) != 0)
		return -1;
	return fsync(c->file);
}

const char *
claim_take(
    struct claim *c, const struct order *o, struct ctl *ctl, int64_t wall)
{
	if (chdir(o->state) != 0 || chdir("cmd") != 0)
		return "io";
	if (mkdir(o->id, 0700) != 0)
		return errno == EEXIST ? "exists" : "io";
	crash_point("holder.dir");
	int above = open(".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (above < 0 || chdir(o->id) != 0)
		return "io";
	c->dir = open(".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	c->file = open("claim", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	/* An agent that restarts just now may take the claim from us, and
	 * then has said "unknown": not to be made a lie. */
	if (c->dir < 0 || c->file < 0 ||
	    flock(c->file, LOCK_EX | LOCK_NB) != 0 ||
	    faccessat(c->dir, "exit", F_OK, 0) == 0)
		return "exists";
	c->log = logs_entries(c->dir);
	crash_point("holder.claim");
	if (ctl_listen(ctl) != 0 || write_claim(c, o, wall) != 0 ||
	    (!c->log && (fsync(c->dir) != 0 || fsync(above) != 0)))
		return "io";
	close(above);
	crash_point("holder.claimed");
	return NULL;
}

/* The value of "\nkey=" as a number; -1 when it is not there. */
static long long
value_of(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at == NULL ? -1 : strtoll(at + strlen(key), NULL, 10);
}

/* Whether this is a whole state file that permits orders of this epoch. */
static bool
permits(const char *text, uint64_t epoch)
{
	static const char heading[] = "muster-stop 1\n";
	const char *check = strstr(text, "\ncheck=");
	long long its = value_of(text, "\nepoch=");

	if (strncmp(text, heading, sizeof(heading) - 1) != 0 || check == NULL)
		return false;
	check++;
	uint64_t sum = holder_fnv(HOLDER_FNV, text, (size_t)(check - text));
	return strtoull(check + sizeof("check=") - 1, NULL, 16) == sum &&
	    value_of(text, "\nstopped=") == 0 && its >= 0 &&
	    (uint64_t)its <= epoch;
}

bool
claim_stopped(const struct order *o)
{
	char path[4096], text[HOLDER_STOP_MAX + 1];

	int n = snprintf(path, sizeof(path), "%s/STOP", o->state);
	if (n < 0 || n >= (int)sizeof(path) || access(path, F_OK) == 0 ||
	    (o->stop != NULL && access(o->stop, F_OK) == 0))
		return true;
	(void)snprintf(path, sizeof(path), "%s/stop", o->state);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	/* What cannot be read might say stop. */
	if (fd < 0)
		return errno != ENOENT;
	ssize_t len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len < 0 ? 0 : len] = '\0';
	return !permits(text, o->epoch);
}

void
claim_started(const struct claim *c, pid_t pid)
{
	char text[32];

	int n = snprintf(text, sizeof(text), "pid=%d\n", (int)pid);
	(void)write_all(c->file, text, (size_t)n);
}

int
claim_exit(const struct claim *c, const void *text, size_t len)
{
	int fd = openat(
	    c->dir, "exit", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	int err = write_all(fd, text, len) != 0 || fsync(fd) != 0 ? -1 : 0;
	if (err == 0 && !c->log)
		err = fsync(c->dir);
	close(fd);
	return err;
}
