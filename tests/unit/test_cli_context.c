#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/context.h"

#include "support/unit.h"

struct place {
	struct arena arena;
	char dir[64];
	char file[96];
	char why[CONTEXT_WHY];
};

static void
clean_environment(void)
{
	unsetenv("MUSTER_URL");
	unsetenv("MUSTER_TOKEN");
	unsetenv("MUSTER_TOKEN_FILE");
	unsetenv("MUSTER_CA_FILE");
}

static void
place_init(struct place *p)
{
	clean_environment();
	arena_init(&p->arena, 1 << 20);
	snprintf(p->dir, sizeof(p->dir), "/tmp/test_cli_context.XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->file, sizeof(p->file), "%s/a/config", p->dir);
}

static void
place_fini(struct place *p)
{
	char path[96];

	unlink(p->file);
	snprintf(path, sizeof(path), "%s/a", p->dir);
	rmdir(path);
	assert_int_equal(rmdir(p->dir), 0);
	arena_fini(&p->arena);
	clean_environment();
}

static struct context
load(struct place *p, const struct context_flags *flags)
{
	struct context c;
	int err = context_load(p->file, flags, &p->arena, &c, p->why);

	if (err != 0)
		fail_msg("%s", p->why);
	return c;
}

static void
save(struct place *p, const char *name, const char *url, const char *token)
{
	struct context c = {
		.name = name, .url = url, .token = token, .pin = "aa"
	};

	assert_int_equal(context_save(p->file, &c, &p->arena, p->why), 0);
}

static const struct context_flags none;

static void
test_precedence(void **state)
{
	struct context_flags flags = { .url = "https://flag" };
	struct place p;
	struct context c;

	(void)state;
	place_init(&p);
	c = load(&p, &none);
	assert_string_equal(c.url, CONTEXT_DEFAULT_URL);
	assert_null(c.token);
	save(&p, "one", "https://one", "tok_one");
	c = load(&p, &none);
	assert_string_equal(c.url, "https://one");
	assert_string_equal(c.token, "tok_one");
	assert_string_equal(c.pin, "aa");
	setenv("MUSTER_URL", "https://env/", 1);
	c = load(&p, &none);
	assert_string_equal(c.url, "https://env");
	assert_string_equal(c.source, "MUSTER_URL");
	assert_null(c.token);
	assert_null(c.pin);
	setenv("MUSTER_TOKEN", "tok_env", 1);
	c = load(&p, &flags);
	assert_string_equal(c.url, "https://flag");
	assert_string_equal(c.token, "tok_env");
	/* A context that is named outranks the environment. */
	flags = (struct context_flags){ .name = "one" };
	c = load(&p, &flags);
	assert_string_equal(c.url, "https://one");
	assert_string_equal(c.token, "tok_one");
	place_fini(&p);
}

/* A token goes to no other controller than it was saved for. */
static void
test_tokens_stay_at_home(void **state)
{
	struct context_flags same = { .url = "https://one/" };
	struct context_flags other = { .url = "https://one:444" };
	struct place p;

	(void)state;
	place_init(&p);
	save(&p, "one", "https://one", "tok_one");
	assert_string_equal(load(&p, &same).token, "tok_one");
	assert_null(load(&p, &other).token);
	place_fini(&p);
}

static void
test_saving_and_dropping(void **state)
{
	struct context_flags two = { .name = "two" };
	const char *gone = NULL;
	struct context c;
	struct stat st;
	struct place p;

	(void)state;
	place_init(&p);
	save(&p, "one", "https://one", "a\"b\\c");
	save(&p, "two", "https://two", "tok_two");
	save(&p, "one", "https://uno", "a\"b\\c");
	assert_int_equal(stat(p.file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	c = load(&p, &none);
	assert_string_equal(c.url, "https://uno");
	assert_string_equal(c.token, "a\"b\\c");
	assert_string_equal(load(&p, &two).token, "tok_two");
	assert_int_equal(context_drop(p.file, NULL, &p.arena, &gone, p.why), 0);
	assert_string_equal(gone, "one");
	assert_string_equal(load(&p, &none).url, CONTEXT_DEFAULT_URL);
	assert_string_equal(load(&p, &two).token, "tok_two");
	assert_int_equal(
	    context_drop(p.file, "one", &p.arena, &gone, p.why), ERR_NOT_FOUND);
	place_fini(&p);
}

static void
test_urls(void **state)
{
	static const struct {
		const char *url;
		bool loopback;
	} cases[] = { { "http://127.0.0.1:7700", true },
		{ "http://127.9.9.9", true }, { "http://localhost", true },
		{ "http://LOCALHOST:1", true }, { "http://[::1]:7700", true },
		{ "http://127.0.0.1.example.com", false },
		{ "http://localhost.example.com", false },
		{ "http://10.0.0.1", false }, { "http://[::2]", false },
		{ "https://muster.example.com", false } };
	static const char *const bad[] = { "", "muster.example.com", "ftp://x",
		"ws://x", "http://", "http://x?a=b", "http://u:p@x" };
	struct arena a;
	const char *out;

	(void)state;
	arena_init(&a, 65536);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(
		    context_is_loopback(cases[i].url), cases[i].loopback);
		assert_int_equal(context_url(cases[i].url, &a, &out), 0);
		assert_string_equal(out, cases[i].url);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(context_url(bad[i], &a, &out), ERR_INVALID);
	assert_int_equal(context_url("https://x/y//", &a, &out), 0);
	assert_string_equal(out, "https://x/y");
	arena_fini(&a);
}

static void
test_tokens(void **state)
{
	static const char *const texts[] = { "", " \n", "two words", "a\nb",
		"caf\xc3\xa9" };
	const char *out = NULL;
	struct place p;

	(void)state;
	place_init(&p);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char path[96];
		FILE *f;

		snprintf(path, sizeof(path), "%s/token", p.dir);
		f = fopen(path, "w");
		assert_non_null(f);
		fputs(texts[i], f);
		fclose(f);
		assert_int_equal(
		    context_read_token(path, &p.arena, &out, p.why),
		    ERR_INVALID);
		unlink(path);
		assert_int_equal(
		    context_read_token(path, &p.arena, &out, p.why), ERR_IO);
	}
	assert_null(out);
	assert_true(context_token_valid("clt_abc.sha256-00"));
	place_fini(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_tokens_stay_at_home),
		cmocka_unit_test(test_saving_and_dropping),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
