'use strict';
// The example client of the console API's document (OnsemblWebSocket), for
// npm ws.  What is added: a line of JSON for all it hears, requests from
// stdin, one JSON message a line, and its end with stdin's.
// usage: node dashboard.js URL TOKEN [COUNT]   COUNT: so many connections

const WebSocket = require('ws');
const readline = require('readline');

const said = (what, more) => console.log(JSON.stringify({ what, ...more }));

class OnsemblWebSocket {
  constructor(url, token, number) {
    this.url = url;
    this.token = token;
    this.number = number;
    this.ws = null;
    this.messageHandlers = new Map();
    this.reconnectAttempts = 0;
    this.ending = false;
  }

  connect() {
    this.ws = new WebSocket(this.url, {
      headers: { 'Authorization': `Bearer ${this.token}` }
    });

    this.ws.onopen = () => {
      said('open', { number: this.number, extensions: this.ws.extensions });
      this.reconnectAttempts = 0;
      this.identify();
      this.startHeartbeat();
    };

    this.ws.onmessage = (event) => {
      const message = JSON.parse(event.data);
      said('message', { number: this.number, message });
      this.handleMessage(message);
    };

    this.ws.onerror = (error) => {
      said('error', { number: this.number, text: error.message });
    };

    this.ws.onclose = (event) => {
      said('close', { number: this.number, code: event.code, reason: event.reason });
      this.stopHeartbeat();
      if (!this.ending) this.reconnect();
    };
  }

  identify() {
    this.send({
      type: 'dashboard:connect',
      dashboardId: 'dashboard-' + Date.now(),
      timestamp: new Date().toISOString()
    });
  }

  send(message) {
    if (this.ws.readyState === WebSocket.OPEN) {
      this.ws.send(JSON.stringify(message));
    }
  }

  handleMessage(message) {
    const handler = this.messageHandlers.get(message.type);
    if (handler) {
      handler(message);
    }
  }

  on(type, handler) {
    this.messageHandlers.set(type, handler);
  }

  startHeartbeat() {
    this.heartbeatInterval = setInterval(() => {
      this.send({
        type: 'heartbeat:ping',
        timestamp: new Date().toISOString()
      });
    }, 30000);
  }

  stopHeartbeat() {
    if (this.heartbeatInterval) {
      clearInterval(this.heartbeatInterval);
    }
  }

  reconnect() {
    const delay = Math.min(1000 * Math.pow(2, this.reconnectAttempts), 30000);
    this.reconnectAttempts++;

    setTimeout(() => {
      this.connect();
    }, delay);
  }
}

const clients = [];
for (let i = 0; i < Number(process.argv[4] || 1); i++) {
  const client = new OnsemblWebSocket(process.argv[2], process.argv[3], i);
  client.on('terminal:output', (message) => {
    said('terminal', { number: i, content: message.output.content });
  });
  client.connect();
  clients.push(client);
}

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => clients[0].send(JSON.parse(line)));
lines.on('close', () => {
  for (const client of clients) {
    client.ending = true;
    client.ws.close(1000);
  }
});
