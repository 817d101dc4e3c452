#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/rand.h"
#include "io/stream.h"

#include "agent/forward.h"
#include "agent/local.h"
#include "agent/localstop.h"
#include "agent/netwatch.h"
#include "agent/uplink.h"
#include "agent/verbs.h"

enum { TIMERS = 16 * 1024, WS_MESSAGE = 1024 * 1024, DESCRIPTORS = 4096 };

struct running {
	struct agent agent;
	struct state_link links[STATE_LINKS];
	struct uplink *uplinks[STATE_LINKS];
	size_t count;
	struct local local;
	struct netwatch net;
	struct localstop localstop;
	struct loop_task watch; /* the end of a turn, when stopping */
	wall_msec started_at;
	bool stopping;
};

/* What is told to `status` --------------------------------------------------
 */

static void
put_policy(const struct agent *a, struct js_writer *w)
{
	js_kv_object(w, "policy");
	js_kv_array(w, "verbs");
	for (unsigned v = 0; v < POLICY_VERBS; v++)
		if (policy_allows(&a->policy, (enum policy_verb)v))
			js_put_string(w,
			    slice_from(policy_verb_name((enum policy_verb)v)));
	js_end(w);
	js_kv_string(w, "hash", (struct slice){ a->policy.hash, POLICY_HASH });
	js_kv_string(w, "error", slice_from(a->policy_error));
	js_end(w);
}

static void
put_local_stop(const struct stop_local *l, struct js_writer *w)
{
	uint8_t at[STAMP_LEN];

	js_kv_object(w, "local_stop");
	js_kv_bool(w, "stopped", l->stopped);
	if (l->stopped) {
		stamp_format(l->at, at);
		js_kv_string(w, "since", (struct slice){ at, sizeof(at) });
	}
	js_kv_string(w, "reason", slice_from(l->reason));
	js_end(w);
}

static void
on_ask(void *arg, struct buf *out)
{
	struct running *r = arg;
	uint8_t stamp[STAMP_LEN];
	struct js_writer w;

	stamp_format(r->started_at, stamp);
	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.agent-status/1"));
	js_kv_string(&w, "version", slice_from(MUSTER_VERSION));
	js_kv_i64(&w, "pid", getpid());
	js_kv_string(&w, "started_at", (struct slice){ stamp, sizeof(stamp) });
	js_kv_string(&w, "state_dir", slice_from(r->agent.state.dir));
	js_kv_string(&w, "exec_user",
	    slice_from(r->agent.has_account ? r->agent.account.name : ""));
	put_policy(&r->agent, &w);
	put_local_stop(&r->agent.local_stop, &w);
	js_kv_array(&w, "links");
	for (size_t i = 0; i < r->count; i++)
		uplink_put_status(r->uplinks[i], &w);
	js_end(&w);
	js_end(&w);
	if (js_finish(&w) != 0)
		out->err = ERR_NOMEM;
}

/* Policy --------------------------------------------------------------------
 */

/* A file that is not there permits observing; a broken one is an error. */
static int
load_policy(struct agent *a)
{
	struct policy_fault fault = { 0 };
	char path[STATE_PATH];

	int err = state_path(&a->state, "policy.conf", path);
	if (err == 0)
		err = policy_load(&a->policy, path, &fault);
	if (err != 0 && err != ERR_NOT_FOUND) {
		(void)snprintf(a->policy_error, sizeof(a->policy_error),
		    "line %u: %.200s", fault.line, fault.why);
		return err;
	}
	a->policy_error[0] = '\0';
	a->has_account = account_find(a->policy.exec_user, &a->account) == 0;
	if (!a->has_account)
		log_error("no_exec_user", kv_s("user", a->policy.exec_user));
	return 0;
}

static void
on_reload(void *arg, int number)
{
	struct running *r = arg;
	int err = load_policy(&r->agent);

	(void)number;
	if (err != 0) {
		log_error("policy_kept", kv_e("err", err),
		    kv_c("why", r->agent.policy_error));
		return;
	}
	log_info("policy_read",
	    kv_s("hash", (struct slice){ r->agent.policy.hash, POLICY_HASH }));
	for (size_t i = 0; i < r->count; i++)
		uplink_policy(r->uplinks[i]);
}

/* Ending --------------------------------------------------------------------
 */

static void
on_turn_end(struct loop_task *t)
{
	struct running *r = LIST_OF(t, struct running, watch);

	if (!r->stopping || r->agent.connections > 0)
		return;
	for (size_t i = 0; i < r->count; i++)
		if (!uplink_stopped(r->uplinks[i]))
			return;
	loop_stop(&r->agent.loop);
}

static void
on_stop(void *arg, int number)
{
	struct running *r = arg;

	if (r->stopping)
		return;
	r->stopping = true;
	log_info("agent_stops", kv_i("signal", number));
	for (size_t i = 0; i < r->count; i++)
		uplink_stop(r->uplinks[i]);
	loop_again(&r->agent.loop);
}

static void
on_network(void *arg)
{
	struct running *r = arg;

	log_debug("network_changed");
	for (size_t i = 0; i < r->count; i++)
		uplink_hurry(r->uplinks[i]);
}

/* The host's own stop came or went. */
static void
on_local_stop(void *arg, const struct stop_local *l, bool known)
{
	struct running *r = arg;

	r->agent.local_stop = *l;
	for (size_t i = 0; i < r->count; i++)
		uplink_local_stop(r->uplinks[i], known);
	if (known)
		log_warn(l->stopped ? "local_stop" : "local_stop_lifted",
		    kv_c("reason", l->reason));
}

/* Beginning -----------------------------------------------------------------
 */

/* The holder lies beside us, or where packages put helpers. */
static int
find_holder(char out[STATE_PATH])
{
	static const char *const places[] = { "", "../libexec/muster/",
		"../lib/muster/" };
	char here[STATE_PATH / 2];
	ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);

	while (n > 0 && here[n - 1] != '/')
		n--;
	if (n <= 0)
		return ERR_NOT_FOUND;
	here[n] = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		(void)snprintf(
		    out, STATE_PATH, "%s%smuster-holder", here, places[i]);
		if (access(out, X_OK) == 0)
			return 0;
	}
	return ERR_NOT_FOUND;
}

static int
open_state(struct running *r, const char *dir)
{
	struct state *s = &r->agent.state;

	int err = state_open(s, dir, false);
	if (err == 0)
		err = state_identify(s, false);
	if (err == 0)
		err = state_lock(s, "lock");
	if (err == 0)
		err = state_load_links(s, r->links, &r->count);
	if (err != 0)
		return complain(EXIT_OTHER, "%s", s->why);
	if (load_policy(&r->agent) != 0)
		return complain(EXIT_OTHER, "%s/policy.conf: %s", s->dir,
		    r->agent.policy_error);
	if (state_path(s, "STOP", r->agent.stop_path) != 0)
		return complain(EXIT_OTHER, "%s is too long a path", s->dir);
	localstop_read(r->agent.stop_path, &r->agent.local_stop);
	r->agent.has_cgroup = cgroup_find(r->agent.cgroup) == 0;
	if (find_holder(r->agent.holder) != 0)
		return complain(
		    EXIT_OTHER, "muster-holder is not beside this program");
	return EXIT_OK;
}

static int
open_uplinks(struct running *r)
{
	char why[STATE_WHY];

	for (size_t i = 0; i < r->count; i++)
		if (uplink_new(&r->agent, &r->links[i], &r->uplinks[i], why) !=
		    0)
			return complain(EXIT_OTHER, "%s", why);
	return EXIT_OK;
}

static void
open_ears(struct running *r)
{
	struct loop *l = &r->agent.loop;
	char path[STATE_PATH];

	int err = state_path(&r->agent.state, "ctl", path);
	if (err == 0)
		err = local_open(&r->local, l, path, on_ask, r);
	if (err != 0)
		log_warn("no_status_socket", kv_e("err", err));
	localstop_open(&r->localstop, l, r->agent.stop_path,
	    &r->agent.local_stop, on_local_stop, r);
	err = netwatch_open(&r->net, l, on_network, r);
	if (err != 0)
		log_warn("no_network_watch", kv_e("err", err));
	loop_task_init(&r->watch, on_turn_end);
	loop_hook(l, LOOP_SLEEP, &r->watch);
	if (loop_signal(l, SIGTERM, on_stop, r) != 0 ||
	    loop_signal(l, SIGINT, on_stop, r) != 0 ||
	    loop_signal(l, SIGHUP, on_reload, r) != 0)
		log_warn("no_signals");
}

static void
open_wsconn(struct agent *a)
{
	uint64_t key[2];

	rand_fill(key, sizeof(key));
	wsconn_lane_init(&a->ws, key, 6);
	a->ws_config = (struct wsconn_config){
		.lane = &a->ws,
		.text_cap = WS_MESSAGE,
		.binary_cap = WS_MESSAGE,
		.compress_min = SIZE_MAX,
		.ping_every = 30 * 1000,
		.dead_after = 60 * 1000,
		.close_within = 3 * 1000,
	};
}

/* A tunnel is a descriptor, and a command some; the usual 1,024 are fewer
 * than the policy's defaults. */
static void
raise_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= DESCRIPTORS)
		return;
	l.rlim_cur = l.rlim_max < DESCRIPTORS ? l.rlim_max : DESCRIPTORS;
	(void)setrlimit(RLIMIT_NOFILE, &l);
}

static int
run(struct running *r, const char *dir)
{
	struct agent *a = &r->agent;

	policy_init(&a->policy);
	int code = open_state(r, dir);
	if (code != EXIT_OK)
		return code;
	if (loop_init(&a->loop, TIMERS) != 0)
		return complain(EXIT_OTHER, "cannot make an event loop");
	open_wsconn(a);
	raise_limit();
	probe_facts(&a->facts, "/");
	forward_domain(a->domain);
	r->started_at = clock_wall();
	code = open_uplinks(r);
	if (code != EXIT_OK)
		return code;
	open_ears(r);
	log_info("agent_started", kv_c("version", MUSTER_VERSION),
	    kv_c("state", a->state.dir), kv_u("links", r->count));
	for (size_t i = 0; i < r->count; i++)
		uplink_start(r->uplinks[i]);
	loop_run(&a->loop);
	local_close(&r->local);
	netwatch_close(&r->net);
	localstop_close(&r->localstop);
	for (size_t i = 0; i < r->count; i++)
		uplink_free(r->uplinks[i]);
	stream_loop_fini(&a->loop);
	loop_fini(&a->loop);
	wsconn_lane_fini(&a->ws);
	policy_fini(&a->policy);
	state_close(&a->state);
	log_info("agent_stopped");
	log_flush();
	return EXIT_OK;
}

int
verb_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	static struct running r;
	const char *dir = STATE_DEFAULT;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 's')
			return EXIT_USAGE;
		dir = optarg;
	}
	if (optind < argc)
		return misused("run: \"%s\" is too much", argv[optind]);
	log_init(&(struct log_config){
	    .fd = 2, .level = LEVEL_INFO, .per_second = 50 });
	return run(&r, dir);
}
