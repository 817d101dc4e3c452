/*
 * settings: what musterd is told (floor: server; muster.conf(5)).
 *
 * Flag, environment (MUSTER_<KEY>), file, default: the first that says
 * something wins.  One table has every key with its bounds and sentence.
 */
#ifndef SERVER_SETTINGS_H
#define SERVER_SETTINGS_H

#include "base/arena.h"
#include "base/conf.h"

#include "server/port_conf.h"

enum { LISTENS_MAX = 16 };

struct settings {
	struct slice data; /* data directory */
	struct slice public_url;
	struct slice tls_cert;
	struct slice tls_key;
	bool tls_auto;
	uint64_t lanes;
	struct slice log_level;
	bool dev;
	bool insecure;
	struct slice hosts;
	struct slice tunnel_origin;
	bool unsafe_path_routes;
	bool refuse_takeover;
	struct slice cors_origins;
	struct slice trusted_proxies;
	uint64_t connections;
	uint64_t source_connections;
	uint64_t source_strangers;
	uint64_t user_connections;
	uint64_t memory_limit;
	uint64_t output_max;
	uint64_t output_total;
	msec drain_grace;
	uint64_t request_rate;
	uint64_t concurrency;
	uint64_t queue_limit;
	uint64_t foreground_max;
	uint64_t login_rate;
	msec access_ttl;
	msec refresh_ttl;
	msec session_ttl;
	struct slice jwt_hs256_secret_file;
	struct slice jwt_keys_file;
	struct slice jwt_jwks_url;
	struct slice jwt_issuer;
	struct slice jwt_audience;
	struct slice jwt_default_role;
	/* "ADDR:PORT[,proxy]", from the strongest source that names any. */
	struct slice listens[LISTENS_MAX];
	size_t listen_count;
	struct port_conf ports[PORTS_MAX];
	size_t port_count;
};

/* One "key=value" of the command line; value of a bare flag is "on". */
struct setting_flag {
	struct slice key;
	struct slice value;
};

const struct conf_table *settings_table(void);

/* Whether tunnel_origin is where the controller itself answers: pages of
 * services would share its cookies and its storage. */
bool settings_origins_clash(
    struct slice public_url, struct slice tunnel_origin);

/*
 * Fill *out.  file may be absent; text is its contents (absent: no file).
 * Slices are borrowed from flags, environment and arena.  Returns the number
 * of problems; each is one line appended to *problems.
 */
size_t settings_read(struct settings *out, struct slice file, struct slice text,
    const struct setting_flag *flags, size_t flag_count, struct arena *a,
    struct buf *problems);

/* What settings were read from, beside the environment. */
struct settings_from {
	struct slice file; /* its name; absent: none */
	struct slice text;
	const struct setting_flag *flags;
	size_t flag_count;
};

/* Where the strongest word on a key stands: the file, with *line, or
 * "environment", "command line", "default". */
struct slice settings_where(const struct settings_from *from, struct slice key,
    struct arena *a, uint32_t *line);

#endif
