/* The negotiation of permessage-deflate (RFC 7692 7.1). */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "wire/wsopen.h"

#include "wire/deflate.h"

/* What an offer or an answer says. */
struct params {
	unsigned seen;       /* bits by place in names */
	uint8_t server_bits; /* 0 = not said */
	uint8_t client_bits; /* 0 = not said, or said without a number */
};

enum { SERVER_ALONE, CLIENT_ALONE, SERVER_BITS, CLIENT_BITS, PARAMS };

static const char *const names[PARAMS] = {
	[SERVER_ALONE] = "server_no_context_takeover",
	[CLIENT_ALONE] = "client_no_context_takeover",
	[SERVER_BITS] = "server_max_window_bits",
	[CLIENT_BITS] = "client_max_window_bits",
};

static const char extension[] = "permessage-deflate";

static bool
said(const struct params *p, unsigned which)
{
	return (p->seen >> which & 1) != 0;
}

/* 8 to 15, without leading zeros; 0 for anything else. */
static uint8_t
window_bits(struct slice value)
{
	uint64_t n;

	if (value.len == 0 || value.ptr[0] == '0' ||
	    slice_u64(value, DEFLATE_BITS_MAX, &n) != 0 || n < 8)
		return 0;
	return (uint8_t)n;
}

static int
read_param(struct params *p, const struct wsopen_param *param)
{
	unsigned which = 0;

	while (
	    which < PARAMS && !slice_eq(param->name, slice_from(names[which])))
		which++;
	if (which == PARAMS || said(p, which))
		return ERR_INVALID;
	p->seen |= 1U << which;
	if (which < SERVER_BITS)
		return param->value.ptr == NULL ? 0 : ERR_INVALID;

	uint8_t bits = window_bits(param->value);
	if (which == SERVER_BITS)
		p->server_bits = bits;
	else
		p->client_bits = bits;
	/* Only the client's may lack a number, and only in an offer. */
	bool bare = which == CLIENT_BITS && param->value.ptr == NULL;
	return bits > 0 || bare ? 0 : ERR_INVALID;
}

static int
read_params(struct slice text, struct params *out)
{
	struct wsopen_param param;
	struct params p = { 0 };
	int r;

	while ((r = wsopen_next_param(&text, &param)) > 0) {
		if (read_param(&p, &param) != 0)
			return ERR_INVALID;
	}
	if (r == 0)
		*out = p;
	return r;
}

static uint8_t
wanted_bits(uint8_t bits)
{
	return bits == 0 ? DEFLATE_BITS_MAX : bits;
}

static uint8_t
lesser(uint8_t a, uint8_t b)
{
	return a < b ? a : b;
}

static void
add(struct deflate_text *t, const char *text)
{
	size_t n = strlen(text);

	assert(n <= sizeof(t->bytes) - t->len);
	memcpy(t->bytes + t->len, text, n);
	t->len += n;
}

static void
add_param(struct deflate_text *t, unsigned which, unsigned bits)
{
	char digits[] = "=10";

	add(t, "; ");
	add(t, names[which]);
	if (bits == 0)
		return;
	if (bits < 10) {
		digits[1] = (char)('0' + bits);
		digits[2] = '\0';
	} else {
		digits[2] = (char)('0' + bits - 10);
	}
	add(t, digits);
}

static void
put_answer(const struct params *offer, const struct deflate_terms *terms,
    struct deflate_text *t)
{
	t->len = 0;
	add(t, extension);
	if (!terms->server_takeover)
		add_param(t, SERVER_ALONE, 0);
	if (!terms->client_takeover)
		add_param(t, CLIENT_ALONE, 0);
	/* 7.1.2.1: an offer of this is accepted by answering it. */
	if (said(offer, SERVER_BITS) || terms->server_bits < DEFLATE_BITS_MAX)
		add_param(t, SERVER_BITS, terms->server_bits);
	/* 7.1.2.2: never answered unless offered. */
	if (said(offer, CLIENT_BITS) && terms->client_bits < DEFLATE_BITS_MAX)
		add_param(t, CLIENT_BITS, terms->client_bits);
}

/* Whether an offer can be met, and how. */
static bool
meet(const struct params *offer, const struct deflate_policy *want,
    struct deflate_terms *out)
{
	struct deflate_terms t = {
		.on = true,
		.server_takeover =
		    want->server_takeover && !said(offer, SERVER_ALONE),
		.client_takeover =
		    want->client_takeover && !said(offer, CLIENT_ALONE),
		.server_bits = wanted_bits(want->server_bits),
		.client_bits = DEFLATE_BITS_MAX,
	};

	if (offer->server_bits != 0)
		t.server_bits = lesser(t.server_bits, offer->server_bits);
	if (t.server_bits < DEFLATE_BITS_MIN)
		return false;
	if (said(offer, CLIENT_BITS))
		t.client_bits = wanted_bits(want->client_bits);
	if (offer->client_bits != 0)
		t.client_bits = lesser(t.client_bits, offer->client_bits);
	*out = t;
	return true;
}

int
deflate_accept(struct slice extensions, const struct deflate_policy *want,
    struct deflate_terms *terms, struct deflate_text *answer)
{
	struct wsopen_extension e;
	struct params offer;
	int r;

	while ((r = wsopen_next_extension(&extensions, &e)) > 0) {
		if (!slice_eq(e.name, slice_from(extension)) ||
		    read_params(e.params, &offer) != 0 ||
		    !meet(&offer, want, terms))
			continue;
		put_answer(&offer, terms, answer);
		return 1;
	}
	return r;
}

void
deflate_offer(const struct deflate_policy *want, struct deflate_text *offer)
{
	offer->len = 0;
	add(offer, extension);
	if (!want->server_takeover)
		add_param(offer, SERVER_ALONE, 0);
	if (!want->client_takeover)
		add_param(offer, CLIENT_ALONE, 0);
	if (wanted_bits(want->server_bits) < DEFLATE_BITS_MAX)
		add_param(offer, SERVER_BITS, want->server_bits);
	add_param(offer, CLIENT_BITS,
	    wanted_bits(want->client_bits) < DEFLATE_BITS_MAX
		? want->client_bits
		: 0);
}

/* Whether an answer accepts deflate_offer(want) as it was made. */
static bool
fits(const struct params *answer, const struct deflate_policy *want)
{
	uint8_t server = wanted_bits(want->server_bits);

	if (!want->server_takeover && !said(answer, SERVER_ALONE))
		return false;
	if (server < DEFLATE_BITS_MAX &&
	    (answer->server_bits == 0 || answer->server_bits > server))
		return false;
	/* In an answer the client's bits have a number. */
	if (said(answer, CLIENT_BITS) && answer->client_bits == 0)
		return false;
	return answer->client_bits <= wanted_bits(want->client_bits);
}

int
deflate_check(struct slice extensions, const struct deflate_policy *want,
    struct deflate_terms *out)
{
	struct wsopen_extension e;
	struct params answer;
	int r = wsopen_next_extension(&extensions, &e);

	if (r < 0)
		return ERR_PROTOCOL;
	if (r == 0) {
		*out = (struct deflate_terms){ 0 };
		return 0;
	}
	if (want == NULL || !slice_eq(e.name, slice_from(extension)) ||
	    read_params(e.params, &answer) != 0 || !fits(&answer, want) ||
	    wsopen_next_extension(&extensions, &e) != 0)
		return ERR_PROTOCOL;
	*out = (struct deflate_terms){
		.on = true,
		.server_takeover = !said(&answer, SERVER_ALONE),
		.client_takeover =
		    want->client_takeover && !said(&answer, CLIENT_ALONE),
		.server_bits = wanted_bits(answer.server_bits),
		.client_bits = lesser(wanted_bits(want->client_bits),
		    wanted_bits(answer.client_bits)),
	};
	return 0;
}
