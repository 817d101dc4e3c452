/* What agents say of their load, kept for a while. */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_signed.h"

/* Of all agents together; then the oldest of each make room sooner. */
static const size_t bytes_max = (size_t)256 << 20;

void
hub_free_figures(struct hub *h, struct agent *a)
{
	if (a->figures == NULL)
		return;
	h->figure_bytes -= figure_ring_bytes(a->figures);
	figure_ring_fini(a->figures);
	alloc_free(a->figures);
	a->figures = NULL;
}

/* A history is worth no refused heartbeat: without memory it has a gap. */
void
hub_note_figures(struct hub *h, struct agent *a)
{
	struct figures f = { .at = h->wall };
	bool some = figures_read(a->session.metadata_json, &h->scratch, &f);

	arena_reset(&h->scratch);
	if (!some || h->figure_bytes + sizeof(*a->figures) > bytes_max)
		return;
	if (a->figures == NULL) {
		a->figures = alloc_new(sizeof(*a->figures));
		if (a->figures == NULL)
			return;
		h->figure_bytes += sizeof(*a->figures);
	}
	figure_ring_put(a->figures, &f, bytes_max, &h->figure_bytes);
}

/* request.limit: of the last so many seconds; filter.text: how fine. */
void
hub_show_figures(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);
	const struct figure_ring none_yet = { 0 };
	const struct request *q = &ev->request;

	if (a == NULL)
		return;
	struct reply *r = hub_reply(h, ev, who, 0);
	if (r == NULL)
		return;
	bool fine = slice_eq(q->filter.text, SL("5s"));
	const struct figure_ring *ring =
	    a->figures == NULL ? &none_yet : a->figures;
	wall_msec span = INT64_C(1000) * q->limit;
	if (arena_copy(&h->out->arena, a->id, &r->about) != 0 ||
	    figure_ring_list(ring, fine, h->wall - span, &h->out->arena,
		&r->figures, &r->figure_count) != 0)
		h->out->err = ERR_NOMEM;
}
