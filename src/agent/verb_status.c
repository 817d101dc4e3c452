#include <getopt.h>
#include <stdio.h>

#include "base/err.h"
#include "base/js.h"

#include "agent/local.h"
#include "agent/localstop.h"
#include "agent/state.h"
#include "agent/verbs.h"

enum { ASK_ARENA = 1024 * 1024 };

static struct slice
text_of(struct js_value v, const char *name)
{
	struct slice s = SL("");

	(void)js_string(js_get(v, name), &s);
	return s;
}

static int64_t
number_of(struct js_value v, const char *name)
{
	int64_t n = 0;

	(void)js_i64(js_get(v, name), &n);
	return n;
}

/* The object's texts were checked by nobody on their way here: nothing but
 * plain characters reaches the terminal. */
static void
print(const char *label, struct slice s)
{
	if (label[0] != '\0')
		(void)printf("%-12s", label);
	for (size_t i = 0; i < s.len; i++)
		(void)putchar(
		    s.ptr[i] < 0x20 || s.ptr[i] == 0x7f ? '?' : s.ptr[i]);
	(void)putchar('\n');
}

static bool
is_stopped(struct js_value stop)
{
	bool stopped = false;

	(void)js_bool(js_get(stop, "stopped"), &stopped);
	return stopped;
}

/* Both kinds, of a link and of the host. */
static void
show_stop(const char *label, struct js_value stop)
{
	if (!is_stopped(stop))
		return;
	if (js_get(stop, "epoch").kind == JS_NUMBER)
		(void)printf("%-12sepoch %lld, since ", label,
		    (long long)number_of(stop, "epoch"));
	else
		(void)printf("%-12sby its owner, since ", label);
	print("", text_of(stop, "since"));
	if (text_of(stop, "scope").len > 0)
		print("  scope", text_of(stop, "scope"));
	if (text_of(stop, "reason").len > 0)
		print("  reason", text_of(stop, "reason"));
}

static void
show_tunnel(struct js_value t)
{
	bool listens = false;

	(void)js_bool(js_get(t, "listens"), &listens);
	print(listens ? "  listens" : "  tunnel", text_of(t, "address"));
	(void)printf("    %.*s port %lld, %lld s, %lld bytes in, %lld out",
	    SLICE_FMT(text_of(t, "kind")), (long long)number_of(t, "port"),
	    (long long)number_of(t, "for_ms") / 1000,
	    (long long)number_of(t, "bytes_in"),
	    (long long)number_of(t, "bytes_out"));
	print(", host ", text_of(t, "host"));
}

/* The list may be shorter than the count. */
static void
show_tunnels(struct js_value tunnels)
{
	struct js_walk i = js_walk(js_get(tunnels, "list"));
	struct js_value v;

	if (number_of(tunnels, "open") + number_of(tunnels, "listeners") == 0)
		return;
	(void)printf("%-12s%lld open, %lld listening\n", "tunnels",
	    (long long)number_of(tunnels, "open"),
	    (long long)number_of(tunnels, "listeners"));
	while (js_next(&i, NULL, &v))
		show_tunnel(v);
}

static bool
show_link(struct js_value l)
{
	bool connected = false;

	(void)js_bool(js_get(l, "connected"), &connected);
	(void)putchar('\n');
	print("controller", text_of(l, "controller"));
	print("state", text_of(l, "state"));
	print("since", text_of(l, "since"));
	if (text_of(l, "why").len > 0)
		print(connected ? "last loss" : "why", text_of(l, "why"));
	if (js_get(l, "next_try_ms").kind == JS_NUMBER)
		(void)printf("%-12sin %lld s\n", "next try",
		    (long long)(number_of(l, "next_try_ms") + 999) / 1000);
	show_stop("stopped", js_get(l, "stop"));
	print("agent", text_of(l, "agent_id"));
	print("name", text_of(l, "name"));
	(void)printf("%-12s%lld\n", "running",
	    (long long)number_of(l, "commands_running"));
	show_tunnels(js_get(l, "tunnels"));
	return connected;
}

static int
show(struct slice text, bool json)
{
	const struct js_limits limits = { LOCAL_TEXT, 8 };
	struct js_walk i;
	struct js_doc doc;
	struct js_value v;
	struct slice word;
	struct arena a;
	bool all = true, stopped;

	arena_init(&a, ASK_ARENA);
	if (js_parse(&doc, text, &limits, &a) != 0)
		return complain(EXIT_OTHER, "the agent's answer is broken");
	struct js_value root = js_root(&doc), policy = js_get(root, "policy");
	if (!json) {
		(void)printf(
		    "%-12s%lld\n", "pid", (long long)number_of(root, "pid"));
		print("version", text_of(root, "version"));
		print("state dir", text_of(root, "state_dir"));
		(void)printf("%-12s", "permits");
		i = js_walk(js_get(policy, "verbs"));
		while (js_next(&i, NULL, &v))
			if (js_string(v, &word) == 0)
				(void)printf("%.*s ", SLICE_FMT(word));
		(void)putchar('\n');
		print("runs as", text_of(root, "exec_user"));
		if (text_of(policy, "error").len > 0)
			print("policy", text_of(policy, "error"));
		show_stop("stopped", js_get(root, "local_stop"));
	}
	stopped = is_stopped(js_get(root, "local_stop"));
	i = js_walk(js_get(root, "links"));
	while (js_next(&i, NULL, &v)) {
		bool connected = false;
		(void)js_bool(js_get(v, "connected"), &connected);
		all &= json ? connected : show_link(v);
		stopped |= is_stopped(js_get(v, "stop"));
	}
	if (json)
		(void)printf("%.*s\n", SLICE_FMT(text));
	arena_fini(&a);
	if (stopped)
		return EXIT_STOPPED;
	return all ? EXIT_OK : EXIT_OTHER;
}

static int
no_agent(const struct state *s)
{
	char path[STATE_PATH];
	struct stop_local l = { 0 };

	if (state_path(s, "STOP", path) == 0)
		localstop_read(path, &l);
	return complain(EXIT_OTHER, "no agent runs on %s%s", s->dir,
	    l.stopped ? ", and STOP there forbids it to start anything" : "");
}

static int
ask(const char *dir, bool json)
{
	char path[STATE_PATH];
	struct state s;
	struct buf b;

	int err = state_open(&s, dir, false);
	if (err == 0)
		err = state_path(&s, "ctl", path);
	if (err != 0)
		return complain(EXIT_OTHER, "%s", s.why);
	buf_init(&b, 2 * LOCAL_TEXT);
	err = local_ask(path, &b);
	int code = EXIT_OTHER;
	if (err == ERR_NOT_FOUND || err == ERR_REFUSED)
		code = no_agent(&s);
	else if (err != 0)
		(void)complain(
		    code, "cannot ask at %s: %s", path, err_name(err));
	else
		code = show(buf_peek(&b), json);
	buf_fini(&b);
	state_close(&s);
	return code;
}

int
verb_status(int argc, char **argv)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	const char *dir = STATE_DEFAULT;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			dir = optarg;
		else if (c == 'j')
			json = true;
		else
			return EXIT_USAGE;
	}
	if (optind < argc)
		return misused("status: \"%s\" is too much", argv[optind]);
	return ask(dir, json);
}
