#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "wire/enc.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static struct buf out;

static void
check_base64(struct slice plain, struct slice text, enum enc_base64 form)
{
	buf_clear(&out);
	enc_put_base64(&out, plain, form);
	assert_slice(buf_peek(&out), text);
	struct slice guarded = guard_copy(text);
	buf_clear(&out);
	assert_int_equal(enc_get_base64(guarded, form, &out), 0);
	assert_slice(buf_peek(&out), plain);
	guard_free(guarded);
}

/* RFC 4648 section 10. */
static void
test_rfc4648(void **state)
{
	static const char *const rows[][4] = {
		{ "", "", "", "" },
		{ "f", "Zg==", "my", "66" },
		{ "fo", "Zm8=", "mzxq", "666f" },
		{ "foo", "Zm9v", "mzxw6", "666f6f" },
		{ "foob", "Zm9vYg==", "mzxw6yq", "666f6f62" },
		{ "fooba", "Zm9vYmE=", "mzxw6ytb", "666f6f6261" },
		{ "foobar", "Zm9vYmFy", "mzxw6ytboi", "666f6f626172" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct slice plain = slice_from(rows[i][0]);
		struct slice padded = slice_from(rows[i][1]);
		check_base64(plain, padded, ENC_STD);
		check_base64(plain, padded, ENC_URL);
		struct slice bare =
		    slice_first(padded, slice_find(padded, '='));
		check_base64(plain, bare, ENC_BARE);
		buf_clear(&out);
		enc_put_base32(&out, plain);
		assert_slice(buf_peek(&out), slice_from(rows[i][2]));
		buf_clear(&out);
		assert_int_equal(
		    enc_get_base32(slice_from(rows[i][2]), &out), 0);
		assert_slice(buf_peek(&out), plain);
		buf_clear(&out);
		enc_put_hex(&out, plain);
		assert_slice(buf_peek(&out), slice_from(rows[i][3]));
	}
	check_base64(SL("\xfb\xff\xfe"), SL("+//+"), ENC_STD);
	check_base64(SL("\xfb\xff\xfe"), SL("-__-"), ENC_URL);
}

static void
test_base64_refuses(void **state)
{
	static const struct {
		const char *text;
		enum enc_base64 form;
	} bad[] = {
		{ "Zg", ENC_STD },
		{ "Zg=", ENC_STD },
		{ "Zg==", ENC_BARE },
		{ "Zh==", ENC_STD },
		{ "Zm9=", ENC_STD },
		{ "Zm9", ENC_BARE },
		{ "Z", ENC_BARE },
		{ "Z===", ENC_STD },
		{ "====", ENC_STD },
		{ "Zm9v\n", ENC_BARE },
		{ "Zm 9v", ENC_BARE },
		{ "+//+", ENC_URL },
		{ "-__-", ENC_STD },
		{ "Zg==Zg==", ENC_STD },
		{ "Zm=v", ENC_STD },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		buf_clear(&out);
		assert_int_equal(
		    enc_get_base64(slice_from(bad[i].text), bad[i].form, &out),
		    ERR_INVALID);
		assert_int_equal(buf_peek(&out).len, 0);
		assert_int_equal(out.err, 0);
	}
	assert_int_equal(enc_get_base32(SL("MY"), &out), ERR_INVALID);
	assert_int_equal(enc_get_base32(SL("mz"), &out), ERR_INVALID);
	assert_int_equal(enc_get_base32(SL("m"), &out), ERR_INVALID);
	assert_int_equal(enc_get_base32(SL("mzx"), &out), ERR_INVALID);
	assert_int_equal(enc_get_hex(SL("666"), &out), ERR_INVALID);
	assert_int_equal(enc_get_hex(SL("6g"), &out), ERR_INVALID);
	assert_int_equal(enc_get_hex(SL("fF"), &out), 0);
	assert_slice(buf_peek(&out), SL("\xff"));
}

static void
test_percent(void **state)
{
	(void)state;
	buf_clear(&out);
	enc_put_percent(&out, SL("a b/\xc3\xa9~"));
	assert_slice(buf_peek(&out), SL("a%20b%2F%C3%A9~"));
	buf_clear(&out);
	assert_int_equal(enc_get_percent(SL("a+b%2f%00"), true, &out), 0);
	assert_slice(buf_peek(&out), SL("a b/\0"));
	buf_clear(&out);
	assert_int_equal(enc_get_percent(SL("a+b"), false, &out), 0);
	assert_slice(buf_peek(&out), SL("a+b"));
	static const char *const bad[] = { "%", "%4", "a%", "%g0", "%0g" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct slice s = guard_copy(slice_from(bad[i]));
		buf_clear(&out);
		assert_int_equal(enc_get_percent(s, false, &out), ERR_INVALID);
		assert_int_equal(buf_peek(&out).len, 0);
		guard_free(s);
	}
}

static uint8_t big[200000];

static void
check_pack(struct slice in, enum enc_pack form)
{
	struct enc_unpack_limits limits = { sizeof(big), 2000 };
	struct buf packed;

	buf_init(&packed, 2 * sizeof(big));
	assert_int_equal(enc_pack(in, form, 6, &packed), 0);
	buf_clear(&out);
	struct slice s = guard_copy(buf_peek(&packed));
	assert_int_equal(enc_unpack(s, form, &limits, &out), 0);
	assert_slice(buf_peek(&out), in);
	/* Every cut is refused and leaves nothing behind. */
	for (size_t cut = 0; cut < s.len; cut += s.len / 40 + 1) {
		buf_clear(&out);
		buf_put(&out, SL("kept"));
		assert_int_equal(
		    enc_unpack(slice_first(s, cut), form, &limits, &out),
		    ERR_INVALID);
		assert_slice(buf_peek(&out), SL("kept"));
	}
	guard_free(s);
	buf_put_byte(&packed, 0);
	buf_clear(&out);
	assert_int_equal(
	    enc_unpack(buf_peek(&packed), form, &limits, &out), ERR_INVALID);
	buf_fini(&packed);
}

static void
test_pack(void **state)
{
	uint32_t seed = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(big); i++) {
		seed = seed * 1664525 + 1013904223;
		big[i] = (uint8_t)(seed >> 24);
	}
	for (int form = ENC_GZIP; form <= ENC_ZLIB; form++) {
		check_pack(SL(""), (enum enc_pack)form);
		check_pack(SL("hello hello hello"), (enum enc_pack)form);
		check_pack(
		    (struct slice){ big, sizeof(big) }, (enum enc_pack)form);
	}
}

static void
test_unpack_limits(void **state)
{
	struct enc_unpack_limits limits = { 20000, 0 };
	struct buf packed;

	(void)state;
	memset(big, 'a', sizeof(big));
	buf_init(&packed, sizeof(big));
	assert_int_equal(
	    enc_pack((struct slice){ big, 20000 }, ENC_GZIP, 9, &packed), 0);
	struct slice s = buf_peek(&packed);
	buf_clear(&out);
	assert_int_equal(enc_unpack(s, ENC_GZIP, &limits, &out), 0);
	assert_int_equal(buf_peek(&out).len, 20000);
	limits.max--;
	buf_clear(&out);
	assert_int_equal(enc_unpack(s, ENC_GZIP, &limits, &out), ERR_TOO_BIG);
	assert_int_equal(buf_peek(&out).len, 0);
	limits = (struct enc_unpack_limits){ 1 << 20, 10 };
	assert_int_equal(enc_unpack(s, ENC_GZIP, &limits, &out), ERR_TOO_BIG);
	struct buf small;
	limits.ratio = 0;
	buf_init(&small, 19999);
	assert_int_equal(enc_unpack(s, ENC_GZIP, &limits, &small), ERR_FULL);
	assert_int_equal(buf_peek(&small).len, 0);
	buf_fini(&small);

	/* Two members are one text in gzip. */
	assert_int_equal(enc_pack(SL("tail"), ENC_GZIP, 6, &packed), 0);
	buf_clear(&out);
	assert_int_equal(
	    enc_unpack(buf_peek(&packed), ENC_GZIP, &limits, &out), 0);
	assert_int_equal(buf_peek(&out).len, 20004);
	assert_true(slice_ends(buf_peek(&out), SL("aatail")));
	buf_fini(&packed);
}

static void
pack_and_unpack(void *arg)
{
	struct enc_unpack_limits limits = { 1000, 0 };
	struct buf packed, plain;

	(void)arg;
	buf_init(&packed, 1000);
	buf_init(&plain, 1000);
	if (enc_pack(SL("hello"), ENC_ZLIB, 1, &packed) == 0 &&
	    enc_unpack(buf_peek(&packed), ENC_ZLIB, &limits, &plain) == 0)
		assert_slice(buf_peek(&plain), SL("hello"));
	enc_put_base64(&plain, SL("xyz"), ENC_STD);
	buf_fini(&packed);
	buf_fini(&plain);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(pack_and_unpack, NULL);
}

/* Caps are met to the byte. */
static void
test_caps(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 8);
	enc_put_base64(&b, SL("foob"), ENC_STD);
	assert_int_equal(b.err, 0);
	buf_clear(&b);
	enc_put_base64(&b, SL("foobarx"), ENC_STD);
	assert_int_equal(b.err, ERR_FULL);
	buf_clear(&b);
	assert_int_equal(
	    enc_get_base64(SL("Zm9vYmFyZm9v"), ENC_STD, &b), ERR_FULL);
	buf_fini(&b);
	/* Lengths whose products would wrap to something that fits. */
	buf_init(&b, 100);
	enc_put_base64(&b, (struct slice){ big, (size_t)3 << 62 }, ENC_STD);
	assert_int_equal(b.err, ERR_FULL);
	buf_clear(&b);
	enc_put_hex(&b, (struct slice){ big, SIZE_MAX / 2 + 2 });
	assert_int_equal(b.err, ERR_FULL);
	buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc4648),
		cmocka_unit_test(test_base64_refuses),
		cmocka_unit_test(test_percent),
		cmocka_unit_test(test_pack),
		cmocka_unit_test(test_unpack_limits),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_caps),
	};

	buf_init(&out, 1 << 20);
	int failed = cmocka_run_group_tests_name("enc", tests, NULL, NULL);
	buf_fini(&out);
	return failed;
}
