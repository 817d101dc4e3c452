'use strict';
// The two example clients of the monitor API's document in one, for npm ws:
// the token in the header or, as browsers do, in the URL.  What is added is a
// line of JSON for all that happens; SIGTERM ends it.
// usage: node monitor.js URL TOKEN header|query

const WebSocket = require('ws');

const [url, token, where] = process.argv.slice(2);
const said = (what, more) => console.log(JSON.stringify({ what, ...more }));

let reconnectAttempts = 0;
const maxReconnectAttempts = 5;
const baseDelay = 100;
let ws = null;
let ending = false;

function connect() {
  ws = where === 'query'
    ? new WebSocket(`${url}?token=${token}`)
    : new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } });

  ws.onopen = () => {
    said('open');
    reconnectAttempts = 0;
  };

  ws.onmessage = (event) => {
    const message = JSON.parse(event.data);

    switch (message.type) {
      case 'agent:status':
        said('status', { id: message.payload.agentId, status: message.payload.status,
          timestamp: message.payload.timestamp });
        break;
      case 'session:activity':
        said('activity', message.payload);
        break;
      case 'heartbeat':
        said('heartbeat', message.payload);
        break;
      default:
        said('unknown', { message });
    }
  };

  ws.on('ping', () => said('ping'));
  ws.onclose = (event) => {
    said('close', { code: event.code, reason: event.reason });
    if (!ending && reconnectAttempts < maxReconnectAttempts) {
      const delay = baseDelay * Math.pow(2, reconnectAttempts);
      reconnectAttempts++;
      setTimeout(connect, delay);
    }
  };

  ws.onerror = (error) => said('error', { text: error.message });
}

connect();
process.on('SIGTERM', () => {
  ending = true;
  ws.close(1000);
});
