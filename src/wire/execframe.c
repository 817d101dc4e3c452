#include <assert.h>

#include "base/err.h"
#include "wire/be.h"

#include "wire/execframe.h"

enum { TYPES = 21, HEAD = 5 };

enum form { FORM_NONE, FORM_JSON, FORM_BULK, FORM_FIXED };

struct rule {
	enum form form;
	enum execframe_side from;
	uint8_t fixed; /* bytes before the data */
	uint32_t data_max;
};

#define AGENT EXECFRAME_AGENT
#define CONTROLLER EXECFRAME_CONTROLLER
static const struct rule rules[TYPES] = {
	[EXECFRAME_STARTED] = { FORM_JSON, AGENT, 0, EXECFRAME_JSON_MAX },
	[EXECFRAME_STDOUT] = { FORM_BULK, AGENT, 8, EXECFRAME_BULK_MAX },
	[EXECFRAME_STDERR] = { FORM_BULK, AGENT, 8, EXECFRAME_BULK_MAX },
	[EXECFRAME_EXIT] = { FORM_JSON, AGENT, 0, EXECFRAME_JSON_MAX },
	[EXECFRAME_STDIN_ACK] = { FORM_FIXED, AGENT, 16, 0 },
	[EXECFRAME_REFUSED] = { FORM_JSON, AGENT, 0, EXECFRAME_JSON_MAX },
	[EXECFRAME_GAP] = { FORM_FIXED, AGENT, 17, 0 },
	[EXECFRAME_STDIN] = { FORM_BULK, CONTROLLER, 8, EXECFRAME_BULK_MAX },
	[EXECFRAME_STDIN_EOF] = { FORM_FIXED, CONTROLLER, 8, 0 },
	[EXECFRAME_ACK] = { FORM_FIXED, CONTROLLER, 9, 0 },
	[EXECFRAME_SIGNAL] = { FORM_FIXED, CONTROLLER, 1, 0 },
	[EXECFRAME_DONE] = { FORM_FIXED, CONTROLLER, 0, 0 },
};

/* The rule for type, or NULL when from may not say it. */
static const struct rule *
rule_for(uint8_t type, enum execframe_side from)
{
	if (type >= TYPES || rules[type].form == FORM_NONE ||
	    rules[type].from != from)
		return NULL;
	return &rules[type];
}

/* Whether a payload of length can be one of rule's. */
static int
check_length(const struct rule *rule, uint64_t length)
{
	if (length < rule->fixed)
		return ERR_PROTOCOL;
	if (length - rule->fixed <= rule->data_max)
		return 0;
	return rule->form == FORM_FIXED ? ERR_PROTOCOL : ERR_TOO_BIG;
}

/* Two offsets at most; an absent one reads as 0. */
static int
get_offsets(const uint8_t *p, size_t n, struct execframe *f)
{
	f->offset = n >= 8 ? be_get64(p) : 0;
	f->limit = n >= 16 ? be_get64(p + 8) : 0;
	if (f->offset > INT64_MAX || f->limit > INT64_MAX)
		return ERR_RANGE;
	return n >= 16 && f->limit < f->offset ? ERR_PROTOCOL : 0;
}

/* What stands before the data: an optional byte, then offsets. */
static int
get_fixed(uint8_t type, const uint8_t *p, size_t n, struct execframe *f)
{
	*f = (struct execframe){ .type = (enum execframe_type)type };
	if (type == EXECFRAME_SIGNAL) {
		f->signal = p[0];
		return p[0] >= EXECFRAME_INTERRUPT && p[0] <= EXECFRAME_KILL
		    ? 0
		    : ERR_PROTOCOL;
	}
	if (type == EXECFRAME_ACK || type == EXECFRAME_GAP) {
		f->stream = p[0];
		if (p[0] != EXECFRAME_OUT && p[0] != EXECFRAME_ERR)
			return ERR_PROTOCOL;
		return get_offsets(p + 1, n - 1, f);
	}
	return get_offsets(p, n, f);
}

/* Bulk data must not run over the last offset. */
static int
check_end(const struct execframe *f, uint64_t len)
{
	return f->offset + len > INT64_MAX ? ERR_RANGE : 0;
}

int
execframe_parse(
    enum execframe_side from, struct slice message, struct execframe *out)
{
	struct execframe f;

	if (message.len == 0)
		return ERR_PROTOCOL;
	const struct rule *rule = rule_for(message.ptr[0], from);
	if (rule == NULL)
		return ERR_UNSUPPORTED;
	struct slice payload = slice_from_at(message, 1);
	int rc = check_length(rule, payload.len);
	if (rc == 0)
		rc = get_fixed(message.ptr[0], payload.ptr, rule->fixed, &f);
	if (rc == 0)
		rc = check_end(&f, payload.len - rule->fixed);
	if (rc != 0)
		return rc;
	f.data = slice_from_at(payload, rule->fixed);
	*out = f;
	return 0;
}

size_t
execframe_head(const struct execframe *f, enum execframe_shape shape,
    uint8_t out[EXECFRAME_HEAD_MAX])
{
	assert((unsigned)f->type < TYPES && rules[f->type].form != FORM_NONE &&
	    f->data.len <= rules[f->type].data_max);
	const struct rule *rule = &rules[f->type];
	uint8_t *p = out;

	*p++ = (uint8_t)f->type;
	if (shape == EXECFRAME_ON_STREAM) {
		be_put32(p, rule->fixed + (uint32_t)f->data.len);
		p += 4;
	}
	uint8_t *end = p + rule->fixed;
	if (rule->fixed % 8 != 0)
		*p++ = f->type == EXECFRAME_SIGNAL ? f->signal : f->stream;
	if (p < end)
		be_put64(p, f->offset);
	if (p + 8 < end)
		be_put64(p + 8, f->limit);
	return (size_t)(end - out);
}

void
execframe_put(
    struct buf *b, enum execframe_shape shape, const struct execframe *f)
{
	uint8_t head[EXECFRAME_HEAD_MAX];

	buf_put(b, (struct slice){ head, execframe_head(f, shape, head) });
	buf_put(b, f->data);
}

void
execframe_reader_init(struct execframe_reader *r, enum execframe_side from)
{
	*r = (struct execframe_reader){ .from = from };
	buf_init(&r->json, EXECFRAME_JSON_MAX);
}

void
execframe_reader_fini(struct execframe_reader *r)
{
	buf_fini(&r->json);
}

void
execframe_feed(struct execframe_reader *r, struct slice in)
{
	assert(r->in.len == 0 || r->err != 0);
	r->in = in;
}

/* Gather head up to n bytes; whether they are there. */
static bool
gather(struct execframe_reader *r, size_t n)
{
	if (r->head_len < n) {
		struct slice part = slice_first(r->in, n - r->head_len);
		if (part.len > 0)
			memcpy(r->head + r->head_len, part.ptr, part.len);
		r->head_len = (uint8_t)(r->head_len + part.len);
		r->in = slice_from_at(r->in, part.len);
	}
	return r->head_len >= n;
}

/*
 * Read a head with its fixed fields.  1: f is whole but for its data, of
 * which r->left bytes follow.
 */
static int
read_head(struct execframe_reader *r, struct execframe *f)
{
	if (!gather(r, 1))
		return 0;
	const struct rule *rule = rule_for(r->head[0], r->from);
	if (rule == NULL)
		return ERR_UNSUPPORTED;
	if (!gather(r, HEAD))
		return 0;
	uint32_t length = be_get32(r->head + 1);
	int rc = check_length(rule, length);
	if (rc != 0)
		return rc;
	if (!gather(r, HEAD + (size_t)rule->fixed))
		return 0;
	r->left = length - rule->fixed;
	rc = get_fixed(r->head[0], r->head + HEAD, rule->fixed, f);
	if (rc == 0)
		rc = check_end(f, r->left);
	return rc == 0 ? 1 : rc;
}

static void
end_frame(struct execframe_reader *r)
{
	r->body = false;
	r->head_len = 0;
}

/* JSON: out of the fed bytes when it is whole there, else gathered. */
static int
read_json(struct execframe_reader *r, struct execframe *f)
{
	struct slice part = slice_first(r->in, r->left);
	bool whole = part.len == r->left;

	r->in = slice_from_at(r->in, part.len);
	r->left -= (uint32_t)part.len;
	f->data = part;
	if (!whole || r->json.tail > 0) {
		buf_put(&r->json, part);
		if (r->json.err != 0)
			return r->json.err;
		f->data = buf_peek(&r->json);
	}
	if (!whole)
		return 0;
	end_frame(r);
	return 1;
}

/* As many bytes as there are; the first call of an empty frame gives it. */
static int
read_bulk(struct execframe_reader *r, struct execframe *f)
{
	f->data = slice_first(r->in, r->left);
	if (f->data.len == 0 && r->left > 0)
		return 0;
	f->offset = r->offset;
	r->offset += f->data.len;
	r->in = slice_from_at(r->in, f->data.len);
	r->left -= (uint32_t)f->data.len;
	if (r->left == 0)
		end_frame(r);
	return 1;
}

static int
read_frame(struct execframe_reader *r, struct execframe *f)
{
	if (!r->body) {
		buf_fini(&r->json); /* of the frame before */
		buf_init(&r->json, EXECFRAME_JSON_MAX);
		int rc = read_head(r, f);
		if (rc <= 0)
			return rc;
		r->body = true;
		r->offset = f->offset;
	}
	f->type = (enum execframe_type)r->head[0];
	switch (rules[f->type].form) {
	case FORM_JSON:
		return read_json(r, f);
	case FORM_BULK:
		return read_bulk(r, f);
	case FORM_NONE:
	case FORM_FIXED:
		break;
	}
	end_frame(r);
	return 1;
}

int
execframe_next(struct execframe_reader *r, struct execframe *out)
{
	struct execframe f = { 0 };

	if (r->err != 0)
		return r->err;
	int rc = read_frame(r, &f);
	if (rc < 0)
		r->err = rc;
	if (rc > 0)
		*out = f;
	return rc;
}
