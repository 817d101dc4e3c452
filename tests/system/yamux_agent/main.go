// An agent of another program's that agrees on yamux when it is offered:
// gorilla/websocket, HashiCorp's yamux as the client, streams with the
// version-1 header.  What it sees it prints, one JSON line each.
// usage: yamux_agent WS-URL TOKEN AGENT-ID agree|decline|binary SERVICE.NAMESPACE:PORT=ADDRESS...
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
)

type message struct {
	Type      string                 `json:"type"`
	RequestID string                 `json:"request_id,omitempty"`
	Payload   map[string]interface{} `json:"payload"`
	Timestamp time.Time              `json:"timestamp"`
}

var printing sync.Mutex

func say(what string, more interface{}) {
	line, _ := json.Marshal(map[string]interface{}{"what": what, "more": more})
	printing.Lock()
	fmt.Println(string(line))
	printing.Unlock()
}

func fatal(err error) {
	say("error", err.Error())
	os.Exit(1)
}

// link is what yamux runs over: binary messages out, a pipe in.
type link struct {
	ws      *websocket.Conn
	writing sync.Mutex
	in      *io.PipeReader
	feed    *io.PipeWriter
}

func (l *link) Read(p []byte) (int, error) { return l.in.Read(p) }
func (l *link) Close() error               { return l.in.Close() }

func (l *link) Write(p []byte) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	return len(p), l.ws.WriteMessage(websocket.BinaryMessage, p)
}

func (l *link) say(kind, id string, payload map[string]interface{}) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.ws.WriteJSON(message{kind, id, payload, time.Now()}); err != nil {
		fatal(err)
	}
}

func text(s io.Reader) (string, error) {
	var n uint16
	if err := binary.Read(s, binary.BigEndian, &n); err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err := io.ReadFull(s, b)
	return string(b), err
}

func serve(s net.Conn, services map[string]string) {
	defer s.Close()
	head := struct {
		Version, Proto uint8
		Port           uint16
	}{}
	if binary.Read(s, binary.BigEndian, &head) != nil || head.Version != 1 {
		say("bad_header", head)
		return
	}
	service, _ := text(s)
	namespace, _ := text(s)
	id, err := text(s)
	say("stream", map[string]interface{}{"proto": head.Proto, "port": head.Port,
		"service": service, "namespace": namespace, "tunnel_id": id})
	to := services[service+"."+namespace+":"+strconv.Itoa(int(head.Port))]
	if err != nil || to == "" || head.Proto != 1 {
		return
	}
	c, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer c.Close()
	done := make(chan bool)
	go func() {
		io.Copy(c, s)
		c.(*net.TCPConn).CloseWrite()
		done <- true
	}()
	io.Copy(s, c)
	s.Close()
	<-done
}

func start(l *link, services map[string]string) {
	config := yamux.DefaultConfig()
	config.LogOutput = os.Stderr
	session, err := yamux.Client(l, config)
	if err != nil {
		fatal(err)
	}
	for {
		s, err := session.Accept()
		if err != nil {
			return
		}
		go serve(s, services)
	}
}

func main() {
	services := map[string]string{}
	for _, word := range os.Args[5:] {
		parts := strings.SplitN(word, "=", 2)
		services[parts[0]] = parts[1]
	}
	ws, _, err := websocket.DefaultDialer.Dial(
		os.Args[1]+"/api/v1/clusters/agent/ws?token="+os.Args[2], nil)
	if err != nil {
		fatal(err)
	}
	in, feed := io.Pipe()
	l := &link{ws: ws, in: in, feed: feed}
	l.say("register", "req_1", map[string]interface{}{
		"agent_id": os.Args[3], "name": os.Args[3],
		"features": map[string]bool{"supports_streaming": true,
			"supports_websocket_proxy": true, "supports_gateway": true,
			"supports_response_streaming": true}})
	for {
		kind, data, err := ws.ReadMessage()
		if e, ok := err.(*websocket.CloseError); ok {
			say("close", e.Code)
			return
		} else if err != nil {
			fatal(err)
		}
		if kind == websocket.BinaryMessage {
			if os.Args[4] == "agree" {
				feed.Write(data)
			}
			continue
		}
		var m message
		if err := json.Unmarshal(data, &m); err != nil {
			fatal(err)
		}
		say(m.Type, m.Payload)
		if m.Type != "gateway_hello" {
			continue
		}
		// Numbers, or they are not read.
		for _, name := range []string{"max_stream_window_size",
			"keep_alive_interval_seconds", "connection_timeout_seconds"} {
			if _, ok := m.Payload["yamux_config"].(map[string]interface{})[name].(float64); !ok {
				fatal(fmt.Errorf("%s is no number", name))
			}
		}
		l.say("gateway_hello_ack", "", map[string]interface{}{"use_yamux": os.Args[4] != "decline"})
		if os.Args[4] == "agree" {
			go start(l, services)
		} else if os.Args[4] == "binary" {
			l.Write([]byte("\x00\x05prx_x\x00\x00\x00\xc8\x00\x00\x00\x02{}late"))
		}
	}
}
