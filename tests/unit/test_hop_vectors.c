/*
 * Public suites of hostile and odd HTTP connections, through a gateway: what
 * comes out behind it is counted by readers that forgive much, each in its
 * own way, as services and browsers are said to.  None may find more or
 * other messages than were passed on.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#include "support/http_vectors.h"
#include "support/relay.h"
#include "support/unit.h"

/* What a reader forgives. */
enum leniency {
	LENIENT_LF = 1,     /* a line may end with LF alone */
	LENIENT_CR = 2,     /* or with CR alone */
	LENIENT_LENGTH = 4, /* Content-Length counts before chunked */
	LENIENT_BLANKS = 8, /* blanks around names, '_' for '-' */
	LENIENT_ALL = 16,
};

struct count {
	size_t heads;
	size_t whole;  /* messages */
	size_t finals; /* answers of 200 and above */
	bool garbage;
};

static bool
cut_line(struct slice *in, unsigned how, struct slice *line)
{
	for (size_t i = 0; i < in->len; i++) {
		bool cr = in->ptr[i] == '\r';
		bool crlf = cr && i + 1 < in->len && in->ptr[i + 1] == '\n';
		if (!crlf && !(cr && (how & LENIENT_CR) != 0) &&
		    !(in->ptr[i] == '\n' && (how & LENIENT_LF) != 0))
			continue;
		*line = slice_first(*in, i);
		*in = slice_from_at(*in, i + (crlf ? 2 : 1));
		return true;
	}
	return false;
}

static bool
contains(struct slice s, const char *word)
{
	size_t len = strlen(word);

	for (; s.len >= len; s = slice_from_at(s, 1)) {
		if (slice_eq_nocase(slice_first(s, len), slice_from(word)))
			return true;
	}
	return false;
}

static bool
is_named(struct slice name, const char *want, unsigned how)
{
	char text[64];

	if ((how & LENIENT_BLANKS) == 0)
		return slice_eq_nocase(name, slice_from(want));
	if (slice_cstr(slice_trim(name), text, sizeof(text)) != 0)
		return false;
	for (size_t i = 0; text[i] != '\0'; i++)
		text[i] = text[i] == '_' ? '-' : text[i];
	return slice_eq_nocase(slice_from(text), slice_from(want));
}

static unsigned long
number(struct slice s, int base)
{
	char text[32];

	s = slice_first(s, sizeof(text) - 1);
	return slice_cstr(s, text, sizeof(text)) != 0
	    ? 0
	    : strtoul(text, NULL, base);
}

struct framing {
	bool chunked;
	size_t length;
};

static bool
read_head(struct slice *in, unsigned how, struct framing *f)
{
	bool length = false;
	struct slice line;

	*f = (struct framing){ 0 };
	while (cut_line(in, how, &line)) {
		size_t colon = slice_find(line, ':');
		struct slice name = slice_first(line, colon);
		struct slice value = slice_from_at(line, colon + 1);
		if (line.len == 0) {
			f->chunked = f->chunked &&
			    !(length && (how & LENIENT_LENGTH) != 0);
			return true;
		}
		if (is_named(name, "content-length", how)) {
			length = true;
			f->length = number(slice_trim(value), 10);
		}
		if (is_named(name, "transfer-encoding", how))
			f->chunked = f->chunked || contains(value, "chunked");
	}
	return false;
}

/* Past the body; false when it is not all there. */
static bool
skip_body(struct slice *in, unsigned how, const struct framing *f)
{
	struct slice line;
	size_t n = 1;

	if (!f->chunked) {
		if (in->len < f->length)
			return false;
		*in = slice_from_at(*in, f->length);
		return true;
	}
	while (n > 0) {
		if (!cut_line(in, how, &line))
			return false;
		n = number(line, 16);
		if (n > 0 && in->len < n + 2)
			return false;
		*in = slice_from_at(*in, n > 0 ? n + 2 : 0);
	}
	do {
		if (!cut_line(in, how, &line))
			return false;
	} while (line.len > 0);
	return true;
}

static struct count
count(struct slice in, unsigned how)
{
	struct count c = { 0 };
	struct framing f;
	struct slice line;

	while (in.len > 0) {
		struct slice first = in;
		unsigned long status = 0;
		if (!cut_line(&first, how, &line) || !read_head(&in, how, &f)) {
			c.garbage = true;
			break;
		}
		c.heads++;
		if (slice_starts(line, SL("HTTP/1.1 ")))
			status = number(slice_from_at(line, 9), 10);
		else if (!slice_ends(line, SL(" HTTP/1.1")))
			c.garbage = true;
		c.finals += status >= 200;
		if ((status > 0 && status < 200) || status == 204 ||
		    status == 304)
			f = (struct framing){ 0 };
		if (!skip_body(&in, how, &f))
			break;
		c.whole++;
	}
	return c;
}

struct tally {
	int wrong;
	size_t requests, answers; /* that went through */
};

static void
through_request(const struct vector *v, struct tally *t)
{
	struct slice answer = SL("HTTP/1.1 204 No Content\r\n\r\n");
	struct relay r;
	size_t answers = 0;

	relay_init(&r);
	relay_visitor(&r, (struct slice){ v->bytes, v->len }, SIZE_MAX);
	while (r.err == 0 && r.ended > answers) {
		answers++;
		relay_service(&r, answer, SIZE_MAX);
	}
	for (unsigned how = 0; how < LENIENT_ALL; how++) {
		struct count c = count(buf_peek(&r.to_service), how);
		if (c.heads == r.asked && c.whole >= r.ended && !c.garbage)
			continue;
		print_error("%s: %zu requests of %zu (%zu whole of %zu)\n",
		    v->id, c.heads, r.asked, c.whole, r.ended);
		t->wrong++;
	}
	t->requests += r.ended;
	relay_fini(&r);
}

static void
through_response(const struct vector *v, struct tally *t)
{
	struct relay r;

	relay_init(&r);
	relay_visitor(&r, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), SIZE_MAX);
	relay_service(&r, (struct slice){ v->bytes, v->len }, SIZE_MAX);
	if (r.err == 0 && r.bad == 0)
		relay_service_eof(&r);
	for (unsigned how = 0; how < LENIENT_ALL; how++) {
		struct count c = count(buf_peek(&r.to_visitor), how);
		bool begun = !http1_server_may_answer(&r.visitor);
		if (c.finals == (begun ? 1 : 0) && !c.garbage &&
		    (c.whole == c.heads) == (r.answered || !begun))
			continue;
		print_error("%s: %zu answers, %zu final, %zu whole\n", v->id,
		    c.heads, c.finals, c.whole);
		t->wrong++;
	}
	/* What is bad is never handed out as a whole answer. */
	if (strcmp(v->expect, "reject") == 0 && r.answered && r.bad == 0) {
		print_error("%s: a bad answer passed\n", v->id);
		t->wrong++;
	}
	t->answers += r.answered;
	relay_fini(&r);
}

static void
through(struct vector *v, void *arg)
{
	if (strcmp(v->side, "resp") == 0)
		through_response(v, arg);
	else
		through_request(v, arg);
}

static void
test_vectors(void **state)
{
	struct tally t = { 0 };
	int total;

	(void)state;
	total = http_vectors_each(through, &t);
	print_message("%d vectors, %zu requests and %zu answers passed, "
		      "%d wrong\n",
	    total, t.requests, t.answers, t.wrong);
	assert_true(total > 1900);
	assert_true(t.requests > 0 && t.answers > 0);
	assert_int_equal(t.wrong, 0);
}

/* The readers can tell: what they are for is found. */
static void
test_readers(void **state)
{
	static const char smuggled[] =
	    "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer_Encoding: "
	    "chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
	static const char split[] =
	    "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\n\nHTTP/1.1 200 OK\r\n"
	    "Content-Length: 0\r\n\r\n";

	(void)state;
	assert_int_equal(count(slice_from(smuggled), 0).whole, 2);
	assert_int_equal(count(slice_from(smuggled), LENIENT_LENGTH).whole, 2);
	assert_true(count(SL("GET / HTTP/1.1\r\nTransfer_Encoding: chunked\r\n"
			     "\r\nGET / HTTP/1.1\r\n\r\n"),
			LENIENT_BLANKS)
			.whole < 2);
	assert_int_equal(count(slice_from(split), 0).finals, 1);
	assert_int_equal(count(slice_from(split), LENIENT_LF).finals, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers),
		cmocka_unit_test(test_vectors),
	};
	int failed;

	if (!http_vectors_open())
		return 0;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	http_vectors_close();
	return failed;
}
