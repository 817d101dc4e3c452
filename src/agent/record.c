#include <string.h>

#include "base/err.h"

#include "agent/holder_proto.h"

#include "agent/record.h"

struct slice
record_value(struct slice text, uint8_t end, struct slice key)
{
	struct slice part;

	while (slice_split(&text, end, &part))
		if (part.len > key.len && part.ptr[key.len] == '=' &&
		    slice_starts(part, key))
			return slice_from_at(part, key.len + 1);
	return (struct slice){ 0 };
}

static uint64_t
number(struct slice text, const char *key, int *err)
{
	struct slice v = record_value(text, '\n', slice_from(key));
	uint64_t n = 0;

	if (v.ptr == NULL)
		*err = ERR_MISSING;
	else if (slice_u64(v, INT64_MAX, &n) != 0)
		*err = ERR_CORRUPT;
	return n;
}

static struct slice
word(struct slice text, const char *key, int *err)
{
	struct slice v = record_value(text, '\n', slice_from(key));

	if (v.ptr == NULL)
		*err = ERR_MISSING;
	return v;
}

static void
put_hex(uint8_t out[16], uint64_t n)
{
	for (size_t i = 16; i-- > 0; n >>= 4)
		out[i] = (uint8_t) "0123456789abcdef"[n & 15];
}

/* Where "check=" begins a line, or text.len. */
static size_t
find_check(struct slice text)
{
	static const char mark[] = "\ncheck=";
	const uint8_t *at = text.len == 0
	    ? NULL
	    : memmem(text.ptr, text.len, mark, sizeof(mark) - 1);

	return at == NULL ? text.len : (size_t)(at - text.ptr) + 1;
}

/* Check heading and sum; *text becomes what lies between them. */
static int
open_text(struct slice *text, struct slice heading)
{
	struct slice rest = *text, first;
	uint8_t want[16];
	uint64_t version;
	size_t check = find_check(*text);

	if (text->len < check + sizeof("check=") - 1 + sizeof(want) ||
	    !slice_split(&rest, '\n', &first) ||
	    !slice_starts(first, heading) ||
	    slice_u64(slice_from_at(first, heading.len), 1000, &version) != 0)
		return ERR_CORRUPT;
	/* A later version may sum up differently. */
	if (version > HOLDER_VERSION)
		return ERR_NEWER;
	put_hex(want, holder_fnv(HOLDER_FNV, text->ptr, check));
	if (memcmp(text->ptr + check + 6, want, sizeof(want)) != 0)
		return ERR_CORRUPT;
	*text = slice_first(rest, check - first.len - 1);
	return 0;
}

int
record_read_claim(struct slice text, struct record_claim *out)
{
	struct record_claim c = { 0 };
	struct slice after = slice_from_at(text, find_check(text));
	int err = open_text(&text, SL("muster-claim "));

	if (err != 0)
		return err;
	c.id = word(text, "id", &err);
	c.seq = number(text, "seq", &err);
	c.epoch = number(text, "epoch", &err);
	c.start = (wall_msec)number(text, "start_ms", &err);
	if (err != 0)
		return err;
	/* Beside the sum: written when the process was there. */
	(void)slice_u64(
	    record_value(after, '\n', SL("pid")), INT32_MAX, &c.pid);
	*out = c;
	return 0;
}

int
record_read_exit(struct slice text, struct record_exit *out)
{
	struct record_exit x = { 0 };
	int err = open_text(&text, SL("muster-exit "));

	if (err != 0)
		return err;
	x.id = word(text, "id", &err);
	x.outcome = word(text, "outcome", &err);
	x.reason = word(text, "reason", &err);
	x.stage = word(text, "stage", &err);
	x.error = word(text, "error", &err);
	x.seq = number(text, "seq", &err);
	x.code = (int)(number(text, "code", &err) & 0xffff);
	x.signal = (int)(number(text, "signal", &err) & 0xff);
	x.start = (wall_msec)number(text, "start_ms", &err);
	x.end = (wall_msec)number(text, "end_ms", &err);
	x.took_ms = number(text, "took_ms", &err);
	x.size[0] = number(text, "out", &err);
	x.size[1] = number(text, "err", &err);
	x.gap[0] = number(text, "out_gap", &err);
	x.gap[1] = number(text, "err_gap", &err);
	x.killed = number(text, "killed", &err);
	x.lingering = number(text, "lingering", &err);
	x.user_us = number(text, "user_us", &err);
	x.system_us = number(text, "system_us", &err);
	x.max_rss_kb = number(text, "max_rss_kb", &err);
	/* Not in records of holders before the stop. */
	(void)slice_u64(
	    record_value(text, '\n', SL("stop_ms")), INT64_MAX, &x.stop_ms);
	x.pids = record_value(text, '\n', SL("pids"));
	x.left = record_value(text, '\n', SL("left"));
	if (err == 0)
		*out = x;
	return err;
}

void
record_put(struct buf *b, uint8_t end, const char *key, struct slice value)
{
	if (value.len > 0 && memchr(value.ptr, end, value.len) != NULL)
		b->err = ERR_INVALID;
	buf_put(b, slice_from(key));
	buf_put_byte(b, '=');
	buf_put(b, value);
	buf_put_byte(b, end);
}

void
record_put_u64(struct buf *b, uint8_t end, const char *key, uint64_t n)
{
	buf_put(b, slice_from(key));
	buf_put_byte(b, '=');
	buf_put_u64(b, n);
	buf_put_byte(b, end);
}

static void
put_pair(struct buf *b, const char *key, struct slice value)
{
	record_put(b, '\n', key, value);
}

static void
put_number(struct buf *b, const char *key, uint64_t n)
{
	record_put_u64(b, '\n', key, n);
}

static void
put_check(struct buf *b)
{
	uint8_t hex[16];
	struct slice text = buf_peek(b);

	put_hex(hex, holder_fnv(HOLDER_FNV, text.ptr, text.len));
	put_pair(b, "check", (struct slice){ hex, sizeof(hex) });
}

void
record_write_unknown(
    struct buf *b, const struct record_claim *claim, const uint64_t size[2])
{
	static const char *const zeros[] = { "took_ms", "out_gap", "err_gap",
		"killed", "lingering", "user_us", "system_us", "max_rss_kb",
		"code", "signal" };

	buf_put(b, SL("muster-exit 1\n"));
	put_pair(b, "id", claim->id);
	put_number(b, "seq", claim->seq);
	put_pair(b, "outcome", SL("unknown"));
	put_pair(b, "reason", SL("none"));
	put_pair(b, "stage", SL(""));
	put_pair(b, "error", SL(""));
	put_number(b, "start_ms", (uint64_t)claim->start);
	put_number(b, "end_ms", (uint64_t)claim->start);
	put_number(b, "out", size[0]);
	put_number(b, "err", size[1]);
	for (size_t i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++)
		put_number(b, zeros[i], 0);
	put_check(b);
}

void
record_write_mark(struct buf *b, uint64_t mark)
{
	buf_put(b, SL("muster-journal 1\n"));
	put_number(b, "mark", mark);
	put_check(b);
}

int
record_read_mark(struct slice text, uint64_t *mark)
{
	int err = open_text(&text, SL("muster-journal "));

	if (err != 0)
		return err;
	uint64_t n = number(text, "mark", &err);
	if (err == 0)
		*mark = n;
	return err;
}

void
record_write_stop(struct buf *b, const struct record_stop *s)
{
	buf_put(b, SL("muster-stop 1\n"));
	put_number(b, "epoch", s->epoch);
	put_number(b, "stopped", s->stopped);
	put_number(b, "keep_tunnels", s->keep_tunnels);
	put_number(b, "at_ms", (uint64_t)s->at);
	put_pair(b, "mac", s->mac);
	put_pair(b, "scope", s->scope);
	put_pair(b, "reason", s->reason);
	put_check(b);
}

int
record_read_stop(struct slice text, struct record_stop *out)
{
	struct record_stop s = { 0 };
	int err = open_text(&text, SL("muster-stop "));

	if (err != 0)
		return err;
	s.epoch = number(text, "epoch", &err);
	s.stopped = number(text, "stopped", &err) != 0;
	s.keep_tunnels = number(text, "keep_tunnels", &err) != 0;
	s.at = (wall_msec)number(text, "at_ms", &err);
	/* An empty one reads as absent, which is the same here. */
	s.mac = record_value(text, '\n', SL("mac"));
	s.scope = record_value(text, '\n', SL("scope"));
	s.reason = record_value(text, '\n', SL("reason"));
	if (err == 0)
		*out = s;
	return err;
}
