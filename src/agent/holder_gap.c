#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/holder_proto.h"

#include "agent/holder_gap.h"

void
gaps_init(struct gaps *g)
{
	g->file = -1;
}

/* Best effort: a disk that takes no line shows the hole all the same. */
static void
write_line(struct gaps *g, int dir, const char *name)
{
	char line[HOLDER_GAP_LINE + 1];

	if (g->file < 0)
		g->file =
		    openat(dir, "gaps", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (g->file < 0)
		return;
	/* Both streams write to it. */
	if (g->line < 0)
		g->line = lseek(g->file, 0, SEEK_END);
	(void)snprintf(line, sizeof(line), "%s %020llu %020llu\n", name,
	    (unsigned long long)g->at[g->count - 1].from,
	    (unsigned long long)(g->at[g->count - 1].to -
		g->at[g->count - 1].from));
	(void)!pwrite(g->file, line, HOLDER_GAP_LINE, g->line);
}

void
gaps_add(struct gaps *g, int dir, const char *name, uint64_t at, uint64_t n)
{
	/* The last one there is room for takes what lies between as well:
	 * too much is said to be gone, never too little. */
	if (gaps_full(g)) {
		n += at - g->at[g->count - 1].to;
	} else if (g->count == 0 || g->at[g->count - 1].to != at) {
		g->at[g->count].from = at;
		g->at[g->count++].to = at;
		g->line = -1;
	}
	g->at[g->count - 1].to += n;
	g->total += n;
	g->beyond += n;
	write_line(g, dir, name);
}

void
gaps_ack(struct gaps *g, uint64_t offset)
{
	g->beyond = 0;
	while (g->first < g->count && g->at[g->first].to <= offset)
		g->first++;
	for (size_t i = g->first; i < g->count; i++)
		g->beyond += g->at[i].to -
		    (g->at[i].from > offset ? g->at[i].from : offset);
}

bool
gaps_full(const struct gaps *g)
{
	return g->count == GAPS_MAX;
}

void
gaps_sync(const struct gaps *g)
{
	if (g->file >= 0)
		(void)fdatasync(g->file);
}
