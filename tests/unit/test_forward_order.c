/* Openings of tunnel streams: what is wanted, and what is no host. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#include "agent/forward_order.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static int
read_json(const char *json, const char *domain, struct forward_wish *w,
    struct forward_refusal *no)
{
	struct slice text = guard_copy(slice_from(json));
	const struct opening o = {
		.version = 2, .kind = OPENING_KIND_TCP, .json = text
	};
	int err = forward_read(&o, domain, w, no);

	guard_free(text);
	return err;
}

static void
test_read(void **state)
{
	struct forward_refusal no;
	struct forward_wish w;

	(void)state;
	assert_int_equal(
	    read_json("{\"id\":\"req 1\\u0007\",\"host\":\"DB.Local\","
		      "\"port\":5432,\"tls\":{\"insecure\":true,\"name\":"
		      "\"x.test\"},\"connect_ms\":500,\"more\":[]}",
		"", &w, &no),
	    0);
	assert_string_equal(w.id, "req?1?");
	assert_string_equal(w.host, "db.local");
	assert_string_equal(w.tls_name, "x.test");
	assert_int_equal(w.port, 5432);
	assert_int_equal(w.within, 500);
	assert_true(w.tls && w.insecure && w.answers && !w.listen && !w.udp);

	const char *service =
	    "{\"service\":\"web\",\"namespace\":\"prod\",\"port\":80}";
	assert_int_equal(read_json(service, "cluster.local", &w, &no), 0);
	assert_string_equal(w.host, "web.prod.svc.cluster.local");
	assert_int_equal(w.within, FORWARD_CONNECT);
	assert_int_equal(read_json(service, "", &w, &no), 0);
	assert_string_equal(w.host, "web");

	assert_int_equal(
	    read_json("{\"listen\":{\"host\":\"*\",\"port\":0}}", "", &w, &no),
	    0);
	assert_true(w.listen);
	assert_string_equal(w.host, "*");
	assert_int_equal(
	    read_json("{\"listen\":{\"port\":9}}", "", &w, &no), 0);
	assert_string_equal(w.host, "127.0.0.1");
}

static void
test_bad(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "{}", "{\"port\":1}",
		"{\"host\":\"a\"}", "{\"host\":\"a\",\"port\":0}",
		"{\"host\":\"a\",\"port\":65536}",
		"{\"host\":\"a\",\"port\":\"1\"}",
		"{\"host\":\"a\",\"host\":\"b\",\"port\":1}",
		"{\"host\":\"a\",\"service\":\"b\",\"port\":1}",
		"{\"host\":\"a b\",\"port\":1}",
		"{\"host\":\"a\\u0000b\",\"port\":1}",
		"{\"host\":\"a\",\"port\":1,\"tls\":1}",
		"{\"host\":\"a\",\"port\":1,\"listen\":{}}",
		"{\"listen\":{\"host\":\"example.com\",\"port\":1}}" };
	struct forward_refusal no;
	struct forward_wish w;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (read_json(bad[i], "", &w, &no) != ERR_DENIED)
			fail_msg("%s", bad[i]);
		assert_string_equal(no.code, "INVALID");
	}
	const struct opening http = { .version = 2,
		.kind = OPENING_KIND_HTTP,
		.json = SL("{\"host\":\"a\",\"port\":1}") };
	assert_int_equal(forward_read(&http, "", &w, &no), ERR_UNSUPPORTED);
	const struct opening udp = { .version = 2,
		.kind = OPENING_KIND_UDP,
		.json = SL("{\"host\":\"a\",\"port\":1,\"tls\":{}}") };
	assert_int_equal(forward_read(&udp, "", &w, &no), ERR_DENIED);
}

static void
test_version_1(void **state)
{
	struct opening o = { .version = 1,
		.proto = OPENING_UDP,
		.port = 53,
		.service = SL("dns"),
		.namespace = SL("kube-system"),
		.tunnel_id = SL("tun_1") };
	struct forward_refusal no;
	struct forward_wish w;

	(void)state;
	assert_int_equal(forward_read(&o, "k8s.local", &w, &no), 0);
	assert_string_equal(w.host, "dns.kube-system.svc.k8s.local");
	assert_string_equal(w.id, "tun_1");
	assert_true(w.udp && !w.answers);
	o.port = 0;
	assert_int_equal(forward_read(&o, "", &w, &no), ERR_DENIED);
}

static void
test_spelling(void **state)
{
	static const struct {
		const char *host, *spelled;
	} cases[] = {
		{ "Example.COM", "example.com" },
		{ "127.0.0.1", "127.0.0.1" },
		{ "[::1]", "::1" },
		{ "0:0:0:0:0:0:0:1", "::1" },
		{ "::ffff:10.0.0.1", "10.0.0.1" },
		{ "2001:DB8::0:1", "2001:db8::1" },
		{ "a_b-c.1", "a_b-c.1" },
		{ "1e100.net", "1e100.net" },
	};
	static const char *const numbers[] = { "127.1", "0x7f.1", "2130706433",
		"0x7f000001", "0177.0.0.1", "127.0.1", "1", "0", "127.0.0.01" };
	static const char *const none[] = { "", "a b", "a/b", "a:1", "a%b",
		"fe80::1%lo", "-a", ".", ".a", "[::1", "b\xc3\xbc", "a\n" };
	char out[TARGET_HOST];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(
		    target_spell(slice_from(cases[i].host), out), 0);
		assert_string_equal(out, cases[i].spelled);
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (target_spell(slice_from(numbers[i]), out) != ERR_DENIED)
			fail_msg("%s", numbers[i]);
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
		struct slice host = guard_copy(slice_from(none[i]));
		if (target_spell(host, out) != ERR_INVALID)
			fail_msg("%s", none[i]);
		guard_free(host);
	}
	assert_true(target_is_loopback("localhost"));
	assert_true(target_is_loopback("127.8.0.1"));
	assert_true(target_is_loopback("::1"));
	assert_false(target_is_loopback("localhost.example"));
	assert_false(target_is_loopback("128.0.0.1"));
}

static void
test_sifting(void **state)
{
	static const char *const all[] = { "10.0.0.7", "169.254.169.254", "::1",
		"127.0.0.1", "64:ff9b::a9fe:a9fe", "2001:db8::1" };
	union addr a[6];

	(void)state;
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(
		    addr_parse_ip(slice_from(all[i]), 80, &a[i]), 0);
	assert_int_equal(target_sift(a, 6, true), 4);
	assert_int_equal(target_sift(a, 4, false), 2);
	assert_int_equal(a[0].sa.sa_family, AF_INET);
	assert_int_equal(a[1].sa.sa_family, AF_INET6);
}

static void
test_answers(void **state)
{
	bool yes = false;

	(void)state;
	assert_int_equal(forward_read_answer(SL(""), &yes), 0);
	assert_int_equal(forward_read_answer(SL("\2\0\0"), &yes), 0);
	assert_int_equal(forward_read_answer(SL("\2\0\0\2{"), &yes), 0);
	assert_int_equal(forward_read_answer(SL("\2\0\0\2{}x"), &yes), 6);
	assert_true(yes);
	assert_int_equal(forward_read_answer(SL("\2\1\0\0"), &yes), 4);
	assert_false(yes);
	assert_int_equal(forward_read_answer(SL("\1"), &yes), ERR_PROTOCOL);
	assert_int_equal(forward_read_answer(SL("\2\2"), &yes), ERR_PROTOCOL);
}

static void
test_domain(void **state)
{
	char out[TARGET_HOST];

	(void)state;
	forward_find_domain(SL("nameserver 10.96.0.10\nsearch prod.svc.k8s.lan "
			       "svc.k8s.lan k8s.lan\noptions ndots:5\n"),
	    out);
	assert_string_equal(out, "k8s.lan");
	forward_find_domain(SL("search example.com\n"), out);
	assert_string_equal(out, "");
}

static void
without_memory(void *arg)
{
	struct forward_refusal no;
	struct forward_wish w;

	(void)arg;
	int err = read_json("{\"host\":\"a\",\"port\":1}", "", &w, &no);
	assert_true(err == 0 || err == ERR_NOMEM);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_spelling),
		cmocka_unit_test(test_sifting),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_domain),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
