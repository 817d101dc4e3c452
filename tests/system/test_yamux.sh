#!/bin/sh
# test_yamux: our yamux against HashiCorp's, both roles: streams from both
# sides at once, echoes, half-closes, resets, transfers beyond any window,
# pings and go-aways.  Prints "ok" or "FAILED: why".
set -u
cd "$(dirname "$0")/../.."
B=build${VARIANT:+/$VARIANT}
peer=$B/helpers/yamux_peer
mkdir -p "$B"
dir=$(mktemp -d "$PWD/$B/yamux.XXXXXX")
go= log=$dir/go.out
finish() {
	[ -z "$go" ] || kill "$go" 2>/dev/null
	wait
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM
fail() {
	echo "FAILED: $*"
	cat "$dir"/*.err 2>/dev/null | grep -v 'Discarding\|frame for missing' | head -20
	exit 1
}

make -s VARIANT="${VARIANT:-}" "$peer" || fail "make $peer"
GOPATH=/usr/share/gocode GO111MODULE=off GOCACHE=$dir/cache GOFLAGS= \
    go build -o "$dir/gopeer" ./tests/system/yamux 2>"$dir/build.err" ||
    fail "go build"

# usage: run OUR-ROLE GO-ROLE STREAMS BYTES WINDOW
run() {
	: > "$log"
	"$dir/gopeer" "$2" "$3" "$4" "$5" > "$log" 2>"$dir/go.err" &
	go=$!
	# The port appears in the log; the program itself times out.
	until port=$(sed -n 's/^ready //p' "$log") && [ -n "$port" ]; do
		kill -0 "$go" 2>/dev/null || fail "go peer did not start"
		sleep 0.02
	done
	timeout 120 "$peer" "$1" "$port" "$3" "$4" 2>"$dir/c.err" ||
	    fail "$1, $3 streams of $4: our end"
	wait "$go" || { go=; fail "$1, $3 streams of $4: their end"; }
	go=
	grep -q '^ok' "$log" || fail "$1, $3 streams of $4: no ok"
	! grep 'ERR' "$dir/go.err" || fail "$1: the library complains"
}

run client server 1 10 262144
run server client 1 10 262144
run client server 60 600000 262144
run server client 60 600000 4194304
run client server 1000 20000 262144
run server client 1000 20000 4194304
echo ok
