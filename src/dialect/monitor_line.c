/*
 * The last line of some output, as a person would read it: control sequences
 * (ECMA-48) are no text, a carriage return begins the line anew.
 */
#include "base/err.h"

#include "dialect/monitor.h"

enum state {
	TEXT,
	ESCAPE,   /* after ESC */
	SEQUENCE, /* after ESC [: to its final byte */
	STRING,   /* OSC, DCS, SOS, PM, APC: to BEL or ESC \ */
	STRING_ESCAPE,
	CHARSET, /* ESC ( and the like: one byte more */
};

static void
end_line(struct monitor_line *l)
{
	bool blank = true;

	for (size_t i = 0; i < l->at_len && blank; i++)
		blank = l->at[i] == ' ';
	if (!blank) {
		memcpy(l->kept, l->at, l->at_len);
		l->kept_len = l->at_len;
	}
	l->at_len = l->at_count = 0;
}

static void
put_char(struct monitor_line *l, struct slice bytes)
{
	if (l->at_count >= MONITOR_CHARACTERS)
		return;
	/* Nobody wants to read the margin. */
	if (l->at_len == 0 && bytes.ptr[0] == ' ')
		return;
	memcpy(l->at + l->at_len, bytes.ptr, bytes.len);
	l->at_len = (uint16_t)(l->at_len + bytes.len);
	l->at_count++;
	l->fresh = l->fresh || bytes.ptr[0] != ' ';
}

static enum state
after_escape(uint32_t c)
{
	if (c == '[')
		return SEQUENCE;
	if (c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_')
		return STRING;
	/* Intermediate bytes: of a character set, ESC # 8 and so on. */
	return c >= 0x20 && c <= 0x2f ? CHARSET : TEXT;
}

/* Inside a sequence; what it became. */
static enum state
skip(enum state s, uint32_t c)
{
	if (c == 0x1b && s != STRING)
		return ESCAPE;
	switch (s) {
	case ESCAPE:
		return after_escape(c);
	case SEQUENCE:
		return c >= 0x40 && c <= 0x7e ? TEXT : SEQUENCE;
	case STRING:
		return c == 0x07 ? TEXT : c == 0x1b ? STRING_ESCAPE : STRING;
	case STRING_ESCAPE:
		return c == '\\' ? TEXT : after_escape(c);
	case CHARSET:
		return c >= 0x30 && c <= 0x7e ? TEXT : CHARSET;
	case TEXT:
		break;
	}
	return TEXT;
}

static void
feed_char(struct monitor_line *l, struct slice bytes, uint32_t code)
{
	if (l->state != TEXT) {
		/* A line's end ends what is broken off, too. */
		uint32_t c = code < 0x80 ? code : 0x7f;
		l->state = c == '\n' ? TEXT : skip((enum state)l->state, c);
		if (c == '\n')
			end_line(l);
	} else if (code == 0x1b) {
		l->state = ESCAPE;
	} else if (code == 0x9b) {
		l->state = SEQUENCE;
	} else if (code == '\n' || code == '\r') {
		end_line(l);
	} else if (code == '\t') {
		put_char(l, SL(" "));
	} else if (code >= 0x20 && code != 0x7f &&
	    (code < 0x80 || code > 0x9f)) {
		put_char(l, bytes);
	}
}

static void
feed_text(struct monitor_line *l, struct slice text)
{
	while (text.len > 0) {
		uint32_t code;
		int n = utf8_decode(text, &code);
		if (n <= 0)
			return;
		feed_char(l, slice_first(text, (size_t)n), code);
		text = slice_from_at(text, (size_t)n);
	}
}

void
monitor_line_feed(struct monitor_line *l, struct slice bytes)
{
	enum { PIECE = 256 };
	uint8_t mem[4 * PIECE];

	while (bytes.len > 0) {
		struct slice piece = slice_first(bytes, PIECE);
		/* Mended text is at most three times as long, and the held
		 * bytes: it never grows, so nothing is allocated. */
		struct buf text = {
			.mem = mem, .alloc = sizeof(mem), .cap = sizeof(mem)
		};
		utf8_mend(&l->mender, piece, &text);
		feed_text(l, buf_peek(&text));
		bytes = slice_from_at(bytes, piece.len);
	}
}

int
monitor_line_take(struct monitor_line *l, struct slice *line)
{
	struct slice at = { l->at, l->at_len }, kept = { l->kept, l->kept_len };

	if (!l->fresh)
		return 0;
	l->fresh = false;
	while (at.len > 0 && at.ptr[at.len - 1] == ' ')
		at.len--;
	while (kept.len > 0 && kept.ptr[kept.len - 1] == ' ')
		kept.len--;
	*line = at.len > 0 ? at : kept;
	return line->len > 0 ? 1 : 0;
}
