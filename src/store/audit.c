#include "base/err.h"

#include "store/audit.h"
#include "store/core.h"
#include "store/digest.h"

static void
put_be(struct buf *b, uint64_t n, unsigned bytes)
{
	while (bytes-- > 0)
		buf_put_byte(b, (uint8_t)(n >> (8 * bytes)));
}

static void
put_text(struct buf *b, struct slice s)
{
	put_be(b, s.ptr == NULL ? UINT32_MAX : s.len, 4);
	buf_put(b, s);
}

int
audit_hash(const struct audit_record *line, int64_t workspace_id,
    struct buf *scratch, uint8_t out[HASH_LEN])
{
	const struct audit_note *note = &line->note;

	buf_clear(scratch);
	buf_put(scratch, (struct slice){ line->prev_hash, HASH_LEN });
	put_be(scratch, line->node, 4);
	put_be(scratch, line->number, 8);
	put_be(scratch, (uint64_t)line->at, 8);
	put_be(scratch, (uint64_t)workspace_id, 8);
	put_text(scratch, note->actor);
	put_text(scratch, note->action);
	put_text(scratch, note->object);
	put_text(scratch, note->result);
	put_text(scratch, note->request_id);
	put_text(scratch, note->remote);
	put_text(scratch, note->detail_json);
	if (scratch->err != 0)
		return scratch->err == ERR_FULL ? ERR_TOO_BIG : scratch->err;
	struct slice all = buf_peek(scratch);
	if (!digest_of(all, out))
		return ERR_NOMEM;
	return 0;
}

int
audit_load_head(struct store *s)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&s->db, ST_AUDIT_HEAD, &err);

	s->head = (struct audit_head){ 0 };
	if (st == NULL)
		return err;
	sqlite3_bind_int64(st, 1, s->config.node);
	err = db_step(&s->db, st);
	if (err <= 0)
		return err;
	const void *hash = sqlite3_column_blob(st, 1);
	if (hash == NULL || sqlite3_column_bytes(st, 1) != HASH_LEN) {
		sqlite3_reset(st);
		return ERR_CORRUPT;
	}
	s->head.number = (uint64_t)sqlite3_column_int64(st, 0);
	memcpy(s->head.hash, hash, HASH_LEN);
	sqlite3_reset(st);
	return 0;
}

int
audit_append(struct store *s, wall_msec at, int64_t workspace_id,
    const struct audit_note *note)
{
	struct audit_record line = {
		.node = s->config.node,
		.number = s->head.number + 1,
		.at = at,
		.note = *note,
	};
	int err = 0;

	memcpy(line.prev_hash, s->head.hash, HASH_LEN);
	err = audit_hash(&line, workspace_id, &s->scratch, line.hash);
	if (err != 0)
		return err;
	sqlite3_stmt *st = db_statement(&s->db, ST_AUDIT_NEW, &err);
	if (st == NULL || (err = column_bind(st, &table_audit, &line)) != 0)
		return err;
	sqlite3_bind_int64(st, 13, workspace_id);
	err = db_finish(&s->db, st, NULL);
	if (err != 0)
		return err;
	s->head.number = line.number;
	memcpy(s->head.hash, line.hash, HASH_LEN);
	return 0;
}
