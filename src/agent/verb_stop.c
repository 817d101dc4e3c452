#include <getopt.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "io/file.h"

#include "agent/local.h"
#include "agent/localstop.h"
#include "agent/reach.h"
#include "agent/record.h"
#include "agent/state.h"
#include "agent/verbs.h"

enum { PATIENCE = 20 * 1000, STOP_ARENA = 64 * 1024 };

static int
open_stop(struct state *s, const char *dir, char path[STATE_PATH])
{
	int err = state_open(s, dir, false);

	if (err == 0)
		err = state_path(s, "STOP", path);
	if (err == 0)
		return EXIT_OK;
	(void)complain(EXIT_OTHER, "%s", s->why);
	state_close(s);
	return EXIT_OTHER;
}

static int
failed(int err, const char *what, const char *path)
{
	return complain(err == ERR_DENIED ? EXIT_NOT_PERMITTED : EXIT_OTHER,
	    "cannot %s %s: %s", what, path, err_name(err));
}

/* Beginning ---------------------------------------------------------------- */

static void
tell_agent(const struct state *s)
{
	char path[STATE_PATH];
	struct buf b;

	buf_init(&b, 2 * LOCAL_TEXT);
	int err = state_path(s, "ctl", path);
	if (err == 0)
		err = local_ask(path, &b);
	if (err == ERR_NOT_FOUND || err == ERR_REFUSED)
		(void)puts("no agent runs here; none will start anything");
	else if (err != 0)
		(void)puts("the agent here does not answer; it will start "
			   "nothing when it goes on");
	buf_fini(&b);
}

static int
begin(const struct state *s, const char *path, const char *reason)
{
	struct reach_result r;

	int err = localstop_make(path, reason);
	if (err != 0)
		return failed(err, "make", path);
	/* The agent does the same; it may be down, or slow to notice. */
	err = reach_stop(s->dir, PATIENCE, &r);
	if (err != 0)
		return failed(err, "read", s->dir);
	(void)printf("stopped: %zu of its commands had processes, %zu killed\n",
	    r.holders, r.killed);
	tell_agent(s);
	if (r.left > 0)
		return complain(EXIT_OTHER,
		    "%zu processes outlive SIGKILL: asleep in the kernel",
		    r.left);
	if (r.silent > 0)
		return complain(EXIT_OTHER,
		    "%zu holders do not answer; the agent goes on trying",
		    r.silent);
	return EXIT_OK;
}

int
verb_stop(int argc, char **argv)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },
		{ "reason", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	const char *dir = STATE_DEFAULT, *reason = "";
	char path[STATE_PATH];
	struct state s;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			dir = optarg;
		else if (c == 'r')
			reason = optarg;
		else
			return EXIT_USAGE;
	}
	if (optind < argc)
		return misused("stop: \"%s\" is too much", argv[optind]);
	int code = open_stop(&s, dir, path);
	if (code != EXIT_OK)
		return code;
	code = begin(&s, path, reason);
	state_close(&s);
	return code;
}

/* Ending ------------------------------------------------------------------- */

/* What a controller has said remains: say so for each link. */
static int
tell_link(const char *links, const char *name)
{
	char path[STATE_PATH];
	struct record_stop r;
	struct slice text;
	struct arena a;

	int n = snprintf(path, sizeof(path), "%s/%s/stop", links, name);
	if (n < 0 || n >= STATE_PATH)
		return EXIT_OK;
	arena_init(&a, STOP_ARENA);
	int err = file_read_all(&file_real, path, STOP_ARENA / 2, &a, &text);
	if (err == 0)
		err = record_read_stop(text, &r);
	bool stopped = err == 0 && r.stopped;
	if (stopped)
		(void)printf("still stopped by the controller at %s, epoch "
			     "%llu; only it lifts that\n",
		    name, (unsigned long long)r.epoch);
	arena_fini(&a);
	return stopped ? EXIT_STOPPED : EXIT_OK;
}

static int
tell_links(const struct state *s)
{
	char path[STATE_PATH];
	struct file_names names = { 0 };
	struct arena a;
	int code = EXIT_OK;

	arena_init(&a, STOP_ARENA);
	if (state_path(s, "links", path) == 0)
		(void)file_list(&file_real, path, 256, &a, &names);
	for (size_t i = 0; i < names.count; i++)
		if (tell_link(path, names.at[i].name) != EXIT_OK)
			code = EXIT_STOPPED;
	arena_fini(&a);
	return code;
}

int
verb_resume(int argc, char **argv)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	const char *dir = STATE_DEFAULT;
	char path[STATE_PATH];
	struct state s;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 's')
			return EXIT_USAGE;
		dir = optarg;
	}
	if (optind < argc)
		return misused("resume: \"%s\" is too much", argv[optind]);
	int code = open_stop(&s, dir, path);
	if (code != EXIT_OK)
		return code;
	int err = localstop_remove(path);
	if (err != 0 && err != ERR_NOT_FOUND)
		code = failed(err, "remove", path);
	else
		(void)puts(err == 0 ? "resumed" : "there is no local stop");
	if (code == EXIT_OK)
		code = tell_links(&s);
	state_close(&s);
	return code;
}
