/*
 * Keys and texts of logins, on real files.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#include "model/cidr.h"

#include "io/file.h"

#include "server/jwks.h"
#include "server/keyring.h"
#include "server/password.h"

#include "support/store_kit.h"
#include "support/unit.h"

static char folder[64];
static struct arena arena;

static int
setup(void **state)
{
	(void)state;
	kit_folder(folder, sizeof(folder));
	arena_init(&arena, 1 << 20);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	kit_folder_remove(folder);
	return 0;
}

static const char *
path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void
put(const char *name, struct slice text)
{
	assert_int_equal(
	    file_write_atomic(&file_real, path_of(name), text, 0600), 0);
}

static struct keyring *
open_ring(const struct settings *s)
{
	struct keyring *k = NULL;
	char why[KEYRING_WHY] = "";

	if (keyring_open(&k, folder, s, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	return k;
}

static struct slice
signed_by(struct keyring *k)
{
	struct slice text;
	struct buf out;

	buf_init(&out, JWS_TEXT);
	keyring_sign(k, SL("{\"sub\":\"x\"}"), &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(arena_copy(&arena, buf_peek(&out), &text), 0);
	buf_fini(&out);
	return text;
}

static int
judge(struct keyring *k, struct slice text, bool *own)
{
	struct jws j;

	assert_int_equal(jws_read(&j, text, &arena), 0);
	return keyring_verify(k, &j, own);
}

/* Two keys at a time: a rotation leaves what is out good, a second not. */
static void
test_rotation(void **state)
{
	const struct settings none = { .lanes = 0 };
	struct keyring *k = open_ring(&none);
	char why[KEYRING_WHY];
	struct stat st;
	bool own = false;

	(void)state;
	assert_int_equal(stat(path_of("keys.json"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	struct slice first = signed_by(k);
	assert_int_equal(judge(k, first, &own), 0);
	assert_true(own);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(keyring_rotate(folder, why, sizeof(why)), 0);
		assert_int_equal(keyring_reload(k, &none, why, sizeof(why)), 0);
		assert_int_equal(
		    judge(k, first, &own), i == 0 ? 0 : ERR_DENIED);
		assert_int_equal(judge(k, signed_by(k), &own), 0);
	}
	/* And all of it survives a restart. */
	struct slice last = signed_by(k);
	keyring_free(k);
	k = open_ring(&none);
	assert_int_equal(judge(k, last, &own), 0);
	keyring_free(k);
}

static void
test_damage(void **state)
{
	static const char *const bad[] = { "", "{", "{}", "[]",
		"{\"version\":1,\"keys\":[],\"refresh\":\"\"}",
		"{\"version\":2,\"keys\":[{}],\"refresh\":\"\"}",
		("{\"version\":1,\"keys\":[{}],\"refresh\":"
		 "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}") };
	const struct settings none = { .lanes = 0 };
	struct keyring *k = NULL;
	char why[KEYRING_WHY] = "";

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		put("keys.json", slice_from(bad[i]));
		assert_true(
		    keyring_open(&k, folder, &none, why, sizeof(why)) < 0);
		assert_non_null(strstr(why, "keys.json"));
		/* Never replaced: every login hangs on it. */
		assert_true(keyring_rotate(folder, why, sizeof(why)) < 0);
	}
}

#define PEM                                                              \
	"-----BEGIN PUBLIC KEY-----\n"                                   \
	"MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n" \
	"-----END PUBLIC KEY-----\n"
#define SET                                                     \
	"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\","      \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"" \
	"}]}"
/* RFC 8037 A.4 */
#define SIGNED                                                            \
	"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."       \
	"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5" \
	"BhVsPt9g7sVvpAr_MuM0KAg"
/* RFC 7515 A.1, with its key as a secret that is shared */
#define OCT                                                      \
	"{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwV" \
	"MkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow\"}"

static void
test_other_issuers(void **state)
{
	char file[128], why[KEYRING_WHY];
	struct settings s = { .lanes = 0 };
	bool own = true;

	(void)state;
	snprintf(file, sizeof(file), "%s/issuer", folder);
	s.jwt_keys_file = slice_from(file);
	put("issuer", SL(PEM));
	struct keyring *k = open_ring(&s);
	assert_int_equal(judge(k, SL(SIGNED), &own), 0);
	assert_false(own);
	put("issuer", SL("no key"));
	assert_true(keyring_reload(k, &s, why, sizeof(why)) < 0);
	assert_int_equal(judge(k, SL(SIGNED), &own), 0);
	put("issuer", SL(SET));
	assert_int_equal(keyring_reload(k, &s, why, sizeof(why)), 0);
	assert_int_equal(judge(k, SL(SIGNED), &own), 0);
	/* Without it, the key is wanted from elsewhere. */
	s.jwt_keys_file = (struct slice){ 0 };
	assert_int_equal(keyring_reload(k, &s, why, sizeof(why)), 0);
	assert_false(keyring_wants_fetch(k));
	assert_int_equal(judge(k, SL(SIGNED), &own), ERR_DENIED);
	assert_true(keyring_wants_fetch(k));
	assert_false(keyring_wants_fetch(k));
	assert_int_equal(keyring_fetched(k, SL(SET)), 0);
	assert_int_equal(judge(k, SL(SIGNED), &own), 0);
	assert_int_equal(keyring_fetched(k, SL(OCT)), ERR_UNSUPPORTED);
	assert_true(keyring_fetched(k, SL("<html>")) < 0);
	assert_int_equal(judge(k, SL(SIGNED), &own), 0);
	keyring_free(k);
}

static void
test_secret_file(void **state)
{
	char file[128];
	struct settings s = { .lanes = 0 };
	uint8_t mac[SHA256_LEN];
	struct slice secret = SL("a secret of another issuer, 32 b");
	struct slice text = SL("eyJhbGciOiJIUzI1NiJ9.e30");
	struct jws j = { .alg = JWS_HS256, .text = text };
	bool own;

	(void)state;
	snprintf(file, sizeof(file), "%s/secret", folder);
	s.jwt_hs256_secret_file = slice_from(file);
	put("secret", SL("a secret of another issuer, 32 b\n"));
	struct keyring *k = open_ring(&s);
	assert_int_equal(token_hmac(secret, text, mac), 0);
	j.signature = (struct slice){ mac, sizeof(mac) };
	assert_int_equal(keyring_verify(k, &j, &own), 0);
	mac[0] ^= 1;
	assert_int_equal(keyring_verify(k, &j, &own), ERR_DENIED);
	keyring_free(k);
}

static void
test_login_texts(void **state)
{
	const struct settings none = { .lanes = 0 };
	const char login[KEYRING_LOGIN + 1] = "lgn_abcdefghijklmnopqrst";
	char text[KEYRING_TEXT], again[KEYRING_TEXT], id[KEYRING_LOGIN + 1];
	struct keyring *k = open_ring(&none);

	(void)state;
	assert_int_equal(keyring_make_refresh(k, login, text), 0);
	assert_int_equal(keyring_make_refresh(k, login, again), 0);
	assert_string_not_equal(text, again);
	assert_true(keyring_read_refresh(k, slice_from(text), id));
	assert_string_equal(id, login);
	for (size_t i = 0; i < strlen(text); i++) {
		char was = text[i];
		text[i] = was == 'a' ? 'b' : 'a';
		assert_false(keyring_read_refresh(k, slice_from(text), id));
		text[i] = was;
		assert_false(keyring_read_refresh(
		    k, slice_first(slice_from(text), i), id));
	}
	keyring_make_cookie(login, text);
	assert_true(keyring_read_cookie(slice_from(text), id));
	assert_string_equal(id, login);
	assert_false(keyring_read_refresh(k, slice_from(text), id));
	assert_false(keyring_read_cookie(slice_from(again), id));
	assert_false(keyring_read_cookie(SL("mss_"), id));
	keyring_free(k);
}

static void
test_passwords(void **state)
{
	char kept[PASSWORD_KEPT], other[PASSWORD_KEPT];
	static uint8_t big[PASSWORD_MAX + 1];

	(void)state;
	memset(big, 'x', sizeof(big));
	assert_int_equal(password_keep(SL("1234567"), kept), ERR_RANGE);
	assert_int_equal(
	    password_keep((struct slice){ big, sizeof(big) }, kept), ERR_RANGE);
	assert_int_equal(password_keep(SL("correct horse"), kept), 0);
	assert_int_equal(password_keep(SL("correct horse"), other), 0);
	assert_string_not_equal(kept, other);
	assert_true(password_fits(SL("correct horse"), slice_from(kept)));
	assert_false(password_fits(SL("correct horsf"), slice_from(kept)));
	assert_false(password_fits(SL(""), slice_from(kept)));
	/* Nothing kept, or nonsense, fits nothing. */
	assert_false(password_fits(SL(""), (struct slice){ 0 }));
	assert_false(password_fits(SL("correct horse"), SL("scrypt:15:8:3:")));
	assert_false(password_fits(SL("correct horse"), SL("plain:x")));
	kept[strlen(kept) - 2] ^= 1;
	assert_false(password_fits(SL("correct horse"), slice_from(kept)));
}

static void
test_urls(void **state)
{
	(void)state;
	assert_int_equal(jwks_check_url(SL("https://id.example/jwks")), 0);
	assert_int_equal(jwks_check_url(SL("http://127.0.0.1:8080/jwks")), 0);
	assert_int_equal(jwks_check_url(SL("http://localhost/jwks")), 0);
	assert_true(jwks_check_url(SL("http://id.example/jwks")) < 0);
	assert_true(jwks_check_url(SL("file:///etc/passwd")) < 0);
	assert_true(jwks_check_url(SL("wss://id.example/")) < 0);
}

static void
test_refused_addresses(void **state)
{
	static const char *const never[] = { "0.1.2.3", "169.254.169.254",
		"::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1",
		"fd00:ec2::254", "100.100.100.200", "192.0.0.192", "224.0.0.1",
		"ff02::1", "255.255.255.255", "::", "::169.254.169.254",
		"2002:a9fe:a9fe::1", "2002:e000:1::", "febf::1",
		"64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:ffa9:fe:a9fe::",
		"64:ff9b:1::a9:fea9:fe00:0", "64:ff9b:1::169.254.169.254",
		"::ffff:0.0.0.0", "::ffff:100.100.100.200" };
	static const char *const fine[] = { "192.0.2.1", "10.0.0.1",
		"2001:db8::1", "fd00::1", "127.0.0.1", "64:ff9b::c000:201",
		"2002:c000:201::1", "64:ff9b:1::192.0.2.1", "::1",
		"::192.0.2.1" };
	static const char *const here[] = { "127.0.0.1", "127.255.0.9", "::1",
		"::ffff:127.0.0.1", "::127.0.0.1",
		"2002:7f00:1::", "64:ff9b::127.0.0.1",
		"64:ff9b:1:7f00:0:100::" };
	struct address a;

	(void)state;
	for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++) {
		assert_int_equal(address_parse(slice_from(never[i]), &a), 0);
		if (!address_is_refused(&a))
			fail_msg("%s", never[i]);
	}
	for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++) {
		assert_int_equal(address_parse(slice_from(fine[i]), &a), 0);
		if (address_is_refused(&a))
			fail_msg("%s", fine[i]);
	}
	for (size_t i = 0; i < sizeof(here) / sizeof(*here); i++) {
		assert_int_equal(address_parse(slice_from(here[i]), &a), 0);
		if (!address_is_loopback(&a))
			fail_msg("%s", here[i]);
	}
	assert_int_equal(address_parse(SL("128.0.0.1"), &a), 0);
	assert_false(address_is_loopback(&a));
	assert_int_equal(address_parse(SL("::2"), &a), 0);
	assert_false(address_is_loopback(&a));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rotation),
		TEST(test_damage),
		TEST(test_other_issuers),
		TEST(test_secret_file),
		TEST(test_login_texts),
		TEST(test_passwords),
		TEST(test_urls),
		TEST(test_refused_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
