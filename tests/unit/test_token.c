#include "base/err.h"
#include "wire/token.h"

#include "support/unit.h"

static void
from_hex(const char *hex, uint8_t *out)
{
	for (size_t i = 0; hex[2 * i] != '\0'; i++) {
		unsigned hi = (unsigned)hex[2 * i],
			 lo = (unsigned)hex[2 * i + 1];
		out[i] = (uint8_t)(((hi & 15) + (hi >> 6) * 9) << 4 |
		    ((lo & 15) + (lo >> 6) * 9));
	}
}

/* FIPS 180-2 and RFC 4231, test case 2. */
static void
test_hashes(void **state)
{
	uint8_t got[32], want[32];

	(void)state;
	from_hex("ba7816bf8f01cfea414140de5dae2223"
		 "b00361a396177a9cb410ff61f20015ad",
	    want);
	assert_int_equal(token_sha256(SL("abc"), got), 0);
	assert_memory_equal(got, want, 32);
	from_hex("5bdcc146bf60754e6a042426089575c7"
		 "5a003f089d2739839dec58b964ec3843",
	    want);
	assert_int_equal(
	    token_hmac(SL("Jefe"), SL("what do ya want for nothing?"), got), 0);
	assert_memory_equal(got, want, 32);
	assert_true(token_equal(SL("abc"), SL("abc")));
	assert_false(token_equal(SL("abc"), SL("abd")));
	assert_false(token_equal(SL("abc"), SL("ab")));
}

/* RFC 8032 7.1, test 2. */
static void
test_ed25519(void **state)
{
	uint8_t seed[32], key[32], want[64], sig[64];
	struct slice in = SL("\x72");

	(void)state;
	from_hex("4ccd089b28ff96da9db6c346ec114e0f"
		 "5b8a319f35aba624da8cf6ed4fb8a6fb",
	    seed);
	from_hex("3d4017c3e843895a92b70aa74d1b7ebc"
		 "9c982ccf2ec4968cc0cd55f12af4660c",
	    want);
	assert_int_equal(token_public_key(seed, key), 0);
	assert_memory_equal(key, want, 32);
	from_hex("92a009a9f0d4cab8720e820b5f642540"
		 "a2b27b5416503f8fb3762223ebdb69da"
		 "085ac1e43e15996e458f3613d0f11d8c"
		 "387b2eaeb4302aeeb00d291612bb0c00",
	    want);
	assert_int_equal(token_sign(seed, in, sig), 0);
	assert_memory_equal(sig, want, 64);
	assert_int_equal(token_verify(key, in, sig), 0);
	sig[3] ^= 1;
	assert_int_equal(token_verify(key, in, sig), ERR_DENIED);
	sig[3] ^= 1;
	assert_int_equal(token_verify(key, SL("x"), sig), ERR_DENIED);
}

static void
test_pins(void **state)
{
	struct slice pin;
	struct slice with = SL("clt_abc.sha256-"
			       "00112233445566778899aabbccddeeff"
			       "00112233445566778899aabbccddeeff");

	(void)state;
	assert_slice(token_cut_pin(with, &pin), SL("clt_abc"));
	assert_int_equal(pin.len, 64);
	assert_slice(token_cut_pin(SL("clt_abc"), &pin), SL("clt_abc"));
	assert_null(pin.ptr);
	assert_slice(token_cut_pin(SL("a.sha256-00"), &pin), SL("a.sha256-00"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_ed25519),
		cmocka_unit_test(test_pins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
