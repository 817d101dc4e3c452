/*
 * hub_signed: agents that sign what they say, as the hub keeps them (model;
 * private to it), and what agents say of their load.
 */
#ifndef MODEL_HUB_SIGNED_H
#define MODEL_HUB_SIGNED_H

#include "model/hub_state.h"

struct secret {
	struct secret_record *record; /* owned; replaced when it changes */
	struct slice key;             /* owned: what the map borrows */
	struct list links;            /* of struct link.by_secret */
};

/* NULL without memory, or when there is one for the same. */
struct secret *hub_add_secret(struct hub *h, const struct secret_record *r);
void hub_free_secret(struct hub *h, struct secret *s);
void hub_free_secrets(struct hub *h);
/* HELLO of an agent that signs: its link, and WELCOME with the secret. */
void hub_on_signed_hello(struct hub *h, const struct event *ev);
void hub_on_forged(struct hub *h, struct link *l, const struct event *ev);
void hub_on_log(struct hub *h, struct link *l, const struct event *ev);
/* Whether it is one that signs, there or not. */
bool hub_is_signed(const struct agent *a);
/* Why an agent that signs cannot be asked that: a sentence; or absent. */
struct slice hub_verb_fault(struct hub *h, const struct command_record *r);
/* What it did not say of itself is what it said before. */
struct registration hub_signed_registration(
    const struct agent *a, const struct registration *r);
void hub_secret_stored(struct hub *h, struct pending *p);
void hub_undo_secret(struct hub *h, struct pending *p);
void hub_signed_add(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_signed_list(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_signed_show(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_signed_rotate(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_signed_remove(
    struct hub *h, const struct event *ev, const struct access *who);

/* hub_figures.c ------------------------------------------------------------ */

/* What a heartbeat says in figures, into its history. */
void hub_note_figures(struct hub *h, struct agent *a);
void hub_free_figures(struct hub *h, struct agent *a);
void hub_show_figures(
    struct hub *h, const struct event *ev, const struct access *who);

/* hub_auth.c --------------------------------------------------------------- */

/* One more failure from there; seconds to wait, or 0. */
uint32_t hub_count_failure(struct hub *h, const struct credential *c);
/* Into the table of links; 0 or ERR_*. */
int hub_put_link(struct hub *h, struct link *l, const struct credential *c);

#endif
