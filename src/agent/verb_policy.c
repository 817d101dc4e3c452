#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

#include "agent/policy.h"
#include "agent/state.h"
#include "agent/target.h"
#include "agent/verbs.h"

enum { ARGS_MAX = 4096 };

static int
load(const char *dir, struct policy *p, char path[STATE_PATH])
{
	struct policy_fault fault = { 0 };
	struct state s;

	policy_init(p);
	int err = state_open(&s, dir, false);
	if (err != 0)
		return complain(EXIT_OTHER, "%s", s.why);
	err = state_path(&s, "policy.conf", path);
	state_close(&s);
	if (err == 0)
		err = policy_load(p, path, &fault);
	if (err == ERR_NOT_FOUND)
		(void)complain(EXIT_OK,
		    "there is no %s: a controller may only observe", path);
	else if (err != 0)
		return complain(
		    EXIT_OTHER, "%s:%u: %s", path, fault.line, fault.why);
	return EXIT_OK;
}

static void
show(const struct policy *p, const char *path)
{
	static const char *const lists[] = { [POLICY_ARGV] = "exec",
		[POLICY_ENV] = "environment",
		[POLICY_CWD] = "cwd",
		[POLICY_TARGET] = "tunnel",
		[POLICY_LISTEN] = "listen" };

	(void)printf("file        %s\nhash        %.*s\npermits     ", path,
	    POLICY_HASH, (const char *)p->hash);
	for (unsigned v = 0; v < POLICY_VERBS; v++)
		if (policy_allows(p, (enum policy_verb)v))
			(void)printf(
			    "%s ", policy_verb_name((enum policy_verb)v));
	(void)printf("\nruns as     %.*s\nlimits      %llu commands at a "
		     "time, %llu starts a minute\n",
	    SLICE_FMT(p->exec_user.len > 0 ? p->exec_user
					   : SL("the agent's own user")),
	    (unsigned long long)p->commands,
	    (unsigned long long)p->commands_per_minute);
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *r = &p->rules[i];
		(void)printf("%4u  %-12s %s %.*s\n", r->line, lists[r->list],
		    r->deny ? "deny " : "allow", SLICE_FMT(r->text));
	}
}

static int
say_verdict(const struct policy_verdict *v, const char *path)
{
	if (v->allowed) {
		(void)printf("allowed by %s:%u\n", path, v->line);
		return EXIT_OK;
	}
	if (v->line > 0)
		(void)printf("refused by %s:%u: %s\n", path, v->line, v->why);
	else
		(void)printf("refused: %s\n", v->why);
	return EXIT_NOT_PERMITTED;
}

static int
check(const struct policy *p, const char *path, int argc, char **argv)
{
	static struct slice words[ARGS_MAX];
	struct policy_exec e = { .argv = words, .argc = (size_t)argc };

	if (argc == 0 || argc > ARGS_MAX)
		return misused("policy check: which command?");
	for (int i = 0; i < argc; i++)
		words[i] = slice_from(argv[i]);
	struct policy_verdict v = policy_check_exec(p, &e);
	return say_verdict(&v, path);
}

/* Cut host and port at the last colon. */
static int
split_place(const char *text, char host[TARGET_HOST], uint16_t *port)
{
	struct slice s = slice_from(text);
	uint64_t n = 0;
	size_t at = s.len;

	while (at > 0 && s.ptr[at - 1] != ':')
		at--;
	if (at < 2 || slice_u64(slice_from_at(s, at), 65535, &n) != 0)
		return ERR_INVALID;
	*port = (uint16_t)n;
	return target_spell(slice_first(s, at - 1), host);
}

/* What no policy opens, or only one that spells it; names are judged when
 * they are resolved. */
static bool
always_refused(const struct policy *p, const char *host, uint16_t port)
{
	bool loopback = target_is_loopback(host) &&
	    policy_names_target(p, slice_from(host), port);
	union addr a;

	if (addr_parse_ip(slice_from(host), port, &a) != 0)
		return target_is_loopback(host) && !loopback;
	return target_sift(&a, 1, loopback) == 0;
}

static int
check_target(const struct policy *p, const char *path, const char *text)
{
	char host[TARGET_HOST];
	uint16_t port = 0;

	int err = split_place(text, host, &port);
	if (err == ERR_DENIED)
		return complain(EXIT_NOT_PERMITTED,
		    "%s is no plain address: always refused", text);
	if (err != 0)
		return misused("policy target: \"%s\" is not HOST:PORT", text);
	struct policy_verdict v =
	    policy_check_target(p, slice_from(host), port);
	if (v.allowed && always_refused(p, host, port)) {
		(void)printf("refused: %s is reached by no policy, or only by "
			     "one that spells it\n",
		    host);
		return EXIT_NOT_PERMITTED;
	}
	return say_verdict(&v, path);
}

int
verb_policy(int argc, char **argv)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	const char *dir = STATE_DEFAULT;
	char path[STATE_PATH];
	struct policy p;
	int c, code;

	/* "+": what stands behind check is the command's own. */
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c != 's')
			return EXIT_USAGE;
		dir = optarg;
	}
	bool judge = optind < argc && strcmp(argv[optind], "check") == 0;
	bool target = optind < argc && strcmp(argv[optind], "target") == 0;
	if (target && argc - optind != 2)
		return misused("policy target: which HOST:PORT?");
	if (!judge && !target && optind < argc)
		return misused("policy: \"%s\" is too much", argv[optind]);
	code = load(dir, &p, path);
	if (code != EXIT_OK)
		return code;
	int first = judge ? optind + 1 : argc;
	if (judge && first < argc && strcmp(argv[first], "--") == 0)
		first++;
	if (judge)
		code = check(&p, path, argc - first, argv + first);
	else if (target)
		code = check_target(&p, path, argv[optind + 1]);
	else
		show(&p, path);
	policy_fini(&p);
	return code;
}
