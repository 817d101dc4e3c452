/*
 * cluster_parts: what the files of the cluster dialect share.
 */
#ifndef DIALECT_CLUSTER_PARTS_H
#define DIALECT_CLUSTER_PARTS_H

#include "base/js.h"
#include "base/js_write.h"

#include "dialect/cluster.h"

/* cluster_read.c ------------------------------------------------------- */

/* Turn out into EVENT_BAD.  Always 0, for `return cluster_refuse(...)`. */
int cluster_refuse(struct event *out, int err, struct slice code,
    struct slice field, struct slice text);

/* The same for a field that a js_fields stumbled over; prefix goes before
 * its name.  0 or ERR_NOMEM. */
int cluster_refuse_field(struct event *out, const struct js_fields *f,
    const char *prefix, struct arena *a);

/*
 * Check and open one text.  Sets *root, or refuses and sets *refused.
 * doc must outlive root.  0 or ERR_NOMEM.
 */
int cluster_open(struct slice text, struct arena *a, struct js_doc *doc,
    struct event *out, bool *refused);

/* The contents of register and of heartbeat or status. */
int cluster_read_register(
    struct js_value payload, struct arena *a, struct event *out);
int cluster_read_heartbeat(
    struct js_value payload, struct arena *a, struct event *out);

/* cluster_hello.c: payload.muster --------------------------------------- */

int cluster_read_hello(struct js_value muster, struct arena *a,
    struct native_hello *hello, struct event *out);

/* cluster_stop.c --------------------------------------------------------- */

/* payload.muster.stop of a registration. */
int cluster_read_kept_stop(struct js_value stop, struct arena *a,
    struct stop_order *out, struct event *ev);
int cluster_read_local_stop(
    struct js_value payload, struct arena *a, struct event *out);
int cluster_read_stop_receipt(
    struct js_value payload, struct arena *a, struct event *out);
/* As the member "stop" of register_success. */
void cluster_put_stop(struct js_writer *w, const struct stop_order *s);
/* The payload of stop and resume_work. */
void cluster_put_stop_order(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c);

/* cluster_keep.c: objects that are kept ---------------------------------- */

/*
 * One JSON object put together from members of others: secrets replaced,
 * percentages made numbers if asked, within the caps of cluster.h.  What
 * does not fit is left out and `_truncated` says so.
 */
struct cluster_keep {
	struct buf text;
	struct js_writer w;
	bool percent; /* "45%" becomes 45 */
	bool cut;
	struct slice names[CLUSTER_MEMBERS_MAX]; /* borrowed */
	size_t count;
};

void cluster_keep_begin(struct cluster_keep *k, bool percent);
/* Members of obj, except those named in but (ended by NULL) and those whose
 * names are there already. */
void cluster_keep_members(
    struct cluster_keep *k, struct js_value obj, const char *const *but);
/* The object's text in a, and the end of k.  0 or ERR_NOMEM. */
int cluster_keep_end(
    struct cluster_keep *k, struct arena *a, struct slice *out);

/* labels as an object of strings; what is no label is left out.  0 or
 * ERR_NOMEM. */
int cluster_keep_labels(
    struct js_value labels, struct arena *a, struct slice *out);

/* cluster_write.c -------------------------------------------------------- */

/* What is wrong, as members of an open object. */
void cluster_put_error(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c);
void cluster_put_stamp(struct js_writer *w, const char *key, wall_msec at);
void cluster_put_tunnel_url(struct js_writer *w,
    const struct cluster_context *c, struct slice agent_id);
/* What a registration made of the agent, as members of an open object. */
void cluster_put_identity(struct js_writer *w, const struct registered *r,
    const struct cluster_context *c);

#endif
