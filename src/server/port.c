#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/addr.h"
#include "io/listen.h"
#include "io/log.h"

#include "server/port.h"

static int
fail(struct dock *d, const struct port_conf *conf, const char *why)
{
	snprintf(d->why, sizeof(d->why), "port \"%.*s\": %.*s: %s",
	    SLICE_FMT(conf->name), SLICE_FMT(conf->listen), why);
	return ERR_INVALID;
}

/* On each lane, at the address that the first has got. */
static int
open_tcp(struct port *p, union addr *at)
{
	struct dock *d = p->dock;
	const struct dock *first = d->server->docks;
	struct listen_config c = { .address = *at,
		.reuse_port = d->server->dock_count > 1 };
	char why[LISTEN_WHY] = "";

	if (d != first)
		c.address = *listener_address(first->ports[p->index].listener);
	else if (c.reuse_port && !listen_is_free(&c.address))
		return fail(d, p->conf, "the address is in use");
	if (listener_open(
		d->lane.loop, &c, port_accept, p, &p->listener, why) != 0)
		return fail(d, p->conf, why);
	listener_pause(p->listener, true);
	*at = *listener_address(p->listener);
	return 0;
}

static int
open_one(struct port *p)
{
	struct dock *d = p->dock;
	char text[ADDR_TEXT];
	union addr at;
	int err;

	if (addr_parse(p->conf->listen, &at) != 0)
		return fail(d, p->conf, "no address");
	if (p->conf->proto == TUNNEL_TCP) {
		err = open_tcp(p, &at);
	} else if (d == d->server->docks) {
		err = port_open_udp(p, &at);
		if (err != 0)
			return fail(d, p->conf, err_name(err));
	} else {
		return 0;
	}
	if (err != 0 || d != d->server->docks)
		return err;
	addr_format(&at.sa, text);
	log_info("port_listens", kv_s("port", p->conf->name),
	    kv_c("address", text), kv_s("protocol", p->conf->protocol),
	    kv_s("agent", p->conf->agent), kv_s("to", p->conf->to));
	return 0;
}

int
ports_open(struct dock *d)
{
	const struct settings *s = &d->server->settings;
	int err = 0;

	if (s->port_count == 0)
		return 0;
	d->ports = alloc_array(s->port_count, sizeof(*d->ports));
	if (d->ports == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; err == 0 && i < s->port_count; i++) {
		d->ports[i] = (struct port){
			.dock = d, .conf = &s->ports[i], .index = i
		};
		err = open_one(&d->ports[i]);
		d->port_count = i + 1;
	}
	return err;
}

void
ports_start(struct dock *d)
{
	for (size_t i = 0; i < d->port_count; i++)
		if (d->ports[i].listener != NULL)
			listener_pause(d->ports[i].listener, false);
}

void
ports_stop(struct dock *d)
{
	for (size_t i = 0; i < d->port_count; i++)
		if (d->ports[i].listener != NULL)
			listener_close(d->ports[i].listener);
	d->port_count = 0;
}

void
ports_end(struct dock *d)
{
	ports_stop(d);
	alloc_free(d->ports);
	d->ports = NULL;
}
