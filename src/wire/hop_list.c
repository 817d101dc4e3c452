#include "base/err.h"
#include "wire/octet.h"

#include "wire/hop_list.h"

/* Pieces ------------------------------------------------------------------ */

static uint8_t
fold(uint8_t c)
{
	if (c == '_')
		return '-';
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool
hop_begins(struct slice name, struct slice want)
{
	if (name.len < want.len)
		return false;
	for (size_t i = 0; i < want.len; i++) {
		if (fold(name.ptr[i]) != want.ptr[i])
			return false;
	}
	return true;
}

bool
hop_alike(struct slice name, struct slice want)
{
	return name.len == want.len && hop_begins(name, want);
}

bool
hop_cookie_is_ours(const struct hop *hop, struct slice cookie)
{
	for (size_t i = 0; i < hop->cookie_count; i++) {
		struct slice ours = hop->cookies[i];
		if (slice_eq_nocase(slice_first(cookie, ours.len), ours))
			return true;
	}
	return false;
}

struct slice
hop_under(struct slice path, struct slice prefix)
{
	struct slice rest = slice_from_at(path, prefix.len);

	if (!slice_starts(path, prefix) ||
	    (rest.len > 0 && rest.ptr[0] != '/' && rest.ptr[0] != '?' &&
		rest.ptr[0] != '#'))
		return (struct slice){ 0 };
	return rest;
}

/* The list ---------------------------------------------------------------- */

void
hop_list_init(struct hop_list *l, const struct http1_head *h, struct arena *a,
    size_t more)
{
	*l =
	    (struct hop_list){ .arena = a, .head = h, .room = h->count + more };
	l->pairs = arena_array(a, l->room, sizeof(*l->pairs));
	if (l->pairs == NULL)
		l->err = ERR_NOMEM;
	else
		l->err = arena_copy(a, h->bytes, &l->text);
}

struct slice
hop_kept(const struct hop_list *l, struct slice s)
{
	uintptr_t from = (uintptr_t)l->head->bytes.ptr, at = (uintptr_t)s.ptr;

	if (at < from || at > from + l->head->bytes.len || l->text.ptr == NULL)
		return s;
	return (struct slice){ l->text.ptr + (at - from), s.len };
}

void
hop_put(struct hop_list *l, struct slice name, struct slice value)
{
	if (l->err == 0 && l->count == l->room)
		l->err = ERR_FULL;
	if (l->err == 0)
		l->pairs[l->count++] = (struct http1_pair){ name, value };
}

void
hop_drop(struct hop_list *l, struct slice name)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (!slice_eq_nocase(l->pairs[i].name, name))
			l->pairs[kept++] = l->pairs[i];
	}
	l->count = kept;
}

struct hop_text
hop_room(struct hop_list *l, size_t len)
{
	struct hop_text t = { 0 };

	if (l->err == 0)
		t.mem = arena_alloc(l->arena, len + 1);
	if (t.mem == NULL && l->err == 0)
		l->err = ERR_NOMEM;
	return t;
}

void
hop_add(struct hop_text *t, struct slice s)
{
	if (t->mem == NULL || s.len == 0)
		return;
	memcpy(t->mem + t->len, s.ptr, s.len);
	t->len += s.len;
}

struct slice
hop_join(struct hop_list *l, const struct slice *parts, size_t count)
{
	struct hop_text t;
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		len += parts[i].len;
	t = hop_room(l, len);
	for (size_t i = 0; i < count; i++)
		hop_add(&t, parts[i]);
	return (struct slice){ t.mem, t.len };
}

struct slice
hop_append(struct hop_list *l, const char *name, struct slice last)
{
	struct slice parts[2 * HTTP1_FIELDS + 2], value;
	size_t pos = 0, n = 0;

	while (http1_next_value(l->head, name, &pos, &value)) {
		if (n > 0)
			parts[n++] = SL(", ");
		parts[n++] = value;
	}
	if (last.len > 0 && n > 0)
		parts[n++] = SL(", ");
	parts[n++] = last;
	return hop_join(l, parts, n);
}

/* Rules ------------------------------------------------------------------- */

int
hop_rule_check(const struct hop_rule *r, bool response)
{
	if (!octet_all(r->name, OCTET_TOKEN) || http1_ends_here(r->name) ||
	    hop_alike(r->name, SL("content-length")) ||
	    hop_alike(r->name, SL("expect")) ||
	    hop_begins(r->name, SL("sec-websocket-")))
		return ERR_INVALID;
	if (response && hop_alike(r->name, SL("set-cookie")))
		return ERR_INVALID;
	if (!response && hop_alike(r->name, SL("host"))) {
		struct url_host host;
		return r->verb == HOP_SET ? url_host_parse(r->value, &host)
					  : ERR_INVALID;
	}
	if (r->verb == HOP_REMOVE || r->value.len == 0)
		return 0;
	return octet_all(r->value, OCTET_VALUE) &&
		slice_trim(r->value).len == r->value.len
	    ? 0
	    : ERR_INVALID;
}

static void
apply(struct hop_list *l, const struct hop_rule *r, struct slice *host)
{
	struct slice value = { 0 };

	if (hop_rule_check(r, host == NULL) != 0)
		return;
	if (r->verb != HOP_REMOVE)
		value = hop_join(l, &r->value, 1);
	if (host != NULL && hop_alike(r->name, SL("host"))) {
		*host = value;
		return;
	}
	if (r->verb != HOP_ADD)
		hop_drop(l, r->name);
	if (r->verb != HOP_REMOVE)
		hop_put(l, hop_join(l, &r->name, 1), value);
}

void
hop_apply(struct hop_list *l, const struct hop_rule *rules, size_t count,
    struct slice *host)
{
	for (size_t i = 0; i < count && i < HOP_RULES; i++)
		apply(l, &rules[i], host);
}
