/*
 * run: musterd from its settings to its end (floor: server).
 */
#ifndef SERVER_RUN_H
#define SERVER_RUN_H

#include "server/settings.h"

/* Reads the settings anew at SIGHUP: 0 or the number of problems, said. */
typedef size_t run_reload_fn(struct settings *out, void *arg);

/* Serve until SIGTERM or SIGINT.  The exit status. */
int run_server(const struct settings *s, run_reload_fn *reload, void *arg);

#endif
