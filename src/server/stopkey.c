#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

#include "wire/token.h"

#include "io/rand.h"

#include "server/stopkey.h"

enum { TEXT_MAX = 4096 };

int
stopkey_open(struct store *s, uint8_t key[STOP_MAC_LEN], wall_msec now)
{
	struct arena a;
	struct slice kept;

	arena_init(&a, 1 << 16);
	int err = store_meta(s, SL("stop.key"), &a, &kept);
	if (err == 0 && kept.len == STOP_MAC_LEN)
		memcpy(key, kept.ptr, STOP_MAC_LEN);
	else if (err == 0)
		err = ERR_CORRUPT;
	arena_fini(&a);
	if (err != ERR_NOT_FOUND)
		return err;
	rand_fill(key, STOP_MAC_LEN);
	const struct op put = { .verb = OP_PUT_META,
		.at = now,
		.meta = {
		    .key = SL("stop.key"), .value = { key, STOP_MAC_LEN } } };
	const struct op *const ops[] = { &put };
	int result = 0;
	err = store_apply(s, ops, 1, &result);
	return err != 0 ? err : result;
}

static int
mac_of(const struct server *s, struct slice agent_id,
    const struct stop_order *o, uint8_t mac[STOP_MAC_LEN])
{
	char number[32];
	struct buf b;

	snprintf(
	    number, sizeof(number), "\n%llu\n", (unsigned long long)o->epoch);
	buf_init(&b, TEXT_MAX);
	buf_put(&b, SL("muster stop 1\n"));
	buf_put(&b, agent_id);
	buf_put(&b, slice_from(number));
	buf_put(&b, o->stopped ? SL("stopped\n") : SL("running\n"));
	buf_put(&b, o->scope);
	int err = b.err != 0
	    ? b.err
	    : token_hmac((struct slice){ s->stop_key, sizeof(s->stop_key) },
		  buf_peek(&b), mac);
	buf_fini(&b);
	return err;
}

void
stopkey_sign(const struct server *s, struct stop_order *o)
{
	o->has_mac = mac_of(s, o->agent_id, o, o->mac) == 0;
}

bool
stopkey_proves(const struct server *s, struct slice agent_id,
    const struct stop_order *shown)
{
	uint8_t mac[STOP_MAC_LEN];

	return shown->has_mac && mac_of(s, agent_id, shown, mac) == 0 &&
	    token_equal((struct slice){ mac, STOP_MAC_LEN },
		(struct slice){ shown->mac, STOP_MAC_LEN });
}
