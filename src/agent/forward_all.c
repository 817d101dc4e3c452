#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "io/file.h"
#include "io/log.h"
#include "io/tls.h"

#include "agent/forward_parts.h"

enum { TICK_MOST = 30 * 1000, TICK_LEAST = 100 };

/* Bytes that sockets took ---------------------------------------------------
 */

/* At the turn's end, when everything has been sent that can be. */
static void
settle(struct forward *f)
{
	size_t queued = f->stream == NULL ? 0 : stream_queued(f->stream);
	size_t gone = f->owed > queued ? f->owed - queued : 0;

	forward_consume(f, gone);
	if (f->owed == 0 || (f->stream != NULL && stream_above_high(f->stream)))
		list_remove(&f->owing); /* drained brings it back */
	if (f->owed == 0 && f->strand.finished && f->strand.peer_ended)
		f->all->c.link->drop(f->all->c.link, &f->strand);
}

static void
on_settle(struct loop_task *t)
{
	struct forwards *all = LIST_OF(t, struct forwards, settle);
	struct list *next;

	for (struct list *i = all->owing.next; i != &all->owing; i = next) {
		next = i->next;
		settle(LIST_OF(i, struct forward, owing));
	}
}

/* All of them ---------------------------------------------------------------
 */

/* Whoever is cut may take others along (a listener's sources): begin anew
 * after each. */
static size_t
cut_those(struct forwards *all, bool (*bad)(struct forward *f), const char *why)
{
	struct list *i = all->open.next;
	size_t before = all->counts.open + all->counts.listeners;

	while (i != &all->open) {
		struct forward *f = LIST_OF(i, struct forward, link);
		i = i->next;
		if (!bad(f))
			continue;
		forward_cut(f, why);
		i = all->open.next;
	}
	return (size_t)(before - all->counts.open - all->counts.listeners);
}

static bool
is_counted(struct forward *f)
{
	return f->counted;
}

static void
forget_tls(struct forwards *all)
{
	for (size_t i = 0; i < 2; i++) {
		tls_client_free(all->tls[i]);
		all->tls[i] = NULL;
	}
}

size_t
forwards_stop(struct forwards *all, const char *why)
{
	all->stopped = why;
	if (why == NULL || all->counts.open + all->counts.listeners == 0)
		return 0;
	size_t n = cut_those(all, is_counted, why);
	log_warn("tunnels_closed", kv_u("count", n), kv_c("why", why));
	return n;
}

static bool
is_forbidden(struct forward *f)
{
	struct forward_refusal no;
	struct forward_wish w = f->wish;

	if (!f->counted)
		return false;
	w.listen |= f->reverse;
	return forward_permit(f->all->c.policy, &w, &no) != 0;
}

void
forwards_policy(struct forwards *all)
{
	size_t n = cut_those(all, is_forbidden, "the policy is narrower now");

	forget_tls(all);
	if (n > 0)
		log_warn("tunnels_forbidden", kv_u("count", n));
}

/* Idle ones -----------------------------------------------------------------
 */

static msec
idle_limit(const struct forward *f)
{
	const struct policy *p = f->all->c.policy;

	if (f->state != FORWARD_OPEN)
		return 0;
	return f->wish.udp ? p->udp_idle : p->tunnel_idle;
}

static void
end_idle(struct forward *f, msec now)
{
	msec limit = idle_limit(f);

	if (limit == 0 || now - f->last < limit)
		return;
	if (!f->wish.udp || f->eof) {
		log_info("tunnel_idle", kv_c("id", f->wish.id),
		    kv_ms("limit", limit));
		forward_cut(f, "idle");
		return;
	}
	/* Datagrams have an honest end; the other side has as long again. */
	f->eof = true;
	f->last = now;
	forward_look(f);
}

static void
on_tick(struct loop_timer *t)
{
	struct forwards *all = LIST_OF(t, struct forwards, tick);
	struct list *next;
	msec now = loop_now(all->c.loop);

	for (struct list *i = all->open.next; i != &all->open; i = next) {
		next = i->next;
		end_idle(LIST_OF(i, struct forward, link), now);
	}
	all->ticking = false;
	forwards_watch(all);
}

/* As often as the shortest limit asks for, while there is anything. */
void
forwards_watch(struct forwards *all)
{
	const struct policy *p = all->c.policy;
	msec least = p->udp_idle;

	if (all->counts.open == 0)
		forget_tls(all);
	if (least == 0 || (p->tunnel_idle != 0 && p->tunnel_idle < least))
		least = p->tunnel_idle;
	if (all->ticking || all->counts.open == 0 || least == 0)
		return;
	least = least / 4 > TICK_MOST ? TICK_MOST : least / 4;
	all->ticking = loop_timer_set(all->c.loop, &all->tick,
			   loop_now(all->c.loop) +
			       (least < TICK_LEAST ? TICK_LEAST : least),
			   on_tick) == 0;
}

/* Status --------------------------------------------------------------------
 */

static void
put_one(const struct forward *f, struct js_writer *w)
{
	char text[ADDR_TEXT] = "";

	if (f->address.sa.sa_family != AF_UNSPEC)
		addr_format(&f->address.sa, text);
	js_begin_object(w);
	js_kv_string(w, "id", slice_from(f->wish.id));
	js_kv_string(w, "kind", f->wish.udp ? SL("udp") : SL("tcp"));
	js_kv_bool(w, "listens", f->wish.listen);
	js_kv_bool(w, "open",
	    f->state == FORWARD_OPEN || f->state == FORWARD_LISTENING);
	js_kv_string(w, "host", slice_from(f->wish.host));
	js_kv_u64(w, "port", f->wish.port);
	js_kv_string(w, "address", slice_from(text));
	if (f->reverse) {
		addr_format(&f->peer.sa, text);
		js_kv_string(w, "peer", slice_from(text));
	}
	js_kv_i64(w, "for_ms", loop_now(f->all->c.loop) - f->since);
	js_kv_u64(w, "bytes_in", f->in);
	js_kv_u64(w, "bytes_out", f->out);
	js_end(w);
}

void
forwards_put_list(const struct forwards *all, size_t most, struct js_writer *w)
{
	for (const struct list *i = all->open.next; i != &all->open && most > 0;
	     i = i->next) {
		const struct forward *f = (const void *)((const char *)i -
		    offsetof(struct forward, link));
		if (!f->counted)
			continue;
		put_one(f, w);
		most--;
	}
}

/* Life ----------------------------------------------------------------------
 */

void
forward_domain(char out[TARGET_HOST])
{
	struct slice text;
	struct arena a;

	out[0] = '\0';
	if (getenv("KUBERNETES_SERVICE_HOST") == NULL)
		return;
	arena_init(&a, 256 * 1024);
	if (file_read_all(
		&file_real, "/etc/resolv.conf", 64 * 1024, &a, &text) == 0)
		forward_find_domain(text, out);
	if (out[0] == '\0')
		(void)slice_cstr(SL("cluster.local"), out, TARGET_HOST);
	arena_fini(&a);
}

void
forwards_init(struct forwards *all, const struct forwards_config *c)
{
	*all = (struct forwards){ .c = *c };
	list_init(&all->open);
	list_init(&all->owing);
	loop_task_init(&all->settle, on_settle);
	loop_hook(c->loop, LOOP_SETTLE, &all->settle);
}

void
forwards_fini(struct forwards *all)
{
	loop_task_drop(&all->settle);
	loop_timer_stop(all->c.loop, &all->tick);
	forget_tls(all);
}
