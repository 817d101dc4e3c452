#include <stdio.h>

#include "base/err.h"

#include "agent/probe.h"

/* Cut the next word of blanks and tabs; false at the end. */
static bool
word(struct slice *rest, struct slice *out)
{
	*rest = slice_trim(*rest);
	if (rest->len == 0)
		return false;
	size_t n = 0;
	while (n < rest->len && rest->ptr[n] != ' ' && rest->ptr[n] != '\t' &&
	    rest->ptr[n] != '\n')
		n++;
	*out = slice_first(*rest, n);
	*rest = slice_from_at(*rest, n);
	return n > 0;
}

static bool
number(struct slice *rest, uint64_t *out)
{
	struct slice w;

	return word(rest, &w) && slice_u64(w, UINT64_MAX, out) == 0;
}

int
probe_parse_stat(struct slice text, uint64_t *busy, uint64_t *total)
{
	enum { IDLE = 3, IOWAIT = 4, STEAL = 7 };
	uint64_t n, sum = 0, idle = 0;
	struct slice line, w;
	int i = 0;

	if (!slice_split(&text, '\n', &line) || !word(&line, &w) ||
	    !slice_eq(w, SL("cpu")))
		return ERR_INVALID;
	/* What follows steal is guest time, counted in user and nice. */
	for (; i <= STEAL && number(&line, &n); i++) {
		sum += n;
		if (i == IDLE || i == IOWAIT)
			idle += n;
	}
	if (i <= IDLE)
		return ERR_INVALID;
	*busy = sum - idle;
	*total = sum;
	return 0;
}

/* The number behind "Name:" in kB, as bytes. */
static bool
mem_line(struct slice line, struct slice name, uint64_t *out)
{
	uint64_t kb;

	if (!slice_starts(line, name))
		return false;
	line = slice_from_at(line, name.len);
	if (!number(&line, &kb) || kb > UINT64_MAX / 1024)
		return false;
	*out = kb * 1024;
	return true;
}

int
probe_parse_meminfo(struct slice text, uint64_t *total, uint64_t *used)
{
	uint64_t all = 0, available = 0, spare = 0, n;
	bool have_all = false, have_available = false;
	struct slice line;

	while (slice_split(&text, '\n', &line)) {
		if (mem_line(line, SL("MemTotal:"), &all))
			have_all = true;
		else if (mem_line(line, SL("MemAvailable:"), &available))
			have_available = true;
		else if (mem_line(line, SL("MemFree:"), &n) ||
		    mem_line(line, SL("Buffers:"), &n) ||
		    mem_line(line, SL("Cached:"), &n))
			spare += n;
	}
	if (!have_all || all == 0)
		return ERR_INVALID;
	/* Kernels before 3.14, and some containers, do not say. */
	if (!have_available)
		available = spare;
	*total = all;
	*used = available < all ? all - available : 0;
	return 0;
}

/* "1.25" and its like; no exponent, no sign. */
static bool
decimal(struct slice s, double *out)
{
	size_t dot = slice_find(s, '.');
	struct slice part = slice_from_at(s, dot + 1);
	uint64_t whole, fraction = 0;
	double scale = 1;

	if (slice_u64(slice_first(s, dot), UINT32_MAX, &whole) != 0 ||
	    part.len > 9 ||
	    (dot < s.len && slice_u64(part, UINT32_MAX, &fraction) != 0))
		return false;
	for (size_t i = 0; i < part.len; i++)
		scale *= 10;
	*out = (double)whole + (double)fraction / scale;
	return true;
}

int
probe_parse_loadavg(struct slice text, double load[3])
{
	double got[3];
	struct slice w;

	for (int i = 0; i < 3; i++)
		if (!word(&text, &w) || !decimal(w, &got[i]))
			return ERR_INVALID;
	memcpy(load, got, sizeof(got));
	return 0;
}

/* A bridge's, tunnel's or pod's bytes pass a real interface as well. */
static bool
counts(struct slice name)
{
	static const char *const behind[] = { "veth", "docker", "br-", "cni",
		"cali", "flannel", "virbr", "tun", "tap", "wg", "bond", "team",
		"vlan", "kube-", "dummy", "ifb" };

	if (slice_eq(name, SL("lo")))
		return false;
	for (size_t i = 0; i < sizeof(behind) / sizeof(behind[0]); i++)
		if (slice_starts(name, slice_from(behind[i])))
			return false;
	return slice_find(name, '.') == name.len;
}

int
probe_parse_netdev(struct slice text, uint64_t *in, uint64_t *out)
{
	enum { RECEIVED = 0, SENT = 8 };
	uint64_t n, sum[2] = { 0, 0 };
	struct slice line;

	for (int i = 0; slice_split(&text, '\n', &line); i++) {
		size_t colon = slice_find(line, ':');
		/* Two lines of headings. */
		if (i < 2 || colon == line.len)
			continue;
		struct slice rest = slice_from_at(line, colon + 1);
		bool real = counts(slice_trim(slice_first(line, colon)));
		for (int k = 0; k <= SENT; k++) {
			if (!number(&rest, &n))
				return ERR_INVALID;
			if (real && (k == RECEIVED || k == SENT))
				sum[k / SENT] += n;
		}
	}
	*in = sum[0];
	*out = sum[1];
	return 0;
}

int
probe_parse_cpu_max(struct slice text, double *cores)
{
	uint64_t quota, period;
	struct slice w;

	if (!word(&text, &w))
		return ERR_INVALID;
	if (slice_eq(w, SL("max")))
		return ERR_NOT_FOUND;
	if (slice_u64(w, UINT32_MAX, &quota) != 0 || !number(&text, &period) ||
	    period == 0)
		return ERR_INVALID;
	*cores = (double)quota / (double)period;
	return 0;
}

int
probe_parse_bytes(struct slice text, uint64_t *out)
{
	struct slice w;

	if (!word(&text, &w))
		return ERR_INVALID;
	if (slice_eq(w, SL("max")))
		return ERR_NOT_FOUND;
	return slice_u64(w, UINT64_MAX, out);
}

void
probe_parse_release(struct slice text, const char *key, char *out, size_t size)
{
	struct slice line, value = SL(""), name = slice_from(key);

	while (slice_split(&text, '\n', &line))
		if (slice_starts(line, name) && line.len > name.len &&
		    line.ptr[name.len] == '=')
			value = slice_trim(slice_from_at(line, name.len + 1));
	if (value.len >= 2 && (value.ptr[0] == '"' || value.ptr[0] == '\'') &&
	    value.ptr[value.len - 1] == value.ptr[0])
		value = slice_from_at(slice_first(value, value.len - 1), 1);
	(void)snprintf(out, size, "%.*s", SLICE_FMT(value));
}

const char *
probe_cloud(struct slice vendor, struct slice product, struct slice tag)
{
	static const struct {
		const char *vendor, *name;
	} clouds[] = {
		{ "Amazon", "aws" },
		{ "Google", "gcp" },
		{ "Hetzner", "hetzner" },
		{ "DigitalOcean", "digitalocean" },
		{ "Scaleway", "scaleway" },
		{ "Vultr", "vultr" },
		{ "Akamai", "linode" },
		{ "Linode", "linode" },
		{ "OVH", "ovh" },
		{ "Alibaba", "alibaba" },
		{ "OracleCloud", "oracle" },
		{ "OpenStack", "openstack" },
	};

	/* Microsoft makes laptops too; only Azure bears this tag. */
	if (slice_starts(tag, SL("7783-7084-3265-9085-8269-3286-77")))
		return "azure";
	for (size_t i = 0; i < sizeof(clouds) / sizeof(clouds[0]); i++) {
		struct slice s = slice_from(clouds[i].vendor);
		if (slice_starts(vendor, s) || slice_starts(product, s) ||
		    slice_starts(tag, s))
			return clouds[i].name;
	}
	return "";
}
