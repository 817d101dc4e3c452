#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/verbs.h"

static int verb_help(int argc, char **argv);
static int verb_version(int argc, char **argv);

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage;
	const char *sentence;
} verbs[] = {
	{ "join", verb_join,
	    "join URL --token-file FILE [--name NAME] [--allow VERBS]\n"
	    "        [--allow-target HOST:PORT]... [--exec-user USER]\n"
	    "        [--state DIR] [--ca-file FILE]",
	    "enrol this host at a controller" },
	{ "run", verb_run, "run [--state DIR]",
	    "keep the links of this host; what a service starts" },
	{ "status", verb_status, "status [--json] [--state DIR]",
	    "say how the running agent is doing" },
	{ "stop", verb_stop, "stop [--reason TEXT] [--state DIR]",
	    "kill what runs for controllers, and start nothing more" },
	{ "resume", verb_resume, "resume [--state DIR]",
	    "end what `stop` began" },
	{ "policy", verb_policy,
	    "policy [--state DIR] [check ARGV... | target HOST:PORT]",
	    "show what this host permits, or judge one command or target" },
	{ "version", verb_version, "version", "print the version" },
	{ "help", verb_help, "help", "print this" },
};

enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

__attribute__((format(printf, 1, 0))) static void
say(const char *format, va_list ap)
{
	(void)fputs("muster-agent: ", stderr);
	(void)vfprintf(stderr, format, ap);
	(void)fputc('\n', stderr);
}

int
complain(int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
	return code;
}

int
misused(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
	(void)fputs("Try \"muster-agent help\".\n", stderr);
	return EXIT_USAGE;
}

static int
verb_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	(void)puts("muster-agent joins this host to a Muster controller.\n");
	for (size_t i = 0; i < VERBS; i++)
		(void)printf("  muster-agent %s\n      %s\n", verbs[i].usage,
		    verbs[i].sentence);
	(void)puts(
	    "\nVERBS are a list of observe, exec, shell, files, logs, tunnel;\n"
	    "without --allow a controller may only observe.\n"
	    "State is kept in /var/lib/muster-agent unless --state says "
	    "otherwise.");
	return EXIT_OK;
}

static int
verb_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	(void)puts("muster-agent " MUSTER_VERSION);
	return EXIT_OK;
}

int
main(int argc, char **argv)
{
	(void)signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return misused("what is it to do?");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return verb_help(argc, argv);
	if (strcmp(argv[1], "--version") == 0)
		return verb_version(argc, argv);
	for (size_t i = 0; i < VERBS; i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	return misused("there is no command \"%s\"", argv[1]);
}
