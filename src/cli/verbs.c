#include <string.h>

#include "cli/verbs.h"

/* clang-format off */
#define FLAGS(array) { array, sizeof(array) / sizeof((array)[0]) }
/* clang-format on */

static const struct flag everywhere[] = {
	{ "url", 0, "URL", "the controller" },
	{ "token-file", 0, "FILE", "read the token from FILE" },
	{ "context", 0, "NAME", "use a saved context, not the environment" },
	{ "json", 0, NULL, "answer in JSON" },
	{ "insecure", 0, NULL, "send the token over http if need be" },
	{ "help", 'h', NULL, "show help for the verb" },
};
const struct flag_list global_flags = FLAGS(everywhere);

static const struct flag login_flags[] = {
	{ "ca-file", 0, "FILE", "trust only the CAs in FILE" },
	{ "pin", 0, "HEX", "trust only the TLS key with this SHA-256" },
	{ "user", 0, "NAME", "log in by name and password" },
	{ "password-file", 0, "FILE", "with --user: read it from FILE" },
};

static const struct flag user_flags[] = {
	{ "role", 0, "ROLE", "viewer, operator or admin" },
	{ "selector", 0, "SELECTOR", "sees and commands only these agents" },
	{ "password-file", 0, "FILE", "read the password from FILE" },
	{ "no-password", 0, NULL, "give no password: for tokens alone" },
};

static const struct flag password_flags[] = {
	{ "password-file", 0, "FILE", "read the password from FILE" },
};

static const struct flag passwd_flags[] = {
	{ "password-file", 0, "FILE", "read the new password from FILE" },
	{ "old-password-file", 0, "FILE",
	    "without USER: read your password as it is from FILE" },
};

static const struct flag jwt_flags[] = {
	{ "ttl", 0, "D", "it is good this long (1h; 30 days at most)" },
	{ "scope", 0, "S,...", "it permits only this (all of the role's)" },
};

static const struct flag list_flags[] = {
	{ NULL, 'l', "LABEL=VALUE", "only those with this label" },
	{ "status", 0, "STATUS", "only those in this status" },
	{ "limit", 0, "N", "at most N lines" },
};

static const struct flag wait_flags[] = {
	{ "for", 0, "STATUS", "what to wait for (online)" },
	{ "timeout", 0, "D", "give up after this long (never)" },
};

static const struct flag create_flags[] = {
	{ "scope", 0, "S,...",
	    "what it may do (cluster:register,cluster:heartbeat)" },
	{ "ttl", 0, "D", "it expires after this long (never)" },
	{ "max-connections", 0, "N", "at most so many agents at once" },
	{ "allow", 0, "CIDR,...", "only from these addresses" },
};

static const struct flag rotate_flags[] = {
	{ "overlap", 0, "D", "the old token stays good this long (0)" },
};

static const struct flag signed_flags[] = {
	{ "secret-file", 0, "FILE", "it is in FILE (one is made)" },
	{ "tenant", 0, "PREFIX", "of all agents whose ids begin so" },
};

static const struct flag resign_flags[] = {
	{ "secret-file", 0, "FILE", "the new one is in FILE (one is made)" },
	{ "overlap", 0, "D", "the old one stays good this long (1h)" },
};

static const struct flag exec_flags[] = {
	{ NULL, 'd', NULL, "do not wait: print the command's id" },
	{ "or-fail", 0, NULL, "with -d: fail when the agent is offline" },
	{ "shell", 0, NULL, "ARGV is one string for /bin/sh -c" },
	{ "timeout", 0, "D", "end the program when it runs this long" },
	{ "deadline", 0, "D", "with -d: it must start within (24h)" },
	{ "priority", 0, "P", "with -d: high, normal or low" },
	{ "on-full", 0, "W", "wait, or drop output that finds no room" },
	{ NULL, 'n', NULL, "no input: do not read stdin" },
	{ "env", 0, "K=V", "set a variable; may be repeated" },
	{ "cwd", 0, "DIR", "start in this directory" },
	{ "user", 0, "USER", "run as this user" },
	{ "force", 0, NULL, "attached: also to a cordoned agent" },
	{ "batch", 0, "N", "attached: so many at a time (all)" },
	{ "max-fail", 0, "N", "begin no more when N have failed" },
	{ NULL, 'l', "LABEL=VALUE", "every agent with this label" },
	{ "reattach", 0, "D", "come back after a break for so long (60s)" },
	{ "yes", 0, NULL, "with -l: do not ask whether these are meant" },
};

static const struct flag drain_flags[] = {
	{ "timeout", 0, "D", "give up after this long (never)" },
};

static const struct flag purge_flags[] = {
	{ NULL, 'l', "LABEL=VALUE", "every agent with this label" },
	{ "yes", 0, NULL, "with -l: do not ask whether these are meant" },
};

static const struct flag jobs_flags[] = {
	{ "agent", 0, "AGENT", "only of this agent" },
	{ "state", 0, "STATE", "only in this state" },
	{ "limit", 0, "N", "at most N lines (100)" },
};

static const struct flag logs_flags[] = {
	{ NULL, 'f', NULL, "follow until the command ends" },
	{ "stream", 0, "NAME", "only stdout or stderr" },
};

static const struct flag job_wait_flags[] = {
	{ "timeout", 0, "D", "give up after this long (never)" },
};

static const struct flag stop_flags[] = {
	{ "all", 0, NULL, "every agent" },
	{ NULL, 'l', "LABEL=VALUE", "every agent with this label, set here" },
	{ "reason", 0, "TEXT", "why, for the journal and whoever is stopped" },
	{ "yes", 0, NULL, "do not ask whether these are meant" },
	{ "keep-tunnels", 0, NULL, "leave tunnels open" },
	{ "timeout", 0, "D", "wait this long for receipts (10s)" },
};

static const struct flag resume_flags[] = {
	{ "all", 0, NULL, "the stop of every agent" },
	{ NULL, 'l', "LABEL=VALUE", "the stop of these labels" },
};

static const struct flag route_flags[] = {
	{ "agent", 0, "AGENT", "by this agent" },
	{ NULL, 'l', "LABEL=VALUE", "by any agent with this label" },
	{ "to", 0, "HOST:PORT", "to this service, seen from the agent" },
	{ "to-service", 0, "NS/SERVICE:PORT", "to this one of a cluster" },
	{ "name", 0, "NAME", "its name (host and prefix)" },
	{ "public", 0, NULL, "for everybody, without a login" },
	{ "strip-prefix", 0, NULL, "cut PREFIX off on the way" },
	{ "tls", 0, NULL, "the agent speaks TLS to the service" },
	{ "tls-insecure", 0, NULL, "the same, whatever certificate it shows" },
	{ "tls-name", 0, "NAME", "the same, and this is its name" },
	{ "connect-timeout", 0, "D", "to reach the service (10s)" },
	{ "timeout", 0, "D", "for the first byte of an answer (60s)" },
	{ "idle-timeout", 0, "D", "with nothing going either way (1h)" },
	{ "set-header", 0, "NAME: VALUE", "of requests; may be repeated" },
	{ "remove-header", 0, "NAME,...", "of requests" },
	{ "set-response-header", 0, "NAME: VALUE", "may be repeated" },
	{ "remove-response-header", 0, "NAME,...", "of answers" },
	{ "origins", 0, "URL,...",
	    "whose pages may open WebSockets (its own)" },
	{ "ws-messages", 0, "N", "a second, of one WebSocket" },
	{ "ws-bytes", 0, "N", "a second, of one WebSocket" },
};

static const struct flag link_flags[] = {
	{ "ttl", 0, "D", "it is good this long (1h; 30 days at most)" },
	{ "host", 0, "HOST", "for this host of a route of *.SUFFIX" },
	{ "revoke", 0, NULL, "make all links of the route worthless" },
};

static const struct flag audit_flags[] = {
	{ "limit", 0, "N", "at most N lines (100)" },
};

static const struct flag events_flags[] = {
	{ NULL, 'f', NULL, "go on until interrupted" },
};

static const struct flag forward_flags[] = {
	{ "via", 0, "AGENT", "the agent that the way goes through" },
	{ NULL, 'R', "SPEC", "the agent listens, and the target is here" },
	{ "udp", 0, NULL, "datagrams, not connections" },
	{ "service", 0, "NS/SERVICE:PORT", "the target of an [ADDR:]PORT" },
};

const struct verb verbs[] = {
	{ "login", NULL, "URL", "save a controller and a token as a context",
	    "The token is taken from --token-file, MUSTER_TOKEN or "
	    "MUSTER_TOKEN_FILE; else it is asked for, or read from stdin when "
	    "that is no terminal.  Nothing is saved unless the controller "
	    "accepts it.  With --user the context holds a login, which is "
	    "renewed by itself while it is used.",
	    FLAGS(login_flags), 1, 1, false, verb_login },
	{ "logout", NULL, "[CONTEXT]", "forget a context and its token", NULL,
	    { 0 }, 0, 1, false, verb_logout },
	{ "whoami", NULL, "", "who the token is and what it may do", NULL,
	    { 0 }, 0, 0, false, verb_whoami },
	{ "status", NULL, "", "the controller and its agents in short", NULL,
	    { 0 }, 0, 0, false, verb_status },
	{ "agent", "ls", "", "list agents", NULL, FLAGS(list_flags), 0, 0,
	    false, verb_agent_ls },
	{ "agent", "show", "AGENT", "all about one agent", NULL, { 0 }, 1, 1,
	    false, verb_agent_show },
	{ "agent", "label", "AGENT KEY=VALUE... | KEY-...",
	    "set labels, and remove those with a minus behind", NULL, { 0 }, 2,
	    1000, false, verb_agent_label },
	{ "agent", "rm", "AGENT", "remove an agent: it must join again", NULL,
	    { 0 }, 1, 1, false, verb_agent_rm },
	{ "agent", "wait", "AGENT", "wait until an agent is online",
	    "online is meant as busy or degraded, too.  gone waits until the "
	    "agent is removed.  An agent that does not exist yet is waited "
	    "for.",
	    FLAGS(wait_flags), 1, 1, false, verb_agent_wait },
	{ "agent", "cordon", "AGENT", "send an agent nothing new",
	    "What runs goes on, what is queued waits, and what is attached is "
	    "refused unless it is forced.",
	    { 0 }, 1, 1, false, verb_agent_cordon },
	{ "agent", "uncordon", "AGENT", "send an agent work again", NULL, { 0 },
	    1, 1, false, verb_agent_uncordon },
	{ "agent", "drain", "AGENT", "cordon, and wait until nothing runs",
	    "It exits with 124 and says what still runs when the time is over; "
	    "the agent stays cordoned either way.",
	    FLAGS(drain_flags), 1, 1, false, verb_agent_drain },
	{ "token", "create", "NAME", "make a token; it is shown this once",
	    "On a terminal the line that joins an agent is shown with it.",
	    FLAGS(create_flags), 1, 1, false, verb_token_create },
	{ "token", "ls", "", "list tokens", NULL, { 0 }, 0, 0, false,
	    verb_token_ls },
	{ "token", "show", "TOKEN", "all about one token, but its text", NULL,
	    { 0 }, 1, 1, false, verb_token_show },
	{ "token", "revoke", "TOKEN",
	    "make a token worthless and close its connections", NULL, { 0 }, 1,
	    1, false, verb_token_revoke },
	{ "token", "rotate", "TOKEN", "give a token a new text", NULL,
	    FLAGS(rotate_flags), 1, 1, false, verb_token_rotate },
	{ "signed", "add", "AGENT | --tenant PREFIX",
	    "let an agent in that signs its messages",
	    "The secret that it signs with is shown this once, unless it was "
	    "given.",
	    FLAGS(signed_flags), 0, 1, false, verb_signed_add },
	{ "signed", "ls", "", "list secrets, but not their texts", NULL, { 0 },
	    0, 0, false, verb_signed_ls },
	{ "signed", "rotate", "AGENT | PREFIX*", "give an agent a new secret",
	    "Without an overlap what is connected with the old one is closed.",
	    FLAGS(resign_flags), 1, 1, false, verb_signed_rotate },
	{ "signed", "rm", "AGENT | PREFIX*",
	    "remove a secret and close its connections", NULL, { 0 }, 1, 1,
	    false, verb_signed_rm },
	{ "user", "add", "NAME", "add a user",
	    "Without --password-file the password is asked for on a terminal; "
	    "elsewhere the user gets none.",
	    FLAGS(user_flags), 1, 1, false, verb_user_add },
	{ "user", "ls", "", "list users", NULL, { 0 }, 0, 0, false,
	    verb_user_ls },
	{ "user", "show", "USER", "all about one user", NULL, { 0 }, 1, 1,
	    false, verb_user_show },
	{ "user", "role", "USER ROLE", "give a user another role",
	    "What the user has open is closed.", { 0 }, 2, 2, false,
	    verb_user_role },
	{ "user", "selector", "USER SELECTOR | -",
	    "limit a user to some agents, or not any more",
	    "What the user has open is closed.", { 0 }, 2, 2, false,
	    verb_user_selector },
	{ "user", "passwd", "[USER]",
	    "give a user, or yourself, another password",
	    "The user's logins end, and so do tokens of user token.  Without "
	    "USER it is your own: the old one is asked for, and the login that "
	    "you use goes on.",
	    FLAGS(passwd_flags), 0, 1, false, verb_user_passwd },
	{ "user", "token", "USER", "print a token (JWT) for a user", NULL,
	    FLAGS(jwt_flags), 1, 1, false, verb_user_token },
	{ "user", "rm", "USER", "remove a user and close what they have open",
	    NULL, { 0 }, 1, 1, false, verb_user_rm },
	{ "user", "setup", "LINK", "set the first administrator's password",
	    "LINK is what the first start of musterd prints; it is good once, "
	    "for 15 minutes.",
	    FLAGS(password_flags), 1, 1, false, verb_user_setup },
	{ "exec", NULL, "TARGET... -- ARGV...", "run a program on agents",
	    "A target is an agent's name, its id or the beginning of one.  "
	    "Attached, input and output are connected and the exit code is "
	    "the program's own (128+n for a signal); of several, the highest. "
	    " Ctrl-C interrupts the program, a second one leaves it alone and "
	    "returns 130.  A connection that breaks does not hurt the "
	    "program: we come back to it and miss nothing.  With -d one id is "
	    "printed for each target.",
	    FLAGS(exec_flags), 0, 1000, true, verb_exec },
	{ "job", "ls", "", "list commands, newest first", NULL,
	    FLAGS(jobs_flags), 0, 0, false, verb_job_ls },
	{ "job", "show", "ID", "all about one command", NULL, { 0 }, 1, 1,
	    false, verb_job_show },
	{ "job", "logs", "ID", "what a command wrote",
	    "stdout goes to stdout and stderr to stderr.  With --json every "
	    "piece is one line of JSON.",
	    FLAGS(logs_flags), 1, 1, false, verb_job_logs },
	{ "job", "wait", "ID", "wait for a command's end, and exit as it did",
	    NULL, FLAGS(job_wait_flags), 1, 1, false, verb_job_wait },
	{ "job", "interrupt", "ID", "SIGINT, then SIGTERM, then SIGKILL", NULL,
	    { 0 }, 1, 1, false, verb_job_interrupt },
	{ "job", "cancel", "ID", "take a queued command back", NULL, { 0 }, 1,
	    1, false, verb_job_cancel },
	{ "job", "purge", "[AGENT]...", "cancel all that waits for agents",
	    "What runs goes on.  With -l the agents are listed first and you "
	    "are asked, unless --yes is given.",
	    FLAGS(purge_flags), 0, 1000, false, verb_job_purge },
	{ "stop", "ls", "", "list stops, newest first", NULL, { 0 }, 0, 0,
	    false, verb_stop_ls },
	{ "stop", "show", "EPOCH", "a stop and what each agent said", NULL,
	    { 0 }, 1, 1, false, verb_stop_show },
	{ "stop", NULL, "[AGENT]", "stop agents, at once",
	    "What runs is killed, what is queued is cancelled, and nothing "
	    "begins until it is resumed.  Says whom it will hit and asks; then "
	    "counts the receipts by kind.  It exits with 0 only when nobody is "
	    "waited for, away, or left with something alive.  With -l only "
	    "labels count that operators set.  See also stop ls and stop show.",
	    FLAGS(stop_flags), 0, 1, false, verb_stop },
	{ "resume", NULL, "[AGENT | EPOCH]", "lift a stop",
	    "The one that was raised with the same words, or the one with this "
	    "number.  Other stops go on standing.",
	    FLAGS(resume_flags), 0, 1, false, verb_resume },
	{ "route", "add", "HOST[/PREFIX]",
	    "lead requests for a host to a service behind an agent",
	    "HOST may be *.SUFFIX.  Visitors log in, unless it is public.  "
	    "The address to visit is printed.",
	    FLAGS(route_flags), 1, 1, false, verb_route_add },
	{ "route", "ls", "", "list routes", NULL, { 0 }, 0, 0, false,
	    verb_route_ls },
	{ "route", "show", "ROUTE", "all about one route", NULL, { 0 }, 1, 1,
	    false, verb_route_show },
	{ "route", "rm", "ROUTE", "remove a route, and cut who uses it", NULL,
	    { 0 }, 1, 1, false, verb_route_rm },
	{ "route", "link", "ROUTE", "print a link past the login, for a while",
	    "Whoever has it needs no login until it expires.",
	    FLAGS(link_flags), 1, 1, false, verb_route_link },
	{ "route", "test", "ROUTE", "go the way of a visitor, hop by hop",
	    "Says how long each part took and what failed, and ends with 1 "
	    "then.",
	    { 0 }, 1, 1, false, verb_route_test },
	{ "audit", "ls", "", "the journal, newest first", NULL,
	    FLAGS(audit_flags), 0, 0, false, verb_audit_ls },
	{ "audit", "verify", "", "check the journal's chain of hashes", NULL,
	    { 0 }, 0, 0, false, verb_audit_verify },
	{ "audit", "export", "", "the whole journal, a line of JSON each", NULL,
	    { 0 }, 0, 0, false, verb_audit_export },
	{ "events", NULL, "", "what happens, as it happens",
	    "Without -f it ends when the controller closes the stream; with "
	    "it, it connects again and misses nothing.",
	    FLAGS(events_flags), 0, 0, false, verb_events },
	{ "forward", NULL, "[ADDR:]PORT[:HOST:PORT]...",
	    "reach services behind an agent as if they were here",
	    "Listens at ADDR (127.0.0.1) and PORT, 0 for any that is free, and "
	    "carries each connection to HOST and PORT as the agent sees them; "
	    "HOST may be NS/SERVICE of Kubernetes.  With -R the agent listens, "
	    "and what comes is carried to HOST and PORT here.  What may be "
	    "reached, the agent's policy says.  It goes on until Ctrl-C, which "
	    "returns 130; when the controller is away, connections end and the "
	    "ports stay.",
	    FLAGS(forward_flags), 0, 64, false, verb_forward },
	{ "doctor", NULL, "", "find out why something does not work",
	    "It looks at the configuration, the URL, the connection, TLS, both "
	    "clocks, the versions, the token and the terminal, and says what "
	    "to do.  It exits with 1 when something is bad.",
	    { 0 }, 0, 0, false, verb_doctor },
	{ "completion", NULL, "bash | zsh", "completions for a shell",
	    "For example: source <(muster completion bash)", { 0 }, 1, 1, false,
	    verb_completion },
	{ "version", NULL, "", "the version of this program", NULL, { 0 }, 0, 0,
	    false, verb_version },
	{ "dev", "ws-echo", "URL", "echo a WebSocket server's messages",
	    "For conformance tests: connects, sends every message back, and "
	    "ends when the server closes.",
	    { 0 }, 1, 1, false, verb_dev_ws_echo },
	{ "help", NULL, "[VERB]...", "this text, or that of a verb", NULL,
	    { 0 }, 0, 2, false, verb_help },
};
const size_t verb_count = sizeof(verbs) / sizeof(verbs[0]);

const struct verb *
verb_find(int argc, char **argv, int *used, bool *family)
{
	*family = false;
	for (size_t i = 0; argc > 0 && i < verb_count; i++) {
		const struct verb *v = &verbs[i];

		if (strcmp(v->name, argv[0]) != 0)
			continue;
		*used = 1;
		if (v->sub == NULL)
			return v;
		*family = true;
		*used = 2;
		if (argc > 1 && strcmp(v->sub, argv[1]) == 0)
			return v;
	}
	return NULL;
}
