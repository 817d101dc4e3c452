// An agent that signs its messages, for gorilla/websocket, as agents of the
// field do it: encoding/json marshals the envelope without its signature, the
// MAC of those bytes goes into the same struct.  It checks commands by
// marshalling them again, answers, and prints what it hears.
// usage: gorilla_signed URL SECRET AGENT-ID
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

type envelope struct {
	Type      string          `json:"type"`
	AgentID   string          `json:"agentId"`
	TS        int64           `json:"ts"`
	Nonce     string          `json:"nonce"`
	Payload   json.RawMessage `json:"payload"`
	Signature string          `json:"signature,omitempty"`
}

type command struct {
	Command string            `json:"command"`
	Args    map[string]string `json:"args"`
}

func fatal(err error) {
	fmt.Println(err)
	os.Exit(1)
}

func text(v interface{}) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		fatal(err)
	}
	return b
}

func main() {
	url, secret, agent := os.Args[1], os.Args[2], os.Args[3]
	conn, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		fatal(err)
	}
	conn.SetReadLimit(32768)
	sign := func(e envelope) string {
		e.Signature = ""
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(text(e))
		return hex.EncodeToString(mac.Sum(nil))
	}
	count := 0
	say := func(kind string, payload interface{}) {
		count++
		e := envelope{kind, agent, time.Now().UnixMilli(),
			fmt.Sprintf("go-%d-%d", time.Now().UnixNano(), count), text(payload), ""}
		e.Signature = sign(e)
		if err := conn.WriteMessage(websocket.TextMessage, text(e)); err != nil {
			fatal(err)
		}
	}
	say("auth", map[string]string{"hostname": agent, "version": "4.0.3"})
	say("metrics", map[string]float64{"cpuPercent": 25.5, "memPercent": 45, "diskUsage": 1e-7})
	say("log", map[string]string{"level": "info", "message": "<b>&\u2028\xff</b>"})
	for {
		var e envelope
		if err := conn.ReadJSON(&e); err != nil {
			fmt.Printf("{\"what\":\"close\",\"error\":%q}\n", err)
			return
		}
		var c command
		if err := json.Unmarshal(e.Payload, &c); err != nil {
			fatal(err)
		}
		// As one that parses and marshals again would check it.
		again := e
		again.Payload = text(c)
		good := sign(e) == e.Signature && sign(again) == e.Signature
		fmt.Printf("{\"what\":\"message\",\"command\":%q,\"args\":%s,\"good\":%v}\n",
			c.Command, text(c.Args), good)
		say("command_result", map[string]string{"command": c.Command, "result": "pong <&>"})
	}
}
