#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"

#include "agent/probe.h"

/* /proc/net/dev and meminfo of large machines; /proc/stat's first line. */
enum { PROBE_READ = 16 * 1024 };

/* The start of a file; absent when it cannot be read. */
static struct slice
slurp(const char *path, uint8_t *out, size_t room)
{
	size_t got = 0;
	ssize_t n = 1;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return (struct slice){ 0 };
	while (got < room && n > 0) {
		n = read(fd, out + got, room - got);
		if (n > 0)
			got += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
	}
	close(fd);
	return (struct slice){ out, got };
}

/* Its first line as text. */
static void
first_line(const char *path, char *out, size_t size)
{
	uint8_t text[PROBE_TEXT];
	struct slice line, rest = slurp(path, text, sizeof(text));

	if (!slice_split(&rest, '\n', &line))
		line = SL("");
	(void)snprintf(out, size, "%.*s", SLICE_FMT(slice_trim(line)));
}

static void
disk_sizes(const char *path, uint64_t *total, uint64_t *used)
{
	struct statvfs fs;

	if (statvfs(path, &fs) != 0)
		return;
	/* As df reckons: what only root may use belongs to neither. */
	*used = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
	*total = *used + (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* In a container the own cgroup is mounted as the root of the tree. */
static void
limit_memory(uint64_t *total, uint64_t *used)
{
	uint8_t text[64];
	uint64_t max, now;

	if (probe_parse_bytes(
		slurp("/sys/fs/cgroup/memory.max", text, sizeof(text)), &max) !=
		0 ||
	    max >= *total)
		return;
	*total = max;
	if (probe_parse_bytes(
		slurp("/sys/fs/cgroup/memory.current", text, sizeof(text)),
		&now) == 0)
		*used = now < max ? now : max;
}

static double
count_cores(void)
{
	uint8_t text[64];
	double cores = (double)sysconf(_SC_NPROCESSORS_ONLN), quota;

	if (probe_parse_cpu_max(
		slurp("/sys/fs/cgroup/cpu.max", text, sizeof(text)), &quota) ==
		0 &&
	    quota < cores)
		cores = quota;
	return cores;
}

/* Connecting a datagram socket sends nothing, but chooses a source. */
static bool
source_address(const struct sockaddr *to, socklen_t len, char *out, size_t size)
{
	struct sockaddr_storage own;
	socklen_t own_len = sizeof(own);
	bool ok = false;

	int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (connect(fd, to, len) == 0 &&
	    getsockname(fd, (struct sockaddr *)&own, &own_len) == 0)
		ok = own.ss_family == AF_INET
		    ? inet_ntop(AF_INET,
			  &((struct sockaddr_in *)&own)->sin_addr, out,
			  (socklen_t)size) != NULL
		    : inet_ntop(AF_INET6,
			  &((struct sockaddr_in6 *)&own)->sin6_addr, out,
			  (socklen_t)size) != NULL;
	close(fd);
	return ok;
}

/* Towards documentation addresses (RFC 5737, RFC 3849): nobody is asked. */
static void
find_address(struct probe_facts *f)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
		.sin6_port = htons(9) };

	(void)inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr);
	(void)inet_pton(AF_INET6, "2001:db8::1", &v6.sin6_addr);
	if (!source_address((struct sockaddr *)&v4, sizeof(v4), f->address,
		sizeof(f->address)) &&
	    !source_address((struct sockaddr *)&v6, sizeof(v6), f->address,
		sizeof(f->address)))
		f->address[0] = '\0';
}

static void
copy_env(const char *first, const char *second, char *out, size_t size)
{
	const char *v = getenv(first);

	if (v == NULL && second != NULL)
		v = getenv(second);
	(void)snprintf(out, size, "%s", v == NULL ? "" : v);
}

static void
find_pod(struct probe_facts *f)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");

	if (host == NULL || host[0] == '\0')
		return;
	(void)snprintf(f->k8s_api, sizeof(f->k8s_api), "%s:%s", host,
	    port == NULL ? "443" : port);
	first_line("/var/run/secrets/kubernetes.io/serviceaccount/namespace",
	    f->k8s_namespace, sizeof(f->k8s_namespace));
	if (f->k8s_namespace[0] == '\0')
		copy_env("POD_NAMESPACE", NULL, f->k8s_namespace,
		    sizeof(f->k8s_namespace));
	copy_env("POD_NAME", "HOSTNAME", f->k8s_pod, sizeof(f->k8s_pod));
	copy_env("NODE_NAME", NULL, f->k8s_node, sizeof(f->k8s_node));
}

static void
find_cloud(struct probe_facts *f)
{
	char vendor[PROBE_TEXT], product[PROBE_TEXT], tag[PROBE_TEXT];

	first_line("/sys/class/dmi/id/sys_vendor", vendor, sizeof(vendor));
	first_line("/sys/class/dmi/id/product_name", product, sizeof(product));
	first_line("/sys/class/dmi/id/chassis_asset_tag", tag, sizeof(tag));
	(void)snprintf(f->cloud, sizeof(f->cloud), "%s",
	    probe_cloud(
		slice_from(vendor), slice_from(product), slice_from(tag)));
	copy_env("AWS_REGION", "CLOUD_REGION", f->region, sizeof(f->region));
}

void
probe_facts(struct probe_facts *out, const char *disk)
{
	struct probe_facts f = { 0 };
	struct utsname name = { 0 };
	uint8_t text[4096];
	uint64_t used = 0;

	(void)uname(&name);
	(void)snprintf(f.hostname, sizeof(f.hostname), "%s", name.nodename);
	(void)snprintf(f.kernel, sizeof(f.kernel), "%s", name.release);
	(void)snprintf(f.arch, sizeof(f.arch), "%s", name.machine);
	probe_parse_release(slurp("/etc/os-release", text, sizeof(text)),
	    "PRETTY_NAME", f.os, sizeof(f.os));
	if (f.os[0] == '\0')
		(void)snprintf(f.os, sizeof(f.os), "%s", name.sysname);
	first_line("/etc/machine-id", f.machine_id, sizeof(f.machine_id));
	first_line(
	    "/proc/sys/kernel/random/boot_id", f.boot_id, sizeof(f.boot_id));
	find_address(&f);
	find_pod(&f);
	find_cloud(&f);
	f.cpu_cores = count_cores();
	(void)probe_parse_meminfo(
	    slurp("/proc/meminfo", text, sizeof(text)), &f.memory_bytes, &used);
	limit_memory(&f.memory_bytes, &used);
	disk_sizes(disk, &f.disk_bytes, &used);
	*out = f;
}

int
probe_sample(struct probe_sample *out, msec now, const char *disk)
{
	struct probe_sample s = { .at = now };
	uint8_t text[PROBE_READ];

	/* Its first line is all that counts: the rest grows with the cores. */
	if (probe_parse_stat(slurp("/proc/stat", text, 512), &s.cpu_busy,
		&s.cpu_total) != 0 ||
	    probe_parse_meminfo(slurp("/proc/meminfo", text, 4096),
		&s.memory_total, &s.memory_used) != 0 ||
	    probe_parse_loadavg(
		slurp("/proc/loadavg", text, sizeof(text)), s.load) != 0)
		return ERR_IO;
	limit_memory(&s.memory_total, &s.memory_used);
	/* A line that is cut off by room does not parse: then there is none. */
	(void)probe_parse_netdev(
	    slurp("/proc/self/net/dev", text, sizeof(text)), &s.net_in,
	    &s.net_out);
	disk_sizes(disk, &s.disk_total, &s.disk_used);
	*out = s;
	return 0;
}

static double
percent(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

static double
rate(uint64_t then, uint64_t now, msec took)
{
	return now < then || took <= 0
	    ? 0
	    : 1000.0 * (double)(now - then) / (double)took;
}

struct probe_metrics
probe_between(const struct probe_sample *then, const struct probe_sample *now)
{
	struct probe_metrics m = {
		.memory_percent = percent(now->memory_used, now->memory_total),
		.disk_percent = percent(now->disk_used, now->disk_total),
		.load = { now->load[0], now->load[1], now->load[2] },
		.net_in = rate(then->net_in, now->net_in, now->at - then->at),
		.net_out =
		    rate(then->net_out, now->net_out, now->at - then->at),
	};

	/* iowait, and so idle time, may step back a little. */
	if (now->cpu_total > then->cpu_total && now->cpu_busy >= then->cpu_busy)
		m.cpu_percent = percent(now->cpu_busy - then->cpu_busy,
		    now->cpu_total - then->cpu_total);
	if (m.cpu_percent > 100)
		m.cpu_percent = 100;
	return m;
}
