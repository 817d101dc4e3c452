#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/utf8.h"
#include "io/clock.h"

#include "io/log.h"

/*
 * Design notes.  A line is built on the stack and written under one mutex,
 * which also guards the table of event names.  Names are literals, so the
 * table keeps pointers; it never grows, and names beyond its size share the
 * last place.  Once a second the first line of any event starts a new
 * window for all and reports what the old one swallowed.
 */
enum {
	NAMES = 256,
	/* Kept free in every line: a closing quote and the mark. */
	TAIL = 1 + sizeof(" truncated=true\n") - 1,
	WINDOW = 1000, /* ms */
};

struct name {
	const char *event; /* borrowed literal; NULL = free */
	unsigned passed;
	uint64_t suppressed;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_config config = { 2, LEVEL_INFO, 50, clock_mono, clock_wall };
static atomic_int lowest = LEVEL_INFO;
static struct name names[NAMES + 1];
static msec window_start;
static uint64_t lost;

static const char *const level_names[] = { "debug", "info", "warn", "error" };

void
log_init(const struct log_config *c)
{
	pthread_mutex_lock(&lock);
	config = *c;
	if (config.mono == NULL)
		config.mono = clock_mono;
	if (config.wall == NULL)
		config.wall = clock_wall;
	memset(names, 0, sizeof(names));
	window_start = config.mono();
	lost = 0;
	pthread_mutex_unlock(&lock);
	log_set_level(c->level);
}

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&lowest, (int)level, memory_order_relaxed);
}

bool
log_on(enum log_level level)
{
	return (int)level >=
	    atomic_load_explicit(&lowest, memory_order_relaxed);
}

int
log_level_parse(struct slice s, enum log_level *out)
{
	for (size_t i = 0; i <= LEVEL_ERROR; i++) {
		if (slice_eq(s, slice_from(level_names[i]))) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return ERR_INVALID;
}

/* Building a line --------------------------------------------------------- */

struct line {
	char text[LOG_LINE];
	size_t len;
	bool cut;
};

/* All of s, or nothing and the line is cut here. */
static void
put(struct line *l, const char *s, size_t n)
{
	if (l->cut || n > sizeof(l->text) - TAIL - l->len) {
		l->cut = true;
		return;
	}
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

static void
put_text(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

static void
put_uint(struct line *l, uint64_t u)
{
	char digits[20];
	size_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + u % 10);
	while ((u /= 10) != 0);
	put(l, digits + at, sizeof(digits) - at);
}

static void
put_int(struct line *l, int64_t i)
{
	if (i < 0)
		put(l, "-", 1);
	put_uint(l, i < 0 ? 0 - (uint64_t)i : (uint64_t)i);
}

static bool
bare(uint8_t c)
{
	return c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\';
}

static bool
all_bare(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!bare(s.ptr[i]))
			return false;
	}
	return s.len > 0;
}

/* C1 controls, line separators, and what turns the direction of text. */
static bool
unsafe_point(uint32_t p)
{
	return p < 0xa0 || p == 0x061c || (p >= 0x200b && p <= 0x200f) ||
	    (p >= 0x2028 && p <= 0x202e) || (p >= 0x2060 && p <= 0x206f) ||
	    p == 0xfeff;
}

/* A backslash, then kind and digits of n in hex: \x9b, \u202e. */
static void
put_hex(struct line *l, char kind, uint32_t n, unsigned digits)
{
	char s[8] = { '\\', kind };

	for (unsigned i = 0; i < digits; i++)
		s[2 + i] = "0123456789abcdef"[n >> 4 * (digits - 1 - i) & 15];
	put(l, s, 2 + digits);
}

static void
put_ascii(struct line *l, uint8_t c)
{
	static const char named[] = "\"\"\\\\\nn\rr\tt";

	for (size_t i = 0; i + 1 < sizeof(named); i += 2) {
		if (c == (uint8_t)named[i]) {
			put(l, (char[]){ '\\', named[i + 1] }, 2);
			return;
		}
	}
	if (c < ' ' || c == 0x7f)
		put_hex(l, 'u', c, 4);
	else
		put(l, (char[]){ (char)c }, 1);
}

/* Put one character; how many bytes of s it was. */
static size_t
put_char(struct line *l, struct slice s)
{
	uint32_t point = 0;

	if (s.ptr[0] < 0x80) {
		put_ascii(l, s.ptr[0]);
		return 1;
	}
	int n = utf8_decode(s, &point);
	if (n <= 0) {
		put_hex(l, 'x', s.ptr[0], 2);
		return 1;
	}
	if (unsafe_point(point))
		put_hex(l, 'u', point, 4);
	else
		put(l, (const char *)s.ptr, (size_t)n);
	return (size_t)n;
}

static void
put_slice(struct line *l, struct slice s)
{
	/* A bare value that must be cut goes by the slow road. */
	if (all_bare(s) && s.len <= sizeof(l->text) - TAIL - l->len) {
		put(l, (const char *)s.ptr, s.len);
		return;
	}
	put(l, "\"", 1);
	if (l->cut)
		return;
	for (size_t i = 0; i < s.len && !l->cut;)
		i += put_char(l, slice_from_at(s, i));
	/* TAIL has room for it. */
	l->text[l->len++] = '"';
}

static void
put_value(struct line *l, const struct log_kv *kv)
{
	switch (kv->type) {
	case KV_SLICE:
		put_slice(l, kv->as.s);
		break;
	case KV_UINT:
		put_uint(l, kv->as.u);
		break;
	case KV_INT:
		put_int(l, kv->as.i);
		break;
	case KV_ERR:
		put_text(l, err_name((int)kv->as.i));
		break;
	case KV_MSEC:
		put_int(l, kv->as.i);
		put(l, "ms", 2);
		break;
	case KV_BOOL:
		put_text(l, kv->as.u != 0 ? "true" : "false");
		break;
	case KV_END:
		break;
	}
}

/* " key=value"; a value that cannot be cut is left out whole. */
static void
put_pair(struct line *l, const struct log_kv *kv)
{
	size_t start = l->len;

	if (l->cut)
		return;
	put(l, " ", 1);
	put_text(l, kv->key);
	put(l, "=", 1);
	size_t value = l->len;
	if (!l->cut)
		put_value(l, kv);
	if (l->cut && (kv->type != KV_SLICE || l->len <= value))
		l->len = start;
}

static void
line_begin(struct line *l, enum log_level level, const char *event)
{
	uint8_t stamp[STAMP_LEN];

	l->len = 0;
	l->cut = false;
	stamp_format(config.wall(), stamp);
	put_text(l, "event=");
	put_text(l, event);
	put_text(l, " level=");
	put_text(l, level_names[level]);
	put_text(l, " ts=");
	put(l, (const char *)stamp, sizeof(stamp));
}

/* One write; whether the line went out whole. */
static bool
line_send(struct line *l)
{
	static const char mark[] = " truncated=true";
	ssize_t n;

	if (l->cut) {
		memcpy(l->text + l->len, mark, sizeof(mark) - 1);
		l->len += sizeof(mark) - 1;
	}
	l->text[l->len++] = '\n';
	do
		n = write(config.fd, l->text, l->len);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)l->len;
}

static void
line_build(struct line *l, enum log_level level, const char *event,
    const struct log_kv *pairs)
{
	line_begin(l, level, event);
	for (; pairs->type != KV_END; pairs++)
		put_pair(l, pairs);
}

/* With the lock held; says first what was lost before. */
static void
emit(enum log_level level, const char *event, const struct log_kv *pairs)
{
	struct line l;

	if (lost > 0) {
		const struct log_kv told[] = { kv_u("lines", lost), LOG_STOP };
		line_build(&l, LEVEL_WARN, "log_lost", told);
		if (line_send(&l))
			lost = 0;
	}
	line_build(&l, level, event, pairs);
	if (!line_send(&l))
		lost++;
}

/* Floods ------------------------------------------------------------------ */

static struct name *
find_name(const char *event)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (const char *c = event; *c != '\0'; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	for (size_t i = 0; i < NAMES; i++) {
		struct name *n = &names[(hash + i) % NAMES];
		if (n->event == NULL)
			n->event = event;
		if (strcmp(n->event, event) == 0)
			return n;
	}
	names[NAMES].event = "other";
	return &names[NAMES];
}

/* Report what each name swallowed; every name may speak again. */
static void
new_window(msec now)
{
	window_start = now;
	for (size_t i = 0; i <= NAMES; i++) {
		uint64_t n = names[i].suppressed;
		names[i].passed = 0;
		names[i].suppressed = 0;
		if (n == 0)
			continue;
		const struct log_kv told[] = { kv_c("of", names[i].event),
			kv_u("suppressed", n), LOG_STOP };
		emit(LEVEL_WARN, "log_suppressed", told);
	}
}

static bool
admit(const char *event)
{
	if (config.per_second == 0)
		return true;
	msec now = config.mono();
	if (now - window_start >= WINDOW)
		new_window(now);
	struct name *n = find_name(event);
	if (n->passed >= config.per_second) {
		n->suppressed++;
		return false;
	}
	n->passed++;
	return true;
}

void
log_write(enum log_level level, const char *event, const struct log_kv *pairs)
{
	int saved = errno;

	pthread_mutex_lock(&lock);
	if (admit(event))
		emit(level, event, pairs);
	pthread_mutex_unlock(&lock);
	errno = saved;
}

void
log_flush(void)
{
	pthread_mutex_lock(&lock);
	new_window(config.mono());
	pthread_mutex_unlock(&lock);
}
