#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/url.h"

#include "io/addr.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/listen.h"
#include "io/log.h"
#include "io/rand.h"
#include "io/tls.h"

#include "server/boot.h"
#include "server/credential.h"
#include "server/dock.h"
#include "server/jwks.h"
#include "server/noncebook.h"
#include "server/pressure.h"
#include "server/router.h"
#include "server/sources.h"
#include "server/stopfile.h"
#include "server/stopkey.h"
#include "server/tally.h"
#include "server/vault.h"
#include "server/wall.h"
#include "server/wall_token.h"

#include "server/run.h"

enum {
	WHY = 512,
	PATH_SIZE = 4096,
	TIMERS = 1 << 20,
	MAIL_MAX = 1 << 20,
	MAIL_ARENA = 256 * 1024 * 1024,
	LOAD_ARENA = 1 << 30,
	DRAIN_SPREAD = 5000,
	SETUP_LIFE = 900000,
	RESERVE = 16, /* connections for what ends things */
	OWN_FILES = 64,
	FILES_A_LANE = 48,
};

struct runner {
	struct server server;
	struct loop loop; /* of the hub, and of the only lane if there is one */
	struct dock *docks;
	size_t started; /* lanes */
	struct store *store;
	char dir[PATH_SIZE];
	char url[PATH_SIZE];
	char host[256];
	char admin_file[PATH_SIZE + 16]; /* when it was made anew */
	char setup[RAND_TOKEN_SIZE];     /* at the first start */
	struct jwks *jwks;
	run_reload_fn *reload;
	void *reload_arg;
	struct loop_timer grace;
	struct pressure pressure;
	struct loop_task watch;
	bool stopping;
};

static int
fail(const char *what)
{
	fprintf(stderr, "musterd: %s\n", what);
	return 1;
}

/* Settings --------------------------------------------------------------- */

static bool
is_loopback(struct slice wish)
{
	union addr a;

	return addr_parse(slice_first(wish, slice_find(wish, ',')), &a) == 0 &&
	    addr_is_loopback(&a.sa);
}

static bool
has_tls(const struct settings *s)
{
	return s->tls_auto || s->tls_cert.len > 0;
}

static int
check_listens(const struct settings *s)
{
	for (size_t i = 0; i < s->listen_count; i++) {
		if (has_tls(s) || s->insecure || is_loopback(s->listens[i]))
			continue;
		fprintf(stderr,
		    "musterd: %.*s is not loopback and there is no TLS: give "
		    "--tls-auto or --tls-cert and --tls-key (or --insecure, "
		    "if a proxy in front does it)\n",
		    SLICE_FMT(s->listens[i]));
		return ERR_DENIED;
	}
	return 0;
}

/* The URL that agents and people use, when none is given: the first address
 * listened on.  Its port is known once it is. */
static int
default_url(struct runner *r, const union addr *a)
{
	char text[ADDR_TEXT];
	struct slice name;

	addr_format(&a->sa, text);
	snprintf(r->url, sizeof(r->url), "%s://%s",
	    has_tls(&r->server.settings) ? "https" : "http", text);
	r->server.public_url = slice_from(r->url);
	addr_format_ip(&a->sa, text);
	name = slice_from(text);
	if (slice_cstr(name, r->host, sizeof(r->host)) != 0)
		return ERR_INVALID;
	r->server.public_host = slice_from(r->host);
	return 0;
}

static int
given_url(struct runner *r)
{
	struct url u;

	snprintf(r->url, sizeof(r->url), "%.*s",
	    SLICE_FMT(r->server.settings.public_url));
	size_t len = strlen(r->url);
	if (len > 0 && r->url[len - 1] == '/')
		r->url[--len] = '\0';
	r->server.public_url = slice_from(r->url);
	if (url_parse(r->server.public_url, &u) != 0 || u.websocket) {
		fprintf(stderr,
		    "musterd: public_url %s is not an http or "
		    "https URL\n",
		    r->url);
		return ERR_INVALID;
	}
	if (slice_cstr(u.at.name, r->host, sizeof(r->host)) != 0)
		return ERR_INVALID;
	r->server.public_host = slice_from(r->host);
	return 0;
}

static int
settle_url(struct runner *r)
{
	const struct settings *s = &r->server.settings;
	struct slice first =
	    slice_first(s->listens[0], slice_find(s->listens[0], ','));
	union addr a;

	if (s->public_url.len > 0)
		return given_url(r);
	if (addr_parse(first, &a) != 0) {
		fprintf(stderr, "musterd: \"%.*s\" is not ADDRESS:PORT\n",
		    SLICE_FMT(first));
		return ERR_INVALID;
	}
	return default_url(r, &a);
}

static int
check_tunnel_origin(const struct runner *r)
{
	if (!settings_origins_clash(
		r->server.public_url, r->server.settings.tunnel_origin))
		return 0;
	fprintf(stderr,
	    "musterd: tunnel_origin %.*s is the controller's own: give it "
	    "another host or port\n",
	    SLICE_FMT(r->server.settings.tunnel_origin));
	return ERR_INVALID;
}

/* Parts -------------------------------------------------------------------- */

static int
open_store(struct runner *r)
{
	const struct settings *s = &r->server.settings;
	char why[WHY] = "";
	bool first = false;

	r->server.store_config = (struct store_config){ .dir = r->dir,
		.files = &file_real,
		.node = 1,
		.output_max = s->output_max,
		.total_max = s->output_total };
	if (boot_directory(r->dir, why, sizeof(why)) != 0 ||
	    store_open(&r->store, &r->server.store_config, why, sizeof(why)) !=
		0)
		return fail(why);
	r->server.incarnation = store_incarnation(r->store);
	int err = boot_admin(r->store, r->dir, clock_wall(), r->admin_file,
	    sizeof(r->admin_file), &first);
	if (err == 0 && first)
		rand_token("mst_", r->setup);
	if (err != 0) {
		fprintf(stderr, "musterd: cannot make %s/admin.token: %s\n",
		    r->dir, err_name(err));
		return 1;
	}
	return 0;
}

static void
say_admin(const struct runner *r)
{
	if (r->admin_file[0] != '\0')
		fprintf(stderr,
		    "musterd: an administrator's token is in %s\n"
		    "musterd: use it by: muster login %s --token-file %s\n",
		    r->admin_file, r->url, r->admin_file);
	if (r->setup[0] != '\0')
		fprintf(stderr,
		    "musterd: set the administrator's password within 15 "
		    "minutes by\n"
		    "musterd:   muster user setup %s/setup#%s\n",
		    r->url, r->setup);
}

/* And the keys; before any agent is let in. */
static int
load_stops(struct runner *r, struct arena *a, struct hub_snapshot *all)
{
	struct stop_state *kept = arena_alloc(a, sizeof(*kept));

	if (kept == NULL)
		return ERR_NOMEM;
	int err = stopfile_read(&file_real, r->dir, a, kept);
	if (err == 0)
		all->kept = kept;
	else if (err != ERR_NOT_FOUND)
		fprintf(stderr,
		    "musterd: %s/stop.epoch cannot be read (%s): move it away "
		    "to believe what the database says of stops\n",
		    r->dir, err_name(err));
	if (err != 0 && err != ERR_NOT_FOUND)
		return err;
	all->stop_switch =
	    stopfile_look(&file_real, r->dir, a, &all->stop_switch_text) == 1;
	err = stopkey_open(r->store, r->server.stop_key, clock_wall());
	if (err == 0)
		err = wall_key_open(r->store, r->server.wall_key, clock_wall());
	return err != 0 ? err : wall_open(&r->server);
}

static struct hub *
load_hub(struct runner *r)
{
	struct hub_config c = { .node = 1,
		.refuse_takeover = r->server.settings.refuse_takeover,
		.user_connections =
		    (uint32_t)r->server.settings.user_connections,
		.fence = store_fence(r->store),
		.request_rate = (uint32_t)r->server.settings.request_rate,
		.concurrency = (uint32_t)r->server.settings.concurrency,
		.queue_limit = (uint32_t)r->server.settings.queue_limit,
		.foreground_max = (uint32_t)r->server.settings.foreground_max,
		.login_rate = (uint32_t)r->server.settings.login_rate,
		.may_set_up = r->setup[0] != '\0',
		.setup_until = clock_wall() + SETUP_LIFE,
		.incarnation = r->server.incarnation };
	struct hub_snapshot all;
	struct arena a;

	rand_fill(c.seed, sizeof(c.seed));
	if (credential_hash(slice_from(r->setup), c.setup_hash) != 0)
		return NULL;
	struct hub *h = hub_new(&c);
	if (h == NULL)
		return NULL;
	arena_init(&a, LOAD_ARENA);
	int err = store_load(r->store, &a, &all);
	if (err == 0)
		err = load_stops(r, &a, &all);
	if (err == 0)
		err = hub_load(h, &all, clock_mono());
	arena_fini(&a);
	if (err == 0)
		return h;
	fprintf(stderr, "musterd: cannot load what the store holds: %s\n",
	    err_name(err));
	hub_free(h);
	return NULL;
}

static int
start_core(struct runner *r)
{
	struct hub *h = load_hub(r);

	if (h == NULL)
		return 1;
	r->server.core = core_new(&r->server, &r->loop, h);
	if (r->server.core == NULL) {
		hub_free(h);
		return fail("out of memory");
	}
	const struct writer_config c = {
		.store = r->store, .wake = core_wake, .owner = r->server.core
	};
	if (writer_start(&r->server.writer, &c) != 0)
		return fail("cannot start the store's thread");
	const struct stopfile_config stops = { .dir = r->dir,
		.files = &file_real,
		.wake = core_wake,
		.owner = r->server.core };
	if (stopfile_start(&r->server.stopfile, &stops) != 0)
		return fail("cannot start the stop's thread");
	return 0;
}

static int
start_keys(struct runner *r)
{
	const struct settings *s = &r->server.settings;
	char why[KEYRING_WHY] = "out of memory";

	if (keyring_open(&r->server.keyring, r->dir, s, why, sizeof(why)) != 0)
		return fail(why);
	if (s->jwt_jwks_url.len == 0)
		return 0;
	r->jwks = jwks_start(&r->loop, r->server.keyring, s->jwt_jwks_url);
	return r->jwks == NULL ? fail("out of memory") : 0;
}

static int
start_signed(struct runner *r)
{
	char why[WHY] = "";

	if (vault_open(r->dir, r->server.secrets_key, why, sizeof(why)) != 0)
		return fail(why);
	int err = noncebook_open(&r->server.noncebook, r->dir, clock_mono());
	if (err == 0)
		return 0;
	fprintf(stderr, "musterd: %s/nonces cannot be used: %s\n", r->dir,
	    err_name(err));
	return 1;
}

/* How many lanes: the hub's thread and the store's want a core, too. */
static size_t
lane_count(const struct settings *s)
{
	unsigned cores = uv_available_parallelism();

	if (s->lanes > 0)
		return (size_t)s->lanes;
	if (cores <= 4)
		return 1;
	return cores / 2 < LANES_MAX ? cores / 2 : LANES_MAX;
}

/* As many connections as there are descriptors for, beside our own: files
 * of the store and its readers, and each lane's loop. */
static int
start_counting(struct runner *r)
{
	const struct settings *s = &r->server.settings;
	struct rlimit l;
	struct sources_limits limits = { .all = s->connections,
		.reserve = RESERVE,
		.known = s->source_connections,
		.strangers = s->source_strangers };
	uint64_t own = OWN_FILES + FILES_A_LANE * lane_count(s);

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < limits.all + own)
		limits.all = l.rlim_cur > own + 2 * RESERVE ? l.rlim_cur - own
							    : 2 * RESERVE;
	if (limits.all < s->connections)
		log_warn("few_descriptors", kv_u("connections", limits.all));
	r->server.sources = sources_new(&limits);
	r->server.forwards = tally_new(s->user_connections);
	return r->server.sources == NULL || r->server.forwards == NULL
	    ? fail("out of memory")
	    : 0;
}

static int
start_lane(struct runner *r, size_t index)
{
	struct dock *d = &r->docks[index];
	const struct lane_config c = { .index = (unsigned)index,
		.hub_loop = &r->loop,
		.shared = r->server.dock_count == 1,
		.timer_cap = TIMERS,
		.to_lane = { MAIL_MAX, MAIL_MAX },
		.to_hub = { MAIL_MAX, MAIL_MAX },
		.arena_cap = MAIL_ARENA,
		.begin = dock_begin,
		.on_mail = dock_mail,
		.end = dock_end,
		.arg = d };

	d->server = &r->server;
	if (lane_start(&d->lane, &c) != 0)
		return fail(
		    d->why[0] != '\0' ? d->why : "cannot start serving");
	core_add_lane(r->server.core, &d->lane);
	r->started++;
	return 0;
}

static int
start_lanes(struct runner *r)
{
	size_t n = lane_count(&r->server.settings);

	r->docks = alloc_array(n, sizeof(*r->docks));
	if (r->docks == NULL)
		return fail("out of memory");
	r->server.docks = r->docks;
	r->server.dock_count = n;
	r->server.inherited = listen_inherited();
	for (size_t i = 0; i < n; i++) {
		if (start_lane(r, i) != 0)
			return 1;
	}
	/* What nobody reads before the lanes are told to start. */
	if (r->server.settings.public_url.len == 0 &&
	    default_url(r, listener_address(r->docks[0].listeners[0])) != 0)
		return 1;
	core_tell_lanes(r->server.core, LANE_START, 0);
	return 0;
}

/* Signals ------------------------------------------------------------------ */

static void
look_for_end(struct loop_task *t)
{
	struct runner *r = LIST_OF(t, struct runner, watch);

	if (r->stopping && r->server.counts.connections == 0)
		loop_stop(&r->loop);
}

static void
grace_over(struct loop_timer *t)
{
	struct runner *r = LIST_OF(t, struct runner, grace);

	log_warn("drain_grace_over",
	    kv_u("connections", r->server.counts.connections));
	loop_stop(&r->loop);
}

static void
drain(void *arg, int number)
{
	struct runner *r = arg;

	if (r->stopping) {
		/* Asked twice: at once. */
		loop_stop(&r->loop);
		return;
	}
	r->stopping = true;
	r->server.draining = true;
	boot_notify("STOPPING=1");
	log_info("draining", kv_i("signal", number),
	    kv_u("connections", r->server.counts.connections));
	core_tell_lanes(r->server.core, LANE_DRAIN, DRAIN_SPREAD);
	loop_hook(&r->loop, LOOP_SLEEP, &r->watch);
	loop_timer_set(&r->loop, &r->grace,
	    loop_now(&r->loop) + r->server.settings.drain_grace, grace_over);
}

static void
reload(void *arg, int number)
{
	struct runner *r = arg;
	struct settings fresh;
	enum log_level level;
	char why[WHY] = "";

	(void)number;
	snprintf(why, sizeof(why), "RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)(clock_mono_ns() / 1000));
	boot_notify(why);
	if (r->reload(&fresh, r->reload_arg) != 0) {
		log_error("reload_refused");
		boot_notify("READY=1");
		return;
	}
	if (log_level_parse(fresh.log_level, &level) == 0)
		log_set_level(level);
	r->server.settings.drain_grace = fresh.drain_grace;
	r->server.settings.tls_cert = fresh.tls_cert;
	r->server.settings.tls_key = fresh.tls_key;
	if (r->server.tls != NULL &&
	    boot_tls(&r->server, r->dir, why, sizeof(why)) != 0)
		log_error("tls_reload_refused", kv_s("why", slice_from(why)));
	r->server.settings.jwt_hs256_secret_file = fresh.jwt_hs256_secret_file;
	r->server.settings.jwt_keys_file = fresh.jwt_keys_file;
	if (keyring_reload(r->server.keyring, &fresh, why, sizeof(why)) != 0)
		log_error("keys_reload_refused", kv_s("why", slice_from(why)));
	log_info("reloaded");
	boot_notify("READY=1");
}

static void
raise_file_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int
start(struct runner *r)
{
	char why[WHY] = "";

	if (slice_cstr(r->server.settings.data, r->dir, sizeof(r->dir)) != 0)
		return fail("the data directory's name is too long");
	if (check_listens(&r->server.settings) != 0 || settle_url(r) != 0 ||
	    check_tunnel_origin(r) != 0)
		return 1;
	if (open_store(r) != 0)
		return 1;
	if (boot_tls(&r->server, r->dir, why, sizeof(why)) != 0)
		return fail(why);
	if (start_keys(r) != 0 || start_signed(r) != 0)
		return 1;
	if (start_counting(r) != 0 || start_core(r) != 0 || start_lanes(r) != 0)
		return 1;
	if (loop_signal(&r->loop, SIGTERM, drain, r) != 0 ||
	    loop_signal(&r->loop, SIGINT, drain, r) != 0 ||
	    loop_signal(&r->loop, SIGHUP, reload, r) != 0)
		return fail("cannot watch signals");
	say_admin(r);
	return 0;
}

/* Lanes first, then what they said last, then what that made of the store. */
static void
stop(struct runner *r)
{
	for (size_t i = 0; i < r->started; i++)
		lane_stop(&r->docks[i].lane);
	if (r->server.writer != NULL) {
		core_finish(r->server.core);
		stopfile_stop(r->server.stopfile);
		r->server.stopfile = NULL;
		writer_stop(r->server.writer);
	}
	core_free(r->server.core);
	for (size_t i = 0; i < r->started; i++)
		lane_fini(&r->docks[i].lane);
	alloc_free(r->docks);
	noncebook_close(r->server.noncebook);
	sources_free(r->server.sources);
	tally_free(r->server.forwards);
	jwks_stop(r->jwks);
	if (r->store != NULL)
		store_close(r->store);
	if (r->server.tls != NULL)
		tls_server_free(r->server.tls);
}

int
run_server(const struct settings *s, run_reload_fn *reload_fn, void *arg)
{
	struct runner *r = alloc_new(sizeof(*r));

	if (r == NULL)
		return fail("out of memory");
	r->server.settings = *s;
	r->server.started_at = clock_wall();
	r->reload = reload_fn;
	r->reload_arg = arg;
	pthread_mutex_init(&r->server.rates_lock, NULL);
	loop_task_init(&r->watch, look_for_end);
	rand_fill(r->server.nonce_key, sizeof(r->server.nonce_key));
	signal(SIGPIPE, SIG_IGN);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	raise_file_limit();
	if (loop_init(&r->loop, TIMERS) != 0)
		return fail("cannot make an event loop");
	int status = start(r);
	if (status == 0) {
		log_info("ready", kv_s("url", r->server.public_url),
		    kv_c("version", MUSTER_VERSION),
		    kv_s("data", r->server.settings.data));
		boot_notify("READY=1");
		pressure_start(&r->pressure, &r->server, &r->loop);
		loop_run(&r->loop);
		pressure_stop(&r->pressure);
	}
	stop(r);
	loop_fini(&r->loop);
	wall_close(&r->server);
	keyring_free(r->server.keyring);
	if (status == 0)
		log_info("stopped");
	log_flush();
	alloc_free(r);
	return status;
}
