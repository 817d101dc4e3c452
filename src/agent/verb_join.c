#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"
#include "io/proc.h"
#include "io/tls.h"
#include "wire/enc.h"

#include "agent/account.h"
#include "agent/policy.h"
#include "agent/post.h"
#include "agent/state.h"
#include "agent/verbs.h"

enum { TOKEN_MAX = 512, TARGETS_MAX = 64, NAME_MAX_BYTES = 255 };

static const char run_user[] = "muster-run";

struct join {
	const char *url_text, *token_file, *name, *exec_user, *ca_file, *dir;
	unsigned verbs;
	bool verbs_said; /* the policy is asked for on the line */
	struct slice targets[TARGETS_MAX];
	size_t target_count;
	struct url url;
	char token_text[TOKEN_MAX];
	struct slice token;
	uint8_t pin[TLS_PIN];
	bool pinned;
	char host[256]; /* this one's name */
	struct state state;
	struct state_link link;
};

/* The line ------------------------------------------------------------------
 */

static int
read_verbs(struct join *j, const char *list)
{
	struct slice rest = slice_from(list), word;
	enum policy_verb verb;

	while (slice_split(&rest, ',', &word)) {
		if (policy_verb_parse(slice_trim(word), &verb) != 0)
			return misused("join: --allow does not know \"%.*s\"",
			    SLICE_FMT(word));
		j->verbs |= 1U << verb;
	}
	j->verbs_said = true;
	return EXIT_OK;
}

static int
add_target(struct join *j, const char *target)
{
	if (j->target_count == TARGETS_MAX)
		return misused("join: too many --allow-target");
	j->targets[j->target_count++] = slice_from(target);
	j->verbs |= 1U << POLICY_TUNNEL;
	j->verbs_said = true;
	return EXIT_OK;
}

static int
read_option(struct join *j, int c)
{
	switch (c) {
	case 't':
		j->token_file = optarg;
		return EXIT_OK;
	case 'n':
		j->name = optarg;
		return EXIT_OK;
	case 'a':
		return read_verbs(j, optarg);
	case 'T':
		return add_target(j, optarg);
	case 'u':
		j->exec_user = optarg;
		return EXIT_OK;
	case 's':
		j->dir = optarg;
		return EXIT_OK;
	case 'c':
		j->ca_file = optarg;
		return EXIT_OK;
	default:
		return EXIT_USAGE;
	}
}

static int
read_line(struct join *j, int argc, char **argv)
{
	static const struct option options[] = {
		{ "token-file", required_argument, NULL, 't' },
		{ "name", required_argument, NULL, 'n' },
		{ "allow", required_argument, NULL, 'a' },
		{ "allow-target", required_argument, NULL, 'T' },
		{ "exec-user", required_argument, NULL, 'u' },
		{ "state", required_argument, NULL, 's' },
		{ "ca-file", required_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	int c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if ((code = read_option(j, c)) != EXIT_OK)
			return code;
	if (argc - optind != 1)
		return misused("join: one URL is needed");
	if (j->token_file == NULL)
		return misused("join: --token-file is needed");
	j->url_text = argv[optind];
	if (url_parse(slice_from(j->url_text), &j->url) != 0 ||
	    !(slice_eq(j->url.path, SL("/")) || j->url.path.len == 0) ||
	    j->url.query.ptr != NULL)
		return misused(
		    "join: \"%s\" is not http(s)://host[:port]", j->url_text);
	if (j->name == NULL) {
		(void)gethostname(j->host, sizeof(j->host) - 1);
		j->name = j->host;
	}
	size_t len = strlen(j->name);
	if (len == 0 || len > NAME_MAX_BYTES)
		return misused("join: a name has 1 to 255 bytes");
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)j->name[i]))
			return misused(
			    "join: a name has no control characters");
	return EXIT_OK;
}

/* The token, without the pin behind it. */
static int
read_token(struct join *j)
{
	bool from_stdin = strcmp(j->token_file, "-") == 0;
	FILE *f = from_stdin ? stdin : fopen(j->token_file, "re");
	struct slice pin = { 0 };

	if (f == NULL)
		return complain(EXIT_OTHER, "cannot read %s: %s", j->token_file,
		    strerror(errno));
	size_t n = fread(j->token_text, 1, sizeof(j->token_text) - 1, f);
	if (!from_stdin)
		(void)fclose(f);
	while (n > 0 && isspace((unsigned char)j->token_text[n - 1]))
		n--;
	j->token =
	    token_cut_pin((struct slice){ (uint8_t *)j->token_text, n }, &pin);
	for (size_t i = 0; i < j->token.len; i++)
		if (j->token.ptr[i] <= ' ' || j->token.ptr[i] > '~')
			n = 0;
	if (n == 0 || j->token.len == 0)
		return complain(
		    EXIT_OTHER, "there is no token in %s", j->token_file);
	if (pin.ptr == NULL)
		return EXIT_OK;
	if (tls_pin_parse(pin, j->pin) != 0)
		return complain(
		    EXIT_OTHER, "the pin in %s is broken", j->token_file);
	if (!j->url.tls)
		return misused("join: this token pins the controller's key, "
			       "which needs https");
	j->pinned = true;
	return EXIT_OK;
}

/* Who commands run as -------------------------------------------------------
 */

static int
make_run_user(void)
{
	static const char *const argv[] = { "useradd", "--system",
		"--user-group", "--no-create-home", "--home-dir",
		"/nonexistent", "--shell", "/usr/sbin/nologin", "--comment",
		"Commands of muster-agent", run_user, NULL };
	static const char *const env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		NULL };
	const struct proc_fd err = { 2, 2 };
	const struct proc_config c = { .path = "/usr/sbin/useradd",
		.argv = argv,
		.env = env,
		.fds = &err,
		.fd_count = 1 };
	struct proc_exit how;
	struct proc p;

	if (proc_start(&c, &p) != 0 || proc_wait(&p, &how) != 0 ||
	    how.code != 0)
		return complain(EXIT_OTHER,
		    "cannot make the user %s by useradd; name another with "
		    "--exec-user",
		    run_user);
	(void)fprintf(
	    stderr, "made the user %s, as whom commands run\n", run_user);
	return EXIT_OK;
}

static int
choose_user(struct join *j)
{
	struct account a;

	if (j->exec_user == NULL && getuid() != 0)
		return EXIT_OK;
	if (j->exec_user == NULL) {
		j->exec_user = run_user;
		if (account_find(slice_from(run_user), &a) != 0)
			return make_run_user();
		return EXIT_OK;
	}
	if (account_find(slice_from(j->exec_user), &a) != 0)
		return complain(
		    EXIT_OTHER, "there is no user \"%s\"", j->exec_user);
	if (strcmp(j->exec_user, "root") == 0)
		(void)fputs("WARNING: --exec-user root gives this host away: "
			    "whoever commands\nthe controller can do anything "
			    "here, and rewrite the policy.\n",
		    stderr);
	return EXIT_OK;
}

static int
save_policy(struct join *j)
{
	const struct policy_wish wish = {
		.verbs = j->verbs | 1U << POLICY_OBSERVE,
		.exec_user = slice_from(j->exec_user),
		.targets = j->targets,
		.target_count = j->target_count,
	};
	char path[STATE_PATH];
	struct buf b;

	int err = state_path(&j->state, "policy.conf", path);
	if (err == 0 && !j->verbs_said && access(path, F_OK) == 0)
		return EXIT_OK; /* what the owner has set stays */
	buf_init(&b, POLICY_BYTES);
	policy_write(&wish, &b);
	if (err == 0)
		err = b.err;
	if (err == 0)
		err = file_write_atomic(&file_real, path, buf_peek(&b), 0600);
	buf_fini(&b);
	if (err != 0)
		return complain(
		    EXIT_OTHER, "cannot write %s: %s", path, err_name(err));
	return EXIT_OK;
}

/* The exchange --------------------------------------------------------------
 */

static int
put_wish(struct join *j, struct buf *out)
{
	struct js_writer w;
	struct buf key;

	buf_init(&key, 64);
	enc_put_base64(
	    &key, (struct slice){ j->link.key, ED25519_KEY }, ENC_STD);
	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "name", slice_from(j->name));
	js_kv_string(&w, "public_key", buf_peek(&key));
	js_kv_string(&w, "install_id", j->state.install_id);
	js_kv_object(&w, "labels");
	js_end(&w);
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		err = key.err;
	buf_fini(&key);
	return err;
}

static int
refused(int status, struct js_value root, bool json)
{
	struct slice detail = SL("");

	if (json)
		(void)js_string(js_get(root, "detail"), &detail);
	return complain(
	    status == 401 || status == 403 ? EXIT_NOT_PERMITTED : EXIT_OTHER,
	    "the controller refuses (%d)%s%.*s", status,
	    detail.len > 0 ? ": " : "", SLICE_FMT(detail));
}

static int
take_answer(struct join *j, int status, struct slice body)
{
	const struct js_limits limits = { POST_ANSWER, 16 };
	struct slice id, cluster, name, incarnation;
	struct arena *a = &j->state.arena;
	struct js_fields f;
	struct js_doc doc;

	bool json = js_parse(&doc, body, &limits, a) == 0;
	if (status != 200 && status != 201)
		return refused(status,
		    json ? js_root(&doc) : (struct js_value){ 0 }, json);
	js_fields_init(&f, json ? js_root(&doc) : (struct js_value){ 0 });
	js_need_string(&f, "agent_id", &id);
	js_opt_string(&f, "cluster_id", &cluster);
	js_opt_string(&f, "name", &name);
	js_opt_string(&f, "incarnation", &incarnation);
	if (f.err != 0 || id.len == 0)
		return complain(EXIT_OTHER,
		    "what answers at %s is no Muster controller", j->url_text);
	j->link.agent_id = arena_cstr(a, id);
	j->link.cluster_id = arena_cstr(a, cluster);
	j->link.name = name.len > 0 ? arena_cstr(a, name) : j->name;
	j->link.incarnation = arena_cstr(a, incarnation);
	return j->link.agent_id != NULL && j->link.cluster_id != NULL &&
		j->link.name != NULL && j->link.incarnation != NULL
	    ? EXIT_OK
	    : complain(EXIT_OTHER, "no memory");
}

static int
exchange(struct join *j)
{
	char why[POST_WHY] = "";
	struct buf wish, answer;
	int status = 0, code = EXIT_OTHER;

	buf_init(&wish, 8192);
	buf_init(&answer, POST_ANSWER);
	const struct post p = {
		.url = &j->url,
		.target = SL("/api/v1/agents/join"),
		.bearer = j->token,
		.ca_file = j->ca_file,
		.pin = j->pinned ? j->pin : NULL,
	};
	struct post full = p;
	int err = put_wish(j, &wish);
	full.json = buf_peek(&wish);
	if (err != 0)
		(void)complain(code, "%s", err_name(err));
	else if (post_json(&full, &answer, &status, why) != 0)
		(void)complain(code, "cannot join at %s: %s", j->url_text, why);
	else
		code = take_answer(j, status, buf_peek(&answer));
	buf_fini(&wish);
	buf_fini(&answer);
	return code;
}

/* Writing it down -----------------------------------------------------------
 */

static int
open_state(struct join *j)
{
	int err = state_open(&j->state, j->dir, true);

	if (err == 0)
		err = state_lock(&j->state, "join.lock");
	if (err == 0)
		err = state_identify(&j->state, true);
	if (err == 0)
		err = state_make_link(
		    &j->state, j->url.at.name, j->url.port, &j->link);
	return err == 0 ? EXIT_OK : complain(EXIT_OTHER, "%s", j->state.why);
}

static int
save_link(struct join *j)
{
	static char url[512], pin[TLS_PIN_TEXT];
	struct buf host;

	buf_init(&host, 300);
	url_put_host(&host, &j->url);
	(void)snprintf(url, sizeof(url), "%s://%.*s",
	    j->url.tls ? "https" : "http", SLICE_FMT(buf_peek(&host)));
	buf_fini(&host);
	if (j->pinned)
		tls_pin_text(j->pin, pin);
	j->link.url = url;
	j->link.pin = pin;
	j->link.ca_file = j->ca_file == NULL ? "" : j->ca_file;
	if (state_save_link(&j->state, &j->link) != 0)
		return complain(EXIT_OTHER, "%s", j->state.why);
	(void)printf(
	    "joined %s as %s (%s)\n", url, j->link.name, j->link.agent_id);
	return EXIT_OK;
}

int
verb_join(int argc, char **argv)
{
	static struct join j = { .dir = STATE_DEFAULT };
	int code;

	if ((code = read_line(&j, argc, argv)) != EXIT_OK ||
	    (code = read_token(&j)) != EXIT_OK ||
	    (code = choose_user(&j)) != EXIT_OK)
		return code;
	/* The service runs elsewhere: what is kept must not depend on it. */
	static char ca[STATE_PATH];
	if (j.ca_file != NULL) {
		if (realpath(j.ca_file, ca) == NULL)
			return complain(EXIT_OTHER, "cannot read %s: %s",
			    j.ca_file, strerror(errno));
		j.ca_file = ca;
	}
	if ((code = open_state(&j)) == EXIT_OK &&
	    (code = exchange(&j)) == EXIT_OK &&
	    (code = save_policy(&j)) == EXIT_OK)
		code = save_link(&j);
	state_close(&j.state);
	return code;
}
