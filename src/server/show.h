/*
 * show: records as the JSON of docs/api.md (floor: server).
 */
#ifndef SERVER_SHOW_H
#define SERVER_SHOW_H

#include "base/arena.h"
#include "base/js_write.h"

#include "model/event.h"

void show_agent(
    struct js_writer *w, const struct agent_view *v, struct arena *scratch);
/* text: the token itself, once; absent otherwise. */
void show_token(
    struct js_writer *w, const struct token_record *t, struct slice text);
void show_command(struct js_writer *w, const struct command_record *r);
/* The same with its place in the queue, 0 for none. */
void show_placed(struct js_writer *w, const struct command_record *r,
    uint32_t position, msec wait);
/* And with its agent's name, where the store is at hand. */
void show_named(struct js_writer *w, const struct command_record *r,
    struct slice agent, uint32_t position, msec wait);
/* A command for many. */
void show_fan(struct js_writer *w, const struct reply *r);
void show_queue(struct js_writer *w, const struct queue_view *q);
void show_link(struct js_writer *w, const struct connection_record *r);
void show_log(struct js_writer *w, const struct log_record *l);
void show_audit(struct js_writer *w, const struct audit_record *r);
void show_notice(struct js_writer *w, const struct event *ev);
void show_user(struct js_writer *w, const struct user_record *u);
void show_scopes(struct js_writer *w, const char *key, scope_set scopes);

/* An instant as RFC 3339, null for 0. */
void show_at(struct js_writer *w, const char *key, wall_msec at);
/* A string, null when absent. */
void show_text(struct js_writer *w, const char *key, struct slice s);

#endif
