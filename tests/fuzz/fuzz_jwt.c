/*
 * Keys, an empty line, and a token: whatever is read holds together, and a
 * token that the keys accept is refused as soon as a bit of it is another.
 */
#include <stdlib.h>

#include "wire/jws.h"
#include "wire/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
verify(struct jws *j, const struct jwk_set *keys, struct arena *a)
{
	const struct jwt_rules rules = { .issuer = SL("me") };
	struct jwt t;

	check(j->alg > JWS_NONE && j->alg < JWS_ALGS);
	check(slice_eq(jws_alg_name(j->alg), jws_alg_name(j->alg)));
	if (jws_verify(j, keys) == 0) {
		uint8_t *other = arena_alloc(a, j->text.len + 1);
		check(other != NULL && j->text.len > 0);
		memcpy(other, j->text.ptr, j->text.len);
		other[j->text.len / 2] ^= 1;
		j->text.ptr = other;
		check(jws_verify(j, keys) != 0);
	}
	if (jwt_read(&t, j->payload, a) == 0) {
		check(t.subject.len > 0);
		check(jwt_check(&t, &rules, INT64_MAX / 4) != 0);
		jwt_check(&t, &rules, t.not_before);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = { data, size };
	struct jwk_set keys = { 0 };
	struct arena a;
	struct jws j;
	size_t at = 0;

	while (at < size && !slice_starts(slice_from_at(rest, at), SL("\n\n")))
		at++;
	arena_init(&a, 1 << 24);
	struct slice text = slice_first(rest, at);
	if (jwk_read(&keys, text, &a) < 0 && jwk_read_pem(&keys, text) < 0)
		check(keys.count == 0);
	check(keys.count <= JWK_KEYS);
	for (size_t i = 0; i < keys.count; i++)
		check((keys.keys[i].pkey != NULL) ==
		    (keys.keys[i].alg > JWS_HS512));
	if (jws_read(&j, slice_from_at(rest, at + 2), &a) == 0)
		verify(&j, &keys, &a);
	jwk_set_fini(&keys);
	arena_fini(&a);
	return 0;
}
