/*
 * verbs: the one table of what muster can do (floor: cli).
 *
 * Help, completion, usage errors and the check of the man page all read it.
 */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include "cli/cli.h"

struct verb {
	const char *name;     /* "agent" */
	const char *sub;      /* "ls"; NULL when the verb stands alone */
	const char *operands; /* "NAME"; "" for none */
	const char *summary;
	const char *more; /* a paragraph for its help; NULL */
	struct flag_list flags;
	size_t min, max; /* operands */
	bool tail;       /* takes "-- WORDS" */
	int (*run)(struct cli *c, const struct args *a);
};

extern const struct verb verbs[];
extern const size_t verb_count;

/* Options that every verb takes. */
extern const struct flag_list global_flags;

/* The verb for these words; *used of them name it.  NULL when there is none;
 * then *family says that the first word alone is one. */
const struct verb *verb_find(int argc, char **argv, int *used, bool *family);

/* Help, appended: of all verbs, of those with a name, of one. */
void help_all(struct buf *out);
bool help_family(struct buf *out, const char *name);
void help_verb(struct buf *out, const struct verb *v);

/* session.c */
int verb_login(struct cli *c, const struct args *a);
int verb_logout(struct cli *c, const struct args *a);
int verb_whoami(struct cli *c, const struct args *a);
int verb_status(struct cli *c, const struct args *a);
/* agents.c */
int verb_agent_ls(struct cli *c, const struct args *a);
int verb_agent_show(struct cli *c, const struct args *a);
int verb_agent_label(struct cli *c, const struct args *a);
int verb_agent_rm(struct cli *c, const struct args *a);
int verb_agent_wait(struct cli *c, const struct args *a);
/* drain.c */
int verb_agent_cordon(struct cli *c, const struct args *a);
int verb_agent_uncordon(struct cli *c, const struct args *a);
int verb_agent_drain(struct cli *c, const struct args *a);
/* tokens.c */
int verb_signed_add(struct cli *c, const struct args *a);
int verb_signed_ls(struct cli *c, const struct args *a);
int verb_signed_rotate(struct cli *c, const struct args *a);
int verb_signed_rm(struct cli *c, const struct args *a);
int verb_token_create(struct cli *c, const struct args *a);
int verb_token_ls(struct cli *c, const struct args *a);
int verb_token_show(struct cli *c, const struct args *a);
int verb_token_revoke(struct cli *c, const struct args *a);
int verb_token_rotate(struct cli *c, const struct args *a);
/* users.c */
int verb_user_add(struct cli *c, const struct args *a);
int verb_user_ls(struct cli *c, const struct args *a);
int verb_user_show(struct cli *c, const struct args *a);
int verb_user_role(struct cli *c, const struct args *a);
int verb_user_selector(struct cli *c, const struct args *a);
int verb_user_passwd(struct cli *c, const struct args *a);
int verb_user_token(struct cli *c, const struct args *a);
int verb_user_rm(struct cli *c, const struct args *a);
int verb_user_setup(struct cli *c, const struct args *a);
/* exec.c */
int verb_exec(struct cli *c, const struct args *a);
/* jobs.c */
int verb_job_ls(struct cli *c, const struct args *a);
int verb_job_show(struct cli *c, const struct args *a);
int verb_job_logs(struct cli *c, const struct args *a);
int verb_job_wait(struct cli *c, const struct args *a);
int verb_job_interrupt(struct cli *c, const struct args *a);
int verb_job_cancel(struct cli *c, const struct args *a);
int verb_job_purge(struct cli *c, const struct args *a);
/* stops.c */
int verb_stop(struct cli *c, const struct args *a);
int verb_stop_ls(struct cli *c, const struct args *a);
int verb_stop_show(struct cli *c, const struct args *a);
int verb_resume(struct cli *c, const struct args *a);
/* routes.c */
int verb_route_add(struct cli *c, const struct args *a);
int verb_route_ls(struct cli *c, const struct args *a);
int verb_route_show(struct cli *c, const struct args *a);
int verb_route_rm(struct cli *c, const struct args *a);
int verb_route_link(struct cli *c, const struct args *a);
int verb_route_test(struct cli *c, const struct args *a);
/* journal.c */
int verb_audit_ls(struct cli *c, const struct args *a);
int verb_audit_verify(struct cli *c, const struct args *a);
int verb_audit_export(struct cli *c, const struct args *a);
int verb_events(struct cli *c, const struct args *a);
/* forward.c */
int verb_forward(struct cli *c, const struct args *a);
/* doctor.c */
int verb_doctor(struct cli *c, const struct args *a);
/* help.c */
int verb_completion(struct cli *c, const struct args *a);
int verb_version(struct cli *c, const struct args *a);
int verb_help(struct cli *c, const struct args *a);
/* dev.c */
int verb_dev_ws_echo(struct cli *c, const struct args *a);

#endif
