/*
 * verbs: the commands of muster-agent (agent).
 *
 * Each gets the words behind its name, argv[0] being the name itself, and
 * returns the exit code of the program.
 */
#ifndef AGENT_VERBS_H
#define AGENT_VERBS_H

enum {
	EXIT_OK = 0,
	EXIT_OTHER = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_PERMITTED = 4,
	EXIT_STOPPED = 8,
};

int verb_join(int argc, char **argv);
int verb_run(int argc, char **argv);
int verb_status(int argc, char **argv);
int verb_stop(int argc, char **argv);
int verb_resume(int argc, char **argv);
int verb_policy(int argc, char **argv);

/* "muster-agent: " and the sentence, on stderr; returns code. */
int complain(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same, and where help is to be had; returns EXIT_USAGE. */
int misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
