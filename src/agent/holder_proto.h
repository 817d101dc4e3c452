/*
 * holder_proto: what agent and holder say, and what lies on disk (agent).
 *
 * Version 1.  A reader refuses a higher one with a sentence.
 *
 * Sockets.  A holder waits idle on fd 0, a unix stream socket, for one ORDER;
 * that socket then is its first control connection.  Others connect to
 * cmd/<id>/ctl (same user or root; CONNS at a time, the oldest gives way).
 * Frame: u32 length of body, u8 type, body; integers are big-endian.
 * "text" is a run of NUL-terminated "key=value".
 *
 *   to the holder
 *     O order     text, keys below; only as the first frame on fd 0
 *     I input     u64 offset, bytes: at most to consumed + INPUT_WINDOW;
 *                 what was received before is skipped, a hole is refused
 *     E input end u64 offset of the end
 *     A ack       u8 stream (0 out, 1 err), u64 offset stored elsewhere
 *     S signal    u8: 1 interrupt 2 terminate 3 kill 4 stop
 *     H hold      u8: 1 stop reading the pipes (full=drop: drop), 0 go on
 *     R read      u64 out, u64 err already read: arms one GREW
 *   from the holder
 *     V refused   text: reason (exists stopped version order io), error
 *     T status    text: version id state (running done) pid out err ended
 *                 (as GREW's flags) out_acked err_acked input_received
 *                 input_consumed input_closed dead (1: no process is left)
 * lingering killed stop_ms pids left (as in the exit file); when a connection
 * opens (on fd 0: when the command runs), and when a stop is done G grew u64
 * out, u64 err, u8 flags (1 out ended, 2 err ended, 4 out waits for acks, 8 err
 * waits); at most one per R C consumed  u64 received, u64 consumed, u8 closed
 *     X exit      the bytes of the exit file; on a later connection after T
 * A frame that breaks these rules ends its connection, never the command.
 *
 * Order keys: muster-order (version, first), state, id, seq, epoch, arg*,
 * env* ("NAME=value", the whole environment), cwd, uid, gid, groups (1,2,3),
 * stop (path of a file), stdin (0 1), timeout_ms (0 none), cap (bytes that both
 * streams may be ahead of their acks), full (wait drop), linger (kill keep),
 * cgroup (writable v2 directory), int_ms, term_ms (steps of an interrupt),
 * drain_ms.  Unknown keys: refused.
 *
 * Interrupt: SIGINT to the tree, SIGTERM int_ms later, SIGKILL term_ms after
 * that.  terminate starts at its second step, kill and stop at its third and
 * hold on until no process is left.  A timeout is an interrupt whose record
 * says timeout.
 *
 * Disk, below the state directory; all modes 0600 and 0700:
 *   stop             text file: "muster-stop 1", epoch, stopped (0 1),
 *                    keep_tunnels (0 1), at_ms (wall), mac, scope, reason,
 *                    check; absent = epoch 0, running.  A holder does not
 *                    start what it was ordered to when this says stopped,
 *                    has an epoch above the order's, or cannot be read.  Nor
 *                    does it beside a file STOP, or when the order's stop is
 *                    there.
 *   cmd/<id>/claim   mkdir decides who runs <id>; the holder keeps an flock
 *                    on this file as long as it lives.  Text file: "muster-
 *                    claim 1", id, seq, epoch, start_ms (wall), holder (pid),
 *                    argv (FNV-1a of the words with their NULs), check; then,
 *                    unchecked and unsynced, pid of the command.
 *   cmd/<id>/out err spools: byte strings from offset 0; what is acknowledged
 *                    is punched out but for the last MiB.  Absent = empty.
 *   cmd/<id>/gaps    only with full=drop: lines of GAP_LINE bytes, "out" or
 *                    "err", offset, length of what was dropped: a hole in
 *                    the spool, whose offsets count it
 *   cmd/<id>/exit    text file: "muster-exit 1", id, seq, outcome (exited
 *                    signaled failed refused unknown), code, signal, reason
 *                    (none interrupt terminate timeout kill stop), stage and
 *                    error (failed: what was tried, an errno name; refused:
 *                    why), start_ms, end_ms (wall), took_ms (monotonic), out,
 *                    err (final offsets), out_gap, err_gap (bytes dropped),
 *                    killed, lingering (processes), user_us, system_us,
 *                    max_rss_kb, stop_ms (from the order to stop to the last
 *                    death), pids (killed), left (which outlived it), check;
 *                    at most NAMES of each, with commas between
 *   cmd/<id>/ctl     the control socket
 * A text file is a heading and "key=value" lines; check is the FNV-1a of all
 * bytes before it, in 16 hex digits.  One whose check fails is torn and counts
 * as absent: that makes a write atomic without a rename.
 *
 * Commits: one fsync of claim before exec, one of exit at the end, each
 * carrying its new directory entries (ext4, xfs, btrfs, f2fs, zfs and
 * overlays of them log those in order; elsewhere the two directories are
 * fsynced too).  Spools: fdatasync a second or a MiB after a write, by a
 * thread, and at the end if any bytes are not yet synced.
 *
 * After a restart the agent decides from the claim alone: directory absent,
 * may start; flock busy, attach; free and exit valid, done; else the agent
 * takes the flock itself and writes outcome=unknown.
 */
#ifndef AGENT_HOLDER_PROTO_H
#define AGENT_HOLDER_PROTO_H

#include <stddef.h>
#include <stdint.h>

enum {
	HOLDER_VERSION = 1,
	HOLDER_HEAD = 5,                   /* bytes before a frame's body */
	HOLDER_FRAME_MAX = 64 * 1024 + 16, /* of a body, but ORDER's */
	HOLDER_ORDER_MAX = 2 * 1024 * 1024,
	HOLDER_INPUT_WINDOW = 64 * 1024,
	HOLDER_TEXT_MAX = 2048, /* claim, exit, status */
	HOLDER_CONNS = 4,
	HOLDER_KEEP = 1024 * 1024, /* acknowledged bytes kept in a spool */
	HOLDER_GAP_LINE = 46,   /* "out", two of 20 digits, blanks, newline */
	HOLDER_ID_MAX = 64,     /* of [A-Za-z0-9_-] */
	HOLDER_NAMES = 64,      /* processes named in a text */
	HOLDER_STOP_MAX = 4096, /* the state file of a stop */
};

enum holder_signal {
	HOLDER_INTERRUPT = 1,
	HOLDER_TERMINATE = 2,
	HOLDER_KILL = 3,
	HOLDER_STOP = 4,
};

enum holder_grew {
	HOLDER_OUT_ENDED = 1,
	HOLDER_ERR_ENDED = 2,
	HOLDER_OUT_WAITS = 4,
	HOLDER_ERR_WAITS = 8,
};

static inline void
holder_put(uint8_t *to, uint64_t n, size_t bytes)
{
	for (size_t i = bytes; i-- > 0; n >>= 8)
		to[i] = (uint8_t)n;
}

static inline uint64_t
holder_get(const uint8_t *from, size_t bytes)
{
	uint64_t n = 0;

	for (size_t i = 0; i < bytes; i++)
		n = n << 8 | from[i];
	return n;
}

#define HOLDER_FNV UINT64_C(0xcbf29ce484222325)

static inline uint64_t
holder_fnv(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

#endif
