'use strict';
// A coding agent as existing programs wrap one (upper spelling): its token
// comes twice, in the address and as a Bearer; it says AGENT_CONNECT at once,
// sends native pings and leaves with 4000 when one is not answered, runs what
// COMMAND_REQUEST names and says no exit code; of other types it only logs
// that it does not know them.  Whatever closes the socket but 1000, it comes
// back, and says then what it had to say meanwhile.
// usage: node wrapper.js URL TOKEN AGENT-ID PING-MS

const WebSocket = require('ws');
const { randomUUID } = require('crypto');
const { spawn } = require('child_process');

const [base, token, agentId, pingMs] = process.argv.slice(2);
const said = (what, more) => console.log(JSON.stringify({ what, ...more }));

class Wrapper {
  constructor() {
    this.id = agentId;
    this.waiting = [];
    this.attempts = 0;
  }

  connect() {
    const address = `${base}/ws/agent?agentId=${agentId}&token=${encodeURIComponent(token)}`;
    this.ws = new WebSocket(address, {
      headers: { Authorization: `Bearer ${token}` },
      handshakeTimeout: 10000
    });
    this.ws.on('open', () => this.onOpen());
    this.ws.on('message', (data) => this.onMessage(JSON.parse(data)));
    this.ws.on('pong', () => {
      clearTimeout(this.pongTimer);
      said('pong');
    });
    this.ws.on('error', (error) => said('error', { text: error.message }));
    this.ws.on('close', (code) => this.onClose(code));
  }

  onOpen() {
    said('open');
    this.attempts = 0;
    this.send('AGENT_CONNECT', {
      agentId, agentType: 'CLAUDE', version: '1.0.0', hostMachine: 'host',
      capabilities: { maxTokens: 0, supportsInterrupt: true, supportsTrace: true }
    });
    for (const text of this.waiting.splice(0)) this.ws.send(text);
    this.pingTimer = setInterval(() => {
      this.ws.ping();
      clearTimeout(this.pongTimer);
      this.pongTimer = setTimeout(() => this.ws.close(4000, 'Heartbeat timeout'), 10000);
    }, Number(pingMs));
  }

  onClose(code) {
    said('close', { code });
    clearInterval(this.pingTimer);
    clearTimeout(this.pongTimer);
    if (code === 1000 || this.attempts >= 10) return;
    const delay = Math.min(1000 * 2 ** this.attempts++, 30000);
    setTimeout(() => this.connect(), delay * (0.95 + Math.random() * 0.1));
  }

  send(type, payload) {
    const text = JSON.stringify({ type, id: randomUUID(), timestamp: Date.now(), payload });
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(text);
    else this.waiting.push(text);
  }

  onMessage(message) {
    said('message', { message });
    switch (message.type) {
      case 'ACK':
        if (message.payload.agentId) this.id = message.payload.agentId;
        break;
      case 'PING':
        this.send('PONG', { timestamp: message.payload.timestamp });
        break;
      case 'COMMAND_REQUEST':
        this.run(message.payload);
        break;
      case 'ERROR':
        break;
      default:
        said('unknown', { type: message.type });
    }
  }

  run({ commandId, command, args }) {
    const at = Date.now();
    let sequence = 0;
    const own = { commandId, agentId: this.id };
    const print = (streamType) => (data) => this.send('TERMINAL_OUTPUT', {
      ...own, streamType, content: data.toString(), ansiCodes: false, sequence: sequence++
    });
    const end = (status, error) => this.send('COMMAND_COMPLETE', {
      ...own, status, error, executionTime: Date.now() - at, tokensUsed: 0
    });

    this.send('COMMAND_ACK', { ...own, status: 'EXECUTING' });
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', print('STDOUT'));
    child.stderr.on('data', print('STDERR'));
    child.on('error', (error) => end('FAILED', error.message));
    child.on('close', (code) => {
      if (code === 0) end('COMPLETED');
      else if (child.pid) end('FAILED', `it ended with ${code}`);
    });
  }
}

const wrapper = new Wrapper();
wrapper.connect();
process.on('SIGTERM', () => wrapper.ws.close(1000));
