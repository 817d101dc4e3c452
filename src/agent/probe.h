/*
 * probe: what this host is, and how it is doing (agent).
 *
 * Facts are gathered once at start; a sample is five small reads of /proc and
 * a statvfs, without allocation.  The parsers are pure and take texts.
 * Inside a container the limits of its cgroup (version 2) count, where they
 * are below the machine's.
 */
#ifndef AGENT_PROBE_H
#define AGENT_PROBE_H

#include "base/heap.h"
#include "base/slice.h"

enum { PROBE_TEXT = 128 };

struct probe_facts {
	char hostname[PROBE_TEXT];
	char os[PROBE_TEXT];     /* PRETTY_NAME of os-release */
	char kernel[PROBE_TEXT]; /* release, as uname -r */
	char arch[PROBE_TEXT];
	char address[64]; /* that a packet outward would carry; "" */
	char machine_id[40], boot_id[40];
	char cloud[16], region[PROBE_TEXT]; /* "aws"...; "" */
	char k8s_namespace[PROBE_TEXT];     /* the four are "" outside a pod */
	char k8s_pod[PROBE_TEXT], k8s_node[PROBE_TEXT];
	char k8s_api[PROBE_TEXT]; /* host:port */
	double cpu_cores;         /* fractional under a quota */
	uint64_t memory_bytes, disk_bytes;
};

/* Monotone counters and gauges, as read. */
struct probe_sample {
	msec at;
	uint64_t cpu_busy, cpu_total; /* ticks since boot */
	uint64_t memory_total, memory_used;
	uint64_t disk_total, disk_used;
	uint64_t net_in, net_out; /* bytes, without loopback */
	double load[3];
};

struct probe_metrics {
	double cpu_percent, memory_percent, disk_percent; /* 0 to 100 */
	double load[3];
	double net_in, net_out; /* bytes a second */
};

/* disk: the path whose file system is meant, "/" as a rule.  What cannot be
 * learnt is empty or 0. */
void probe_facts(struct probe_facts *out, const char *disk);

/* 0 or ERR_IO: /proc is not there. */
int probe_sample(struct probe_sample *out, msec now, const char *disk);

/* From two samples; rates are 0 when no time lies between, or a counter went
 * back. */
struct probe_metrics probe_between(
    const struct probe_sample *then, const struct probe_sample *now);

/* Parsers: 0 or ERR_INVALID, *out untouched. */

/* "cpu" line of /proc/stat; idle and iowait are not busy, and guest time is
 * within user time. */
int probe_parse_stat(struct slice text, uint64_t *busy, uint64_t *total);

/* Bytes of /proc/meminfo; used is what MemAvailable leaves. */
int probe_parse_meminfo(struct slice text, uint64_t *total, uint64_t *used);

int probe_parse_loadavg(struct slice text, double load[3]);

/* Sums of /proc/net/dev; not lo, and not what stands behind another. */
int probe_parse_netdev(struct slice text, uint64_t *in, uint64_t *out);

/* cpu.max of cgroup v2: cores, or ERR_NOT_FOUND for "max". */
int probe_parse_cpu_max(struct slice text, double *cores);

/* memory.max and memory.current; ERR_NOT_FOUND for "max". */
int probe_parse_bytes(struct slice text, uint64_t *out);

/* One value of os-release, unquoted; "" when it is not there. */
void probe_parse_release(
    struct slice text, const char *key, char *out, size_t size);

/* "aws", "gcp", "azure"... from DMI vendor, product and asset tag; "". */
const char *probe_cloud(
    struct slice vendor, struct slice product, struct slice tag);

#endif
