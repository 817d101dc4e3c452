#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/js_tape.h"

#include "base/js.h"

/* A number as read: digits * 10^exponent, less what did not fit. */
struct decimal {
	uint64_t digits;
	int64_t exponent;
	bool negative;
	bool full;  /* digits could not take every digit */
	bool lossy; /* and one of those left out was not 0 */
};

/* An exponent beyond this is as good as any other. */
#define EXPONENT_MAX INT64_C(100000000000)

static int64_t
read_exponent(struct slice s)
{
	bool negative = s.len > 0 && s.ptr[0] == '-';
	int64_t n = 0;

	if (s.len > 0 && (negative || s.ptr[0] == '+'))
		s = slice_from_at(s, 1);
	for (size_t i = 0; i < s.len && n < EXPONENT_MAX; i++)
		n = n * 10 + (s.ptr[i] - '0');
	return negative ? -n : n;
}

static void
take_digit(struct decimal *d, unsigned digit, bool fraction)
{
	if (!d->full && d->digits <= (UINT64_MAX - digit) / 10) {
		d->digits = d->digits * 10 + digit;
		d->exponent -= fraction;
		return;
	}
	d->full = true;
	d->lossy = d->lossy || digit != 0;
	d->exponent += !fraction;
}

/* s is a valid JSON number. */
static struct decimal
read_decimal(struct slice s)
{
	struct decimal d = { .negative = s.ptr[0] == '-' };
	bool fraction = false;

	for (size_t i = d.negative; i < s.len; i++) {
		if (s.ptr[i] == '.') {
			fraction = true;
		} else if ((s.ptr[i] | 0x20) == 'e') {
			d.exponent += read_exponent(slice_from_at(s, i + 1));
			break;
		} else {
			take_digit(&d, s.ptr[i] - (unsigned)'0', fraction);
		}
	}
	return d;
}

static int
whole_number(struct decimal *d)
{
	if (d->digits == 0)
		return 0;
	while (d->exponent < 0 && d->digits % 10 == 0) {
		d->digits /= 10;
		d->exponent++;
	}
	if (d->exponent < 0 || (d->lossy && d->exponent == 0))
		return ERR_TYPE;
	if (d->lossy)
		return ERR_RANGE;
	for (; d->exponent > 0; d->exponent--) {
		if (d->digits > UINT64_MAX / 10)
			return ERR_RANGE;
		d->digits *= 10;
	}
	return 0;
}

static int
check_number(struct js_value v)
{
	if (v.kind == JS_NUMBER)
		return 0;
	return v.kind == JS_NONE ? ERR_MISSING : ERR_TYPE;
}

int
js_u64(struct js_value v, uint64_t *out)
{
	int err = check_number(v);

	if (err != 0)
		return err;
	struct decimal d = read_decimal(js_raw(v));
	err = whole_number(&d);
	if (err == 0 && d.negative && d.digits != 0)
		err = ERR_RANGE;
	if (err == 0)
		*out = d.digits;
	return err;
}

int
js_i64(struct js_value v, int64_t *out)
{
	int err = check_number(v);

	if (err != 0)
		return err;
	struct decimal d = read_decimal(js_raw(v));
	err = whole_number(&d);
	if (err != 0)
		return err;
	if (d.digits > (uint64_t)INT64_MAX + d.negative)
		return ERR_RANGE;
	*out = (int64_t)(d.negative ? 0 - d.digits : d.digits);
	return 0;
}

/*
 * No double needs more than 767 digits to be told from its neighbours; a
 * longer number keeps its value's side by a last digit that is not 0.
 */
enum { DIGITS_MAX = 800 };

/* Through strtod, with the point moved into the exponent so that no locale
 * matters, and with a bounded number of digits. */
static double
read_slowly(struct slice s)
{
	char text[DIGITS_MAX + 48];
	size_t n = 0;
	int64_t exponent = 0;
	bool fraction = false, more = false;

	for (size_t i = s.ptr[0] == '-'; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		if (c == '.') {
			fraction = true;
		} else if ((c | 0x20) == 'e') {
			exponent += read_exponent(slice_from_at(s, i + 1));
			break;
		} else if (n < DIGITS_MAX) {
			/* Leading zeros say nothing. */
			if (n > 0 || c != '0')
				text[n++] = (char)c;
			exponent -= fraction;
		} else {
			more = more || c != '0';
			exponent += !fraction;
		}
	}
	if (more) {
		text[n++] = '1';
		exponent--;
	}
	if (n == 0)
		text[n++] = '0';
	snprintf(text + n, sizeof(text) - n, "e%lld", (long long)exponent);
	double d = strtod(text, NULL);
	return s.ptr[0] == '-' ? -d : d;
}

int
js_double(struct js_value v, double *out)
{
	/* Each of these is exact, so one rounding is all that happens. */
	static const double powers[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7,
		1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
		1e19, 1e20, 1e21, 1e22 };
	int err = check_number(v);

	if (err != 0)
		return err;
	struct decimal d = read_decimal(js_raw(v));
	double value = (double)d.digits;
	if (d.full || d.digits > UINT64_C(1) << 53 || d.exponent < -22 ||
	    d.exponent > 22)
		value = read_slowly(js_raw(v));
	else if (d.exponent < 0)
		value = (d.negative ? -value : value) / powers[-d.exponent];
	else
		value = (d.negative ? -value : value) * powers[d.exponent];
	if (!(value >= -__DBL_MAX__ && value <= __DBL_MAX__))
		return ERR_RANGE;
	*out = value;
	return 0;
}
