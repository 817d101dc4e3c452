#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

#include "base/conf.h"

struct reader {
	struct conf_doc *doc;
	struct arena *arena;
	struct slice section, name;
	size_t room, max; /* entries there, and ever */
};

static bool
blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static bool
word_byte(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

static struct slice
skip_blanks(struct slice s)
{
	while (s.len > 0 && blank(s.ptr[0]))
		s = slice_from_at(s, 1);
	return s;
}

/* Cut a key or section name off the line; empty when there is none. */
static struct slice
take_word(struct slice *line)
{
	size_t n = 0;

	while (n < line->len && word_byte(line->ptr[n]))
		n++;
	struct slice word = slice_first(*line, n);
	*line = skip_blanks(slice_from_at(*line, n));
	return word;
}

static bool
take_byte(struct slice *line, uint8_t c)
{
	if (line->len == 0 || line->ptr[0] != c)
		return false;
	*line = skip_blanks(slice_from_at(*line, 1));
	return true;
}

static bool
nothing_left(struct slice line)
{
	return line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == ';';
}

/* What the letter behind a backslash stands for, or 0. */
static uint8_t
escape(uint8_t c)
{
	switch (c) {
	case '\\':
	case '"':
		return c;
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return 0;
	}
}

/* Cut quoted text off the line, which begins behind its first quote. */
static int
take_quoted(struct reader *r, struct slice *line, struct slice *out)
{
	size_t n = 0;
	bool escaped = false;

	for (; n < line->len && line->ptr[n] != '"'; n++) {
		if (line->ptr[n] != '\\')
			continue;
		if (++n == line->len || escape(line->ptr[n]) == 0)
			return ERR_INVALID;
		escaped = true;
	}
	if (n == line->len)
		return ERR_INVALID;
	*out = slice_first(*line, n);
	*line = slice_from_at(*line, n + 1);
	/* A comment needs white space before it here as elsewhere. */
	if (line->len > 0 && !blank(line->ptr[0]) && line->ptr[0] != ']')
		return ERR_INVALID;
	*line = skip_blanks(*line);
	if (!escaped)
		return 0;
	uint8_t *mem = arena_alloc(r->arena, n);
	if (mem == NULL)
		return ERR_NOMEM;
	size_t len = 0;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = out->ptr[i];
		mem[len++] = c == '\\' ? escape(out->ptr[++i]) : c;
	}
	*out = (struct slice){ mem, len };
	return 0;
}

/* Bare text up to the line's end or a comment, which white space precedes. */
static struct slice
take_bare(struct slice line)
{
	size_t n = 0;

	while (n < line.len &&
	    ((line.ptr[n] != '#' && line.ptr[n] != ';') ||
		(n > 0 && !blank(line.ptr[n - 1]))))
		n++;
	return slice_trim(slice_first(line, n));
}

static int
add(struct reader *r, struct slice key, struct slice value, uint32_t line)
{
	struct conf_doc *doc = r->doc;

	if (doc->count == r->max)
		return ERR_FULL;
	if (doc->count == r->room) {
		size_t room = r->room == 0 ? 32 : r->room * 2;
		struct conf_entry *grown =
		    arena_array(r->arena, room, sizeof(*grown));
		if (grown == NULL)
			return ERR_NOMEM;
		if (doc->count > 0)
			memcpy(
			    grown, doc->entries, doc->count * sizeof(*grown));
		doc->entries = grown;
		r->room = room;
	}
	doc->entries[doc->count++] =
	    (struct conf_entry){ r->section, r->name, key, value, line };
	return 0;
}

/* [section] or [section "name"]; the bracket is behind us. */
static int
read_header(struct reader *r, struct slice line, uint32_t number)
{
	struct slice name = { 0 };
	struct slice section = take_word(&line);

	if (section.len == 0)
		return ERR_INVALID;
	if (line.len > 0 && line.ptr[0] == '"') {
		line = slice_from_at(line, 1);
		int err = take_quoted(r, &line, &name);
		if (err != 0)
			return err;
	}
	if (!take_byte(&line, ']') || !nothing_left(line))
		return ERR_INVALID;
	r->section = section;
	r->name = name;
	return add(r, SL(""), (struct slice){ 0 }, number);
}

static int
read_entry(struct reader *r, struct slice line, uint32_t number)
{
	struct slice value, key = take_word(&line);

	if (key.len == 0 || !take_byte(&line, '='))
		return ERR_INVALID;
	r->doc->error_key = key;
	if (line.len == 0 || line.ptr[0] != '"') {
		value = take_bare(line);
	} else {
		line = slice_from_at(line, 1);
		int err = take_quoted(r, &line, &value);
		if (err != 0)
			return err;
		if (!nothing_left(line))
			return ERR_INVALID;
	}
	return add(r, key, value, number);
}

static int
read_line(struct reader *r, struct slice line, uint32_t number)
{
	if (slice_ends(line, SL("\r")))
		line.len--;
	for (size_t i = 0; i < line.len; i++) {
		if ((line.ptr[i] < 0x20 && line.ptr[i] != '\t') ||
		    line.ptr[i] == 0x7f)
			return ERR_INVALID;
	}
	if (!utf8_valid(line))
		return ERR_UTF8;
	line = slice_trim(line);
	if (nothing_left(line))
		return 0;
	if (take_byte(&line, '['))
		return read_header(r, line, number);
	return read_entry(r, line, number);
}

int
conf_parse(struct slice text, struct arena *a, const struct conf_limits *limits,
    struct conf_doc *doc)
{
	struct reader r = { .doc = doc,
		.arena = a,
		.section = SL(""),
		.max = limits->entries };
	struct slice line;
	uint32_t number = 0;

	*doc = (struct conf_doc){ 0 };
	if (text.len > limits->bytes || text.len > UINT32_MAX)
		return ERR_TOO_BIG;
	/* Some editors begin a file with a byte order mark. */
	if (slice_starts(text, SL("\xef\xbb\xbf")))
		text = slice_from_at(text, 3);
	while (slice_split(&text, '\n', &line)) {
		doc->error_key = (struct slice){ 0 };
		int err = read_line(&r, line, ++number);
		if (err != 0) {
			doc->error_line = number;
			return err;
		}
	}
	doc->error_key = (struct slice){ 0 };
	return 0;
}
