/*
 * term: the three standard streams and what they lead to (floor: cli).
 */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdbool.h>

#include "base/slice.h"

struct term {
	bool in_tty, out_tty, err_tty;
	bool colour;  /* on stdout: a terminal, and NO_COLOR is not set */
	size_t width; /* columns of stdout; 80 when nobody knows */
};

void term_init(struct term *t);

/* All of s to a descriptor, waiting as long as it takes.  0, ERR_CLOSED
 * when nobody reads any more, or ERR_*. */
int term_write(int fd, struct slice s);

/* One line from the terminal without showing what is typed.
 * 0, ERR_TOO_BIG, ERR_CLOSED, ERR_IO. */
int term_read_secret(const char *prompt, char *out, size_t size);

/* One line from the terminal, shown as it is typed; the same errors. */
int term_ask(const char *prompt, char *out, size_t size);

#endif
