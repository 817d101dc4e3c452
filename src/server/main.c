/*
 * musterd: the controller.  Reads its settings, then serves, or does one of
 * the chores (check, backup, restore).
 */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

#include "io/file.h"
#include "io/log.h"

#include "store/store.h"

#include "server/check.h"
#include "server/keyring.h"
#include "server/rights.h"
#include "server/run.h"

enum { FLAGS_MAX = 64, FILE_MAX = 1024 * 1024, WHY = 512 };

struct invocation {
	const char *verb; /* NULL: serve */
	const char *operand;
	const char *config;
	struct setting_flag flags[FLAGS_MAX];
	size_t flag_count;
	struct settings_from from; /* of the last reading */
	struct arena arena;        /* everything that settings point to */
};

static const char usage[] =
    "usage: musterd [OPTIONS]             serve\n"
    "       musterd [OPTIONS] check       say what is wrong with the settings\n"
    "       musterd [OPTIONS] backup FILE copy everything, also while serving\n"
    "       musterd [OPTIONS] restore FILE\n"
    "       musterd [OPTIONS] rotate-keys sign with a new key from now on\n"
    "       musterd routes                every route, and who may use it\n"
    "       musterd messages              every console message, and who "
    "may say it\n"
    "       musterd version | help\n"
    "\n"
    "  --config FILE           settings (default /etc/muster/muster.conf)\n"
    "  --listen ADDR:PORT[,proxy]  may be repeated (default 127.0.0.1:7700)\n"
    "  --data DIR              (default /var/lib/muster; ./muster-data "
    "with --dev)\n"
    "  --public-url URL        how agents and people reach this controller\n"
    "  --tls-cert FILE --tls-key FILE, or --tls-auto\n"
    "  --log-level debug|info|warn|error\n"
    "  --lanes N  --insecure  --dev\n"
    "\n"
    "Every key of muster.conf(5) is also an option, with - for _, and an\n"
    "environment variable, MUSTER_KEY.\n";

static int
misuse(const char *what, const char *word)
{
	fprintf(stderr, "musterd: %s%s%s; see musterd help\n", what,
	    word[0] != '\0' ? " " : "", word);
	return 2;
}

/* "--public-url" to "public_url", in the arena. */
static struct slice
flag_key(struct arena *a, const char *flag)
{
	char *key = arena_cstr(a, slice_from(flag + 2));

	for (char *p = key; p != NULL && *p != '\0'; p++) {
		if (*p == '-')
			*p = '_';
	}
	return slice_from(key);
}

static bool
is_bare(struct slice key)
{
	const struct conf_option *o = conf_find(settings_table(), key);

	return o != NULL && o->kind == CONF_BOOL;
}

/* One option at argv[*i]; 0, or the status of misuse. */
static int
read_option(struct invocation *in, int argc, char **argv, int *i)
{
	const char *flag = argv[*i];
	struct slice key = flag_key(&in->arena, flag), value = { 0 };
	size_t at = slice_find(key, '=');

	if (at < key.len) {
		value = slice_from(flag + 2 + at + 1);
		key = slice_first(key, at);
	} else if (is_bare(key)) {
		value = SL("on");
	} else if (*i + 1 < argc) {
		value = slice_from(argv[++*i]);
	} else {
		return misuse(flag, "needs a value");
	}
	if (slice_eq(key, SL("config"))) {
		in->config = (const char *)value.ptr;
		return 0;
	}
	if (conf_find(settings_table(), key) == NULL)
		return misuse("there is no option", flag);
	if (in->flag_count == FLAGS_MAX)
		return misuse("too many options", "");
	in->flags[in->flag_count++] = (struct setting_flag){ key, value };
	return 0;
}

static int
read_arguments(struct invocation *in, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int status = 0;
		if (strncmp(argv[i], "--", 2) == 0)
			status = read_option(in, argc, argv, &i);
		else if (in->verb == NULL)
			in->verb = argv[i];
		else if (in->operand == NULL)
			in->operand = argv[i];
		else
			status = misuse("one operand too many:", argv[i]);
		if (status != 0)
			return status;
	}
	return 0;
}

/* The settings; problems are said on stderr. */
static size_t
read_settings(struct settings *out, void *arg)
{
	struct invocation *in = arg;
	const char *file = in->config;
	struct slice text = { 0 };
	struct buf problems;

	if (file == NULL && access("/etc/muster/muster.conf", R_OK) == 0)
		file = "/etc/muster/muster.conf";
	if (file != NULL) {
		int err = file_read_all(
		    &file_real, file, FILE_MAX, &in->arena, &text);
		if (err != 0) {
			fprintf(stderr, "musterd: cannot read %s: %s\n", file,
			    err_name(err));
			return 1;
		}
		if (text.ptr == NULL)
			text = SL("");
	}
	in->from = (struct settings_from){ .file = slice_from(file),
		.text = text,
		.flags = in->flags,
		.flag_count = in->flag_count };
	buf_init(&problems, FILE_MAX);
	size_t bad = settings_read(out, slice_from(file), text, in->flags,
	    in->flag_count, &in->arena, &problems);
	struct slice said = buf_peek(&problems);
	if (said.len > 0)
		fprintf(stderr, "%.*s", SLICE_FMT(said));
	buf_fini(&problems);
	return bad;
}

/* The settings make sense; now what they name. */
static int
check(const struct settings *s, struct invocation *in)
{
	struct buf problems;

	buf_init(&problems, FILE_MAX);
	size_t bad = check_files(s, &in->from, &in->arena, &problems);
	fprintf(stderr, "%.*s", SLICE_FMT(buf_peek(&problems)));
	buf_fini(&problems);
	if (bad == 0)
		puts("the settings are in order");
	return bad == 0 ? 0 : 1;
}

static int
backup(const struct settings *s, const struct invocation *in, bool restore)
{
	char dir[4096], why[WHY] = "";
	struct store_config c = { .dir = dir, .files = &file_real, .node = 1 };

	if (in->operand == NULL)
		return misuse(in->verb, "needs a FILE");
	if (slice_cstr(s->data, dir, sizeof(dir)) != 0)
		return 1;
	int err = restore ? store_restore(&c, in->operand, why, sizeof(why))
			  : store_backup(&c, in->operand, why, sizeof(why));
	if (err != 0) {
		fprintf(stderr, "musterd: %s\n",
		    why[0] != '\0' ? why : err_name(err));
		return 1;
	}
	fprintf(stderr, "musterd: %s %s\n",
	    restore ? "restored from" : "backed up to", in->operand);
	return 0;
}

static int
rotate(const struct settings *s)
{
	char dir[4096], why[KEYRING_WHY] = "";

	if (slice_cstr(s->data, dir, sizeof(dir)) != 0)
		return 1;
	if (keyring_rotate(dir, why, sizeof(why)) != 0) {
		fprintf(stderr, "musterd: %s\n", why);
		return 1;
	}
	fprintf(stderr,
	    "musterd: a new signing key is in %s/keys.json; a running musterd "
	    "takes it on SIGHUP\n",
	    dir);
	return 0;
}

static int
act(struct invocation *in)
{
	struct settings s;
	enum log_level level = LEVEL_INFO;

	if (in->verb != NULL && strcmp(in->verb, "version") == 0) {
		puts("musterd " MUSTER_VERSION);
		return 0;
	}
	if (in->verb != NULL && strcmp(in->verb, "routes") == 0)
		return rights_print();
	if (in->verb != NULL && strcmp(in->verb, "messages") == 0)
		return rights_print_messages();
	if (in->verb != NULL && strcmp(in->verb, "help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	if (read_settings(&s, in) != 0)
		return 1;
	if (in->verb == NULL) {
		log_level_parse(s.log_level, &level);
		const struct log_config c = {
			.fd = 2, .level = level, .per_second = 50
		};
		log_init(&c);
		return run_server(&s, read_settings, in);
	}
	if (strcmp(in->verb, "check") == 0)
		return check(&s, in);
	if (strcmp(in->verb, "backup") == 0)
		return backup(&s, in, false);
	if (strcmp(in->verb, "restore") == 0)
		return backup(&s, in, true);
	if (strcmp(in->verb, "rotate-keys") == 0)
		return rotate(&s);
	return misuse("there is no verb", in->verb);
}

/*
 * By itself glibc maps what is long anew each time, or gives the heap's end
 * back as soon as little is free: buffers of a long message then cost a page
 * fault for each 4 KiB.  core.c trims the heap now and then.
 */
static void
keep_pages(void)
{
	mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 16 * 1024 * 1024);
}

int
main(int argc, char **argv)
{
	struct invocation in = { .verb = NULL };
	int status;

	if (argc == 2 &&
	    (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		argv[1] += 2;
	keep_pages();
	arena_init(&in.arena, (size_t)64 * 1024 * 1024);
	status = read_arguments(&in, argc, argv);
	if (status == 0)
		status = act(&in);
	arena_fini(&in.arena);
	return status;
}
