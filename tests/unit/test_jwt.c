#include "base/err.h"
#include "base/js_write.h"

#include "wire/enc.h"
#include "wire/jws.h"
#include "wire/jwt.h"
#include "wire/token.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

/* RFC 8037 A.1 to A.4. */
#define KEY                                     \
	"{\"kty\":\"OKP\",\"crv\":\"Ed25519\"," \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}"
#define SIGNED                                                            \
	"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."       \
	"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5" \
	"BhVsPt9g7sVvpAr_MuM0KAg"

static struct arena arena;

static int
setup(void **state)
{
	(void)state;
	arena_init(&arena, 4 << 20);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

/* header "." payload "." HMAC, all as they should be. */
static struct slice
hs256(const char *header, const char *payload, struct slice secret)
{
	uint8_t mac[SHA256_LEN];
	struct slice text;
	struct buf b;

	buf_init(&b, 1 << 16);
	enc_put_base64(&b, slice_from(header), ENC_URL_BARE);
	buf_put_byte(&b, '.');
	enc_put_base64(&b, slice_from(payload), ENC_URL_BARE);
	assert_int_equal(token_hmac(secret, buf_peek(&b), mac), 0);
	buf_put_byte(&b, '.');
	enc_put_base64(&b, (struct slice){ mac, sizeof(mac) }, ENC_URL_BARE);
	assert_int_equal(arena_copy(&arena, buf_peek(&b), &text), 0);
	buf_fini(&b);
	return text;
}

static int
judge(struct slice text, const struct jwk_set *keys)
{
	struct jws j;
	int err = jws_read(&j, text, &arena);

	return err != 0 ? err : jws_verify(&j, keys);
}

static void
test_rfc8037(void **state)
{
	struct jwk_set keys = { 0 };
	struct jws j;

	(void)state;
	assert_int_equal(jwk_read(&keys, SL(KEY), &arena), 0);
	assert_int_equal(keys.count, 1);
	assert_int_equal(keys.keys[0].alg, JWS_EDDSA);
	assert_int_equal(jws_read(&j, SL(SIGNED), &arena), 0);
	assert_slice(j.payload, SL("Example of Ed25519 signing"));
	assert_int_equal(jws_verify(&j, &keys), 0);
	j.text = slice_first(j.text, j.text.len - 1);
	assert_int_equal(jws_verify(&j, &keys), ERR_DENIED);
	jwk_set_fini(&keys);
	assert_int_equal(jws_verify(&j, &keys), ERR_NOT_FOUND);
}

static void
test_write(void **state)
{
	struct jwk_set keys = { 0 };
	uint8_t seed[ED25519_KEY], key[ED25519_KEY];
	struct buf out;
	struct jws j;

	(void)state;
	for (size_t i = 0; i < sizeof(seed); i++)
		seed[i] = (uint8_t)i;
	assert_int_equal(token_public_key(seed, key), 0);
	assert_int_equal(jwk_add_ed25519(&keys, SL("k-1"), key), 0);
	buf_init(&out, JWS_TEXT);
	jws_write_ed25519(&out, SL("k-1"), seed, SL("{\"sub\":\"x\"}"));
	assert_int_equal(out.err, 0);
	assert_int_equal(jws_read(&j, buf_peek(&out), &arena), 0);
	assert_slice(j.kid, SL("k-1"));
	assert_slice(j.payload, SL("{\"sub\":\"x\"}"));
	assert_int_equal(jws_verify(&j, &keys), 0);
	/* The key's id is part of the choice. */
	j.kid = SL("k-2");
	assert_int_equal(jws_verify(&j, &keys), ERR_NOT_FOUND);
	j.kid = (struct slice){ 0 };
	assert_int_equal(jws_verify(&j, &keys), 0);
	jwk_set_fini(&keys);
	buf_fini(&out);
}

static void
test_confusion(void **state)
{
	struct jwk_set keys = { 0 };
	struct slice secret = SL("0123456789abcdef0123456789abcdef");
	uint8_t raw[64];
	struct buf x;

	(void)state;
	assert_int_equal(jwk_read(&keys, SL(KEY), &arena), 0);
	/* The public key's bytes, and its text, as an HMAC secret. */
	buf_init(&x, 64);
	enc_get_base64(SL("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
	    ENC_URL_BARE, &x);
	memcpy(raw, buf_peek(&x).ptr, 32);
	buf_fini(&x);
	struct slice bytes = { raw, 32 };
	assert_int_equal(
	    judge(hs256("{\"alg\":\"HS256\"}", "{}", bytes), &keys),
	    ERR_NOT_FOUND);
	assert_int_equal(
	    judge(hs256("{\"alg\":\"EdDSA\"}", "{}", bytes), &keys),
	    ERR_DENIED);
	assert_int_equal(
	    judge(hs256("{\"alg\":\"HS256\"}", "{}", SL(KEY)), &keys),
	    ERR_NOT_FOUND);
	assert_int_equal(jwk_add_secret(&keys, (struct slice){ 0 }, secret), 0);
	assert_int_equal(
	    judge(hs256("{\"alg\":\"HS256\"}", "{}", secret), &keys), 0);
	assert_int_equal(
	    judge(hs256("{\"alg\":\"HS512\"}", "{}", secret), &keys),
	    ERR_NOT_FOUND);
	jwk_set_fini(&keys);
}

static void
test_headers(void **state)
{
	static const struct {
		const char *header;
		int err;
	} cases[] = {
		{ "{\"alg\":\"HS256\"}", 0 },
		{ "{\"alg\":\"HS256\",\"typ\":\"at+jwt\",\"x\":[1]}", 0 },
		{ "{\"alg\":\"HS256\",\"kid\":\"of nobody\"}", 0 },
		{ "{\"alg\":\"none\"}", ERR_UNSUPPORTED },
		{ "{\"alg\":\"hs256\"}", ERR_UNSUPPORTED },
		{ "{\"alg\":\"\"}", ERR_UNSUPPORTED },
		{ "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", ERR_UNSUPPORTED },
		{ "{\"alg\":\"HS256\",\"crit\":[]}", ERR_UNSUPPORTED },
		{ "{\"alg\":\"HS256\",\"b64\":false}", ERR_UNSUPPORTED },
		{ "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", ERR_DUPLICATE },
		{ "{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}", ERR_DUPLICATE },
		{ "{\"alg\":[\"HS256\"]}", ERR_INVALID },
		{ "{\"alg\":\"HS256\",\"kid\":7}", ERR_INVALID },
		{ "{\"kid\":\"x\"}", ERR_INVALID },
		{ "[\"HS256\"]", ERR_INVALID },
		{ "\"HS256\"", ERR_INVALID },
		{ "{\"alg\":\"HS256\"} x", ERR_INVALID },
	};
	struct slice secret = SL("s");
	struct jwk_set keys = { 0 };

	(void)state;
	assert_int_equal(jwk_add_secret(&keys, (struct slice){ 0 }, secret), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int err = judge(hs256(cases[i].header, "{}", secret), &keys);
		if (err != cases[i].err)
			fail_msg("%s: %s", cases[i].header, err_name(err));
	}
	jwk_set_fini(&keys);
}

static void
test_shape(void **state)
{
	static const char *const bad[] = { "", ".", "..", "...", "a.b",
		"eyJhbGciOiJIUzI1NiJ9.e30.", "eyJhbGciOiJIUzI1NiJ9.e30",
		"eyJhbGciOiJIUzI1NiJ9.e30.AA.AA", "eyJhbGciOiJIUzI1NiJ9.e30.A",
		"eyJhbGciOiJIUzI1NiJ9.e30=.AA", "eyJhbGciOiJIUzI1NiJ9 .e30.AA",
		"eyJhbGciOiJIUzI1NiJ9.e31.AA", "eyJhbGciOiJIUzI1NiJ9.e3+.AA" };
	static uint8_t big[JWS_TEXT + 1];
	struct jws j;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		int err = jws_read(&j, slice_from(bad[i]), &arena);
		if (err != ERR_INVALID)
			fail_msg("%s: %s", bad[i], err_name(err));
	}
	memset(big, 'A', sizeof(big));
	assert_int_equal(
	    jws_read(&j, (struct slice){ big, sizeof(big) }, &arena),
	    ERR_TOO_BIG);
	assert_int_equal(
	    jws_read(&j, (struct slice){ big, JWS_TEXT }, &arena), ERR_INVALID);
}

/* Every beginning of a good text, ending at a guard page. */
static void
test_cut(void **state)
{
	struct slice text = SL(SIGNED), key = SL(KEY);
	struct jwk_set keys = { 0 };
	struct jws j;

	(void)state;
	for (size_t n = 0; n < key.len; n++) {
		struct slice part = guard_copy(slice_first(key, n));
		assert_true(jwk_read(&keys, part, &arena) < 0);
		guard_free(part);
	}
	assert_int_equal(keys.count, 0);
	assert_int_equal(jwk_read(&keys, key, &arena), 0);
	for (size_t n = 0; n < text.len; n++) {
		struct slice part = guard_copy(slice_first(text, n));
		assert_true(jws_read(&j, part, &arena) < 0 ||
		    jws_verify(&j, &keys) == ERR_DENIED);
		guard_free(part);
	}
	jwk_set_fini(&keys);
}

static int
claims(const char *payload, const struct jwt_rules *r, wall_msec now)
{
	struct jwt t;
	int err = jwt_read(&t, slice_from(payload), &arena);

	return err != 0 ? err : jwt_check(&t, r, now);
}

static void
test_claims(void **state)
{
	static const struct {
		const char *payload;
		int err;
	} cases[] = {
		{ "{\"sub\":\"u\",\"exp\":1000}", 0 },
		{ "{\"userId\":\"u\",\"exp\":1000.5}", 0 },
		{ "{\"sub\":\"u\",\"exp\":1e3,\"nbf\":1,\"iat\":1}", 0 },
		{ "{\"sub\":\"u\"}", ERR_MISSING },
		{ "{\"sub\":\"u\",\"exp\":null}", ERR_MISSING },
		{ "{\"exp\":1000}", ERR_MISSING },
		{ "{\"sub\":\"\",\"exp\":1000}", ERR_MISSING },
		{ "{\"sub\":\"u\",\"exp\":\"1000\"}", ERR_INVALID },
		{ "{\"sub\":7,\"exp\":1000}", ERR_INVALID },
		{ "{\"sub\":\"u\",\"exp\":1000,\"role\":[]}", ERR_INVALID },
		{ "{\"sub\":\"u\",\"exp\":1000,\"exp\":9}", ERR_DUPLICATE },
		{ "[]", ERR_INVALID },
		{ "x", ERR_INVALID },
		/* Now is second 900; the leeway a minute. */
		{ "{\"sub\":\"u\",\"exp\":841}", 0 },
		{ "{\"sub\":\"u\",\"exp\":840}", ERR_EXPIRED },
		{ "{\"sub\":\"u\",\"exp\":-5}", ERR_EXPIRED },
		{ "{\"sub\":\"u\",\"exp\":1e300,\"nbf\":960}", 0 },
		{ "{\"sub\":\"u\",\"exp\":1000,\"nbf\":961}", ERR_AGAIN },
		{ "{\"sub\":\"u\",\"exp\":1000,\"iat\":961}", ERR_AGAIN },
	};
	const struct jwt_rules none = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int err = claims(cases[i].payload, &none, 900 * 1000);
		if (err != cases[i].err)
			fail_msg("%s: %s", cases[i].payload, err_name(err));
	}
}

static void
test_rules(void **state)
{
	const struct jwt_rules r = { .issuer = SL("me"),
		.audience = SL("you") };
	static const struct {
		const char *payload;
		int err;
	} cases[] = {
		{ "{\"sub\":\"u\",\"exp\":9,\"iss\":\"me\",\"aud\":\"you\"}",
		    0 },
		{ "{\"sub\":\"u\",\"exp\":9,\"iss\":\"me\","
		  "\"aud\":[\"x\",\"you\"]}",
		    0 },
		{ "{\"sub\":\"u\",\"exp\":9,\"iss\":\"me\",\"aud\":[\"x\"]}",
		    ERR_DENIED },
		{ "{\"sub\":\"u\",\"exp\":9,\"iss\":\"me\"}", ERR_DENIED },
		{ "{\"sub\":\"u\",\"exp\":9,\"aud\":\"you\"}", ERR_DENIED },
		{ "{\"sub\":\"u\",\"exp\":9,\"iss\":\"Me\",\"aud\":\"you\"}",
		    ERR_DENIED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int err = claims(cases[i].payload, &r, 0);
		if (err != cases[i].err)
			fail_msg("%s: %s", cases[i].payload, err_name(err));
	}
}

static void
test_names(void **state)
{
	struct jwt t;

	(void)state;
	assert_int_equal(jwt_read(&t,
			     SL("{\"userId\":\"7\",\"username\":\"ada\","
				"\"email\":\"a@b\",\"role\":\"operator\","
				"\"scope\":\"a b\",\"exp\":5}"),
			     &arena),
	    0);
	assert_slice(t.subject, SL("7"));
	assert_slice(t.name, SL("ada"));
	assert_slice(t.role, SL("operator"));
	assert_slice(t.scope, SL("a b"));
	assert_int_equal(t.expires, 5000);
}

static void
test_sets(void **state)
{
	struct jwk_set keys = { 0 };

	(void)state;
	/* What is unknown or for other uses is passed over. */
	assert_int_equal(
	    jwk_read(&keys,
		SL("{\"keys\":[{\"kty\":\"new\"},"
		   "{\"kty\":\"oct\",\"use\":\"enc\",\"k\":\"AA\"}," KEY "]}"),
		&arena),
	    0);
	assert_int_equal(keys.count, 1);
	assert_int_equal(keys.skipped, 2);
	/* On failure the set is as before. */
	assert_int_equal(
	    jwk_read(&keys, SL("{\"keys\":[]}"), &arena), ERR_MISSING);
	assert_int_equal(
	    jwk_read(&keys, SL("{\"keys\":7}"), &arena), ERR_INVALID);
	assert_int_equal(jwk_read(&keys, SL("[]"), &arena), ERR_INVALID);
	assert_int_equal(
	    jwk_read(&keys, SL("{\"kty\":\"OKP\",\"kty\":\"OKP\"}"), &arena),
	    ERR_DUPLICATE);
	assert_int_equal(keys.count, 1);
	while (keys.count < JWK_KEYS)
		assert_int_equal(
		    jwk_add_secret(&keys, (struct slice){ 0 }, SL("s")), 0);
	assert_int_equal(jwk_read(&keys, SL(KEY), &arena), ERR_FULL);
	assert_int_equal(keys.count, JWK_KEYS);
	jwk_set_fini(&keys);
}

static void
test_pem(void **state)
{
	const struct slice good = SL("# of the issuer\n"
				     "-----BEGIN PUBLIC KEY-----\r\n"
				     "MCowBQYDK2VwAyEAfU0Of2FTpptiQrUiq77mhf2k"
				     "\r\nQg+INLEIw72uNp71Sfo=\r\n"
				     "-----END PUBLIC KEY-----\r\n");
	struct jwk_set keys = { 0 };

	(void)state;
	assert_int_equal(jwk_read_pem(&keys, good), 0);
	assert_int_equal(keys.count, 1);
	assert_int_equal(keys.keys[0].alg, JWS_EDDSA);
	for (size_t n = 0; n < good.len - 2; n++) {
		struct slice part = guard_copy(slice_first(good, n));
		assert_true(jwk_read_pem(&keys, part) < 0);
		guard_free(part);
	}
	assert_int_equal(keys.count, 1);
	jwk_set_fini(&keys);
}

static void
without_memory(void *arg)
{
	struct jwk_set keys = { 0 };
	uint8_t seed[ED25519_KEY] = { 1 };
	struct arena a;
	struct jws j;
	struct jwt t;
	struct buf out;

	(void)arg;
	arena_init(&a, 1 << 20);
	int err = jwk_read(&keys, SL(KEY), &a);
	if (err == 0)
		err = jws_read(&j, SL(SIGNED), &a);
	/* Without memory a signature may go unrecognized, never the
	 * reverse. */
	if (err == 0)
		(void)jws_verify(&j, &keys);
	if (err == 0)
		j.text.len--;
	if (err == 0)
		assert_true(jws_verify(&j, &keys) != 0);
	(void)jwt_read(&t, SL("{\"sub\":\"\\u0061\",\"exp\":1}"), &a);
	buf_init(&out, JWS_TEXT);
	jws_write_ed25519(&out, SL("k"), seed, SL("{}"));
	assert_true(out.err != 0 || jws_read(&j, buf_peek(&out), &a) <= 0);
	buf_fini(&out);
	jwk_set_fini(&keys);
	arena_fini(&a);
}

static void
test_oom(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rfc8037, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_confusion, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shape, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_claims, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pem, setup, teardown),
		cmocka_unit_test(test_oom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
