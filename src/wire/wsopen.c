#include <openssl/evp.h>
#include <string.h>

#include "base/err.h"

#include "wire/wsopen.h"

enum { SHA1_LEN = 20, NONCE_LEN = 16 };

/* RFC 9110 5.6.2: tchar. */
static bool
token_char(uint8_t c)
{
	if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	    (c >= 'A' && c <= 'Z'))
		return true;
	return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static void
skip_blanks(struct slice *s)
{
	while (s->len > 0 && (s->ptr[0] == ' ' || s->ptr[0] == '\t'))
		*s = slice_from_at(*s, 1);
}

/* Cut c, with blanks around it, off the front. */
static bool
cut_char(struct slice *s, uint8_t c)
{
	skip_blanks(s);
	if (s->len == 0 || s->ptr[0] != c)
		return false;
	*s = slice_from_at(*s, 1);
	skip_blanks(s);
	return true;
}

static bool
cut_token(struct slice *s, struct slice *token)
{
	size_t n = 0;

	while (n < s->len && token_char(s->ptr[n]))
		n++;
	*token = slice_first(*s, n);
	*s = slice_from_at(*s, n);
	return n > 0;
}

/* RFC 6455 9.1: what a quoted string holds must be a token as well.  Escapes
 * stay in the value. */
static bool
cut_quoted(struct slice *s, struct slice *value)
{
	size_t i = 1;

	while (i < s->len && s->ptr[i] != '"') {
		if (s->ptr[i] == '\\')
			i++;
		if (i == s->len || !token_char(s->ptr[i]))
			return false;
		i++;
	}
	if (i >= s->len || i == 1)
		return false;
	*value = (struct slice){ s->ptr + 1, i - 1 };
	*s = slice_from_at(*s, i + 1);
	return true;
}

/* Empty elements of a list mean nothing (RFC 9110 5.6.1.2). */
static void
skip_empty(struct slice *list)
{
	skip_blanks(list);
	while (cut_char(list, ','))
		;
}

/* After an element there is a comma or the end. */
static bool
at_border(struct slice *list)
{
	skip_blanks(list);
	return list->len == 0 || list->ptr[0] == ',';
}

int
wsopen_next_param(struct slice *params, struct wsopen_param *out)
{
	struct slice rest = *params;
	struct wsopen_param p = { 0 };

	if (!cut_char(&rest, ';'))
		return rest.len == 0 ? 0 : ERR_INVALID;
	if (!cut_token(&rest, &p.name))
		return ERR_INVALID;
	if (cut_char(&rest, '=')) {
		bool quoted = rest.len > 0 && rest.ptr[0] == '"';
		if (!(quoted ? cut_quoted(&rest, &p.value)
			     : cut_token(&rest, &p.value)))
			return ERR_INVALID;
	}
	*params = rest;
	*out = p;
	return 1;
}

/* The end of the parameters that rest begins with. */
static int
skip_params(struct slice *rest)
{
	struct wsopen_param p;

	while (!at_border(rest)) {
		if (wsopen_next_param(rest, &p) <= 0)
			return ERR_INVALID;
	}
	return 0;
}

int
wsopen_next_extension(struct slice *list, struct wsopen_extension *out)
{
	struct slice rest = *list, name;

	skip_empty(&rest);
	if (rest.len == 0)
		return 0;
	if (!cut_token(&rest, &name))
		return ERR_INVALID;
	struct slice params = rest;
	if (skip_params(&rest) != 0)
		return ERR_INVALID;
	params.len -= rest.len;
	*out = (struct wsopen_extension){ name, slice_trim(params) };
	*list = rest;
	return 1;
}

int
wsopen_next_protocol(struct slice *list, struct slice *out)
{
	struct slice rest = *list, name;

	skip_empty(&rest);
	if (rest.len == 0)
		return 0;
	if (!cut_token(&rest, &name) || !at_border(&rest))
		return ERR_INVALID;
	*out = name;
	*list = rest;
	return 1;
}

/* Elements that are no bare token, such as "h2c/1", are passed over. */
static bool
has_token(struct slice list, struct slice token)
{
	struct slice part;

	while (slice_split(&list, ',', &part)) {
		if (slice_eq_nocase(slice_trim(part), token))
			return true;
	}
	return false;
}

static bool
extensions_valid(struct slice list)
{
	struct wsopen_extension e;
	int r;

	while ((r = wsopen_next_extension(&list, &e)) > 0)
		;
	return r == 0;
}

/* RFC 6455 4.1: each subprotocol is a token and appears once. */
static bool
protocols_valid(struct slice list)
{
	struct slice name, other;
	int r;

	while ((r = wsopen_next_protocol(&list, &name)) > 0) {
		struct slice rest = list;
		while (wsopen_next_protocol(&rest, &other) > 0) {
			if (slice_eq(name, other))
				return false;
		}
	}
	return r == 0;
}

bool
wsopen_wanted(const struct wsopen_request *r)
{
	return slice_eq(r->method, SL("GET")) &&
	    has_token(r->upgrade, SL("websocket"));
}

/* The status and sentence for the first thing amiss; status 0 when none. */
static struct wsopen_verdict
judge(const struct wsopen_request *r)
{
	if (!slice_eq(r->method, SL("GET")))
		return (struct wsopen_verdict){ 405,
			SL("A WebSocket is opened by GET.") };
	if (r->major != 1 || r->minor < 1)
		return (struct wsopen_verdict){ 400,
			SL("A WebSocket needs HTTP/1.1.") };
	if (r->hosts != 1)
		return (struct wsopen_verdict){ 400,
			SL("The request needs exactly one Host.") };
	if (r->has_body)
		return (struct wsopen_verdict){ 400,
			SL("The request of a WebSocket has no body.") };
	if (!has_token(r->upgrade, SL("websocket")))
		return (struct wsopen_verdict){ 426,
			SL("This place speaks WebSocket only.") };
	if (!has_token(r->connection, SL("upgrade")))
		return (struct wsopen_verdict){ 400,
			SL("Connection does not say upgrade.") };
	if (r->versions > 1)
		return (struct wsopen_verdict){ 400,
			SL("Sec-WebSocket-Version is repeated.") };
	if (r->versions == 0 || !slice_eq(r->version, SL("13")))
		return (struct wsopen_verdict){ 426,
			SL("Only version 13 of WebSocket is spoken.") };
	if (r->keys != 1)
		return (struct wsopen_verdict){ 400,
			SL("The request needs exactly one "
			   "Sec-WebSocket-Key.") };
	if (!wsopen_key_valid(r->key))
		return (struct wsopen_verdict){ 400,
			SL("Sec-WebSocket-Key is not 16 bytes in base64.") };
	if (!extensions_valid(r->extensions))
		return (struct wsopen_verdict){ 400,
			SL("Sec-WebSocket-Extensions is malformed.") };
	if (!protocols_valid(r->protocols))
		return (struct wsopen_verdict){ 400,
			SL("Sec-WebSocket-Protocol is malformed.") };
	return (struct wsopen_verdict){ 0 };
}

int
wsopen_check_request(
    const struct wsopen_request *r, struct wsopen_verdict *verdict)
{
	struct wsopen_verdict v = judge(r);

	if (v.status == 0)
		return 0;
	*verdict = v;
	return ERR_PROTOCOL;
}

/* RFC 6455 4.1: one of those offered, or none. */
static bool
protocol_offered(struct slice chosen, struct slice offered)
{
	struct slice name;

	if (chosen.ptr == NULL)
		return true;
	while (wsopen_next_protocol(&offered, &name) > 0) {
		if (slice_eq(name, slice_trim(chosen)))
			return true;
	}
	return false;
}

static struct slice
response_fault(
    const struct wsopen_response *r, struct slice key, struct slice protocols)
{
	uint8_t accept[WSOPEN_ACCEPT_LEN];

	if (r->status != 101)
		return SL("the server did not switch protocols");
	if (!slice_eq_nocase(slice_trim(r->upgrade), SL("websocket")))
		return SL("the answer's Upgrade is not websocket");
	if (!has_token(r->connection, SL("upgrade")))
		return SL("the answer's Connection does not say upgrade");
	if (r->accepts != 1 || wsopen_make_accept(key, accept) != 0 ||
	    !slice_eq(slice_trim(r->accept),
		(struct slice){ accept, sizeof(accept) }))
		return SL("the answer's Sec-WebSocket-Accept is wrong");
	if (!extensions_valid(r->extensions))
		return SL("the answer's Sec-WebSocket-Extensions is malformed");
	if (!protocol_offered(r->protocol, protocols))
		return SL("the answer's Sec-WebSocket-Protocol was not "
			  "offered");
	return (struct slice){ 0 };
}

int
wsopen_check_response(const struct wsopen_response *r, struct slice key,
    struct slice protocols, struct slice *reason)
{
	struct slice fault = response_fault(r, key, protocols);

	if (fault.ptr == NULL)
		return 0;
	*reason = fault;
	return ERR_PROTOCOL;
}

void
wsopen_make_key(const uint8_t nonce[16], uint8_t out[WSOPEN_KEY_LEN])
{
	uint8_t text[WSOPEN_KEY_LEN + 1]; /* OpenSSL ends it with a NUL */

	EVP_EncodeBlock(text, nonce, NONCE_LEN);
	memcpy(out, text, WSOPEN_KEY_LEN);
}

bool
wsopen_key_valid(struct slice key)
{
	uint8_t bytes[WSOPEN_KEY_LEN / 4 * 3], again[WSOPEN_KEY_LEN];

	if (key.len != WSOPEN_KEY_LEN ||
	    EVP_DecodeBlock(bytes, key.ptr, WSOPEN_KEY_LEN) < 0)
		return false;
	/* Written back it is the same: so it was canonical. */
	wsopen_make_key(bytes, again);
	return memcmp(again, key.ptr, sizeof(again)) == 0;
}

int
wsopen_make_accept(struct slice key, uint8_t out[WSOPEN_ACCEPT_LEN])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t joined[WSOPEN_KEY_LEN + sizeof(guid) - 1];
	uint8_t digest[SHA1_LEN], text[WSOPEN_ACCEPT_LEN + 1];

	if (key.len != WSOPEN_KEY_LEN)
		return ERR_INVALID;
	memcpy(joined, key.ptr, WSOPEN_KEY_LEN);
	memcpy(joined + WSOPEN_KEY_LEN, guid, sizeof(guid) - 1);
	if (EVP_Digest(
		joined, sizeof(joined), digest, NULL, EVP_sha1(), NULL) != 1)
		return ERR_NOMEM;
	EVP_EncodeBlock(text, digest, SHA1_LEN);
	memcpy(out, text, WSOPEN_ACCEPT_LEN);
	return 0;
}

void
wsopen_put_answer(struct buf *out, struct slice key, struct slice protocol,
    struct slice extensions)
{
	uint8_t accept[WSOPEN_ACCEPT_LEN];
	int r = wsopen_make_accept(key, accept);

	if (r != 0) {
		out->err = r;
		return;
	}
	buf_put(out,
	    SL("HTTP/1.1 101 Switching Protocols\r\n"
	       "Upgrade: websocket\r\n"
	       "Connection: Upgrade\r\n"
	       "Sec-WebSocket-Accept: "));
	buf_put(out, (struct slice){ accept, sizeof(accept) });
	if (protocol.len > 0) {
		buf_put(out, SL("\r\nSec-WebSocket-Protocol: "));
		buf_put(out, protocol);
	}
	if (extensions.len > 0) {
		buf_put(out, SL("\r\nSec-WebSocket-Extensions: "));
		buf_put(out, extensions);
	}
	buf_put(out, SL("\r\n\r\n"));
}
