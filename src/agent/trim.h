/*
 * trim: give back the pages of code that the start needed (agent).
 *
 * A TLS handshake touches some 3 MB of libraries that an idle link does not
 * need.  They are unchanged pages of files: the kernel drops them from this
 * process, and what is needed again comes back from its cache.
 */
#ifndef AGENT_TRIM_H
#define AGENT_TRIM_H

/* Drop what is resident of every loaded object's read-only segments. */
void trim_code(void);

#endif
