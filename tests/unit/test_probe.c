/* What the host is and how it does: parsers on texts, and the real thing. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/probe.h"
#include "base/err.h"

#include "support/guard.h"
#include "support/unit.h"

static const char meminfo[] = "MemTotal:        8000 kB\n"
			      "MemFree:         1000 kB\n"
			      "MemAvailable:    6000 kB\n"
			      "Buffers:          100 kB\n"
			      "Cached:          3000 kB\n"
			      "SwapCached:         0 kB\n";

static const char netdev[] =
    "Inter-|   Receive                            |  Transmit\n"
    " face |bytes packets errs drop fifo frame compressed multicast|bytes\n"
    "    lo: 900 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0\n"
    "  eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n"
    "enp3s0:1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n"
    "veth12: 5000 1 0 0 0 0 0 0 5000 1 0 0 0 0 0 0\n"
    "eth0.5: 70 1 0 0 0 0 0 0 70 1 0 0 0 0 0 0\n";

static void
test_stat(void **state)
{
	uint64_t busy = 7, total = 7;

	(void)state;
	assert_int_equal(
	    probe_parse_stat(
		SL("cpu  100 10 50 800 40 1 2 3 99 99\ncpu0 1 2 3 4\n"), &busy,
		&total),
	    0);
	assert_int_equal(busy, 166);
	assert_int_equal(total, 1006);
	/* Kernels of old have four columns. */
	assert_int_equal(
	    probe_parse_stat(SL("cpu 1 2 3 4\n"), &busy, &total), 0);
	assert_int_equal(busy, 6);
	assert_int_equal(total, 10);
	assert_int_equal(
	    probe_parse_stat(SL("cpu 1 2 3\n"), &busy, &total), ERR_INVALID);
	assert_int_equal(
	    probe_parse_stat(SL("intr 1 2 3 4\n"), &busy, &total), ERR_INVALID);
	assert_int_equal(probe_parse_stat(SL(""), &busy, &total), ERR_INVALID);
	assert_int_equal(total, 10);
}

static void
test_meminfo(void **state)
{
	uint64_t total, used;

	(void)state;
	assert_int_equal(
	    probe_parse_meminfo(slice_from(meminfo), &total, &used), 0);
	assert_int_equal(total, 8000 * 1024);
	assert_int_equal(used, 2000 * 1024);
	assert_int_equal(
	    probe_parse_meminfo(
		SL("MemTotal: 10 kB\nMemFree: 1 kB\nCached: 2 kB\n"), &total,
		&used),
	    0);
	assert_int_equal(used, 7 * 1024);
	assert_int_equal(
	    probe_parse_meminfo(SL("MemFree: 1 kB\n"), &total, &used),
	    ERR_INVALID);
}

static void
test_netdev(void **state)
{
	uint64_t in, out;

	(void)state;
	assert_int_equal(probe_parse_netdev(slice_from(netdev), &in, &out), 0);
	assert_int_equal(in, 1100);
	assert_int_equal(out, 2200);
	assert_int_equal(
	    probe_parse_netdev(SL("a\nb\neth0: 1 2 3\n"), &in, &out),
	    ERR_INVALID);
}

static void
test_loadavg(void **state)
{
	double load[3] = { 9, 9, 9 };

	(void)state;
	assert_int_equal(
	    probe_parse_loadavg(SL("0.25 1.50 12.08 3/99 4\n"), load), 0);
	assert_true(load[0] > 0.249 && load[0] < 0.251);
	assert_true(load[2] > 12.079 && load[2] < 12.081);
	assert_int_equal(
	    probe_parse_loadavg(SL("0.25 -1 2"), load), ERR_INVALID);
	assert_int_equal(probe_parse_loadavg(SL("0.25 1"), load), ERR_INVALID);
}

static void
test_limits(void **state)
{
	double cores;
	uint64_t n;

	(void)state;
	assert_int_equal(probe_parse_cpu_max(SL("150000 100000\n"), &cores), 0);
	assert_true(cores > 1.49 && cores < 1.51);
	assert_int_equal(
	    probe_parse_cpu_max(SL("max 100000\n"), &cores), ERR_NOT_FOUND);
	assert_int_equal(probe_parse_cpu_max(SL("1 0\n"), &cores), ERR_INVALID);
	assert_int_equal(probe_parse_bytes(SL("1024\n"), &n), 0);
	assert_int_equal(n, 1024);
	assert_int_equal(probe_parse_bytes(SL("max\n"), &n), ERR_NOT_FOUND);
	assert_int_equal(probe_parse_bytes(SL(""), &n), ERR_INVALID);
}

static void
test_release_and_cloud(void **state)
{
	char out[16];

	(void)state;
	struct slice text = SL("NAME=\"Some OS\"\nID=some\n"
			       "PRETTY_NAME='Some OS 12, the long one'\n");
	probe_parse_release(text, "NAME", out, sizeof(out));
	assert_string_equal(out, "Some OS");
	probe_parse_release(text, "ID", out, sizeof(out));
	assert_string_equal(out, "some");
	probe_parse_release(text, "PRETTY_NAME", out, sizeof(out));
	assert_string_equal(out, "Some OS 12, the");
	probe_parse_release(text, "NONE", out, sizeof(out));
	assert_string_equal(out, "");
	assert_string_equal(
	    probe_cloud(SL("Amazon EC2"), SL("m5"), SL("")), "aws");
	assert_string_equal(
	    probe_cloud(SL("Microsoft Corporation"), SL("Virtual Machine"),
		SL("7783-7084-3265-9085-8269-3286-77")),
	    "azure");
	assert_string_equal(
	    probe_cloud(SL("Microsoft Corporation"), SL("Surface"), SL("")),
	    "");
	assert_string_equal(
	    probe_cloud(SL("QEMU"), SL("Google Compute Engine"), SL("")),
	    "gcp");
}

/* Cut anywhere, at the edge of a page: an answer or an error, no more. */
static void
test_cut_anywhere(void **state)
{
	const char *texts[] = { meminfo, netdev,
		"cpu  100 10 50 800 40 1 2 3 99 99\n",
		"0.25 1.50 12.08 3/9\n" };
	uint64_t a, b;
	double load[3];
	char out[8];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		for (size_t n = 0; n <= strlen(texts[i]); n++) {
			struct slice s =
			    guard_copy(slice_first(slice_from(texts[i]), n));
			(void)probe_parse_stat(s, &a, &b);
			(void)probe_parse_meminfo(s, &a, &b);
			(void)probe_parse_netdev(s, &a, &b);
			(void)probe_parse_loadavg(s, load);
			(void)probe_parse_cpu_max(s, load);
			(void)probe_parse_bytes(s, &a);
			probe_parse_release(s, "cpu", out, sizeof(out));
			guard_free(s);
		}
}

static void
test_between(void **state)
{
	struct probe_sample a = { .at = 1000,
		.cpu_busy = 100,
		.cpu_total = 200,
		.net_in = 1000,
		.net_out = 5000 };
	struct probe_sample b = { .at = 3000,
		.cpu_busy = 125,
		.cpu_total = 300,
		.memory_total = 200,
		.memory_used = 50,
		.disk_total = 10,
		.disk_used = 1,
		.net_in = 5000,
		.net_out = 10,
		.load = { 1, 2, 3 } };

	(void)state;
	struct probe_metrics m = probe_between(&a, &b);
	assert_true(m.cpu_percent > 24.9 && m.cpu_percent < 25.1);
	assert_true(m.memory_percent > 24.9 && m.memory_percent < 25.1);
	assert_true(m.disk_percent > 9.9 && m.disk_percent < 10.1);
	assert_true(m.net_in > 1999 && m.net_in < 2001);
	assert_true(m.net_out < 0.1); /* the counter was reset */
	assert_true(m.load[2] > 2.9);
	m = probe_between(&b, &b);
	assert_true(m.cpu_percent < 0.1 && m.net_in < 0.1);
}

static void
test_this_host(void **state)
{
	struct probe_facts f;
	struct probe_sample s;
	char name[PROBE_TEXT];

	(void)state;
	probe_facts(&f, "/");
	assert_int_equal(gethostname(name, sizeof(name)), 0);
	assert_string_equal(f.hostname, name);
	assert_true(f.os[0] != '\0' && f.kernel[0] != '\0');
	assert_true(f.cpu_cores > 0 && f.memory_bytes > 0 && f.disk_bytes > 0);
	assert_int_equal(strlen(f.boot_id), 36);
	assert_int_equal(probe_sample(&s, 1, "/"), 0);
	assert_true(s.cpu_total >= s.cpu_busy && s.cpu_busy > 0);
	assert_true(s.memory_used > 0 && s.memory_used < s.memory_total);
	assert_true(s.disk_used <= s.disk_total);
}

/* A sample every 5 s may cost 0.2 % of a core: 10 ms.  It costs far less. */
static void
test_cost(void **state)
{
	enum { ROUNDS = 200 };
	struct probe_sample s;
	struct timespec a, b;

	(void)state;
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (int i = 0; i < ROUNDS; i++)
		assert_int_equal(probe_sample(&s, i, "/"), 0);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	double us = ((double)(b.tv_sec - a.tv_sec) * 1e6 +
			(double)(b.tv_nsec - a.tv_nsec) / 1e3) /
	    ROUNDS;
	printf("probe_sample: %.0f us of CPU\n", us);
	assert_true(us < 5000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_meminfo),
		cmocka_unit_test(test_netdev),
		cmocka_unit_test(test_loadavg),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_release_and_cloud),
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_between),
		cmocka_unit_test(test_this_host),
		cmocka_unit_test(test_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
