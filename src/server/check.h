/*
 * check: what settings name besides themselves (floor: server).
 *
 * For `musterd check` alone: a start opens the same files and says what is
 * wrong with the first; this names every one, with where it was set.
 */
#ifndef SERVER_CHECK_H
#define SERVER_CHECK_H

#include "server/settings.h"

/* Open the files with keys and certificates; the number of problems, each a
 * line appended to *problems.  from: what the settings were read from. */
size_t check_files(const struct settings *s, const struct settings_from *from,
    struct arena *a, struct buf *problems);

#endif
