// An agent of another program's as those of early 2026 are, with their
// habits: each WebSocket message is handed to a goroutine of its own, goes
// through a channel of 100 and is dropped when that is full; gorilla dials the
// service with the headers as they came; a service that closes is not told of;
// answers from 10 KiB on are binary messages, packed without a word.
// usage: proxy_agent WS-URL TOKEN AGENT-ID SERVICE.NAMESPACE:PORT=ADDRESS...
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/ioutil"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

type message struct {
	Type      string                 `json:"type"`
	RequestID string                 `json:"request_id,omitempty"`
	Payload   map[string]interface{} `json:"payload"`
	Timestamp time.Time              `json:"timestamp"`
}

var (
	link     *websocket.Conn
	writing  sync.Mutex
	services = map[string]string{}
	streams  sync.Map // request id: chan []byte
)

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func say(kind, id string, payload map[string]interface{}) {
	writing.Lock()
	defer writing.Unlock()
	if err := link.WriteJSON(message{kind, id, payload, time.Now()}); err != nil {
		fatal(err)
	}
}

func fail(id string, err error) {
	say("proxy_error", id, map[string]interface{}{"error": err.Error()})
}

func headers(p map[string]interface{}) http.Header {
	h := http.Header{}
	for name, v := range p["headers"].(map[string]interface{}) {
		switch v := v.(type) {
		case string:
			h.Add(name, v)
		case []interface{}:
			for _, one := range v {
				h.Add(name, one.(string))
			}
		}
	}
	return h
}

func target(scheme string, p map[string]interface{}) string {
	at := services[fmt.Sprintf("%v.%v:%v", p["service_name"], p["namespace"], p["service_port"])]
	query, _ := p["query"].(string)
	return scheme + "://" + at + p["path"].(string) + "?" + query
}

// The service sees what the controller sent, and answers once.
func request(id string, p map[string]interface{}) {
	text, _ := p["body"].(string)
	body, _ := base64.StdEncoding.DecodeString(text)
	r, err := http.NewRequest(p["method"].(string), target("http", p), bytes.NewReader(body))
	if err != nil {
		fail(id, err)
		return
	}
	r.Header = headers(p)
	r.Host = r.Header.Get("Host")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		fail(id, err)
		return
	}
	body, err = ioutil.ReadAll(answer.Body)
	if err != nil {
		fail(id, err)
		return
	}
	if len(body) < 10*1024 {
		say("proxy_response", id, map[string]interface{}{"status": answer.StatusCode,
			"headers": answer.Header, "body": base64.StdEncoding.EncodeToString(body),
			"encoding": "base64"})
		return
	}
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/") {
		packed := &bytes.Buffer{}
		z := gzip.NewWriter(packed)
		z.Write(body)
		z.Close()
		body = packed.Bytes()
	}
	head, _ := json.Marshal(answer.Header)
	frame := &bytes.Buffer{}
	binary.Write(frame, binary.BigEndian, uint16(len(id)))
	frame.WriteString(id)
	binary.Write(frame, binary.BigEndian, uint32(answer.StatusCode))
	binary.Write(frame, binary.BigEndian, uint32(len(head)))
	frame.Write(head)
	frame.Write(body)
	writing.Lock()
	defer writing.Unlock()
	link.WriteMessage(websocket.BinaryMessage, frame.Bytes())
}

func open(id string, p map[string]interface{}) {
	h := headers(p)
	h.Del("Connection")
	h.Del("Upgrade")
	h.Del("Host")
	service, answer, err := websocket.DefaultDialer.Dial(target("ws", p), h)
	if err != nil {
		fail(id, fmt.Errorf("failed to connect to service WebSocket: %v", err))
		return
	}
	in := make(chan []byte, 100)
	streams.Store(id, in)
	say("proxy_response", id, map[string]interface{}{"status": 101, "headers": answer.Header})
	go func() {
		for data := range in {
			service.WriteMessage(int(data[0]), data[1:])
		}
		service.Close()
	}()
	for {
		kind, data, err := service.ReadMessage()
		if err != nil {
			return
		}
		framed := append([]byte{byte(kind)}, data...)
		say("proxy_websocket_data", id, map[string]interface{}{"request_id": id, "stream_id": id,
			"data": base64.StdEncoding.EncodeToString(framed), "message_type": kind})
	}
}

func deliver(id string, p map[string]interface{}) {
	data, err := base64.StdEncoding.DecodeString(p["data"].(string))
	in, ok := streams.Load(id)
	if err != nil || !ok {
		return
	}
	select {
	case in.(chan []byte) <- data:
	default:
		say("backpressure", id, map[string]interface{}{"request_id": id, "reason": "channel_full"})
	}
}

func main() {
	for _, word := range os.Args[4:] {
		parts := strings.SplitN(word, "=", 2)
		services[parts[0]] = parts[1]
	}
	var err error
	link, _, err = websocket.DefaultDialer.Dial(
		os.Args[1]+"/api/v1/clusters/agent/ws?token="+os.Args[2], nil)
	if err != nil {
		fatal(err)
	}
	say("register", "req_1", map[string]interface{}{"agent_id": os.Args[3], "name": os.Args[3],
		"features": map[string]bool{"supports_websocket_proxy": true}})
	for {
		var m message
		if err := link.ReadJSON(&m); err != nil {
			fatal(err)
		}
		switch m.Type {
		case "register_success":
			fmt.Println("registered")
		case "proxy_request":
			if m.Payload["is_websocket"] == true {
				go open(m.RequestID, m.Payload)
			} else {
				go request(m.RequestID, m.Payload)
			}
		case "proxy_websocket_data":
			go deliver(m.RequestID, m.Payload)
		case "proxy_cancel":
			if in, ok := streams.LoadAndDelete(m.RequestID); ok {
				close(in.(chan []byte))
			}
		}
	}
}
