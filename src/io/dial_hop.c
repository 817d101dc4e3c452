#include <arpa/inet.h>
#include <stdio.h>

#include <openssl/evp.h>

#include "base/err.h"

#include "io/dial_hop.h"

static int
fail(struct hop *h, int err, const char *why)
{
	snprintf(h->why, sizeof(h->why), "%s", why);
	return err;
}

static void
say(struct hop *h, const void *bytes, size_t n)
{
	if (n <= HOP_OUT - h->out_len)
		memcpy(h->out + h->out_len, bytes, n);
	h->out_len += n; /* hop_init looks once */
}

static void
say_text(struct hop *h, const char *text)
{
	say(h, text, strlen(text));
}

/* HTTP --------------------------------------------------------------------- */

static int
http_status(struct hop *h)
{
	struct slice s = { h->in, h->got };
	uint64_t code;

	if (!slice_starts(s, SL("HTTP/1.")) || s.len < 12 ||
	    slice_u64(slice_first(slice_from_at(s, 9), 3), 999, &code) != 0)
		return fail(h, ERR_PROTOCOL, "its answer is not HTTP");
	if (code >= 200 && code < 300)
		return 1;
	s = slice_from_at(s, 9);
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < ' ' || s.ptr[i] > '~')
			s.len = i;
	}
	snprintf(h->why, sizeof(h->why), "%.*s",
	    (int)(s.len < 100 ? s.len : 100), (const char *)s.ptr);
	return code == 407 || code == 403 ? ERR_DENIED : ERR_REFUSED;
}

/* To the empty line; of the first line the beginning is kept. */
static int
http_take(struct hop *h, uint8_t c)
{
	if (++h->total > HOP_HEAD)
		return fail(h, ERR_TOO_BIG, "its answer is too long");
	if (h->want == 0 && h->got < HOP_IN && c != '\r' && c != '\n')
		h->in[h->got++] = c;
	if (c == '\n' && h->line == 0 && h->want > 0)
		return http_status(h);
	if (c == '\n') {
		h->want = 1; /* the status line is over */
		h->line = 0;
	} else if (c != '\r') {
		h->line++;
	}
	return 0;
}

static void
http_credentials(struct hop *h)
{
	char plain[2 * DIAL_SECRET];
	uint8_t coded[4 * DIAL_SECRET];
	int n;

	if (h->proxy->user[0] == '\0')
		return;
	n = snprintf(
	    plain, sizeof(plain), "%s:%s", h->proxy->user, h->proxy->password);
	n = EVP_EncodeBlock(coded, (const uint8_t *)plain, n);
	say_text(h, "Proxy-Authorization: Basic ");
	say(h, coded, (size_t)n);
	say_text(h, "\r\n");
}

static void
http_begin(struct hop *h)
{
	char target[DIAL_HOST + 16];

	if (strchr(h->host, ':') != NULL)
		snprintf(target, sizeof(target), "[%s]:%u", h->host, h->port);
	else
		snprintf(target, sizeof(target), "%s:%u", h->host, h->port);
	say_text(h, "CONNECT ");
	say_text(h, target);
	say_text(h, " HTTP/1.1\r\nHost: ");
	say_text(h, target);
	say_text(h, "\r\n");
	http_credentials(h);
	say_text(h, "\r\n");
	h->take = http_take;
}

/* SOCKS5 ------------------------------------------------------------------- */

/* Collect want bytes, then let the given state look at them. */
static bool
collect(struct hop *h, uint8_t c)
{
	h->in[h->got++] = c;
	return h->got == h->want;
}

static int
socks_reply(struct hop *h)
{
	static const struct {
		int err;
		const char *why;
	} replies[] = {
		{ ERR_REFUSED, "general failure" },
		{ ERR_DENIED, "not allowed by its rules" },
		{ ERR_UNREACHABLE, "network unreachable" },
		{ ERR_UNREACHABLE, "host unreachable" },
		{ ERR_REFUSED, "connection refused" },
		{ ERR_TIMEOUT, "TTL expired" },
		{ ERR_UNSUPPORTED, "command not supported" },
		{ ERR_UNSUPPORTED, "address type not supported" },
	};
	size_t n = h->in[1];

	if (n == 0)
		return 1;
	if (n > sizeof(replies) / sizeof(replies[0]))
		return fail(h, ERR_REFUSED, "refused");
	return fail(h, replies[n - 1].err, replies[n - 1].why);
}

/* RFC 1928 6: version, reply, 0, address type, address, port. */
static int
socks_answer(struct hop *h, uint8_t c)
{
	if (!collect(h, c))
		return 0;
	if (h->want > 5)
		return socks_reply(h);
	if (h->in[0] != 5)
		return fail(h, ERR_PROTOCOL, "it does not speak SOCKS5");
	if (h->in[1] != 0)
		return socks_reply(h); /* some send no more than this */
	switch (h->in[3]) {
	case 1:
		h->want = 4 + 4 + 2;
		return 0;
	case 3:
		h->want = 5u + h->in[4] + 2;
		return 0;
	case 4:
		h->want = 4 + 16 + 2;
		return 0;
	default:
		return fail(h, ERR_PROTOCOL, "it does not speak SOCKS5");
	}
}

static void
socks_request(struct hop *h)
{
	uint8_t len = (uint8_t)strlen(h->host);
	uint16_t port = htons(h->port);
	union addr a;

	say(h, "\5\1", 3);
	if (addr_parse_ip(slice_from(h->host), 0, &a) != 0) {
		say(h, "\3", 1);
		say(h, &len, 1);
		say(h, h->host, len);
	} else if (a.sa.sa_family == AF_INET) {
		say(h, "\1", 1);
		say(h, &a.in.sin_addr, 4);
	} else {
		say(h, "\4", 1);
		say(h, &a.in6.sin6_addr, 16);
	}
	say(h, &port, 2);
	h->got = 0;
	h->want = 5;
	h->take = socks_answer;
}

/* RFC 1929: version 1, 0 for success. */
static int
socks_allowed(struct hop *h, uint8_t c)
{
	if (!collect(h, c))
		return 0;
	if (h->in[1] != 0)
		return fail(h, ERR_DENIED, "wrong user or password");
	socks_request(h);
	return 0;
}

static int
socks_login(struct hop *h)
{
	uint8_t user = (uint8_t)strlen(h->proxy->user);
	uint8_t password = (uint8_t)strlen(h->proxy->password);

	say(h, "\1", 1);
	say(h, &user, 1);
	say(h, h->proxy->user, user);
	say(h, &password, 1);
	say(h, h->proxy->password, password);
	h->got = 0;
	h->take = socks_allowed;
	return 0;
}

/* RFC 1928 3: the method it chose. */
static int
socks_method(struct hop *h, uint8_t c)
{
	if (!collect(h, c))
		return 0;
	if (h->in[0] != 5)
		return fail(h, ERR_PROTOCOL, "it does not speak SOCKS5");
	if (h->in[1] == 2 && h->proxy->user[0] != '\0')
		return socks_login(h);
	if (h->in[1] != 0)
		return fail(h, ERR_DENIED, "it wants credentials");
	socks_request(h);
	return 0;
}

static void
socks_begin(struct hop *h)
{
	if (h->proxy->user[0] != '\0')
		say(h, "\5\2\0\2", 4);
	else
		say(h, "\5\1", 3);
	h->want = 2;
	h->take = socks_method;
}

/* -------------------------------------------------------------------------- */

int
hop_init(struct hop *h, const struct dial_proxy *proxy, const char *host,
    uint16_t port)
{
	memset(h, 0, sizeof(*h));
	h->proxy = proxy;
	h->host = host;
	h->port = port;
	if (proxy->kind == DIAL_HTTP)
		http_begin(h);
	else
		socks_begin(h);
	return h->out_len > HOP_OUT ? ERR_TOO_BIG : 0;
}

int
hop_feed(struct hop *h, struct slice s, size_t *used)
{
	int result = 0;

	for (*used = 0; *used < s.len && result == 0;)
		result = h->take(h, s.ptr[(*used)++]);
	return result;
}
