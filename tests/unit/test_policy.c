/* What a host permits: the file, the decisions, the writer. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/policy.h"
#include "base/err.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static const char text[] = "version = 1\n"
			   "allow = exec\n"
			   "allow = tunnel\n"
			   "exec_user = worker\n"
			   "[exec]\n"
			   "allow = systemctl restart nginx*\n"
			   "allow = ls **\n"
			   "allow = echo a\\ b ?\n"
			   "deny = ls --hostile **\n"
			   "[environment]\n"
			   "allow = LC_*\n"
			   "deny = LC_BAD\n"
			   "[cwd]\n"
			   "allow = /srv/**\n"
			   "allow = /home/*/www\n"
			   "[tunnel]\n"
			   "allow = 127.0.0.1:8080\n"
			   "allow = Db.example:*\n"
			   "allow = [::1]:22\n"
			   "[limits]\n"
			   "commands = 3\n";

static void
parse(struct policy *p, const char *s)
{
	struct policy_fault f;

	policy_init(p);
	assert_int_equal(policy_parse(p, slice_from(s), &f), 0);
}

static struct policy_verdict
run(const struct policy *p, const char *line)
{
	struct slice argv[8], rest = slice_from(line);
	size_t n = 0;

	while (slice_split(&rest, '|', &argv[n]))
		n++;
	return policy_check_exec(
	    p, &(struct policy_exec){ .argv = argv, .argc = n });
}

static void
test_argv(void **state)
{
	struct policy p;

	(void)state;
	parse(&p, text);
	assert_true(run(&p, "systemctl|restart|nginx").allowed);
	assert_int_equal(run(&p, "systemctl|restart|nginx-a").line, 6);
	assert_false(run(&p, "systemctl|restart").allowed);
	assert_false(run(&p, "systemctl|restart|nginx|x").allowed);
	assert_false(run(&p, "systemctl|stop|nginx").allowed);
	assert_true(run(&p, "ls").allowed);
	assert_true(run(&p, "ls|-l|/etc").allowed);
	assert_false(run(&p, "lsof").allowed);
	assert_true(run(&p, "echo|a b|x").allowed);
	assert_false(run(&p, "echo|a|b|x").allowed);
	assert_false(run(&p, "echo|a b|xy").allowed);

	struct policy_verdict v = run(&p, "ls|--hostile|x");
	assert_false(v.allowed);
	assert_int_equal(v.line, 9);
	assert_string_equal(v.why, "deny = ls --hostile **");
	v = run(&p, "rm|-rf|/");
	assert_int_equal(v.line, 0);
	assert_string_equal(
	    v.why, "no allow in [exec] matches rm and its arguments");
	policy_fini(&p);
}

static void
test_user_place_environment(void **state)
{
	struct slice argv[1] = { SL("ls") };
	struct policy_exec e = { .argv = argv, .argc = 1 };
	const struct {
		const char *user, *cwd, *env;
		bool allowed;
		uint32_t line;
	} cases[] = {
		{ "", "", NULL, true, 7 },
		{ "worker", "", NULL, true, 7 },
		{ "root", "", NULL, false, 0 },
		{ "", "/srv", NULL, true, 14 },
		{ "", "/srv/a/b", NULL, true, 14 },
		{ "", "/srvx", NULL, false, 0 },
		{ "", "/srv/../etc", NULL, false, 0 },
		{ "", "srv", NULL, false, 0 },
		{ "", "/home/a/www", NULL, true, 15 },
		{ "", "/home/a/b/www", NULL, false, 0 },
		{ "", "", "LC_ALL=C", true, 11 },
		{ "", "", "LC_BAD=C", false, 12 },
		{ "", "", "LD_PRELOAD=/x", false, 0 },
		{ "", "", "LC_ALL", false, 0 },
	};
	struct policy p;

	(void)state;
	parse(&p, text);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct slice env = slice_from(cases[i].env);
		e.user = slice_from(cases[i].user);
		e.cwd = slice_from(cases[i].cwd);
		e.env = &env;
		e.envc = cases[i].env == NULL ? 0 : 1;
		struct policy_verdict v = policy_check_exec(&p, &e);
		assert_int_equal(v.allowed, cases[i].allowed);
		assert_int_equal(v.line, cases[i].line);
		assert_int_equal(v.why[0] == '\0', v.allowed);
	}
	policy_fini(&p);
}

static void
test_targets(void **state)
{
	struct policy p;

	(void)state;
	parse(&p, text);
	assert_true(policy_check_target(&p, SL("127.0.0.1"), 8080).allowed);
	assert_false(policy_check_target(&p, SL("127.0.0.1"), 8081).allowed);
	assert_false(policy_check_target(&p, SL("localhost"), 8080).allowed);
	assert_true(policy_check_target(&p, SL("db.EXAMPLE"), 1).allowed);
	assert_true(policy_check_target(&p, SL("::1"), 22).allowed);
	assert_false(policy_check_target(&p, SL(""), 22).allowed);
	policy_fini(&p);
}

static void
test_target_globs(void **state)
{
	static const char globs[] = "version = 1\nallow = tunnel\n"
				    "[tunnel]\n"
				    "allow = *.Db.example:5432\n"
				    "allow = *:80\n"
				    "allow = localhost:80\n"
				    "deny = SECRET.*:*\n"
				    "listen = 127.0.0.1:8022\n"
				    "listen = [::1]:*\n"
				    "ca = /etc/own.pem\n"
				    "[limits]\n"
				    "tunnels = 7\ntunnel_idle = 10m\n"
				    "udp_idle = 1s\n";
	struct policy p;

	(void)state;
	parse(&p, globs);
	assert_true(
	    policy_check_target(&p, SL("a.b.DB.example"), 5432).allowed);
	assert_false(policy_check_target(&p, SL("db.example"), 5432).allowed);
	assert_true(policy_check_target(&p, SL("10.0.0.1"), 80).allowed);
	assert_false(policy_check_target(&p, SL("secret.example"), 80).allowed);
	/* A glob allows, and names nothing. */
	assert_true(policy_check_target(&p, SL("127.0.0.1"), 80).allowed);
	assert_false(policy_names_target(&p, SL("127.0.0.1"), 80));
	assert_true(policy_names_target(&p, SL("Localhost"), 80));
	assert_false(policy_names_target(&p, SL("localhost"), 81));
	assert_true(policy_check_listen(&p, SL("127.0.0.1"), 8022).allowed);
	assert_false(policy_check_listen(&p, SL("127.0.0.1"), 0).allowed);
	assert_true(policy_check_listen(&p, SL("::1"), 0).allowed);
	assert_false(policy_check_listen(&p, SL("0.0.0.0"), 8022).allowed);
	/* To listen somewhere is no leave to dial there. */
	assert_false(policy_check_target(&p, SL("::1"), 22).allowed);
	assert_int_equal(p.tunnels, 7);
	assert_int_equal(p.tunnel_idle, 600 * 1000);
	assert_int_equal(p.udp_idle, 1000);
	assert_slice(p.tunnel_ca, SL("/etc/own.pem"));
	policy_fini(&p);
}

static void
test_default_is_observe(void **state)
{
	struct policy p;

	(void)state;
	policy_init(&p);
	assert_true(policy_allows(&p, POLICY_OBSERVE));
	for (unsigned i = POLICY_EXEC; i < POLICY_VERBS; i++)
		assert_false(policy_allows(&p, (enum policy_verb)i));
	assert_string_equal(run(&p, "ls").why, "there is no \"allow = exec\"");
	assert_string_equal(policy_check_target(&p, SL("a"), 1).why,
	    "there is no \"allow = tunnel\"");
	policy_fini(&p);
}

static void
test_faults(void **state)
{
	const struct {
		const char *text;
		int err;
		uint32_t line;
	} cases[] = {
		{ "", ERR_INVALID, 1 },
		{ "allow = exec\n", ERR_INVALID, 1 },
		{ "version = 2\nnew_thing = x\n", ERR_NEWER, 1 },
		{ "version = x\n", ERR_INVALID, 1 },
		{ "version = 1\nallow = everything\n", ERR_INVALID, 2 },
		{ "version = 1\n[exec]\nallow = a ** b\n", ERR_INVALID, 3 },
		{ "version = 1\n[exec]\npermit = a\n", ERR_INVALID, 3 },
		{ "version = 1\n[cwd]\nallow = srv\n", ERR_INVALID, 3 },
		{ "version = 1\n[tunnel]\nallow = host\n", ERR_INVALID, 3 },
		{ "version = 1\n[tunnel]\nallow = h:70000\n", ERR_INVALID, 3 },
		{ "version = 1\n[limits]\ncommands = -1\n", ERR_INVALID, 3 },
		{ "version = 1\n[other]\nallow = a\n", ERR_INVALID, 3 },
		{ "version = 1\nnonsense\n", ERR_INVALID, 2 },
		{ "version = 1\nexec_user = a\nexec_user = b\n", ERR_INVALID,
		    3 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_fault f = { 0 };
		struct policy p;
		policy_init(&p);
		struct slice s = guard_copy(slice_from(cases[i].text));
		assert_int_equal(policy_parse(&p, s, &f), cases[i].err);
		assert_int_equal(f.line, cases[i].line);
		assert_true(f.why[0] != '\0');
		/* What was in force stays in force. */
		assert_true(policy_allows(&p, POLICY_OBSERVE));
		guard_free(s);
		policy_fini(&p);
	}
}

static void
test_written_is_read(void **state)
{
	struct slice targets[2] = { SL("db:5432"), SL("127.0.0.1:*") };
	struct policy_wish w = { .verbs = 1U << POLICY_OBSERVE |
		    1U << POLICY_EXEC | 1U << POLICY_TUNNEL,
		.exec_user = SL("a \"b\\"),
		.targets = targets,
		.target_count = 2 };
	struct policy_fault f;
	struct policy p;
	struct buf b;

	(void)state;
	buf_init(&b, POLICY_BYTES);
	policy_write(&w, &b);
	policy_init(&p);
	assert_int_equal(policy_parse(&p, buf_peek(&b), &f), 0);
	assert_int_equal(p.verbs, w.verbs);
	assert_slice(p.exec_user, w.exec_user);
	assert_true(run(&p, "anything|at|all").allowed);
	assert_true(policy_check_target(&p, SL("db"), 5432).allowed);
	assert_true(policy_check_target(&p, SL("127.0.0.1"), 9).allowed);
	assert_false(policy_check_target(&p, SL("db"), 5433).allowed);

	buf_clear(&b);
	policy_write(&(struct policy_wish){ .verbs = 1 }, &b);
	assert_int_equal(policy_parse(&p, buf_peek(&b), &f), 0);
	assert_int_equal(p.verbs, 1U << POLICY_OBSERVE);
	policy_fini(&p);
	buf_fini(&b);
}

static void
test_file(void **state)
{
	char path[] = "/tmp/muster-policy-XXXXXX";
	/* printf 'version = 1\n' | sha256sum */
	static const char hash[] = "dbab12665d98aef021ba64953c61b0ed"
				   "8a908cfb56a1c01e2fcb4b052b71a2a1";
	struct policy_fault f;
	struct policy p;

	(void)state;
	policy_init(&p);
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "version = 1\n", 12), 12);
	assert_int_equal(policy_load(&p, path, &f), 0);
	assert_false(policy_allows(&p, POLICY_OBSERVE));
	assert_memory_equal(p.hash, hash, POLICY_HASH);
	assert_int_equal(fchmod(fd, 0620), 0);
	assert_int_equal(policy_load(&p, path, &f), ERR_DENIED);
	assert_int_equal(fchmod(fd, 0602), 0);
	assert_int_equal(policy_load(&p, path, &f), ERR_DENIED);
	assert_int_equal(fchmod(fd, 0600), 0);
	if (geteuid() == 0) {
		assert_int_equal(fchown(fd, 12345, 0), 0);
		assert_int_equal(policy_load(&p, path, &f), ERR_DENIED);
		assert_non_null(strstr(f.why, "root"));
	}
	close(fd);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(policy_load(&p, path, &f), ERR_NOT_FOUND);
	assert_int_equal(policy_load(&p, "/dev/null", &f), ERR_DENIED);
	policy_fini(&p);
}

/* A glob that begs for exponential time gets none. */
static void
test_hostile_glob(void **state)
{
	static char policy_text[512], word[20001];
	struct policy p;

	(void)state;
	(void)snprintf(policy_text, sizeof(policy_text),
	    "version = 1\nallow = exec\n[exec]\nallow = "
	    "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b\n");
	memset(word, 'a', sizeof(word) - 1);
	parse(&p, policy_text);
	assert_false(run(&p, word).allowed);
	word[sizeof(word) - 2] = 'b';
	assert_true(run(&p, word).allowed);
	policy_fini(&p);
}

static void
read_it(void *arg)
{
	struct policy_fault f;
	struct policy p;

	(void)arg;
	policy_init(&p);
	int err = policy_parse(&p, slice_from(text), &f);
	if (err == 0)
		assert_int_equal(p.commands, 3);
	policy_fini(&p);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(read_it, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_argv),
		cmocka_unit_test(test_user_place_environment),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_target_globs),
		cmocka_unit_test(test_default_is_observe),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_written_is_read),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_hostile_glob),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
