/*
 * Project Wycheproof, read from beside the repository: signatures and keys
 * as JOSE knows them, and the primitives below them as signed texts.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/js.h"

#include "wire/enc.h"
#include "wire/jws.h"
#include "wire/token.h"

#include "support/unit.h"

#define ARCHIVE "../shared/vectors/wycheproof.tar.gz"

static char folder[] = "/tmp/jws-vectors-XXXXXX";
static struct arena arena;
static struct js_doc doc;

static bool
run(const char *const argv[])
{
	pid_t pid;
	int status;

	/* posix_spawnp writes to none of them; its type is older than const. */
	char *const *args = (char *const *)(uintptr_t)argv;
	return posix_spawnp(&pid, args[0], NULL, NULL, args, environ) == 0 &&
	    waitpid(pid, &status, 0) == pid && status == 0;
}

static struct js_value
load(const char *name)
{
	const struct js_limits limits = { 1 << 20, 32 };
	char path[300];
	uint8_t *mem = arena_alloc(&arena, 1 << 20);

	snprintf(path, sizeof(path), "%s/jwt/wycheproof/%s", folder, name);
	FILE *f = fopen(path, "rb");
	assert_non_null(f);
	assert_non_null(mem);
	size_t n = fread(mem, 1, 1 << 20, f);
	fclose(f);
	assert_int_equal(
	    js_parse(&doc, (struct slice){ mem, n }, &limits, &arena), 0);
	return js_get(js_root(&doc), "testGroups");
}

static struct slice
text_of(struct js_value v, const char *name)
{
	struct slice s = { 0 };

	js_string(js_get(v, name), &s);
	return s;
}

/*
 * Where the suite's verdict is not ours.  Refused on purpose: a key made for
 * one algorithm used with another (346, 350), a key that names an algorithm
 * which does not exist (347, 351), characters outside the alphabet (372,
 * 373).  Accepted: 367 and 370 are byte for byte the valid text of 357.
 */
static bool
other_verdict(uint64_t id)
{
	static const uint64_t ids[] = { 346, 350, 347, 351, 372, 373, 367,
		370 };

	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
		if (ids[i] == id)
			return true;
	}
	return false;
}

static bool
accepts(struct slice keys, struct slice text)
{
	struct jwk_set set = { 0 };
	struct arena a;
	struct jws j;

	arena_init(&a, 1 << 20);
	bool good = jwk_read(&set, keys, &a) == 0 &&
	    jws_read(&j, text, &a) == 0 && jws_verify(&j, &set) == 0;
	jwk_set_fini(&set);
	arena_fini(&a);
	return good;
}

static int
check_jose(const char *file, bool exceptions)
{
	struct js_value group, test;
	int count = 0;

	for (struct js_walk g = js_walk(load(file));
	     js_next(&g, NULL, &group);) {
		struct js_value keys = js_get(group, "public");
		if (keys.kind == JS_NONE)
			keys = js_get(group, "private");
		struct js_walk t = js_walk(js_get(group, "tests"));
		while (js_next(&t, NULL, &test)) {
			struct slice text = text_of(test, "jws");
			uint64_t id = 0;
			/* Encryption is not offered. */
			if (js_get(test, "jwe").kind != JS_NONE)
				continue;
			js_u64(js_get(test, "tcId"), &id);
			bool valid =
			    slice_eq(text_of(test, "result"), SL("valid"));
			if (exceptions && other_verdict(id))
				valid = !valid;
			if (accepts(js_raw(keys), text) != valid)
				fail_msg("%s %d: %.*s", file, (int)id,
				    SLICE_FMT(text_of(test, "comment")));
			count++;
		}
	}
	return count;
}

static void
test_signatures(void **state)
{
	(void)state;
	assert_int_equal(check_jose("json_web_signature_test.json", true), 401);
}

static void
test_keys(void **state)
{
	(void)state;
	assert_int_equal(check_jose("json_web_key_test.json", false), 26);
}

static void
test_mixed(void **state)
{
	(void)state;
	assert_int_equal(check_jose("json_web_crypto_test.json", false), 49);
}

/* Primitives: the signed text is the message itself. */
static struct slice
bytes_of(struct js_value v, const char *name)
{
	struct slice out = { 0 };
	struct buf raw;

	buf_init(&raw, 1 << 16);
	assert_int_equal(enc_get_hex(text_of(v, name), &raw), 0);
	assert_int_equal(arena_copy(&arena, buf_peek(&raw), &out), 0);
	buf_fini(&raw);
	return out;
}

static int
check_raw(const char *file, enum jws_alg alg, const char *member)
{
	struct js_value group, test;
	int count = 0;

	for (struct js_walk g = js_walk(load(file));
	     js_next(&g, NULL, &group);) {
		struct jwk_set set = { 0 };
		struct slice pem = text_of(group, "publicKeyPem");
		assert_int_equal(jwk_read_pem(&set, pem), 0);
		assert_int_equal(set.keys[0].alg, alg);
		if (member != NULL)
			assert_int_equal(
			    jwk_read(
				&set, js_raw(js_get(group, member)), &arena),
			    0);
		struct js_walk t = js_walk(js_get(group, "tests"));
		while (js_next(&t, NULL, &test)) {
			struct jws j = { .alg = alg,
				.text = bytes_of(test, "msg"),
				.signature = bytes_of(test, "sig") };
			bool valid =
			    !slice_eq(text_of(test, "result"), SL("invalid"));
			uint64_t id = 0;
			js_u64(js_get(test, "tcId"), &id);
			/* An old encoding that only some libraries take. */
			if (slice_eq(text_of(test, "result"), SL("acceptable")))
				valid = false;
			for (size_t i = 0; i < set.count; i++) {
				struct jwk_set one = { .count = 1 };
				one.keys[0] = set.keys[i];
				if ((jws_verify(&j, &one) == 0) != valid)
					fail_msg("%s %d", file, (int)id);
			}
			count++;
		}
		jwk_set_fini(&set);
	}
	return count;
}

static void
test_primitives(void **state)
{
	(void)state;
	assert_true(
	    check_raw("ed25519_test.json", JWS_EDDSA, "publicKeyJwk") > 100);
	assert_true(check_raw("ecdsa_secp256r1_sha256_p1363_test.json",
			JWS_ES256, NULL) > 200);
	assert_true(check_raw("rsa_signature_2048_sha256_test.json", JWS_RS256,
			NULL) > 200);
}

static void
test_hmac(void **state)
{
	struct js_value group, test;
	int count = 0;

	(void)state;
	struct js_walk g = js_walk(load("hmac_sha256_test.json"));
	while (js_next(&g, NULL, &group)) {
		uint64_t size = 0;
		js_u64(js_get(group, "tagSize"), &size);
		struct js_walk t = js_walk(js_get(group, "tests"));
		while (size == 256 && js_next(&t, NULL, &test)) {
			struct jwk_set set = { 0 };
			struct jws j = { .alg = JWS_HS256,
				.text = bytes_of(test, "msg"),
				.signature = bytes_of(test, "tag") };
			assert_int_equal(
			    jwk_add_secret(&set, (struct slice){ 0 },
				bytes_of(test, "key")),
			    0);
			assert_int_equal(jws_verify(&j, &set) == 0,
			    slice_eq(text_of(test, "result"), SL("valid")));
			jwk_set_fini(&set);
			count++;
		}
	}
	assert_true(count > 80);
}

static int
setup(void **state)
{
	(void)state;
	arena_reset(&arena);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_signatures, setup),
		cmocka_unit_test_setup(test_keys, setup),
		cmocka_unit_test_setup(test_mixed, setup),
		cmocka_unit_test_setup(test_primitives, setup),
		cmocka_unit_test_setup(test_hmac, setup),
	};

	if (access(ARCHIVE, R_OK) != 0) {
		puts("skip: the Wycheproof vectors are not beside this tree");
		return 0;
	}
	if (mkdtemp(folder) == NULL)
		return 1;
	const char *unpack[] = { "tar", "-xzf", ARCHIVE, "-C", folder, NULL };
	const char *cleanup[] = { "rm", "-rf", folder, NULL };
	if (!run(unpack))
		return 1;
	arena_init(&arena, 64 << 20);
	int failed = cmocka_run_group_tests_name("jws", tests, NULL, NULL);
	arena_fini(&arena);
	return run(cleanup) ? failed : 1;
}
