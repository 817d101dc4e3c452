// The example agent of the cluster API's document, for gorilla/websocket.
// What it hears it prints, one JSON line a message; SIGTERM closes it.
// usage: gorilla URL TOKEN HEARTBEAT-MS
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// WebSocketMessage is the envelope. A timestamp that is not RFC 3339, or a
// payload that is no object, does not decode.
type WebSocketMessage struct {
	Type      string                 `json:"type"`
	RequestID string                 `json:"request_id,omitempty"`
	Payload   map[string]interface{} `json:"payload"`
	Timestamp time.Time              `json:"timestamp"`
}

func say(what string, more interface{}) {
	line, _ := json.Marshal(map[string]interface{}{"what": what, "message": more})
	fmt.Println(string(line))
}

func fatal(err error) {
	say("error", err.Error())
	os.Exit(1)
}

func main() {
	dialer := *websocket.DefaultDialer
	dialer.EnableCompression = true
	conn, _, err := dialer.Dial(os.Args[1]+"/api/v1/clusters/agent/ws?token="+os.Args[2], nil)
	if err != nil {
		fatal(err)
	}
	period, err := strconv.Atoi(os.Args[3])
	if err != nil {
		fatal(err)
	}
	var writing sync.Mutex
	send := func(kind, id string, payload map[string]interface{}) {
		writing.Lock()
		defer writing.Unlock()
		err := conn.WriteJSON(WebSocketMessage{kind, id, payload, time.Now()})
		if err != nil {
			fatal(err)
		}
	}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
	}()

	send("register", fmt.Sprintf("req_%d", time.Now().UnixNano()), map[string]interface{}{
		"agent_id": "go-agent-123", "name": "my-cluster", "k8s_version": "1.27.0"})
	for {
		var msg WebSocketMessage
		err := conn.ReadJSON(&msg)
		if closed, ok := err.(*websocket.CloseError); ok {
			say("close", closed.Code)
			return
		}
		if err != nil {
			fatal(err)
		}
		say(msg.Type, msg)
		if msg.Type == "register_success" {
			go func() {
				for range time.Tick(time.Duration(period) * time.Millisecond) {
					send("heartbeat", "", map[string]interface{}{
						"tunnel_status": "connected", "status": "available"})
				}
			}()
		}
	}
}
