/*
 * render: objects of the REST surface as lines and cells (floor: cli).
 */
#ifndef CLI_RENDER_H
#define CLI_RENDER_H

#include "base/js.h"
#include "cli/cli.h"
#include "cli/table.h"

/* A member as text: strings as they are, absent and null as nothing, other
 * values as JSON.  Borrowed. */
struct slice render_text(struct js_value obj, const char *name);

/* An instant as "3m" (ago, or ahead) on a terminal and as it came elsewhere;
 * absent as "-" on a terminal and as nothing elsewhere.  In c's arena. */
struct slice render_age(struct cli *c, struct js_value obj, const char *name);

/* {"a": "b"} as "a=b,c=d", ["a"] as "a,b"; in c's arena. */
struct slice render_list(struct cli *c, struct js_value v);

/* The colour of a state or status. */
enum table_colour render_colour(struct slice state);

/* All members, one a line: "name  value", names of inner objects joined by
 * dots; schema is left out.  JSON with --json.  An exit code. */
int render_object(struct cli *c, struct js_value obj);

/* Write a table to stdout.  An exit code. */
int render_table(struct cli *c, struct table *t);

#endif
