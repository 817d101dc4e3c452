/*
 * golden: what a transcript expects against what came (tests).
 *
 * $name in an expectation stands for anything of [A-Za-z0-9_-]; later the
 * same name means the same text, and golden_fill puts it into what is said.
 */
#ifndef SUPPORT_GOLDEN_H
#define SUPPORT_GOLDEN_H

#include "base/slice.h"

/* The place in the script, for complaints; set by the owner. */
extern const char *golden_file;
extern int golden_line;

/* Forget everything: a new script. */
void golden_reset(void);

/* A line that came out: who, a space, text. */
void golden_came(const char *who, struct slice text);
/* The next line that came must fit. */
void golden_expect(const char *want);
/* All that came was expected. */
void golden_done(void);

/* text with its $names, malloced, NUL-terminated: free. */
char *golden_fill(const char *text);

/* Schemas that were used: text must fit FILE, which is noted. */
void golden_fits(const char *file, struct slice text);
/* Every *.json in the directory was used. */
void golden_all_used(const char *directory);

#endif
