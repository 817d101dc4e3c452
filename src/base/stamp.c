#include <stdbool.h>

#include "base/err.h"

#include "base/stamp.h"

enum { DAY_SECONDS = 86400 };

struct date {
	int64_t year;
	unsigned month; /* 1 to 12 */
	unsigned day;   /* 1 to 31 */
};

/* Days since the epoch to a proleptic Gregorian date and back, by eras of
 * 400 years that begin on 1 March. */
static struct date
date_from_days(int64_t days)
{
	int64_t z = days + 719468;
	int64_t era = z / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;
	struct date d = {
		.day = (unsigned)(doy - (153 * mp + 2) / 5 + 1),
		.month = (unsigned)(mp < 10 ? mp + 3 : mp - 9),
	};

	d.year = yoe + era * 400 + (d.month <= 2);
	return d;
}

static int64_t
days_from_date(struct date d)
{
	int64_t y = d.year - (d.month <= 2);
	int64_t era = y / 400;
	int64_t yoe = y - era * 400;
	int64_t mp = d.month > 2 ? d.month - 3 : d.month + 9;
	int64_t doy = (153 * mp + 2) / 5 + d.day - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void
put(uint8_t *out, unsigned width, int64_t n)
{
	while (width-- > 0) {
		out[width] = (uint8_t)('0' + n % 10);
		n /= 10;
	}
}

static wall_msec
clamp(wall_msec at)
{
	const wall_msec last = INT64_C(253402300799999);

	return at < 0 ? 0 : at > last ? last : at;
}

void
stamp_format(wall_msec at, uint8_t out[STAMP_LEN])
{
	at = clamp(at);
	int64_t seconds = at / 1000;
	struct date d = date_from_days(seconds / DAY_SECONDS);
	int64_t tod = seconds % DAY_SECONDS;

	memcpy(out, "0000-00-00T00:00:00.000Z", STAMP_LEN);
	put(out, 4, d.year);
	put(out + 5, 2, d.month);
	put(out + 8, 2, d.day);
	put(out + 11, 2, tod / 3600);
	put(out + 14, 2, tod / 60 % 60);
	put(out + 17, 2, tod % 60);
	put(out + 20, 3, at % 1000);
}

void
stamp_format_http(wall_msec at, uint8_t out[STAMP_HTTP_LEN])
{
	static const char days[7][4] = { "Thu", "Fri", "Sat", "Sun", "Mon",
		"Tue", "Wed" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May",
		"Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

	int64_t seconds = clamp(at) / 1000;
	struct date d = date_from_days(seconds / DAY_SECONDS);
	int64_t tod = seconds % DAY_SECONDS;

	memcpy(out, "Ddd, 00 Mmm 0000 00:00:00 GMT", STAMP_HTTP_LEN);
	memcpy(out, days[seconds / DAY_SECONDS % 7], 3);
	put(out + 5, 2, d.day);
	memcpy(out + 8, months[d.month - 1], 3);
	put(out + 12, 4, d.year);
	put(out + 17, 2, tod / 3600);
	put(out + 20, 2, tod / 60 % 60);
	put(out + 23, 2, tod % 60);
}

/* A cursor with a sticky error. */
struct cursor {
	struct slice s;
	bool bad;
};

static unsigned
digits(struct cursor *c, size_t width)
{
	uint64_t n = 0;

	if (c->s.len < width ||
	    slice_u64(slice_first(c->s, width), UINT32_MAX, &n) != 0) {
		c->bad = true;
		return 0;
	}
	c->s = slice_from_at(c->s, width);
	return (unsigned)n;
}

static uint8_t
byte(struct cursor *c, const char *any)
{
	if (c->s.len == 0 || c->s.ptr[0] == 0 ||
	    strchr(any, c->s.ptr[0]) == NULL) {
		c->bad = true;
		return 0;
	}
	uint8_t got = c->s.ptr[0];
	c->s = slice_from_at(c->s, 1);
	return got;
}

static int64_t
fraction_ms(struct cursor *c)
{
	int64_t ms = 0, unit = 100;
	size_t n = 0;

	if (c->s.len == 0 || c->s.ptr[0] != '.')
		return 0;
	c->s = slice_from_at(c->s, 1);
	for (; c->s.len > 0 && c->s.ptr[0] >= '0' && c->s.ptr[0] <= '9'; n++) {
		ms += (c->s.ptr[0] - '0') * unit;
		unit /= 10;
		c->s = slice_from_at(c->s, 1);
	}
	if (n == 0 || n > 9)
		c->bad = true;
	return ms;
}

static int64_t
offset_minutes(struct cursor *c)
{
	uint8_t sign = byte(c, "Zz+-");

	if (sign == 'Z' || sign == 'z' || c->bad)
		return 0;
	unsigned hours = digits(c, 2);
	byte(c, ":");
	unsigned minutes = digits(c, 2);
	if (hours > 23 || minutes > 59)
		c->bad = true;
	int64_t all = (int64_t)hours * 60 + minutes;
	return sign == '-' ? -all : all;
}

static unsigned
days_in(int64_t year, unsigned month)
{
	static const uint8_t days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30,
		31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap ? 1U : 0U);
}

int
stamp_parse(struct slice s, wall_msec *out)
{
	struct cursor c = { .s = s };
	struct date d;

	d.year = digits(&c, 4);
	byte(&c, "-");
	d.month = digits(&c, 2);
	byte(&c, "-");
	d.day = digits(&c, 2);
	byte(&c, "Tt ");
	unsigned hour = digits(&c, 2);
	byte(&c, ":");
	unsigned minute = digits(&c, 2);
	byte(&c, ":");
	unsigned second = digits(&c, 2);
	int64_t ms = fraction_ms(&c);
	int64_t offset = offset_minutes(&c);

	if (c.bad || c.s.len != 0 || d.month < 1 || d.month > 12 || d.day < 1 ||
	    d.day > days_in(d.year, d.month) || hour > 23 || minute > 59 ||
	    second > 60)
		return ERR_INVALID;
	int64_t seconds = days_from_date(d) * DAY_SECONDS + hour * 3600 +
	    minute * 60 + second - offset * 60;
	*out = seconds * 1000 + ms;
	return 0;
}
