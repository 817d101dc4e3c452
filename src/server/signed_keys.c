/* What a signed agent signs with, opened where messages are checked. */
#include <string.h>

#include "base/err.h"

#include "wire/seal.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/signed_parts.h"

enum { SECRETS_MAX = 128 * 1024 };

void
signer_forget_secrets(struct signer *s)
{
	if (s->secrets.mem != NULL)
		explicit_bzero(s->secrets.mem, s->secrets.alloc);
	buf_clear(&s->secrets);
	s->count = 0;
}

/* Secrets are sealed for whom they are of: "agent-1", or "prod-*". */
static int
open_one(struct signer *s, const uint8_t *key, const struct secret_record *r,
    struct slice sealed)
{
	size_t before = buf_peek(&s->secrets).len;
	struct buf owner;

	buf_init(&owner, 256);
	buf_put(&owner, r->agent_id);
	if (r->prefix)
		buf_put_byte(&owner, '*');
	int err = owner.err != 0
	    ? owner.err
	    : seal_open(key, buf_peek(&owner), sealed, &s->secrets);
	buf_fini(&owner);
	if (err == 0)
		s->lengths[s->count++] = buf_peek(&s->secrets).len - before;
	return err;
}

static int
open_all(struct conn *c, const struct secret_record *r)
{
	struct signer *s = signer_of(c);
	const uint8_t *key = c->dock->server->secrets_key;
	int err = open_one(s, key, r, r->sealed);

	if (err == 0 && r->old_sealed.len > 0)
		err = open_one(s, key, r, r->old_sealed);
	s->old_until = r->old_until;
	if (err != 0)
		log_error(
		    "secret_unreadable", kv_s("id", r->id), kv_e("err", err));
	return err;
}

/* Of those it had, the one that it uses is still the one, wherever it stands
 * now. */
int
signer_take_secrets(struct conn *c, const struct secret_record *r)
{
	struct signer *s = signer_of(c);
	struct buf had = s->secrets;
	size_t lengths[SIGNED_KEYS] = { s->lengths[0], s->lengths[1] };
	size_t count = s->count, used = s->key;

	buf_init(&s->secrets, SECRETS_MAX);
	s->count = s->key = 0;
	int err = open_all(c, r);
	struct slice was = buf_peek(&had), now = buf_peek(&s->secrets);
	was = slice_first(slice_from_at(was, used == 0 ? 0 : lengths[0]),
	    count == 0 ? 0 : lengths[used]);
	for (size_t i = 0; i < s->count; i++) {
		if (slice_eq(slice_first(now, s->lengths[i]), was))
			s->key = i;
		now = slice_from_at(now, s->lengths[i]);
	}
	if (had.mem != NULL)
		explicit_bzero(had.mem, had.alloc);
	buf_fini(&had);
	return err;
}

size_t
signer_good_keys(const struct signer *s, struct slice keys[SIGNED_KEYS])
{
	struct slice all = buf_peek(&s->secrets);
	size_t n = 0;

	for (size_t i = 0; i < s->count; i++) {
		if (i == 0 || clock_wall() < s->old_until)
			keys[n++] = slice_first(all, s->lengths[i]);
		all = slice_from_at(all, s->lengths[i]);
	}
	return n;
}
