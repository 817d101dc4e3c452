'use strict';
// The example agent of the cluster API's document, for npm ws, with its
// reconnecting and heartbeats; what is added says what it saw, one JSON line
// each, ends it, and makes the heartbeat period an argument.
// usage: node agent.js URL TOKEN HEARTBEAT-MS

const WebSocket = require('ws');
const os = require('os');

const said = (what, more) => console.log(JSON.stringify({ what, ...more }));

class ExampleAgent {
  constructor(token, apiUrl, period) {
    this.token = token;
    this.apiUrl = apiUrl;
    this.period = period;
    this.ws = null;
    this.reconnectDelay = 1000;
    this.timer = null;
    this.ending = false;
  }

  connect() {
    const wsUrl = `${this.apiUrl}/api/v1/clusters/agent/ws?token=${this.token}`;
    this.ws = new WebSocket(wsUrl);

    this.ws.on('open', () => {
      said('open', { extensions: this.ws.extensions });
      this.reconnectDelay = 1000;
      this.register();
    });
    this.ws.on('message', (data) => this.handleMessage(JSON.parse(data)));
    this.ws.on('close', (code) => {
      said('close', { code });
      clearInterval(this.timer);
      if (!this.ending) this.reconnect();
    });
    this.ws.on('error', (error) => said('error', { text: error.message }));
    // As in the document: ws itself has answered this ping already, so the
    // controller sees a pong that it did not ask for.
    this.ws.on('ping', () => {
      said('ping');
      this.ws.pong();
    });
  }

  register() {
    this.send({
      type: 'register',
      request_id: this.generateRequestId(),
      payload: {
        agent_id: 'my-agent-123',
        name: 'my-cluster',
        k8s_version: '1.27.0',
        hostname: os.hostname(),
        agent_version: '1.0.0',
      },
      timestamp: new Date().toISOString(),
    });
  }

  sendHeartbeat() {
    this.send({
      type: 'heartbeat',
      payload: { tunnel_status: 'connected', status: 'available', metadata: {} },
      timestamp: new Date().toISOString(),
    });
  }

  handleMessage(message) {
    said(message.type, { message });
    if (message.type === 'register_success') this.startHeartbeat();
  }

  send(message) {
    if (this.ws && this.ws.readyState === WebSocket.OPEN) {
      this.ws.send(JSON.stringify(message));
    }
  }

  reconnect() {
    setTimeout(() => {
      said('reconnecting', { delay: this.reconnectDelay });
      this.reconnectDelay = Math.min(this.reconnectDelay * 2, 60000);
      this.connect();
    }, this.reconnectDelay);
  }

  startHeartbeat() {
    this.timer = setInterval(() => this.sendHeartbeat(), this.period);
  }

  generateRequestId() {
    return `req_${Date.now()}_${Math.random().toString(36).substring(7)}`;
  }
}

const [url, token, period] = process.argv.slice(2);
const agent = new ExampleAgent(token, url, Number(period));
agent.connect();
process.on('SIGTERM', () => {
  agent.ending = true;
  agent.ws.close(1000);
});
