/*
 * What the gateway hands to visitors, and takes back.
 */
#include <stdio.h>

#include "base/err.h"

#include "server/wall_token.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static const struct wall_token sample = { .kind = WALL_COOKIE,
	.route_id = SL_INIT("rte_1"),
	.user_id = SL_INIT("usr_1"),
	.login_id = SL_INIT("lgn_1"),
	.issued_at = 1760616000000,
	.expires_at = 1760616005000 };

static struct server server = { .wall_key = { 1, 2, 3 } };

static struct slice
write(const struct wall_token *t, struct buf *b)
{
	buf_init(b, 4096);
	assert_int_equal(wall_token_write(&server, t, b), 0);
	return buf_peek(b);
}

static int
read(struct slice text, enum wall_kind kind, wall_msec now,
    struct wall_token *out)
{
	struct arena a;

	arena_init(&a, 1 << 16);
	int err = wall_token_read(&server, text, kind, now, &a, out);
	if (err == 0) {
		assert_slice(out->route_id, SL("rte_1"));
		assert_slice(out->user_id, SL("usr_1"));
		assert_slice(out->login_id, SL("lgn_1"));
	}
	arena_fini(&a);
	return err;
}

static void
test_there_and_back(void **state)
{
	struct wall_token t;
	struct credential c = { .address = SL("192.0.2.1") };
	struct buf b;

	(void)state;
	struct slice text = write(&sample, &b);
	assert_true(text.len < 160);
	assert_int_equal(read(text, WALL_COOKIE, sample.expires_at - 1, &t), 0);
	assert_int_equal(t.issued_at, sample.issued_at);
	assert_int_equal(t.expires_at, sample.expires_at);
	assert_int_equal(
	    read(text, WALL_COOKIE, sample.expires_at, &t), ERR_EXPIRED);
	/* Each kind is good for one thing. */
	assert_int_equal(read(text, WALL_LINK, 0, &t), ERR_INVALID);
	assert_int_equal(read(text, WALL_HANDOVER, 0, &t), ERR_INVALID);
	wall_token_credential(&sample, &c);
	assert_int_equal(c.kind, CREDENTIAL_WALL);
	assert_slice(c.route_id, SL("rte_1"));
	assert_slice(c.claims.subject, SL("usr_1"));
	assert_slice(c.address, SL("192.0.2.1"));
	struct wall_token link = sample;
	link.kind = WALL_LINK;
	wall_token_credential(&link, &c);
	assert_int_equal(c.kind, CREDENTIAL_LINK);
	buf_fini(&b);
}

/* No byte of it may be another, none be missing, and none too many. */
static void
test_forged(void **state)
{
	struct wall_token t;
	struct buf b;

	(void)state;
	struct slice text = write(&sample, &b);
	for (size_t i = 0; i < text.len; i++) {
		struct slice copy = guard_copy(text);
		/* guard_copy's bytes are ours to write. */
		uint8_t *at = (uint8_t *)(uintptr_t)copy.ptr;
		at[i] = at[i] == 'A' ? 'Q' : 'A';
		/* The last digits of base64 have bits that say nothing. */
		if (read(copy, WALL_COOKIE, 0, &t) == 0)
			assert_true(
			    i + 1 == text.len || text.ptr[i + 1] == '.');
		guard_free(copy);
		copy = guard_copy(slice_first(text, i));
		assert_int_equal(read(copy, WALL_COOKIE, 0, &t), ERR_INVALID);
		guard_free(copy);
	}
	server.wall_key[0]++;
	assert_int_equal(read(text, WALL_COOKIE, 0, &t), ERR_INVALID);
	server.wall_key[0]--;
	buf_put_byte(&b, 'A');
	assert_int_equal(read(buf_peek(&b), WALL_COOKIE, 0, &t), ERR_INVALID);
	assert_int_equal(read(SL(""), WALL_COOKIE, 0, &t), ERR_INVALID);
	assert_int_equal(read(SL("."), WALL_COOKIE, 0, &t), ERR_INVALID);
	assert_int_equal(read(SL("a.b.c"), WALL_COOKIE, 0, &t), ERR_INVALID);
	buf_fini(&b);
}

static void
test_long(void **state)
{
	char text[300];
	struct wall_token t = sample;
	struct buf b;

	(void)state;
	memset(text, 'x', sizeof(text));
	t.route_id = (struct slice){ (const uint8_t *)text, 256 };
	buf_init(&b, 4096);
	assert_int_equal(wall_token_write(&server, &t, &b), 0);
	t.route_id.len = 257;
	assert_int_equal(wall_token_write(&server, &t, &b), ERR_TOO_BIG);
	buf_fini(&b);
}

/* Made once, and the same after every start. */
static void
test_key(void **state)
{
	const struct store_config config = { .node = 1 };
	struct store *s = NULL;
	uint8_t first[32] = { 0 }, second[32] = { 0 }, none[32] = { 0 };

	(void)state;
	assert_int_equal(store_open_memory(&s, &config), 0);
	assert_int_equal(wall_key_open(s, first, 1), 0);
	assert_memory_not_equal(first, none, 32);
	assert_int_equal(wall_key_open(s, second, 2), 0);
	assert_memory_equal(first, second, 32);
	store_close(s);
}

static void
a_life(void *arg)
{
	struct wall_token t;
	struct arena a;
	struct buf b;

	(void)arg;
	buf_init(&b, 4096);
	arena_init(&a, 1 << 16);
	if (wall_token_write(&server, &sample, &b) == 0) {
		int err = wall_token_read(
		    &server, buf_peek(&b), WALL_COOKIE, 0, &a, &t);
		assert_true(err == 0 || err == ERR_NOMEM);
	}
	arena_fini(&a);
	buf_fini(&b);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(a_life, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
