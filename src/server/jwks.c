#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/url.h"

#include "model/cidr.h"

#include "io/addr.h"
#include "io/log.h"

#include "server/jwks.h"

enum {
	EVERY = 600000,
	LOOK = 5000,   /* for tokens of unknown keys */
	LEAST = 30000, /* between two fetches */
	FETCH_MS = 10000,
};

struct jwks {
	struct loop *loop;
	struct keyring *keys;
	char *url; /* owned */
	bool loopback;
	struct loop_timer timer;
	struct loop_work work;
	msec fetched_at;
	bool working;
	bool stopped; /* freed when the work is done */
	/* Of the fetch under way. */
	struct buf body;
	int err;
	long status;
};

static bool
names_loopback(const struct url *u)
{
	union addr a;

	return slice_eq_nocase(u->at.name, SL("localhost")) ||
	    (addr_parse_ip(u->at.name, 0, &a) == 0 && addr_is_loopback(&a.sa));
}

int
jwks_check_url(struct slice url)
{
	struct url u;

	if (url_parse(url, &u) != 0 || u.websocket)
		return ERR_INVALID;
	return u.tls || names_loopback(&u) ? 0 : ERR_INVALID;
}

/* On the pool's thread ----------------------------------------------------- */

static size_t
gather(char *bytes, size_t size, size_t count, void *arg)
{
	struct jwks *j = arg;

	buf_put(&j->body, (struct slice){ (uint8_t *)bytes, size * count });
	return j->body.err == 0 ? size * count : 0;
}

/* The address that is about to be asked, whatever name led there. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	const struct jwks *j = arg;
	union addr addr = { .in6 = { 0 } };
	struct address a;
	char text[ADDR_TEXT];

	(void)purpose;
	if (to->addrlen > sizeof(addr))
		return CURL_SOCKET_BAD;
	memcpy(&addr, &to->addr, to->addrlen);
	addr_format_ip(&addr.sa, text);
	if (address_parse(slice_from(text), &a) != 0 ||
	    address_is_refused(&a) || (address_is_loopback(&a) && !j->loopback))
		return CURL_SOCKET_BAD;
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static void
fetch(struct loop_work *work)
{
	struct jwks *j = LIST_OF(work, struct jwks, work);
	CURL *curl = curl_easy_init();

	j->err = ERR_NOMEM;
	j->status = 0;
	if (curl == NULL)
		return;
	curl_easy_setopt(curl, CURLOPT_URL, j->url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)FETCH_MS);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "musterd/" MUSTER_VERSION);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, j);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, gather);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, j);
	j->err = curl_easy_perform(curl) == CURLE_OK ? 0 : ERR_UNREACHABLE;
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &j->status);
	curl_easy_cleanup(curl);
	if (j->err == 0 && j->status != 200)
		j->err = ERR_REFUSED;
}

/* On the loop -------------------------------------------------------------- */

static void
free_jwks(struct jwks *j)
{
	buf_fini(&j->body);
	alloc_free(j->url);
	alloc_free(j);
}

static void
done(struct loop_work *work)
{
	struct jwks *j = LIST_OF(work, struct jwks, work);

	j->working = false;
	if (j->stopped) {
		free_jwks(j);
		return;
	}
	if (j->err == 0)
		j->err = keyring_fetched(j->keys, buf_peek(&j->body));
	if (j->err != 0)
		log_warn("jwks_not_fetched", kv_e("err", j->err),
		    kv_i("status", j->status));
	else
		log_info("jwks_fetched", kv_u("bytes", buf_peek(&j->body).len));
}

static void
begin(struct jwks *j)
{
	j->fetched_at = loop_now(j->loop);
	buf_clear(&j->body);
	j->working = loop_work(j->loop, &j->work) == 0;
}

static void
look(struct loop_timer *t)
{
	struct jwks *j = LIST_OF(t, struct jwks, timer);
	msec age = loop_now(j->loop) - j->fetched_at;

	if (!j->working && age >= LEAST &&
	    (age >= EVERY || keyring_wants_fetch(j->keys)))
		begin(j);
	loop_timer_set(j->loop, t, loop_now(j->loop) + LOOK, look);
}

struct jwks *
jwks_start(struct loop *loop, struct keyring *keys, struct slice url)
{
	struct jwks *j = alloc_new(sizeof(*j));
	struct url u;

	if (j == NULL)
		return NULL;
	j->loop = loop;
	j->keys = keys;
	j->url = alloc_new(url.len + 1);
	j->work.work = fetch;
	j->work.done = done;
	buf_init(&j->body, JWK_TEXT);
	if (j->url == NULL ||
	    loop_timer_set(loop, &j->timer, loop_now(loop) + LOOK, look) != 0) {
		free_jwks(j);
		return NULL;
	}
	memcpy(j->url, url.ptr, url.len);
	j->loopback = url_parse(url, &u) == 0 && names_loopback(&u);
	begin(j);
	return j;
}

void
jwks_stop(struct jwks *j)
{
	if (j == NULL)
		return;
	loop_timer_stop(j->loop, &j->timer);
	j->stopped = true;
	/* loop_fini waits for the work, and done frees. */
	if (!j->working)
		free_jwks(j);
}
