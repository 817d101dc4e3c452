// The other end of the yamux interoperability test: HashiCorp's own library.
// See ../yamux_peer.c for what the streams do.
//
// usage: main client|server STREAMS BYTES WINDOW
// Prints "ready PORT", serves one connection, prints "ok".
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"io/ioutil"
	"math/rand"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

func die(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "go: "+format+"\n", args...)
	os.Exit(1)
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		die("%v", err)
	}
	return n
}

// What a stream that the other end opened asks for.
func serve(s net.Conn, done chan<- struct{}) {
	op := make([]byte, 1)
	if _, err := io.ReadFull(s, op); err == yamux.ErrConnectionReset {
		return // an X: the library drops what came before a reset
	} else if err != nil {
		die("op: %v", err)
	}
	switch op[0] {
	case 'E':
		if _, err := io.Copy(s, s); err != nil {
			die("echo: %v", err)
		}
	case 'S':
		h := fnv.New64a()
		if _, err := io.Copy(h, s); err != nil {
			die("sink: %v", err)
		}
		if err := binary.Write(s, binary.BigEndian, h.Sum64()); err != nil {
			die("hash: %v", err)
		}
	case 'X':
		if _, err := io.Copy(ioutil.Discard, s); err != yamux.ErrConnectionReset {
			die("want a reset, got %v", err)
		}
		return
	case 'D':
		close(done)
	default:
		die("op %d", op[0])
	}
	s.Close()
}

func accept(session *yamux.Session, done chan<- struct{}) {
	for {
		s, err := session.Accept()
		if err != nil {
			return
		}
		go serve(s, done)
	}
}

func data(i, size int) []byte {
	r := rand.New(rand.NewSource(int64(i)))
	b := make([]byte, size/2+r.Intn(size+1))
	r.Read(b)
	return b
}

// One stream of ours; all are open before any of them goes on.  This library
// cannot read after its own Close, so lengths are counted here; the other end
// tests half-closes.
func use(s net.Conn, i, size int, gate *sync.WaitGroup) {
	op := "ETER"[i%4]
	if _, err := s.Write([]byte{op}); err != nil {
		die("write: %v", err)
	}
	gate.Done()
	gate.Wait()
	if i == 0 {
		size += 24 << 20
	}
	b := data(i, size)
	if op == 'R' {
		if _, err := s.Read(b); err != yamux.ErrConnectionReset {
			die("want a reset, got %v", err)
		}
		return
	}
	wrote := make(chan struct{})
	go func() {
		if op == 'T' {
			binary.Write(s, binary.BigEndian, uint32(len(b)))
		}
		if _, err := s.Write(b); err != nil {
			die("write: %v", err)
		}
		close(wrote)
	}()
	back := make([]byte, 8)
	if op == 'E' {
		back = make([]byte, len(b))
	}
	if n, err := io.ReadFull(s, back); err != nil {
		die("read %d of %d: %v", n, len(back), err)
	}
	<-wrote
	if op == 'E' && !bytes.Equal(back, b) {
		die("wrong echo")
	}
	if op == 'T' {
		h := fnv.New64a()
		h.Write(b)
		if binary.BigEndian.Uint64(back) != h.Sum64() {
			die("wrong hash")
		}
		// The other end has said FIN by now, or will.
		if n, err := s.Read(back); n != 0 || err != io.EOF {
			die("want the end, got %d, %v", n, err)
		}
	}
	s.Close()
}

func open(session *yamux.Session) net.Conn {
	s, err := session.Open()
	if err != nil {
		die("open: %v", err)
	}
	return s
}

// Both said go-away; what is open still works, nothing new opens.
func goAway(session *yamux.Session) {
	if err := session.GoAway(); err != nil {
		die("go away: %v", err)
	}
	s := open(session)
	s.Write([]byte{'G'})
	answer := make([]byte, 1)
	if _, err := io.ReadFull(s, answer); err != nil || answer[0] != 'k' {
		die("answer %q: %v", answer, err)
	}
	// The ping's answer comes after the peer's go-away.
	if _, err := session.Ping(); err != nil {
		die("ping: %v", err)
	}
	if _, err := session.Open(); err != yamux.ErrRemoteGoAway {
		die("opened after go-away: %v", err)
	}
	s.Close()
}

func main() {
	if len(os.Args) != 5 {
		die("usage: main client|server STREAMS BYTES WINDOW")
	}
	streams, size := number(os.Args[2]), number(os.Args[3])
	time.AfterFunc(100*time.Second, func() { die("timeout") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		die("%v", err)
	}
	fmt.Printf("ready %d\n", l.Addr().(*net.TCPAddr).Port)
	conn, err := l.Accept()
	if err != nil {
		die("%v", err)
	}
	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = uint32(number(os.Args[4]))
	config.KeepAliveInterval = 200 * time.Millisecond
	config.ConnectionWriteTimeout = 60 * time.Second
	config.LogOutput = os.Stderr
	var session *yamux.Session
	if os.Args[1] == "client" {
		session, err = yamux.Client(conn, config)
	} else {
		session, err = yamux.Server(conn, config)
	}
	if err != nil {
		die("%v", err)
	}
	done := make(chan struct{})
	go accept(session, done)

	var gate, all sync.WaitGroup
	gate.Add(streams)
	all.Add(streams)
	for i := 0; i < streams; i++ {
		s := open(session)
		go func(i int) {
			use(s, i, size, &gate)
			all.Done()
		}(i)
	}
	if _, err := session.Ping(); err != nil {
		die("ping: %v", err)
	}
	all.Wait()
	s := open(session)
	s.Write([]byte{'D'})
	s.Close()
	<-done
	goAway(session)
	session.Close()
	fmt.Println("ok")
}
