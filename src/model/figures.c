#include "base/alloc.h"
#include "base/arena.h"
#include "base/err.h"
#include "base/js.h"

#include "model/figures.h"

enum { NOT_SAID = 65535, ROOM_FIRST = 16, MINUTE = 60000 };

/* Reading ------------------------------------------------------------------ */

/* As agents of the field call them. */
static const struct {
	struct slice name;
	enum figure figure;
} names[] = {
	{ SL_INIT("cpuPercent"), FIGURE_CPU },
	{ SL_INIT("cpuUsage"), FIGURE_CPU },
	{ SL_INIT("cpu_percent"), FIGURE_CPU },
	{ SL_INIT("cpu_usage"), FIGURE_CPU },
	{ SL_INIT("memPercent"), FIGURE_MEMORY },
	{ SL_INIT("memoryUsage"), FIGURE_MEMORY },
	{ SL_INIT("memory_percent"), FIGURE_MEMORY },
	{ SL_INIT("memory_usage"), FIGURE_MEMORY },
	{ SL_INIT("mem_percent"), FIGURE_MEMORY },
	{ SL_INIT("diskUsage"), FIGURE_DISK },
	{ SL_INIT("diskPercent"), FIGURE_DISK },
	{ SL_INIT("disk_percent"), FIGURE_DISK },
	{ SL_INIT("disk_usage"), FIGURE_DISK },
};

static void
take(struct figures *f, struct slice name, struct js_value v)
{
	double d;

	if (js_double(v, &d) != 0 || d < 0 || d > 600)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (slice_eq(names[i].name, name))
			f->value[names[i].figure] = (float)d;
	}
}

bool
figures_read(struct slice json, struct arena *a, struct figures *out)
{
	const struct js_limits limits = { 1 << 20, 64 };
	struct js_doc doc;
	struct slice name;
	struct js_value v;
	bool some = false;

	for (size_t i = 0; i < FIGURES; i++)
		out->value[i] = -1;
	if (js_parse(&doc, json, &limits, a) != 0)
		return false;
	struct js_walk w = js_walk(js_root(&doc));
	while (js_next(&w, &name, &v))
		take(out, name, v);
	for (size_t i = 0; i < FIGURES; i++)
		some = some || out->value[i] >= 0;
	return some;
}

/* Lists -------------------------------------------------------------------- */

static uint16_t
pack(double percent)
{
	return percent < 0 ? NOT_SAID : (uint16_t)(percent * 100 + 0.5);
}

/* More room, while there may be more; else those it has. */
static int
grow(struct figure_list *l, uint32_t most, size_t max, size_t *bytes)
{
	uint32_t room = l->room == 0 ? ROOM_FIRST : l->room * 2;

	room = room > most ? most : room;
	size_t more = (room - l->room) * sizeof(*l->rows);
	if (l->count < l->room || l->room == most || *bytes + more > max)
		return 0;
	struct figure_row *rows = alloc_new(room * sizeof(*rows));
	if (rows == NULL)
		return ERR_NOMEM;
	for (uint32_t i = 0; i < l->count; i++)
		rows[i] = l->rows[(l->first + i) % l->room];
	alloc_free(l->rows);
	*bytes += more;
	l->rows = rows;
	l->room = room;
	l->first = 0;
	return 0;
}

static int
add(struct figure_list *l, const struct figure_row *row, uint32_t most,
    size_t max, size_t *bytes)
{
	int err = grow(l, most, max, bytes);

	if (err != 0 || l->room == 0)
		return err;
	if (l->count == l->room) {
		l->first = (l->first + 1) % l->room;
		l->count--;
	}
	l->rows[(l->first + l->count++) % l->room] = *row;
	return 0;
}

/* The minute is over: its means. */
static int
end_minute(struct figure_ring *r, size_t max, size_t *bytes)
{
	struct figure_row row = { .at = (uint32_t)(r->minute * 60) };
	bool some = false;

	for (size_t i = 0; i < FIGURES; i++) {
		some = some || r->counts[i] > 0;
		row.value[i] =
		    pack(r->counts[i] == 0 ? -1 : r->sum[i] / r->counts[i]);
		r->sum[i] = 0;
		r->counts[i] = 0;
	}
	return some ? add(&r->day, &row, FIGURES_DAY, max, bytes) : 0;
}

int
figure_ring_put(
    struct figure_ring *r, const struct figures *f, size_t max, size_t *bytes)
{
	struct figure_row row = { .at = (uint32_t)(f->at / 1000) };
	int err = 0;

	/* Those of an agent that says too many go into the mean alone. */
	bool kept = r->last == 0 || f->at < r->last ||
	    f->at - r->last >= FIGURES_EVERY - 500;
	if (r->minute != f->at / MINUTE)
		err = end_minute(r, max, bytes);
	r->minute = f->at / MINUTE;
	for (size_t i = 0; i < FIGURES; i++) {
		double d = (double)f->value[i];
		row.value[i] = pack(d);
		r->sum[i] += d < 0 ? 0 : d;
		r->counts[i] += d >= 0;
	}
	if (kept)
		r->last = f->at;
	if (kept && err == 0)
		err = add(&r->fine, &row, FIGURES_FINE, max, bytes);
	return err;
}

size_t
figure_ring_bytes(const struct figure_ring *r)
{
	return sizeof(*r) +
	    (r->fine.room + r->day.room) * sizeof(struct figure_row);
}

void
figure_ring_fini(struct figure_ring *r)
{
	alloc_free(r->fine.rows);
	alloc_free(r->day.rows);
	*r = (struct figure_ring){ 0 };
}

int
figure_ring_list(const struct figure_ring *r, bool fine, wall_msec from,
    struct arena *a, const struct figures **out, size_t *count)
{
	const struct figure_list *l = fine ? &r->fine : &r->day;
	struct figures *list = arena_array(a, l->count + 1, sizeof(*list));
	size_t n = 0;

	if (list == NULL)
		return ERR_NOMEM;
	for (uint32_t i = 0; i < l->count; i++) {
		const struct figure_row *row =
		    &l->rows[(l->first + i) % l->room];
		if ((wall_msec)row->at * 1000 < from)
			continue;
		list[n].at = (wall_msec)row->at * 1000;
		for (size_t k = 0; k < FIGURES; k++)
			list[n].value[k] = row->value[k] == NOT_SAID
			    ? -1
			    : (float)row->value[k] / 100;
		n++;
	}
	*out = list;
	*count = n;
	return 0;
}
