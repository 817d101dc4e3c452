#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/rand.h"
#include "io/sys.h"

#include "support/guard.h"
#include "support/unit.h"

#define HEAD(name, level) \
	"event=" name " level=" level " ts=2001-09-09T01:46:40.000Z"

static msec now;
static int ends[2];
static char got[1 << 16];

static msec
fake_mono(void)
{
	return now;
}

static wall_msec
fake_wall(void)
{
	return 1000000000000;
}

/* A socket pair of packets: each write is one read. */
static int
open_log(void **state)
{
	(void)state;
	now = 5;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	log_init(&(struct log_config){ .fd = ends[1],
	    .level = LEVEL_INFO,
	    .per_second = 3,
	    .mono = fake_mono,
	    .wall = fake_wall });
	return 0;
}

static int
close_log(void **state)
{
	(void)state;
	close(ends[0]);
	close(ends[1]);
	return 0;
}

/* The next write, with its newline checked and taken off; "" when none. */
static struct slice
next_line(void)
{
	ssize_t n = recv(ends[0], got, sizeof(got), MSG_DONTWAIT);

	if (n < 0)
		return SL("");
	assert_true(n > 0 && got[n - 1] == '\n');
	assert_null(memchr(got, '\n', (size_t)n - 1));
	return (struct slice){ (uint8_t *)got, (size_t)n - 1 };
}

static void
test_types(void **state)
{
	(void)state;
	log_info("bare");
	assert_slice(next_line(), SL(HEAD("bare", "info")));
	log_warn("all", kv_s("s", SL("a/b:c")), kv_c("c", "x"),
	    kv_u("u", UINT64_MAX), kv_i("i", INT64_MIN), kv_e("err", ERR_FULL),
	    kv_e("ok", 0), kv_ms("took", 1500), kv_b("yes", true),
	    kv_b("no", false), kv_c("null", NULL));
	assert_slice(next_line(),
	    SL(HEAD("all", "warn") " s=a/b:c c=x u=18446744073709551615"
				   " i=-9223372036854775808 err=full ok=ok"
				   " took=1500ms yes=true no=false null=\"\""));
}

static void
test_level(void **state)
{
	enum log_level level = LEVEL_ERROR;

	(void)state;
	log_debug("hidden");
	assert_slice(next_line(), SL(""));
	assert_int_equal(log_level_parse(SL("debug"), &level), 0);
	log_set_level(level);
	log_debug("shown");
	assert_slice(next_line(), SL(HEAD("shown", "debug")));
	log_set_level(LEVEL_ERROR);
	log_warn("hidden");
	assert_slice(next_line(), SL(""));
	log_error("bad");
	assert_slice(next_line(), SL(HEAD("bad", "error")));
	assert_int_equal(log_level_parse(SL("loud"), &level), ERR_INVALID);
}

static void
check_value(struct slice value, struct slice want)
{
	char line[512];
	struct slice copy = guard_copy(value);

	int n = snprintf(
	    line, sizeof(line), HEAD("e", "info") " k=%.*s", SLICE_FMT(want));
	assert_in_range(n, 1, sizeof(line) - 1);
	log_info("e", kv_s("k", copy));
	assert_slice(
	    next_line(), ((struct slice){ (uint8_t *)line, (size_t)n }));
	guard_free(copy);
	now += 1000;
}

static void
test_quoting(void **state)
{
	(void)state;
	check_value(SL("a b"), SL("\"a b\""));
	check_value(SL("a=b"), SL("\"a=b\""));
	check_value(SL("say \"x\\y\""), SL("\"say \\\"x\\\\y\\\"\""));
	check_value(SL("a\nb\r\t"), SL("\"a\\nb\\r\\t\""));
	check_value(SL("\x1b[31m"), SL("\"\\u001b[31m\""));
	check_value(SL("\0\x7f"), SL("\"\\u0000\\u007f\""));
	check_value(SL("\xc3\xbc"), SL("\"\xc3\xbc\""));
	check_value(SL("\xf0\x9f\x99\x82"), SL("\"\xf0\x9f\x99\x82\""));
	/* C1 controls as UTF-8 and as bytes; bidi; a line separator. */
	check_value(SL("\xc2\x9b"), SL("\"\\u009b\""));
	check_value(SL("\x9b"), SL("\"\\x9b\""));
	check_value(SL("\xe2\x80\xae"), SL("\"\\u202e\""));
	check_value(SL("\xe2\x80\xa8"), SL("\"\\u2028\""));
	/* Not UTF-8: too short, over-long, a surrogate, beyond Unicode. */
	check_value(SL("\xe2\x80"), SL("\"\\xe2\\x80\""));
	check_value(SL("\xc0\xaf"), SL("\"\\xc0\\xaf\""));
	check_value(SL("\xe0\x80\xaf"), SL("\"\\xe0\\x80\\xaf\""));
	check_value(SL("\xed\xa0\x80"), SL("\"\\xed\\xa0\\x80\""));
	check_value(SL("\xf4\x90\x80\x80"), SL("\"\\xf4\\x90\\x80\\x80\""));
	check_value(SL(""), SL("\"\""));
}

static void
test_cut(void **state)
{
	static uint8_t big[LOG_LINE + 1];
	struct slice line;

	(void)state;
	log_init(&(struct log_config){ .fd = ends[1], .per_second = 0 });
	memset(big, 'x', sizeof(big));
	for (size_t n = LOG_LINE - 120; n <= sizeof(big); n++) {
		log_info("e", kv_s("k", (struct slice){ big, n }),
		    kv_u("after", 12345));
		line = next_line();
		assert_in_range(line.len, 1, LOG_LINE - 1);
		/* A number is whole or absent; a cut line says so. */
		assert_true(slice_ends(line, SL(" after=12345")) ||
		    slice_ends(line, SL("x truncated=true")) ||
		    slice_ends(line, SL("x\" truncated=true")));
	}
	/* An escape is never cut in the middle. */
	memset(big, 0x9b, sizeof(big));
	log_info("e", kv_s("k", (struct slice){ big, sizeof(big) }));
	line = next_line();
	assert_true(slice_ends(line, SL("\\x9b\" truncated=true")));
	assert_in_range(line.len, LOG_LINE - 8, LOG_LINE - 1);
}

static void
test_flood(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		log_info("flood", kv_i("i", i));
	for (int i = 0; i < 3; i++)
		assert_true(slice_starts(next_line(), SL("event=flood")));
	assert_slice(next_line(), SL(""));
	/* Another name is not held back. */
	log_info("calm");
	assert_slice(next_line(), SL(HEAD("calm", "info")));
	now += 999;
	log_info("flood");
	assert_slice(next_line(), SL(""));
	now += 1;
	log_info("calm");
	assert_slice(next_line(),
	    SL(HEAD("log_suppressed", "warn") " of=flood suppressed=8"));
	assert_slice(next_line(), SL(HEAD("calm", "info")));
	log_flush();
	assert_slice(next_line(), SL(""));
}

/* More names than the table holds share a place and a limit. */
static void
test_many_names(void **state)
{
	static char events[300][8];
	int passed = 0;

	(void)state;
	for (int i = 0; i < 300; i++) {
		snprintf(events[i], sizeof(events[i]), "e%d", i);
		log_info(events[i]);
		passed += next_line().len > 0;
	}
	assert_int_equal(passed, 256 + 3);
	log_flush();
	assert_slice(next_line(),
	    SL(HEAD("log_suppressed", "warn") " of=other suppressed=41"));
}

static void
test_lost(void **state)
{
	int fds[2];
	char page[4096] = { 0 };

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	while (write(fds[1], page, sizeof(page)) > 0)
		continue;
	log_init(&(struct log_config){ .fd = fds[1],
	    .level = LEVEL_INFO,
	    .mono = fake_mono,
	    .wall = fake_wall });
	errno = 77;
	log_info("a");
	log_info("b");
	assert_int_equal(errno, 77);
	while (read(fds[0], page, sizeof(page)) > 0)
		continue;
	log_info("c");
	ssize_t n = read(fds[0], got, sizeof(got));
	assert_slice(((struct slice){ (uint8_t *)got, (size_t)n }),
	    SL(HEAD("log_lost", "warn") " lines=2\n" HEAD("c", "info") "\n"));
	close(fds[0]);
	close(fds[1]);
}

enum { WRITERS = 4, LINES = 200 };

static void *
writer(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_info("line", kv_i("of", *(int *)arg), kv_i("i", i));
	return NULL;
}

/* Lines of several threads arrive whole and in each thread's order. */
static void
test_threads(void **state)
{
	pthread_t threads[WRITERS];
	int ids[WRITERS], next[WRITERS] = { 0 }, of, i;
	FILE *file = tmpfile();
	char *text = NULL;
	size_t room = 0;

	(void)state;
	assert_non_null(file);
	log_init(
	    &(struct log_config){ .fd = fileno(file), .level = LEVEL_INFO });
	for (i = 0; i < WRITERS; i++) {
		ids[i] = i;
		assert_int_equal(
		    pthread_create(&threads[i], NULL, writer, &ids[i]), 0);
	}
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	rewind(file);
	for (int n = 0; n < WRITERS * LINES; n++) {
		assert_true(getline(&text, &room, file) > 0);
		const char *tail = strstr(text, " of=");
		assert_non_null(tail);
		of = tail[4] - '0';
		assert_in_range(of, 0, WRITERS - 1);
		char want[32];
		snprintf(want, sizeof(want), " of=%d i=%d\n", of, next[of]++);
		assert_string_equal(tail, want);
	}
	assert_true(getline(&text, &room, file) < 0);
	free(text);
	fclose(file);
}

static void
test_clocks(void **state)
{
	msec a = clock_mono();
	int64_t ns = clock_mono_ns();

	(void)state;
	assert_true(ns / 1000000 - a < 60000 && ns / 1000000 >= a);
	assert_true(clock_mono() >= a);
	assert_true(clock_wall() > 1600000000000);
}

static void
check_digits(const char *s, size_t n)
{
	assert_int_equal(strlen(s), n);
	assert_int_equal(strspn(s, "abcdefghijklmnopqrstuvwxyz234567"), n);
}

static void
test_rand(void **state)
{
	char id[RAND_ID_SIZE], other[RAND_ID_SIZE], token[RAND_TOKEN_SIZE];
	char uuid[RAND_UUID_SIZE];
	uint32_t low[6] = { 0 }, or = 0, and = UINT32_MAX;

	(void)state;
	rand_id("cmd_", id);
	rand_id("cmd_", other);
	rand_token("clt_", token);
	assert_memory_equal(id, "cmd_", 4);
	check_digits(id + 4, 20);
	assert_string_not_equal(id, other);
	assert_memory_equal(token, "clt_", 4);
	check_digits(token + 4, 32);
	rand_uuid(uuid);
	assert_int_equal(strlen(uuid), 36);
	assert_int_equal(strspn(uuid, "0123456789abcdef-"), 36);
	assert_true(uuid[14] == '4' && strchr("89ab", uuid[19]) != NULL);
	assert_true(rand_u64() != rand_u64());
	for (int i = 0; i < 6000; i++) {
		uint32_t n = rand_u32();
		or |= n;
		and &= n;
		low[rand_below(6)]++;
	}
	assert_true(or == UINT32_MAX && and == 0);
	/* Each side of the die 1000 times, give or take 9 sigma. */
	for (int i = 0; i < 6; i++)
		assert_in_range(low[i], 740, 1260);
}

static void
test_sys(void **state)
{
	(void)state;
	assert_int_equal(sys_err(ENOSPC), ERR_NO_SPACE);
	assert_int_equal(sys_err(EDQUOT), ERR_NO_SPACE);
	assert_int_equal(sys_err(EIO), ERR_IO);
	assert_int_equal(sys_err(ENOENT), ERR_NOT_FOUND);
	assert_int_equal(sys_err(12345), ERR_IO);
}

int
main(void)
{
#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, open_log, close_log)
	const struct CMUnitTest tests[] = {
		LOG_TEST(test_types),
		LOG_TEST(test_level),
		LOG_TEST(test_quoting),
		LOG_TEST(test_cut),
		LOG_TEST(test_flood),
		LOG_TEST(test_many_names),
		LOG_TEST(test_lost),
		LOG_TEST(test_threads),
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_rand),
		cmocka_unit_test(test_sys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
