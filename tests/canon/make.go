// What an agent of the field signs and sends: encoding/json marshals the
// envelope without its signature, the MAC of that goes into the same struct.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
)

const secret = "correct horse battery staple"

type envelope struct {
	Type      string      `json:"type"`
	AgentID   string      `json:"agentId"`
	TS        int64       `json:"ts"`
	Nonce     string      `json:"nonce"`
	Payload   interface{} `json:"payload"`
	Signature string      `json:"signature,omitempty"`
}

type vector struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Secret  string `json:"secret"`
	Verdict string `json:"verdict"`
	Text    string `json:"text"`
}

func text(v interface{}) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func main() {
	payloads := []struct {
		name    string
		payload interface{}
	}{
		{"document", map[string]float64{"cpuPercent": 25.5, "memPercent": 45.2, "diskUsage": 60.1}},
		{"markup", map[string]string{"message": "<b>&</b>", "level": "info"}},
		{"separators", map[string]string{"message": "\u2028\u2029"}},
		{"controls", map[string]string{"message": "\x00\b\f\n\r\t\x1f\x7f"}},
		{"bad bytes", map[string]string{"message": "a\xffb\xed\xa0\x80"}},
		{"emoji", map[string]string{"message": "\U0001F600 \u00e9"}},
		{"names", map[string]int{"b": 1, "10": 2, "9": 3, "a": 4}},
		{"floats", []float64{1, 25.50, 1e20, 1e21, 1e-6, 1e-7, math.Copysign(0, -1), math.MaxFloat64, 5e-324}},
		{"integers", []int64{math.MaxInt64, 1<<53 + 1}},
		{"null", nil},
		{"raw", json.RawMessage(`{ "b" : 1.0 , "a" : "\u00e9" }`)},
	}
	for i, p := range payloads {
		e := envelope{Type: "log", AgentID: "go-agent", TS: 1731819422000,
			Nonce: fmt.Sprintf("go-%d", i), Payload: p.payload}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(text(e))
		e.Signature = hex.EncodeToString(mac.Sum(nil))
		fmt.Println(string(text(vector{"message", "go " + p.name, secret, "received", string(text(e))})))
	}
}
