// A dashboard of the console API for gorilla/websocket: it introduces itself,
// runs one command on an agent, prints what it hears, one JSON line each, and
// leaves when the command is over.
// usage: gorilla_console URL TOKEN AGENT-ID COMMAND
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

// Message has the members of document 2 that this client reads.
type Message struct {
	Type      string `json:"type"`
	AgentID   string `json:"agentId,omitempty"`
	CommandID string `json:"commandId,omitempty"`
	Status    string `json:"status,omitempty"`
	ExitCode  *int   `json:"exitCode,omitempty"`
	Position  int    `json:"position,omitempty"`
	Output    *struct {
		Type      string    `json:"type"`
		Content   string    `json:"content"`
		Timestamp time.Time `json:"timestamp"`
	} `json:"output,omitempty"`
	Agents []struct {
		AgentID     string    `json:"agentId"`
		AgentType   string    `json:"agentType"`
		Status      string    `json:"status"`
		ConnectedAt time.Time `json:"connectedAt"`
	} `json:"agents,omitempty"`
	Timestamp time.Time `json:"timestamp"`
}

func fatal(err error) {
	fmt.Println(err)
	os.Exit(1)
}

func main() {
	url, token, agent, command := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	conn, _, err := websocket.DefaultDialer.Dial(url, http.Header{
		"Authorization": {"Bearer " + token}})
	if err != nil {
		fatal(err)
	}
	say := func(m map[string]interface{}) {
		m["timestamp"] = time.Now().UTC().Format(time.RFC3339Nano)
		if err := conn.WriteJSON(m); err != nil {
			fatal(err)
		}
	}
	say(map[string]interface{}{"type": "dashboard:connect", "dashboardId": "go"})
	for {
		var m Message
		if err := conn.ReadJSON(&m); err != nil {
			fatal(err)
		}
		line, _ := json.Marshal(map[string]interface{}{"what": m.Type, "message": m})
		fmt.Println(string(line))
		switch m.Type {
		case "agent:list":
			say(map[string]interface{}{"type": "command:request", "agentId": agent,
				"command": command, "args": []string{"--coverage"}, "priority": "high"})
		case "command:complete":
			conn.WriteMessage(websocket.CloseMessage,
				websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
			return
		}
	}
}
