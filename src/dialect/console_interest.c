#include "base/alloc.h"
#include "base/err.h"

#include "dialect/console_interest.h"
#include "dialect/console_parts.h"

void
console_interest_fini(struct console_interest *i)
{
	for (unsigned t = 0; t < CONSOLE_TOPICS; t++)
		alloc_free(i->topics[t].ids);
	*i = (struct console_interest){ 0 };
}

static size_t
find(const struct console_interest *i, enum console_topic topic, uint64_t id)
{
	size_t at = 0;

	while (at < i->topics[topic].count && i->topics[topic].ids[at] != id)
		at++;
	return at;
}

/* Room for more ids, all or nothing. */
static int
reserve(struct console_interest *i, enum console_topic topic, size_t more)
{
	size_t want = i->topics[topic].count + more;

	if (want > CONSOLE_INTEREST_MAX)
		return ERR_FULL;
	if (want <= i->topics[topic].room)
		return 0;
	if (want < 2 * i->topics[topic].room)
		want = 2 * i->topics[topic].room;
	uint64_t *ids = alloc_resize(i->topics[topic].ids, want * sizeof(*ids));
	if (ids == NULL)
		return ERR_NOMEM;
	i->topics[topic].ids = ids;
	i->topics[topic].room = want;
	return 0;
}

/* Whether the ids alone are wanted. */
static bool
is_chosen(const struct console_interest *i, enum console_topic topic)
{
	return i->topics[topic].turned != (topic == CONSOLE_QUEUES);
}

static void
choose(struct console_interest *i, enum console_topic topic, bool chosen)
{
	i->topics[topic].turned = chosen != (topic == CONSOLE_QUEUES);
	i->topics[topic].count = 0;
}

static void
list(struct console_interest *i, enum console_topic topic, struct slice id,
    bool in)
{
	uint64_t hash = console_hash(id);
	size_t at = find(i, topic, hash), count = i->topics[topic].count;

	if (in && at == count) {
		i->topics[topic].ids[count] = hash;
		i->topics[topic].count++;
	} else if (!in && at < count) {
		i->topics[topic].ids[at] = i->topics[topic].ids[count - 1];
		i->topics[topic].count--;
	}
}

static void
apply(struct console_interest *i, const struct console_filter *f,
    enum console_topic topic)
{
	/* Of an introduction the words are all there is. */
	bool add = f->add || f->only;

	if (f->topics[topic].all || f->only)
		choose(i, topic, f->topics[topic].all ? !add : true);
	/* Listed are the wanted ones, or the exceptions. */
	for (size_t n = 0; n < f->topics[topic].count; n++)
		list(i, topic, f->topics[topic].ids[n],
		    add == is_chosen(i, topic));
}

int
console_interest_apply(
    struct console_interest *i, const struct console_filter *f)
{
	for (unsigned t = 0; t < CONSOLE_TOPICS; t++) {
		int err = f->topics[t].said
		    ? reserve(i, (enum console_topic)t, f->topics[t].count)
		    : 0;
		if (err != 0)
			return err;
	}
	for (unsigned t = 0; t < CONSOLE_TOPICS; t++) {
		if (f->topics[t].said)
			apply(i, f, (enum console_topic)t);
	}
	return 0;
}

bool
console_interest_wants(const struct console_interest *i,
    enum console_topic topic, struct slice agent_id, struct slice command_id)
{
	size_t count = i->topics[topic].count;
	bool listed = count > 0 &&
	    (find(i, topic, console_hash(agent_id)) < count ||
		(command_id.len > 0 &&
		    find(i, topic, console_hash(command_id)) < count));

	return listed == is_chosen(i, topic);
}
