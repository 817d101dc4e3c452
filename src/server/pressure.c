#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/log.h"

#include "server/pressure.h"

enum { LOOK_EVERY = 1000 };

static void look(struct loop_timer *t);

uint64_t
pressure_resident(void)
{
	char line[128] = "", *end;
	FILE *f = fopen("/proc/self/statm", "re");
	uint64_t pages = 0;

	if (f == NULL)
		return 0;
	/* Size of the program first, then what is resident, in pages. */
	if (fgets(line, sizeof(line), f) != NULL) {
		(void)strtoull(line, &end, 10);
		pages = strtoull(end, NULL, 10);
	}
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void
arm(struct pressure *p)
{
	loop_timer_set(
	    p->loop, &p->timer, loop_now(p->loop) + LOOK_EVERY, look);
}

static void
look(struct loop_timer *t)
{
	struct pressure *p = LIST_OF(t, struct pressure, timer);
	bool was = p->server->short_of_memory;
	uint64_t now = pressure_resident();
	bool is = now > (was ? p->limit / 10 * 9 : p->limit);

	p->server->short_of_memory = is;
	if (is && !was)
		log_warn("memory_short", kv_u("resident", now),
		    kv_u("limit", p->limit));
	if (was && !is)
		log_info("memory_enough", kv_u("resident", now));
	arm(p);
}

void
pressure_start(struct pressure *p, struct server *s, struct loop *l)
{
	long pages = sysconf(_SC_PHYS_PAGES);

	*p = (struct pressure){
		.server = s, .loop = l, .limit = s->settings.memory_limit
	};
	if (p->limit == 0 && pages > 0)
		p->limit =
		    (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) / 4;
	if (p->limit > 0)
		arm(p);
}

void
pressure_stop(struct pressure *p)
{
	if (p->loop != NULL)
		loop_timer_stop(p->loop, &p->timer);
}
